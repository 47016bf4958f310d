//! `/apps`: the apps, targets and groups, and the metrics of each; `/probe`: a poll of one target.

mod probe;

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::base64_name;
use super::batches::{PAGE_SECTIONS, SectionBatches};
use super::kind;
use super::listing::{self, Chosen, Listing};
use super::metrics::Metrics;
use super::scrape_timeout;
use crate::clock::Now;
use crate::context::{Context, NotPolled, Polls};
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::reply_body::ChunkIterator;
use crate::http::request::Request;
use crate::http::router::{HandlerFn, Route};
use crate::http::table::{Row, TableWriter};
use crate::ingest::Rejection;
use crate::reason::Reason;
use crate::store::{
    Change, Conflict, Producer, Section, SectionId, SectionState, Store, Suspect, Write,
};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{PushMethod, clip, dates, escaped};

/// The limit on text in one batch of sections, in bytes. Counting samples takes time in
/// proportion to the text.
const MAX_BATCH_TEXT: usize = 4 << 20;

/// The largest section, in bytes, whose samples are counted on the serving thread.
const MAX_INLINE_COUNT: usize = 1 << 20;

/// The output `/apps`.
#[derive(Debug)]
pub struct Apps {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    polls: Polls,
}

impl Apps {
    /// Creates the output. `metrics` serves the text of single apps.
    pub fn new(metrics: &Arc<Metrics>, context: &Context) -> Arc<Self> {
        Arc::new(Apps {
            store: Arc::clone(&context.store),
            metrics: Arc::clone(metrics),
            polls: context.polls.clone(),
        })
    }

