//! Pushes: `/metrics/job/...` by Pushgateway's protocol, and what all requests
//! with a body share.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method as HttpMethod;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use tokio_util::sync::CancellationToken;

use super::{Method, Sender, batch};
use crate::clock::Now;
use crate::http::incoming::{self, Taken};
use crate::http::places::READ_AT_ONCE;
use crate::http::reply::{self, Reply};
use crate::http::{Server, query};
use crate::ingest::{Body, Fault, Group, Intake, PathError};
use crate::inputs::aggregate as push_aggregate;
use crate::inputs::webhooks::Kept;
use crate::net::{BlockingPool, MemoryBudget};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::settings::duration_of;
use crate::store::Store;
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{PushMethod, clip_to};

/// What pushes are taken with.
#[derive(Debug)]
pub struct Pushes {
    pub intake: Arc<Intake>,
    pub budget: Arc<MemoryBudget>,
    /// The listener's address.
    pub source: Arc<str>,
    /// Told that somebody wants the program to stop.
    pub quit: CancellationToken,
    pub webhooks: Arc<Kept>,
}

/// What is known of a request beside its body.
#[expect(missing_debug_implementations)]
pub struct Call<'r> {
    pub server: &'r Server,
    pub pushes: &'r Pushes,
    pub peer: Peer,
    pub path: &'r str,
    pub method: &'r HttpMethod,
    pub headers: &'r HeaderMap,
    pub query: &'r str,
}

/// Bytes of a path in the log.
pub const LONGEST_PATH: usize = 200;

/// What to tell whose path names no group.
pub const WHERE_TO: &str = "a push goes to /metrics/job/<job>";

