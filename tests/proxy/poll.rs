//! Polls of exporters that behave well.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::tempdir;

use crate::harness::{Proxy, eventually};
use crate::support::{detail, logged, names, text_of};
use crate::upstream::{Reply, Upstream, ok, reply};

/// Settings that switch on frequent and patient polls, with further lines.
fn polling(rest: &str) -> String {
    format!(
        "[poll_external]\npoll_other_scrape_endpoints = true\npoll_interval = \"50ms\"\n\
         client_timeout = \"50s\"\n{rest}"
    )
}

/// The configuration of targets, each given by its lines.
fn targets(targets: &[String]) -> String {
    let tables: Vec<String> = targets
        .iter()
        .map(|lines| format!("[[poll_external.targets]]\n{lines}\n"))
        .collect();
    polling(&tables.concat())
}

fn await_text(proxy: &Proxy, name: &str, text: &str) {
    eventually(
        || text_of(proxy, name),
        |seen| seen.as_deref() == Some(text),
    );
}

#[test]
fn an_endpoint_is_polled_again_and_again_under_the_key_of_its_host_and_port() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        ok(&format!("up {number}"))
    });
    let url = format!("http://{}/metrics", upstream.address);
    let proxy = Proxy::start(&polling(&format!("other_scrape_endpoints = [\"{url}\"]\n")));
    let key = format!("external_poll: {}", upstream.address);
    for number in 1..=3 {
        // The next poll may already have ended.
        eventually(
            || text_of(&proxy, &key).unwrap_or_default(),
            |text| {
                let value = text
                    .strip_prefix("up ")
                    .and_then(|rest| rest.trim_end().parse().ok());
                value >= Some(number)
            },
        );
    }
    assert_eq!(names(&proxy), [&*key]);
    let detail = detail(&proxy, &key).unwrap();
    assert_eq!(detail["kind"], "target");
    assert_eq!(detail["state"], "fresh");
    assert_eq!([&detail["source"], &detail["url"]], [&*key, &*url]);
    assert_eq!(detail["peer"], *upstream.address);
    // The proxy has added the missing line feed.
    let metrics = proxy.metrics();
    let last = metrics.lines().last().unwrap();
    assert!(
        last.starts_with("up ") && metrics.ends_with('\n'),
        "{last:?}"
    );
    let sample = |family: &str| proxy.sample(&format!("{family}{{target=\"{key}\"}}"));
    assert_eq!(sample("exporter_proxy_poll_success"), Some(1.0));
    assert!(sample("exporter_proxy_poll_duration_seconds") > Some(0.0));
    assert!(sample("exporter_proxy_poll_last_success_timestamp_seconds") > Some(1.7e9));
    let polls = format!("exporter_proxy_polls_total{{result=\"ok\",target=\"{key}\"}}");
    assert!(proxy.sample(&polls) >= Some(3.0));
}

#[test]
fn nothing_is_polled_while_polling_is_off() {
    let upstream = Upstream::start(|_| ok("up 1\n"));
    let other = Upstream::start(|_| ok("other 1\n"));
    let off = Proxy::start(&format!(
        "[poll_external]\npoll_other_scrape_endpoints = false\npoll_interval = \"50ms\"\nother_scrape_endpoints = [\"http://{}/\"]\n",
        upstream.address
    ));
    // Another proxy has polled several times meanwhile.
    let _on = Proxy::start(&targets(&[format!("url = \"http://{}/\"", other.address)]));
    eventually(|| other.requests().len(), |polls| *polls >= 3);
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(names(&off), [""; 0]);
}

#[test]
fn two_paths_of_one_host_and_port_are_two_sections() {
    let upstream = Upstream::start(|request| ok(&format!("m{{path=\"{}\"}} 1\n", request.path)));
    let address = &upstream.address;
    let proxy = Proxy::start(&polling(&format!(
        "other_scrape_endpoints = [\"http://{address}/a\", \"http://{address}/b?c=d\"]\n"
    )));
    for path in ["/a", "/b?c=d"] {
        let key = format!("external_poll: {address}{path}");
        await_text(&proxy, &key, &format!("m{{path=\"{path}\"}} 1\n"));
    }
    assert_eq!(names(&proxy).len(), 2);
}

