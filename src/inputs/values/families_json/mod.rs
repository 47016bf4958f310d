//! Families as JSON, in the shape in which prom2json writes them, and with
//! which pingpong is told what to count. Pure translation: what becomes of
//! them is not known here.
//!
//! ```json
//! [{"name": "hits_total", "help": "Pages shown.", "type": "COUNTER",
//!   "metrics": [{"labels": {"page": "a"}, "value": "1"}]},
//!  {"name": "took_seconds", "type": "HISTOGRAM",
//!   "metrics": [{"buckets": {"0.1": "3", "+Inf": "4"}, "count": "4", "sum": "0.5"}]}]
//! ```
//!
//! One family alone needs no brackets. Numbers may be numbers or text. Keys that
//! are not known are passed over, `timestamp_ms` among them: what is counted
//! here has no time of its own.

mod items;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::exposition::{Kind, MetricValue, counted};
use crate::ingest::Rejection;
use crate::reason::Reason;
use items::{Items, RawItem};

/// One family as it was sent.
#[derive(Debug, PartialEq)]
pub struct Family<'b> {
    /// As it is meant, without escapes.
    pub name: Cow<'b, str>,
    pub help: Option<Cow<'b, str>>,
    /// [`Kind::Untyped`] where it is not told.
    pub kind: Kind,
    pub items: Vec<Item<'b>>,
}

/// What is said of one set of labels.
#[derive(Debug, PartialEq)]
pub struct Item<'b> {
    /// In the order they came in, some perhaps twice.
    pub labels: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    /// A single number is [`MetricValue::Untyped`], whatever its family is.
    pub value: Option<MetricValue>,
}

/// What there may be at most. What is more is not read any further, since few
/// bytes of a compressed body would be much in memory.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub families: usize,
    /// Values, buckets and quantiles.
    pub values: usize,
    /// Labels of one item.
    pub labels: usize,
    /// Bytes of a name, and of a label's value.
    pub length: usize,
}

/// Reads families, of which one that stands alone is told from a list of one.
pub fn decode(json: &[u8], most: Most) -> Result<(Vec<Family<'_>>, bool), Rejection> {
    let mut bound = Bound {
        most,
        left: most.values,
        passed: None,
    };
    let mut parser = serde_json::Deserializer::from_slice(json);
    let read = Families(&mut bound).deserialize(&mut parser);
    let read = read.and_then(|families| parser.end().map(|()| families));
    read.map_err(|problem| {
        let (line, column) = (problem.line(), problem.column());
        if let Some(passed) = &bound.passed {
            let message = format!("the body, line {line}, column {column}: {passed}");
            return Rejection::new(Reason::TooManySamples, &message).at(line, Some(column));
        }
        Rejection::invalid_json("JSON of families expected", &problem)
    })
}

/// What may still come.
#[derive(Debug)]
struct Bound {
    most: Most,
    /// Values that may still come.
    left: usize,
    /// What there is too much of.
    passed: Option<String>,
}

impl Bound {
    fn value<E: de::Error>(&mut self) -> Result<(), E> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                let most = self.most.values;
                let most = counted(most, "value", "values");
                let problem = format!("there are more than {most} (exposition.max_samples)");
                return Err(self.pass(problem));
            }
        }
        Ok(())
    }

    fn families<E: de::Error>(&mut self, families: usize) -> Result<(), E> {
        let most = self.most.families;
        if families <= most {
            return Ok(());
        }
        let problem = format!("there are more than {most} families (exposition.max_families)");
        Err(self.pass(problem))
    }

    /// Whether an item that has so many labels may have one more.
    fn label<E: de::Error>(&mut self, labels: usize) -> Result<(), E> {
        let most = self.most.labels;
        if labels < most {
            return Ok(());
        }
        let most = counted(most, "label", "labels");
        let problem = format!("a metric has more than {most} (exposition.max_labels)");
        Err(self.pass(problem))
    }

    fn text<E: de::Error>(&mut self, what: &str, text: &str) -> Result<(), E> {
        let most = self.most.length;
        if text.len() <= most {
            return Ok(());
        }
        let most = counted(most, "byte", "bytes");
        let problem = format!("{what} has more than {most} (exposition.max_label_length)");
        Err(self.pass(problem))
    }

    #[cold]
    fn pass<E: de::Error>(&mut self, problem: String) -> E {
        self.passed = Some(problem);
        E::custom("there is too much")
    }
}

/// A list of families, or one.
struct Families<'l>(&'l mut Bound);

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
        // A family counts as a value, so that those without any are bounded.
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

struct OneFamily<'l>(&'l mut Bound);

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
                    let told = map.next_value::<Text<'_>>()?.0;
                    self.0.text("the name of a family", &told)?;
                    name.replace(told).is_none()
                }
                FamilyKey::Help => {
                    let told = map.next_value::<Option<Text<'_>>>()?;
                    help.replace(told.map(|text| text.0)).is_none()
                }
                FamilyKey::Type => {
                    let told = map.next_value::<Option<Text<'_>>>()?;
                    let word = told.map_or(Cow::Borrowed(""), |text| text.0);
                    kind.replace(kind_of(&word)?).is_none()
                }
                FamilyKey::Metrics => {
                    let told = map.next_value_seed(Items(&mut *self.0))?;
                    items.replace(told).is_none()
                }
                FamilyKey::Unknown => map.next_value::<de::IgnoredAny>().map(|_| true)?,
            };
            if !fresh {
                return Err(de::Error::custom("a key of the family is there twice"));
            }
        }
        let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
        let kind = kind.unwrap_or(Kind::Untyped);
        let items = items.unwrap_or_default().into_iter();
        let settled = items.enumerate().map(|(place, item)| {
            item.settle(kind).map_err(|problem| {
                de::Error::custom(format_args!("metrics[{place}] of {name:?} {problem}"))
            })
        });
        Ok(Family {
            items: settled.collect::<Result<_, _>>()?,
            name,
            help: help.flatten(),
            kind,
        })
    }
}

/// By prom2json's words, in any case.
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

/// Text, which is not copied where it has no escapes.
#[derive(Deserialize)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests;