    /// The routes of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const APP: &str = "/apps/{name}";
        let metrics = |pattern, handle: HandlerFn<Self>| {
            Route::read("app_metrics", pattern, "kind stale", self, handle).progress(true)
        };
        vec![
            Route::read("apps", "/apps", listing::PARAMETERS, self, |it, request| {
                Box::pin(it.list(request))
            }),
            Route::read("app", APP, "kind", self, |it, request| {
                Box::pin(it.detail(request))
            }),
            Route::write("app", "DELETE", APP, "", self, |it, request| {
                Box::pin(async { it.remove(request) })
            })
            .counted(PushMethod::DeleteApp)
            .checks_scope(),
            metrics("/apps/{name}/metrics", |it, request| {
                Box::pin(it.text(request, &request.captured))
            }),
            metrics("/apps@base64/{name}/metrics", |it, request| {
                Box::pin(it.encoded_text(request))
            }),
            Route::read("probe", "/probe", "target", self, |it, request| {
                Box::pin(it.probe(request))
            })
            .progress(true),
        ]
    }

    /// The list, as a table or as JSON. It is generated while it is sent: each item is
    /// consistent, but items can be from different moments. All formats but the narrow
    /// table count samples, which takes time in proportion to the text.
    async fn list(&self, request: &Request) -> Reply {
        let (query, headers) = (request.query(), request.headers());
        let asked = (
            query::wants_json(query, headers),
            query::flag(query, "wide"),
            Listing::of_query(query),
        );
        let (json, wide, listing) = match asked {
            (Ok(json), Ok(wide), Ok(listing)) => (json, wide, listing),
            (Err(problem), ..) | (_, Err(problem), _) | (.., Err(problem)) => {
                return reply::bad_value(&problem);
            }
        };
        let store = Arc::clone(&self.store);
        let now = Now::read();
        let chosen = match listing.is_all() {
            true => None,
            false => {
                let store = Arc::clone(&store);
                let choose = move || listing.choose(&store, now);
                match request.server.pools.lists.run(choose).await {
                    Ok(chosen) => Some(chosen),
                    Err(problem) => return reply::list_failed(&problem),
                }
            }
        };
        let count = chosen.as_ref().map(|chosen| chosen.ids.len());
        let title = format!("Current time: {}", dates::utc(now.wall));
        let chunks: ChunkIterator = if json {
            Box::new(json_chunks(store, chosen, now))
        } else if wide {
            let row = move |store: &Store, id: &SectionId, section: &Section| {
                wide_row(store, id, section, now)
            };
            let batches = rows(&store, chosen, MAX_BATCH_TEXT, row);
            Box::new(TableWriter::new(Some(title), &WIDE, batches))
        } else {
            let row = |_: &Store, id: &SectionId, section: &Section| narrow_row(id, section);
            let batches = rows(&store, chosen, usize::MAX, row);
            Box::new(TableWriter::new(Some(title), &NARROW, batches))
        };
        let totals = self.store.totals();
        let count = count.unwrap_or_else(|| totals.states.all());
        let short = count <= PAGE_SECTIONS && totals.bytes <= MAX_BATCH_TEXT;
        reply::list(&request.server.pools.lists, short, json, chunks).await
    }

    /// The section of this name, of the kind that `kind` asks for; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// `kind` is not valid.
    fn section(
        &self,
        request: &Request,
        name: &str,
    ) -> Result<Option<(SectionId, Section)>, String> {
        Ok(match kind::of_query(request.query(), &kind::ALL)? {
            Some(kind) => {
                let id = SectionId::new(name, kind);
                self.store.section_of(&id).map(|section| (id, section))
            }
            None => self.store.section(name),
        })
    }

    /// One app, target or group as JSON.
    async fn detail(&self, request: &Request) -> Reply {
        let (id, section) = match self.section(request, &request.captured) {
            Ok(Some(found)) => found,
            Ok(None) => return unknown(&request.captured),
            Err(problem) => return reply::bad_value(&problem),
        };
        let store = Arc::clone(&self.store);
        let bytes = section.bytes;
        let shown = move || details(&store, &id, &section, Now::read());
        if bytes <= MAX_INLINE_COUNT {
            return reply::json(&shown());
        }
        match request.server.pools.lists.run(shown).await {
            Ok(shown) => reply::json(&shown),
            Err(problem) => {
                sender_log::internal_error(format_args!("an app cannot be shown: {problem}"));
                let problem = "the app cannot be shown; the log has the cause\n";
                reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
            }
        }
    }

    /// The metrics of one app, target or group. A target whose last poll failed is an error, as it
    /// is for a reader of the target itself, unless the request has `stale`.
    async fn text(&self, request: &Request, name: &str) -> Reply {
        let stale = query::flag(request.query(), "stale");
        let (found, stale) = match (self.section(request, name), stale) {
            (Ok(found), Ok(stale)) => (found, stale),
            (Err(problem), _) | (_, Err(problem)) => return reply::bad_value(&problem),
        };
        let Some((id, section)) = found else {
            return unknown(name);
        };
        if id.producer == Producer::Target && self.polls.is_polled_by_scrapes(name) {
            let deadline = scrape_timeout::deadline(request.headers());
            let polled = self.polls.poll(name, Some(deadline)).await;
            if polled == Err(NotPolled::Late) && !stale {
                return late(name);
            }
        }
        // The section may have changed: it may just have been polled.
        let section = self.store.section_of(&id).unwrap_or(section);
        match failure(&id, &section, STALE_HINT) {
            Some(failure) if !stale => failure,
            _ => self.metrics.one(request, &id).await,
        }
    }

    /// Like [`text`](Self::text), with the name in base64, as Pushgateway has it in URLs.
    async fn encoded_text(&self, request: &Request) -> Reply {
        match base64_name::decoded(&request.captured) {
            Some(name) => self.text(request, &name).await,
            None => reply::bad_value("the name is not base64 of UTF-8 with the URL-safe alphabet"),
        }
    }

    /// Removes an app and its metrics. Its next push creates it again.
    fn remove(&self, request: &Request) -> Reply {
        let (store, name) = (&self.store, &*request.captured);
        let id = SectionId::new(name, Producer::App);
        let shown = clip(name);
        if let Err(problem) = request.scope.check_app(name) {
            return request.reject(&problem.into(), 0);
        }
        if store.section_of(&id).is_some() {
            let write = Write::one(Change::Remove {
                id,
                unless_since: None,
            });
            return match store.apply(write, Now::read()) {
                Ok(()) => {
                    request.count_success(0);
                    let peer = request.peer;
                    sender_log::write(
                        LogEvent::Removal,
                        About::peer(peer).named("app", name),
                        format_args!("{peer} removes app \"{shown}\""),
                    );
                    reply::text(StatusCode::OK, format!("removed app \"{shown}\"\n"))
                }
                Err(conflict) => request.reject(&conflict.into(), 0),
            };
        }
        let Some((id, _)) = store.section(name) else {
            request.count(Err(Reason::NotFound), 0);
            return unknown(name);
        };
        let problem = match id.producer {
            Producer::Group => {
                format!("{id} is not an app: to remove it, DELETE its path, /metrics/job/<job>...")
            }
            _ => {
                format!("\"{shown}\" is a target: remove it from the configuration (poll_external)")
            }
        };
        let rejection = Rejection::new(Reason::NotAnApp, &problem);
        request.reject(&rejection, 0)
    }
}

