//! Turns messages into events for the systems behind sinks.

use chrono::DateTime;

use crate::event::{Buckets, Content, Draft, EventKind};
use crate::inputs::operations::labels::{LabelLimits, merge_labels};
use crate::inputs::operations::message::{Message, Written};
use crate::inputs::operations::rejection::Rejection;
use crate::reason::Reason;

/// The limit on the length of an index name, in bytes. A sink adds the date.
const MAX_INDEX: usize = 127;

/// Creates an event. `added` are labels for every event.
///
/// # Errors
///
/// Why the message is rejected.
pub(super) fn draft(
    kind: EventKind,
    message: Message<'_>,
    added: &[(String, String)],
    limits: LabelLimits,
) -> Result<Draft, Rejection> {
    for (what, text) in [
        ("name", Some(&message.name)),
        ("help", message.help.as_ref()),
    ] {
        if text.is_some_and(|text| text.len() > limits.length) {
            let problem = format!(
                "the {what} has more than {} bytes (operations.max_label_length)",
                limits.length
            );
            return Err(Rejection::new(Reason::TooLarge, problem));
        }
    }
    let timestamp = match (&message.timestamp, kind) {
        (Written::Missing, _) => None,
        (Written::Text(text), _) => Some(nanos(text)?),
        (Written::Other, _) => return Err(bad_time("it is no text")),
    };
    let index = match (&message.index, kind) {
        (Written::Text(index), EventKind::Index) => check_index(index)?,
        (Written::Other, EventKind::Index) => return Err(bad_index("it is no text")),
        _ => "",
    };
    let is_forwarded = message.hops > 0;
    let labels = merge_labels(message.labels, added, is_forwarded, limits)?;
    let spec = message.buckets;
    let buckets = Buckets {
        count: spec.count,
        custom: spec.custom,
        width: spec.width,
        factor: spec.factor,
        min: spec.min,
        max: spec.max,
        start: spec.start,
    };
    Ok(Draft::new(&Content {
        kind,
        name: &message.name,
        labels: labels
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect(),
        help: message.help.as_deref().unwrap_or_default(),
        index,
        value: message.value,
        timestamp,
        buckets: Some(buckets).filter(|buckets| *buckets != Buckets::default()),
    }))
}

/// Parses a time into nanoseconds since 1970. metrics-server's clients send an empty text
/// for no time.
fn nanos(text: &str) -> Result<i64, Rejection> {
    let date = DateTime::parse_from_rfc3339(text)
        .map_err(|problem| bad_time(&format!("{text:?} is not: {problem}")))?;
    date.timestamp_nanos_opt()
        .ok_or_else(|| bad_time(&format!("{text:?} is out of range")))
}

fn bad_time(why: &str) -> Rejection {
    let problem =
        format!("timestamp must be text such as \"2026-01-31T12:00:00Z\" (RFC 3339): {why}");
    Rejection::new(Reason::BadValue, problem)
}

fn check_index(index: &str) -> Result<&str, Rejection> {
    let valid =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if index.is_empty() {
        return Ok(index);
    }
    if index.len() > MAX_INDEX {
        return Err(bad_index(&format!("it has more than {MAX_INDEX} bytes")));
    }
    match index.starts_with(|c: char| c.is_ascii_alphanumeric()) && index.chars().all(valid) {
        true => Ok(index),
        false => Err(bad_index(&format!("{index:?} has others"))),
    }
}

fn bad_index(why: &str) -> Rejection {
    let problem = format!(
        "index can only have lower-case letters, digits, \"-\", \"_\" and \".\", with a letter or digit first: {why}"
    );
    Rejection::new(Reason::BadName, problem)
}
