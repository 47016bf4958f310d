//! Reloads of the configuration: what they change, and what continues.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Answer, PATIENCE, Proxy, eventually, free_address};
use crate::support::{Sender, detail, logged, names, read_answer, text_of};
use crate::upstream::{Upstream, ok};

/// Replaces the configuration file, as an editor does.
pub fn write_config(proxy: &Proxy, config: &str) {
    let (new, file) = (
        proxy.dir.path().join("new"),
        proxy.dir.path().join("config.toml"),
    );
    std::fs::write(&new, config).unwrap();
    std::fs::rename(&new, &file).unwrap();
}

/// Reloads with another configuration. Returns the answer of `/-/reload`.
pub fn try_reload(proxy: &Proxy, config: &str) -> Answer {
    write_config(proxy, config);
    proxy.push("POST", "/-/reload", "")
}

/// Reloads with another configuration, which must succeed. Returns the report.
#[track_caller]
pub fn reload(proxy: &Proxy, config: &str) -> String {
    let answer = try_reload(proxy, config);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

pub fn succeeded(proxy: &Proxy) -> Option<f64> {
    proxy.sample("exporter_proxy_config_last_reload_successful")
}

fn polls(proxy: &Proxy, name: &str) -> f64 {
    let series = format!("exporter_proxy_polls_total{{result=\"ok\",target=\"{name}\"}}");
    proxy.sample(&series).unwrap_or_default()
}

fn target(upstream: &Upstream, name: &str, more: &str) -> String {
    format!(
        "[[poll_external.targets]]\nurl = \"http://{}/{name}\"\nname = \"{name}\"\n{more}\n",
        upstream.address
    )
}

#[test]
fn targets_come_change_and_go_and_the_others_are_not_disturbed() {
    let upstream = Upstream::start(|request| ok(&format!("{} 1\n", &request.path[1..])));
    let polled = |path: &str| {
        let path = format!("/{path}");
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.path == path)
            .count()
    };
    // It is polled only at the start, so another poll would be noticed.
    let kept = target(&upstream, "kept", "interval = \"1h\"\ntimeout = \"50s\"");
    let gone = target(&upstream, "gone", "interval = \"1h\"\ntimeout = \"50s\"");
    let (slow, fast) = (
        target(&upstream, "changed", "interval = \"1h\"\ntimeout = \"60s\""),
        target(&upstream, "changed", "interval = \"50ms\""),
    );
    let new = target(&upstream, "new", "interval = \"1h\"\ntimeout = \"50s\"");
    let proxy = Proxy::start(&kept);
    eventually(|| polls(&proxy, "kept"), |polls| *polls == 1.0);
    reload(&proxy, &format!("{kept}{gone}"));
    eventually(|| polls(&proxy, "gone"), |polls| *polls == 1.0);
    reload(&proxy, &format!("{slow}{gone}{kept}"));
    eventually(|| polls(&proxy, "changed"), |polls| *polls == 1.0);

    let report = reload(&proxy, &format!("{fast}{kept}{new}"));
    assert!(report.contains("changed poll_external.targets"), "{report}");
    // The text of a changed target stays until the next poll.
    assert_eq!(text_of(&proxy, "changed").unwrap(), "changed 1\n");
    eventually(|| polls(&proxy, "changed"), |polls| *polls >= 4.0);
    eventually(|| polls(&proxy, "new"), |polls| *polls == 1.0);
    eventually(
        || names(&proxy),
        |names| *names == ["changed", "kept", "new"],
    );
    assert_eq!(text_of(&proxy, "kept").unwrap(), "kept 1\n");
    assert_eq!((polled("kept"), polls(&proxy, "kept")), (1, 1.0));
    assert!(!proxy.metrics().contains("target=\"gone\""));

    // A limit for all targets does not change their schedules.
    reload(
        &proxy,
        &format!("[poll_external]\nmax_body = 5\n{kept}{fast}"),
    );
    let failed = "exporter_proxy_polls_total{result=\"too_large\",target=\"changed\"}";
    eventually(|| proxy.sample(failed), |count| *count >= Some(1.0));
    assert_eq!(polled("kept"), 1);

    // Without polls all targets disappear, and with polls they come back.
    reload(
        &proxy,
        "[poll_external]\npoll_other_scrape_endpoints = false\n",
    );
    eventually(|| names(&proxy), Vec::is_empty);
    reload(&proxy, &kept);
    eventually(|| polled("kept"), |polled| *polled == 2);
    let url = format!("http://{}/plain", upstream.address);
    reload(
        &proxy,
        &format!(
            "[poll_external]\npoll_interval = \"50ms\"\nother_scrape_endpoints = [\"{url}\"]\n{kept}"
        ),
    );
    eventually(|| polled("plain"), |polled| *polled >= 2);
    assert_eq!(polled("kept"), 2);
}

