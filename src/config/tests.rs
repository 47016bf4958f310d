//! Where settings come from, and the errors in them.

use std::time::Duration;

use super::*;
use crate::inputs::poller::config::schedule::Schedule;
use crate::inputs::sockets::config::Format;
use crate::settings::listen::{SocketMode, SocketPath};

pub(super) fn read(text: &str) -> Config {
    read_with(text, &[])
}

pub(super) fn read_with(text: &str, environment: &[(&str, &str)]) -> Config {
    let pairs = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    settle("test.toml", text, pairs)
        .unwrap_or_else(|e| panic!("{e}"))
        .0
}

pub(super) fn faults(text: &str) -> Vec<String> {
    faults_with(text, &[])
}

pub fn faults_with(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let pairs = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    match settle("test.toml", text, pairs) {
        Err(ConfigError::Faults { errors, .. }) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn an_empty_file_is_valid() {
    let config = read("");
    assert_eq!(config, Config::default());
    assert_eq!(
        serde_json::to_value(&config.exporter.scrape_expose_endpoint).unwrap(),
        "0.0.0.0:6555"
    );
    assert_eq!(
        config.receiver.receiver_tcp_socket.to_string(),
        "127.0.0.1:6554"
    );
    assert_eq!(config.receiver.format, Format::Auto);
    assert_eq!(config.receiver.max_payload, 16 << 20);
    assert_eq!(config.receiver.app_ttl, None);
    assert!(config.poll_external.targets.is_empty());
}

#[test]
fn the_configuration_of_the_original_program_is_valid() {
    let config = read(include_str!("../../tests/data/original.toml"));
    assert_eq!(config.exporter.concurrent_requests, 2048);
    assert_eq!(config.receiver.format, Format::Json);
    assert_eq!(
        config.receiver.receiver_unix_socket,
        SocketPath::Path("/var/run/exporter-proxy-receiver.sock".into())
    );
    let poll = &config.poll_external;
    assert!(!poll.poll_other_scrape_endpoints);
    let names: Vec<&str> = poll
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "external_poll: 127.0.0.1:1025",
            "external_poll: 127.0.0.1:1026",
            "external_poll: 127.0.0.1:1027"
        ]
    );
    let every = Schedule::Every(Duration::from_secs(5));
    assert_eq!(poll.targets[0].settings.interval, every);
    assert_eq!(poll.targets[0].settings.timeout, Duration::from_secs(2));
    assert!(poll.targets[0].settings.requests.allow_invalid_certs);
}

#[test]
fn default_timeouts_allow_idle_and_slow_senders() {
    let receiver = read("").receiver;
    assert_eq!(receiver.idle_timeout, Duration::ZERO, "it never ends");
    assert!(receiver.message_timeout >= Duration::from_secs(3600));
    let never = read("[receiver]\nmessage_timeout = 0\nidle_timeout = \"0s\"\n");
    assert_eq!(never.receiver.message_timeout, Duration::ZERO);
    assert_eq!(read(&never.to_toml()), never);
}

#[test]
fn the_shipped_file_has_the_defaults() {
    let mut shipped = read(include_str!("../../config.toml"));
    // Only polling differs: it is shown with an example, and switched off.
    assert!(!shipped.poll_external.poll_other_scrape_endpoints);
    let defaults = Config::default();
    let poll = &mut shipped.poll_external;
    poll.poll_other_scrape_endpoints = defaults.poll_external.poll_other_scrape_endpoints;
    let target = poll.targets.swap_remove(0);
    poll.targets.clear();
    poll.relabelled.clear();
    assert_eq!(shipped, defaults);
    // The target of the example has the defaults too.
    let url = target.url.to_string();
    let plain = read(&format!("[[poll_external.targets]]\nurl = \"{url}\"\n"));
    assert_eq!(plain.poll_external.targets, [target]);
}

