//! metrics-server's message: one JSON object.
//!
//! Keys are known in any case, unknown ones are passed over, the last of
//! several counts, and `null` says nothing. A value of a wrong type is an
//! error: nothing of the message is made up.

use std::borrow::Cow;
use std::fmt;
use std::str;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Fault;
use super::buckets::Buckets;
use crate::reason::Reason;

/// A message as it was written.
#[derive(Debug, Default, PartialEq)]
pub struct Message<'a> {
    pub name: Cow<'a, str>,
    pub op: Cow<'a, str>,
    /// In the order they came in, some perhaps twice.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub help: Option<Cow<'a, str>>,
    pub value: f64,
    pub buckets: Buckets,
    /// How many proxies have sent it on. This key and the next are ours:
    /// metrics-server passes them over.
    pub hops: i64,
    /// For how many an observation counts; 0 is not said.
    pub times: f64,
}

/// Reads one message, which must be all that is in `object`.
pub fn decode(object: &[u8]) -> Result<Message<'_>, Fault> {
    let text = str::from_utf8(object)
        .map_err(|_| Fault::new(Reason::InvalidUtf8, "the message is not UTF-8"))?;
    let mut parser = serde_json::Deserializer::from_str(text);
    parser
        .deserialize_map(MessageVisitor)
        .and_then(|message| parser.end().map(|()| message))
        .map_err(|problem| Fault::new(Reason::Malformed, problem.to_string()))
}

/// The keys there are. `index` and `timestamp` are among those passed over.
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
    Unknown,
}

const KEYS: [(&str, Key); 14] = [
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
                Key::Name => set(&mut message.name, map.next_value_seed(Text("`name`"))?),
                Key::Op => set(&mut message.op, map.next_value_seed(Text("`op`"))?),
                Key::Help => {
                    if let Some(help) = map.next_value_seed(Text("`help`"))? {
                        message.help = Some(help);
                    }
                }
                Key::Labels => {
                    if let Some(labels) = map.next_value_seed(Labels)? {
                        message.labels = labels;
                    }
                }
                Key::Value => set(&mut message.value, map.next_value_seed(Number("`value`"))?),
                Key::Count => set(&mut buckets.count, map.next_value_seed(Whole("`buckets`"))?),
                Key::Width => {
                    let width = map.next_value_seed(Number("`bucket_width`"))?;
                    set(&mut buckets.width, width);
                }
                Key::Start => {
                    let start = map.next_value_seed(Number("`bucket_start`"))?;
                    set(&mut buckets.start, start);
                }
                Key::Min => set(
                    &mut buckets.min,
                    map.next_value_seed(Number("`bucket_min`"))?,
                ),
                Key::Max => set(
                    &mut buckets.max,
                    map.next_value_seed(Number("`bucket_max`"))?,
                ),
                Key::Factor => {
                    let factor = map.next_value_seed(Number("`bucket_factor`"))?;
                    set(&mut buckets.factor, factor);
                }
                Key::Custom => set(&mut buckets.custom, map.next_value_seed(Numbers)?),
                Key::Hops => set(&mut message.hops, map.next_value_seed(Whole("`hops`"))?),
                Key::Times => set(&mut message.times, map.next_value_seed(Number("`times`"))?),
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(message)
    }
}

