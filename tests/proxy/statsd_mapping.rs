//! Rules for StatsD names, from statsd_exporter's mapping file, and `exporter-proxy statsd-map`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Output;

use tempfile::tempdir;

use crate::harness::{Proxy, output_of, program};
use crate::operations::bench;
use crate::reload::{reload, try_reload};

const MAPPING: &str = "
defaults:
  ttl: 1h
mappings:
- match: shop.*.orders
  name: shop_orders_total
  help: Orders by shop.
  labels: {shop: $1, kind: rule}
- match: shop.*.time
  name: shop_seconds
  scale: 10
  observer_type: histogram
  histogram_options: {buckets: [1, 5]}
  labels: {shop: $1}
- match: shop.*.kept
  name: kept_total
  honor_labels: true
  labels: {shop: $1}
- match: debug.*
  action: drop
- match: 'web\\.(\\w+)-(\\d+)\\.hits'
  match_type: regex
  name: ${1}_hits_total
  labels: {server: $2}
";

fn mapped(mapping: &str, more: &str) -> (crate::operations::Bench, tempfile::TempDir) {
    let dir = tempdir().unwrap();
    let file = dir.path().join("mapping.yml");
    fs::write(&file, mapping).unwrap();
    let bench = bench(&format!("statsd_mapping = {file:?}\n{more}"));
    (bench, dir)
}

#[test]
fn rules_give_lines_families_labels_and_buckets() {
    let (bench, _dir) = mapped(MAPPING, "");
    let lines = b"shop.paris.orders:2|c|#kind:tag,size:big\nshop.paris.orders:1|c\n\
        shop.paris.time:200|ms\nshop.paris.kept:1|c|#shop:tag\nshop.rome.kept:1|c\n\
        debug.x:1|c\ndebug.y:oops|c\nweb.front-7.hits:1|c\nother.name--x:5|g\n";
    assert_eq!(bench.send(lines), "");
    for (series, value) in [
        (
            "shop_orders_total{kind=\"rule\",shop=\"paris\",size=\"big\"}",
            2.0,
        ),
        ("shop_orders_total{kind=\"rule\",shop=\"paris\"}", 1.0),
        ("shop_seconds_bucket{le=\"1\",shop=\"paris\"}", 0.0),
        ("shop_seconds_bucket{le=\"5\",shop=\"paris\"}", 1.0),
        ("shop_seconds_sum{shop=\"paris\"}", 2.0),
        ("kept_total{shop=\"tag\"}", 1.0),
        ("kept_total{shop=\"rome\"}", 1.0),
        ("front_hits_total{server=\"7\"}", 1.0),
        ("other_name_x", 5.0),
        ("exporter_proxy_statsd_mapping_rules", 5.0),
        ("exporter_proxy_statsd_mapping_cached_names", 8.0),
        (
            "exporter_proxy_statsd_mapping_lines_total{result=\"mapped\"}",
            6.0,
        ),
        (
            "exporter_proxy_statsd_mapping_lines_total{result=\"dropped\"}",
            2.0,
        ),
        (
            "exporter_proxy_statsd_mapping_lines_total{result=\"unmapped\"}",
            1.0,
        ),
        (
            "exporter_proxy_statsd_mapping_cache_lookups_total{result=\"hit\"}",
            1.0,
        ),
        (
            "exporter_proxy_statsd_mapping_cache_lookups_total{result=\"miss\"}",
            8.0,
        ),
    ] {
        assert_eq!(bench.proxy.sample(series), Some(value), "{series}");
    }
    assert_eq!(bench.results("unix", "ok"), 9.0);
    let page = bench.proxy.metrics();
    assert!(
        page.contains("# HELP shop_orders_total Orders by shop.\n"),
        "{page}"
    );
    assert!(!page.contains("debug"), "{page}");
}

#[test]
fn a_line_that_is_rejected_is_counted_once_and_spoils_no_other() {
    let (bench, _dir) = mapped(MAPPING, "");
    let answer = bench
        .send(b"shop.a.orders:1|c\nshop.a.orders:-1|c\nshop.b.orders:1|g\nshop.b.orders:1|c\n");
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("message 2: a counter cannot go down")),
        "{answer}"
    );
    assert!(
        lines.iter().any(|line| line.contains("message 3: ")),
        "{answer}"
    );
    bench.comes_to("shop_orders_total{kind=\"rule\",shop=\"b\"}", 1.0);
    let mapped = "exporter_proxy_statsd_mapping_lines_total{result=\"mapped\"}";
    assert_eq!(bench.proxy.sample(mapped), Some(4.0));
}