#[test]
fn every_error_has_its_place() {
    let found = faults(
        "[exporter]\nworker_thread = 1\nconcurrent_requests = 0\n\n[receiver]\nformat = \"xml\"\n  max_payload = \"lots\"\n[recever]\n",
    );
    assert_eq!(
        found,
        [
            "test.toml:2:1: unknown key `exporter.worker_thread`; did you mean `exporter.worker_threads`?",
            "test.toml:3:23: `exporter.concurrent_requests` must be a whole number from 1 to 1000000, not the number 0",
            "test.toml:6:10: `receiver.format` must be one of \"auto\", \"capnp\", \"json\", not \"xml\"",
            "test.toml:7:17: `receiver.max_payload` must be a size above zero, as a number of bytes or text such as \"16MiB\", not the text \"lots\"",
            "test.toml:8:2: unknown key `recever`; did you mean `receiver`?",
        ]
    );
}

#[test]
fn a_syntax_error_does_not_hide_other_errors() {
    let found = faults("[exporter]\nworker_threads = = 3\n[receiver]\nformat = 7\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("test.toml:2:"), "{found:?}");
    assert!(
        found[1].starts_with("test.toml:4:10: `receiver.format`"),
        "{found:?}"
    );
}

#[test]
fn a_repeated_table_is_reported() {
    let found = faults("[operations]\nudp = \"\"\n[operations]\ntcp = \"127.0.0.1:6558\"\n");
    let expected =
        "test.toml:3:2: duplicate table `operations`, first defined on line 1; merge the two";
    assert_eq!(found, [expected]);
    // Keys that the second table repeats are not reported; other duplicates are.
    let found = faults(
        "[push]\nmax_body = 1\n[exporter]\nmax_connections = 1\n[push]\nmax_body = 2\n\
         max_groups = 1\n[receiver]\nmax_apps = 1\nmax_apps = 2\n",
    );
    let expected = [
        "test.toml:5:2: duplicate table `push`, first defined on line 1; merge the two",
        "test.toml:10:1: duplicate key `max_apps`, first defined on line 9; remove one",
    ];
    assert_eq!(found, expected);
}

/// One bad value for each key. The error has the place of the key.
#[test]
fn each_key_rejects_a_bad_value() {
    let cases = [
        ("exporter", "worker_threads", "-1"),
        ("exporter", "worker_threads", "\"four\""),
        ("exporter", "concurrent_requests", "0"),
        ("exporter", "scrape_expose_endpoint", "\"6555\""),
        ("exporter", "max_connections", "0"),
        ("exporter", "header_timeout", "0"),
        ("exporter", "write_timeout", "\"soon\""),
        ("exporter", "own_metrics", "\"yes\""),
        ("exporter", "shutdown_timeout", "-5"),
        ("receiver", "format", "\"xml\""),
        ("receiver", "receive_on_unix_socket", "1"),
        ("receiver", "receiver_unix_socket", "\"\""),
        ("receiver", "unix_socket_user", "-1"),
        ("receiver", "unix_socket_group", "[]"),
        ("receiver", "unix_socket_mode", "\"rw-rw----\""),
        ("receiver", "unix_socket_mode", "0o7777"),
        ("receiver", "receive_on_tcp_socket", "\"on\""),
        ("receiver", "receiver_tcp_socket", "\"127.0.0.1:99999\""),
        ("receiver", "max_payload", "0"),
        ("receiver", "max_buffered", "\"1TB\""),
        ("receiver", "max_app_name", "0"),
        ("receiver", "max_apps", "0"),
        ("receiver", "message_timeout", "-1"),
        ("receiver", "idle_timeout", "\"1 hour\""),
        ("receiver", "app_ttl", "0"),
        ("exposition", "mode", "\"raw\""),
        ("exposition", "validate", "\"no\""),
        ("exposition", "app_label", "\"9\""),
        ("exposition", "app_label", "\"le\""),
        ("exposition", "app_label", "\"app\""),
        ("exposition", "timestamps", "true"),
        ("exposition", "timestamps", "\"strip\""),
        ("exposition", "max_samples", "0"),
        ("exposition", "max_labels", "0"),
        ("exposition", "max_label_length", "0"),
        ("exposition", "max_total", "0"),
        ("push", "listen", "\"6556\""),
        ("push", "listen", "\"unix:\""),
        ("push", "listen", "7"),
        ("push", "max_body", "\"2GiB\""),
        ("push", "max_buffered", "0"),
        ("push", "body_timeout", "0"),
        ("push", "max_groups", "0"),
        ("push", "group_ttl", "\"soon\""),
        ("push", "enable_admin_api", "1"),
        ("push", "enable_lifecycle", "\"yes\""),
        ("push", "enable_utf8_names", "0"),
        ("push", "cors_origins", "\"*\""),
        ("push", "cors_origins", "[\"example.com\"]"),
        ("push", "mode", "\"add\""),
        ("push", "gauges", "\"mean\""),
        ("push", "bucket_conflict", "\"drop\""),
        ("push", "series_ttl", "-1"),
        ("push", "max_series", "0"),
        ("push", "max_series_per_family", "0"),
        ("push", "max_families", "0"),
        ("push", "idempotency_keys", "0"),
        ("push", "idempotency_time", "0"),
        ("push", "max_webhooks", "-1"),
        ("push", "max_webhooks", "10001"),
        ("push", "max_webhook_bytes", "0"),
        ("push", "rules", "[1]"),
        ("push", "rules", "[{ policy = \"sum\" }]"),
        ("push", "rules", "[{ match = \"m\" }]"),
        ("push", "rules", "[{ match = \"\", policy = \"sum\" }]"),
        ("push", "rules", "[{ match = \"m\", policy = \"mean\" }]"),
        ("push", "rules", "[{ match = \"m\", drop_labels = [\"\"] }]"),
        (
            "push",
            "rules",
            "[{ match = \"m\", policy = \"sum\", drop = 1 }]",
        ),
        ("limits", "burst", "0"),
        ("limits", "loopback", "\"yes\""),
        ("limits", "address", "100"),
        ("limits", "address", "{}"),
        ("limits", "address", "{ messages_per_second = 0 }"),
        ("limits", "app", "{ bytes_per_second = \"1TB\" }"),
        ("limits", "user", "{ memory = 0 }"),
        ("limits", "user", "{ memory = 1, messages = 1 }"),
        ("operations", "udp", "\"9999\""),
        ("operations", "tcp", "9999"),
        ("operations", "unix_sockets", "\"/run/a.sock\""),
        ("operations", "unix_sockets", "[\"\"]"),
        ("operations", "unix_sockets", "[\"/a\", \"/a\"]"),
        ("operations", "unix_datagram_sockets", "[7]"),
        ("operations", "extra_labels", "\"a=b\""),
        ("operations", "extra_labels", "{ le = \"1\" }"),
        ("operations", "extra_labels", "{ a = 1 }"),
        ("operations", "extra_labels_file", "[]"),
        ("operations", "source_labels", "1"),
        ("operations", "ttl", "\"soon\""),
        ("operations", "max_message", "0"),
        ("operations", "max_labels", "0"),
        ("operations", "max_label_length", "0"),
        ("operations", "concurrent_connections", "0"),
        ("operations", "idle_timeout", "0"),
        ("operations", "statsd_buckets", "[]"),
        ("operations", "statsd_buckets", "[2, 1]"),
        ("operations", "max_set_values", "0"),
        ("operations", "allow_shutdown", "\"yes\""),
        ("operations", "shutdown_delay", "-1"),
        ("operations", "forward_to", "\"far:9999\""),
        ("operations", "forward_queue", "0"),
        ("poll_external", "poll_other_scrape_endpoints", "1"),
        ("poll_external", "other_scrape_endpoints", "\"http://a\""),
        ("poll_external", "other_scrape_endpoints", "[\"ftp://a/\"]"),
        ("poll_external", "other_scrape_endpoints", "[\"not a url\"]"),
        (
            "poll_external",
            "other_scrape_endpoints",
            "[\"unix://a.sock:/m\"]",
        ),
        ("poll_external", "allow_invalid_certs", "0"),
        ("poll_external", "follow_redirects", "\"no\""),
        ("poll_external", "proxy_from_environment", "1"),
        ("poll_external", "proxy_url", "\"socks5://a:1\""),
        ("poll_external", "proxy_url", "\"a:1\""),
        ("poll_external", "proxy_url", "\"nothing\""),
        ("poll_external", "poll_interval", "0"),
        ("poll_external", "client_timeout", "0"),
        ("poll_external", "stale_after", "\"never\""),
        ("poll_external", "max_body", "-1"),
        ("poll_external", "max_targets", "0"),
        ("poll_external", "sample_limit", "-1"),
        ("poll_external", "label_limit", "\"many\""),
        ("poll_external", "label_name_length_limit", "1.5"),
        ("poll_external", "label_value_length_limit", "true"),
        ("poll_external", "textfile", "3"),
        ("poll_external", "textfile", "\"\""),
        ("poll_external", "textfile", "[{ directories = [] }]"),
        (
            "poll_external",
            "textfile",
            "[{ directories = [\"a\"], targets = { scheme = \"https\" } }]",
        ),
        ("poll_external", "poll_interval", "\"scrapes\""),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", params = { a = [] } }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", params = { a = 1 } }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", proxy_url = \"socks5://a\" }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", body_size_limit = \"2GiB\" }]",
        ),
        ("poll_external", "file_sd", "[3]"),
        ("poll_external", "file_sd", "\"targets/*\""),
        ("poll_external", "file_sd", "[\"targets/.json\"]"),
        ("poll_external", "file_sd", "[\"*/a.json\"]"),
        ("poll_external", "file_sd", "[{ files = [] }]"),
        (
            "poll_external",
            "file_sd",
            "[{ files = [\"a.yml\"], targets = { metrics_path = \"m\" } }]",
        ),
        (
            "poll_external",
            "file_sd",
            "[{ files = [\"a.yml\"], targets = { scheme = \"ftp\" } }]",
        ),
        (
            "poll_external",
            "http_sd",
            "[{ refresh_interval = \"1m\" }]",
        ),
        ("poll_external", "http_sd", "[{ url = \"ftp://a/\" }]"),
        (
            "poll_external",
            "http_sd",
            "[{ url = \"http://a/\", refresh_interval = 0 }]",
        ),
        ("poll_external", "dns_sd", "[{ type = \"SRV\" }]"),
        ("poll_external", "dns_sd", "[{ names = [\"a b\"] }]"),
        (
            "poll_external",
            "dns_sd",
            "[{ names = [\"a\"], type = \"MX\" }]",
        ),
        (
            "poll_external",
            "dns_sd",
            "[{ names = [\"a\"], type = \"A\" }]",
        ),
        (
            "poll_external",
            "dns_sd",
            "[{ names = [\"a\"], port = 70000 }]",
        ),
        (
            "poll_external",
            "dns_sd",
            "[{ names = [\"a\"], server = \"localhost\" }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", labels = { le = \"1\" } }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", labels = { \"a b\" = \"1\" } }]",
        ),
        ("poll_external", "targets", "[3]"),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", interval = 0 }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", timeout = 0 }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", name = \"\" }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", ca_file = \"/no/such\" }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", headers = { \"a b\" = \"c\" } }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", headers = { a = \"\\n\" } }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", basic_auth = \"me\" }]",
        ),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", bearer_token_file = 1 }]",
        ),
        ("poll_external", "targets", "[{ name = \"a\" }]"),
        (
            "poll_external",
            "targets",
            "[{ url = \"http://a\", urls = \"b\" }]",
        ),
    ];
    for (table, key, value) in cases {
        let found = faults(&format!("[{table}]\n{key} = {value}\n"));
        assert_eq!(found.len(), 1, "{table}.{key} = {value}: {found:?}");
        assert!(found[0].starts_with("test.toml:2:"), "{found:?}");
    }
}

