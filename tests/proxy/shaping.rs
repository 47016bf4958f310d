//! `[[shape]]` and `push.timestamps`: labels, rules and tolerant reading, for each input and mode.

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};

use crate::harness::{Proxy, eventually};
use crate::operations::bench;
use crate::reload::{reload, try_reload};
use crate::support::logged;
use crate::upstream::{Upstream, ok, reply};

const RULES: &str = r#"
[[shape]]
labels = { env = "eu" }
drop = ["go_*"]
metric_relabel = [
  { source_labels = ["__name__"], regex = "old_(.*)", target_label = "__name__", replacement = "new_$1" },
  { action = "labeldrop", regex = "pod" },
  { action = "drop", source_labels = ["path"], regex = "/health" },
]
"#;

const TEXT: &str = "# TYPE old_total counter\nold_total{pod=\"p\"} 1\n# TYPE go_x gauge\ngo_x 2\n\
                    # TYPE hits gauge\nhits{path=\"/health\"} 3\nhits{path=\"/\"} 4\n";

/// The result for [`TEXT`], without the expected labels.
const SHAPED: [&str; 2] = ["new_total{env=\"eu\"} 1", "hits{env=\"eu\",path=\"/\"} 4"];

fn start(mode: &str, more: &str) -> Proxy {
    let own = "[exporter]\nown_metrics = true\n";
    Proxy::start(&format!(
        "{own}[exposition]\nmode = \"{mode}\"\n{RULES}{more}"
    ))
}

fn shaped(proxy: &Proxy, result: &str) -> Option<f64> {
    proxy.sample(&format!(
        "exporter_proxy_shaped_samples_total{{result=\"{result}\"}}"
    ))
}

/// The lines of the output without the proxy's own metrics.
fn lines(proxy: &Proxy) -> Vec<String> {
    let metrics = proxy.metrics();
    let lines = metrics
        .lines()
        .filter(|line| !line.contains("exporter_proxy_"));
    lines.map(str::to_owned).collect()
}

fn json(name: &str, text: &str) -> String {
    serde_json::json!({ name: text }).to_string()
}

#[test]
fn texts_of_apps_are_shaped_in_both_modes() {
    for mode in ["verbatim", "merged"] {
        let proxy = start(mode, "");
        assert_eq!(proxy.push_tcp(json("app", TEXT).as_bytes()), "", "{mode}");
        let lines = eventually(|| lines(&proxy), |lines| !lines.is_empty());
        let total = ["# TYPE new_total counter", SHAPED[0]];
        let hits = ["# TYPE hits gauge", SHAPED[1]];
        let expected = match mode {
            "verbatim" => [total, hits],
            _ => [hits, total],
        };
        assert_eq!(lines, expected.concat(), "{mode}");
        assert_eq!(shaped(&proxy, "dropped"), Some(2.0), "{mode}");
        assert_eq!(shaped(&proxy, "changed"), Some(1.0), "{mode}");
    }
}

#[test]
fn targets_are_shaped() {
    for mode in ["verbatim", "merged"] {
        let upstream = Upstream::start(|_| ok(TEXT));
        let rule = "[[shape]]\ntargets = [\"one\"]\nlabels = { zone = \"z\" }\n\
                    metric_relabel = [{ source_labels = [\"zone\"], target_label = \"area\" }]\n";
        let target = format!(
            "[[poll_external.targets]]\nurl = \"http://{}/\"\nname = \"one\"\n",
            upstream.address
        );
        let proxy = start(mode, &[rule, &target].concat());
        let series = "hits{area=\"z\",env=\"eu\",path=\"/\",zone=\"z\"}";
        eventually(|| proxy.sample(series), |value| *value == Some(4.0));
        let sum = proxy.sample("new_total{area=\"z\",env=\"eu\",zone=\"z\"}");
        assert_eq!(sum, Some(1.0), "{mode}");
    }
}

