//! Reads the body of a webhook: its receiver, its alerts, and their status. It accepts
//! bodies of any shape.
//!
//! The known shapes are those of Alertmanager's webhooks (version 4), of Slack's incoming
//! webhooks and of PagerDuty's events (version 2). Alertmanager sends text for people to
//! Slack and PagerDuty: the text of its default templates is understood, and any other text
//! is ignored.

use serde_json::Value;

use crate::http::query;
use crate::telemetry::clip_to;

/// The limit on the length of a receiver's or alert's name, in bytes. Names become labels
/// of metrics.
const LONGEST_NAME: usize = 128;

/// The limit on different alerts of one webhook, by name and status.
const MOST_ALERTS: usize = 100;

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookKind {
    Webhook,
    Slack,
    PagerDuty,
}

impl WebhookKind {
    pub const ALL: [WebhookKind; 3] = [
        WebhookKind::Webhook,
        WebhookKind::Slack,
        WebhookKind::PagerDuty,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            WebhookKind::Webhook => "webhook",
            WebhookKind::Slack => "slack",
            WebhookKind::PagerDuty => "pagerduty",
        }
    }

    /// The actual kind. The path for webhooks is open to any service, so there the body decides.
    fn of(self, body: &Value) -> WebhookKind {
        let has = |name: &str| body.get(name).is_some();
        match self {
            WebhookKind::Webhook if has("alerts") => WebhookKind::Webhook,
            WebhookKind::Webhook if has("attachments") => WebhookKind::Slack,
            WebhookKind::Webhook if has("event_action") || has("event_type") => {
                WebhookKind::PagerDuty
            }
            kind => kind,
        }
    }
}

/// The status of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertStatus {
    Firing,
    Acknowledged,
    Resolved,
    Unknown,
}

impl AlertStatus {
    /// All statuses.
    pub const ALL: [AlertStatus; 4] = [
        AlertStatus::Firing,
        AlertStatus::Acknowledged,
        AlertStatus::Resolved,
        AlertStatus::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AlertStatus::Firing => "firing",
            AlertStatus::Acknowledged => "acknowledged",
            AlertStatus::Resolved => "resolved",
            AlertStatus::Unknown => "unknown",
        }
    }

    /// The status for a word of any of the services.
    fn of(word: &str) -> AlertStatus {
        match word.to_ascii_lowercase().as_str() {
            "firing" | "trigger" | "danger" => AlertStatus::Firing,
            "acknowledge" | "acknowledged" => AlertStatus::Acknowledged,
            "resolved" | "resolve" | "good" => AlertStatus::Resolved,
            _ => AlertStatus::Unknown,
        }
    }

    fn or(self, other: AlertStatus) -> AlertStatus {
        match self {
            AlertStatus::Unknown => other,
            known => known,
        }
    }
}

/// The content of a webhook, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub kind: WebhookKind,
    /// Empty if unknown.
    pub receiver: String,
    pub status: AlertStatus,
    /// Names and statuses of alerts, each pair once.
    pub alerts: Vec<(String, AlertStatus)>,
    /// Whether there were more alerts than the limit.
    pub more: bool,
}

impl Notification {
    /// Reads a body that was sent to the path for `kind`.
    pub fn of(kind: WebhookKind, body: &Value) -> Self {
        let mut notification = Notification {
            kind: kind.of(body),
            receiver: String::new(),
            status: AlertStatus::Unknown,
            alerts: Vec::new(),
            more: false,
        };
        match notification.kind {
            WebhookKind::Webhook => notification.read_webhook(body),
            WebhookKind::Slack => notification.read_slack(body),
            WebhookKind::PagerDuty => notification.read_pagerduty(body),
        }
        notification
    }

    /// Its approximate size in bytes.
    pub fn size(&self) -> usize {
        let alerts = self.alerts.iter();
        self.receiver.len()
            + alerts
                .map(|(name, _)| name.len() + size_of::<(String, AlertStatus)>())
                .sum::<usize>()
    }

    fn read_webhook(&mut self, body: &Value) {
        self.receiver = name(text(body, &["receiver"]));
        self.status = AlertStatus::of(text(body, &["status"]));
        for alert in list(body, "alerts") {
            let status = AlertStatus::of(text(alert, &["status"])).or(self.status);
            self.add(text(alert, &["labels", "alertname"]), status);
        }
        if self.alerts.is_empty() {
            let labels = ["commonLabels", "groupLabels"].into_iter();
            let mut names = labels.map(|labels| text(body, &[labels, "alertname"]));
            let alert = names.find(|name| !name.is_empty());
            self.add(alert.unwrap_or_default(), self.status);
        }
        self.settle();
    }

