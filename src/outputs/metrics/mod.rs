//! `/metrics`: everything, as text or as protobuf.

mod accept;
mod encoding;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER, VARY};
use tokio::task::{JoinError, spawn_blocking};

use crate::clock::{self, Now};
use crate::context::Context;
use crate::exposition::{Escaping, Text, keep_families};
use crate::http::body::ReplyBody;
use crate::http::pools::MAX_COPIES;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::Route;
use crate::ingest::config::Mode;
use crate::net::BudgetShare;
use crate::store::{Producer, SectionId, Snapshot, Store};
use crate::telemetry::own::{self, ProcessNames};
use crate::telemetry::{Telemetry, sender_log};
use accept::{Media, Negotiated, accepts_text, negotiate};
use encoding::accepts_gzip;

/// Stale text up to this size is compressed where it is asked for, in about
/// the time that other threads take to be woken and to do it. It holds the
/// thread up for less than half a millisecond.
const MADE_AT_ONCE: usize = 512 * 1024;

/// `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
    mode: Mode,
    /// Whether the proxy's own metrics are part of the output.
    own_metrics: bool,
    process_names: ProcessNames,
}

impl Metrics {
    /// The output, ready to serve its route.
    pub fn new(own_metrics: bool, process_names: ProcessNames, context: &Context) -> Arc<Self> {
        Arc::new(Metrics {
            store: Arc::clone(&context.store),
            telemetry: Arc::clone(&context.telemetry),
            mode: context.admission.exposition.mode,
            own_metrics,
            process_names,
        })
    }

