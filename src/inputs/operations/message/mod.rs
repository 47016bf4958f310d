//! Parses a message in metrics-server's format: one JSON object.
//!
//! Keys are matched in any case, and unknown keys are ignored. Of repeated keys, the last
//! one counts, and `null` counts as missing. A value of a wrong type is an error.

use std::borrow::Cow;
use std::fmt;
use std::str;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::buckets::BucketSpec;
use super::rejection::Rejection;
use crate::reason::Reason;

/// A parsed message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) op: Cow<'a, str>,
    /// In the order sent; names may repeat.
    pub(super) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) help: Option<Cow<'a, str>>,
    pub(super) value: f64,
    pub(super) buckets: BucketSpec,
    /// How often proxies have forwarded the message. This key and `times` are this
    /// program's own; metrics-server ignores them.
    pub(super) hops: i64,
    /// The weight of an observation; 0 if the key is missing.
    pub(super) times: f64,
    /// The index for a document. Other ops ignore this key and `timestamp`.
    pub(super) index: Written<'a>,
    /// The time of an event.
    pub(super) timestamp: Written<'a>,
}

/// A value whose type is checked only for some ops.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Written<'a> {
    #[default]
    Missing,
    Text(Cow<'a, str>),
    /// Anything that is not a string.
    Other,
}

/// Parses a message, which must be the whole of `object`.
///
/// # Errors
///
/// `object` is not UTF-8, not JSON, or has a value of a wrong type.
pub(super) fn parse(object: &[u8]) -> Result<Message<'_>, Rejection> {
    let text = str::from_utf8(object)
        .map_err(|_| Rejection::new(Reason::InvalidUtf8, "the message is not UTF-8"))?;
    let mut parser = serde_json::Deserializer::from_str(text);
    parser
        .deserialize_map(MessageVisitor)
        .and_then(|message| parser.end().map(|()| message))
        .map_err(|error| Rejection::new(Reason::Malformed, error.to_string()))
}

/// The known keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Op,
    Labels,
    Help,
    Value,
    Count,
    Width,
    Start,
    Min,
    Max,
    Factor,
    Custom,
    Hops,
    Times,
    Index,
    Timestamp,
    Unknown,
}

const KEYS: [(&str, Key); 16] = [
    ("name", Key::Name),
    ("op", Key::Op),
    ("labels", Key::Labels),
    ("value", Key::Value),
    ("help", Key::Help),
    ("buckets", Key::Count),
    ("bucket_width", Key::Width),
    ("bucket_start", Key::Start),
    ("bucket_min", Key::Min),
    ("bucket_max", Key::Max),
    ("bucket_factor", Key::Factor),
    ("bucket_custom", Key::Custom),
    ("hops", Key::Hops),
    ("times", Key::Times),
    ("index", Key::Index),
    ("timestamp", Key::Timestamp),
];

impl Key {
    fn of(text: &str) -> Key {
        KEYS.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or(Key::Unknown, |(_, key)| *key)
    }
}

