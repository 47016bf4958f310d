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

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Fault;
use crate::exposition::{Kind, Value};
use crate::telemetry::Reason;

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
    /// A single number is [`Value::Untyped`], whatever its family is.
    pub value: Option<Value>,
}

/// Reads families, of which one that stands alone is told from a list of one.
/// `most` is how many values, buckets and quantiles there may be.
pub fn decode(json: &[u8], most: usize) -> Result<(Vec<Family<'_>>, bool), Fault> {
    let mut bound = Bound {
        left: most,
        passed: false,
    };
    let mut parser = serde_json::Deserializer::from_slice(json);
    let read = Families(&mut bound).deserialize(&mut parser);
    let read = read.and_then(|families| parser.end().map(|()| families));
    read.map_err(|problem| {
        let (line, column) = (problem.line(), problem.column());
        if bound.passed {
            let message =
                format!("line {line}: there are more than {most} values (exposition.max_samples)");
            return Fault::new(Reason::TooManySamples, &message).at(line, Some(column));
        }
        let message = format!("the body is no JSON of families: {problem}");
        Fault::new(Reason::Malformed, &message).at(line, Some(column))
    })
}

/// How many values may still come.
#[derive(Debug)]
struct Bound {
    left: usize,
    passed: bool,
}

impl Bound {
    fn take<E: de::Error>(&mut self, values: usize) -> Result<(), E> {
        match self.left.checked_sub(values) {
            Some(left) => self.left = left,
            None => {
                self.passed = true;
                return Err(E::custom("too many values"));
            }
        }
        Ok(())
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
            self.0.take(1)?;
            families.push(family);
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
                FamilyKey::Name => name.replace(map.next_value::<Text<'_>>()?.0).is_none(),
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

struct Items<'l>(&'l mut Bound);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<RawItem<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<RawItem<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of metrics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<RawItem<'_>>()? {
            let points = [&item.buckets, &item.quantiles];
            let points = points.into_iter().flatten().map(|points| points.0.len());
            self.0.take(1 + points.sum::<usize>())?;
            items.push(item);
        }
        Ok(items)
    }
}

/// An item as it was written.
#[derive(Deserialize)]
struct RawItem<'b> {
    #[serde(borrow, default)]
    labels: Option<Pairs<'b>>,
    #[serde(default)]
    value: Option<Number>,
    #[serde(default)]
    buckets: Option<Points>,
    #[serde(default)]
    quantiles: Option<Points>,
    #[serde(default)]
    count: Option<Number>,
    #[serde(default)]
    sum: Option<Number>,
}

impl<'b> RawItem<'b> {
    fn settle(self, kind: Kind) -> Result<Item<'b>, &'static str> {
        let (count, sum) = (self.count.map(|it| it.0), self.sum.map(|it| it.0));
        let counted = count.is_some() || sum.is_some();
        let value = match (self.value, self.buckets, self.quantiles) {
            (Some(_), None, None) if counted => {
                return Err("has a value and a count or a sum: it is one or the other");
            }
            (Some(value), None, None) => Some(Value::Untyped(value.0)),
            (None, None, None) if !counted => None,
            (None, None, None) if kind == Kind::Summary => Some(Value::Summary {
                quantiles: Vec::new(),
                sum,
                count,
            }),
            (None, buckets, None) => Some(Value::Histogram {
                buckets: sorted(buckets)?,
                sum,
                count,
            }),
            (None, None, quantiles) => Some(Value::Summary {
                quantiles: sorted(quantiles)?,
                sum,
                count,
            }),
            _ => return Err("has two of value, buckets and quantiles: it is one of them"),
        };
        Ok(Item {
            labels: self.labels.map_or_else(Vec::new, |labels| labels.0),
            value,
        })
    }
}

/// Points by where they are, each there once.
fn sorted(points: Option<Points>) -> Result<Vec<(f64, f64)>, &'static str> {
    let mut points = points.map_or_else(Vec::new, |points| points.0);
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let twice = points.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if twice {
        return Err("has two parts of the same bound: 1 and 1.0 are one number");
    }
    Ok(points)
}

/// Text, which is not copied where it has no escapes.
#[derive(Deserialize)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

/// An object of texts.
struct Pairs<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

impl<'de: 'b, 'b> Deserialize<'de> for Pairs<'b> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels, whose values are text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'_>, Text<'_>>()? {
                    pairs.push((name.0, value.0));
                }
                Ok(pairs)
            }
        }
        from.deserialize_map(PairsVisitor).map(Pairs)
    }
}

/// A number, or text of one.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = f64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or text of one")
            }

            fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
                Ok(number)
            }

            fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
                Ok(number as f64)
            }

            fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
                Ok(number as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
                let wrong = |_| E::custom(format_args!("{text:?} is no number"));
                text.parse().map_err(wrong)
            }
        }
        from.deserialize_any(NumberVisitor).map(Number)
    }
}

/// An object of numbers, whose keys are numbers too.
struct Points(Vec<(f64, f64)>);

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PointsVisitor;
        impl<'de> Visitor<'de> for PointsVisitor {
            type Value = Vec<(f64, f64)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of bounds and numbers, such as {\"0.5\": 1}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut points = Vec::new();
                while let Some((at, value)) = map.next_entry::<Text<'_>, Number>()? {
                    let bound = at.0.parse().ok().filter(|bound: &f64| !bound.is_nan());
                    let wrong = || de::Error::custom(format_args!("{:?} is no bound", at.0));
                    points.push((bound.ok_or_else(wrong)?, value.0));
                }
                Ok(points)
            }
        }
        from.deserialize_map(PointsVisitor).map(Points)
    }
}

#[cfg(test)]
mod tests;