    /// Its route.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let all = Route::read(
            "metrics",
            "/metrics",
            "app* name[]*",
            self,
            |it, request| Box::pin(it.all(request)),
        );
        vec![all.progress(true).advice(
            "a push names its group, as in /metrics/job/<job>, or adds up with ?mode=aggregate",
        )]
    }

    /// Everything, or what the query chooses.
    async fn all(&self, request: &Request) -> Reply {
        let start = clock::tick();
        if self.own_metrics {
            self.write_own();
        }
        let wanted = Wanted::of(self.mode, request.headers());
        let answer = async {
            let (snapshot, extent) = self.select(request, &wanted).await?;
            self.answer(request, &wanted, snapshot, extent, start).await
        };
        answer.await.unwrap_or_else(|problem| failed(&problem))
    }

    /// Brings the proxy's own metrics up to date.
    fn write_own(&self) {
        let now = Now::read();
        let apply = |names| {
            let write = own::write(&self.telemetry, &self.store, names, now);
            self.store.apply(write, now)
        };
        let names = self.process_names;
        // An app may have a family of a usual name and another kind.
        let result = match (names, apply(names)) {
            (ProcessNames::Usual, Err(_)) => apply(ProcessNames::Own),
            (_, result) => result,
        };
        if let Err(refused) = result {
            sender_log::internal_error(format_args!(
                "the proxy's own metrics are not shown: {refused}"
            ));
        }
    }

    /// What one app or target exposes.
    pub async fn one(&self, request: &Request, id: &SectionId) -> Reply {
        let start = clock::tick();
        let wanted = Wanted::of(self.mode, request.headers());
        let answer = async {
            let snapshot = match id.producer {
                Producer::App | Producer::Target if wanted.as_families => {
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
            let snapshot = match wanted.negotiated.media {
                Media::Protobuf => snapshot.with_natives(self.store.natives()),
                _ => snapshot,
            };
            self.answer(request, &wanted, snapshot, Extent::Part, start)
                .await
        };
        answer.await.unwrap_or_else(|problem| failed(&problem))
    }

    /// Shows a snapshot in the form and coding that the client asks for.
    async fn answer(
        &self,
        request: &Request,
        wanted: &Wanted,
        snapshot: Snapshot,
        extent: Extent,
        start: Instant,
    ) -> Result<Reply, JoinError> {
        let shown = wanted.shown_for(&snapshot);
        let snapshot = match shown.media {
            Media::Protobuf => {
                self.in_messages(request, snapshot, extent, shown.escaping)
                    .await?
            }
            _ => snapshot.in_format(shown.form()),
        };
        let snapshot = prepare(snapshot, wanted.gzip).await?;
        let (body, stats) = if wanted.gzip {
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
        let body = match extent {
            Extent::Whole => body,
            Extent::Part => {
                let mut held = BudgetShare::new(&request.server.pools.copies);
                if !held.grow(snapshot.len()) {
                    return Ok(too_many_copies());
                }
                body.holding(held)
            }
        };
        stats.count.add(1);
        stats.bytes.add(body.content_length().unwrap_or_default());
        self.telemetry.note_scrape(Now::read());
        let durations = Arc::clone(&self.telemetry.scrape_durations);
        let body = body.timed(start, durations);

        let mut reply = reply::reply(StatusCode::OK, shown.content_type(), body);
        let headers = reply.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if wanted.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(reply)
    }

    /// A snapshot as protobuf, made away from the threads that serve.
    async fn in_messages(
        &self,
        request: &Request,
        snapshot: Snapshot,
        extent: Extent,
        escaping: Escaping,
    ) -> Result<Snapshot, JoinError> {
        let store = Arc::clone(&self.store);
        let make = move || match extent {
            Extent::Whole => store.messages(&snapshot, escaping),
            Extent::Part => snapshot.in_messages(escaping),
        };
        request.server.pools.scrapes.run(make).await
    }

    /// What the query asks for: everything, or the apps named by `app`, or the
    /// families named by `name[]`, or what is both; with the native histograms
    /// where those are wanted.
    async fn select(
        &self,
        request: &Request,
        wanted: &Wanted,
    ) -> Result<(Snapshot, Extent), JoinError> {
        let query = request.query();
        let apps = query::values(query, "app");
        let names = query::values(query, "name[]");
        let store = Arc::clone(&self.store);
        let natives = wanted.negotiated.media == Media::Protobuf;
        if apps.is_empty() && names.is_empty() {
            if wanted.as_families && !store.is_merged() {
                let take = move || store.families_snapshot(natives, Now::read());
                return Ok((request.server.pools.scrapes.run(take).await?, Extent::Whole));
            }
            let take = move |store: &Store| match natives {
                true => store.snapshot_with_natives(),
                false => store.snapshot(),
            };
            let snapshot = if store.is_snapshot_slow() {
                let wanted = wanted.clone();
                let taken = spawn_blocking(move || {
                    let snapshot = take(&store);
                    // What comes next takes long too, and here nobody is held up.
                    let shown = wanted.shown_for(&snapshot);
                    if shown.media != Media::Protobuf {
                        make(&snapshot.clone().in_format(shown.form()), wanted.gzip);
                    }
                    snapshot
                });
                taken.await?
            } else {
                take(&store)
            };
            return Ok((snapshot, Extent::Whole));
        }
        let merged = wanted.mode == Mode::Merged;
        let as_families = wanted.as_families;
        let choose = move || {
            let (families, verbatim) = match apps.as_slice() {
                [] if as_families => store.families_snapshot(false, Now::read()).parts(),
                [] => store.snapshot().parts(),
                apps if as_families => {
                    let of = |producer| move |name: &String| SectionId::new(name, producer);
                    let ids = apps.iter().map(of(Producer::App));
                    let ids: Vec<_> = ids.chain(apps.iter().map(of(Producer::Target))).collect();
                    (store.texts_as_families(&ids, Now::read()), Text::default())
                }
                apps if merged => (store.texts(apps), Text::default()),
                // Groups, which are families in either mode, have no such names.
                apps => (Text::default(), store.texts(apps)),
            };
            let kept = |text: Text| match names.is_empty() {
                true => text.into_bytes(),
                false => Bytes::from(keep_families(text.as_str(), &names)),
            };
            let natives = if natives { store.natives() } else { Vec::new() };
            let chosen = Snapshot::of(kept(families), kept(verbatim));
            (chosen.with_natives(natives), Extent::Part)
        };
        request.server.pools.scrapes.run(choose).await
    }
}

fn too_many_copies() -> Reply {
    let problem = format!(
        "answers of {} MiB wait for clients that do not read them; try again, or ask for all of \
         /metrics\n",
        MAX_COPIES >> 20
    );
    let mut reply = reply::text(StatusCode::SERVICE_UNAVAILABLE, problem);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

fn failed(problem: &JoinError) -> Reply {
    sender_log::internal_error(format_args!("the metrics cannot be prepared: {problem}"));
    let problem = "the metrics cannot be prepared; the log says why\n";
    reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

/// How much of the output a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
}

/// What the client asks for.
#[derive(Debug, Clone)]
struct Wanted {
    negotiated: Negotiated,
    gzip: bool,
    mode: Mode,
    /// Whether verbatim texts are wanted as families, as far as they can be
    /// read: for clients that prefer protobuf, and those that read no text at
    /// all. Others get texts as they were sent.
    as_families: bool,
}

impl Wanted {
    fn of(mode: Mode, headers: &HeaderMap) -> Self {
        let negotiated = negotiate(headers);
        let as_families = match negotiated.media {
            Media::Protobuf => true,
            Media::OpenMetrics => !accepts_text(headers),
            Media::Text | Media::Verbatim => false,
        };
        Wanted {
            as_families: mode == Mode::Verbatim && as_families,
            gzip: accepts_gzip(headers),
            mode,
            negotiated,
        }
    }

    /// What it gets: text that was passed through can only be shown as text.
    fn shown_for(&self, snapshot: &Snapshot) -> Negotiated {
        match self.is_merged(snapshot) {
            true => self.negotiated,
            false => self.negotiated.with_verbatim(),
        }
    }

    fn is_merged(&self, snapshot: &Snapshot) -> bool {
        self.mode == Mode::Merged || snapshot.is_merged()
    }
}

/// Makes what has yet to be made of a snapshot: its form, and its compressed
/// blocks where `packed`. Much of it is made away from the threads that serve.
async fn prepare(snapshot: Snapshot, packed: bool) -> Result<Snapshot, JoinError> {
    if snapshot.pending_bytes(packed) <= MADE_AT_ONCE {
        return Ok(snapshot);
    }
    let made = spawn_blocking(move || {
        make(&snapshot, packed);
        snapshot
    });
    made.await
}

/// Makes what has yet to be made of a snapshot, with the help of all cores
/// where it is much. Nobody waits for a helper as such: one that comes late
/// finds nothing to do.
fn make(snapshot: &Snapshot, packed: bool) {
    let parts = snapshot.pending_bytes(packed).div_ceil(MADE_AT_ONCE);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 1..cores.min(parts) {
        let snapshot = snapshot.clone();
        spawn_blocking(move || snapshot.render_some(packed));
    }
    snapshot.render_all(packed);
}