#[test]
fn groups_are_shaped_and_keep_their_labels() {
    let rule = "[[shape]]\ngroups = ['{job=~\"b.*\"}']\nmetric_relabel = [{ source_labels = [\"job\"], target_label = \"from\" }, { action = \"labeldrop\", regex = \"job\" }]\n";
    let proxy = start("verbatim", rule);
    for job in ["batch", "other"] {
        let answer = proxy.push("PUT", &format!("/metrics/job/{job}"), TEXT);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let hits = |labels: &str| proxy.sample(&format!("hits{{env=\"eu\",{labels},path=\"/\"}}"));
    assert_eq!(
        hits("from=\"batch\",instance=\"\",job=\"batch\""),
        Some(4.0)
    );
    assert_eq!(hits("instance=\"\",job=\"other\""), Some(4.0));
    let metrics = proxy.metrics();
    assert!(metrics.contains("# TYPE new_total counter\n"), "{metrics}");
    assert!(!metrics.contains("go_x"), "{metrics}");
    assert!(!metrics.contains("/health"), "{metrics}");
    // Errors of the sender name the line in the original text.
    let bad = "go_a 1\ngo_b 2\nold_x{pod=\"a\"} wrong\n";
    let answer = proxy.push("PUT", "/metrics/job/batch", bad);
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(
        text.contains("line 3, column 16: expected a number"),
        "{text}"
    );
    // An error that shaping causes says so.
    let twice = "m{pod=\"a\"} 1\nm{pod=\"b\"} 2\n";
    let answer = proxy.push("PUT", "/metrics/job/batch", twice);
    assert_eq!(answer.status, 400);
    let text = answer.text();
    let expected = "after shaping ([[shape]]), line 2, column 1: expected each series once";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn added_values_are_shaped() {
    let proxy = start("verbatim", "");
    for _ in 0..2 {
        let answer = proxy.push("POST", "/metrics?mode=aggregate", TEXT);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(proxy.sample("new_total{env=\"eu\"}"), Some(2.0));
    assert!(!proxy.metrics().contains("go_x"));
}

#[test]
fn added_values_count_as_a_whole_or_not_at_all() {
    let proxy = Proxy::start("[exporter]\nown_metrics = true\n");
    let listener = format!("listeners = [{:?}]\n", proxy.push);
    for (already, condition) in [(0.0, ""), (1.0, &*listener)] {
        let entry = format!("[[shape]]\n{condition}lenient = true\n");
        reload(&proxy, &format!("[exporter]\nown_metrics = true\n{entry}"));
        let text = "# TYPE a counter\na 1\nbad{ 2\n";
        let answer = proxy.push("POST", "/metrics?mode=aggregate", text);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("line 3, column "));
        let metrics = proxy.metrics();
        assert_eq!(proxy.sample("a"), None, "{metrics}");
        let skipped = proxy.sample("exporter_proxy_skipped_lines_total");
        assert_eq!(skipped, Some(already));
        // The same entry reads pushes to groups tolerantly.
        assert_eq!(proxy.push("PUT", "/metrics/job/j", text).status, 200);
        assert_eq!(proxy.sample("a{instance=\"\",job=\"j\"}"), Some(1.0));
        assert_eq!(proxy.push("DELETE", "/metrics/job/j", "").status, 202);
    }
}

#[test]
fn operations_are_shaped() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ops.sock");
    let more = format!("[operations]\nunix_sockets = [{socket:?}]\n");
    let proxy = start("verbatim", &more);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"old_ops:2|c|#pod:x\ngo_ops:1|c\nhits_ops:1|g|#path:/health\nmembers:a|s|#pod:x\nold_ops:3|c|#pod:y\n")
        .unwrap();
    eventually(
        || proxy.sample("new_ops{env=\"eu\"}"),
        |value| *value == Some(5.0),
    );
    assert_eq!(proxy.sample("members{env=\"eu\"}"), Some(1.0));
    let metrics = proxy.metrics();
    assert!(!metrics.contains("go_ops"), "{metrics}");
    assert!(!metrics.contains("hits_ops"), "{metrics}");
}

