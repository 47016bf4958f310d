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

/// What there may be at most. What is more is not read any further, since few
/// bytes of a compressed body would be much in memory.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Values, buckets and quantiles.
    pub values: usize,
    /// Labels of one item.
    pub labels: usize,
    /// Bytes of a name, and of a label's value.
    pub length: usize,
}

/// Reads families, of which one that stands alone is told from a list of one.
pub fn decode(json: &[u8], most: Most) -> Result<(Vec<Family<'_>>, bool), Fault> {
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
            let message = format!("line {line}: {passed}");
            return Fault::new(Reason::TooManySamples, &message).at(line, Some(column));
        }
        let message = format!("the body is no JSON of families: {problem}");
        Fault::new(Reason::Malformed, &message).at(line, Some(column))
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
                let problem = format!("there are more than {most} values (exposition.max_samples)");
                return Err(self.pass(problem));
            }
        }
        Ok(())
    }

    /// Whether an item that has so many labels may have one more.
    fn label<E: de::Error>(&mut self, labels: usize) -> Result<(), E> {
        let most = self.most.labels;
        if labels < most {
            return Ok(());
        }
        let problem = format!("a metric has more than {most} labels (exposition.max_labels)");
        Err(self.pass(problem))
    }

    fn text<E: de::Error>(&mut self, what: &str, text: &str) -> Result<(), E> {
        let most = self.most.length;
        if text.len() <= most {
            return Ok(());
        }
        let problem = format!("{what} has more than {most} bytes (exposition.max_label_length)");
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
        while let Some(item) = list.next_element_seed(OneItem(&mut *self.0))? {
            items.push(item);
        }
        Ok(items)
    }
}

/// An item as it was written.
struct RawItem<'b> {
    labels: Option<Pairs<'b>>,
    value: Option<Number>,
    buckets: Option<Points>,
    quantiles: Option<Points>,
    count: Option<Number>,
    sum: Option<Number>,
}

type Pairs<'b> = Vec<(Cow<'b, str>, Cow<'b, str>)>;

/// Each where it is, and its number.
type Points = Vec<(f64, f64)>;

struct OneItem<'l>(&'l mut Bound);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum ItemKey {
    Labels,
    Value,
    Buckets,
    Quantiles,
    Count,
    Sum,
    #[serde(other)]
    Unknown,
}

impl<'de> DeserializeSeed<'de> for OneItem<'_> {
    type Value = RawItem<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<RawItem<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneItem<'_> {
    type Value = RawItem<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a metric, such as {\"labels\": {\"page\": \"a\"}, \"value\": 1}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawItem<'de>, A::Error> {
        let bound = self.0;
        bound.value()?;
        let (mut labels, mut buckets, mut quantiles) = (None, None, None);
        let (mut value, mut count, mut sum) = (None, None, None);
        while let Some(key) = map.next_key()? {
            let fresh = match key {
                ItemKey::Labels => {
                    let told = map.next_value_seed(OrNull(LabelsOf(&mut *bound)))?;
                    labels.replace(told).is_none()
                }
                ItemKey::Buckets => {
                    let told = map.next_value_seed(OrNull(PointsOf(&mut *bound)))?;
                    buckets.replace(told).is_none()
                }
                ItemKey::Quantiles => {
                    let told = map.next_value_seed(OrNull(PointsOf(&mut *bound)))?;
                    quantiles.replace(told).is_none()
                }
                ItemKey::Value => value.replace(map.next_value()?).is_none(),
                ItemKey::Count => count.replace(map.next_value()?).is_none(),
                ItemKey::Sum => sum.replace(map.next_value()?).is_none(),
                ItemKey::Unknown => map.next_value::<de::IgnoredAny>().map(|_| true)?,
            };
            if !fresh {
                return Err(de::Error::custom("a key of the metric is there twice"));
            }
        }
        Ok(RawItem {
            labels: labels.flatten(),
            value: value.flatten(),
            buckets: buckets.flatten(),
            quantiles: quantiles.flatten(),
            count: count.flatten(),
            sum: sum.flatten(),
        })
    }
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
            labels: self.labels.unwrap_or_default(),
            value,
        })
    }
}

/// Points by where they are, each there once.
fn sorted(points: Option<Points>) -> Result<Vec<(f64, f64)>, &'static str> {
    let mut points = points.unwrap_or_default();
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

/// What may be `null` instead.
struct OrNull<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for OrNull<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for OrNull<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(from).map(Some)
    }
}

/// An object of texts.
struct LabelsOf<'l>(&'l mut Bound);

impl<'de> DeserializeSeed<'de> for LabelsOf<'_> {
    type Value = Pairs<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Pairs<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LabelsOf<'_> {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels, whose values are text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<Text<'_>>()? {
            self.0.label(pairs.len())?;
            self.0.text("the name of a label", &name.0)?;
            let value = map.next_value::<Text<'_>>()?;
            self.0.text("the value of a label", &value.0)?;
            pairs.push((name.0, value.0));
        }
        Ok(pairs)
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
struct PointsOf<'l>(&'l mut Bound);

impl<'de> DeserializeSeed<'de> for PointsOf<'_> {
    type Value = Points;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Points, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PointsOf<'_> {
    type Value = Points;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of bounds and numbers, such as {\"0.5\": 1}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Points, A::Error> {
        let mut points = Vec::new();
        while let Some((at, value)) = map.next_entry::<Text<'_>, Number>()? {
            self.0.value()?;
            let bound = at.0.parse().ok().filter(|bound: &f64| !bound.is_nan());
            let wrong = || de::Error::custom(format_args!("{:?} is no bound", at.0));
            points.push((bound.ok_or_else(wrong)?, value.0));
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests;
