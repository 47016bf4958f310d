//! `GET /webhooks`: the webhooks that are kept, as a table or as JSON.

use std::sync::Arc;

use bytes::Bytes;
use comfy_table::Table;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::kept::{Kept, Webhook};
use super::notice::{Kind, Notice};
use crate::http::apps::{RULED, rfc3339, utc, wants_json};
use crate::http::body::Pieces;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::turns;
use crate::store::Now;
use crate::telemetry::clip;

/// Lists that are made at once: that memory is taken once. Others wait.
static LISTS: Semaphore = Semaphore::const_new(1);

/// All of them, the newest first, or those that a filter lets through. There
/// may be many, so the list is made away from the threads that serve.
pub async fn list(kept: &Arc<Kept>, query: &str, headers: &HeaderMap) -> Reply {
    let filter = match Filter::of(query) {
        Ok(filter) => filter,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    let json = wants_json(query, headers);
    let kept = Arc::clone(kept);
    let listed = turns::away(&LISTS, move || show(&kept, &filter, json)).await;
    listed.unwrap_or_else(|problem| {
        log::error!("the list of webhooks cannot be made: {problem}");
        let problem = "the list of webhooks cannot be made; the log says why\n";
        reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
    })
}

fn show(kept: &Kept, filter: &Filter, json: bool) -> Reply {
    let mut webhooks = kept.all();
    webhooks.retain(|webhook| filter.lets_through(&webhook.notice));
    if json {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        return reply::reply(StatusCode::OK, JSON, as_json(&webhooks));
    }
    reply::text(StatusCode::OK, as_table(&webhooks))
}

/// Which webhooks are asked for.
#[derive(Debug, Default)]
struct Filter {
    kind: Option<Kind>,
    alertname: Option<String>,
    receiver: Option<String>,
    status: Option<String>,
}

impl Filter {
    fn of(query: &str) -> Result<Self, String> {
        let value = |name| query::value(query, name);
        let kind = value("kind").map(|kind| {
            let known = Kind::ALL.into_iter().find(|it| it.as_str() == kind);
            let words = Kind::ALL.map(Kind::as_str).join(", ");
            known.ok_or_else(|| clip(&format!("kind is one of {words}, not {kind:?}")) + "\n")
        });
        Ok(Filter {
            kind: kind.transpose()?,
            alertname: value("alertname"),
            receiver: value("receiver"),
            status: value("status"),
        })
    }

    fn lets_through(&self, notice: &Notice) -> bool {
        let is = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|it| it == is);
        // An alert is asked for with its own status.
        let mut alerts = notice.alerts.iter();
        let alert = match (&self.alertname, &self.status) {
            (Some(name), status) => {
                alerts.any(|(it, its_status)| it == name && is(status, its_status.as_str()))
            }
            (None, Some(status)) => {
                notice.status.as_str() == status
                    || alerts.any(|(_, its_status)| its_status.as_str() == status)
            }
            (None, None) => true,
        };
        alert
            && self.kind.is_none_or(|kind| kind == notice.kind)
            && is(&self.receiver, &notice.receiver)
    }
}

fn as_table(webhooks: &[Arc<Webhook>]) -> String {
    let mut table = Table::new();
    table.load_style(RULED);
    table.set_header([
        "Time (UTC)",
        "Kind",
        "Receiver",
        "Status",
        "Alerts",
        "Peer",
        "Bytes",
    ]);
    for webhook in webhooks {
        let notice = &webhook.notice;
        table.add_row([
            utc(webhook.at.wall),
            notice.kind.as_str().to_owned(),
            or_dash(notice.receiver.clone()),
            notice.status.as_str().to_owned(),
            or_dash(names(notice)),
            webhook.peer.to_string(),
            webhook.bytes.to_string(),
        ]);
    }
    format!("{table}\n")
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// The names of a webhook's alerts, as far as there is room in a line.
pub fn names(notice: &Notice) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &notice.alerts {
        // One that fires and is resolved at once.
        if names.last() != Some(&name.as_str()) {
            names.push(name);
        }
    }
    if notice.more {
        names.push("...");
    }
    clip(&names.join(", "))
}

/// The bodies are JSON already, and are sent as they lie.
fn as_json(webhooks: &[Arc<Webhook>]) -> Pieces {
    let now = rfc3339(Now::read().wall);
    let mut text = format!("{{\"time\":{},\"webhooks\":[", json!(now));
    let mut pieces = Vec::new();
    for (place, webhook) in webhooks.iter().enumerate() {
        let details = details(webhook).to_string();
        let open = details.strip_suffix('}').unwrap_or(&details);
        text.push_str(if place > 0 { "," } else { "" });
        text.push_str(open);
        text.push_str(",\"body\":");
        match &webhook.body {
            Some(body) => {
                pieces.push(Bytes::from(std::mem::take(&mut text)));
                pieces.push(body.clone());
            }
            None => text.push_str("null"),
        }
        text.push('}');
    }
    text.push_str("]}\n");
    pieces.push(Bytes::from(text));
    Pieces::new(pieces)
}

/// All but the body.
fn details(webhook: &Webhook) -> Value {
    let notice = &webhook.notice;
    let alerts: Vec<Value> = notice
        .alerts
        .iter()
        .map(|(name, status)| json!({ "name": name, "status": status.as_str() }))
        .collect();
    json!({
        "time": rfc3339(webhook.at.wall),
        "path": webhook.path,
        "peer": webhook.peer.to_string(),
        "kind": notice.kind.as_str(),
        "receiver": notice.receiver,
        "status": notice.status.as_str(),
        "alerts": alerts,
        "bytes": webhook.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_list_is_made_away_and_one_at_a_time() {
        let kept = Arc::new(Kept::new(&Config::default().push));
        let headers = HeaderMap::new();
        let turn = LISTS.acquire().await.unwrap();
        let mut waits = Box::pin(list(&kept, "", &headers));
        tokio::select! {
            biased;
            _ = &mut waits => panic!("made beside another"),
            () = std::future::ready(()) => {}
        }
        drop(turn);
        assert_eq!(waits.await.status(), StatusCode::OK);
        // What is wrong is told at once.
        let _turn = LISTS.acquire().await.unwrap();
        let refused = list(&kept, "kind=x", &headers).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
}
