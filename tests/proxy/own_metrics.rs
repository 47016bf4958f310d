//! The proxy's own metrics, and the document that lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;

use crate::harness::certificates::Authority;
use crate::harness::{Proxy, capnp_message, eventually, free_address};
use crate::operations::bench;
use crate::upstream::{Upstream, ok};
use exporter_proxy::reason::Reason;

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// Families by name: type, and names of labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// The metrics in the document's tables.
fn documented() -> Families {
    let mut families = Families::new();
    for line in DOCUMENT.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", name, kind, labels, _meaning, ""] = cells.as_slice() else {
            continue;
        };
        let Some(name) = code(name).filter(|name| name.starts_with("exporter_proxy_")) else {
            continue;
        };
        let labels = labels.split(", ").filter_map(code);
        let row = (kind.to_owned(), labels.map(str::to_owned).collect());
        let twice = families.insert(name.to_owned(), row);
        assert_eq!(twice, None, "{name} stands twice in the document");
    }
    families
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// The proxy's own families in a text.
fn exposed(text: &str) -> Families {
    let mut families = Families::new();
    let is_own = |name: &str| name.starts_with("exporter_proxy_");
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').expect("a kind");
            if is_own(name) {
                let family = (kind.to_owned(), BTreeSet::new());
                families.insert(name.to_owned(), family);
            }
        } else if is_own(line) {
            let end = line.find(['{', ' ']).expect("a value");
            let labels = labels(line);
            let (_, found) = family_of(&mut families, &line[..end]);
            // The label of a histogram's buckets is not listed.
            found.extend(labels.into_iter().filter(|label| label != "le"));
        }
    }
    families
}

/// The family of a sample of that name.
fn family_of<'f>(families: &'f mut Families, name: &str) -> &'f mut (String, BTreeSet<String>) {
    let suffixes = ["", "_bucket", "_sum", "_count"];
    let stems = suffixes
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix));
    let found = stems
        .map(str::to_owned)
        .find(|stem| families.contains_key(stem));
    let family = found.and_then(|stem| families.get_mut(&stem));
    family.unwrap_or_else(|| panic!("{name} has no TYPE"))
}

fn labels(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("=\"") {
        let start = rest[..at].rfind(['{', ',']).expect("labels begin") + 1;
        names.push(rest[start..at].to_owned());
        let value = &rest[at + 2..];
        rest = &value[value.find('"').expect("the value ends") + 1..];
    }
    names
}

/// A proxy that has received good and bad input on every input.
fn busy() -> (Proxy, Upstream, String) {
    let upstream = Upstream::start(|_| ok("up_metric 1\n"));
    let bench = bench(&format!(
        "statsd_mapping = \"/dev/null\"\n[poll_external]\npoll_interval = \"50ms\"\nclient_timeout = \"5s\"\n\
         other_scrape_endpoints = [\"http://{}/metrics\"]\n",
        upstream.address
    ));
    let proxy = &bench.proxy;
    proxy.push_tcp(b"{\"tcp_app\":\"m 1\"}");
    proxy.push_tcp(b"{\"tcp_app\":1}");
    proxy.push_unix(&capnp_message("unix_app", "m 1"));
    assert_eq!(
        proxy.push("PUT", "/metrics/job/j", b"pushed 1\n").status,
        200
    );
    assert_eq!(proxy.push("PUT", "/metrics/job/j", b"pushed\n").status, 400);
    let json = ("Content-Type", "application/json");
    let alert = br#"{"status": "firing", "alerts": [{"labels": {"alertname": "A"}}]}"#;
    assert_eq!(
        proxy.push_with("POST", "/webhook", &[json], alert).status,
        200
    );
    assert_eq!(
        proxy.push_with("POST", "/webhook", &[json], b"{").status,
        400
    );
    bench.send(b"hits_total:1|c\n");
    bench.send_udp(b"hits_total:1|c\n");
    let mut tcp = TcpStream::connect(&bench.tcp).unwrap();
    tcp.write_all(b"hits_total:1|c\n").unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    datagrams
        .send_to(b"hits_total:1|c\n", &bench.datagrams)
        .unwrap();
    bench.comes_to("hits_total", 4.0);
    let polled = "external_poll: ".to_owned() + &upstream.address;
    let success = format!("exporter_proxy_poll_success{{target=\"{polled}\"}}");
    eventually(|| bench.proxy.sample(&success), |value| *value == Some(1.0));
    (bench.proxy, upstream, bench.tcp)
}