#[test]
fn timers_are_summaries_unless_rules_say_otherwise() {
    let rules = "
mappings:
- match: q.*
  name: q_seconds
  labels: {q: $1}
  summary_options: {quantiles: [{quantile: 0.5}, {quantile: 1}]}
";
    let (bench, _dir) = mapped(rules, "");
    let lines: String = (1..=100)
        .map(|ms| format!("q.a:{ms}|ms\nplain:{ms}|h\n"))
        .collect();
    assert_eq!(bench.send(lines.as_bytes()), "");
    assert_eq!(bench.send(b"q.b:2000|ms|@0.1\n"), "");
    let value = |series: &str| {
        bench
            .proxy
            .sample(series)
            .unwrap_or_else(|| panic!("{series}"))
    };
    for (series, expected) in [
        ("q_seconds{q=\"a\",quantile=\"0.5\"}", 0.05),
        ("q_seconds{q=\"a\",quantile=\"1\"}", 0.1),
        ("q_seconds_sum{q=\"a\"}", 5.05),
        ("q_seconds{q=\"b\",quantile=\"0.5\"}", 2.0),
        ("q_seconds_count{q=\"b\"}", 10.0),
        ("q_seconds_sum{q=\"b\"}", 20.0),
        ("plain{quantile=\"0.5\"}", 50.0),
        ("plain{quantile=\"0.9\"}", 90.0),
        ("plain{quantile=\"0.99\"}", 99.0),
        ("plain_count", 100.0),
    ] {
        let found = value(series);
        assert!(
            (found - expected).abs() <= 0.025 * expected,
            "{series} {found}"
        );
    }
    let page = bench.proxy.metrics();
    assert!(page.contains("# TYPE q_seconds summary\n"), "{page}");
    // A change also shows in the quantiles, where the previous text is patched.
    let lines = "q.a:900|ms\n".repeat(300);
    assert_eq!(bench.send(lines.as_bytes()), "");
    let median = value("q_seconds{q=\"a\",quantile=\"0.5\"}");
    assert!((median - 0.9).abs() <= 0.02, "{median}");
    // Values of aggregating pushes cannot be added to quantiles.
    assert_eq!(
        bench
            .send(b"{\"name\":\"q_seconds\",\"op\":\"obs\",\"value\":1}\n")
            .lines()
            .count(),
        1
    );
}

#[test]
fn series_expire_by_their_rules() {
    let rules = "
mappings:
- {match: short.*, name: short_total, ttl: 50ms, labels: {l: $1}}
- {match: long.*, name: long_total, labels: {l: $1}}
";
    let (bench, _dir) = mapped(rules, "");
    assert_eq!(bench.send(b"short.a:1|c\nlong.a:1|c\n"), "");
    crate::harness::eventually(
        || bench.proxy.sample("short_total{l=\"a\"}"),
        Option::is_none,
    );
    assert_eq!(bench.proxy.sample("long_total{l=\"a\"}"), Some(1.0));
}

