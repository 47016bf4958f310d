//! `/ping`, as in pingpong. On the push listener, a ping with parameters is counted: the
//! parameters become labels of `ping_request_count`, by which Alertmanager chooses a
//! receiver. A ping without parameters is a health check and changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::change::{Action, BodyFormat, Changer};
use crate::clock::Now;
use crate::context::Context;
use crate::exposition::write_label_value;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Route};
use crate::ingest::{Addition, Body, Rejection};
use crate::store::Store;
use crate::telemetry::{PushMethod, dates};

/// The counter of pings, without its labels.
const HEAD: &str = "# HELP ping_request_count Pings, by their parameters.\n\
                    # TYPE ping_request_count counter\n\
                    ping_request_count{app=\"pingpong\"";

/// The parameters that become labels, with their default values.
const LABELS: [(&str, &str); 9] = [
    ("arg1", ""),
    ("arg2", ""),
    ("extra_slack_recipient", ""),
    ("extra_slack_recipient_god", ""),
    ("instance", "pingpong"),
    ("path", "/tmp/cups_of_tea"),
    ("receiver", "default-receiver-god"),
    ("routing_key", ""),
    ("webhook", ""),
];

/// The input `/ping`.
#[derive(Debug)]
pub struct Ping {
    changer: Changer,
    store: Arc<Store>,
}

impl Ping {
    /// Creates the input.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Ping {
            changer: Changer {
                admission: Arc::clone(&context.admission),
            },
            store: Arc::clone(&context.store),
        })
    }

    /// The routes of the input.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let plain = || -> Route {
            Route::read("ping", "/ping", ANY_PARAMETER, self, |_, _| {
                Box::pin(async { pong() })
            })
        };
        let counted = Route::write(
            "ping",
            ANY_METHOD,
            "/ping",
            ANY_PARAMETER,
            self,
            |it, request| Box::pin(it.count(request)),
        );
        let has_parameters = Arc::new(|head: &Parts, _: &str| {
            head.uri.query().is_some_and(|query| !query.is_empty())
        });
        vec![
            counted
                .counted(PushMethod::Ping)
                .checks_scope()
                .without_options()
                .when("parameters", has_parameters),
            plain(),
            plain()
                .on_push_listener()
                .without_options()
                .methods(ANY_METHOD),
        ]
    }

    /// Counts a ping and answers it.
    async fn count(&self, request: &mut Request) -> Reply {
        match self.add(request) {
            Ok(()) => {
                request.count_success(0);
                pong()
            }
            Err(rejection) => request.reject(&rejection, 0),
        }
    }

    fn add(&self, request: &Request) -> Result<(), Rejection> {
        let addition = Addition {
            ttl: None,
            key: None,
            scope: request.scope.clone(),
            account: request.account().clone(),
            listener: None,
        };
        let body = Body {
            content_type: "",
            bytes: &Bytes::from(sample(request.query())),
        };
        let action = (Action::Create, BodyFormat::Text);
        let changed = self
            .changer
            .change(&self.store, action, body, &addition, Now::read());
        changed.map(drop)
    }
}

/// The reply to a ping.
fn pong() -> Reply {
    let now = dates::utc(Now::read().wall);
    reply::text(StatusCode::OK, format!("PONG - {now}\n"))
}

/// The text that counts a ping with the parameters of `query`.
fn sample(query: &str) -> String {
    let mut text = HEAD.to_owned();
    for (name, default) in LABELS {
        let value = query::value(query, name);
        text.push_str(&format!(",{name}=\""));
        write_label_value(&mut text, value.as_deref().unwrap_or(default));
        text.push('"');
    }
    text.push_str("} 1\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_labels_and_the_others_have_their_defaults() {
        let text = sample("path=%2Fa%22b&other=x&receiver=team+a&path=second");
        assert_eq!(
            text.lines().last(),
            Some(
                "ping_request_count{app=\"pingpong\",arg1=\"\",arg2=\"\",\
                 extra_slack_recipient=\"\",extra_slack_recipient_god=\"\",\
                 instance=\"pingpong\",path=\"/a\\\"b\",receiver=\"team a\",\
                 routing_key=\"\",webhook=\"\"} 1"
            )
        );
    }
}
