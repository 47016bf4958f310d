//! `/metrics`: all metrics or a selection, as text, OpenMetrics or protobuf.

mod negotiation;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderValue, RETRY_AFTER, VARY};
use tokio::task::{JoinError, spawn_blocking};

use super::kind;
use super::own_metrics::OwnMetrics;
use super::scrape_timeout;
use crate::clock::{self, Now};
use crate::context::{Context, Polls};
use crate::exposition::{Escaping, Text, keep_families};
use crate::http::pools::MAX_COPIES;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::reply_body::ReplyBody;
use crate::http::request::Request;
use crate::http::router::{Pages, Route};
use crate::ingest::config::Mode;
use crate::net::BudgetShare;
use crate::store::{Producer, SectionId, Snapshot, Store, StoreLimits};
use crate::telemetry::{Telemetry, sender_log};
use negotiation::{Media, Representation};

/// Up to this many bytes of stale text are rendered and compressed on the serving thread.
/// That takes less than half a millisecond, about the time that it takes to wake another
/// thread.
const MAX_INLINE_RENDER: usize = 512 * 1024;

/// The output `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    /// The store that is served.
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
    mode: Mode,
    /// The proxy's own metrics.
    own_metrics: OwnMetrics,
    /// Whether the output includes them.
    has_own: bool,
    /// Targets that scrapes poll; none for an output of the proxy's own metrics alone.
    polls: Option<Polls>,
}

impl Metrics {
    /// Creates the output.
    pub fn new(own_metrics: bool, context: &Context) -> Arc<Self> {
        let polls = Some(context.polls.clone());
        Self::of(Arc::clone(&context.store), own_metrics, polls, context)
    }

    /// Creates an output of the proxy's own metrics alone. These have a separate store, and no
    /// update times of apps.
    pub fn of_own(context: &Context) -> Arc<Self> {
        let store = Store::new(StoreLimits::own_metrics_only(), false);
        Self::of(Arc::new(store), true, None, context)
    }

    fn of(store: Arc<Store>, has_own: bool, polls: Option<Polls>, context: &Context) -> Arc<Self> {
        let own_metrics = OwnMetrics {
            store: Arc::clone(&store),
            described: Arc::clone(&context.store),
            telemetry: Arc::clone(&context.telemetry),
        };
        Arc::new(Metrics {
            store,
            telemetry: Arc::clone(&context.telemetry),
            mode: context.admission.exposition.mode,
            own_metrics,
            has_own,
            polls,
        })
    }

