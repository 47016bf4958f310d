//! Keeps the newest webhooks, limited in number and bytes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::config::Config;
use super::notification::Notification;
use crate::clock::Now;
use crate::peer::Peer;

/// An accepted webhook, with its secrets redacted.
#[derive(Debug)]
pub struct Webhook {
    /// The time of arrival.
    pub at: Now,
    /// The sender.
    pub peer: Peer,
    /// The path of the request.
    pub path: &'static str,
    /// The content of its body.
    pub notification: Notification,
    /// The number of bytes of its body, as sent.
    pub bytes: usize,
    /// The body as one line of JSON; `None` if it is too long to keep.
    pub body: Option<Bytes>,
}

impl Webhook {
    fn size(&self) -> usize {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        size_of::<Webhook>() + self.notification.size() + body
    }
}

/// A body may take one part in `LARGEST_SHARE` of all bytes, so that a long body does not
/// push out all others.
const LARGEST_SHARE: usize = 8;

/// The newest webhooks.
#[derive(Debug)]
pub struct WebhookHistory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The limit on webhooks.
    most: usize,
    /// The limit on their bytes.
    most_bytes: usize,
    /// Newest first. Their numbers are consecutive, and descend.
    webhooks: VecDeque<Arc<Webhook>>,
    bytes: usize,
    /// The number of the next webhook.
    pub(super) next: u64,
    /// The numbers of webhooks that were added or dropped since changes were last taken, if
    /// webhooks are stored.
    pub(super) changed: Option<BTreeSet<u64>>,
}

impl WebhookHistory {
    /// Creates an empty history with the configured limits.
    pub fn new(config: &Config) -> Self {
        let state = State {
            most: config.max_webhooks,
            most_bytes: config.max_webhook_bytes,
            ..State::default()
        };
        WebhookHistory {
            state: Mutex::new(state),
        }
    }

    /// Changes the limits, and drops the oldest webhooks beyond them. Returns the number of
    /// kept webhooks and their bytes.
    pub fn set_limits(&self, config: &Config) -> (usize, usize) {
        let mut state = self.lock();
        state.most = config.max_webhooks;
        state.most_bytes = config.max_webhook_bytes;
        let gone = state.drop_oldest();
        let counts = state.counts();
        drop(state);
        drop(gone);
        counts
    }

    /// Whether a body of `bytes` bytes would be kept.
    pub fn takes(&self, bytes: usize) -> bool {
        let state = self.lock();
        state.most > 0 && bytes <= state.most_bytes / LARGEST_SHARE
    }

    /// Adds a webhook and drops the oldest ones beyond the limits. Returns the number of
    /// kept webhooks and their bytes.
    pub fn keep(&self, webhook: Webhook) -> (usize, usize) {
        let mut state = self.lock();
        let number = state.next;
        state.note(number);
        let gone = state.add(webhook);
        let counts = state.counts();
        drop(state);
        drop(gone);
        counts
    }

    /// Restores a stored webhook. They arrive in the order of their numbers; a gap means
    /// that a webhook could not be read.
    pub(super) fn put_back(&self, number: u64, webhook: Webhook) {
        let mut state = self.lock();
        if number != state.next {
            let others = state.first()..state.next;
            if let Some(changed) = &mut state.changed {
                changed.extend(others);
            }
            state.webhooks.clear();
            state.bytes = 0;
        }
        state.next = number;
        state.add(webhook);
    }

    /// All kept webhooks, newest first.
    pub fn all(&self) -> Vec<Arc<Webhook>> {
        self.lock().webhooks.iter().map(Arc::clone).collect()
    }

    /// The number of kept webhooks and their bytes.
    pub fn counts(&self) -> (usize, usize) {
        self.lock().counts()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a webhook, and returns those that it displaces.
    fn add(&mut self, webhook: Webhook) -> Vec<Arc<Webhook>> {
        self.bytes += webhook.size();
        self.next += 1;
        self.webhooks.push_front(Arc::new(webhook));
        self.drop_oldest()
    }

    /// Removes the oldest webhooks beyond the limits, and returns them.
    fn drop_oldest(&mut self) -> Vec<Arc<Webhook>> {
        let mut gone = Vec::new();
        while self.webhooks.len() > self.most || self.bytes > self.most_bytes {
            let first = self.first();
            let Some(oldest) = self.webhooks.pop_back() else {
                break;
            };
            self.note(first);
            self.bytes -= oldest.size();
            gone.push(oldest);
        }
        gone
    }

    fn counts(&self) -> (usize, usize) {
        (self.webhooks.len(), self.bytes)
    }

    fn note(&mut self, number: u64) {
        if let Some(changed) = &mut self.changed {
            changed.insert(number);
        }
    }

    /// The number of the oldest webhook.
    pub(super) fn first(&self) -> u64 {
        self.next - self.webhooks.len() as u64
    }

    /// The webhook with a number, if it is kept.
    pub(super) fn numbered(&self, number: u64) -> Option<Arc<Webhook>> {
        let index = self.next.checked_sub(number + 1)?;
        self.webhooks.get(usize::try_from(index).ok()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inputs::webhooks::notification::WebhookKind;
    use crate::storage::{Disk, moved};

    fn kept(most: usize, most_bytes: usize) -> WebhookHistory {
        WebhookHistory::new(&Config {
            max_webhooks: most,
            max_webhook_bytes: most_bytes,
        })
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

    #[test]
    fn lower_limits_drop_the_oldest() {
        let five = kept(5, 1 << 20);
        for bytes in 1..=5 {
            five.keep(webhook(bytes));
        }
        let limits = |max_webhooks, max_webhook_bytes| Config {
            max_webhooks,
            max_webhook_bytes,
        };
        assert_eq!(five.set_limits(&limits(3, 1 << 20)).0, 3);
        assert_eq!(lengths(&five), [5, 4, 3]);
        five.set_limits(&limits(9, 2 * webhook(5).size()));
        assert_eq!(lengths(&five), [5, 4]);
        five.set_limits(&limits(9, 1 << 20));
        five.keep(webhook(6));
        assert_eq!(lengths(&five), [6, 5, 4]);
    }

    #[test]
    fn webhooks_are_stored_in_their_order() {
        let disk = Disk::default();
        let new = || kept(3, 1 << 20);
        let (history, first, second) = (new(), new(), new());
        let now = Now::read();
        moved(&new(), &disk, &history, now);
        for bytes in 1..=4 {
            history.keep(webhook(bytes));
        }
        assert_eq!(moved(&history, &disk, &first, now).1, 3);
        assert_eq!(lengths(&first), [4, 3, 2]);
        let (stored, shown) = (&history.all()[0], &first.all()[0]);
        assert_eq!(stored.notification, shown.notification);
        assert_eq!((stored.path, &stored.body), (shown.path, &shown.body));
        history.keep(webhook(5));
        // One webhook was added, which displaced another.
        assert_eq!(moved(&history, &disk, &second, now).0.len(), 2);
        assert_eq!(lengths(&second), [5, 4, 3]);
        second.keep(webhook(6));
        assert_eq!(lengths(&second), [6, 5, 4]);
    }
}