/// All sections, or the chosen ones, as rows of a table, with up to `max_bytes` bytes of text
/// in a batch.
fn rows<R>(
    store: &Arc<Store>,
    chosen: Option<Chosen>,
    max_bytes: usize,
    row: R,
) -> impl Iterator<Item = Vec<Row>> + Send + use<R>
where
    R: Fn(&Store, &SectionId, &Section) -> Row + Send,
{
    let batches = batches(store, chosen, max_bytes);
    let store = Arc::clone(store);
    batches.map(move |sections| {
        let sections = sections.iter();
        sections
            .map(|(id, section)| row(&store, id, section))
            .collect()
    })
}

fn batches(store: &Arc<Store>, chosen: Option<Chosen>, max_bytes: usize) -> SectionBatches {
    match chosen {
        Some(chosen) => SectionBatches::of(store, chosen.ids, max_bytes),
        None => SectionBatches::new(store, max_bytes),
    }
}

/// Generates the list as JSON.
fn json_chunks(
    store: Arc<Store>,
    chosen: Option<Chosen>,
    now: Now,
) -> impl Iterator<Item = Bytes> + Send {
    let mut first = true;
    let total = chosen.as_ref().map(|chosen| chosen.total);
    let total = total.map_or_else(String::new, |total| format!(",\"total\":{total}"));
    let items = batches(&store, chosen, MAX_BATCH_TEXT).map(move |sections| {
        let mut chunk = Vec::new();
        for (id, section) in &sections {
            chunk.extend_from_slice(if first { b"" } else { b"," });
            first = false;
            let shown = details(&store, id, section, now);
            serde_json::to_writer(&mut chunk, &shown).expect("a JSON value can be written");
        }
        Bytes::from(chunk)
    });
    let head = Bytes::from_static(b"{\"apps\":[");
    let end = Bytes::from(format!(
        "]{total},\"time\":{}}}\n",
        json!(dates::rfc3339(now.wall))
    ));
    [head].into_iter().chain(items).chain([end])
}

/// The second line of the error of a target.
const STALE_HINT: &str = "(?stale=1 shows its last text)\n";

