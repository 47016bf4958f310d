//! The families of a request, converted from JSON or text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::exposition::{FamilyText, Kind, MetricValue, write_help, write_label_value};
use crate::ingest::Rejection;
use crate::ingest::aggregation::metrics_of;
use crate::inputs::values::families_json::Family;
use crate::reason::Reason;

/// A family of a request.
#[derive(Debug)]
pub struct SentFamily<'b> {
    /// The name, escaped as in the text format.
    pub name: Arc<str>,
    pub help: Option<Arc<str>>,
    /// [`Kind::Untyped`] if missing.
    pub kind: Kind,
    pub items: Vec<SentItem<'b>>,
}

/// An item of a family: a value with labels.
#[derive(Debug)]
pub struct SentItem<'b> {
    /// The position of the item in the body.
    pub position: Position,
    /// Names and values, unescaped.
    pub labels: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    pub value: Option<MetricValue>,
}

/// The position of an item in the body.
#[derive(Debug, Clone, Copy)]
pub enum Position {
    /// The line on which the family begins, from 1.
    Line(usize),
    /// The index of the family, if it is in a list, and of the item.
    Json(Option<usize>, usize),
}

impl Position {
    /// Describes the position, in the family `name`, for messages.
    pub fn describe(self, name: &str) -> String {
        match self {
            Position::Line(line) => format!("family {name}, line {line}"),
            Position::Json(None, item) => format!("metrics[{item}] of {name}"),
            Position::Json(Some(family), item) => format!("[{family}].metrics[{item}] of {name}"),
        }
    }
}

/// Converts families from JSON. Entries of one family are merged into the first.
///
/// # Errors
///
/// Entries of one family have different types.
pub fn of_json(families: Vec<Family<'_>>, alone: bool) -> Result<Vec<SentFamily<'_>>, Rejection> {
    let mut by_name: HashMap<Arc<str>, usize> = HashMap::new();
    let mut sent: Vec<SentFamily<'_>> = Vec::with_capacity(families.len());
    for (index, family) in families.into_iter().enumerate() {
        let index = (!alone).then_some(index);
        let name: Arc<str> = escaped(&family.name, write_label_value).into();
        let items = family.items.into_iter().enumerate();
        let items = items.map(|(item, sent_item)| SentItem {
            position: Position::Json(index, item),
            labels: sent_item.labels,
            value: sent_item.value,
        });
        let help = family.help.map(|help| escaped(&help, write_help));
        let help = help.filter(|help| !help.is_empty()).map(Arc::from);
        let Some(first) = by_name.get(&name).map(|first| &mut sent[*first]) else {
            by_name.insert(Arc::clone(&name), sent.len());
            sent.push(SentFamily {
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
            (Kind::Untyped, kind) => first.kind = kind,
            (one, other) if one == other => {}
            (one, other) => {
                let (one, other) = (one.with_article(), other.with_article());
                let position = Position::Json(index, 0).describe(&name);
                let message = format!("{position}: it is {other} here, and {one} before");
                return Err(Rejection::new(Reason::KindConflict, &message));
            }
        }
        first.items.extend(items);
    }
    Ok(sent)
}

/// Converts families from text.
///
/// # Errors
///
/// A sample does not fit the kind of its family.
pub fn of_text(families: &[FamilyText]) -> Result<Vec<SentFamily<'_>>, Rejection> {
    let mut sent = Vec::with_capacity(families.len());
    for family in families {
        let position = Position::Line(family.line);
        let metrics = metrics_of(family).map_err(|problem| {
            let message = format!("{}: {problem}", position.describe(&family.name));
            Rejection::new(Reason::BadValue, &message).at(family.line, None)
        })?;
        let items = metrics.into_iter().map(|metric| SentItem {
            position,
            labels: metric.labels,
            value: Some(metric.value),
        });
        sent.push(SentFamily {
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