#[test]
fn a_mapping_is_reloaded_whole_or_not_at_all() {
    let dir = tempdir().unwrap();
    let (file, socket) = (dir.path().join("mapping.yml"), dir.path().join("o.sock"));
    let config = format!(
        "[push]\nlisten = \"127.0.0.1:0\"\nenable_lifecycle = true\n[operations]\nunix_sockets = [{socket:?}]\nstatsd_mapping = {file:?}\nstatsd_mapping_cache = 0\n"
    );
    fs::write(&file, "mappings:\n- {match: a.*, name: first_total}\n").unwrap();
    let proxy = Proxy::start(&config);
    let send = |line: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert_eq!(answer, "");
    };
    send("a.x:1|c\n");
    fs::write(
        &file,
        "mappings:\n- {match: a.*, name: second_total}\n- {match: b, name: 9}\n",
    )
    .unwrap();
    let answer = try_reload(&proxy, &config).text();
    assert!(answer.contains("mapping.yml:3:"), "{answer}");
    assert!(
        answer.contains("rule 2: name must have letters"),
        "{answer}"
    );
    send("a.x:1|c\n");
    assert_eq!(proxy.sample("first_total"), Some(2.0));
    fs::write(&file, "mappings:\n- {match: a.*, name: second_total}\n").unwrap();
    reload(&proxy, &config);
    send("a.x:1|c\n");
    assert_eq!(proxy.sample("second_total"), Some(1.0));
    assert_eq!(proxy.sample("first_total"), Some(2.0));
    assert_eq!(
        proxy.sample("exporter_proxy_statsd_mapping_cached_names"),
        Some(0.0)
    );
    let cached = config.replace("statsd_mapping_cache = 0", "statsd_mapping_cache = 100");
    reload(&proxy, &cached);
    send("a.x:1|c\na.y:1|c\n");
    assert_eq!(
        proxy.sample("exporter_proxy_statsd_mapping_cached_names"),
        Some(2.0)
    );
}

fn statsd_map(directory: &Path, arguments: &[&str], lines: &str) -> Output {
    let mut command = program();
    command.current_dir(directory).arg("statsd-map");
    output_of(command.args(arguments), lines)
}

#[test]
fn the_command_shows_what_becomes_of_each_line() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("mapping.yml"), MAPPING).unwrap();
    fs::write(
        dir.path().join("config.toml"),
        "[operations]\nunix_sockets = [\"o.sock\"]\nstatsd_mapping = \"mapping.yml\"\nttl = \"1m\"\n",
    )
    .unwrap();
    let lines = "shop.paris.orders:2|c|@0.5|#size:big\nshop.a.time:20|ms|@0.1\ndebug.a:1|c\n\nx.y:+1|g\nusers.web:ann|s\nbad\n";
    let expected = "shop.paris.orders:2|c|@0.5|#size:big\n  rule 1: counter shop_orders_total{kind=\"rule\",shop=\"paris\",size=\"big\"}: add 4, ttl 3600s, help \"Orders by shop.\"\n\
        shop.a.time:20|ms|@0.1\n  rule 2: histogram shop_seconds{shop=\"a\"}: observe 0.2 10 times, buckets [1.0, 5.0], native buckets of schema 3, at most 256, ttl 3600s\n\
        debug.a:1|c\n  rule 4: dropped\n\
        x.y:+1|g\n  no rule: gauge x_y: add 1, ttl 3600s\n\
        users.web:ann|s\n  no rule: gauge users_web: distinct values, with \"ann\"\n\
        bad\n  rejected: expected a JSON object or a line such as name:1|c, not \"bad\" (malformed)\n";
    for arguments in [&["mapping.yml"][..], &[]] {
        let output = statsd_map(dir.path(), arguments, lines);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        let problem = String::from_utf8(output.stderr).unwrap();
        assert!(problem.contains("1 value is rejected"), "{problem}");
        assert_eq!(output.status.code(), Some(1));
    }
    // With both, the file has the rules and the configuration everything else.
    fs::write(
        dir.path().join("plain.toml"),
        "[operations]\nunix_sockets = [\"o.sock\"]\nstatsd_tags = []\n",
    )
    .unwrap();
    let line = "hits:1|c|#env:prod\n";
    for (arguments, series) in [
        (&["mapping.yml"][..], "hits{env=\"prod\"}"),
        (&["mapping.yml", "-c", "plain.toml"], "hits"),
    ] {
        let output = statsd_map(dir.path(), arguments, line);
        let expected = format!("{line}  no rule: counter {series}: add 1, ttl 3600s\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    let output = statsd_map(dir.path(), &["mapping.yml", "-c", "none.toml"], line);
    assert_eq!(output.status.code(), Some(78));
    fs::write(
        dir.path().join("bad.yml"),
        "mappings:\n- {match: a, nam: b}\n",
    )
    .unwrap();
    let output = statsd_map(dir.path(), &["bad.yml"], "");
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(problem.starts_with("bad.yml:2:"), "{problem}");
    assert!(problem.contains("nam"), "{problem}");
    assert_eq!(output.status.code(), Some(1));
}