/// The error for a target whose last poll failed or has not ended; `None` for other sections.
/// `hint` is its second line.
fn failure(id: &SectionId, section: &Section, hint: &str) -> Option<Reply> {
    if id.producer != Producer::Target || section.state == SectionState::Fresh {
        return None;
    }
    let name = clip(&id.name);
    Some(match &section.problem {
        Some(problem) => {
            let reason = clip(&problem.reason);
            let text = format!("the last poll of target \"{name}\" failed: {reason}\n{hint}");
            reply::text(StatusCode::BAD_GATEWAY, text)
        }
        None => {
            let text = format!("target \"{name}\" has not been polled yet\n");
            reply::text(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    })
}

/// The reply if a target does not answer within the reader's time limit.
fn late(name: &str) -> Reply {
    let name = clip(name);
    let text = format!("target \"{name}\" has not answered in time\n");
    reply::text(StatusCode::GATEWAY_TIMEOUT, text)
}

/// The reply to an unknown name.
fn unknown(name: &str) -> Reply {
    let name = clip(name);
    reply::not_found(
        &format!("no app, target or group is called \"{name}\""),
        None,
    )
}

/// The header of the table.
const NARROW: [&str; 3] = ["App Name", "Last Update Time (UTC)", "Source"];

fn narrow_row(id: &SectionId, section: &Section) -> Row {
    vec![
        name(id),
        updated(section),
        section.origin.source.to_string(),
    ]
}

/// The header of the table with `wide`.
const WIDE: [&str; 11] = [
    "App Name",
    "Last Update Time (UTC)",
    "Source",
    "URL",
    "Peer",
    "Age",
    "Bytes",
    "Samples",
    "State",
    "Last Problem",
    "Findings",
];

fn wide_row(store: &Store, id: &SectionId, section: &Section, now: Now) -> Row {
    let age = section.updated.map(|at| now.since(at).as_secs());
    let problem = section.problem.as_ref().map(|problem| {
        let age = now.since(problem.at).as_secs();
        format!("{} ({age}s ago)", problem.reason)
    });
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        name(id),
        updated(section),
        section.origin.source.to_string(),
        or_dash(section.url.as_deref().map(str::to_owned)),
        section.origin.peer.to_string(),
        or_dash(age.map(|age| format!("{age}s"))),
        section.bytes.to_string(),
        store.sample_lines(id).to_string(),
        section.state.as_str().to_owned(),
        or_dash(problem),
        or_dash(findings(section)),
    ]
}

/// One section as JSON.
fn details(store: &Store, id: &SectionId, section: &Section, now: Now) -> Value {
    let mut details = json!({
        "name": &*id.name,
        "kind": id.producer.as_str(),
        "state": section.state.as_str(),
        "source": &*section.origin.source,
        "peer": section.origin.peer.to_string(),
        "last_update": section.updated.map(|at| dates::rfc3339(at.wall)),
        "age_seconds": section.updated.map(|at| now.since(at).as_secs_f64()),
        "bytes": section.bytes,
        "samples": store.sample_lines(id),
        "last_problem": section.problem.as_ref().map(|problem| json!({
            "reason": problem.reason,
            "time": dates::rfc3339(problem.at.wall),
        })),
    });
    if let Some(url) = &section.url {
        details["url"] = json!(**url);
    }
    if let Some(findings) = &section.findings {
        details["suspect"] = findings
            .suspect
            .as_ref()
            .map_or(Value::Null, suspect_details);
        details["conflicts"] = findings.conflicts.iter().map(conflict_details).collect();
    }
    if id.producer == Producer::Group {
        details["expires_at"] = json!(section.expires(now).map(dates::rfc3339));
    }
    details
}

fn suspect_details(suspect: &Suspect) -> Value {
    json!({
        "reason": Reason::from(suspect).as_str(),
        "line": suspect.line(),
        "message": clip(&suspect.to_string()),
    })
}

fn conflict_details(conflict: &Conflict) -> Value {
    json!({
        "family": &*conflict.family,
        "with": conflict.with.section().map(|id| &*id.name),
        "message": clip(&conflict.to_string()),
    })
}

/// The findings of the inspection of a text, on one line. Of several conflicts, only the
/// first is shown.
fn findings(section: &Section) -> Option<String> {
    let findings = section.findings.as_ref()?;
    let suspect = findings.suspect.iter().map(|it| format!("suspect: {it}"));
    let conflicts = &findings.conflicts;
    let first = conflicts.first().map(|first| match conflicts.len() {
        1 => format!("conflict: {first}"),
        count => format!("{count} conflicts, such as {first}"),
    });
    let all: Vec<String> = suspect.chain(first).collect();
    Some(clip(&all.join("; ")))
}

/// The name of a section for a table. Names of groups are truncated, because they can be long.
fn name(id: &SectionId) -> String {
    match id.producer {
        Producer::Group => clip(&id.name),
        _ => escaped(&id.name).into_owned(),
    }
}

fn updated(section: &Section) -> String {
    section
        .updated
        .map_or_else(|| "never".to_owned(), |at| dates::utc(at.wall))
}