#[test]
fn variables_override_the_file() {
    let config = read_with(
        "[exporter]\nworker_threads = 2\n[receiver]\nformat = \"json\"\n",
        &[
            ("EXPORTER_PROXY_EXPORTER_WORKER_THREADS", "4"),
            ("EXPORTER_PROXY_RECEIVER_FORMAT", "capnp"),
            ("EXPORTER_PROXY_RECEIVER_RECEIVE_ON_UNIX_SOCKET", "false"),
            ("EXPORTER_PROXY_RECEIVER_APP_TTL", "90s"),
            ("EXPORTER_PROXY_RECEIVER_MAX_PAYLOAD", "1MiB"),
            ("EXPORTER_PROXY_RECEIVER_UNIX_SOCKET_MODE", "0600"),
            ("EXPORTER_PROXY_POLL_EXTERNAL_POLL_INTERVAL", "0.5"),
            (
                "EXPORTER_PROXY_POLL_EXTERNAL_OTHER_SCRAPE_ENDPOINTS",
                "http://a:1/m, http://b:2/m",
            ),
            (
                "EXPORTER_PROXY_POLL_EXTERNAL_TARGETS",
                "[{ url = \"http://c:3/m\", name = \"c\" }]",
            ),
            ("UNRELATED", "x"),
        ],
    );
    assert_eq!(config.exporter.worker_threads, 4);
    assert_eq!(config.receiver.format, Format::Capnp);
    assert!(!config.receiver.receive_on_unix_socket);
    assert_eq!(config.receiver.app_ttl, Some(Duration::from_secs(90)));
    assert_eq!(config.receiver.max_payload, 1 << 20);
    assert_eq!(config.receiver.unix_socket_mode, SocketMode(0o600));
    let names: Vec<&str> = config
        .poll_external
        .targets
        .iter()
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(names, ["external_poll: a:1", "external_poll: b:2", "c"]);
    assert_eq!(
        config.poll_external.targets[2].settings.interval,
        Schedule::Every(Duration::from_millis(500))
    );
}

