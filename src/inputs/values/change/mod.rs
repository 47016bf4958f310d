//! Values that are created and updated, as with pingpong: what comes goes into
//! living families, and the sender is told what became of it.
//!
//! | | [`Verb::Create`] | [`Verb::Update`] |
//! | --- | --- | --- |
//! | a family that is not there | is made | is passed over |
//! | counter, untyped | the value is added | the same, and 1 where it is none, 0 or less |
//! | gauge | is set (`push.gauges`) | the same |
//! | histogram, summary | is added | the same |
//!
//! These are the ways of aggregating pushes, whose rules (`push.rules`,
//! `clearmode`) hold here too. A family whose type was not told is what it is
//! already. Timestamps are passed over.

mod sent;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::families_json::{self, Most};
use crate::clock::Now;
use crate::exposition::{
    Kind, LabelText, MetricValue, TimestampPolicy, labels_text, needs_quotes, write_number,
    write_series,
};
use crate::ingest::aggregation::{FamilyUpdates, empty_batch};
use crate::ingest::{Addition, Admission, Body, Group, KeyOutcome, Rejection};
use crate::reason::Reason;
use crate::registry::{Batch, Changeset, SeriesTotals};
use crate::store::{MemoryBudget, Store};
use crate::telemetry::PushMethod;
use sent::{At, Sent, of_json, of_texts};

/// Bytes of an answer. A name that is sent once stands in each row, so few
/// bytes could ask for an answer of any length.
const LONGEST_ANSWER: usize = 16 << 20;

/// What is to be done with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
}

impl Verb {
    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        self.counted().as_str()
    }

    /// What it is counted as.
    pub fn counted(self) -> PushMethod {
        match self {
            Verb::Create => PushMethod::Create,
            Verb::Update => PushMethod::Update,
        }
    }
}

/// What families are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Text,
}

impl Form {
    /// By the `Content-Type`, whose parameters do not matter. Text may be
    /// called a form, since `curl --data-binary` calls everything so.
    pub fn of(content_type: &str) -> Result<Self, Rejection> {
        const KNOWN: &str =
            "application/json, or text/plain or application/x-www-form-urlencoded for text";
        let name = content_type.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Form::Json),
            "text/plain" | "application/x-www-form-urlencoded" => Ok(Form::Text),
            "" => {
                let message = format!("there is no Content-Type: it must be {KNOWN}");
                Err(Rejection::new(Reason::BadParameter, &message))
            }
            _ => {
                let message = format!("the Content-Type is {name:?}, and must be {KNOWN}");
                Err(Rejection::new(Reason::UnsupportedMedia, &message))
            }
        }
    }
}

/// What was made of an item, for the answer.
#[derive(Debug)]
struct Row {
    labels: LabelText,
    /// The number that was sent: of a histogram or a summary its count.
    sent: f64,
    /// What stands after the family's name.
    suffix: &'static str,
}

/// What is asked of living families.
#[derive(Debug)]
struct Asked {
    batch: Batch,
    /// In the order in which they were sent.
    families: Vec<Changed>,
}

/// What is made of a family, for the answer.
#[derive(Debug)]
struct Changed {
    name: Arc<str>,
    /// Of an update one for each series, in the order of their first items.
    rows: Vec<Row>,
}

impl Changed {
    /// Bytes of what is told of it, at most.
    fn longest(&self) -> usize {
        // A number, and the words, quotes and braces around it.
        const BESIDE: usize = 48;
        let rows = self.rows.iter();
        let rows = rows.map(|row| self.name.len() + row.suffix.len() + row.labels.len() + BESIDE);
        self.name.len() + BESIDE + rows.sum::<usize>()
    }
}

/// BlockingPool created and updated values into changes of aggregated families.
#[derive(Debug)]
pub struct Values {
    /// Checks the families, and remembers idempotency keys.
    pub admission: Arc<Admission>,
}

