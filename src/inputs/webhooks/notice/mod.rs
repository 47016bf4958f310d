//! What the body of a webhook says: who was to be told, of which alerts, and
//! how they are. Pure, and content with a body of any shape.
//!
//! The shapes are those of Alertmanager's webhooks (version 4), of Slack's
//! incoming webhooks and of PagerDuty's events (version 2). What Alertmanager
//! sends to Slack and PagerDuty is text for people: its own templates are read
//! here, and of other texts nothing is known.

use serde_json::Value;

use crate::http::query;
use crate::telemetry::clip_to;

/// Bytes of a receiver's or an alert's name. They become labels of metrics.
const LONGEST_NAME: usize = 128;

/// Alerts of one webhook that are told apart, by name and status.
const MOST_ALERTS: usize = 100;

/// What a body is in the form of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Slack,
    PagerDuty,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Webhook, Kind::Slack, Kind::PagerDuty];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
            Kind::Slack => "slack",
            Kind::PagerDuty => "pagerduty",
        }
    }

    /// Any service may have been led to the path for webhooks: there, the body
    /// tells.
    fn of(self, body: &Value) -> Kind {
        let has = |name: &str| body.get(name).is_some();
        match self {
            Kind::Webhook if has("alerts") => Kind::Webhook,
            Kind::Webhook if has("attachments") => Kind::Slack,
            Kind::Webhook if has("event_action") || has("event_type") => Kind::PagerDuty,
            kind => kind,
        }
    }
}

/// How an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Firing,
    Acknowledged,
    Resolved,
    Unknown,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Firing => "firing",
            Status::Acknowledged => "acknowledged",
            Status::Resolved => "resolved",
            Status::Unknown => "unknown",
        }
    }

    /// What a word means, of whichever service.
    fn of(word: &str) -> Status {
        match word.to_ascii_lowercase().as_str() {
            "firing" | "trigger" | "danger" => Status::Firing,
            "acknowledge" | "acknowledged" => Status::Acknowledged,
            "resolved" | "resolve" | "good" => Status::Resolved,
            _ => Status::Unknown,
        }
    }

    fn or(self, other: Status) -> Status {
        match self {
            Status::Unknown => other,
            known => known,
        }
    }
}

/// What is known of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub kind: Kind,
    /// Empty where it is not known.
    pub receiver: String,
    pub status: Status,
    /// Names of alerts and how they are, each pair once.
    pub alerts: Vec<(String, Status)>,
    /// There were more alerts than are told apart.
    pub more: bool,
}

impl Notice {
    /// Reads a body that came to the path of that kind.
    pub fn of(kind: Kind, body: &Value) -> Self {
        let mut notice = Notice {
            kind: kind.of(body),
            receiver: String::new(),
            status: Status::Unknown,
            alerts: Vec::new(),
            more: false,
        };
        match notice.kind {
            Kind::Webhook => notice.read_webhook(body),
            Kind::Slack => notice.read_slack(body),
            Kind::PagerDuty => notice.read_pagerduty(body),
        }
        notice
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let alerts = self.alerts.iter();
        self.receiver.len()
            + alerts
                .map(|(name, _)| name.len() + size_of::<(String, Status)>())
                .sum::<usize>()
    }

    fn read_webhook(&mut self, body: &Value) {
        self.receiver = name(text(body, &["receiver"]));
        self.status = Status::of(text(body, &["status"]));
        for alert in list(body, "alerts") {
            let status = Status::of(text(alert, &["status"])).or(self.status);
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
            let color = Status::of(text(attachment, &["color"]));
            self.read_subject(title.unwrap_or_default(), color);
        }
        if attachments.is_empty() {
            self.read_subject(text(body, &["text"]), Status::Unknown);
        }
        self.settle();
    }

    fn read_pagerduty(&mut self, body: &Value) {
        let action = ["event_action", "event_type"].map(|key| Status::of(text(body, &[key])));
        self.status = action[0].or(action[1]);
        self.read_link(text(body, &["client_url"]));
        for details in [&["payload", "custom_details"][..], &["details"]] {
            for status in [Status::Firing, Status::Resolved] {
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

    /// Alertmanager's links lead to the alerts of a receiver.
    fn read_link(&mut self, link: &str) {
        if let Some((_, query)) = link.rsplit_once('?')
            && self.receiver.is_empty()
        {
            self.receiver = name(&query::value(query, "receiver").unwrap_or_default());
        }
    }

    /// Alertmanager's subject: `[FIRING:2] Name other (more)`. Before the
    /// brackets stand the labels that alerts are grouped by, their name first if
    /// it is one of them; inside, others that all have, of which their name may
    /// not be one.
    fn read_subject(&mut self, subject: &str, otherwise: Status) {
        let Some((head, rest)) = subject
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        else {
            return self.add("", otherwise);
        };
        let word = head.split([':', ',', ' ']).next().unwrap_or_default();
        let status = Status::of(word);
        let first = rest.split_whitespace().next().unwrap_or_default();
        // Any title may begin with a bracket.
        let known = status != Status::Unknown && !first.starts_with('(');
        self.add(if known { first } else { "" }, status.or(otherwise));
    }

    /// Alertmanager's list of alerts: lines such as ` - alertname = Name`.
    fn read_labels(&mut self, labels: &str, status: Status) {
        for line in labels.lines() {
            if let Some(name) = line.strip_prefix(" - alertname = ") {
                self.add(name, status);
            }
        }
    }

    /// Notes an alert.
    fn add(&mut self, alert: &str, status: Status) {
        let alert = (name(alert), status);
        if self.alerts.contains(&alert) {
        } else if self.alerts.len() < MOST_ALERTS {
            self.alerts.push(alert);
        } else {
            self.more = true;
        }
    }

    /// Where nothing says how all is, it is as the worst alert; and alerts
    /// without names are forgotten.
    fn settle(&mut self) {
        let worst = [Status::Firing, Status::Acknowledged, Status::Resolved]
            .into_iter()
            .find(|status| self.alerts.iter().any(|alert| alert.1 == *status));
        self.status = self.status.or(worst.unwrap_or(Status::Unknown));
        self.alerts.retain(|(name, _)| !name.is_empty());
    }
}

/// The text at a path of keys; empty where there is none.
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

/// A name as it is shown and counted: cleaned, and cut where it is too long.
fn name(text: &str) -> String {
    clip_to(LONGEST_NAME, text.trim(), "...")
}

#[cfg(test)]
mod tests;