    fn read_slack(&mut self, body: &Value) {
        let attachments = list(body, "attachments");
        for attachment in attachments {
            self.read_link(text(attachment, &["title_link"]));
            let title = ["title", "fallback"]
                .into_iter()
                .map(|key| text(attachment, &[key]))
                .find(|title| !title.is_empty());
            let color = AlertStatus::of(text(attachment, &["color"]));
            self.read_subject(title.unwrap_or_default(), color);
        }
        if attachments.is_empty() {
            self.read_subject(text(body, &["text"]), AlertStatus::Unknown);
        }
        self.settle();
    }

    fn read_pagerduty(&mut self, body: &Value) {
        let action = ["event_action", "event_type"].map(|key| AlertStatus::of(text(body, &[key])));
        self.status = action[0].or(action[1]);
        self.read_link(text(body, &["client_url"]));
        for details in [&["payload", "custom_details"][..], &["details"]] {
            for status in [AlertStatus::Firing, AlertStatus::Resolved] {
                let path = [details, &[status.as_str()]].concat();
                self.read_labels(text(body, &path), status);
            }
        }
        if self.alerts.is_empty() {
            let subject = match text(body, &["payload", "summary"]) {
                "" => text(body, &["description"]),
                summary => summary,
            };
            self.read_subject(subject, self.status);
        }
        self.settle();
    }

    /// Links of Alertmanager contain the receiver.
    fn read_link(&mut self, link: &str) {
        if let Some((_, query)) = link.rsplit_once('?')
            && self.receiver.is_empty()
        {
            self.receiver = name(&query::value(query, "receiver").unwrap_or_default());
        }
    }

    /// Reads a subject by Alertmanager: `[FIRING:2] Name other (more)`. The labels that
    /// alerts are grouped by come before the parentheses, with the alert's name first if it
    /// is one of them. The other labels that all alerts share are inside, and may not
    /// include the name.
    fn read_subject(&mut self, subject: &str, otherwise: AlertStatus) {
        let Some((head, rest)) = subject
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        else {
            return self.add("", otherwise);
        };
        let word = head.split([':', ',', ' ']).next().unwrap_or_default();
        let status = AlertStatus::of(word);
        let first = rest.split_whitespace().next().unwrap_or_default();
        // Any title may begin with a bracket.
        let known = status != AlertStatus::Unknown && !first.starts_with('(');
        self.add(if known { first } else { "" }, status.or(otherwise));
    }

    /// Reads a list of alerts by Alertmanager: lines such as ` - alertname = Name`.
    fn read_labels(&mut self, labels: &str, status: AlertStatus) {
        for line in labels.lines() {
            if let Some(name) = line.strip_prefix(" - alertname = ") {
                self.add(name, status);
            }
        }
    }

    /// Records an alert.
    fn add(&mut self, alert: &str, status: AlertStatus) {
        let alert = (name(alert), status);
        if self.alerts.contains(&alert) {
            return;
        }
        match self.alerts.len() < MOST_ALERTS {
            true => self.alerts.push(alert),
            false => self.more = true,
        }
    }

    /// Finishes reading. If nothing gave the overall status, it is that of the worst alert.
    /// Alerts without names are dropped.
    fn settle(&mut self) {
        let worst = [
            AlertStatus::Firing,
            AlertStatus::Acknowledged,
            AlertStatus::Resolved,
        ]
        .into_iter()
        .find(|status| self.alerts.iter().any(|alert| alert.1 == *status));
        self.status = self.status.or(worst.unwrap_or(AlertStatus::Unknown));
        self.alerts.retain(|(name, _)| !name.is_empty());
    }
}

/// The string at a path of keys; empty if there is none.
fn text<'b>(body: &'b Value, path: &[&str]) -> &'b str {
    let found = path
        .iter()
        .try_fold(body, |value, key| value.get(*key))
        .and_then(Value::as_str);
    found.unwrap_or_default()
}

fn list<'b>(body: &'b Value, key: &str) -> &'b [Value] {
    let found = body.get(key).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// A name to show and count: cleaned, and cut if it is long.
fn name(text: &str) -> String {
    clip_to(LONGEST_NAME, text.trim(), "...")
}

#[cfg(test)]
mod tests;