#[test]
fn settings_of_all_targets_are_those_of_each() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let target = target(&upstream, "t", "");
    let config =
        |more: &str| format!("[poll_external]\npoll_interval = \"50ms\"\n{more}\n{target}");
    let proxy = Proxy::launch(&config(""), &[], |command| {
        command.env("http_proxy", format!("http://{}", free_address()))
    });
    eventually(|| polls(&proxy, "t"), |polls| *polls >= 1.0);
    for (setting, polls_on) in [
        ("client_timeout = \"4s\"", true),
        ("stale_after = \"7s\"", true),
        ("follow_redirects = false", true),
        ("allow_invalid_certs = true", true),
        ("sample_limit = 7", true),
        ("label_limit = 7", true),
        ("label_name_length_limit = 7", true),
        ("label_value_length_limit = 7", true),
        ("proxy_from_environment = true", false),
        ("proxy_url = \"http://127.0.0.1:1\"", false),
    ] {
        let before = polls(&proxy, "t");
        let report = reload(&proxy, &config(setting));
        let (key, _) = setting.split_once(' ').unwrap();
        let expected = format!("reloaded: changed poll_external.{key}");
        assert!(report.trim_end().ends_with(&expected), "{report}");
        match polls_on {
            true => drop(eventually(|| polls(&proxy, "t"), |polls| *polls > before)),
            false => drop(eventually(
                || detail(&proxy, "t").unwrap().to_string(),
                |detail| detail.contains("connect"),
            )),
        }
        reload(&proxy, &config(""));
        let before = polls(&proxy, "t");
        eventually(|| polls(&proxy, "t"), |polls| *polls > before);
    }
}

#[test]
fn a_refused_reload_changes_nothing_and_tells_all_errors() {
    let proxy = Proxy::start("[push]\nmax_groups = 7\n");
    let max_groups = || proxy.sample("exporter_proxy_groups_max");
    let since = "exporter_proxy_config_last_reload_success_timestamp_seconds";
    let started = proxy.sample(since);
    let answer = try_reload(
        &proxy,
        "[push]\nmax_groups = 8\nmax_body = \"x\"\n[receiver]\nmax_app = 1\n",
    );
    assert_eq!(answer.status, 500);
    let text = answer.text();
    for part in [
        "config.toml:3:",
        "push.max_body",
        "config.toml:5:",
        "receiver.max_app",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((max_groups(), succeeded(&proxy)), (Some(7.0), Some(0.0)));
    assert_eq!(proxy.sample(since), started);
    let log = logged(&proxy, "push.max_body", 1);
    let words = "the configuration was not reloaded, and the previous one stays in use";
    assert!(log.contains(words), "{log}");

    // Ports that cannot be bound are found before anything changes.
    let (one, other) = (TcpListener::bind(free_address()).unwrap(), free_address());
    let taken = one.local_addr().unwrap().to_string();
    let config =
        format!("[push]\nmax_groups = 8\n[operations]\ntcp = \"{taken}\"\nudp = \"{other}\"\n");
    let answer = try_reload(&proxy, &config);
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text()
            .contains(&format!("cannot listen at {taken} (operations.tcp)"))
    );
    assert_eq!(max_groups(), Some(7.0));
    assert!(
        std::net::UdpSocket::bind(&other).is_ok(),
        "it was given back"
    );

    drop(one);
    let report = reload(&proxy, &config);
    assert!(report.contains("push.max_groups"), "{report}");
    assert_eq!((max_groups(), succeeded(&proxy)), (Some(8.0), Some(1.0)));
    assert!(proxy.sample(since) > started);
    let count = |result| {
        let series = format!("exporter_proxy_config_reloads_total{{result=\"{result}\"}}");
        proxy.sample(&series)
    };
    assert_eq!((count("ok"), count("refused")), (Some(1.0), Some(2.0)));
}

