//! `/apps`: the apps, targets and groups, and the metrics of each.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::kind;
use super::listing::{self, Chosen, Listing};
use super::metrics::Metrics;
use crate::clock::Now;
use crate::context::Context;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::reply_body::ChunkIterator;
use crate::http::request::Request;
use crate::http::router::Route;
use crate::http::table::{Row, TableWriter};
use crate::ingest::Rejection;
use crate::reason::Reason;
use crate::store::{Change, Conflict, Producer, Section, SectionId, Store, Suspect, Write};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{PushMethod, clip, dates, escaped};

/// The number of sections that are read from the store at once.
const PAGE_SECTIONS: usize = 256;

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
}

impl Apps {
    /// Creates the output. `metrics` serves the text of single apps.
    pub fn new(metrics: &Arc<Metrics>, context: &Context) -> Arc<Self> {
        Arc::new(Apps {
            store: Arc::clone(&context.store),
            metrics: Arc::clone(metrics),
        })
    }

    /// The routes of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const APP: &str = "/apps/{name}";
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
            Route::read(
                "app_metrics",
                "/apps/{name}/metrics",
                "kind",
                self,
                |it, request| Box::pin(it.text(request)),
            )
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
            let batches = SectionBatches::new(&store, chosen, MAX_BATCH_TEXT).rows(row);
            Box::new(TableWriter::new(Some(title), &WIDE, batches))
        } else {
            let row = |_: &Store, id: &SectionId, section: &Section| narrow_row(id, section);
            let batches = SectionBatches::new(&store, chosen, usize::MAX).rows(row);
            Box::new(TableWriter::new(Some(title), &NARROW, batches))
        };
        let totals = self.store.totals();
        let count = count.unwrap_or_else(|| totals.states.all());
        let short = count <= PAGE_SECTIONS && totals.bytes <= MAX_BATCH_TEXT;
        reply::list(&request.server.pools.lists, short, json, chunks).await
    }

    /// The section that the path and `kind` name, if there is one.
    ///
    /// # Errors
    ///
    /// `kind` is not valid.
    fn section(&self, request: &Request) -> Result<Option<(SectionId, Section)>, String> {
        const KINDS: [Producer; 3] = [Producer::App, Producer::Target, Producer::Group];
        let name = &*request.captured;
        Ok(match kind::of_query(request.query(), &KINDS)? {
            Some(kind) => {
                let id = SectionId::new(name, kind);
                self.store.section_of(&id).map(|section| (id, section))
            }
            None => self.store.section(name),
        })
    }

    /// One app, target or group as JSON.
    async fn detail(&self, request: &Request) -> Reply {
        let (id, section) = match self.section(request) {
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

    /// The metrics of one app, target or group.
    async fn text(&self, request: &Request) -> Reply {
        match self.section(request) {
            Ok(Some((id, _))) => self.metrics.one(request, &id).await,
            Ok(None) => unknown(&request.captured),
            Err(problem) => reply::bad_value(&problem),
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

/// All sections in order, or those that are chosen, in batches of bounded size.
struct SectionBatches {
    store: Arc<Store>,
    /// The limit on text in a batch, in bytes. A larger section is a batch of its own.
    max_bytes: usize,
    page: Peekable<vec::IntoIter<(SectionId, Section)>>,
    last: Option<SectionId>,
    /// The chosen sections that are not yet read; `None` for all.
    chosen: Option<vec::IntoIter<SectionId>>,
}

impl SectionBatches {
    fn new(store: &Arc<Store>, chosen: Option<Chosen>, max_bytes: usize) -> Self {
        SectionBatches {
            store: Arc::clone(store),
            max_bytes,
            page: Vec::new().into_iter().peekable(),
            last: None,
            chosen: chosen.map(|chosen| chosen.ids.into_iter()),
        }
    }

    /// Reads more sections. None are left if it returns nothing.
    fn read_page(&mut self) -> Vec<(SectionId, Section)> {
        let Some(chosen) = &mut self.chosen else {
            let page = self.store.sections(self.last.as_ref(), PAGE_SECTIONS);
            self.last = page.last().map(|(id, _)| id.clone());
            return page;
        };
        // Those that are gone are left out.
        let found = chosen.filter_map(|id| Some((self.store.section_of(&id)?, id)));
        let found = found.map(|(section, id)| (id, section));
        found.take(PAGE_SECTIONS).collect()
    }

    /// Converts the batches to rows of a table.
    fn rows<R>(self, row: R) -> impl Iterator<Item = Vec<Row>> + Send
    where
        R: Fn(&Store, &SectionId, &Section) -> Row + Send,
    {
        let store = Arc::clone(&self.store);
        self.map(move |sections| {
            let sections = sections.iter();
            sections
                .map(|(id, section)| row(&store, id, section))
                .collect()
        })
    }
}

impl Iterator for SectionBatches {
    type Item = Vec<(SectionId, Section)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.peek().is_none() {
            self.page = self.read_page().into_iter().peekable();
        }
        let mut batch = vec![self.page.next()?];
        let mut bytes = batch[0].1.bytes;
        while let Some(next) = self.page.next_if(|(_, section)| {
            bytes = bytes.saturating_add(section.bytes);
            bytes <= self.max_bytes
        }) {
            batch.push(next);
        }
        Some(batch)
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
    let items = SectionBatches::new(&store, chosen, MAX_BATCH_TEXT).map(move |sections| {
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

/// The name of a section for a table. Names of groups are cut, because they can be long.
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
