//! A real Alertmanager with the configuration of `docs/webhooks.md`: its
//! webhook, Slack and PagerDuty senders accept the proxy's answers.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Proxy, eventually, http_request, http_send};
use crate::tools::{self, Server, Tool, command, logged_address, run};

const DOCUMENT: &str = include_str!("../../docs/webhooks.md");

const KINDS: [&str; 3] = ["pagerduty", "slack", "webhook"];

/// The document's configuration, for this proxy and with short intervals.
fn config(proxy: &Proxy) -> String {
    let (_, rest) = DOCUMENT.split_once("```yaml\n").expect("it is there");
    let (config, _) = rest.split_once("```").expect("it ends");
    let mut adapted = config.to_owned();
    for (written, here) in [
        ("localhost:6556", proxy.push.as_str()),
        ("group_wait: 10s", "group_wait: 100ms"),
        ("group_interval: 1m", "group_interval: 200ms"),
    ] {
        assert!(adapted.contains(written), "{written} in {config}");
        adapted = adapted.replace(written, here);
    }
    adapted
}

fn alertmanager(proxy: &Proxy) -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("alertmanager.yml");
    fs::write(&file, config(proxy)).expect("the configuration is written");
    let data = dir.path().join("data");
    Server::start(
        command(Tool::Alertmanager)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", data.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--cluster.listen-address="),
        logged_address,
    )
    .keeping(dir)
}

/// Sends Alertmanager an alert that began in 2020.
fn alert(alertmanager: &Server, name: &str, ends: Option<&str>) {
    let mut alert = json!({
        "labels": {"alertname": name, "severity": "critical", "volume": "home"},
        "annotations": {"summary": "no room left", "password": "S3CR3T"},
        "startsAt": "2020-01-01T00:00:00Z",
    });
    if let Some(ends) = ends {
        alert["endsAt"] = json!(ends);
    }
    let answer = http_send(
        &alertmanager.address,
        "POST",
        "/api/v2/alerts",
        &[("Content-Type", "application/json")],
        json!([alert]).to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The proxy's list of the alert with that status.
fn listed(proxy: &Proxy, name: &str, status: &str) -> Vec<Value> {
    let path = format!("/webhooks?format=json&alertname={name}&status={status}");
    let answer = http_request(&proxy.push, "GET", &path, &[]).json();
    answer["webhooks"].as_array().expect("a list").clone()
}

/// Waits until all three senders have sent it.
fn arrives(proxy: &Proxy, name: &str, status: &str) -> Vec<Value> {
    let kinds = |webhooks: &[Value]| {
        let mut kinds: Vec<String> = webhooks
            .iter()
            .map(|webhook| webhook["kind"].as_str().expect("a kind").to_owned())
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    eventually(
        || listed(proxy, name, status),
        |webhooks| kinds(webhooks) == KINDS,
    )
}

/// The sum of Alertmanager's samples of a family for a sender.
fn count(alertmanager: &Server, family: &str, integration: &str) -> Option<f64> {
    // Alertmanager sends the page in chunks.
    let url = format!("http://{}/metrics", alertmanager.address);
    let page = run(command(Tool::Curl).args(["--silent", "--show-error", &url])).stdout;
    let label = format!("integration=\"{integration}\"");
    page.lines()
        .filter(|line| line.starts_with(&format!("{family}{{")) && line.contains(&label))
        .map(|line| line.rsplit_once(' ').expect("a value").1)
        .map(|value| value.parse::<f64>().expect("a number"))
        .reduce(|sum, value| sum + value)
}

#[test]
fn alertmanagers_senders_are_content_and_what_they_say_is_understood() {
    if !tools::here(&[Tool::Alertmanager, Tool::Curl]) {
        return;
    }
    let proxy = Proxy::start("");
    let alertmanager = alertmanager(&proxy);
    alert(&alertmanager, "DiskFull", None);
    let firing = arrives(&proxy, "DiskFull", "firing");
    alert(&alertmanager, "DiskFull", Some("2020-01-02T00:00:00Z"));
    let resolved = arrives(&proxy, "DiskFull", "resolved");

    for webhook in firing.iter().chain(&resolved) {
        assert_eq!(webhook["receiver"], "proxy", "{webhook}");
        assert_eq!(
            webhook["alerts"].as_array().map(Vec::len),
            Some(1),
            "{webhook}"
        );
        assert_eq!(
            webhook["status"], webhook["alerts"][0]["status"],
            "{webhook}"
        );
    }
    let body = |kind: &str| {
        let found = firing.iter().find(|webhook| webhook["kind"] == kind);
        &found.expect("it is there")["body"]
    };
    assert_eq!(body("webhook")["alerts"][0]["labels"]["volume"], "home");
    assert_eq!(body("slack")["channel"], "#alerts");
    assert_eq!(body("pagerduty")["routing_key"], "***");
    let log = eventually(
        || proxy.log(),
        |log| log.matches("exporter_proxy::webhooks] ").count() >= 2 * KINDS.len(),
    );
    let shown = [json!([firing, resolved]).to_string(), log];
    for text in shown {
        for secret in ["S3CR3T", "not-needed-here"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    for kind in KINDS {
        for status in ["firing", "resolved"] {
            let series = format!(
                "exporter_proxy_webhooks_total{{alertname=\"DiskFull\",kind=\"{kind}\",receiver=\"proxy\",status=\"{status}\"}}"
            );
            assert!(proxy.sample(&series) >= Some(1.0), "{series}");
        }
        let sent = eventually(
            || count(&alertmanager, "alertmanager_notifications_total", kind),
            |sent| *sent >= Some(2.0),
        );
        for family in [
            "alertmanager_notifications_failed_total",
            "alertmanager_notification_requests_failed_total",
        ] {
            let failed = count(&alertmanager, family, kind);
            assert_eq!(failed, Some(0.0), "{kind} of {sent:?}");
        }
    }
}
