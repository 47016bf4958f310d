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

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::aggregate::{Adding, empty_batch, metrics_of};
use super::families_json::{self, Family};
use super::{Addition, Body, Fault, Group, Intake};
use crate::exposition::{
    FamilyText, Kind, LabelText, Timestamps, Value, needs_quotes, write_help, write_label_value,
    write_number, write_series,
};
use crate::registry::Batch;
use crate::store::{Now, Store};
use crate::telemetry::Reason;

/// What is to be done with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
}

impl Verb {
    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Update => "update",
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
    pub fn of(content_type: &str) -> Result<Self, Fault> {
        const KNOWN: &str =
            "application/json, or text/plain or application/x-www-form-urlencoded for text";
        let name = content_type.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Form::Json),
            "text/plain" | "application/x-www-form-urlencoded" => Ok(Form::Text),
            "" => {
                let message = format!("there is no Content-Type: it must be {KNOWN}");
                Err(Fault::new(Reason::BadParameter, &message))
            }
            _ => {
                let message = format!("the Content-Type is {name:?}, and must be {KNOWN}");
                Err(Fault::new(Reason::UnsupportedMedia, &message))
            }
        }
    }
}

/// A family that was sent, in whatever form.
#[derive(Debug)]
struct Sent<'b> {
    /// Escaped.
    name: Arc<str>,
    help: Option<Arc<str>>,
    /// Untyped where it was not told.
    kind: Kind,
    items: Vec<SentItem<'b>>,
}

#[derive(Debug)]
struct SentItem<'b> {
    at: At,
    /// As they are meant, without escapes.
    labels: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    value: Option<Value>,
}

/// Where it was sent.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The line of a text on which the family begins, from 1.
    Line(usize),
    /// The places of the family, where there is a list, and of the item.
    Json(Option<usize>, usize),
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
    /// By family, in the order in which they were sent.
    families: Vec<(Arc<str>, Kind, Vec<Row>)>,
}

impl Intake {
    /// Changes living families, whole or not at all, and returns what the
    /// sender is told: a line for each family that was made, a line for each
    /// item with the value that was sent (of an update: with what it has come
    /// to), and after each family of `Create` an empty line.
    pub fn change_values(
        &self,
        store: &Store,
        (verb, form): (Verb, Form),
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<String, Fault> {
        let ttl = self.series_ttl(addition);
        let bytes;
        let texts;
        let sent = match form {
            Form::Json => {
                bytes = self.unpacked(body.content_encoding, body.bytes)?;
                let most = self.exposition.max_samples;
                let (families, alone) = families_json::decode(&bytes, most)?;
                of_json(families, alone)?
            }
            Form::Text => {
                let body = Body {
                    content_type: "",
                    ..body
                };
                texts = self.families_with(&Group::default(), body, Timestamps::Strip)?;
                of_texts(&texts)?
            }
        };
        for family in &sent {
            self.hold_values(family)?;
        }
        let living = store.living_kinds(sent.iter().map(|family| &*family.name));
        let Asked { batch, families } = self.asked(verb, sent, &living, ttl)?;
        let mut reply = String::new();
        match verb {
            Verb::Create => {
                let created = store.operate_and(batch, now, |plan| plan.created())?;
                for (name, kind, rows) in families {
                    if created.contains(&name) {
                        let kind = kind.as_str();
                        for piece in ["Created ", kind, " ", &*name, "\n"] {
                            reply.push_str(piece);
                        }
                    }
                    for row in &rows {
                        row.write(&mut reply, &name, row.sent);
                    }
                    reply.push('\n');
                }
            }
            Verb::Update => {
                let totals = store.operate_and(batch, now, |plan| plan.totals())?;
                for (name, _, rows) in families {
                    for row in &rows {
                        if let Some(total) = totals.of(&name, &row.labels) {
                            row.write(&mut reply, &name, total);
                        }
                    }
                }
            }
        }
        Ok(reply)
    }

    /// Whether the names and labels of a family may be there.
    fn hold_values(&self, family: &Sent<'_>) -> Result<(), Fault> {
        if let Some(problem) = self.reserved(&family.name) {
            return Err(Fault::new(Reason::ReservedName, &problem));
        }
        let config = &self.exposition;
        for item in &family.items {
            let told = |problem: &str| {
                let message = format!("{}: {problem}", item.at.shown(&family.name));
                Err(Fault::new(Reason::TooManySamples, &message))
            };
            if item.labels.len() > config.max_labels {
                let most = config.max_labels;
                return told(&format!(
                    "it has more than {most} labels (exposition.max_labels)"
                ));
            }
            let most = config.max_label_length;
            let is_long = |text: &Cow<'_, str>| text.len() > most;
            let mut labels = item.labels.iter();
            if labels.any(|(name, value)| is_long(name) || is_long(value)) {
                return told(&format!(
                    "a label has more than {most} bytes (exposition.max_label_length)"
                ));
            }
        }
        Ok(())
    }

    /// The batch for families, and what they are already.
    fn asked(
        &self,
        verb: Verb,
        sent: Vec<Sent<'_>>,
        living: &[Option<Kind>],
        ttl: Option<Duration>,
    ) -> Result<Asked, Fault> {
        let mut batch = empty_batch(&self.config);
        // It may have gone since it was looked for.
        batch.known_only = verb == Verb::Update;
        let mut families = Vec::with_capacity(sent.len());
        for (family, living) in sent.into_iter().zip(living) {
            let kind = match (family.kind, living) {
                (Kind::Untyped, Some(living)) => *living,
                (told, _) => told,
            };
            let mut adding = Adding::new(&family.name, kind, &self.config, ttl);
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
                    let message = format!("{}: {problem}", item.at.shown(&family.name));
                    let fault = Fault::new(Reason::BadValue, &message);
                    match item.at {
                        At::Line(line) => fault.at(line, None),
                        At::Json(..) => fault,
                    }
                })?);
            }
            families.push((family.name, kind, rows));
        }
        Ok(Asked { batch, families })
    }
}

