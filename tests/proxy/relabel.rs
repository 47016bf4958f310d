//! `exporter-proxy relabel`.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::tempdir;

use crate::harness::{output_of, program};

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
    let output = run(dir.path(), &["--listener", "[::]:6556"], "up 1\n");
    let problem = text_of(&output.stderr);
    assert!(
        problem.contains("--listener goes with --app or --group"),
        "{problem}"
    );
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
    let end = "  polled: https://db:1/m {host=\"db\"}\nup 1\n  shape 1, labels: up{zone=\"z\"}\n";
    assert!(shown.ends_with(end), "{shown}");
    assert!(
        shown.starts_with("{__address__=\"db:1\",__meta_exporter_proxy_name=\"db\","),
        "{shown}"
    );
    let output = run(dir.path(), &["--discovery", "dns_sd[0]"], "");
    let problem = text_of(&output.stderr);
    assert!(
        problem.contains("there is no discovery \"dns_sd[0]\""),
        "{problem}"
    );
}
