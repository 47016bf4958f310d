//! Every setting takes effect with a reload, or is listed as one that needs a restart.
//!
//! [`SETTINGS`] has each key of the sample configuration. A new setting fails the test until it
//! has a line there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exporter_proxy::app::reload::restart_settings;

use crate::harness::{Proxy, eventually};
use crate::reload::reload;
use crate::support::{Sender, rejected, text_of};

/// How a setting takes effect.
enum Effect {
    /// At the next start only.
    Restart,
    /// At once; the test with this name shows it.
    Test(&'static str),
    /// At once, with this value; the metric shows it.
    Limit(&'static str, &'static str),
    /// At once, with this value; `/api/v1/status` shows it.
    Push(&'static str),
    /// At once, with this value: the result of the probe changes.
    Probe(&'static str, fn(&Proxy) -> String),
}

use Effect::{Limit, Probe, Push, Restart, Test};

const LISTENERS: Effect = Test("listeners_come_and_go_and_their_connections_finish");
const SOCKETS: Effect = Test("sockets_of_receivers_and_operations_come_and_go");
const TARGETS: Effect = Test("targets_come_change_and_go_and_the_others_are_not_disturbed");
const DISCOVERIES: Effect = Test("a_reload_keeps_what_was_found");
const OF_ALL_TARGETS: Effect = Test("settings_of_all_targets_are_those_of_each");
const TARGET_RULES: Effect = Test("rules_of_targets_are_reloaded");
const TLS: Effect = Test("tls_comes_changes_and_goes_on_an_open_port");
const ROLES: Effect = Test("roles_change_for_open_connections_too");
const LIFETIMES: Effect = Test("lifetimes_rules_and_labels_apply_from_now_on");
const TIMES: Effect = Test("time_limits_apply_to_new_connections");
const STOP: Effect = Test("an_operation_may_stop_the_program_after_the_delay_of_now");
const SENDERS: Effect = Test("limits_of_senders_apply_at_once");
const SHAPES: Effect = Test("a_reload_applies_entries_and_files_of_rules");
const LOG: Effect = Test("the_format_and_the_level_of_the_log_change");
const SINKS: Effect = Test("sinks_come_change_and_go_without_losing_items");
const FORWARDING: Effect = Test("operations_are_kept_or_forwarded_as_the_settings_say_now");
const COPIES: Effect = Test("operations_are_also_kept_and_lines_copied_as_the_settings_say_now");
const MAPPING: Effect = Test("a_mapping_is_reloaded_whole_or_not_at_all");
const REFUSED: Effect = Test("a_refused_reload_changes_nothing_and_tells_all_errors");

const SETTINGS: &[(&str, Effect)] = &[
    ("exporter.worker_threads", Restart),
    (
        "exporter.concurrent_requests",
        Limit("7", "exporter_proxy_connections_max{listener=\"tcp\"}"),
    ),
    ("exporter.scrape_expose_endpoint", LISTENERS),
    (
        "exporter.max_connections",
        Limit("7", "exporter_proxy_connections_max{listener=\"http\"}"),
    ),
    ("exporter.header_timeout", TIMES),
    ("exporter.write_timeout", TIMES),
    ("exporter.tls_handshake_timeout", TLS),
    ("exporter.own_metrics", Restart),
    ("exporter.app_metrics", Restart),
    (
        "exporter.process_metrics",
        Probe("\"process\"", |proxy| {
            let metrics = proxy.metrics();
            metrics.contains("\nprocess_cpu_seconds_total ").to_string()
        }),
    ),
    ("exporter.shutdown_timeout", TIMES),
    ("receiver.format", Probe("\"capnp\"", json_refusals)),
    ("receiver.receive_on_unix_socket", SOCKETS),
    ("receiver.receiver_unix_socket", SOCKETS),
    ("receiver.unix_socket_user", Restart),
    ("receiver.unix_socket_group", Restart),
    ("receiver.unix_socket_mode", Restart),
    ("receiver.receive_on_tcp_socket", SOCKETS),
    ("receiver.receiver_tcp_socket", SOCKETS),
    (
        "receiver.max_payload",
        Probe("16", |proxy| proxy.push_tcp(b"{\"payload\":\"m 1234567\"}")),
    ),
    (
        "receiver.max_buffered",
        Limit("77777", "exporter_proxy_receive_buffered_max_bytes"),
    ),
    (
        "receiver.max_app_name",
        Probe("3", |proxy| proxy.push_tcp(b"{\"long_name\":\"m 1\"}")),
    ),
    ("receiver.max_apps", Limit("7", "exporter_proxy_apps_max")),
    ("receiver.message_timeout", TIMES),
    ("receiver.idle_timeout", TIMES),
    ("receiver.app_ttl", LIFETIMES),
    (
        "receiver.proxy_protocol",
        Probe("[\"127.0.0.1\"]", |proxy| {
            proxy.push_tcp(b"{\"behind\":\"m 1\"}")
        }),
    ),
    ("receiver.tls", TLS),
    ("exposition.mode", Restart),
    (
        "exposition.validate",
        Probe("true", |proxy| {
            proxy.push_tcp(b"{\"wrong\":\"no metrics\"}")
        }),
    ),
    ("exposition.app_label", LIFETIMES),
    ("exposition.timestamps", LIFETIMES),
    ("exposition.max_families", Probe("1", pushed)),
    ("exposition.max_samples", Probe("2", pushed)),
    ("exposition.max_labels", Probe("2", pushed)),
    ("exposition.max_label_length", Probe("6", pushed)),
    ("exposition.max_text", Probe("20", pushed)),
    (
        "exposition.max_total",
        Limit("7777777", "exporter_proxy_held_max_bytes"),
    ),
    ("push.listen", LISTENERS),
    ("push.max_body", Probe("8", pushed)),
    (
        "push.max_buffered",
        Limit("77777", "exporter_proxy_push_buffered_max_bytes"),
    ),
    ("push.body_timeout", Push("\"7s\"")),
    ("push.max_groups", Limit("7", "exporter_proxy_groups_max")),
    ("push.group_ttl", LIFETIMES),
    (
        "push.enable_admin_api",
        Probe("true", |proxy| status(proxy, "PUT", "/api/v1/admin/wipe")),
    ),
    ("push.enable_lifecycle", Push("true")),
    (
        "push.enable_utf8_names",
        Probe("true", |proxy| {
            let path = "/metrics/job/a/U__my_2e_label/b";
            proxy.push("PUT", path, "");
            proxy.push("GET", "/api/v1/groups", "").text()
        }),
    ),
    (
        "push.cors_origins",
        Probe("[\"https://a.example\"]", |proxy| {
            let headers = [("Origin", "https://a.example")];
            let answer = proxy.push_with("PUT", "/metrics/job/a", &headers, "");
            answer.status.to_string()
        }),
    ),
    (
        "push.allowed_hosts",
        Probe("[\"*\"]", |proxy| {
            let mut sender = Sender::to(&proxy.push);
            sender.send(b"GET /ping HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
            sender.read_to_end()[..12].to_owned()
        }),
    ),
    (
        "push.mode",
        Probe("\"aggregate\"", |proxy| {
            status(proxy, "PUT", "/metrics/x/y")
        }),
    ),
    ("push.timestamps", Push("\"strip\"")),
    ("push.gauges", Push("\"max\"")),
    ("push.bucket_conflict", Push("\"union\"")),
    ("push.series_ttl", Push("\"7s\"")),
    (
        "push.max_series",
        Limit("7", "exporter_proxy_aggregated_series_max"),
    ),
    (
        "push.max_series_per_family",
        Probe("2", |proxy| {
            let name = fresh();
            let series = |value: u8| format!("{name}{{a=\"{value}\"}} 1\n");
            let body = [1, 2, 3].map(series).concat();
            let answer = proxy.push("POST", "/metrics?mode=aggregate", body);
            answer.status.to_string()
        }),
    ),
    (
        "push.max_families",
        Limit("7", "exporter_proxy_aggregated_families_max"),
    ),
    (
        "push.idempotency_keys",
        Limit("7", "exporter_proxy_push_keys_max"),
    ),
    ("push.idempotency_time", Push("\"7s\"")),
    (
        "push.max_webhooks",
        Limit("7", "exporter_proxy_webhooks_kept_max"),
    ),
    (
        "push.max_webhook_bytes",
        Limit("77777", "exporter_proxy_webhooks_kept_max_bytes"),
    ),
    ("push.rules", LIFETIMES),
    ("operations.udp", SOCKETS),
    ("operations.tcp", REFUSED),
    ("operations.tls", TLS),
    ("operations.unix_sockets", SOCKETS),
    ("operations.unix_datagram_sockets", SOCKETS),
    ("operations.extra_labels", SOCKETS),
    (
        "operations.extra_labels_file",
        Probe("\"$DIR/labels\"", |proxy| operate(proxy, "file:1|c")),
    ),
    (
        "operations.source_labels",
        Probe("true", |proxy| operate(proxy, "source:1|c")),
    ),
    (
        "operations.ttl",
        Probe("\"100ms\"", |proxy| {
            operate(proxy, "short:1|c");
            let begun = Instant::now();
            let shown = || proxy.metrics().contains("\nshort");
            while shown() && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(50));
            }
            shown().to_string()
        }),
    ),
    (
        "operations.max_message",
        Probe("20", |proxy| {
            operate(proxy, &format!("long_{}:1|c", "x".repeat(30)))
        }),
    ),
    (
        "operations.max_labels",
        Probe("1", |proxy| operate(proxy, "labels:1|c|#a:1,b:2")),
    ),
    (
        "operations.max_label_length",
        Probe("12", |proxy| {
            operate(proxy, "value:1|c|#a:0123456789abcdef")
        }),
    ),
    (
        "operations.concurrent_connections",
        Limit(
            "7",
            "exporter_proxy_connections_max{listener=\"operations_unix\"}",
        ),
    ),
    (
        "operations.idle_timeout",
        Probe("\"100ms\"", |proxy| {
            let stream = connect(proxy);
            stream
                .set_read_timeout(Some(Duration::from_secs(4)))
                .unwrap();
            let read = std::io::Read::read(&mut &stream, &mut [0]);
            read.is_ok().to_string()
        }),
    ),
    (
        "operations.statsd_buckets",
        Probe("[7]", |proxy| {
            operate(proxy, &format!("{}:1|h", fresh()));
            proxy.metrics().contains("le=\"7").to_string()
        }),
    ),
    (
        "operations.statsd_tags",
        Probe("[]", |proxy| {
            let line = format!("{}:1|c|#tagged:yes", fresh());
            operate(proxy, &line).contains("tagged").to_string()
        }),
    ),
    (
        "operations.statsd_fields",
        Probe("[\"container_id\"]", |proxy| {
            let line = format!("{}:1|c|c:ci-1", fresh());
            operate(proxy, &line).contains("container_id").to_string()
        }),
    ),
    (
        "operations.statsd_events",
        Probe("true", |proxy| {
            operate(proxy, "_sc|db|0").is_empty().to_string()
        }),
    ),
    ("operations.statsd_mapping", MAPPING),
    ("operations.statsd_mapping_cache", MAPPING),
    (
        "operations.max_set_values",
        Probe("1", |proxy| {
            let set = fresh();
            operate(proxy, &format!("{set}:a|s"));
            let answer = operate(proxy, &format!("{set}:b|s"));
            answer.contains("operations.max_set_values").to_string()
        }),
    ),
    ("operations.allow_shutdown", STOP),
    ("operations.shutdown_delay", STOP),
    ("operations.forward_to", FORWARDING),
    ("operations.forward_keep", COPIES),
    ("operations.forward_raw", COPIES),
    ("operations.forward_queue", FORWARDING),
    ("poll_external.poll_other_scrape_endpoints", TARGETS),
    ("poll_external.other_scrape_endpoints", TARGETS),
    ("poll_external.allow_invalid_certs", OF_ALL_TARGETS),
    ("poll_external.poll_interval", TARGETS),
    ("poll_external.client_timeout", OF_ALL_TARGETS),
    ("poll_external.stale_after", OF_ALL_TARGETS),
    ("poll_external.max_body", TARGETS),
    ("poll_external.follow_redirects", OF_ALL_TARGETS),
    ("poll_external.proxy_url", OF_ALL_TARGETS),
    ("poll_external.proxy_from_environment", OF_ALL_TARGETS),
    ("poll_external.targets", TARGETS),
    (
        "poll_external.max_targets",
        Limit("7", "exporter_proxy_targets_max"),
    ),
    ("poll_external.sample_limit", OF_ALL_TARGETS),
    ("poll_external.label_limit", OF_ALL_TARGETS),
    ("poll_external.label_name_length_limit", OF_ALL_TARGETS),
    ("poll_external.label_value_length_limit", OF_ALL_TARGETS),
    ("poll_external.relabel", TARGET_RULES),
    ("poll_external.relabel_file", TARGET_RULES),
    ("poll_external.textfile", DISCOVERIES),
    ("poll_external.file_sd", DISCOVERIES),
    ("poll_external.http_sd", DISCOVERIES),
    ("poll_external.dns_sd", DISCOVERIES),
    ("lifecycle.listen", LISTENERS),
    (
        "web.external_url",
        Probe("\"http://x.example/p\"", |proxy| {
            status(proxy, "GET", "/p/-/healthy")
        }),
    ),
    (
        "web.route_prefix",
        Probe("\"/p\"", |proxy| status(proxy, "GET", "/p/-/healthy")),
    ),
    (
        "web.trusted_proxies",
        Probe("[\"127.0.0.1\"]", |proxy| {
            let headers = [("X-Forwarded-For", "192.0.2.7")];
            proxy.push_with("PUT", "/metrics/job/forwarded", &headers, "m 1\n");
            proxy
                .get("/apps?wide=1")
                .text()
                .contains("192.0.2.7")
                .to_string()
        }),
    ),
    ("shape", SHAPES),
    ("limits.burst", SENDERS),
    ("limits.loopback", SENDERS),
    ("limits.address", SENDERS),
    ("limits.app", SENDERS),
    ("limits.user", SENDERS),
    ("web.config_file", TLS),
    ("web.access", ROLES),
    ("profiling", Restart),
    ("sinks", SINKS),
    ("storage.path", Restart),
    ("storage.sync", Restart),
    ("log.format", LOG),
    ("log.level", LOG),
];

/// A name of a metric that is not used yet.
fn fresh() -> String {
    static USED: AtomicUsize = AtomicUsize::new(0);
    format!("fresh_{}", USED.fetch_add(1, Ordering::Relaxed))
}

/// Whether the receiver accepts a JSON message.
fn json_refusals(proxy: &Proxy) -> String {
    proxy.push_tcp(b"{\"format\":\"m 1\"}");
    rejected(proxy).is_empty().to_string()
}

/// The status of a push that exceeds small limits.
fn pushed(proxy: &Proxy) -> String {
    let body = "one{a=\"long value\",b=\"2\",c=\"3\"} 1\ntwo 2\ntwo{a=\"b\"} 3\n";
    status_of(proxy, "PUT", "/metrics/job/limits", body)
}

fn status(proxy: &Proxy, method: &str, path: &str) -> String {
    status_of(proxy, method, path, "")
}

fn status_of(proxy: &Proxy, method: &str, path: &str, body: &str) -> String {
    proxy.push(method, path, body).status.to_string()
}

/// A connection to the Unix socket for operations.
fn connect(proxy: &Proxy) -> std::os::unix::net::UnixStream {
    std::os::unix::net::UnixStream::connect(proxy.dir.path().join("ops.sock")).unwrap()
}

/// Sends an operation. Returns the answer, and the series of its name.
fn operate(proxy: &Proxy, line: &str) -> String {
    let mut stream = connect(proxy);
    let _ = stream.write_all(line.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
    let name = line.split(':').next().unwrap();
    let metrics = proxy.metrics();
    let series = metrics.lines().filter(|line| line.starts_with(name));
    let series: Vec<&str> = series.map(|line| line.split(' ').next().unwrap()).collect();
    format!("{answer}{}", series.join(" "))
}

/// The keys of the sample configuration. Tables that are one setting count as that setting.
fn sample_keys() -> BTreeSet<String> {
    let sample = include_str!("../../config.toml");
    let (mut table, mut keys) = (String::new(), BTreeSet::new());
    for line in sample.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let name = line.trim_matches(['[', ']']);
        let plain = |c: char| c.is_ascii_lowercase() || "_.".contains(c);
        if line.starts_with('[') && line.ends_with(']') && name.chars().all(plain) {
            table = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            // A nested table, such as `receiver.tls`, is one setting; so are all sinks.
            match table.split_once('.') {
                Some(("sinks", _)) => keys.insert("sinks".to_owned()),
                // So are all of `[profiling]` and all of `[[shape]]`.
                None if ["profiling", "shape"].contains(&&*table) => keys.insert(table.clone()),
                Some(_) => keys.insert(table.clone()),
                None => keys.insert(format!("{table}.{key}")),
            };
        }
    }
    keys
}

#[test]
fn every_setting_has_a_line_here() {
    let listed: BTreeSet<String> = SETTINGS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(listed.len(), SETTINGS.len(), "a key is listed twice");
    assert_eq!(listed, sample_keys());
    let restart = SETTINGS
        .iter()
        .filter(|(_, effect)| matches!(effect, Restart));
    let restart: BTreeSet<&str> = restart.map(|(key, _)| *key).collect();
    assert_eq!(restart, restart_settings().collect());
    let document = include_str!("../../docs/running.md");
    let row = document
        .lines()
        .find(|line| line.contains("**need a restart**"));
    let names = row.unwrap().split('`').skip(1).step_by(2);
    assert_eq!(names.collect::<BTreeSet<&str>>(), restart);
    let tests = [
        include_str!("discovery.rs"),
        include_str!("reload.rs"),
        include_str!("reload_listeners.rs"),
        include_str!("reload_settings.rs"),
        include_str!("sinks_reload.rs"),
        include_str!("statsd_dialects.rs"),
        include_str!("statsd_mapping.rs"),
        include_str!("shaping.rs"),
    ]
    .concat();
    for (key, effect) in SETTINGS {
        if let Test(name) = effect {
            assert!(tests.contains(&format!("\nfn {name}()")), "{key}: {name}");
        }
    }
}

/// A configuration with one setting, and sockets for operations.
fn config(proxy: &Proxy, setting: Option<(&str, &str)>) -> String {
    let dir = proxy.dir.path().display().to_string();
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    let operations = tables.entry("operations").or_default();
    operations.push_str(&format!("unix_sockets = [\"{dir}/ops.sock\"]\n"));
    if let Some((key, value)) = setting {
        let (table, key) = key.split_once('.').unwrap();
        let value = value.replace("$DIR", &dir);
        let lines = tables.entry(table).or_default();
        lines.push_str(&format!("{key} = {value}\n"));
    }
    let tables = tables
        .iter()
        .map(|(name, lines)| format!("[{name}]\n{lines}"));
    tables.collect()
}

#[test]
fn settings_take_effect_at_once() {
    let proxy = Proxy::start("");
    std::fs::write(proxy.dir.path().join("labels"), "from=file\n").unwrap();
    for (key, effect) in SETTINGS {
        let (value, probe): (_, Box<dyn Fn() -> String>) = match effect {
            Restart | Test(_) => continue,
            Limit(value, series) => (
                value,
                Box::new(|| {
                    proxy
                        .sample(series)
                        .map_or_else(String::new, |it| it.to_string())
                }),
            ),
            Push(value) => (
                value,
                Box::new(|| proxy_status(&proxy)["data"]["flags"][*key].to_string()),
            ),
            Probe(value, probe) => (value, Box::new(|| probe(&proxy))),
        };
        reload(&proxy, &config(&proxy, None));
        let before = probe();
        let report = reload(&proxy, &config(&proxy, Some((key, value))));
        assert!(report.contains(key), "{key}: {report}");
        let after = probe();
        assert_ne!(before, after, "{key} = {value}");
        if let Limit(value, _) = effect {
            assert_eq!(after, *value, "{key}");
        }
        let prefix = if key.starts_with("web.") { "/p" } else { "" };
        if prefix.is_empty() || proxy.push("POST", "/-/reload", "").status == 200 {
            continue;
        }
        // The reset to the defaults uses the path with the prefix.
        crate::reload::write_config(&proxy, &config(&proxy, None));
        assert_eq!(proxy.push("POST", "/p/-/reload", "").status, 200, "{key}");
    }
    eventually(|| text_of(&proxy, "payload"), Option::is_some);
}

/// The settings of pushes that are in use.
fn proxy_status(proxy: &Proxy) -> serde_json::Value {
    proxy.push("GET", "/api/v1/status", "").json()
}

#[test]
fn an_operation_may_stop_the_program_after_the_delay_of_now() {
    let mut proxy = Proxy::start("");
    let stop = "{\"name\":\"x\",\"op\":\"shutdown\"}";
    reload(&proxy, &config(&proxy, None));
    let answer = operate(&proxy, stop);
    assert!(answer.contains("operations.allow_shutdown"), "{answer}");
    let config = config(&proxy, Some(("operations.allow_shutdown", "true")));
    reload(&proxy, &format!("{config}shutdown_delay = \"300ms\"\n"));
    connect(&proxy).write_all(stop.as_bytes()).unwrap();
    eventually(|| proxy.log(), |log| log.contains("stopping in 300ms"));
    assert!(proxy.wait().success());
}

#[test]
fn the_format_and_the_level_of_the_log_change() {
    let proxy = Proxy::start("");
    let refused = |proxy: &Proxy| {
        let before = proxy.log().len();
        assert_eq!(pushed_wrong(proxy), "400");
        let line = eventually(
            || proxy.log()[before..].to_owned(),
            |log| log.ends_with('\n') && log.contains("rejected"),
        );
        line.chars().next().unwrap()
    };
    assert_eq!(refused(&proxy), '[');
    let report = reload(&proxy, "[log]\nformat = \"json\"\n");
    assert!(report.contains("log.format"), "{report}");
    assert_eq!(refused(&proxy), '{');
    reload(&proxy, "[log]\nlevel = \"error\"\n");
    let before = proxy.log();
    assert_eq!(pushed_wrong(&proxy), "400");
    reload(&proxy, "[log]\nlevel = \"debug\"\n");
    assert_eq!(refused(&proxy), '[');
    let quiet = proxy.log()[before.len()..].to_owned();
    assert_eq!(quiet.matches("WARN ").count(), 1, "{quiet}");
    assert!(quiet.contains("DEBUG exporter_proxy::http]"), "{quiet}");
}

fn pushed_wrong(proxy: &Proxy) -> String {
    status_of(proxy, "PUT", "/metrics/job/wrong", "bad{")
}