#[test]
fn settings_that_need_a_restart_are_named_and_the_others_apply() {
    let proxy = Proxy::start("");
    let report = reload(
        &proxy,
        "[exposition]\nmode = \"merged\"\n[storage]\npath = \"/nonexistent/x\"\n[push]\nmax_groups = 8\n",
    );
    assert!(report.contains("changed push.max_groups; "), "{report}");
    assert!(
        report.contains("needs a restart: exposition.mode, storage.path"),
        "{report}"
    );
    assert_eq!(proxy.sample("exporter_proxy_groups_max"), Some(8.0));
    assert_eq!(
        proxy.sample("exporter_proxy_config_restart_settings"),
        Some(2.0)
    );
    // Verbatim text is not parsed.
    assert_eq!(proxy.push_tcp(b"{\"app\":\"not metrics\"}"), "");
    let report = reload(&proxy, "[push]\nmax_groups = 8\n");
    assert!(report.contains("nothing changed"), "{report}");
    assert_eq!(
        proxy.sample("exporter_proxy_config_restart_settings"),
        Some(0.0)
    );
}

#[test]
fn roles_change_for_open_connections_too() {
    let ops = free_address();
    let sockets = format!("[operations]\ntcp = \"{ops}\"\n");
    let proxy = Proxy::start(&sockets);
    let mut app = Sender::connect(&proxy);
    app.send(b"{\"app\":\"m 1\"}");
    let mut operations = Sender::to(&ops);
    operations.send(b"o:1|c\n");
    eventually(|| proxy.sample("o"), |value| *value == Some(1.0));
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    let nobody = "[[web.access]]\nrole = [\"read\", \"write\"]\nallow_from = \"192.0.2.0/24\"\n\
                  listeners = [\"receiver\", \"operations\"]\n\
                  [[web.access]]\nrole = \"admin\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"http\"]\n";
    reload(&proxy, &format!("{sockets}{nobody}"));
    app.send(b"{\"app\":\"m 2\"}");
    let answer = app.read_to_end();
    assert!(answer.starts_with("error: "), "{answer}");
    operations.send(b"o:1|c\n");
    let answer = operations.read_to_end();
    assert!(answer.contains("web.access"), "{answer}");
    assert_eq!(text_of(&proxy, "app").unwrap(), "m 1\n");
    assert_eq!(proxy.push("PUT", "/metrics/job/a", "m 1\n").status, 200);
    // Reloading needs the role admin.
    let other = "[[web.access]]\nrole = \"admin\"\nallow_from = \"192.0.2.0/24\"\n";
    reload(&proxy, &format!("{sockets}{other}"));
    assert_eq!(proxy.push("POST", "/-/reload", "").status, 403);
}

