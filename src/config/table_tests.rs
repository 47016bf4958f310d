//! Settings of single tables: targets, sinks, pushes, operations.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{faults, faults_with, read, read_with};
use super::*;
use crate::http::listen::HttpListeners;
use crate::ingest::config::{Policy, PushMode};
use crate::inputs::operations::config::BucketBounds;
use crate::settings::Address;
use crate::settings::listen::Listen;

#[test]
fn targets_on_one_port_have_their_path_in_their_names() {
    let config = read(
        "[poll_external]\nother_scrape_endpoints = [\"http://h:1/a\", \"http://h:1/b?c=d\", \"https://h/\", \"unix:///run/x.sock:/metrics\"]\n",
    );
    let names: Vec<&str> = config
        .poll_external
        .targets
        .iter()
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "external_poll: h:1/a",
            "external_poll: h:1/b?c=d",
            "external_poll: h:443",
            "external_poll: /run/x.sock"
        ]
    );
}

#[test]
fn two_targets_with_one_name_are_rejected() {
    let found =
        faults("[poll_external]\nother_scrape_endpoints = [\"http://h:1/a\", \"http://h:1/a\"]\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains(
            "duplicate target name \"external_poll: h:1/a\", first used at test.toml:2:27"
        ),
        "{found:?}"
    );
    // All items of a variable are in one place.
    let urls = "http://h:1/a,http://h:1/a";
    let found = faults_with(
        "",
        &[("EXPORTER_PROXY_POLL_EXTERNAL_OTHER_SCRAPE_ENDPOINTS", urls)],
    );
    assert!(found[0].contains("duplicate target name"), "{found:?}");
}

#[test]
fn a_target_without_settings_has_those_of_a_target_that_sets_the_defaults() {
    let config = read(
        "[poll_external]\npoll_interval = 7\n\
         [[poll_external.targets]]\nname = \"a\"\nurl = \"http://h/\"\n\
         [[poll_external.targets]]\nname = \"b\"\nurl = \"http://h/\"\ninterval = 7\nparams = {}\n\
         labels = {}\nhonor_labels = false\n",
    );
    let [plain, set] = &config.poll_external.targets[..] else {
        panic!("there are two targets");
    };
    assert_eq!((&plain.url, &plain.labels), (&set.url, &set.labels));
    assert!(Arc::ptr_eq(&plain.settings, &set.settings));
}

#[test]
fn discoveries_say_where_targets_are_and_how_they_are_polled() {
    let config = read(
        "[poll_external]\npoll_interval = \"15s\"\nmax_targets = 7\n\
         file_sd = [\"targets/*.json\", { files = [\"/etc/a.yml\"], targets = { interval = \"1m\", \
         scheme = \"https\", labels = { env = \"prod\" }, honor_labels = true } }]\n\
         http_sd = [{ url = \"https://me:pw@sd/list?token=hush\", refresh_interval = \"2m\", \
         basic_auth = { username = \"u\", password = \"hush\" } }]\n\
         dns_sd = [{ names = [\"_m._tcp.example.com\"] }, { names = [\"a.b\"], type = \"AAAA\", \
         port = 9100, server = \"[::1]:53\", refresh_interval = 5 }]\n",
    );
    let poll = &config.poll_external;
    let found = &poll.discoveries;
    assert_eq!(poll.max_targets, 7);
    let intervals = found
        .file_sd
        .iter()
        .map(|it| it.targets.settings.interval.every());
    assert!(intervals.eq([15, 60].map(|it| Some(Duration::from_secs(it)))));
    let names: Vec<(String, String)> = found
        .all()
        .map(|(name, discovery)| (name, discovery.source()))
        .collect();
    let names = names.iter().map(|(name, source)| (&**name, &**source));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            ("file_sd[0]", "targets/*.json"),
            ("file_sd[1]", "/etc/a.yml"),
            ("http_sd[0]", "https://***@sd/list?token=***"),
            ("dns_sd[0]", "_m._tcp.example.com"),
            ("dns_sd[1]", "a.b"),
        ]
    );
    assert_eq!(found.http_sd[0].timeout, Duration::from_secs(10));
    assert_eq!(found.dns_sd[1].refresh_interval, Duration::from_secs(5));
    let printed = config.to_toml();
    assert!(
        !printed.contains("hush") && !printed.contains("pw@"),
        "{printed}"
    );
    // Settings without secrets read back unchanged.
    let plain = read(
        "[poll_external]\nfile_sd = \"a/*.yaml\"\ndns_sd = [{ names = [\"a\"], type = \"A\", port = 1 }]\n\
         textfile = [\"/a\", { directories = [\"/b\"], targets = { interval = \"scrape\", sample_limit = 5 } }]\n\
         targets = [{ url = \"http://a/\", labels = { b = \"c\\\"d\" }, params = { x = [\"1\", \"2\"] }, \
         interval = \"scrape\", label_limit = 3, body_size_limit = \"1KiB\" }]\n",
    );
    assert_eq!(read(&plain.to_toml()), plain);
    let found = faults(
        "[poll_external]\nmax_targets = 1\ntargets = [{ url = \"http://a/\" }, { url = \"http://b/\" }]\n",
    );
    assert_eq!(
        found,
        ["test.toml:3:11: 2 targets are configured; `poll_external.max_targets` is 1"]
    );
}

