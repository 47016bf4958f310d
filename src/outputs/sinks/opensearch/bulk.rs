//! Documents as a request to `_bulk`, and the results in its answer.
//!
//! The format is documented as "Bulk" in the document APIs of OpenSearch and of
//! Elasticsearch.

use std::collections::HashMap;
use std::io::Write as _;

use serde::Deserialize;

use super::config::Settings;
use super::index::is_index_name;
use crate::event::{Event, write_string};
use crate::outputs::sinks::{Refusal, Report, Verdict};
use crate::reason::Reason;
use crate::telemetry::clip_to;

/// The status of a document that already exists: an earlier request created it.
const CONFLICT: u16 = 409;

/// The end of the error types with which an index or the cluster rejects documents for now.
/// A full disk is the usual cause: it also prevents the index of the next day.
const BLOCKED: &str = "_block_exception";

/// Limit on the shown text of the server, in bytes.
const SHOWN: usize = 300;

/// The body of a request: two lines for each document.
pub fn body(settings: &Settings, events: &[Event<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut name = String::new();
    for event in events {
        let time = event.time();
        let index = match event.content.index {
            index if is_index_name(index) => index,
            _ => &settings.default_index,
        };
        name.clear();
        settings.index.write(index, time, &mut name);
        body.extend_from_slice(b"{\"create\":{\"_index\":");
        write_string(&name, &mut body);
        // Writing to memory cannot fail.
        let _ = writeln!(body, ",\"_id\":\"{:032x}\"}}}}", event.stamp.id);
        event.content.write_json(Some(time), &mut body);
        body.push(b'\n');
    }
    body
}

/// An answer, with a result for each document.
#[derive(Debug, Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<HashMap<String, Outcome>>,
}

/// The result for one document.
#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
}

/// The verdicts in an answer to `items` documents.
pub fn judge(body: &[u8], items: usize) -> Report {
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(problem) => {
            return Report::failed(0, format!("the answer is not that of _bulk: {problem}"));
        }
    };
    if !answer.errors {
        return Report::taken(items);
    }
    let results: Vec<Outcome> = answer
        .items
        .into_iter()
        .filter_map(|actions| actions.into_values().next())
        .collect();
    if results.len() != items {
        let found = results.len();
        return Report::failed(
            0,
            format!("the answer has {found} results for {items} documents"),
        );
    }
    let verdicts: Vec<Verdict> = results.iter().map(Outcome::verdict).collect();
    let of = |wanted: fn(&Verdict) -> bool| {
        let mut all = verdicts.iter().zip(&results);
        all.find(|(verdict, _)| wanted(verdict))
            .map(|(_, result)| result)
    };
    let refused = of(|verdict| matches!(verdict, Verdict::Refused(_)));
    let again = of(|verdict| *verdict == Verdict::Again);
    Report {
        failure: again.map(Outcome::describe),
        refusal: refused.map(|result| Refusal {
            reason: Reason::Refused,
            message: result.describe(),
            answer: result
                .error
                .as_ref()
                .map(|problem| clip_to(SHOWN, &problem.reason, "…"))
                .unwrap_or_default(),
            whole: false,
        }),
        verdicts,
        ..Report::default()
    }
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        let kind = self.error.as_ref().map_or("", |problem| &problem.kind);
        match self.status {
            CONFLICT => Verdict::Taken,
            _ if kind.ends_with(BLOCKED) => Verdict::Again,
            status => Verdict::of_status(status),
        }
    }

    /// The status and the type of the error. They quote nothing of the document.
    fn describe(&self) -> String {
        match &self.error {
            Some(problem) => {
                let kind = clip_to(SHOWN, &problem.kind, "…");
                format!(
                    "the server answered {} ({kind}) for a document",
                    self.status
                )
            }
            None => format!("the server answered {} for a document", self.status),
        }
    }
}