#[test]
fn lifetimes_rules_and_labels_apply_from_now_on() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    let rule = "[[push.rules]]\nmatch = \"high*\"\npolicy = \"max\"\n";
    let config = |lifetimes: [&str; 2]| {
        let [app, group] = lifetimes;
        format!(
            "[exposition]\nmode = \"merged\"\napp_label = \"app\"\ntimestamps = \"strip\"\n\
             [receiver]\n{app}[push]\n{group}series_ttl = \"1h\"\n{rule}"
        )
    };
    reload(&proxy, &config([""; 2]));
    let push = || proxy.push_tcp(b"{\"one\":\"m 1 1000\\n\"}");
    push();
    let labelled = |metrics: &String| metrics.contains("\nm{app=\"one\"} 1\n");
    eventually(|| proxy.metrics(), labelled);
    reload(
        &proxy,
        &config(["app_ttl = \"300ms\"\n", "group_ttl = \"300ms\"\n"]),
    );
    push();
    eventually(|| text_of(&proxy, "one"), Option::is_none);
    proxy.push("PUT", "/metrics/job/short", "g 1\n");
    eventually(
        || proxy.sample("exporter_proxy_groups"),
        |groups| *groups == Some(0.0),
    );
    for value in ["3", "2"] {
        let body = format!("# TYPE high gauge\nhigh {value}\n");
        proxy.push("POST", "/metrics?mode=aggregate", body);
    }
    assert_eq!(proxy.sample("high"), Some(3.0));
}

#[test]
fn limits_of_senders_apply_at_once() {
    let proxy = Proxy::start("");
    let token = proxy.dir.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let access = format!(
        "[[web.access]]\nrole = \"write\"\ntoken_file = {token:?}\nlisteners = [\"http\"]\n\
         [[web.access]]\nrole = [\"write\", \"admin\"]\nallow_from = \"127.0.0.1\"\n\
         listeners = [\"receiver\"]\n[[web.access]]\nrole = \"admin\"\ntoken_file = {token:?}\n"
    );
    let headers = [("Authorization", "Bearer secret")];
    let push = || {
        let path = "/metrics/job/limited";
        let answer = proxy.push_with("PUT", path, &headers, "m 1\n");
        answer.status
    };
    // As fast as one sender can send.
    let many = || (0..20).map(|_| push()).max().unwrap();
    let set = |limits: &str| {
        write_config(&proxy, &format!("[limits]\n{limits}\n{access}"));
        proxy.signal("HUP");
    };
    set("");
    eventually(push, |status| *status == 200);
    assert_eq!(many(), 200);
    set("loopback = true\naddress = { messages_per_second = 1 }");
    eventually(many, |status| *status == 429);
    set("loopback = true\nburst = \"100s\"\naddress = { messages_per_second = 1 }");
    eventually(many, |status| *status == 200);
    set("user = { messages_per_second = 1 }");
    eventually(many, |status| *status == 429);
    set("app = { memory = 100 }");
    let apps = AtomicUsize::new(0);
    let large = || {
        let (number, text) = (apps.fetch_add(1, Ordering::Relaxed), "m 1\\n".repeat(1000));
        proxy.push_tcp(format!("{{\"app{number}\":\"{text}\"}}").as_bytes())
    };
    eventually(large, |answer| answer.contains("limits.app"));
    assert_eq!(many(), 200);
    set("");
    eventually(large, String::is_empty);
}

#[test]
fn twenty_reloads_at_once_are_answered_and_do_not_disturb_pushes() {
    let proxy = Proxy::start("");
    let (stop, pushed) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(&proxy.push).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let push = b"POST /metrics?mode=aggregate HTTP/1.1\r\nHost: localhost\r\n\
                             Content-Length: 24\r\n\r\n# TYPE sum counter\nsum 1\n";
                let push = String::from_utf8_lossy(push).replace("24", "25");
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(push.as_bytes()).unwrap();
                    let answer =
                        read_answer(&mut stream, false).expect("the connection stays open");
                    assert_eq!(answer.status, 202);
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=3 {
            write_config(&proxy, &format!("[push]\nmax_groups = {round}\n"));
            thread::scope(|reloads| {
                for _ in 0..20 {
                    reloads.spawn(|| {
                        let answer = proxy.push("POST", "/-/reload", "");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    });
                }
            });
            let limit = proxy.sample("exporter_proxy_groups_max");
            assert_eq!(limit, Some(f64::from(round)));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(proxy.sample("sum"), Some(pushed.into_inner() as f64));
}
