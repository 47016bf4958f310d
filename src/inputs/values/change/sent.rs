//! What was sent, in whatever form, as families and their items.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::exposition::{FamilyText, Kind, MetricValue, write_help, write_label_value};
use crate::ingest::Rejection;
use crate::ingest::aggregation::metrics_of;
use crate::inputs::values::families_json::Family;
use crate::reason::Reason;

/// A family that was sent, in whatever form.
#[derive(Debug)]
pub struct Sent<'b> {
    /// EscapedLabels.
    pub name: Arc<str>,
    pub help: Option<Arc<str>>,
    /// Untyped where it was not told.
    pub kind: Kind,
    pub items: Vec<SentItem<'b>>,
}

#[derive(Debug)]
pub struct SentItem<'b> {
    pub at: At,
    /// As they are meant, without escapes.
    pub labels: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    pub value: Option<MetricValue>,
}

/// Where it was sent.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// The line of a text on which the family begins, from 1.
    Line(usize),
    /// The places of the family, where there is a list, and of the item.
    Json(Option<usize>, usize),
}

impl At {
    pub fn shown(self, name: &str) -> String {
        match self {
            At::Line(line) => format!("family {name}, line {line}"),
            At::Json(None, item) => format!("metrics[{item}] of {name}"),
            At::Json(Some(family), item) => format!("[{family}].metrics[{item}] of {name}"),
        }
    }
}

/// Families of JSON, each once: what is said of one in several places is put
/// together where it is said first.
pub fn of_json(families: Vec<Family<'_>>, alone: bool) -> Result<Vec<Sent<'_>>, Rejection> {
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
        let help = family.help.map(|help| escaped(&help, write_help));
        let help = help.filter(|help| !help.is_empty()).map(Arc::from);
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
                let (one, other) = (one.with_article(), other.with_article());
                let at = At::Json(place, 0).shown(&name);
                let message = format!("{at}: it is {other} here, and {one} before");
                return Err(Rejection::new(Reason::KindConflict, &message));
            }
        }
        first.items.extend(items);
    }
    Ok(sent)
}

pub fn of_texts(families: &[FamilyText]) -> Result<Vec<Sent<'_>>, Rejection> {
    let mut sent = Vec::with_capacity(families.len());
    for family in families {
        let at = At::Line(family.line);
        let metrics = metrics_of(family).map_err(|problem| {
            let message = format!("{}: {problem}", at.shown(&family.name));
            Rejection::new(Reason::BadValue, &message).at(family.line, None)
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