#[test]
fn a_target_has_its_own_settings() {
    let config = read(
        "[[poll_external.targets]]\nurl = \"http://me:pw@h:1/a\"\nname = \"db\"\ninterval = \"1m\"\ntimeout = 1.5\nstale_after = 0\nheaders = { X-Scope = \"t\" }\nbasic_auth = { username = \"u\", password = \"secret\" }\n",
    );
    let target = &config.poll_external.targets[0];
    assert_eq!(target.name, "db");
    let every = target.settings.interval.every();
    assert_eq!(every, Some(Duration::from_secs(60)));
    assert_eq!(target.settings.timeout, Duration::from_millis(1500));
    assert_eq!(target.settings.stale_after, Duration::ZERO);
    assert_eq!(
        target
            .settings
            .requests
            .credentials
            .basic_auth
            .as_ref()
            .unwrap()
            .password
            .as_ref()
            .unwrap()
            .reveal(),
        "secret"
    );

    let printed = config.to_toml();
    for secret in ["secret", "pw@", "\"t\""] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("http://***@h:1/a"), "{printed}");
}

#[test]
fn sinks_are_tables_with_a_type() {
    let text = "[sinks.far]\ntype = \"operations\"\nurl = \"udp://h:1\"\nmax_queue = \"1MiB\"\n";
    let config = read(text);
    let sink = &config.sinks.0["far"];
    assert_eq!(sink.settings.kind(), "operations");
    assert_eq!(sink.queue.max_queue, 1 << 20);
    assert_eq!(read(&config.to_toml()), config);
    let variable = "{ type = \"operations\", url = \"udp://h:1\", max_queue = \"1MiB\" }";
    let from_variable = read_with("", &[("EXPORTER_PROXY_SINKS_FAR", variable)]);
    assert_eq!(from_variable.sinks, config.sinks);

    for (text, words) in [
        ("[sinks.a]\n", "test.toml:1:1: `sinks.a` needs a `type`"),
        ("[sinks.a]\ntype = \"x\"\n", "must be one of \"operations\""),
        (
            "[sinks.a]\ntype = \"operations\"\n",
            "`sinks.a` needs a `url`",
        ),
        ("[sinks]\na = 1\n", "`sinks.a` must be a table"),
        (
            "[sinks.\"a b\"]\ntype = \"operations\"\nurl = \"tcp://h:1\"\n",
            "the name of a sink must have",
        ),
        (
            "[sinks.a]\ntype = \"operations\"\nurl = \"tcp://h:1\"\nmax_que = 1\n",
            "did you mean `sinks.a.max_queue`?",
        ),
        (
            "[operations]\nforward_to = \"tcp://h:1\"\n\
             [sinks.a]\ntype = \"operations\"\nurl = \"tcp://h:2\"\n",
            "forwarded to one destination, and test.toml:2:14 has another",
        ),
        (
            "[operations]\nforward_to = \"tcp://h:1\"\n\
             [sinks.operations]\ntype = \"loki\"\nurl = \"http://h:2\"\n",
            "makes a sink of this name",
        ),
        (
            "[operations]\nforward_keep = true\n",
            "test.toml:2:16: `operations.forward_keep` has no effect",
        ),
        (
            "[operations]\nforward_raw = true\n[sinks.a]\ntype = \"loki\"\nurl = \"http://h:2\"\n",
            "test.toml:2:15: `operations.forward_raw` has no effect",
        ),
        (
            "[operations]\nforward_queue = 7\n[sinks.a]\ntype = \"operations\"\nurl = \"tcp://h:2\"\n",
            "`operations.forward_queue` has no effect: `sinks.a.max_queue` limits the \
             queue",
        ),
        (
            "[operations]\ntcp = \"127.0.0.1:7\"\n\
             [sinks.a]\ntype = \"operations\"\nurl = \"tcp://127.0.0.1:7\"\n",
            "this program's own socket",
        ),
    ] {
        let found = faults(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(words), "{found:?}");
    }
}