/// Sets what was given; `null` was not.
fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// A text, or `null`. What is asked for is called by its name in errors.
struct Text(&'static str);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
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

/// A number, or `null`.
struct Number(&'static str);

impl<'de> DeserializeSeed<'de> for Number {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<f64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
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

/// A whole number, or `null`. `10.0` is one.
struct Whole(&'static str);

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<i64>, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Whole {
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

/// A list of numbers, or `null`.
struct Numbers;

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Option<Vec<f64>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Option<Vec<f64>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers as `bucket_custom`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = items.next_element_seed(Number("a bound of `bucket_custom`"))? {
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

/// An object of texts, or `null`.
struct Labels;

impl<'de> DeserializeSeed<'de> for Labels {
    type Value = Option<Vec<(Cow<'de, str>, Cow<'de, str>)>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Labels {
    type Value = Option<Vec<(Cow<'de, str>, Cow<'de, str>)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts as `labels`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels = Vec::with_capacity(4);
        while let Some(name) = map.next_key_seed(Text("the name of a label"))? {
            // A label without a value is one that is not there.
            let value = map.next_value_seed(Text("the value of a label"))?;
            labels.push((name.unwrap_or_default(), value.unwrap_or_default()));
        }
        Ok(Some(labels))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str) -> Message<'_> {
        decode(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn every_key_is_read() {
        let message = read(
            r#"{"name":"n","labels":{"a":"1","b":"\u00e9\n"},"op":"obs","help":"H","value":-1.5,
                "buckets":3,"bucket_width":1,"bucket_start":2.5,"bucket_min":3,"bucket_max":4e3,
                "bucket_factor":5,"bucket_custom":[1,2.5],"index":"i",
                "timestamp":"2024-01-01T00:00:00Z","hops":2}"#,
        );
        assert_eq!((&*message.name, &*message.op), ("n", "obs"));
        let labels: Vec<(&str, &str)> = message.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(labels, [("a", "1"), ("b", "\u{e9}\n")]);
        assert_eq!(message.help.as_deref(), Some("H"));
        assert_eq!((message.value, message.hops), (-1.5, 2));
        let expected = Buckets {
            count: 3,
            width: 1.0,
            start: 2.5,
            min: 3.0,
            max: 4000.0,
            factor: 5.0,
            custom: vec![1.0, 2.5],
        };
        assert_eq!(message.buckets, expected);
        assert!(
            matches!(message.name, Cow::Borrowed(_)),
            "nothing is copied"
        );
    }

    #[test]
    fn keys_are_known_in_any_case_and_the_last_counts() {
        let message = read(r#"{"NAME":"a","Name":"b","oP":"inc","x":{"name":["c"]},"value":2}"#);
        assert_eq!(
            (&*message.name, &*message.op, message.value),
            ("b", "inc", 2.0)
        );
    }

    #[test]
    fn nothing_is_said_by_null() {
        let message = read(
            r#"{"name":"a","name":null,"labels":null,"help":null,"value":null,"buckets":null,
                "bucket_width":null,"bucket_custom":null}"#,
        );
        let expected = Message {
            name: "a".into(),
            ..Message::default()
        };
        assert_eq!(message, expected);
        assert_eq!(
            read(r#"{"labels":{"a":null}}"#).labels,
            [("a".into(), "".into())]
        );
        assert_eq!(read("{}"), Message::default());
        assert_eq!(read(r#"{"buckets":10.0}"#).buckets.count, 10);
    }

    #[test]
    fn numbers_are_read_exactly() {
        for (text, value) in [
            ("0.1", 0.1),
            ("123456789.123456789", 123_456_789.123_456_79),
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
        ] {
            assert_eq!(read(&format!("{{\"value\":{text}}}")).value, value);
        }
    }

    #[test]
    fn wrong_types_are_refused_by_name() {
        for (text, words) in [
            (r#"{"name":1}"#, "text as `name`"),
            (r#"{"op":[]}"#, "text as `op`"),
            (r#"{"help":{}}"#, "text as `help`"),
            (r#"{"value":"1"}"#, "a number as `value`"),
            (r#"{"value":true}"#, "a number as `value`"),
            (r#"{"value":1e999}"#, "out of range"),
            (r#"{"labels":[]}"#, "an object of texts as `labels`"),
            (r#"{"labels":"a"}"#, "an object of texts as `labels`"),
            (r#"{"labels":{"a":1}}"#, "the value of a label"),
            (r#"{"buckets":10.5}"#, "a whole number as `buckets`"),
            (r#"{"buckets":"3"}"#, "a whole number as `buckets`"),
            (r#"{"bucket_width":"1"}"#, "`bucket_width`"),
            (r#"{"bucket_custom":1}"#, "a list of numbers"),
            (
                r#"{"bucket_custom":[1,null]}"#,
                "a number in `bucket_custom`",
            ),
            (r#"{"bucket_custom":["1"]}"#, "a bound of `bucket_custom`"),
            ("[]", "an object"),
            ("{} {}", "trailing"),
            (r#"{"name":"a",}"#, "trailing comma"),
            ("{\"name\":\"\x01\"}", "control character"),
        ] {
            let fault = decode(text.as_bytes()).unwrap_err();
            assert_eq!(fault.reason, Reason::Malformed);
            assert!(fault.message.contains(words), "{text}: {fault}");
        }
        let fault = decode(b"{\"name\":\"\xff\"}").unwrap_err();
        assert_eq!(fault.reason, Reason::InvalidUtf8);
    }
}
