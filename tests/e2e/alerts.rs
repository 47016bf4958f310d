//! The alerts of the documents, run by `promtool`.

use std::fs;

use tempfile::tempdir;

use crate::documents::blocks;
use crate::tools::{self, Tool, command, run};

const METRICS: &str = include_str!("../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The example in YAML with these words.
fn yaml(document: &'static str, words: &str) -> &'static str {
    let found = blocks(document)
        .into_iter()
        .find(|block| block.language == "yaml" && block.text.contains(words));
    let Some(block) = found else {
        panic!("no example has {words:?}")
    };
    block.text
}

/// The rules of both documents as a file of rules.
fn rules() -> String {
    let mut rules = yaml(METRICS, "alert: PushesAreRejected").to_owned();
    for line in yaml(OPERATIONS, "alert: OperationsAreRejected").lines() {
        rules.push_str(&format!("  {line}\n"));
    }
    rules
}

/// A first rejection, which a rate misses, fires for five minutes; a count that stays
/// does not; and a series that grows fires again.
const TEST: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: exporter_proxy_pushes_total{method="put",result="ok"}
        values: 0+1x40
      - series: exporter_proxy_pushes_total{method="put",result="malformed"}
        values: _x10 1x9 1x9 2x10
      - series: exporter_proxy_received_messages_total{format="json",receiver="tcp",result="bad_name"}
        values: _x10 1x29
      - series: exporter_proxy_operations_total{transport="udp",result="malformed"}
        values: _x10 3x29
      - series: up{job="exporter-proxy"}
        values: 1x20 0x20
    alert_rule_test:
      - { eval_time: 9m, alertname: PushesAreRejected, exp_alerts: [] }
      - eval_time: 12m
        alertname: PushesAreRejected
        exp_alerts: [ { exp_labels: { result: malformed } } ]
      - eval_time: 12m
        alertname: MessagesAreRejected
        exp_alerts: [ { exp_labels: { result: bad_name } } ]
      - eval_time: 12m
        alertname: OperationsAreRejected
        exp_alerts: [ { exp_labels: { transport: udp, result: malformed } } ]
      - { eval_time: 22m, alertname: PushesAreRejected, exp_alerts: [] }
      - { eval_time: 22m, alertname: MessagesAreRejected, exp_alerts: [] }
      - { eval_time: 22m, alertname: OperationsAreRejected, exp_alerts: [] }
      - eval_time: 33m
        alertname: PushesAreRejected
        exp_alerts: [ { exp_labels: { result: malformed } } ]
      - { eval_time: 15m, alertname: ScrapeFails, exp_alerts: [] }
      - eval_time: 25m
        alertname: ScrapeFails
        exp_alerts: [ { exp_labels: { job: exporter-proxy } } ]
"#;

#[test]
fn alerts_of_the_documents_fire_when_they_should() {
    if !tools::here(&[Tool::Promtool]) {
        return;
    }
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("rules.yml"), rules()).unwrap();
    fs::write(dir.path().join("test.yml"), TEST).unwrap();
    let jobs = yaml(METRICS, "job_name: exporter-proxy-own");
    fs::write(dir.path().join("prometheus.yml"), jobs).unwrap();
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        run(command(Tool::Promtool)
            .args(arguments)
            .current_dir(dir.path()));
    }
}