    /// The route of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let all = Route::read(
            "metrics",
            "/metrics",
            "app* kind name[]*",
            self,
            |it, request| Box::pin(it.all(request)),
        );
        vec![
            all.progress(true).pages(Pages::Listed).advice(
                "push to a group, as in /metrics/job/<job>, or aggregate with ?mode=aggregate",
            ),
        ]
    }

    /// All metrics, or those that the query selects.
    async fn all(&self, request: &Request) -> Reply {
        let start = clock::tick();
        let representation = Representation::from_headers(self.mode, request.headers());
        let ids = match ids_of_query(request.query()) {
            Ok(ids) => ids,
            Err(problem) => return reply::bad_value(&problem),
        };
        if let Some(polls) = &self.polls {
            let targets = ids.iter().filter(|id| id.producer == Producer::Target);
            let targets: Vec<&str> = targets.map(|id| &*id.name).collect();
            let targets = (!ids.is_empty()).then_some(&*targets);
            let deadline = scrape_timeout::deadline(request.headers());
            polls.poll_for_scrape(targets, deadline).await;
        }
        if self.has_own {
            self.own_metrics.update();
        }
        let answer = async {
            let (snapshot, scope) = self.select(request, ids, &representation).await?;
            self.answer(request, &representation, snapshot, scope, start)
                .await
        };
        answer.await.unwrap_or_else(|problem| failed(&problem))
    }

    /// The metrics of one app, target or group.
    pub async fn one(&self, request: &Request, id: &SectionId) -> Reply {
        let start = clock::tick();
        let representation = Representation::from_headers(self.mode, request.headers());
        let answer = async {
            let snapshot = match id.producer {
                Producer::App | Producer::Target if representation.as_families => {
                    let (store, id) = (Arc::clone(&self.store), id.clone());
                    let text = move || store.texts_as_families(&[id], Now::read());
                    let text = request.server.pools.scrapes.run(text).await?;
                    Snapshot::of(text.into_bytes(), Bytes::new())
                }
                producer => {
                    let text = self.store.text(id).into_bytes();
                    match self.mode {
                        Mode::Verbatim if producer != Producer::Group => {
                            Snapshot::of(Bytes::new(), text)
                        }
                        _ => Snapshot::of(text, Bytes::new()),
                    }
                }
            };
            let snapshot = match representation.negotiated.media {
                Media::Protobuf => snapshot.with_natives(self.store.natives()),
                _ => snapshot,
            };
            self.answer(request, &representation, snapshot, Scope::Selection, start)
                .await
        };
        answer.await.unwrap_or_else(|problem| failed(&problem))
    }

    /// The reply with a snapshot, in the format and content coding of the client.
    async fn answer(
        &self,
        request: &Request,
        representation: &Representation,
        snapshot: Snapshot,
        scope: Scope,
        start: Instant,
    ) -> Result<Reply, JoinError> {
        let negotiated = representation.negotiated_for(&snapshot);
        let snapshot = match negotiated.media {
            Media::Protobuf => {
                self.to_protobuf(request, snapshot, scope, negotiated.escaping)
                    .await?
            }
            _ => snapshot.in_format(negotiated.output_format()),
        };
        let snapshot = prepare(snapshot, representation.gzip).await?;
        let (body, stats) = if representation.gzip {
            (
                ReplyBody::new(snapshot.gzip()),
                &self.telemetry.scrapes_gzip,
            )
        } else {
            (
                ReplyBody::from_snapshot(&snapshot),
                &self.telemetry.scrapes_identity,
            )
        };
        let body = match scope {
            Scope::All => body,
            Scope::Selection => {
                let mut held = BudgetShare::new(&request.server.pools.copies);
                if !held.grow(snapshot.len()) {
                    return Ok(too_many_copies());
                }
                body.holding(held)
            }
        };
        let body = match Arc::ptr_eq(&self.store, &self.own_metrics.described) {
            true => {
                stats.count.add(1);
                let bytes = body.content_length().unwrap_or_default();
                stats.bytes.add(bytes);
                self.telemetry.note_scrape(request.peer, bytes, Now::read());
                let durations = Arc::clone(&self.telemetry.scrape_durations);
                body.timed(start, durations)
            }
            // Reading only own metrics is not a scrape of the proxy.
            false => body,
        };

        let mut reply = reply::reply(StatusCode::OK, negotiated.content_type(), body);
        let headers = reply.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if representation.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(reply)
    }

    /// Converts a snapshot to protobuf, on the pool for scrapes.
    async fn to_protobuf(
        &self,
        request: &Request,
        snapshot: Snapshot,
        scope: Scope,
        escaping: Escaping,
    ) -> Result<Snapshot, JoinError> {
        let store = Arc::clone(&self.store);
        let convert = move || match scope {
            Scope::All => store.messages(&snapshot, escaping),
            Scope::Selection => snapshot.in_messages(escaping),
        };
        request.server.pools.scrapes.run(convert).await
    }

    /// The snapshot that the query selects: all metrics, or only those of `ids` and of the
    /// families in `name[]`. Native histograms are included for protobuf.
    async fn select(
        &self,
        request: &Request,
        ids: Vec<SectionId>,
        representation: &Representation,
    ) -> Result<(Snapshot, Scope), JoinError> {
        let names = query::values(request.query(), "name[]");
        let store = Arc::clone(&self.store);
        let natives = representation.negotiated.media == Media::Protobuf;
        if ids.is_empty() && names.is_empty() {
            if representation.as_families && !store.is_merged() {
                let take = move || store.families_snapshot(natives, Now::read());
                return Ok((request.server.pools.scrapes.run(take).await?, Scope::All));
            }
            let take = move |store: &Store| match natives {
                true => store.snapshot_with_natives(),
                false => store.snapshot(),
            };
            let snapshot = if store.is_snapshot_slow(natives) {
                let representation = representation.clone();
                let taken = spawn_blocking(move || {
                    let snapshot = take(&store);
                    // Rendering takes long, too, so this thread does it at once.
                    let negotiated = representation.negotiated_for(&snapshot);
                    if negotiated.media != Media::Protobuf {
                        render(
                            &snapshot.clone().in_format(negotiated.output_format()),
                            representation.gzip,
                        );
                    }
                    snapshot
                });
                taken.await?
            } else {
                take(&store)
            };
            return Ok((snapshot, Scope::All));
        }
        let merged = representation.mode == Mode::Merged;
        let as_families = representation.as_families;
        let choose = move || {
            let whole = match ids.as_slice() {
                [] if as_families => Some(store.families_snapshot(natives, Now::read())),
                [] if natives => Some(store.snapshot_with_natives()),
                [] => Some(store.snapshot()),
                _ => None,
            };
            let (families, verbatim) = match (&whole, ids.as_slice()) {
                (Some(whole), _) => whole.clone().parts(),
                (_, ids) if as_families => {
                    (store.texts_as_families(ids, Now::read()), Text::default())
                }
                (_, ids) if merged => (store.texts(ids), Text::default()),
                // The query cannot select groups, so all text here is verbatim.
                (_, ids) => (Text::default(), store.texts(ids)),
            };
            let kept = |text: Text| match names.is_empty() {
                true => text.into_bytes(),
                false => Bytes::from(keep_families(text.as_str(), &names)),
            };
            let natives = match &whole {
                Some(whole) => whole.natives().to_vec(),
                None if natives => store.natives(),
                None => Vec::new(),
            };
            let chosen = Snapshot::of(kept(families), kept(verbatim));
            (chosen.with_natives(natives), Scope::Selection)
        };
        request.server.pools.scrapes.run(choose).await
    }
}

