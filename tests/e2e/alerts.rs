//! The alerts, recording rules and dashboard of `deploy/`, checked with `promtool` and with a real
//! Prometheus that scrapes the proxy.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;

use regex::Regex;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::documents::{blocks, code, table};
use crate::harness::certificates::Authority;
use crate::harness::{Proxy, eventually, http_request};
use crate::readers::prometheus;
use crate::tools::{self, Server, Tool, command, root, run};

const ALERTS: &str = include_str!("../../deploy/alerts.yml");
const TESTS: &str = include_str!("../data/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../deploy/dashboard.json");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// The names of all alerts.
fn alerts() -> BTreeSet<&'static str> {
    let names = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let all: Vec<&str> = names.collect();
    let names: BTreeSet<&str> = all.iter().copied().collect();
    assert!(names.len() == all.len() && names.len() > 20, "{all:?}");
    names
}

#[test]
fn alerts_fire_when_they_should() {
    // Each has a case in which it fires, and one in which it does not.
    let mut fires = BTreeSet::new();
    let mut is_quiet = BTreeSet::new();
    for case in TESTS.split("- eval_time: ").skip(1) {
        let (_, rest) = case.split_once("alertname: ").expect("a name");
        let name = rest.split_whitespace().next().expect("a name");
        match case.contains("exp_alerts: []") {
            true => is_quiet.insert(name),
            false => fires.insert(name),
        };
    }
    assert_eq!(fires, alerts());
    assert_eq!(is_quiet, alerts());
    let listed = table(METRICS, "alerts");
    let listed: Vec<&str> = listed.iter().map(|row| code(&row[0])).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), alerts());

    if !tools::here(&[Tool::Promtool]) {
        return;
    }
    let dir = tempdir().expect("a directory");
    fs::write(dir.path().join("alerts.yml"), ALERTS).unwrap();
    fs::write(dir.path().join("test.yml"), TESTS).unwrap();
    let is_job = |text: &str| text.contains("job_name: exporter-proxy-own");
    let jobs = blocks(METRICS).into_iter().find(|it| is_job(it.text));
    fs::write(dir.path().join("prometheus.yml"), jobs.unwrap().text).unwrap();
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        run(command(Tool::Promtool)
            .args(arguments)
            .current_dir(dir.path()));
    }
}

/// A proxy with all of its own metrics: every input and output is on, and has had good and bad
/// input. The directory holds its files, the address is that of its listener for health checks.
fn complete() -> (Proxy, TempDir, String) {
    let dir = tempdir().expect("a directory");
    let server = Authority::new(dir.path(), "ca").issue("server").settings();
    let web = dir.path().join("web.yml");
    fs::write(&web, "http_server_config:\n  http2: true\n").expect("it is written");
    let state = dir.path().join("state");
    // The second entry is invalid.
    let list = dir.path().join("list.json");
    fs::write(&list, "[{\"targets\": [\"127.0.0.1:1\", \"a/b\"]}]").expect("it is written");
    let proxy = Proxy::start_with(
        &format!(
            "[storage]\npath = \"{}\"\n[web]\nconfig_file = \"{}\"\n\
             [exposition]\nvalidate = true\n[lifecycle]\nlisten = \"127.0.0.1:0\"\n\
             [receiver]\ntls = {{ {server} }}\n\
             [operations]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n\
             [limits]\nloopback = true\naddress = {{ messages_per_second = 1000000 }}\n\
             [poll_external]\npoll_interval = \"500ms\"\nclient_timeout = \"100ms\"\nfile_sd = {list:?}\n\
             [[poll_external.targets]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1/\"\n\
             [sinks.central]\ntype = \"operations\"\nurl = \"tcp://127.0.0.1:1\"\n",
            state.display(),
            web.display()
        ),
        &[],
    );
    let log = proxy.log();
    let address = |words: &str| {
        let (_, rest) = log
            .split_once(words)
            .unwrap_or_else(|| panic!("{words}: {log}"));
        rest.split_whitespace()
            .next()
            .expect("an address")
            .to_owned()
    };
    let own = address("health and own metrics on http://");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.send_to(b"nothing", address("operations on UDP socket "))
        .expect("it is sent");
    for (text, good) in [("pushed 1\n", true), ("pushed{", false)] {
        let status = proxy.push("PUT", "/metrics/job/backup", text).status;
        assert_eq!(status == 200, good, "{text}: {status}");
    }
    proxy.push(
        "POST",
        "/metrics/job/sums?mode=aggregate",
        "# TYPE a counter\na 1\n",
    );
    proxy.push_unix(b"{\"shop\":\"m 1\"}");
    proxy.push_unix(b"{\"shop\":\"m{\"}");
    let json = ("Content-Type", "application/json");
    let alert = br#"{"status": "firing", "alerts": [{"labels": {"alertname": "A"}}]}"#;
    assert_eq!(
        proxy.push_with("POST", "/webhook", &[json], alert).status,
        200
    );
    proxy.push_with("POST", "/webhook", &[json], b"nothing");
    (proxy, dir, own)
}

