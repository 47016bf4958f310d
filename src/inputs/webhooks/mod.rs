//! Webhooks: receives notifications of Alertmanager and others in place of the services
//! that they are meant for, and lists, logs and counts them.
//!
//! [`notification`] reads a body, [`history`] keeps the newest, and [`list`] shows them.
//! Secrets are redacted before anything else happens to a body.

pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod history;
mod list;
mod notification;
mod stored;

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply, closing};
use crate::http::request::Request;
use crate::http::router::{ANY_PARAMETER, Pages, Route};
use crate::http::work;
use crate::ingest::{Body, Rejection};
use crate::reason::Reason;
use crate::redact::redact_json;
use crate::storage::Persistent;
use crate::store::Store;
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{Telemetry, WebhookLabels, clip_to};
pub use history::Webhook;
use history::WebhookHistory;
pub use list::names;
use notification::{Notification, WebhookKind};
pub use stored::READABLE as READABLE_WEBHOOKS;

/// The paths of webhooks.
const PATHS: [&str; 4] = ["/webhook", "/slack", "/pagerduty", "/v2/enqueue"];

/// The limit on bytes of a body in the log.
const LONGEST_LOGGED: usize = 16 << 10;

/// The limit on a body after decompression, in bytes. All of it is searched for secrets,
/// which takes up to a second at this size.
const LARGEST: usize = 8 << 20;

/// Bodies larger than this, in bytes, are parsed off the serving threads.
const MAX_INLINE_JSON: usize = 64 << 10;

/// The limit on JSON values in a body. Each can take a kilobyte of memory, however short
/// its text.
const MOST_VALUES: usize = 100_000;

/// The length of the longest key that PagerDuty accepts, in bytes.
const LONGEST_DEDUP_KEY: usize = 255;

/// Receives webhooks, and lists the newest.
#[derive(Debug)]
pub struct Webhooks {
    history: Arc<WebhookHistory>,
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
}

impl Webhooks {
    /// Creates the input.
    pub fn new(config: &config::Config, context: &Context) -> Arc<Self> {
        let history = Arc::new(WebhookHistory::new(config));
        let kept: Arc<dyn Persistent> = Arc::<WebhookHistory>::clone(&history);
        context.journal.attach(kept, Now::read());
        let webhooks = Webhooks {
            history,
            store: Arc::clone(&context.store),
            telemetry: Arc::clone(&context.telemetry),
        };
        webhooks.count_kept(webhooks.history.counts());
        Arc::new(webhooks)
    }

    /// Changes the limits on kept webhooks.
    pub fn set_limits(&self, config: &config::Config) {
        self.count_kept(self.history.set_limits(config));
    }

    /// Updates the metrics for kept webhooks and their bytes.
    fn count_kept(&self, (count, bytes): (usize, usize)) {
        let stats = &self.telemetry.webhooks;
        stats.kept.set(count);
        stats.kept_bytes.set(bytes);
    }

    /// The webhooks that match a query, newest first.
    ///
    /// # Errors
    ///
    /// A parameter has an invalid value.
    pub fn matching(&self, query: &str) -> Result<Vec<Arc<Webhook>>, String> {
        list::matching(&self.history, query)
    }

