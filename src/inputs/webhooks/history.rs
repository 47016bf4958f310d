//! The newest webhooks, limited in number and bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::config::Config;
use super::notification::Notification;
use crate::clock::Now;
use crate::peer::Peer;

/// An accepted webhook, with its secrets redacted.
#[derive(Debug)]
pub struct Webhook {
    /// When it arrived.
    pub at: Now,
    /// Who sent it.
    pub peer: Peer,
    /// The path of the request.
    pub path: &'static str,
    /// What it says.
    pub notification: Notification,
    /// Bytes of its body as sent.
    pub bytes: usize,
    /// The body as one line of JSON; `None` if it is too long to be kept.
    pub body: Option<Bytes>,
}

impl Webhook {
    fn size(&self) -> usize {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        size_of::<Webhook>() + self.notification.size() + body
    }
}

/// The share of all bytes that one body can take, as 1/N, so that a long body does not
/// push out all others.
const LARGEST_SHARE: usize = 8;

/// The newest webhooks.
#[derive(Debug)]
pub struct WebhookHistory {
    most: usize,
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Newest first.
    webhooks: VecDeque<Arc<Webhook>>,
    bytes: usize,
}

impl WebhookHistory {
    /// An empty history with the limits of the settings.
    pub fn new(config: &Config) -> Self {
        WebhookHistory {
            most: config.max_webhooks,
            most_bytes: config.max_webhook_bytes,
            state: Mutex::default(),
        }
    }

    /// Whether a body of `bytes` would be kept.
    pub fn takes(&self, bytes: usize) -> bool {
        self.most > 0 && bytes <= self.most_bytes / LARGEST_SHARE
    }

    /// Adds a webhook and drops the oldest ones beyond the limits. Returns the number of
    /// kept webhooks and their bytes.
    pub fn keep(&self, webhook: Webhook) -> (usize, usize) {
        let size = webhook.size();
        let mut gone = Vec::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += size;
        state.webhooks.push_front(Arc::new(webhook));
        while state.webhooks.len() > self.most || state.bytes > self.most_bytes {
            let Some(oldest) = state.webhooks.pop_back() else {
                break;
            };
            state.bytes -= oldest.size();
            gone.push(oldest);
        }
        let counts = (state.webhooks.len(), state.bytes);
        drop(state);
        counts
    }

    /// All kept webhooks, newest first.
    pub fn all(&self) -> Vec<Arc<Webhook>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.webhooks.iter().map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inputs::webhooks::notification::WebhookKind;

    fn kept(most: usize, most_bytes: usize) -> WebhookHistory {
        WebhookHistory {
            most,
            most_bytes,
            state: Mutex::default(),
        }
    }

    fn webhook(bytes: usize) -> Webhook {
        Webhook {
            at: Now::read(),
            peer: Peer::Unknown,
            path: "/webhook",
            notification: Notification::of(WebhookKind::Webhook, &json!({})),
            bytes,
            body: Some(Bytes::from(vec![b' '; bytes])),
        }
    }

    fn lengths(kept: &WebhookHistory) -> Vec<usize> {
        kept.all().iter().map(|webhook| webhook.bytes).collect()
    }

    #[test]
    fn the_newest_are_kept_and_come_first() {
        let three = kept(3, 1 << 20);
        for bytes in 1..=5 {
            three.keep(webhook(bytes));
        }
        assert_eq!(lengths(&three), [5, 4, 3]);
        let none = kept(0, 1 << 20);
        none.keep(webhook(1));
        assert!(lengths(&none).is_empty() && !none.takes(0));
    }

    #[test]
    fn bytes_are_limited() {
        let bytes = 10_000;
        let two = kept(100, 2 * webhook(bytes).size() + 1);
        for _ in 0..4 {
            two.keep(webhook(bytes));
        }
        assert_eq!(lengths(&two), [bytes, bytes]);
        two.keep(webhook(1));
        assert_eq!(lengths(&two), [1, bytes]);
        two.keep(webhook(10 * bytes));
        assert_eq!(lengths(&two), [0_usize; 0]);
        assert_eq!(two.state.lock().unwrap().bytes, 0);
        let small = kept(100, 800);
        assert!(small.takes(100) && !small.takes(101));
    }
}