impl Call<'_> {
    /// A push to the group of that path, or its removal.
    pub async fn group(&self, path: &str, body: Incoming) -> Reply {
        let method = match *self.method {
            HttpMethod::PUT => Method::Put,
            HttpMethod::POST => Method::Post,
            _ => Method::Delete,
        };
        let group = Group::of_path(path, self.pushes.intake.config.enable_utf8_names);
        let reply = match group {
            Err(PathError::NotAPush) => reply::not_found(WHERE_TO, None),
            Err(problem) => self.refuse(method.counted(), &problem.into(), 0),
            Ok(group) => match self.sender() {
                Err(fault) => self.refuse(method.counted(), &fault, 0),
                Ok(sender) if method != Method::Delete => {
                    return self.push(method, group, sender, body).await;
                }
                Ok(sender) => {
                    let removed = apply(self, method, group, Taken::none(), sender).await;
                    self.told(method, removed, 0)
                }
            },
        };
        after(reply, body).await
    }

    async fn push(&self, method: Method, group: Group, sender: Sender, body: Incoming) -> Reply {
        match self.read(method.counted(), body).await {
            Ok(body) => {
                let bytes = body.len();
                let pushed = apply(self, method, group, body, sender).await;
                self.told(method, pushed, bytes)
            }
            Err(reply) => reply,
        }
    }

    /// Reads the body of a push. What is wrong with it is answered, and ends
    /// the connection, since the rest of it would be taken for a request.
    pub async fn read(&self, method: PushMethod, body: Incoming) -> Result<Taken, Reply> {
        let config = &self.pushes.intake.config;
        let waits = self.headers.contains_key(EXPECT);
        let read = incoming::read(body, &self.pushes.budget, config, waits).await;
        read.map_err(|(fault, came)| closing(self.refuse(method, &fault, came)))
    }

    /// What the body is written in, as its sender says.
    pub fn content_type(&self) -> Cow<'_, str> {
        self.joined(CONTENT_TYPE)
    }

    /// The values of a header, joined by commas.
    fn joined(&self, name: HeaderName) -> Cow<'_, str> {
        let values = self.headers.get_all(name).iter();
        // What is no text names no type, nor a coding that is known.
        let mut texts = values.map(|value| value.to_str().unwrap_or("?"));
        let Some(first) = texts.next() else {
            return Cow::Borrowed("");
        };
        texts.fold(Cow::Borrowed(first), |joined, text| {
            Cow::Owned(format!("{joined},{text}"))
        })
    }

    pub fn origin(&self) -> Origin {
        Origin {
            source: Arc::clone(&self.pushes.source),
            peer: self.peer,
        }
    }

    pub fn sender(&self) -> Result<Sender, Fault> {
        // Whoever asks for something else than there is should hear of it.
        push_aggregate::mode(self.query, &self.pushes.intake.config)?;
        Ok(Sender {
            origin: self.origin(),
            ttl: self.ttl()?,
        })
    }

    /// For how long a push holds, where it says so itself.
    pub fn ttl(&self) -> Result<Option<Duration>, Fault> {
        let ttl = query::value(self.query, "ttl").map(|ttl| {
            let problem = || Fault::new(Reason::BadParameter, &batch::wrong_ttl(&ttl));
            duration_of(&ttl).ok_or_else(problem)
        });
        ttl.transpose()
    }

    /// The answer to a push or a removal.
    fn told(&self, method: Method, done: Result<(), Fault>, bytes: usize) -> Reply {
        match done {
            Ok(()) => {
                let pushes = &self.server.telemetry.pushes;
                pushes.count(method.counted(), Ok(()), bytes);
                reply::empty(match method {
                    Method::Put | Method::Post => StatusCode::OK,
                    Method::Delete => StatusCode::ACCEPTED,
                })
            }
            Err(fault) => self.refuse(method.counted(), &fault, bytes),
        }
    }

    /// Tells the sender, the log and the counters of a push that was refused.
    pub fn refuse(&self, method: PushMethod, fault: &Fault, bytes: usize) -> Reply {
        let Fault {
            reason, message, ..
        } = fault;
        let word = method.as_str();
        let path = clip_to(LONGEST_PATH, self.path, "...");
        let who = format_args!("{word} {path} from {}", self.peer);
        sender_log::rejected(LogEvent::RequestRejected, who, *reason, message);
        let pushes = &self.server.telemetry.pushes;
        pushes.count(method, Err(*reason), bytes);
        refusal(fault)
    }

    /// `/-/quit`: stops the program, where that is enabled.
    pub fn quit(&self) -> Reply {
        if !self.pushes.intake.config.enable_lifecycle {
            let problem = "this is not enabled (push.enable_lifecycle)";
            return self.refuse(
                PushMethod::Quit,
                &Fault::new(Reason::NotAllowed, problem),
                0,
            );
        }
        sender_log::write(
            LogEvent::Removal,
            format_args!("{} asks for a stop", self.peer),
        );
        self.server
            .telemetry
            .pushes
            .count(PushMethod::Quit, Ok(()), 0);
        self.pushes.quit.cancel();
        reply::text(StatusCode::OK, "stopping\n")
    }
}

/// Applies a push.
async fn apply(
    call: &Call<'_>,
    method: Method,
    group: Group,
    body: Taken,
    sender: Sender,
) -> Result<(), Fault> {
    let labels = Arc::new(group);
    let group = Arc::clone(&labels);
    let work = move |intake: &Intake, store: &Store, body: Body<'_>| {
        intake.push(store, (method, &group), body, &sender, Now::read())
    };
    with_body(call, &labels, body, work).await
}

/// Works on a body whose samples get these labels. One that is large, or becomes
/// much text, is worked on away from the threads that serve, and that text is
/// counted like bytes of bodies while it is made.
pub async fn with_body<T: Send + 'static>(
    call: &Call<'_>,
    labels: &Arc<Group>,
    body: Taken,
    work: impl FnOnce(&Intake, &Store, Body<'_>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let mut body = unpacked(call, body).await?;
    let text = text_size(call, labels, &body.bytes).await?;
    // What has more text than a push may have is refused before it is made.
    if text > READ_AT_ONCE && call.pushes.intake.may_become(text) {
        body.grow(text)?;
    }
    let place = call.server.places.for_text(text.max(body.len()));
    work_on(call, place, body, work).await
}