#[test]
fn push_settings_come_from_file_and_environment() {
    let config = read_with(
        "[push]\ngroup_ttl = \"1h\"\ncors_origins = [\"https://A.example\"]\n\
         [[push.rules]]\nmatch = \"jobs_*\"\npolicy = \"max\"\n\
         [[push.rules]]\nmatch = \"*\"\ndrop_labels = [\"pod\"]\n",
        &[
            ("EXPORTER_PROXY_PUSH_LISTEN", "unix:/run/p.sock"),
            ("EXPORTER_PROXY_PUSH_MAX_GROUPS", "7"),
            ("EXPORTER_PROXY_PUSH_MODE", "aggregate"),
            ("EXPORTER_PROXY_PUSH_ENABLE_ADMIN_API", "true"),
        ],
    );
    let push = &config.push;
    let listener = Listen::Unix("/run/p.sock".into());
    assert_eq!(push.listen, HttpListeners::one(listener));
    assert_eq!(push.groups.max_groups, 7);
    assert_eq!(push.groups.mode, PushMode::Aggregate);
    assert!(push.groups.enable_admin_api && !push.groups.enable_lifecycle);
    assert_eq!(push.groups.group_ttl, Duration::from_secs(3600));
    assert_eq!(push.requests.cors_origins, ["https://a.example"]);
    let rules: Vec<_> = push
        .aggregation
        .rules
        .iter()
        .map(|rule| (rule.pattern.as_str(), rule.policy, rule.drop_labels.len()))
        .collect();
    assert_eq!(rules, [("jobs_*", Some(Policy::Max), 0), ("*", None, 1)]);
    assert_eq!(read(&config.to_toml()), config);
}

#[test]
fn operations_settings_come_from_file_and_environment() {
    let config = read_with(
        "[operations]\nudp = \":9999\"\nunix_sockets = [\"/run/a.sock\"]\nttl = \"1d\"\n\
         forward_to = \"tcp://far:9998\"\n[operations.extra_labels]\nsite = \"x\"\n",
        &[
            ("EXPORTER_PROXY_OPERATIONS_TCP", "127.0.0.1:9998"),
            (
                "EXPORTER_PROXY_OPERATIONS_UNIX_DATAGRAM_SOCKETS",
                "/run/b.sock, /run/c.sock",
            ),
            ("EXPORTER_PROXY_OPERATIONS_STATSD_BUCKETS", "0.1, 1"),
        ],
    );
    let operations = &config.operations;
    assert_eq!(operations.udp, Some(Address::new("0.0.0.0", 9999)));
    assert_eq!(operations.tcp, Some(Address::new("127.0.0.1", 9998)));
    assert_eq!(operations.unix_sockets.len(), 1);
    assert_eq!(operations.unix_datagram_sockets.len(), 2);
    assert_eq!(operations.statsd_buckets, BucketBounds(vec![0.1, 1.0]));
    assert_eq!(operations.ttl, Duration::from_secs(86_400));
    assert_eq!(operations.extra_labels["site"], "x");
    assert!(operations.is_on() && !Config::default().operations.is_on());
    assert_eq!(read(&config.to_toml()), config);
}