impl At {
    fn shown(self, name: &str) -> String {
        match self {
            At::Line(line) => format!("family {name}, line {line}"),
            At::Json(None, item) => format!("metrics[{item}] of {name}"),
            At::Json(Some(family), item) => format!("[{family}].metrics[{item}] of {name}"),
        }
    }
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

/// Families of JSON, each once: what is said of one in several places is put
/// together where it is said first.
fn of_json(families: Vec<Family<'_>>, alone: bool) -> Result<Vec<Sent<'_>>, Fault> {
    let mut by_name: HashMap<Arc<str>, usize> = HashMap::new();
    let mut sent: Vec<Sent<'_>> = Vec::with_capacity(families.len());
    for (place, family) in families.into_iter().enumerate() {
        let place = (!alone).then_some(place);
        let name: Arc<str> = escaped(&family.name, write_label_value).into();
        let items = family.items.into_iter().enumerate();
        let items = items.map(|(item, told)| SentItem {
            at: At::Json(place, item),
            labels: told.labels,
            value: told.value,
        });
        let help = family.help.filter(|help| !help.is_empty());
        let help = help.map(|help| Arc::from(escaped(&help, write_help)));
        let Some(first) = by_name.get(&name).map(|first| &mut sent[*first]) else {
            by_name.insert(Arc::clone(&name), sent.len());
            sent.push(Sent {
                name,
                help,
                kind: family.kind,
                items: items.collect(),
            });
            continue;
        };
        first.help = first.help.take().or(help);
        match (first.kind, family.kind) {
            (_, Kind::Untyped) => {}
            (Kind::Untyped, told) => first.kind = told,
            (one, other) if one == other => {}
            (one, other) => {
                let (one, other) = (one.as_str(), other.as_str());
                let at = At::Json(place, 0).shown(&name);
                let message = format!("{at}: it is a {other} here, and a {one} before");
                return Err(Fault::new(Reason::KindConflict, &message));
            }
        }
        first.items.extend(items);
    }
    Ok(sent)
}

fn of_texts(families: &[FamilyText]) -> Result<Vec<Sent<'_>>, Fault> {
    let mut sent = Vec::with_capacity(families.len());
    for family in families {
        let at = At::Line(family.line);
        let metrics = metrics_of(family).map_err(|problem| {
            let message = format!("{}: {problem}", at.shown(&family.name));
            Fault::new(Reason::BadValue, &message).at(family.line, None)
        })?;
        let items = metrics.into_iter().map(|metric| SentItem {
            at,
            labels: metric.labels,
            value: Some(metric.value),
        });
        sent.push(Sent {
            name: Arc::clone(&family.name),
            help: family.help.as_deref().map(Arc::from),
            kind: family.kind,
            items: items.collect(),
        });
    }
    Ok(sent)
}

fn escaped(text: &str, write: fn(&mut String, &str)) -> String {
    let mut out = String::with_capacity(text.len());
    write(&mut out, text);
    out
}

/// The value that an item has in a family of that kind.
fn settled(verb: Verb, kind: Kind, value: Option<Value>) -> Result<Value, String> {
    let counted = matches!(kind, Kind::Counter | Kind::Untyped);
    let number = match value {
        None if counted && verb == Verb::Update => 1.0,
        None => return Err("it has no value".to_owned()),
        Some(Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) => value,
        Some(value @ Value::Histogram { .. }) if kind == Kind::Histogram => return Ok(value),
        Some(value @ Value::Summary { .. }) if kind == Kind::Summary => return Ok(value),
        Some(value) => {
            let (kind, other) = (kind.as_str(), of_value(&value));
            return Err(format!("it is a {other}, and its family is a {kind}"));
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
            "its value is {number}, and nothing can be taken from a counter"
        )),
        Kind::Counter => Ok(Value::Counter(number)),
        Kind::Untyped => Ok(Value::Untyped(number)),
        Kind::Histogram | Kind::Summary => {
            let kind = kind.as_str();
            Err(format!("it is a single value, and its family is a {kind}"))
        }
        _ => Ok(Value::Gauge(number)),
    }
}

fn of_value(value: &Value) -> &'static str {
    match value {
        Value::Counter(_) | Value::Gauge(_) | Value::Untyped(_) => "single value",
        Value::Histogram { .. } => "histogram",
        Value::Summary { .. } => "summary",
    }
}

/// The one number that is shown for a value, and the suffix of the sample it
/// is of.
fn number_of(value: &Value) -> (f64, &'static str) {
    match value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => (*value, ""),
        Value::Histogram { buckets, count, .. } => {
            let last = buckets.last().map(|(_, count)| *count);
            (count.or(last).unwrap_or_default(), "_count")
        }
        Value::Summary {
            sum, count: None, ..
        } => (sum.unwrap_or_default(), "_sum"),
        Value::Summary {
            count: Some(count), ..
        } => (*count, "_count"),
    }
}

#[cfg(test)]
mod tests;