#[test]
fn the_document_lists_every_metric_with_its_type_and_labels_and_no_other() {
    let (proxy, _upstream, operations) = busy();
    // Proxies with other settings have further metrics.
    let forwarding = Proxy::start(&format!(
        "[operations]\nudp = \"127.0.0.1:0\"\nforward_to = \"tcp://{operations}\"\n\
         [sinks.prometheus]\ntype = \"remote_write\"\nurl = \"http://{operations}\"\n"
    ));
    let dir = tempfile::tempdir().unwrap();
    let certificate = Authority::new(dir.path(), "ca").issue("server");
    let secured = Proxy::start(&format!(
        "[receiver]\ntls = {{ {} }}\n",
        certificate.settings()
    ));
    let state = dir.path().join("state");
    let stored = Proxy::start(&format!("[storage]\npath = {state:?}\n"));
    let list = dir.path().join("list.json");
    std::fs::write(&list, "[{\"targets\": [\"127.0.0.1:1\"]}]").unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a.prom"), "a 1\n").unwrap();
    let finding = Proxy::start(&format!(
        "[poll_external]\nfile_sd = {list:?}\ntextfile = {files:?}\n"
    ));
    let success = "exporter_proxy_discovery_success{discovery=\"file_sd[0]\"}";
    eventually(|| finding.sample(success), |it| *it == Some(1.0));
    let is_read = |text: &String| text.contains("exporter_proxy_textfile_mtime_seconds{");
    eventually(|| finding.metrics(), is_read);
    let mut found = exposed(&forwarding.metrics());
    found.extend(exposed(&finding.metrics()));
    found.extend(exposed(&stored.metrics()));
    found.extend(exposed(&secured.metrics()));
    found.extend(exposed(&proxy.metrics()));
    let documented = documented();
    let names = |families: &Families| families.keys().cloned().collect::<BTreeSet<_>>();
    let (found_names, listed_names) = (names(&found), names(&documented));
    let differ: Vec<_> = found_names.symmetric_difference(&listed_names).collect();
    assert_eq!(differ, [""; 0], "exposed or listed, and not both");
    for (name, row) in &documented {
        assert_eq!(&found[name], row, "{name}");
    }
}

#[test]
fn the_document_lists_every_reason() {
    let (_, table) = DOCUMENT.split_once("## Reasons").expect("a heading");
    let rows = table.lines().filter_map(|line| {
        let word = line.strip_prefix("| ")?.split(" | ").next()?;
        code(word).filter(|word| *word != "result")
    });
    let listed: Vec<&str> = rows.collect();
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let sorted = |mut words: Vec<&'static str>| {
        words.sort_unstable();
        words
    };
    assert_eq!(sorted(listed), sorted(reasons));
}

#[test]
fn every_bound_is_beside_what_it_bounds() {
    let proxy = Proxy::start(
        "[receiver]\nmax_apps = 5\n[push]\nmax_groups = 6\nmax_series = 7\nmax_families = 8\n\
         idempotency_keys = 9\nmax_webhooks = 3\n[exposition]\nmax_total = \"1MiB\"\n",
    );
    proxy.push_tcp(b"{\"a\":\"m 1\",\"b\":\"m 1\"}");
    assert_eq!(
        proxy.push("PUT", "/metrics/job/j", b"pushed 1\n").status,
        200
    );
    let key = [("Idempotency-Key", "k")];
    let path = "/metrics/job/j?mode=aggregate";
    let text = b"# TYPE n_total counter\nn_total{a=\"1\"} 1\nn_total{a=\"2\"} 1\n";
    for _ in 0..2 {
        assert_eq!(proxy.push_with("POST", path, &key, text).status, 202);
    }
    let json = [("Content-Type", "application/json")];
    let hook = proxy.push_with("POST", "/webhook", &json, b"{\"status\": \"firing\"}");
    assert_eq!(hook.status, 200);
    for (name, value, max) in [
        ("apps", 2.0, 5.0),
        ("groups", 1.0, 6.0),
        ("aggregated_series", 2.0, 7.0),
        ("aggregated_families", 1.0, 8.0),
        ("push_keys", 1.0, 9.0),
        ("webhooks_kept", 1.0, 3.0),
    ] {
        let sample = |suffix: &str| proxy.sample(&format!("exporter_proxy_{name}{suffix}"));
        assert_eq!(sample(""), Some(value), "{name}");
        assert_eq!(sample("_max"), Some(max), "{name}");
    }
    let bytes = |name: &str| {
        proxy
            .sample(&format!("exporter_proxy_{name}_bytes"))
            .unwrap()
    };
    assert_eq!(bytes("held_max"), f64::from(1 << 20));
    assert!(bytes("held") > 0.0 && bytes("webhooks_kept") > 0.0);
    // The repeated push succeeded, but counted once.
    let result = |series: &str| proxy.sample(&format!("exporter_proxy_{series}"));
    let aggregated = "pushes_total{method=\"aggregate\",result=\"ok\"}";
    assert_eq!(result(aggregated), Some(2.0));
    assert_eq!(result("pushes_repeated_total"), Some(1.0));
    // The group's sample and its two push times, two aggregated samples, and one of each app once
    // its text has been inspected.
    eventually(|| result("samples"), |samples| *samples == Some(7.0));
}