impl Values {
    /// Changes living families, whole or not at all, and returns what the
    /// sender is told, in pingpong's words: of `Create` for each family
    /// `created metric...`, made now or not, a line for each item with the
    /// value that was sent, and an empty line; of `Update` a line for each
    /// series with what it has come to. One that was done before, by its key,
    /// tells nothing.
    pub fn change(
        &self,
        store: &Store,
        (verb, form): (Verb, Form),
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<(KeyOutcome, String), Rejection> {
        let ttl = self.admission.series_ttl(addition);
        let texts;
        let sent = match form {
            Form::Json => {
                let most = Most {
                    families: self.admission.exposition.max_families,
                    values: self.admission.exposition.max_samples,
                    labels: self.admission.exposition.max_labels,
                    length: self.admission.exposition.max_label_length,
                };
                let (families, alone) = families_json::decode(body.bytes, most)?;
                of_json(families, alone)?
            }
            Form::Text => {
                let text = Body {
                    content_type: "",
                    ..body
                };
                texts = self.admission.families_with(
                    &Group::default(),
                    text,
                    TimestampPolicy::Strip,
                    || MemoryBudget::UNLIMITED,
                )?;
                of_texts(&texts)?
            }
        };
        for family in &sent {
            self.admission.check_name(&family.name)?;
        }
        let living = store.aggregated_kinds(sent.iter().map(|family| &*family.name));
        let Asked { batch, families } = self.asked(verb, sent, &living, ttl)?;
        if families.iter().map(Changed::longest).sum::<usize>() > LONGEST_ANSWER {
            let message = format!(
                "the answer would have more than {LONGEST_ANSWER} bytes: send the values in several parts"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        let mut reply = None;
        let print = (verb.as_str(), body.content_type, body.bytes, ttl);
        let once = self.admission.apply_once(addition, print, now, || {
            reply = Some(match verb {
                Verb::Create => store.operate(batch, now).map(|()| None)?,
                Verb::Update => store.operate_and(batch, now, Changeset::totals).map(Some)?,
            });
            Ok(())
        })?;
        // The registry is not locked any more.
        let reply = match reply {
            None => String::new(),
            Some(None) => created_text(&families),
            Some(Some(totals)) => totals_text(&families, &totals),
        };
        Ok((once, reply))
    }

    /// The batch for families, and what they are already.
    fn asked(
        &self,
        verb: Verb,
        sent: Vec<Sent<'_>>,
        living: &[Option<Kind>],
        ttl: Option<Duration>,
    ) -> Result<Asked, Rejection> {
        let mut batch = empty_batch(&self.admission.aggregation);
        // It may have gone since it was looked for.
        batch.existing_only = verb == Verb::Update;
        let mut families = Vec::with_capacity(sent.len());
        for (family, living) in sent.into_iter().zip(living) {
            let kind = match (family.kind, living) {
                (Kind::Untyped, Some(living)) => *living,
                (told, _) => told,
            };
            let mut adding =
                FamilyUpdates::new(&family.name, kind, &self.admission.aggregation, ttl);
            adding.help.clone_from(&family.help);
            let mut rows = Vec::with_capacity(family.items.len());
            for item in family.items {
                let row = settled(verb, kind, item.value).and_then(|value| {
                    let (sent, suffix) = number_of(&value);
                    let labels = adding.add(&mut batch, &item.labels, value)?;
                    Ok(Row {
                        labels,
                        sent,
                        suffix,
                    })
                });
                rows.push(row.map_err(|problem| {
                    let at = item.at.shown(&family.name);
                    match item.at {
                        At::Line(line) => {
                            let labels = labels_text(&item.labels);
                            let message = format!("{at}, {{{labels}}}: {problem}");
                            Rejection::new(Reason::BadValue, &message).at(line, None)
                        }
                        At::Json(..) => {
                            Rejection::new(Reason::BadValue, &format!("{at}: {problem}"))
                        }
                    }
                })?);
            }
            if verb == Verb::Update {
                let mut seen = HashSet::with_capacity(rows.len());
                rows.retain(|row: &Row| seen.insert(row.labels.clone()));
            }
            families.push(Changed {
                name: family.name,
                rows,
            });
        }
        Ok(Asked { batch, families })
    }
}

fn created_text(families: &[Changed]) -> String {
    let mut out = String::new();
    for Changed { name, rows } in families {
        out.push_str("created metric...\n");
        for row in rows {
            row.write(&mut out, name, row.sent);
        }
        out.push('\n');
    }
    out
}

fn totals_text(families: &[Changed], totals: &SeriesTotals) -> String {
    let mut out = String::new();
    let mut totals = totals.iter().peekable();
    for Changed { name, rows } in families {
        // Series of families that do not live are not among the totals; all
        // others are, in the order of the rows.
        for row in rows {
            let Some((_, total)) = totals.next_if(|(family, _)| *family == name) else {
                break;
            };
            if let Some(total) = total {
                row.write(&mut out, name, total);
            }
        }
    }
    out
}

impl Row {
    fn write(&self, out: &mut String, name: &str, value: f64) {
        let quoted = needs_quotes(name);
        write_series(
            out,
            [name, self.suffix],
            quoted,
            [self.labels.as_str(), "", ""],
        );
        if self.labels.is_empty() && !quoted {
            out.push_str("{}");
        }
        out.push(' ');
        write_number(out, value);
        out.push('\n');
    }
}

/// The value that an item has in a family of that kind.
fn settled(verb: Verb, kind: Kind, value: Option<MetricValue>) -> Result<MetricValue, String> {
    let counted = matches!(kind, Kind::Counter | Kind::Untyped);
    let number = match value {
        None if counted && verb == Verb::Update => 1.0,
        None => return Err("it has no value".to_owned()),
        Some(
            MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value),
        ) => value,
        Some(value @ MetricValue::Histogram { .. }) if kind == Kind::Histogram => return Ok(value),
        Some(value @ MetricValue::Summary { .. }) if kind == Kind::Summary => return Ok(value),
        Some(value) => {
            let (kind, other) = (kind.with_article(), of_value(&value));
            return Err(format!("it is a {other}, and its family is {kind}"));
        }
    };
    if number.is_nan() {
        return Err("its value is not a number (NaN)".to_owned());
    }
    if number.is_infinite() && counted {
        return Err("its value is infinite, and cannot be added up".to_owned());
    }
    let number = match verb {
        // What pingpong does: whoever says nothing, or nothing of use, counts.
        Verb::Update if counted && number <= 0.0 => 1.0,
        _ => number,
    };
    match kind {
        Kind::Counter if number < 0.0 => Err(format!(
            "its value is {number}, and a counter cannot decrease"
        )),
        Kind::Counter => Ok(MetricValue::Counter(number)),
        Kind::Untyped => Ok(MetricValue::Untyped(number)),
        Kind::Histogram | Kind::Summary => {
            let kind = kind.with_article();
            Err(format!("it is a single value, and its family is {kind}"))
        }
        _ => Ok(MetricValue::Gauge(number)),
    }
}

fn of_value(value: &MetricValue) -> &'static str {
    match value {
        MetricValue::Counter(_) | MetricValue::Gauge(_) | MetricValue::Untyped(_) => "single value",
        MetricValue::Histogram { .. } => "histogram",
        MetricValue::Summary { .. } => "summary",
    }
}

/// The one number that is shown for a value, and the suffix of the sample it
/// is of.
fn number_of(value: &MetricValue) -> (f64, &'static str) {
    match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            (*value, "")
        }
        MetricValue::Histogram { buckets, count, .. } => {
            let last = buckets.last().map(|(_, count)| *count);
            (count.or(last).unwrap_or_default(), "_count")
        }
        MetricValue::Summary {
            sum, count: None, ..
        } => (sum.unwrap_or_default(), "_sum"),
        MetricValue::Summary {
            count: Some(count), ..
        } => (*count, "_count"),
    }
}

#[cfg(test)]
mod tests;
