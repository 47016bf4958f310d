//! Counts of webhooks, by kind, receiver, alert name and status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Gauge;
use crate::reason::Reason;

/// The most series of webhooks. Senders choose the names of receivers and alerts
/// freely.
const MAX_SERIES: usize = 1000;

/// Replaces names once there are [`MAX_SERIES`] series. It adds one series for each kind and
/// status.
const OTHER: &str = "(other)";

/// Counts of webhooks.
#[derive(Debug, Default)]
pub struct WebhookStats {
    /// Webhooks that are kept for `/webhooks`.
    pub kept: Gauge,
    /// Bytes of kept webhooks.
    pub kept_bytes: Gauge,
    accepted: Mutex<BTreeMap<WebhookLabels, u64>>,
    rejected: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// The labels by which webhooks are counted. Kinds and statuses come from small fixed sets. The
/// caller keeps names short.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookLabels {
    /// The name of the alert.
    pub alertname: String,
    /// The format of the webhook.
    pub kind: &'static str,
    /// The receiver that the sender names.
    pub receiver: String,
    /// The status, such as `firing` or `resolved`.
    pub status: &'static str,
}

impl WebhookStats {
    /// Counts an accepted webhook.
    pub fn count(&self, labels: WebhookLabels) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let room = accepted.len() < MAX_SERIES;
        if let Some(count) = accepted.get_mut(&labels) {
            *count += 1;
        } else if room {
            accepted.insert(labels, 1);
        } else {
            *accepted.entry(labels.others()).or_default() += 1;
        }
    }

    /// Counts a webhook whose alerts are too many to be counted by name.
    pub fn count_others(&self, labels: WebhookLabels) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        *accepted.entry(labels.others()).or_default() += 1;
    }

    /// Counts a rejected webhook. `kind` is that of its path.
    pub fn count_rejected(&self, kind: &'static str, reason: Reason) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        *rejected.entry((kind, reason.as_str())).or_default() += 1;
    }

    pub(super) fn accepted(&self) -> Vec<(WebhookLabels, u64)> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = accepted
            .iter()
            .map(|(labels, count)| (labels.clone(), *count));
        counts.collect()
    }

    /// Kind, reason and count.
    pub(super) fn rejected(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = rejected.iter().map(|(key, count)| (key.0, key.1, *count));
        counts.collect()
    }
}

impl WebhookLabels {
    fn others(self) -> Self {
        WebhookLabels {
            alertname: OTHER.to_owned(),
            receiver: OTHER.to_owned(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(alertname: &str, status: &'static str) -> WebhookLabels {
        WebhookLabels {
            alertname: alertname.to_owned(),
            kind: "webhook",
            receiver: "team".to_owned(),
            status,
        }
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let stats = WebhookStats::default();
        for n in 0..MAX_SERIES + 5 {
            stats.count(labels(&format!("A{n}"), "firing"));
        }
        stats.count(labels("B", "resolved"));
        stats.count(labels("A0", "firing"));
        stats.count_others(labels("A0", "firing"));
        let accepted = stats.accepted();
        assert_eq!(accepted.len(), MAX_SERIES + 2);
        let count = |labels: &WebhookLabels| {
            let found = accepted.iter().find(|(other, _)| other == labels);
            found.map(|(_, count)| *count)
        };
        assert_eq!(count(&labels("A0", "firing")), Some(2));
        assert_eq!(count(&labels("A0", "firing").others()), Some(6));
        assert_eq!(count(&labels("B", "resolved").others()), Some(1));
        assert_eq!(count(&labels("B", "resolved")), None);
    }
}
