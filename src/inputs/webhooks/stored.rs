//! Converts kept webhooks to records and back.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::PATHS;
use super::history::{Webhook, WebhookHistory};
use super::notification::{AlertStatus, Notification, WebhookKind};
use crate::clock::Now;
use crate::peer::Peer;
use crate::record::Record;
use crate::storage::{Changes, Layer, Persistent, ReadError, ReadableForm, StoredRecords};
use crate::store::export::PeerRecord;

/// The prefix of the stored keys. The number of the webhook follows, in hexadecimal digits,
/// so that keys sort by arrival.
const PREFIX: &str = "hook/";

/// The first byte of a stored value.
const VERSION: u8 = 1;

/// Stored webhooks as JSON.
pub const READABLE: ReadableForm = ReadableForm::of_record::<WebhookRecord, VERSION>(PREFIX);

/// A stored webhook.
#[derive(Debug, Serialize, Deserialize)]
struct WebhookRecord {
    /// The time of arrival, in nanoseconds since 1970.
    at: u64,
    peer: PeerRecord,
    path: String,
    kind: String,
    receiver: String,
    status: String,
    /// Names and statuses of alerts.
    alerts: Vec<(String, String)>,
    /// Whether there were more alerts.
    more: bool,
    /// The number of bytes of its body, as sent.
    bytes: u64,
    /// The body as one line of JSON, if it is kept.
    body: Option<String>,
}

impl Persistent for WebhookHistory {
    fn prefixes(&self) -> &'static [&'static str] {
        &[PREFIX]
    }

    fn layer(&self) -> Layer {
        Layer::Other
    }

    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError> {
        self.lock().changed = Some(BTreeSet::new());
        stored.each(&mut |key, value| {
            let (number, webhook) =
                decode(&key, &value, now).ok_or_else(|| ReadError::of_key(&key))?;
            self.put_back(number, webhook);
            Ok(())
        })?;
        Ok(self.all().len())
    }

    fn take_changes(&self, _now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut state = self.lock();
        let changed = state.changed.as_mut().map(mem::take).unwrap_or_default();
        let webhooks: Vec<(u64, Option<Arc<Webhook>>)> = changed
            .into_iter()
            .map(|number| (number, state.numbered(number)))
            .collect();
        drop(state);
        beneath();
        let record = |(number, webhook): (u64, Option<Arc<Webhook>>)| Record {
            key: format!("{PREFIX}{number:016x}").into_bytes(),
            value: webhook.map(|webhook| encode(&webhook)),
        };
        Changes::some(webhooks.into_iter().map(record))
    }

    fn note_everything(&self) {
        let state = &mut *self.lock();
        let all = state.first()..state.next;
        if let Some(changed) = &mut state.changed {
            changed.extend(all);
        }
    }
}

fn encode(webhook: &Webhook) -> Vec<u8> {
    let Webhook {
        at,
        peer,
        path,
        notification,
        bytes,
        body,
    } = webhook;
    let alerts = notification.alerts.iter();
    let body = body.as_deref().map(String::from_utf8_lossy);
    let record = WebhookRecord {
        at: at.unix_nanos(),
        peer: PeerRecord::from(*peer),
        path: (*path).to_owned(),
        kind: notification.kind.as_str().to_owned(),
        receiver: notification.receiver.clone(),
        status: notification.status.as_str().to_owned(),
        alerts: alerts
            .map(|(name, status)| (name.clone(), status.as_str().to_owned()))
            .collect(),
        more: notification.more,
        bytes: *bytes as u64,
        body: body.map(std::borrow::Cow::into_owned),
    };
    // Writing to memory fails only for sequences of unknown length.
    postcard::to_extend(&record, vec![VERSION]).unwrap_or_default()
}

fn decode(key: &[u8], value: &[u8], now: Now) -> Option<(u64, Webhook)> {
    let number = str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let number = u64::from_str_radix(number, 16).ok()?;
    let (version, rest) = value.split_first()?;
    let record: WebhookRecord = postcard::from_bytes(rest).ok()?;
    let status = |word: &str| AlertStatus::ALL.into_iter().find(|it| it.as_str() == word);
    let alerts = record.alerts.into_iter();
    let alerts = alerts.map(|(name, word)| Some((name, status(&word)?)));
    let webhook = Webhook {
        at: now.at_unix_nanos(record.at),
        peer: Peer::from(record.peer),
        path: PATHS.into_iter().find(|path| *path == record.path)?,
        notification: Notification {
            kind: WebhookKind::ALL
                .into_iter()
                .find(|it| it.as_str() == record.kind)?,
            receiver: record.receiver,
            status: status(&record.status)?,
            alerts: alerts.collect::<Option<_>>()?,
            more: record.more,
        },
        bytes: usize::try_from(record.bytes).ok()?,
        body: record.body.map(Bytes::from),
    };
    let is_valid = *version == VERSION && number < u64::MAX;
    is_valid.then_some((number, webhook))
}