#[test]
fn limits_of_operations_apply_to_shaped_series() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ops.sock");
    let proxy = start(
        "verbatim",
        &format!(
            "[[shape]]\nmetric_relabel = [{{ source_labels = [\"a\"], target_label = \"a\", replacement = \"$1$1\" }}]\n\
             [operations]\nunix_sockets = [{socket:?}]\nmax_labels = 2\n"
        ),
    );
    let mut stream = UnixStream::connect(&socket).unwrap();
    let long = "v".repeat(3000);
    let sent = format!("m:1|c|#a:1\nm:1|c|#a:1,b:2\nm:1|c|#a:{long}\n");
    stream.write_all(sent.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = std::io::read_to_string(stream).unwrap();
    assert_eq!(
        answers,
        "error: message 2: after shaping ([[shape]]), the series has 3 labels, and the limit is 2 \
         (operations.max_labels)\n\
         error: message 3: after shaping ([[shape]]), the name, or a label's name or value, has \
         more than 4096 bytes (operations.max_label_length)\n"
    );
    eventually(
        || lines(&proxy),
        |lines| lines.iter().any(|line| line == "m{a=\"11\",env=\"eu\"} 1"),
    );
}

#[test]
fn listeners_have_entries_of_their_own() {
    let bench = bench("");
    let proxy = &bench.proxy;
    let lists = fs::read_to_string(proxy.dir.path().join("config.toml")).unwrap();
    let entry = |listener: &str, input: &str| {
        format!("[[shape]]\nlisteners = [{listener:?}]\nlabels = {{ input = {input:?} }}\n")
    };
    let unix = proxy.unix.display().to_string();
    let datagrams = bench.datagrams.display().to_string();
    let entries = [
        (&*proxy.tcp, "tcp"),
        (&unix, "unix"),
        (&proxy.push, "push"),
        (&bench.udp, "udp"),
        (&datagrams, "datagrams"),
    ];
    let entries: String = entries.map(|(at, input)| entry(at, input)).concat();
    reload(proxy, &format!("{lists}\n{entries}"));
    assert_eq!(proxy.push_tcp(json("one", "m 1\n").as_bytes()), "");
    assert_eq!(proxy.push_unix(json("two", "m 2\n").as_bytes()), "");
    let answer = proxy.push("PUT", "/metrics/job/j", "m 3\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = proxy.push("POST", "/metrics?mode=aggregate", "n 4\n");
    assert_eq!(answer.status, 202, "{}", answer.text());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"ops:5|c", &bench.udp).unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    datagram.send_to(b"ops:6|c", &bench.datagrams).unwrap();
    assert_eq!(bench.send(b"ops:7|c\n"), "", "its stream has no entry");
    for (series, value) in [
        ("m{input=\"tcp\"}", 1.0),
        ("m{input=\"unix\"}", 2.0),
        ("m{input=\"push\",instance=\"\",job=\"j\"}", 3.0),
        ("n{input=\"push\"}", 4.0),
        ("ops{input=\"udp\"}", 5.0),
        ("ops{input=\"datagrams\"}", 6.0),
        ("ops", 7.0),
    ] {
        eventually(|| proxy.sample(series), |seen| *seen == Some(value));
    }
}

#[test]
fn a_reload_applies_entries_and_files_of_rules() {
    let proxy = Proxy::start("");
    let push = || {
        assert_eq!(proxy.push("PUT", "/metrics/job/j", TEXT).status, 200);
        proxy.metrics()
    };
    assert!(push().contains("go_x"));
    reload(&proxy, RULES);
    assert!(!push().contains("go_x"));
    let rules = proxy.dir.path().join("rules.yml");
    let entry = format!("[[shape]]\nmetric_relabel_file = {rules:?}\n");
    fs::write(
        &rules,
        "- {action: drop, source_labels: [__name__], regex: hits}\n",
    )
    .unwrap();
    reload(&proxy, &entry);
    let metrics = push();
    assert!(
        metrics.contains("go_x") && !metrics.contains("hits"),
        "{metrics}"
    );
    fs::write(&rules, "- {action: drop, regex: '('}\n").unwrap();
    let answer = try_reload(&proxy, &entry);
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(text.contains("rules.yml:1:25"), "{text}");
    assert!(!push().contains("hits"), "the rules before still apply");
}

