//! Parses families as JSON, in the format of prom2json that pingpong accepts. It decides
//! nothing about what happens to them.
//!
//! ```json
//! [{"name": "hits_total", "help": "Pages shown.", "type": "COUNTER",
//!   "metrics": [{"labels": {"page": "a"}, "value": "1"}]},
//!  {"name": "took_seconds", "type": "HISTOGRAM",
//!   "metrics": [{"buckets": {"0.1": "3", "+Inf": "4"}, "count": "4", "sum": "0.5"}]}]
//! ```
//!
//! A single family needs no list. Numbers may be JSON numbers or strings. Unknown keys are
//! ignored, including `timestamp_ms`: aggregated series have no timestamps.

mod items;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::exposition::{Kind, MetricValue, counted};
use crate::ingest::Rejection;
use crate::reason::Reason;
use items::{Items, RawItem};

/// A family of the body.
#[derive(Debug, PartialEq)]
pub struct Family<'b> {
    /// The name, unescaped.
    pub name: Cow<'b, str>,
    /// The help text, unescaped.
    pub help: Option<Cow<'b, str>>,
    /// [`Kind::Untyped`] if missing.
    pub kind: Kind,
    /// The items, in the order sent.
    pub items: Vec<Item<'b>>,
}

/// An item of a family: a value with labels.
#[derive(Debug, PartialEq)]
pub struct Item<'b> {
    /// In the order sent, possibly with duplicate names.
    pub labels: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    /// A single number is [`MetricValue::Untyped`] in families of every kind.
    pub value: Option<MetricValue>,
}

/// Limits on a body. Parsing stops when one is exceeded, since a small compressed body can
/// expand to much memory.
#[derive(Debug, Clone, Copy)]
pub struct JsonLimits {
    /// The number of families.
    pub families: usize,
    /// The number of values, buckets and quantiles.
    pub values: usize,
    /// The number of labels of an item.
    pub labels: usize,
    /// The length of a name or label value, in bytes.
    pub length: usize,
}

/// Parses families. The result also says whether the body is a single family, and not a list.
///
/// # Errors
///
/// The body is not such JSON, or it exceeds a limit. The rejection has the position.
pub fn decode(json: &[u8], limits: JsonLimits) -> Result<(Vec<Family<'_>>, bool), Rejection> {
    let mut checker = LimitChecker {
        limits,
        remaining: limits.values,
        exceeded: None,
    };
    let mut parser = serde_json::Deserializer::from_slice(json);
    let read = Families(&mut checker).deserialize(&mut parser);
    let read = read.and_then(|families| parser.end().map(|()| families));
    read.map_err(|problem| {
        let (line, column) = (problem.line(), problem.column());
        if let Some(exceeded) = &checker.exceeded {
            let message = format!("the body, line {line}, column {column}: {exceeded}");
            return Rejection::new(Reason::TooManySamples, &message).at(line, Some(column));
        }
        Rejection::invalid_json("JSON of families expected", &problem)
    })
}

/// Checks the limits on a body while it is parsed.
#[derive(Debug)]
struct LimitChecker {
    limits: JsonLimits,
    /// The number of values still allowed.
    remaining: usize,
    /// The exceeded limit, for the message.
    exceeded: Option<String>,
}

impl LimitChecker {
    fn value<E: de::Error>(&mut self) -> Result<(), E> {
        match self.remaining.checked_sub(1) {
            Some(remaining) => self.remaining = remaining,
            None => {
                let limit = counted(self.limits.values, "value", "values");
                let problem = format!("there are more than {limit} (exposition.max_samples)");
                return Err(self.exceed(problem));
            }
        }
        Ok(())
    }

    fn families<E: de::Error>(&mut self, families: usize) -> Result<(), E> {
        let limit = self.limits.families;
        if families <= limit {
            return Ok(());
        }
        let problem = format!("there are more than {limit} families (exposition.max_families)");
        Err(self.exceed(problem))
    }