#[test]
fn operations_are_not_forwarded_to_their_own_listener() {
    for (own, to, key) in [
        ("tcp = \"a:1\"", "tcp://a:1", "tcp"),
        ("udp = \"a:1\"", "udp://a:1", "udp"),
        ("unix_sockets = [\"/a\"]", "unix:///a", "unix_sockets"),
        (
            "unix_datagram_sockets = [\"/a\"]",
            "unixgram:///a",
            "unix_datagram_sockets",
        ),
    ] {
        let found = faults(&format!("[operations]\n{own}\nforward_to = {to:?}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let words = format!("own `operations.{key}`");
        assert!(found[0].contains(&words), "{found:?}");
    }
}

#[test]
fn printed_settings_read_back_the_same() {
    let config = read(
        "[exporter]\nworker_threads = 3\n[receiver]\napp_ttl = \"90s\"\nunix_socket_user = 7\nmax_payload = 12345\nidle_timeout = 0.25\n[poll_external]\nother_scrape_endpoints = [\"http://h:1/a\", \"unix:///run/x.sock:/metrics\"]\n",
    );
    assert_eq!(read(&config.to_toml()), config);
    assert_eq!(read(&Config::default().to_toml()), Config::default());
    let config = read(
        "[[web.access]]\nrole = \"write\"\nunix_group = 7\nlisteners = [\"receiver\"]\napps = [\"a*\"]\n\
         [web.access.labels]\njob = \"b*\"\n\
         [[web.access]]\nrole = [\"read\", \"write\"]\nallow_from = [\"10.0.0.0/8\", \"::1\"]\n\
         [[web.access]]\nrole = \"admin\"\nclient_name = \"*.example\"\n\
         [[web.access]]\nrole = \"admin\"\nunix_user = \"current_user\"\n",
    );
    assert_eq!(config.web.security.access.len(), 4);
    assert_eq!(read(&config.to_toml()), config);
}

#[test]
fn an_explicit_proxy_and_that_of_the_environment_exclude_each_other() {
    let poll = read("[poll_external]\nproxy_url = \"http://a:1\"\n").poll_external;
    assert_eq!(poll.proxy_url.unwrap().0.as_str(), "http://a:1/");
    assert!(!poll.proxy_from_environment);
    let found =
        faults("[poll_external]\nproxy_from_environment = true\nproxy_url = \"http://a:1\"\n");
    assert_eq!(
        found,
        [
            "test.toml:3:13: `poll_external.proxy_url` and `poll_external.proxy_from_environment` exclude each other; set one of them"
        ]
    );
}

#[test]
fn secrets_in_urls_are_redacted_in_names_and_printed_settings() {
    let config = read(
        "[poll_external]\nproxy_url = \"http://ada:hush@a:1\"\nother_scrape_endpoints = [\n\
         \"http://h:1/a?token=hush&x=1\", \"http://h:1/b\", \"http://ada:hush@i/\",\n\
         \"unix:///x.sock:/m?sig=hush\", \"unix:///x.sock:/n\"]\n",
    );
    let shown = format!("{config:?}\n{}", config.to_toml());
    assert!(!shown.contains("hush"), "{shown}");
    for text in [
        "\"external_poll: h:1/a?token=***&x=1\"",
        "http://***@i/",
        "unix:///x.sock:/m?sig=***",
    ] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    let found = faults(
        "[poll_external]\nother_scrape_endpoints = [\"http://h/a?token=hush\",\n\"http://h/a?token=hush2\"]\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("set another `name`") && !found[0].contains("hush"),
        "{found:?}"
    );
}
