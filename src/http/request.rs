//! The request that handlers get.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::Server;
use super::reply::{self, Reply, closing};
use super::request_body::{self, BodyCharge, ReceivedBody};
use crate::fairness::Account;
use crate::ingest::Rejection;
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::security::Scope;
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{PushMethod, clip_to};

/// The limit on the length of a path in the log, in bytes.
const MAX_LOGGED_PATH: usize = 200;

/// A request, with the text that its route captured from the path.
#[derive(Debug)]
pub struct Request {
    /// The server that received it.
    pub server: Arc<Server>,
    /// The client.
    pub peer: Peer,
    /// The method, URI and headers.
    pub head: Parts,
    /// The decoded `{parameter}` of the route's pattern, or the raw path that its
    /// `{*rest}` matched.
    pub captured: String,
    /// What the client may write. The handler of a route with
    /// [`checks_scope`](super::router::Route::checks_scope) checks each write against it.
    pub scope: Scope,
    /// The user that the client authenticated as; see [`Grant`](crate::security::Grant).
    pub user: Option<Arc<str>>,
    /// The push method under which the request is counted, if it is a push.
    pub counts: Option<PushMethod>,
    /// The body, until it has been read.
    body: Option<Incoming>,
    /// Where its bytes are charged.
    charge: BodyCharge,
}

impl Request {
    /// Creates a request without captures.
    pub fn new(server: Arc<Server>, peer: Peer, head: Parts, body: Incoming) -> Self {
        Request {
            server,
            peer,
            head,
            captured: String::new(),
            scope: Scope::ALL,
            user: None,
            counts: None,
            body: Some(body),
            charge: BodyCharge::default(),
        }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The path, not decoded.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The query, not decoded; empty if the URI has none.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The value of `Content-Type`; empty without the header.
    pub fn content_type(&self) -> Cow<'_, str> {
        self.header(CONTENT_TYPE)
    }

    /// The values of a header, joined by commas; empty without the header. `?` stands
    /// for a value that is not ASCII text.
    pub fn header(&self, name: HeaderName) -> Cow<'_, str> {
        let values = self.headers().get_all(name).iter();
        let mut texts = values.map(|value| value.to_str().unwrap_or("?"));
        let Some(first) = texts.next() else {
            return Cow::Borrowed("");
        };
        texts.fold(Cow::Borrowed(first), |joined, text| {
            Cow::Owned(format!("{joined},{text}"))
        })
    }

    /// The origin recorded with what this request stores.
    pub fn origin(&self) -> Origin {
        Origin {
            source: Arc::clone(&self.server.source),
            peer: self.peer,
            user: self.user.clone(),
        }
    }

    /// The length of the body that the head announces, or 0.
    pub fn announced(&self) -> usize {
        let body = self.body.as_ref();
        let lower = body.map_or(0, |body| body.size_hint().lower());
        // A longer body is rejected.
        usize::try_from(lower)
            .unwrap_or(usize::MAX)
            .min(self.server.requests.max_body)
    }

    /// Sets the account to which the body is charged when it is read. `paid` bytes of it
    /// have been charged already.
    pub fn charge_body(&mut self, account: Account, paid: usize) {
        self.charge = BodyCharge::new(account, paid);
    }

    /// The account that the request is charged to.
    pub fn account(&self) -> &Account {
        self.charge.account()
    }

    /// Reads the body within the limits of `[push]`.
    ///
    /// # Errors
    ///
    /// The reply to a rejected body. It closes the connection, because the unread rest
    /// of the body would be parsed as the next request.
    pub async fn read_body(&mut self) -> Result<ReceivedBody, Reply> {
        let read = self.try_read_body().await;
        read.map_err(|(rejection, bytes)| closing(self.reject(&rejection, bytes)))
    }

    /// Like [`read_body`](Request::read_body), for handlers with their own format of errors.
    ///
    /// # Errors
    ///
    /// The rejection and the number of bytes that arrived. The reply must
    /// [close](closing) the connection.
    pub async fn try_read_body(&mut self) -> Result<ReceivedBody, (Rejection, usize)> {
        let Some(body) = self.body.take() else {
            return Ok(ReceivedBody::empty());
        };
        let waits = self.headers().contains_key(EXPECT);
        let server = &self.server;
        let charge = std::mem::take(&mut self.charge);
        request_body::read(body, &server.budget, &server.requests, charge, waits).await
    }

    /// Discards a body that the handler has not read, so that the connection can serve the
    /// next request. If the body is too long for that, the reply closes the connection.
    pub async fn finish(&mut self, reply: Reply) -> Reply {
        let Some(body) = self.body.take() else {
            return reply;
        };
        match request_body::discard(body).await {
            true => reply,
            false => closing(reply),
        }
    }

    /// Counts a successful request with a body of `bytes` bytes.
    pub fn count_success(&self, bytes: usize) {
        self.count(Ok(()), bytes);
    }

    /// Counts a request with its result and a body of `bytes` bytes.
    pub fn count(&self, result: Result<(), Reason>, bytes: usize) {
        if let Some(method) = self.counts {
            self.server.telemetry.pushes.count(method, result, bytes);
        }
    }

    /// Logs and counts a rejected request with a body of `bytes` bytes, and returns the reply.
    pub fn reject(&self, rejection: &Rejection, bytes: usize) -> Reply {
        self.log_rejection(rejection);
        self.count(Err(rejection.reason), bytes);
        reply::rejection(rejection)
    }

    /// Logs a rejected request.
    pub fn log_rejection(&self, rejection: &Rejection) {
        let path = clip_to(MAX_LOGGED_PATH, self.path(), "...");
        let who = format_args!("{} {path} from {}", self.method(), self.peer);
        sender_log::rejected(
            LogEvent::RequestRejected,
            About::peer(self.peer).named("path", &path),
            who,
            rejection.reason,
            &rejection.message,
        );
    }

    /// Counts a request by the status of its reply, which it returns.
    pub fn count_by_status(&self, reply: Reply) -> Reply {
        let result = match reply.status() {
            status if status.is_success() => Ok(()),
            // Deleting something that does not exist counts as success.
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::BAD_REQUEST => Err(Reason::BadParameter),
            // Matching regular expressions exceeded its time limit.
            StatusCode::SERVICE_UNAVAILABLE => Err(Reason::Timeout),
            _ => Err(Reason::Closed),
        };
        self.count(result, 0);
        reply
    }
}