impl<'de> de::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key::of(text))
            }
        }
        from.deserialize_str(KeyVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message<'de>, A::Error> {
        let mut message = Message::default();
        while let Some(key) = map.next_key::<Key>()? {
            let buckets = &mut message.buckets;
            match key {
                Key::Name => set(
                    &mut message.name,
                    map.next_value_seed(StringOrNull("`name`"))?,
                ),
                Key::Op => set(&mut message.op, map.next_value_seed(StringOrNull("`op`"))?),
                Key::Help => {
                    if let Some(help) = map.next_value_seed(StringOrNull("`help`"))? {
                        message.help = Some(help);
                    }
                }
                Key::Labels => {
                    if let Some(labels) = map.next_value_seed(LabelsOrNull)? {
                        message.labels = labels;
                    }
                }
                Key::Value => set(
                    &mut message.value,
                    map.next_value_seed(NumberOrNull("`value`"))?,
                ),
                Key::Count => set(
                    &mut buckets.count,
                    map.next_value_seed(IntegerOrNull("`buckets`"))?,
                ),
                Key::Width => {
                    let width = map.next_value_seed(NumberOrNull("`bucket_width`"))?;
                    set(&mut buckets.width, width);
                }
                Key::Start => {
                    let start = map.next_value_seed(NumberOrNull("`bucket_start`"))?;
                    set(&mut buckets.start, start);
                }
                Key::Min => set(
                    &mut buckets.min,
                    map.next_value_seed(NumberOrNull("`bucket_min`"))?,
                ),
                Key::Max => set(
                    &mut buckets.max,
                    map.next_value_seed(NumberOrNull("`bucket_max`"))?,
                ),
                Key::Factor => {
                    let factor = map.next_value_seed(NumberOrNull("`bucket_factor`"))?;
                    set(&mut buckets.factor, factor);
                }
                Key::Custom => set(&mut buckets.custom, map.next_value_seed(NumbersOrNull)?),
                Key::Hops => set(
                    &mut message.hops,
                    map.next_value_seed(IntegerOrNull("`hops`"))?,
                ),
                Key::Times => set(
                    &mut message.times,
                    map.next_value_seed(NumberOrNull("`times`"))?,
                ),
                Key::Index => message.index = map.next_value_seed(AnyWritten)?,
                Key::Timestamp => message.timestamp = map.next_value_seed(AnyWritten)?,
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(message)
    }
}

/// Sets a field, unless the value was `null`.
fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// Reads a string or `null`. Errors name what was expected.
struct StringOrNull(&'static str);

impl<'de> DeserializeSeed<'de> for StringOrNull {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StringOrNull {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text as {}", self.0)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads any value, and keeps strings.
struct AnyWritten;

impl<'de> DeserializeSeed<'de> for AnyWritten {
    type Value = Written<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyWritten {
    type Value = Written<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Written::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Written::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Written::Missing)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Written::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Written::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Written::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Written::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Written::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Written::Other)
    }
}

/// Reads a number or `null`. Errors name what was expected.
struct NumberOrNull(&'static str);

impl<'de> DeserializeSeed<'de> for NumberOrNull {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<f64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for NumberOrNull {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number as {}", self.0)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Option<f64>, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<f64>, E> {
        Ok(Some(number as f64))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<f64>, E> {
        Ok(Some(number as f64))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }
}

/// Reads a whole number, such as `10` or `10.0`, or `null`.
struct IntegerOrNull(&'static str);

impl<'de> DeserializeSeed<'de> for IntegerOrNull {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<i64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for IntegerOrNull {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number as {}", self.0)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Option<i64>, E> {
        if number.fract() == 0.0 && number.abs() < 1e15 {
            return Ok(Some(number as i64));
        }
        Err(E::invalid_value(de::Unexpected::Float(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<i64>, E> {
        Ok(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<i64>, E> {
        Ok(Some(number))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }
}

/// Reads a list of numbers or `null`.
struct NumbersOrNull;

impl<'de> DeserializeSeed<'de> for NumbersOrNull {
    type Value = Option<Vec<f64>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumbersOrNull {
    type Value = Option<Vec<f64>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers as `bucket_custom`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) =
            items.next_element_seed(NumberOrNull("a bound of `bucket_custom`"))?
        {
            numbers.push(number.ok_or_else(|| {
                de::Error::invalid_type(de::Unexpected::Unit, &"a number in `bucket_custom`")
            })?);
        }
        Ok(Some(numbers))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads an object of strings or `null`.
struct LabelsOrNull;

impl<'de> DeserializeSeed<'de> for LabelsOrNull {
    type Value = Option<Vec<(Cow<'de, str>, Cow<'de, str>)>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LabelsOrNull {
    type Value = Option<Vec<(Cow<'de, str>, Cow<'de, str>)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts as `labels`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels = Vec::with_capacity(4);
        while let Some(name) = map.next_key_seed(StringOrNull("the name of a label"))? {
            // A label whose value is `null` gets an empty value, which counts as no label.
            let value = map.next_value_seed(StringOrNull("the value of a label"))?;
            labels.push((name.unwrap_or_default(), value.unwrap_or_default()));
        }
        Ok(Some(labels))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