#[test]
fn an_error_in_a_variable_names_it() {
    let found = faults_with("", &[("EXPORTER_PROXY_RECEIVER_FORMATT", "json")]);
    assert_eq!(
        found,
        [
            "environment variable EXPORTER_PROXY_RECEIVER_FORMATT: unknown key `receiver.formatt`; did you mean `receiver.format`?"
        ]
    );
    let found = faults_with("", &[("EXPORTER_PROXY_EXPORTER_OWN_METRICS", "maybe")]);
    assert_eq!(
        found,
        [
            "environment variable EXPORTER_PROXY_EXPORTER_OWN_METRICS: `exporter.own_metrics` must be true or false, not \"maybe\""
        ]
    );
}

#[test]
fn a_variable_without_a_table_is_a_warning_unless_kubernetes_sets_it() {
    let environment = [
        ("EXPORTER_PROXY_CONFIG".to_owned(), "x".to_owned()),
        (
            "EXPORTER_PROXY_SERVICE_HOST".to_owned(),
            "10.0.0.1".to_owned(),
        ),
        (
            "EXPORTER_PROXY_RECEIVER_PORT".to_owned(),
            "tcp://10.0.0.1:6554".to_owned(),
        ),
        (
            "EXPORTER_PROXY_PORT_6555_TCP_ADDR".to_owned(),
            "10.0.0.1".to_owned(),
        ),
    ];
    let (_, warnings) = settle("test.toml", "", environment).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("EXPORTER_PROXY_CONFIG"),
        "{warnings:?}"
    );
}