/// Bytes of text that a body becomes, or 0 where they are few. A body is
/// measured in time that grows with its size, so a large one is measured away
/// from the threads that serve.
async fn text_size(call: &Call<'_>, labels: &Arc<Group>, bytes: &Bytes) -> Result<usize, Fault> {
    let content_type = call.content_type();
    let intake = &call.pushes.intake;
    if bytes.len() <= READ_AT_ONCE {
        let body = Body {
            content_type: &content_type,
            bytes,
        };
        return Ok(intake.text_size(labels, body, READ_AT_ONCE));
    }
    let (content_type, bytes) = (content_type.into_owned(), bytes.clone());
    let (intake, labels) = (Arc::clone(intake), Arc::clone(labels));
    let measure = move || {
        let body = Body {
            content_type: &content_type,
            bytes: &bytes,
        };
        intake.text_size(&labels, body, READ_AT_ONCE)
    };
    away(&call.server.places.bodies, measure).await
}

/// Works in a place away from the threads that serve.
async fn away<T: Send + 'static>(
    place: &BlockingPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    place.run(work).await.map_err(|problem| {
        sender_log::internal_error(format_args!("a push cannot be worked on: {problem}"));
        let message = "the push cannot be worked on; the log says why";
        Fault::new(Reason::Closed, message)
    })
}

/// A body as it was before it was compressed.
pub async fn unpacked(call: &Call<'_>, body: Taken) -> Result<Taken, Fault> {
    let content_encoding = call.joined(CONTENT_ENCODING);
    let limit = call.pushes.intake.config.max_body;
    let turns = &call.server.places.bodies;
    body.unpacked(&content_encoding, limit, turns).await
}

/// Works on a plain body, away from the threads that serve where there is a
/// `place` for it.
pub async fn work_on<T: Send + 'static>(
    call: &Call<'_>,
    place: Option<&BlockingPool>,
    body: Taken,
    work: impl FnOnce(&Intake, &Store, Body<'_>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let content_type = call.content_type();
    let (intake, store) = (&call.pushes.intake, &call.server.store);
    // A write waits for a large one, and must not keep its thread from serving.
    let while_busy = || store.is_busy().then_some(&call.server.places.bodies);
    let Some(place) = place.or_else(while_busy) else {
        let plain = Body {
            content_type: &content_type,
            bytes: &body.bytes,
        };
        return work(intake, store, plain);
    };
    let content_type = content_type.into_owned();
    let (intake, store) = (Arc::clone(intake), Arc::clone(store));
    let work = move || {
        let plain = Body {
            content_type: &content_type,
            bytes: &body.bytes,
        };
        work(&intake, &store, plain)
    };
    away(place, work).await?
}

/// The answer, once what is left of a body is out of the way.
pub async fn after(reply: Reply, body: Incoming) -> Reply {
    match incoming::discard(body).await {
        true => reply,
        false => closing(reply),
    }
}

/// The answer to what was refused.
pub fn refusal(fault: &Fault) -> Reply {
    let mut reply = reply::text(status(fault.reason), format!("{}\n", fault.message));
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// The answer, after which the connection is closed.
pub fn closing(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// The status for what is wrong. Bounds of what is held may be gone in a
/// while; other faults are the sender's.
fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::Timeout => StatusCode::REQUEST_TIMEOUT,
        Reason::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::NotAnApp => StatusCode::CONFLICT,
        Reason::ForbiddenOrigin | Reason::ForbiddenHost | Reason::NotAllowed => {
            StatusCode::FORBIDDEN
        }
        Reason::NoBuffer | Reason::TooManyGroups | Reason::TooManySeries | Reason::TooManyBytes => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Reason::Closed => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