    /// The routes of the input. Services put tokens in the addresses of their webhooks, so
    /// parameters may have any name.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const FILTERS: &str = "kind alertname receiver status format";
        let take = |pattern, kind: WebhookKind, handle| {
            let telemetry = Arc::clone(&self.telemetry);
            Route::write(kind.as_str(), "POST", pattern, ANY_PARAMETER, self, handle).on_rejection(
                Arc::new(move |reason| telemetry.webhooks.count_rejected(kind.as_str(), reason)),
            )
        };
        vec![
            take(PATHS[0], WebhookKind::Webhook, |it, request| {
                Box::pin(it.take(WebhookKind::Webhook, PATHS[0], request))
            }),
            take(PATHS[1], WebhookKind::Slack, |it, request| {
                Box::pin(it.take(WebhookKind::Slack, PATHS[1], request))
            }),
            take(PATHS[2], WebhookKind::PagerDuty, |it, request| {
                Box::pin(it.take(WebhookKind::PagerDuty, PATHS[2], request))
            }),
            take(PATHS[3], WebhookKind::PagerDuty, |it, request| {
                Box::pin(it.take(WebhookKind::PagerDuty, PATHS[3], request))
            }),
            Route::read("webhooks", "/webhooks", FILTERS, self, |it, request| {
                Box::pin(list::list(&it.history, request))
            })
            .on_push_listener()
            .pages(Pages::Listed),
        ]
    }

    /// Receives a webhook.
    async fn take(&self, kind: WebhookKind, path: &'static str, request: &mut Request) -> Reply {
        let content_type = request.content_type();
        if !is_json(&content_type) {
            let message = format!(
                "a webhook is JSON: its Content-Type must be application/json, not {content_type:?}"
            );
            let rejection = Rejection::new(Reason::UnsupportedMedia, &message);
            return self.reject(request, kind, &rejection);
        }
        drop(content_type);
        let body = match request.try_read_body().await {
            Ok(body) => body,
            Err((rejection, _)) => return closing(self.reject(request, kind, &rejection)),
        };
        let at = Now::read();
        let bytes = body.len();
        let read = match work::decompress(request, body).await {
            Ok(body) => {
                let is_large = body.len() > MAX_INLINE_JSON;
                let place = is_large.then_some(&request.server.pools.webhooks);
                let read = move |body: Body<'_>| Content::read(kind, body.bytes);
                work::on_body(request, &self.store, place, body, read).await
            }
            Err(rejection) => Err(rejection),
        };
        let content = match read {
            Ok(content) => content,
            Err(rejection) => return self.reject(request, kind, &rejection),
        };
        let Content {
            notification,
            line,
            is_event,
            dedup_key,
        } = content;
        let about = About::peer(request.peer);
        if sender_log::write(
            LogEvent::Webhook,
            about,
            format_args!("{path} from {}: {}", request.peer, summary(&notification)),
        ) {
            // The body is logged only on request.
            let details = format_args!("{path} from {}: {}", request.peer, logged(&line));
            sender_log::write_details(LogEvent::Webhook, about, details);
        }
        self.count(&notification);
        let history = &self.history;
        let webhook = Webhook {
            at,
            peer: request.peer,
            path,
            notification,
            bytes,
            body: history.takes(line.len()).then_some(line),
        };
        self.count_kept(history.keep(webhook));
        match kind {
            // Slack answers with this word, and Alertmanager checks it. Slack's
            // notifications may also be sent to the general path.
            WebhookKind::Webhook | WebhookKind::Slack => reply::text(StatusCode::OK, "ok"),
            WebhookKind::PagerDuty => {
                let answer = json!({
                    "status": "success",
                    "message": "Event processed",
                    "dedup_key": dedup_key.unwrap_or_else(new_key),
                });
                // Senders of events expect 202. pingpong, which also receives lists of
                // metrics here, answers 200.
                let status = match is_event {
                    true => StatusCode::ACCEPTED,
                    false => StatusCode::OK,
                };
                reply::json_with(status, &answer)
            }
        }
    }

    /// Counts a webhook once for each of its alerts.
    fn count(&self, notification: &Notification) {
        let stats = &self.telemetry.webhooks;
        let labels = |(alertname, status): (&str, notification::AlertStatus)| WebhookLabels {
            alertname: alertname.to_owned(),
            kind: notification.kind.as_str(),
            receiver: notification.receiver.clone(),
            status: status.as_str(),
        };
        for (alertname, status) in &notification.alerts {
            stats.count(labels((alertname, *status)));
        }
        if notification.alerts.is_empty() {
            stats.count(labels(("", notification.status)));
        }
        if notification.more {
            stats.count_others(labels(("", notification.status)));
        }
    }

    /// Logs and counts a rejected webhook, and returns the reply.
    fn reject(&self, request: &Request, kind: WebhookKind, rejection: &Rejection) -> Reply {
        let Rejection {
            reason, message, ..
        } = rejection;
        let sort = kind.as_str();
        let who = format_args!("{sort} from {}", request.peer);
        let about = About::peer(request.peer);
        sender_log::rejected(LogEvent::RequestRejected, about, who, *reason, message);
        let stats = &self.telemetry.webhooks;
        stats.count_rejected(sort, *reason);
        let reply = reply::rejection(rejection);
        match (kind, reply.status()) {
            // PagerDuty's own format, from which Alertmanager logs the reason.
            (WebhookKind::PagerDuty, StatusCode::BAD_REQUEST) => {
                let answer = json!({
                    "status": "invalid event",
                    "message": "Event object is invalid",
                    "errors": [message],
                });
                reply::json_with(StatusCode::BAD_REQUEST, &answer)
            }
            _ => reply,
        }
    }
}