#[test]
fn a_named_target_and_an_app_of_the_same_name_do_not_replace_each_other() {
    let upstream = Upstream::start(|_| ok("polled 1\n"));
    let proxy = Proxy::start(&targets(&[format!(
        "name = \"same\"\nurl = \"http://{}/\"",
        upstream.address
    )]));
    await_text(&proxy, "same", "polled 1\n");
    proxy.push_tcp(b"{\"same\":\"pushed 1\"}");
    let polls = upstream.requests().len();
    eventually(|| upstream.requests().len(), |now| *now > polls + 1);
    let metrics = proxy.metrics();
    assert!(metrics.ends_with("\npushed 1\npolled 1\n"), "{metrics}");
    assert_eq!(names(&proxy), ["same", "same"]);
}

#[test]
fn a_gzip_answer_is_unpacked() {
    let upstream = Upstream::start(|request| {
        let accepted = request.header("accept-encoding").unwrap_or_default();
        assert!(accepted.contains("gzip"), "{accepted}");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"packed 1\n").unwrap();
        let body = encoder.finish().unwrap();
        reply("200 OK", &[("Content-Encoding", "gzip")], &body)
    });
    let proxy = Proxy::start(&targets(&[format!(
        "name = \"t\"\nurl = \"http://{}/\"",
        upstream.address
    )]));
    await_text(&proxy, "t", "packed 1\n");
}

#[test]
fn a_redirect_is_followed_and_the_key_stays_that_of_the_configured_url() {
    let second = Upstream::start(|request| ok(&format!("there{{path=\"{}\"}} 1\n", request.path)));
    let location = format!("http://{}/moved", second.address);
    let first = Upstream::start(move |_| reply("302 Found", &[("Location", &location)], b""));
    let proxy = Proxy::start(&polling(&format!(
        "other_scrape_endpoints = [\"http://{}/metrics\"]\n",
        first.address
    )));
    let key = format!("external_poll: {}", first.address);
    await_text(&proxy, &key, "there{path=\"/moved\"} 1\n");
    assert_eq!(names(&proxy), [key]);
}