    /// Checks that an item with `labels` labels may have one more.
    fn label<E: de::Error>(&mut self, labels: usize) -> Result<(), E> {
        let limit = self.limits.labels;
        if labels < limit {
            return Ok(());
        }
        let limit = counted(limit, "label", "labels");
        let problem = format!("a metric has more than {limit} (exposition.max_labels)");
        Err(self.exceed(problem))
    }

    fn text<E: de::Error>(&mut self, what: &str, text: &str) -> Result<(), E> {
        let limit = self.limits.length;
        if text.len() <= limit {
            return Ok(());
        }
        let limit = counted(limit, "byte", "bytes");
        let problem = format!("{what} has more than {limit} (exposition.max_label_length)");
        Err(self.exceed(problem))
    }

    #[cold]
    fn exceed<E: de::Error>(&mut self, problem: String) -> E {
        self.exceeded = Some(problem);
        E::custom("a limit is exceeded")
    }
}

/// Deserializes a list of families, or a single one.
struct Families<'l>(&'l mut LimitChecker);

impl<'de> DeserializeSeed<'de> for Families<'_> {
    type Value = (Vec<Family<'de>>, bool);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Families<'_> {
    type Value = (Vec<Family<'de>>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a family or a list of families")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut families = Vec::new();
        // A family counts as a value, which also limits families without values.
        while let Some(family) = list.next_element_seed(OneFamily(&mut *self.0))? {
            self.0.value()?;
            families.push(family);
            self.0.families(families.len())?;
        }
        Ok((families, false))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok((vec![OneFamily(self.0).visit_map(map)?], true))
    }
}

struct OneFamily<'l>(&'l mut LimitChecker);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum FamilyKey {
    Name,
    Help,
    Type,
    Metrics,
    #[serde(other)]
    Unknown,
}

impl<'de> DeserializeSeed<'de> for OneFamily<'_> {
    type Value = Family<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Family<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneFamily<'_> {
    type Value = Family<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a family, such as {\"name\": \"m\", \"metrics\": [{\"value\": 1}]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Family<'de>, A::Error> {
        let (mut name, mut help, mut kind) = (None, None, None);
        let mut items: Option<Vec<RawItem<'de>>> = None;
        while let Some(key) = map.next_key()? {
            let fresh = match key {
                FamilyKey::Name => {
                    let value = map.next_value::<Text<'_>>()?.0;
                    self.0.text("the name of a family", &value)?;
                    name.replace(value).is_none()
                }
                FamilyKey::Help => {
                    let value = map.next_value::<Option<Text<'_>>>()?;
                    help.replace(value.map(|text| text.0)).is_none()
                }
                FamilyKey::Type => {
                    let value = map.next_value::<Option<Text<'_>>>()?;
                    let word = value.map_or(Cow::Borrowed(""), |text| text.0);
                    kind.replace(kind_of(&word)?).is_none()
                }
                FamilyKey::Metrics => {
                    let value = map.next_value_seed(Items(&mut *self.0))?;
                    items.replace(value).is_none()
                }
                FamilyKey::Unknown => map.next_value::<de::IgnoredAny>().map(|_| true)?,
            };
            if !fresh {
                return Err(de::Error::custom("a key of the family is given twice"));
            }
        }
        let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
        let kind = kind.unwrap_or(Kind::Untyped);
        let items = items.unwrap_or_default().into_iter();
        let items = items.enumerate().map(|(place, item)| {
            item.into_item(kind).map_err(|problem| {
                de::Error::custom(format_args!("metrics[{place}] of {name:?} {problem}"))
            })
        });
        Ok(Family {
            items: items.collect::<Result<_, _>>()?,
            name,
            help: help.flatten(),
            kind,
        })
    }
}

/// The kind by its name in prom2json, in any case.
fn kind_of<E: de::Error>(word: &str) -> Result<Kind, E> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        "untyped" | "unknown" | "" => Kind::Untyped,
        _ => {
            return Err(E::custom(format_args!(
                "type {word:?} is none of COUNTER, GAUGE, HISTOGRAM, SUMMARY and UNTYPED"
            )));
        }
    })
}

/// A string, borrowed unless it contains escapes.
#[derive(Deserialize)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests;
