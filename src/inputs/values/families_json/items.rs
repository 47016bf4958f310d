//! Items of a family: labels, and a value or the components of a histogram or summary.
//! Limits are checked during parsing.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Item, LimitChecker, Text};
use crate::exposition::{Kind, MetricValue};

/// Deserializes the items of a family.
pub struct Items<'l>(pub &'l mut LimitChecker);

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

/// An item whose value is not checked yet.
pub struct RawItem<'b> {
    labels: Option<Pairs<'b>>,
    value: Option<Number>,
    buckets: Option<Points>,
    quantiles: Option<Points>,
    count: Option<Number>,
    sum: Option<Number>,
}

type Pairs<'b> = Vec<(Cow<'b, str>, Cow<'b, str>)>;

/// Bounds or quantiles with their numbers.
type Points = Vec<(f64, f64)>;

struct OneItem<'l>(&'l mut LimitChecker);

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
        let checker = self.0;
        checker.value()?;
        let (mut labels, mut buckets, mut quantiles) = (None, None, None);
        let (mut value, mut count, mut sum) = (None, None, None);
        while let Some(key) = map.next_key()? {
            let fresh = match key {
                ItemKey::Labels => {
                    let parsed = map.next_value_seed(OrNull(LabelsOf(&mut *checker)))?;
                    labels.replace(parsed).is_none()
                }
                ItemKey::Buckets => {
                    let parsed = map.next_value_seed(OrNull(PointsOf(&mut *checker)))?;
                    buckets.replace(parsed).is_none()
                }
                ItemKey::Quantiles => {
                    let parsed = map.next_value_seed(OrNull(PointsOf(&mut *checker)))?;
                    quantiles.replace(parsed).is_none()
                }
                ItemKey::Value => value.replace(map.next_value()?).is_none(),
                ItemKey::Count => count.replace(map.next_value()?).is_none(),
                ItemKey::Sum => sum.replace(map.next_value()?).is_none(),
                ItemKey::Unknown => map.next_value::<de::IgnoredAny>().map(|_| true)?,
            };
            if !fresh {
                return Err(de::Error::custom("a key of the metric is given twice"));
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
    /// Converts to an item of a family of `kind`. The error completes a sentence about the item.
    pub fn into_item(self, kind: Kind) -> Result<Item<'b>, &'static str> {
        let (count, sum) = (self.count.map(|it| it.0), self.sum.map(|it| it.0));
        let counted = count.is_some() || sum.is_some();
        let value = match (self.value, self.buckets, self.quantiles) {
            (Some(_), None, None) if counted => {
                return Err(
                    "has a value and a count or sum: send a value alone, or a count and a sum",
                );
            }
            (Some(value), None, None) => Some(MetricValue::Untyped(value.0)),
            (None, None, None) if !counted => None,
            (None, None, None) if kind == Kind::Summary => Some(MetricValue::Summary {
                quantiles: Vec::new(),
                sum,
                count,
            }),
            (None, buckets, None) => Some(MetricValue::Histogram {
                buckets: sorted(buckets)?,
                sum,
                count,
            }),
            (None, None, quantiles) => Some(MetricValue::Summary {
                quantiles: sorted(quantiles)?,
                sum,
                count,
            }),
            _ => return Err("has more than one of value, buckets and quantiles: send only one"),
        };
        Ok(Item {
            labels: self.labels.unwrap_or_default(),
            value,
        })
    }
}

/// Sorts points by bound or quantile, which must be unique.
fn sorted(points: Option<Points>) -> Result<Vec<(f64, f64)>, &'static str> {
    let mut points = points.unwrap_or_default();
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let twice = points.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if twice {
        return Err("has one bound twice: 1 and 1.0 are one number");
    }
    Ok(points)
}

/// Deserializes a value that may be `null`.
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

/// Deserializes labels.
struct LabelsOf<'l>(&'l mut LimitChecker);

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

/// A JSON number, or a string that contains a number.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = f64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a string with one")
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
                let wrong = |_| E::custom(format_args!("{text:?} is not a number"));
                text.parse().map_err(wrong)
            }
        }
        from.deserialize_any(NumberVisitor).map(Number)
    }
}

/// Deserializes an object whose keys and values are numbers.
struct PointsOf<'l>(&'l mut LimitChecker);

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
            let wrong = || de::Error::custom(format_args!("{:?} is not a bound", at.0));
            points.push((bound.ok_or_else(wrong)?, value.0));
        }
        Ok(points)
    }
}