/// OpenMetrics. A line with an exemplar is none of text 0.0.4.
const OPEN_METRICS: &str = "# TYPE served counter\nserved_total{pod=\"p\"} 1 # {trace=\"t\"} 0.5\n\
                            # TYPE go_x gauge\ngo_x 2\n# EOF\n";

#[test]
fn rules_reach_samples_with_exemplars_of_every_input() {
    let declared = "application/openmetrics-text; version=1.0.0";
    for mode in ["verbatim", "merged"] {
        let [typed, untyped] = [declared, "text/plain"].map(|content_type| {
            let headers = [("Content-Type", content_type)];
            Upstream::start(move |_| reply("200 OK", &headers, OPEN_METRICS.as_bytes()))
        });
        let target = |name: &str, upstream: &Upstream| {
            format!(
                "[[poll_external.targets]]\nurl = \"http://{}/\"\nname = \"{name}\"\n\
                 labels = {{ target = \"{name}\" }}\n",
                upstream.address
            )
        };
        let targets = target("typed", &typed) + &target("untyped", &untyped);
        let proxy = start(mode, &targets);
        assert_eq!(proxy.push_tcp(json("app", OPEN_METRICS).as_bytes()), "");
        let headers = [("Content-Type", declared)];
        let answer = proxy.push_with("PUT", "/metrics/job/j", &headers, OPEN_METRICS);
        assert_eq!(answer.status, 200, "{}", answer.text());
        // A verbatim text stays in its format, unless its sender declares OpenMetrics.
        let passed = match mode {
            "verbatim" => "1 # {trace=\"t\"} 0.5",
            _ => "1",
        };
        for expected in [
            format!("served_total{{env=\"eu\"}} {passed}"),
            format!("served_total{{env=\"eu\",target=\"untyped\"}} {passed}"),
            "served_total{env=\"eu\",target=\"typed\"} 1".to_owned(),
            "served_total{env=\"eu\",instance=\"\",job=\"j\"} 1".to_owned(),
        ] {
            eventually(|| lines(&proxy), |lines| lines.contains(&expected));
        }
        let lines = lines(&proxy);
        let is_missed = |line: &String| line.contains("pod=") || line.contains("go_x");
        assert!(!lines.iter().any(is_missed), "{mode}: {lines:?}");
        let unread = proxy.sample("exporter_proxy_unshaped_lines_total");
        assert_eq!(unread, Some(0.0), "{mode}");
    }
}

#[test]
fn patterns_name_counters_as_the_output_does() {
    let declared = [(
        "Content-Type",
        "application/openmetrics-text; version=1.0.0",
    )];
    for mode in ["verbatim", "merged"] {
        let upstream =
            Upstream::start(move |_| reply("200 OK", &declared, OPEN_METRICS.as_bytes()));
        let target = |name: &str, entry: &str| {
            format!(
                "[[poll_external.targets]]\nurl = \"http://{}/{name}\"\nname = \"{name}\"\n\
                 [[shape]]\ntargets = [\"{name}\"]\nlabels = {{ t = \"{name}\" }}\n{entry}\n",
                upstream.address
            )
        };
        let config = [
            target("kept", "keep = [\"served_total\"]"),
            target("dropped", "drop = [\"served_total\"]"),
            target("open", "keep = [\"served\"]"),
        ];
        let proxy = Proxy::start(&format!(
            "[exposition]\nmode = \"{mode}\"\n{}",
            config.concat()
        ));
        let expected = [
            "go_x{t=\"dropped\"} 2",
            "served_total{pod=\"p\",t=\"kept\"} 1",
            "served_total{pod=\"p\",t=\"open\"} 1",
        ];
        let samples = || {
            let mut samples = lines(&proxy);
            samples.retain(|line| !line.starts_with('#'));
            samples.sort();
            samples
        };
        eventually(samples, |samples| *samples == expected);
        let metrics = proxy.metrics();
        assert!(
            metrics.contains("# TYPE served_total counter\n"),
            "{metrics}"
        );
    }
}

