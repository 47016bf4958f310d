//! `/apps`: who sent what, from where, when.

use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{LineStyle, Table, TableStyle, presets};
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::push::Call;
use super::reply::{self, Reply};
use super::{Server, metrics, query};
use crate::push::Fault;
use crate::store::{Change, Now, Producer, Section, SectionId, Store, Write};
use crate::telemetry::{PushMethod, Reason, clip};

/// A `+---+` rule above and below every row, the header's too: the look that
/// scripts which read this table know.
pub const RULED: TableStyle = {
    const RULE: LineStyle = LineStyle::new('+', '-', '+', '+');
    presets::ASCII_FULL
        .header_separator(RULE)
        .row_separator(RULE)
};

/// The list, as a table or, where that is asked for, as JSON. Samples are
/// counted for it, in all of the text, away from the threads that serve.
pub async fn list(server: &Server, headers: &HeaderMap, query: &str) -> Reply {
    let look = match (
        wants_json(query, headers),
        query::value(query, "wide").as_deref(),
    ) {
        (true, _) => Look::Json,
        (false, Some("1")) => Look::Wide,
        (false, _) => Look::Narrow,
    };
    let store = Arc::clone(&server.store);
    let listed = spawn_blocking(move || show(&store, look)).await;
    listed.unwrap_or_else(|problem| {
        log::error!("the list of apps cannot be made: {problem}");
        let problem = "the list of apps cannot be made; the log says why\n";
        reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
    })
}

#[derive(Clone, Copy)]
enum Look {
    Narrow,
    Wide,
    Json,
}

fn show(store: &Store, look: Look) -> Reply {
    let now = Now::read();
    let sections = store.sections();
    let mut table = match look {
        Look::Narrow => narrow_table(&sections),
        Look::Wide => wide_table(store, &sections, now),
        Look::Json => {
            let apps: Vec<Value> = sections
                .iter()
                .map(|(id, section)| details(store, id, section, now))
                .collect();
            return reply::json(&json!({ "time": rfc3339(now.wall), "apps": apps }));
        }
    };
    table.load_style(RULED);
    let mut outer = Table::new();
    outer.load_style(RULED);
    outer.add_row([format!("Current time: {}", utc(now.wall))]);
    outer.add_row([table.to_string()]);
    reply::text(StatusCode::OK, format!("{outer}\n"))
}

/// One app, target or group as JSON.
pub fn detail(server: &Server, name: &str) -> Reply {
    match server.store.section(name) {
        Some((id, section)) => reply::json(&details(&server.store, &id, &section, Now::read())),
        None => unknown(name),
    }
}

/// The text of one app, target or group alone.
pub async fn text(server: &Server, headers: &HeaderMap, name: &str) -> Reply {
    match server.store.section(name) {
        Some((id, _)) => metrics::one(server, headers, &id).await,
        None => unknown(name),
    }
}

/// Removes an app, and what it exposes. It comes back with its next push.
pub fn remove(call: &Call<'_>, name: &str) -> Reply {
    let store = &call.server.store;
    let pushes = &call.server.telemetry.pushes;
    let id = SectionId::new(name, Producer::App);
    let shown = clip(name);
    if store.section_of(&id).is_some() {
        let write = Write::one(Change::Remove {
            id,
            unless_since: None,
        });
        return match store.apply(write, Now::read()) {
            Ok(()) => {
                pushes.count(PushMethod::DeleteApp, Ok(()), 0);
                log::info!("{} removes app {shown:?}", call.peer);
                reply::text(StatusCode::OK, format!("removed app {shown:?}\n"))
            }
            Err(refused) => call.refuse(PushMethod::DeleteApp, &refused.into(), 0),
        };
    }
    let Some((id, _)) = store.section(name) else {
        pushes.count(PushMethod::DeleteApp, Err(Reason::NotFound), 0);
        return unknown(name);
    };
    let problem = match id.producer {
        Producer::Group => {
            format!("{id} is a group: DELETE the path it is pushed to, /metrics/job/<job>...")
        }
        _ => format!("{shown:?} is a target: take it out of the configuration (poll_external)"),
    };
    let fault = Fault::new(Reason::NotAnApp, &problem);
    call.refuse(PushMethod::DeleteApp, &fault, 0)
}

fn unknown(name: &str) -> Reply {
    let name = clip(name);
    reply::not_found(&format!("no app, target or group is called {name:?}"), None)
}

pub fn wants_json(query: &str, headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT);
    match query::value(query, "format") {
        Some(format) => format == "json",
        None => accepted
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("application/json")),
    }
}

fn narrow_table(sections: &[(SectionId, Section)]) -> Table {
    let mut table = Table::new();
    table.set_header(["App Name", "Last Update Time (UTC)", "Source"]);
    for (id, section) in sections {
        table.add_row([
            name(id),
            updated(section),
            section.origin.source.to_string(),
        ]);
    }
    table
}

fn wide_table(store: &Store, sections: &[(SectionId, Section)], now: Now) -> Table {
    let mut table = Table::new();
    table.set_header([
        "App Name",
        "Last Update Time (UTC)",
        "Source",
        "Peer",
        "Age",
        "Bytes",
        "Samples",
        "State",
        "Last Problem",
    ]);
    for (id, section) in sections {
        table.add_row([
            name(id),
            updated(section),
            section.origin.source.to_string(),
            section.origin.peer.to_string(),
            section.updated.map_or_else(
                || "-".to_owned(),
                |at| format!("{}s", now.since(at).as_secs()),
            ),
            section.bytes.to_string(),
            store.text(id).sample_lines().to_string(),
            section.state.as_str().to_owned(),
            section.problem.as_ref().map_or_else(
                || "-".to_owned(),
                |problem| {
                    format!(
                        "{} ({}s ago)",
                        problem.reason,
                        now.since(problem.at).as_secs()
                    )
                },
            ),
        ]);
    }
    table
}

fn details(store: &Store, id: &SectionId, section: &Section, now: Now) -> Value {
    let mut details = json!({
        "name": &*id.name,
        "kind": id.producer.as_str(),
        "state": section.state.as_str(),
        "source": &*section.origin.source,
        "peer": section.origin.peer.to_string(),
        "last_update": section.updated.map(|at| rfc3339(at.wall)),
        "age_seconds": section.updated.map(|at| now.since(at).as_secs_f64()),
        "bytes": section.bytes,
        "samples": store.text(id).sample_lines(),
        "last_problem": section.problem.as_ref().map(|problem| json!({
            "reason": problem.reason,
            "time": rfc3339(problem.at.wall),
        })),
    });
    if id.producer == Producer::Group {
        details["expires_at"] = json!(section.expires(now).map(rfc3339));
    }
    details
}

/// A name for a table. Those of groups may have any characters, and stay on
/// their line.
fn name(id: &SectionId) -> String {
    match id.producer {
        Producer::Group => clip(&id.name),
        _ => id.name.to_string(),
    }
}

fn updated(section: &Section) -> String {
    section
        .updated
        .map_or_else(|| "never".to_owned(), |at| utc(at.wall))
}

/// `2026-01-31 12:00:00.123456789 UTC`, the fraction as long as it needs to be.
pub fn utc(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_string()
}

pub fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