/// The apps and targets that a query selects by `app` and `kind`.
///
/// # Errors
///
/// `kind` is not valid, or there is no `app`.
fn ids_of_query(query: &str) -> Result<Vec<SectionId>, String> {
    const KINDS: [Producer; 2] = [Producer::App, Producer::Target];
    let names = query::values(query, "app");
    let kind = kind::of_query(query, &KINDS)?;
    if kind.is_some() && names.is_empty() {
        return Err("kind chooses among apps and targets of one name, so it needs app".to_owned());
    }
    let ids = names.iter().flat_map(|name| {
        let kinds = KINDS
            .into_iter()
            .filter(move |it| kind.is_none_or(|kind| kind == *it));
        kinds.map(move |producer| SectionId::new(name, producer))
    });
    Ok(ids.collect())
}

/// The reply when all memory for copies is held by clients that do not read.
fn too_many_copies() -> Reply {
    let problem = format!(
        "replies of {} MiB wait for clients that do not read them; try again, or request all of \
         /metrics\n",
        MAX_COPIES >> 20
    );
    let mut reply = reply::text(StatusCode::SERVICE_UNAVAILABLE, problem);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// Logs a failure, and returns the reply to the client.
fn failed(problem: &JoinError) -> Reply {
    sender_log::internal_error(format_args!("the metrics cannot be prepared: {problem}"));
    let problem = "the metrics cannot be prepared; the log has the cause\n";
    reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

/// Whether a snapshot is the whole output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The whole output. Its pages are shared with other scrapes.
    All,
    /// A selection, which is a copy for one client.
    Selection,
}

/// Renders the stale pages of a snapshot, and compresses them if `gzip`. If there are many,
/// this happens off the serving thread.
async fn prepare(snapshot: Snapshot, gzip: bool) -> Result<Snapshot, JoinError> {
    if snapshot.pending_bytes(gzip) <= MAX_INLINE_RENDER {
        return Ok(snapshot);
    }
    let rendered = spawn_blocking(move || {
        render(&snapshot, gzip);
        snapshot
    });
    rendered.await
}

/// Renders the stale pages of a snapshot, on all cores if there are many. It waits for
/// pages, not for the helper threads: a helper that starts late finds no page left.
fn render(snapshot: &Snapshot, gzip: bool) {
    let parts = snapshot.pending_bytes(gzip).div_ceil(MAX_INLINE_RENDER);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 1..cores.min(parts) {
        let snapshot = snapshot.clone();
        spawn_blocking(move || snapshot.render_some(gzip));
    }
    snapshot.render_all(gzip);
}