#[test]
fn lines_that_rules_cannot_read_are_counted() {
    let proxy = start("verbatim", "");
    let text = "m{pod=\"p\"} 1 # {trace=\"t\"} 0.5\nhits{pod=\"p\"} 3\ngo_x{ 2\nn 4\n";
    assert_eq!(proxy.push_tcp(json("app", text).as_bytes()), "");
    let expected = [
        "m{env=\"eu\",pod=\"p\"} 1 # {trace=\"t\"} 0.5",
        "hits{env=\"eu\"} 3",
        "n{env=\"eu\"} 4",
    ];
    eventually(|| lines(&proxy), |lines| *lines == expected);
    let unread = || proxy.sample("exporter_proxy_unshaped_lines_total");
    assert_eq!(unread(), Some(1.0));
    // With tolerant reading, the line is left out.
    reload(
        &proxy,
        &format!("[exporter]\nown_metrics = true\n{RULES}lenient = true\n"),
    );
    assert_eq!(proxy.push_tcp(json("app", text).as_bytes()), "");
    eventually(|| lines(&proxy), |lines| *lines == expected[1..]);
    assert_eq!(unread(), Some(1.0));
}

#[test]
fn changes_to_operations_count_once_they_are_applied() {
    let bench = bench("");
    let proxy = &bench.proxy;
    let lists = fs::read_to_string(proxy.dir.path().join("config.toml")).unwrap();
    reload(proxy, &format!("{lists}\n{RULES}"));
    let counts = || [shaped(proxy, "changed"), shaped(proxy, "dropped")];
    assert_eq!(
        bench.send(b"old_n:1|c|#pod:p\ngo_x:1|c\nold_set:a|s|#pod:p\n"),
        ""
    );
    assert_eq!(proxy.sample("new_n{env=\"eu\"}"), Some(1.0));
    assert_eq!(counts(), [Some(2.0), Some(1.0)]);
    // A counter is no gauge, so the second operation is rejected alone.
    let answer = bench.send(b"old_n:1|c|#pod:p\nold_n:5|g|#pod:p\nold_n:1|c|#pod:p\n");
    assert!(answer.contains("new_n"), "{answer}");
    assert_eq!(proxy.sample("new_n{env=\"eu\"}"), Some(3.0));
    assert_eq!(counts(), [Some(4.0), Some(1.0)]);
    // Nor does one count that a later rule makes invalid.
    let rule =
        "[[shape]]\nmetric_relabel = [{ target_label = \"__name__\", replacement = \"\" }]\n";
    reload(proxy, &format!("{lists}\n{RULES}{rule}"));
    let answer = bench.send(b"old_n:1|c|#pod:p\n");
    let expected = "relabelling leaves new_n{env=\"eu\"} without a name (shape.metric_relabel)";
    assert!(answer.contains(expected), "{answer}");
    assert_eq!(counts(), [Some(4.0), Some(1.0)]);
}

const BAD: &str =
    "\u{feff}# TYPE good gauge\r\ngood 1\r\nbad{ 2\r\nalso_good{a=\"b\"} 3\r\ngood 4\r\n";

#[test]
fn good_lines_of_bad_texts_are_kept_if_the_settings_say_so() {
    for mode in ["verbatim", "merged"] {
        let config = format!(
            "[exposition]\nmode = \"{mode}\"\n[[shape]]\nlenient = true\ninputs = [\"apps\"]\ngroups = ['{{job=\"l\"}}']\n"
        );
        let proxy = Proxy::start(&config);
        assert_eq!(proxy.push_tcp(json("app", BAD).as_bytes()), "", "{mode}");
        eventually(|| proxy.sample("good"), |value| *value == Some(1.0));
        assert_eq!(proxy.sample("also_good{a=\"b\"}"), Some(3.0), "{mode}");
        let skipped = || proxy.sample("exporter_proxy_skipped_lines_total");
        assert_eq!(skipped(), Some(2.0), "{mode}");
        let line = "app \"app\": 2 lines were left out (shape.lenient); the first is line 3, column 6: \
                    expected a label name";
        logged(&proxy, line, 1);

        let answer = proxy.push("PUT", "/metrics/job/l", BAD);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(proxy.sample("good{instance=\"\",job=\"l\"}"), Some(1.0));
        assert_eq!(skipped(), Some(4.0), "{mode}");
        // Without any good sample, or for other senders, a bad text is rejected.
        assert_eq!(proxy.push("PUT", "/metrics/job/l", "<html>\n").status, 400);
        assert_eq!(proxy.push("PUT", "/metrics/job/strict", BAD).status, 400);
    }
}