#[test]
fn scrapes_and_requests_are_timed() {
    let proxy = Proxy::start("");
    let sample = |name: &str| proxy.sample(&format!("exporter_proxy_{name}"));
    // It tells of earlier scrapes.
    assert_eq!(sample("last_scrape_timestamp_seconds"), Some(0.0));
    let started = sample("process_start_time_seconds").unwrap();
    assert!(sample("last_scrape_timestamp_seconds").unwrap() >= started.floor());
    // The end of the last answer may be recorded a little after the client has read it.
    eventually(
        || sample("scrape_duration_seconds_count"),
        |n| *n >= Some(3.0),
    );
    assert!(sample("scrape_duration_seconds_sum").unwrap() > 0.0);
    let pings = || sample("http_request_duration_seconds_count{handler=\"ping\"}");
    assert_eq!(pings(), None);
    proxy.get("/ping");
    proxy.get("/ping");
    assert_eq!(pings(), Some(2.0));
    let all = "http_request_duration_seconds_bucket{handler=\"ping\",le=\"+Inf\"}";
    assert_eq!(sample(all), Some(2.0));
}

#[test]
fn the_times_of_apps_can_be_left_out_alone() {
    let series = "exporter_proxy_app_last_update_timestamp_seconds{app=\"a\"}";
    for (setting, shown) in [("", true), ("[exporter]\napp_metrics = false\n", false)] {
        let proxy = Proxy::start(setting);
        proxy.push_tcp(b"{\"a\":\"m 1\"}");
        assert_eq!(proxy.sample("exporter_proxy_apps"), Some(1.0));
        assert_eq!(proxy.sample(series).is_some(), shown, "{setting}");
        assert_eq!(proxy.metrics().contains("app_last_update"), shown);
    }
}

#[test]
fn the_process_is_shown_under_the_names_that_are_asked_for() {
    const CPU: &str = "process_cpu_seconds_total";
    for (setting, own, usual) in [
        ("", true, false),
        ("exporter_proxy", true, false),
        ("process", false, true),
        ("off", false, false),
    ] {
        let config = match setting {
            "" => String::new(),
            setting => format!("[exporter]\nprocess_metrics = \"{setting}\"\n"),
        };
        let proxy = Proxy::start(&config);
        let own_name = format!("exporter_proxy_{CPU}");
        assert_eq!(proxy.sample(&own_name).is_some(), own, "{setting}");
        assert_eq!(proxy.sample(CPU).is_some(), usual, "{setting}");
    }
}

#[test]
fn an_apps_own_process_metrics_are_never_hidden_where_texts_are_read() {
    let proxy = Proxy::start(
        "[exporter]\nprocess_metrics = \"process\"\n[exposition]\nmode = \"merged\"\n",
    );
    assert!(proxy.sample("process_open_fds").is_some());
    // The same series with the same type: the proxy's own gives way.
    let app = "# TYPE process_open_fds gauge\\nprocess_open_fds 4711\\n";
    assert_eq!(
        proxy.push_tcp(format!("{{\"a\":\"{app}\"}}").as_bytes()),
        ""
    );
    assert_eq!(proxy.sample("process_open_fds"), Some(4711.0));
    assert!(proxy.sample("exporter_proxy_process_open_fds").is_some());
    assert!(proxy.sample("process_max_fds").is_some());
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.matches("\nprocess_open_fds ").count(),
        1,
        "{metrics}"
    );
}

#[test]
fn targets_and_their_samples_are_counted_by_state() {
    let upstream = Upstream::start(|_| ok("# HELP m h\nm{a=\"1\"} 1\n\nm{a=\"2\"} 1\n"));
    let nobody = free_address();
    // The server accepts no connection, so the first poll does not end.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let never = silent.local_addr().unwrap();
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"50ms\"\nclient_timeout = \"5s\"\n\
         stale_after = 0\n\
         [[poll_external.targets]]\nname = \"good\"\nurl = \"http://{}/\"\n\
         [[poll_external.targets]]\nname = \"bad\"\nurl = \"http://{nobody}/\"\n\
         [[poll_external.targets]]\nname = \"late\"\nurl = \"http://{never}/\"\ntimeout = \"1h\"\n",
        upstream.address
    ));
    let states = || {
        let of = |state: &str| {
            let series = format!("exporter_proxy_targets{{state=\"{state}\"}}");
            proxy.sample(&series).unwrap()
        };
        ["waiting", "fresh", "stale", "failing", "withdrawn"].map(of)
    };
    eventually(states, |seen| *seen == [1.0, 1.0, 0.0, 1.0, 0.0]);
    let samples = "exporter_proxy_poll_samples{target=\"good\"}";
    eventually(|| proxy.sample(samples), |count| *count == Some(2.0));
    drop(upstream);
    eventually(states, |seen| *seen == [1.0, 0.0, 0.0, 1.0, 1.0]);
}
