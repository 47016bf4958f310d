//! `GET /webhooks`: lists the newest webhooks, as a table or as JSON.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::history::{Webhook, WebhookHistory};
use super::notification::{AlertStatus, Notification, WebhookKind};
use crate::clock::Now;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::reply_body::ChunkIterator;
use crate::http::request::Request;
use crate::http::table::{Row, TableWriter};
use crate::telemetry::{clip, dates};

/// The number of webhooks in one step of a list.
const LOOKED_AT_A_STEP: usize = 100;

/// The approximate size of one step of a JSON list, in bytes.
const PIECE: usize = 64 << 10;

/// Lists the webhooks that pass the filter, newest first.
pub async fn list(history: &WebhookHistory, request: &Request) -> Reply {
    let webhooks = match matching(history, request.query()) {
        Ok(webhooks) => webhooks,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    let json = match query::wants_json(request.query(), request.headers()) {
        Ok(json) => json,
        Err(problem) => return reply::bad_value(&problem),
    };
    let short = webhooks.len() <= LOOKED_AT_A_STEP;
    let maker: ChunkIterator = if json {
        Box::new(as_json(webhooks))
    } else {
        let webhooks: Arc<[Arc<Webhook>]> = webhooks.into();
        Box::new(TableWriter::new(None, &HEADER, Rows(webhooks, 0)))
    };
    reply::list(&request.server.pools.lists, short, json, maker).await
}

/// The webhooks that match the filter of a query, newest first.
///
/// # Errors
///
/// A parameter has an invalid value.
pub fn matching(history: &WebhookHistory, query: &str) -> Result<Vec<Arc<Webhook>>, String> {
    let filter = Filter::of(query)?;
    let mut webhooks = history.all();
    webhooks.retain(|webhook| filter.lets_through(&webhook.notification));
    Ok(webhooks)
}

/// A filter of webhooks.
#[derive(Debug, Default)]
struct Filter {
    kind: Option<WebhookKind>,
    alertname: Option<String>,
    receiver: Option<String>,
    status: Option<AlertStatus>,
}

impl Filter {
    fn of(query: &str) -> Result<Self, String> {
        let value = |name| query::value(query, name);
        let kind = value("kind").map(|kind| {
            let known = WebhookKind::ALL.into_iter().find(|it| it.as_str() == kind);
            let words = WebhookKind::ALL.map(WebhookKind::as_str).join(", ");
            known.ok_or_else(|| clip(&format!("kind must be one of {words}, not {kind:?}")) + "\n")
        });
        let status = value("status").map(|status| {
            let known = AlertStatus::ALL
                .into_iter()
                .find(|it| it.as_str() == status);
            let words = AlertStatus::ALL.map(AlertStatus::as_str).join(", ");
            known.ok_or_else(|| {
                clip(&format!("status must be one of {words}, not {status:?}")) + "\n"
            })
        });
        Ok(Filter {
            kind: kind.transpose()?,
            alertname: value("alertname"),
            receiver: value("receiver"),
            status: status.transpose()?,
        })
    }

    fn lets_through(&self, notification: &Notification) -> bool {
        let is = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|it| it == is);
        // The status in the filter is that of the alert, if the filter names one.
        let mut alerts = notification.alerts.iter();
        let alert = match (&self.alertname, self.status) {
            (Some(name), status) => alerts.any(|(it, its_status)| {
                it == name && status.is_none_or(|status| status == *its_status)
            }),
            (None, Some(status)) => {
                notification.status == status || alerts.any(|(_, its_status)| *its_status == status)
            }
            (None, None) => true,
        };
        alert
            && self.kind.is_none_or(|kind| kind == notification.kind)
            && is(&self.receiver, &notification.receiver)
    }
}

const HEADER: [&str; 7] = [
    "Time (UTC)",
    "Kind",
    "Receiver",
    "Status",
    "Alerts",
    "Peer",
    "Bytes",
];

/// Rows of webhooks, beginning at an index.
struct Rows(Arc<[Arc<Webhook>]>, usize);

impl Iterator for Rows {
    type Item = Vec<Row>;

    fn next(&mut self) -> Option<Vec<Row>> {
        let rest = self.0.get(self.1..).filter(|rest| !rest.is_empty())?;
        let some = &rest[..rest.len().min(LOOKED_AT_A_STEP)];
        self.1 += some.len();
        Some(some.iter().map(|webhook| row(webhook)).collect())
    }
}

fn row(webhook: &Webhook) -> Row {
    let notification = &webhook.notification;
    vec![
        dates::utc(webhook.at.wall),
        notification.kind.as_str().to_owned(),
        or_dash(notification.receiver.clone()),
        notification.status.as_str().to_owned(),
        or_dash(names(notification)),
        webhook.peer.to_string(),
        webhook.bytes.to_string(),
    ]
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// The names of a webhook's alerts, cut to fit in a line.
pub fn names(notification: &Notification) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &notification.alerts {
        // An alert may be firing and resolved in one webhook.
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if notification.more {
        names.push("...");
    }
    clip(&names.join(", "))
}

/// The list as JSON. The bodies are JSON already, and are copied verbatim.
fn as_json(webhooks: Vec<Arc<Webhook>>) -> impl Iterator<Item = Bytes> + Send {
    let now = dates::rfc3339(Now::read().wall);
    let head = Bytes::from(format!("{{\"time\":{},\"webhooks\":[", json!(now)));
    let mut rest = webhooks.into_iter();
    let mut first = true;
    let pieces = std::iter::from_fn(move || {
        let mut piece = Vec::new();
        for webhook in rest.by_ref() {
            let details = details(&webhook).to_string();
            let open = details.strip_suffix('}').unwrap_or(&details);
            piece.extend_from_slice(if first { b"" } else { b"," });
            first = false;
            piece.extend_from_slice(open.as_bytes());
            piece.extend_from_slice(b",\"body\":");
            piece.extend_from_slice(webhook.body.as_deref().unwrap_or(b"null"));
            piece.push(b'}');
            if piece.len() >= PIECE {
                break;
            }
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    });
    let end = Bytes::from_static(b"]}\n");
    [head].into_iter().chain(pieces).chain([end])
}

/// Everything except the body.
fn details(webhook: &Webhook) -> Value {
    let notification = &webhook.notification;
    let alerts: Vec<Value> = notification
        .alerts
        .iter()
        .map(|(name, status)| json!({ "name": name, "status": status.as_str() }))
        .collect();
    json!({
        "time": dates::rfc3339(webhook.at.wall),
        "path": webhook.path,
        "peer": webhook.peer.to_string(),
        "kind": notification.kind.as_str(),
        "receiver": notification.receiver,
        "status": notification.status.as_str(),
        "alerts": alerts,
        "bytes": webhook.bytes,
    })
}
