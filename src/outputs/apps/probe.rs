//! `/probe`: polls one target of the configuration, and serves its response. Only targets that
//! have a name here can be probed, never an address of the request.

use hyper::StatusCode;

use super::{Apps, failure, late, scrape_timeout};
use crate::context::NotPolled;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::store::{Producer, SectionId};
use crate::telemetry::clip;

impl Apps {
    /// Polls the target that the request names. Concurrent requests share a poll.
    pub(super) async fn probe(&self, request: &Request) -> Reply {
        let Some(name) = query::value(request.query(), "target") else {
            return reply::bad_value("target is required: the name of a target, as in /apps");
        };
        let deadline = scrape_timeout::deadline(request.headers());
        let shown = clip(&name);
        let id = SectionId::new(&name, Producer::Target);
        let status = match self.polls.poll(&name, Some(deadline)).await {
            Ok(()) => return self.metrics.one(request, &id).await,
            Err(NotPolled::Unknown) => {
                return reply::not_found(&format!("no target is called \"{shown}\""), None);
            }
            Err(NotPolled::Failed(_)) => {
                let section = self.store.section_of(&id);
                if let Some(failure) = section.and_then(|section| failure(&id, &section, "")) {
                    return failure;
                }
                StatusCode::BAD_GATEWAY
            }
            Err(NotPolled::Late) => return late(&name),
            Err(NotPolled::Interrupted) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                "was changed or removed while it was polled, or the proxy is stopping; try again"
            }
            _ => "cannot be polled",
        };
        reply::text(status, format!("target \"{shown}\" {problem}\n"))
    }
}
