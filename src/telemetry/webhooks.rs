//! Webhooks, by what they tell.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Gauge;
use crate::reason::Reason;

/// Series of webhooks. Names of receivers and alerts are the senders', who may
/// have any number of them.
const MOST_SERIES: usize = 1000;

/// What stands for names past that bound. There is a series of it for each kind
/// and status.
const OTHER: &str = "(other)";

/// Counts of webhooks.
#[derive(Debug, Default)]
pub struct WebhookStats {
    /// Webhooks that are kept, and their bytes.
    pub kept: Gauge,
    pub kept_bytes: Gauge,
    taken: Mutex<BTreeMap<WebhookLabels, u64>>,
    refused: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// What webhooks are counted apart by. Kinds and statuses are a few fixed
/// words; whoever counts keeps names short.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookLabels {
    pub alertname: String,
    pub kind: &'static str,
    pub receiver: String,
    pub status: &'static str,
}

impl WebhookStats {
    pub fn count(&self, labels: WebhookLabels) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let room = taken.len() < MOST_SERIES;
        if let Some(count) = taken.get_mut(&labels) {
            *count += 1;
        } else if room {
            taken.insert(labels, 1);
        } else {
            *taken.entry(labels.others()).or_default() += 1;
        }
    }

    /// Counts what is told of more alerts than can be told apart.
    pub fn count_others(&self, labels: WebhookLabels) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken.entry(labels.others()).or_default() += 1;
    }

    /// Counts one that was refused. `kind` is that of its path.
    pub fn count_refused(&self, kind: &'static str, reason: Reason) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry((kind, reason.as_str())).or_default() += 1;
    }

    pub(super) fn taken(&self) -> Vec<(WebhookLabels, u64)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = taken.iter().map(|(labels, count)| (labels.clone(), *count));
        counts.collect()
    }

    /// Kind, reason and count.
    pub(super) fn refused(&self) -> Vec<(&'static str, &'static str, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = refused.iter().map(|(key, count)| (key.0, key.1, *count));
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
    fn names_past_the_bound_are_counted_together() {
        let stats = WebhookStats::default();
        for n in 0..MOST_SERIES + 5 {
            stats.count(labels(&format!("A{n}"), "firing"));
        }
        stats.count(labels("B", "resolved"));
        stats.count(labels("A0", "firing"));
        stats.count_others(labels("A0", "firing"));
        let taken = stats.taken();
        assert_eq!(taken.len(), MOST_SERIES + 2);
        let count = |labels: &WebhookLabels| {
            let found = taken.iter().find(|(other, _)| other == labels);
            found.map(|(_, count)| *count)
        };
        assert_eq!(count(&labels("A0", "firing")), Some(2));
        assert_eq!(count(&labels("A0", "firing").others()), Some(6));
        assert_eq!(count(&labels("B", "resolved").others()), Some(1));
        assert_eq!(count(&labels("B", "resolved")), None);
    }
}
