//! `exporter-proxy relabel`.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::tempdir;

use crate::harness::{Proxy, eventually, output_of, program};
use crate::reload::reload;
use crate::upstream::{Upstream, ok};

const TEXT: &str =
    "# TYPE go_goroutines gauge\ngo_goroutines 9\norders{app=\"shop\",env=\"eu\"} 3\nup 1\n";

fn run(directory: &Path, arguments: &[&str], text: &str) -> Output {
    let mut command = program();
    command.current_dir(directory).arg("relabel");
    output_of(command.args(arguments), text)
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const SHOWN: &str = "go_goroutines 9\n  rule 1 (drop): dropped\n\
     orders{app=\"shop\",env=\"eu\"} 3\n  rule 2 (replace): orders{app=\"shop\",env=\"eu\",job=\"shop-eu\"}\nup 1\n";

#[test]
fn rules_of_a_file_and_of_a_sink_are_shown_with_what_they_do() {
    let dir = tempdir().unwrap();
    fs::write(
        dir.path().join("rules.yml"),
        "- {action: drop, source_labels: [__name__], regex: 'go_.*'}\n\
         - {source_labels: [app, env], separator: '-', regex: (.+-.+), target_label: job}\n",
    )
    .unwrap();
    let output = run(dir.path(), &["--rules", "rules.yml"], TEXT);
    assert_eq!(text_of(&output.stdout), SHOWN);
    assert!(output.status.success());
    let sink = "type = \"remote_write\"\nurl = \"http://a/\"\nrelabel_file = \"rules.yml\"\n";
    let config = |more: &str| {
        let text = format!("[sinks.one]\n{sink}{more}");
        fs::write(dir.path().join("config.toml"), text).unwrap();
    };
    config("");
    let output = run(dir.path(), &[], TEXT);
    assert_eq!(text_of(&output.stdout), SHOWN);
    config(&format!("[sinks.two]\n{sink}"));
    let output = run(dir.path(), &[], TEXT);
    assert!(
        text_of(&output.stderr)
            .contains("several sinks have rules: one, two; choose one with --sink")
    );
    assert_eq!(output.status.code(), Some(1));
    let output = run(dir.path(), &["--sink", "two"], TEXT);
    assert_eq!(text_of(&output.stdout), SHOWN);
}

#[test]
fn mistakes_in_rules_and_in_the_text_have_their_lines() {
    let dir = tempdir().unwrap();
    fs::write(
        dir.path().join("rules.yml"),
        "- action: drop\n  regex: '('\n- regex: a\n",
    )
    .unwrap();
    let output = run(dir.path(), &["--rules", "rules.yml"], TEXT);
    let problems: Vec<&str> = text_of(&output.stderr).lines().collect();
    assert!(
        problems[0].starts_with("rules.yml:2:10: regex \"(\" is not a valid"),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("rules.yml:3:3: target_label must be set"),
        "{problems:?}"
    );
    assert_eq!(output.status.code(), Some(1));
    fs::write(dir.path().join("rules.yml"), "[]\n").unwrap();
    let output = run(dir.path(), &["--rules", "rules.yml"], "a 1\nb x\n");
    assert_eq!(text_of(&output.stdout), "a 1\n");
    assert!(text_of(&output.stderr).starts_with("line 2, column "));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_entries_of_shape_do_is_shown() {
    let dir = tempdir().unwrap();
    let config = "[[shape]]\napps = [\"other\"]\nlenient = true\n[[shape]]\nlabels = { env = \"us\" }\n\
                  drop = [\"go_*\"]\nmetric_relabel = [{ source_labels = [\"job\"], target_label = \"from\" }]\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let output = run(dir.path(), &["--app", "shop"], TEXT);
    assert_eq!(
        text_of(&output.stdout),
        "go_goroutines 9\n  shape 2, labels: go_goroutines{env=\"us\"}\n  shape 2, keep and drop: dropped\n\
         orders{app=\"shop\",env=\"eu\"} 3\n  shape 2, labels: orders{app=\"shop\",env=\"us\",exported_env=\"eu\"}\n\
         up 1\n  shape 2, labels: up{env=\"us\"}\n"
    );
    let output = run(dir.path(), &["--group", "{job=\"j\"}"], "up 1\n");
    assert_eq!(
        text_of(&output.stdout),
        "up 1\n  labels of the group: up{job=\"j\"}\n  shape 2, labels: up{env=\"us\",job=\"j\"}\n  \
         shape 2, rule 1 (replace): up{env=\"us\",from=\"j\",job=\"j\"}\n"
    );
    let output = run(dir.path(), &["--group", "job=j"], "up 1\n");
    assert!(!output.status.success());
    let config = "[[shape]]\nlisteners = [\"*:6556\"]\nlabels = { input = \"push\" }\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    for (listener, expected) in [
        ("[::]:6556", "up 1\n  shape 1, labels: up{input=\"push\"}\n"),
        ("[::]:6555", "up 1\n"),
    ] {
        let output = run(
            dir.path(),
            &["--app", "shop", "--listener", listener],
            "up 1\n",
        );
        assert_eq!(text_of(&output.stdout), expected);
    }
    let output = run(dir.path(), &[], "up 1\n");
    let problem = text_of(&output.stderr);
    let expected = "no sink has relabelling rules; name a file with --rules, or use --app, --target \
                    or --group for [[shape]]";
    assert!(problem.contains(expected), "{problem}");
    let wrong = ["--app", "shop", "--listener", "localhost:6556"];
    let output = run(dir.path(), &wrong, "up 1\n");
    let problem = text_of(&output.stderr);
    let expected = "--listener must be the address that a listener is bound to, such as \
                    127.0.0.1:6556, or the path of a Unix socket, not \"localhost:6556\"";
    assert!(problem.contains(expected), "{problem}");
    assert_eq!(text_of(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
    let output = run(dir.path(), &["--listener", "[::]:6556"], "up 1\n");
    let problem = text_of(&output.stderr);
    assert!(
        problem.contains("--listener goes with --app or --group"),
        "{problem}"
    );
}

#[test]
fn texts_are_read_as_their_input_reads_them() {
    const BAD: &str = "\u{feff}good 1\r\nbad{ 2\r\nold{a=\"b\"} 3\r\ngood 4\r\n";
    const SHOWN: &str = "good 1\nold{a=\"b\"} 3\n  shape 1, rule 1 (labeldrop): old\ngood 4\n";
    let dir = tempdir().unwrap();
    let rules = "metric_relabel = [{ action = \"labeldrop\", regex = \"a\" }]\n";
    let left_out = |output: &Output, sender: &str, line: usize, lines: usize| {
        let text = text_of(&output.stderr);
        let expected = format!(
            "{sender}: {lines} lines were left out (shape.lenient); the first is line {line}, column "
        );
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(output.status.success(), "{text}");
    };
    for mode in ["verbatim", "merged"] {
        let config = format!("[exposition]\nmode = \"{mode}\"\n[[shape]]\nlenient = true\n{rules}");
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let senders = [
            (vec!["--app", "shop"], "app \"shop\""),
            (
                vec!["--app", "shop", "--listener", "[::]:1"],
                "app \"shop\"",
            ),
            (vec!["--group", "{job=\"j\"}"], "group {job=\"j\"}"),
        ];
        for (arguments, sender) in senders {
            let output = run(dir.path(), &arguments, BAD);
            let shown = match sender.starts_with("app") {
                true => SHOWN.to_owned(),
                false => {
                    let group = "  labels of the group: good{job=\"j\"}\n";
                    format!(
                        "good 1\n{group}old{{a=\"b\"}} 3\n  \
                         labels of the group: old{{a=\"b\",job=\"j\"}}\n  \
                         shape 1, rule 1 (labeldrop): old{{job=\"j\"}}\ngood 4\n{group}"
                    )
                }
            };
            assert_eq!(text_of(&output.stdout), shown, "{mode}");
            left_out(&output, sender, 2, 2);
            let output = run(dir.path(), &arguments, "<html>\n");
            let problem = text_of(&output.stderr);
            assert!(
                problem.contains(&format!("{sender}, line 1, column ")),
                "{problem}"
            );
            assert_eq!(output.status.code(), Some(1), "{mode}");
        }
    }
    // Timestamps are left out where none is accepted.
    let output = run(
        dir.path(),
        &["--group", "{job=\"j\"}"],
        "a 1\nb 2 5\nc 3 5\n",
    );
    left_out(&output, "group {job=\"j\"}", 2, 2);
    // Samples with exemplars are read in OpenMetrics.
    fs::write(
        dir.path().join("config.toml"),
        format!("[[shape]]\n{rules}"),
    )
    .unwrap();
    let text = "m_total{a=\"b\"} 1 # {t=\"x\"} 2\n";
    let output = run(dir.path(), &["--app", "shop"], &format!("{text}# EOF\n"));
    assert_eq!(
        text_of(&output.stdout),
        format!("{text}  shape 1, rule 1 (labeldrop): m_total\n")
    );
    assert!(output.status.success());
    // Their counters have the names of both formats.
    let entry = "[[shape]]\nkeep = [\"m_total\"]\n[[shape]]\ndrop = [\"m\"]\n";
    fs::write(dir.path().join("config.toml"), entry).unwrap();
    let text_of_counter = format!("# TYPE m counter\n{text}# EOF\n");
    let output = run(dir.path(), &["--app", "shop"], &text_of_counter);
    assert_eq!(
        text_of(&output.stdout),
        format!("{text}  shape 2, keep and drop: dropped\n")
    );
    let output = run(dir.path(), &["--app", "shop"], text);
    assert!(text_of(&output.stderr).starts_with("line 1, column "));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_rules_make_of_targets_is_shown() {
    let dir = tempdir().unwrap();
    let config = "[poll_external]\nfile_sd = [{ files = [\"a.yml\"], targets = { relabel = [\
                  { action = \"drop\", source_labels = [\"env\"], regex = \"test\" }] } }]\n\
                  relabel = [{ source_labels = [\"__address__\"], regex = \"(.*):.*\", target_label = \"host\" }, \
                  { target_label = \"__scheme__\", replacement = \"https\" }]\n\
                  [[poll_external.targets]]\nname = \"db\"\nurl = \"http://db:1/m\"\n\
                  [[shape]]\nlabels = { zone = \"z\" }\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let list = "- targets: ['a:1', 'b/c']\n- targets: ['t:2']\n  labels: {env: test}\n";
    let output = run(dir.path(), &["--discovery", "file_sd[0]"], list);
    let times = "__scrape_interval__=\"5s\",__scrape_timeout__=\"2s\"";
    let labels = |address: &str, scheme: &str, more: &str| {
        format!(
            "{{__address__=\"{address}\",__metrics_path__=\"/metrics\",__scheme__=\"{scheme}\",{times}{more}}}"
        )
    };
    let (host, test) = (",host=\"a\"", ",env=\"test\"");
    let expected = [
        labels("a:1", "http", ""),
        format!("  rule 2 (replace): {}", labels("a:1", "http", host)),
        format!("  rule 3 (replace): {}", labels("a:1", "https", host)),
        "  polled: https://a:1/metrics {host=\"a\",instance=\"a:1\"}".to_owned(),
        labels("b/c", "http", ""),
        format!("  rule 3 (replace): {}", labels("b/c", "https", "")),
        "  rejected: target \"b/c\": must be a host, with or without a port".to_owned(),
        labels("t:2", "http", test),
        "  rule 1 (drop): dropped".to_owned(),
    ];
    let shown: Vec<&str> = text_of(&output.stdout).lines().collect();
    assert_eq!(shown, expected);
    assert_eq!(output.status.code(), Some(1), "an entry is wrong");

    let output = run(dir.path(), &["--target", "db"], "up 1\n");
    let shown = text_of(&output.stdout);
    let end = "  polled: https://db:1/m {host=\"db\"}\nup 1\n  labels of the target: up{host=\"db\"}\n  shape 1, labels: up{host=\"db\",zone=\"z\"}\n";
    assert!(shown.ends_with(end), "{shown}");
    assert!(
        shown.starts_with("{__address__=\"db:1\",__meta_exporter_proxy_name=\"db\","),
        "{shown}"
    );
    let output = run(dir.path(), &["--target", "nope"], "up 1\n");
    assert_eq!(
        text_of(&output.stdout),
        "up 1\n  shape 1, labels: up{zone=\"z\"}\n"
    );
    let problem = text_of(&output.stderr);
    assert!(
        problem.contains("no target \"nope\" is configured"),
        "{problem}"
    );
    let output = run(dir.path(), &["--discovery", "dns_sd[0]"], "");
    let problem = text_of(&output.stderr);
    assert!(
        problem.contains("there is no discovery \"dns_sd[0]\""),
        "{problem}"
    );
}

/// Samples that lack what is added to them, have it, or have labels that rules remove.
const SAMPLES: &str = "# TYPE old_a counter\nx 1\nw{job=\"own\",pod=\"p\"} 2\ny{env=\"own\"} 3\n\
                       old_a{pod=\"q\"} 4\n";

/// A series with sorted labels.
fn sorted(series: &str) -> String {
    match series.split_once('{') {
        None => series.to_owned(),
        Some((name, labels)) => {
            let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
            labels.sort();
            format!("{name}{{{}}}", labels.join(","))
        }
    }
}

/// The series that the tool makes of [`SAMPLES`], sorted.
fn shown_series(proxy: &Proxy, arguments: &[&str]) -> Vec<String> {
    let output = run(proxy.dir.path(), arguments, SAMPLES);
    assert!(output.status.success(), "{output:?}");
    let text = text_of(&output.stdout);
    let start = text.find("x 1\n").unwrap();
    let mut series: Vec<String> = Vec::new();
    for line in text[start..].lines() {
        match line.strip_prefix("  ").and_then(|it| it.split_once(": ")) {
            None => series.push(sorted(line.rsplit_once(' ').unwrap().0)),
            Some((_, result)) => *series.last_mut().unwrap() = sorted(result),
        }
    }
    series.retain(|it| it != "dropped");
    series.sort();
    series
}

/// The series that the program exposes, sorted.
fn exposed_series(proxy: &Proxy) -> Vec<String> {
    let metrics = proxy.metrics();
    let lines = metrics.lines().filter(|line| {
        !["#", "push_", "exporter_proxy_"]
            .iter()
            .any(|begin| line.starts_with(begin))
    });
    let series = lines.map(|line| sorted(line.rsplit_once(' ').unwrap().0));
    let mut series: Vec<String> = series.collect();
    series.sort();
    series
}

#[test]
fn the_tool_shows_for_groups_what_the_program_exposes() {
    let proxy = Proxy::start("");
    let rule = |rules: &str| format!("metric_relabel = [{rules}]");
    let remove = "{ action = \"labeldrop\", regex = \"job|pod\" }";
    let copy = "{ source_labels = [\"job\"], target_label = \"was\" }";
    let set = "{ target_label = \"job\", replacement = \"set\" }";
    let rename = "{ source_labels = [\"__name__\"], regex = \"old_(.*)\", target_label = \"__name__\", replacement = \"new_$1\" }";
    let labels = "labels = { job = \"other\", env = \"e\" }\n";
    let entries = [
        vec![format!("{labels}{}", rule(remove))],
        vec![format!("{labels}honor_labels = true\n{}", rule(copy))],
        vec![rule(&format!("{remove}, {copy}"))],
        vec![rule(remove), format!("{labels}{}", rule(copy))],
        vec![rule(set), rule(copy)],
        vec![rule(&format!("{set}, {copy}"))],
        vec![rule(rename), "drop = [\"new_*\"]".to_owned()],
        vec!["keep = [\"x\", \"w\"]".to_owned(), labels.to_owned()],
    ];
    let mut results = Vec::new();
    for entries in entries {
        let entries = entries.iter();
        let config =
            entries.map(|it| format!("[[shape]]\ngroups = ['{{job=\"backup\"}}']\n{it}\n"));
        let config: String = config.collect();
        reload(&proxy, &config);
        let answer = proxy.push("PUT", "/metrics/job/backup/instance/i", SAMPLES);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let group = ["--group", "{instance=\"i\",job=\"backup\"}"];
        let shown = shown_series(&proxy, &group);
        assert_eq!(shown, exposed_series(&proxy), "{config}");
        results.push(shown);
    }
    let group = "instance=\"i\",job=\"backup\"";
    assert_eq!(
        results[0],
        [
            format!("old_a{{env=\"e\",{group}}}"),
            format!("w{{env=\"e\",exported_job=\"own\",{group}}}"),
            format!("x{{env=\"e\",{group}}}"),
            format!("y{{env=\"e\",exported_env=\"own\",{group}}}"),
        ]
    );
    assert_eq!(results[2][2], format!("x{{{group}}}"));
    assert_eq!(results[5][2], format!("x{{{group},was=\"set\"}}"));
    assert_eq!(results[6].len(), 3, "{:?}", results[6]);
}

#[test]
fn the_tool_shows_for_targets_what_the_program_exposes() {
    let upstream = Upstream::start(|_| ok(SAMPLES));
    let rule = "metric_relabel = [{ source_labels = [\"dc\", \"host\", \"env\"], target_label = \"where\" }]";
    for (honor, mut expected) in [
        (
            false,
            [
                "old_a{dc=\"d\",env=\"t\",host=\"h\",pod=\"q\",where=\"d;h;t\"}",
                "w{dc=\"d\",env=\"t\",host=\"h\",job=\"own\",pod=\"p\",where=\"d;h;t\"}",
                "x{dc=\"d\",env=\"t\",host=\"h\",where=\"d;h;t\"}",
                "y{dc=\"d\",env=\"t\",exported_env=\"own\",host=\"h\",where=\"d;h;t\"}",
            ],
        ),
        (
            true,
            [
                "old_a{dc=\"d\",env=\"t\",host=\"h\",pod=\"q\",where=\"d;h;t\"}",
                "w{dc=\"d\",env=\"t\",host=\"h\",job=\"own\",pod=\"p\",where=\"d;h;t\"}",
                "x{dc=\"d\",env=\"t\",host=\"h\",where=\"d;h;t\"}",
                "y{dc=\"d\",env=\"own\",host=\"h\",where=\"d;h;own\"}",
            ],
        ),
    ] {
        let proxy = Proxy::start(&format!(
            "[poll_external]\nrelabel = [{{ target_label = \"host\", replacement = \"h\" }}]\n\
             [[poll_external.targets]]\nname = \"db\"\nurl = \"http://{}/\"\nhonor_labels = {honor}\n\
             labels = {{ dc = \"d\", env = \"t\" }}\n[[shape]]\ntargets = [\"db\"]\n{rule}\n",
            upstream.address
        ));
        expected.sort();
        assert_eq!(shown_series(&proxy, &["--target", "db"]), expected);
        eventually(|| exposed_series(&proxy), |series| *series == expected);
    }
}