#[test]
fn texts_of_targets_are_read_tolerantly_and_logged_when_the_reason_changes() {
    let twice = "good 1\nalso_good{a=\"b\"} 3\ngood 4\n";
    for mode in ["verbatim", "merged"] {
        let upstream = Upstream::start(|_| ok(BAD));
        let config = format!(
            "[exporter]\nown_metrics = true\n[exposition]\nmode = \"{mode}\"\n\
             [[poll_external.targets]]\nurl = \"http://{}/\"\nname = \"t\"\ninterval = \"50ms\"\n\
             [[shape]]\nlenient = true\ntargets = [\"t\"]\n",
            upstream.address
        );
        let proxy = Proxy::start(&config);
        let polled = || {
            let polls = proxy.sample("exporter_proxy_polls_total{result=\"ok\",target=\"t\"}");
            polls.unwrap_or_default()
        };
        let poll_thrice = || {
            let before = polled();
            eventually(polled, |polls| *polls >= before + 3.0);
        };
        poll_thrice();
        assert_eq!(proxy.sample("good"), Some(1.0), "{mode}");
        assert_eq!(proxy.sample("also_good{a=\"b\"}"), Some(3.0), "{mode}");
        let skipped = proxy.sample("exporter_proxy_skipped_lines_total");
        assert!(skipped >= Some(6.0), "{mode}: {skipped:?}");
        let bad = "target \"t\": 2 lines were left out (shape.lenient); the first is line 3, column 6: \
                   expected a label name";
        let again = "target \"t\": 1 line was left out (shape.lenient); the first is line 3, column 1: \
                     expected each series once, found that of line 1 again";
        for (text, times) in [
            (BAD, [1, 0]),
            (twice, [1, 1]),
            (BAD, [2, 1]),
            ("good 1\n", [2, 1]),
            (BAD, [3, 1]),
        ] {
            upstream.change(move |_| ok(text));
            poll_thrice();
            let seen = || [bad, again].map(|line| proxy.log().matches(line).count());
            eventually(seen, |seen| *seen == times);
        }
    }
}

#[test]
fn timestamps_of_pushes_are_rejected_stripped_or_kept() {
    let text = "# TYPE g gauge\ng 1 1500\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2 1500\nh_sum 3 1500\nh_count 2 1500\n";
    for (setting, expected) in [
        ("refuse", None),
        (
            "strip",
            Some([
                "g{instance=\"\",job=\"j\"} 1",
                "h_sum{instance=\"\",job=\"j\"} 3",
            ]),
        ),
        (
            "keep",
            Some([
                "g{instance=\"\",job=\"j\"} 1 1500",
                "h_sum{instance=\"\",job=\"j\"} 3 1500",
            ]),
        ),
    ] {
        let proxy = Proxy::start(&format!("[push]\ntimestamps = \"{setting}\"\n"));
        let answer = proxy.push("PUT", "/metrics/job/j", text);
        let added = proxy.push(
            "POST",
            "/metrics?mode=aggregate",
            "# TYPE a counter\na 1 1500\n",
        );
        let Some(expected) = expected else {
            assert_eq!((answer.status, added.status), (400, 400));
            continue;
        };
        assert_eq!(
            (answer.status, added.status),
            (200, 202),
            "{}",
            answer.text()
        );
        let metrics = proxy.metrics();
        for line in expected.into_iter().chain(["a 1"]) {
            assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
        }
    }
}