#[test]
fn a_scrape_says_what_it_wants_and_who_asks() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let proxy = Proxy::start(&targets(&[format!(
        "name = \"t\"\nurl = \"http://{}/a/b?c=d&e\"\ntimeout = \"2500ms\"\n\
         headers = {{ X-Scope-OrgID = \"team-a\", Accept-Language = \"eo\" }}",
        upstream.address
    )]));
    await_text(&proxy, "t", "m 1\n");
    let request = &upstream.requests()[0];
    assert_eq!(request.path, "/a/b?c=d&e");
    let accept = request.header("accept").unwrap();
    assert!(accept.starts_with("text/plain;version=0.0.4"), "{accept}");
    assert!(!accept.contains("openmetrics"), "{accept}");
    assert_eq!(
        request.header("x-prometheus-scrape-timeout-seconds"),
        Some("2.5")
    );
    assert_eq!(
        request.header("user-agent"),
        Some(concat!("exporter-proxy/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(request.header("x-scope-orgid"), Some("team-a"));
    assert_eq!(request.header("accept-language"), Some("eo"));
    assert_eq!(request.header("host"), Some(&*upstream.address));
    assert_eq!(request.header("authorization"), None);
}

#[test]
fn basic_auth_is_sent_and_shown_nowhere() {
    let upstream = Upstream::start(|_| reply("403 Forbidden", &[], b""));
    let address = upstream.address.clone();
    let config = targets(&[
        format!(
            "name = \"table\"\nurl = \"http://{address}/\"\n\
             basic_auth = {{ username = \"ada\", password = \"hush-hush\" }}"
        ),
        format!("name = \"url\"\nurl = \"http://ada:hush-hush@{address}/\""),
        format!(
            "name = \"header\"\nurl = \"http://{address}/\"\nheaders = {{ X-Key = \"hush-hush\" }}"
        ),
    ]);
    let proxy = Proxy::launch(&config, &[], |command| command.env("RUST_LOG", "trace"));
    for name in ["table", "url", "header"] {
        eventually(
            || detail(&proxy, name).map(|detail| detail["last_problem"]["reason"].to_string()),
            |reason| reason.as_deref().is_some_and(|text| text.contains("403")),
        );
    }
    let requests = upstream.requests();
    let with = |value: &str| {
        let found =
            |request: &&crate::upstream::Request| request.header("authorization") == Some(value);
        requests.iter().filter(found).count()
    };
    // "ada:hush-hush" in base64, by the table and by the URL.
    assert!(with("Basic YWRhOmh1c2gtaHVzaA==") >= 2, "{requests:?}");
    assert!(
        requests
            .iter()
            .any(|request| request.header("x-key") == Some("hush-hush"))
    );

    for path in ["/apps", "/apps?wide=1", "/apps?format=json", "/metrics"] {
        let page = proxy.get(path).text();
        assert!(!page.contains("hush"), "{path}: {page}");
    }
    let log = logged(&proxy, "target url (http://", 1);
    assert!(!log.contains("hush") && !log.contains("YWRhOmh1"), "{log}");
}

#[test]
fn a_bearer_token_file_is_read_for_every_poll() {
    let upstream = Upstream::start(|request| {
        let token = request.header("authorization").unwrap_or("none").to_owned();
        ok(&format!("asked{{with=\"{token}\"}} 1\n"))
    });
    let dir = tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let proxy = Proxy::start(&targets(&[format!(
        "name = \"t\"\nurl = \"http://{}/\"\nbearer_token_file = \"{}\"",
        upstream.address,
        file.display()
    )]));
    await_text(&proxy, "t", "asked{with=\"Bearer first\"} 1\n");
    std::fs::write(&file, "second").unwrap();
    await_text(&proxy, "t", "asked{with=\"Bearer second\"} 1\n");

    std::fs::remove_file(&file).unwrap();
    let reason = eventually(
        || detail(&proxy, "t").unwrap()["last_problem"]["reason"].to_string(),
        |reason| reason.contains("bad_setting"),
    );
    assert!(reason.contains("bearer_token_file"), "{reason}");
    std::fs::write(&file, "third").unwrap();
    await_text(&proxy, "t", "asked{with=\"Bearer third\"} 1\n");
}

#[test]
fn a_slow_target_delays_no_other_and_is_never_asked_twice_at_a_time() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = Upstream::start(move |_| {
        // It ends when the sender is dropped, too.
        let _ = gate.lock().unwrap().recv();
        ok("slow 1\n")
    });
    let fast = Upstream::start(|_| ok("fast 1\n"));
    let proxy = Proxy::start(&targets(&[
        format!(
            "name = \"slow\"\nurl = \"http://{}/\"\ntimeout = \"1h\"",
            slow.address
        ),
        format!("name = \"fast\"\nurl = \"http://{}/\"", fast.address),
    ]));
    for polls in 1..=3 {
        eventually(|| slow.requests().len(), |seen| *seen >= polls);
        // Polls of the fast one go on until the slow one answers, for which polls are due, too.
        let before = fast.requests().len();
        eventually(|| fast.requests().len(), |seen| *seen >= before + 10);
        assert_eq!(slow.requests().len(), polls);
        release.send(()).unwrap();
    }
    assert_eq!(text_of(&proxy, "fast").as_deref(), Some("fast 1\n"));
    assert_eq!(slow.most_in_flight(), 1);
    assert_eq!(fast.most_in_flight(), 1);
}

#[test]
fn an_interval_of_its_own_is_kept_by_a_target() {
    let often = Upstream::start(|_| ok("o 1\n"));
    let rarely = Upstream::start(|_| ok("r 1\n"));
    let _proxy = Proxy::start(&targets(&[
        format!("url = \"http://{}/\"\ninterval = \"1h\"", rarely.address),
        format!("url = \"http://{}/\"", often.address),
    ]));
    eventually(|| often.requests().len(), |polls| *polls >= 10);
    // The first poll happens at once, and no other.
    eventually(|| rarely.requests().len(), |polls| *polls >= 1);
    assert_eq!(rarely.requests().len(), 1);
}

#[test]
fn an_exporter_at_a_unix_socket_is_polled() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("up.sock");
    let upstream = Upstream::unix(&socket, |request| {
        ok(&format!("m{{path=\"{}\"}} 1\n", request.path))
    });
    let url = format!("unix://{}:/metrics?a=b", socket.display());
    let proxy = Proxy::start(&targets(&[format!("url = \"{url}\"")]));
    let key = format!("external_poll: {}", socket.display());
    await_text(&proxy, &key, "m{path=\"/metrics?a=b\"} 1\n");
    assert_eq!(upstream.requests()[0].header("host"), Some("localhost"));
    let detail = detail(&proxy, &key).unwrap();
    assert_eq!([&detail["source"], &detail["url"]], [&*key, &*url]);
}

#[test]
fn a_shutdown_does_not_wait_for_a_poll() {
    let slow = Upstream::start(|_| Reply::Hang(Vec::new()));
    let target = targets(&[format!(
        "url = \"http://{}/\"\ntimeout = \"1h\"",
        slow.address
    )]);
    let mut proxy = Proxy::start(&format!("[exporter]\nshutdown_timeout = \"1h\"\n{target}"));
    eventually(|| slow.requests().len(), |polls| *polls == 1);
    let start = std::time::Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(start.elapsed() < Duration::from_secs(20));
}