/// The expressions of the dashboard, with Grafana's variables replaced.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let mut found = Vec::new();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let metric = Regex::new(r"^label_values\((.*), \w+\)$").expect("a pattern");
    for query in variables
        .iter()
        .filter_map(|it| it["query"]["query"].as_str())
    {
        found.push(metric.captures(query).expect("label_values")[1].to_owned());
    }
    found.extend(texts(&dashboard["annotations"]));
    for panel in dashboard["panels"].as_array().expect("a list") {
        found.extend(texts(panel));
    }
    assert!(found.len() > 40, "{found:?}");
    found
        .iter()
        .map(|query| {
            query
                .replace("$__rate_interval", "1m")
                .replace("$job", "exporter-proxy.*")
                .replace("$instance", ".*")
        })
        .inspect(|query| assert!(!query.contains('$'), "{query}"))
        .collect()
}

/// The values of all keys `expr`.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter()
                .chain(map.values().flat_map(texts))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The expressions of the rules, as Prometheus read them.
fn rule_queries(prometheus: &Server) -> Vec<String> {
    let rules = http_request(&prometheus.address, "GET", "/api/v1/rules", &[]).json();
    let groups = rules["data"]["groups"].as_array().expect("a list");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("a list"));
    rules
        .map(|rule| rule["query"].as_str().expect("it is there").to_owned())
        .collect()
}

/// The series of a query, or the error.
fn ask(prometheus: &Server, query: &str) -> Result<usize, String> {
    let mut path = "/api/v1/query?query=".to_owned();
    for byte in query.bytes() {
        path.push_str(&format!("%{byte:02x}"));
    }
    let answer = http_request(&prometheus.address, "GET", &path, &[]).json();
    match answer["status"].as_str() {
        Some("success") => Ok(answer["data"]["result"].as_array().map_or(0, Vec::len)),
        _ => Err(answer["error"].to_string()),
    }
}

#[test]
fn every_query_names_metrics_that_the_proxy_has() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let (proxy, _dir, own) = complete();
    let alerts = root().join("deploy/alerts.yml");
    let jobs = format!(
        "- job_name: exporter-proxy\n  honor_labels: true\n  static_configs:\n  - targets: [\"{}\"]\n\
         - job_name: exporter-proxy-own\n  static_configs:\n  - targets: [\"{own}\"]\n\
         rule_files: [\"{}\"]\n",
        proxy.http,
        alerts.display()
    );
    let prometheus = prometheus(&jobs, &[]);
    let rules = eventually(
        || match http_request(&prometheus.address, "GET", "/-/ready", &[]).status {
            200 => rule_queries(&prometheus),
            _ => Vec::new(),
        },
        |rules| !rules.is_empty(),
    );
    assert_eq!(rules.len(), ALERTS.matches(" expr: ").count());
    let shown = dashboard_queries();

    let name = Regex::new(r"\b(?:exporter_proxy[a-z0-9_:]*|push_(?:failure_)?time_seconds|up)\b");
    let name = name.unwrap();
    let mut names = BTreeSet::new();
    for query in rules.iter().chain(&shown) {
        let found: Vec<&str> = name.find_iter(query).map(|it| it.as_str()).collect();
        assert!(!found.is_empty(), "{query}");
        names.extend(found.into_iter().map(str::to_owned));
        assert_eq!(ask(&prometheus, query).err(), None, "{query}");
    }
    for name in names {
        let seen = || (name.clone(), ask(&prometheus, &name));
        drop(eventually(seen, |(_, found)| {
            found.as_ref().is_ok_and(|it| *it > 0)
        }));
    }
    for query in &shown {
        // Some families leave out zeros.
        let query = query.trim_end_matches(" > 0");
        let seen = || (query, ask(&prometheus, query));
        drop(eventually(seen, |(_, found)| {
            found.as_ref().is_ok_and(|it| *it > 0)
        }));
    }
}