/// The parsed content of a body.
struct Content {
    notification: Notification,
    /// The whole body in one line, with secrets redacted.
    line: Bytes,
    /// Whether it is an object, like every event.
    is_event: bool,
    dedup_key: Option<String>,
}

impl Content {
    fn read(kind: WebhookKind, text: &[u8]) -> Result<Self, Rejection> {
        if text.len() > LARGEST {
            let message = format!("a webhook has at most {LARGEST} bytes");
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        if values(text) > MOST_VALUES {
            let message = format!("the body has more than {MOST_VALUES} values");
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        let mut body: Value = serde_json::from_slice(text)
            .map_err(|problem| Rejection::invalid_json("JSON expected", &problem))?;
        let dedup_key = dedup_key(&body);
        redact_json(&mut body);
        Ok(Content {
            notification: Notification::of(kind, &body),
            line: Bytes::from(body.to_string().into_boxed_str().into_boxed_bytes()),
            is_event: body.is_object(),
            dedup_key,
        })
    }
}

/// Whether a `Content-Type` is JSON. Parameters and case do not matter.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// An upper bound on the number of values in a JSON text.
fn values(json: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let mut values = 1;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => values += 1,
            _ => {}
        }
    }
    values
}

/// The key of an event, which PagerDuty returns to its sender.
fn dedup_key(body: &Value) -> Option<String> {
    let key = body.get("dedup_key")?.as_str()?;
    (1..=LONGEST_DEDUP_KEY)
        .contains(&key.len())
        .then(|| key.to_owned())
}

/// A new unique key.
fn new_key() -> String {
    // Each `RandomState` has its own random keys.
    let part = || RandomState::new().hash_one(Now::read().tick);
    format!("{:016x}{:016x}", part(), part())
}

/// The part of a body to log.
fn logged(line: &[u8]) -> String {
    clip_to(LONGEST_LOGGED, &String::from_utf8_lossy(line), " ... (cut)")
}

/// Describes a webhook in one line.
fn summary(notification: &Notification) -> String {
    let mut summary = format!(
        "{}, {}",
        notification.kind.as_str(),
        notification.status.as_str()
    );
    if !notification.receiver.is_empty() {
        let _ = write!(summary, ", receiver {:?}", notification.receiver);
    }
    if !notification.alerts.is_empty() {
        let _ = write!(summary, ", alerts {}", names(notification));
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_without_reading_them() {
        for (json, count) in [
            ("1", 1),
            ("[]", 2),
            ("[1,2]", 3),
            (r#"{"a":[{},"x,[{\",\\"]}"#, 5),
            (r#""a,b""#, 1),
        ] {
            assert_eq!(values(json.as_bytes()), count, "{json}");
        }
    }

    #[test]
    fn types_are_compared_without_parameters_and_case() {
        for right in ["application/json", "Application/JSON ; charset=utf-8"] {
            assert!(is_json(right), "{right}");
        }
        for wrong in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json,a/b",
        ] {
            assert!(!is_json(wrong), "{wrong}");
        }
    }

    #[test]
    fn logged_bodies_are_short_and_clean() {
        let strange = json!({"a": "x\ny\u{1b}[31m\u{9b}\u{202e}é", "b": []}).to_string();
        let expected = "{\"a\":\"x\\ny\\u001b[31m\\u{9b}\\u{202e}é\",\"b\":[]}";
        assert_eq!(logged(strange.as_bytes()), expected);
        let long = logged("é".repeat(LONGEST_LOGGED).as_bytes());
        assert!(long.len() <= LONGEST_LOGGED + 16, "{}", long.len());
        assert!(long.ends_with("é ... (cut)"));
    }

    #[test]
    fn valid_dedup_keys_are_returned() {
        let key = |value: Value| dedup_key(&json!({ "dedup_key": value }));
        assert_eq!(key(json!("mine")).as_deref(), Some("mine"));
        for none in [json!(""), json!(1), json!("x".repeat(256))] {
            assert_eq!(key(none), None);
        }
        assert_eq!(dedup_key(&json!([])), None);
        let made = new_key();
        assert!(made.len() == 32 && made != new_key(), "{made}");
    }
}
