//! A log entry as a JSON object on a line: time, level, logger and message, then the fields of
//! the entry.

use std::io::{self, Write};

use log::Record;
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::telemetry::is_hidden;

/// Writes the line.
///
/// # Errors
///
/// `out` fails.
pub fn write(out: &mut dyn Write, time: &str, record: &Record<'_>) -> io::Result<()> {
    let mut object = Serializer::with_formatter(&mut *out, Visible(CompactFormatter));
    let mut map = object.serialize_map(None)?;
    map.serialize_entry("time", time)?;
    map.serialize_entry("level", &record.level().as_str().to_ascii_lowercase())?;
    map.serialize_entry("logger", record.target())?;
    map.serialize_entry("message", record.args())?;
    record
        .key_values()
        .visit(&mut Fields(&mut map))
        .map_err(io::Error::other)?;
    map.end()?;
    out.write_all(b"\n")
}

type Map<'a, W> = serde_json::ser::Compound<'a, W, Visible>;

/// Adds each field to the object.
struct Fields<'m, 'a, W>(&'m mut Map<'a, W>);

impl<'kvs, W: Write> VisitSource<'kvs> for Fields<'_, '_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.serialize_key(key.as_str()).map_err(failed)?;
        value.visit(FieldValue(self.0))
    }
}

/// Writes the value of a field: numbers and booleans as such, all else as text.
struct FieldValue<'m, 'a, W>(&'m mut Map<'a, W>);

impl<'v, W: Write> VisitValue<'v> for FieldValue<'_, '_, W> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0
            .serialize_value(&format_args!("{value}"))
            .map_err(failed)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0.serialize_value(&value).map_err(failed)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0.serialize_value(&value).map_err(failed)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0.serialize_value(&value).map_err(failed)
    }
}

fn failed(_: serde_json::Error) -> kv::Error {
    kv::Error::msg("the log cannot be written")
}

/// Escapes characters that change how others are shown, which JSON allows for any character. So a
/// terminal shows a line as it is.
struct Visible(CompactFormatter);

impl Formatter for Visible {
    fn write_string_fragment<W>(&mut self, out: &mut W, text: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut plain = 0;
        for (at, hidden) in text.char_indices().filter(|(_, c)| is_hidden(*c)) {
            self.0.write_string_fragment(out, &text[plain..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            plain = at + hidden.len_utf8();
        }
        self.0.write_string_fragment(out, &text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use log::Level;
    use serde_json::json;

    use super::*;

    fn line(message: std::fmt::Arguments<'_>, fields: &dyn kv::Source) -> String {
        let record = Record::builder()
            .level(Level::Warn)
            .target("exporter_proxy::http")
            .args(message)
            .key_values(fields)
            .build();
        let mut out = Vec::new();
        write(&mut out, "2026-01-31T12:00:00.123Z", &record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_entry_is_an_object_on_a_line() {
        let fields = [
            ("peer", Value::from_display(&"127.0.0.1:1")),
            ("suppressed", Value::from(7_u64)),
            ("change", Value::from(-7_i64)),
            ("dry_run", Value::from(true)),
        ];
        assert_eq!(
            line(format_args!("a {}", "push"), &fields),
            "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"warn\",\
             \"logger\":\"exporter_proxy::http\",\"message\":\"a push\",\
             \"peer\":\"127.0.0.1:1\",\"suppressed\":7,\"change\":-7,\"dry_run\":true}\n"
        );
    }

    #[test]
    fn hidden_characters_are_escaped_and_read_back() {
        let message = "a\n\"\u{1b}[31m\u{202e}é日\u{feff}\\\u{e0001}\u{7f}";
        let written = line(format_args!("{message}"), &[("app", message)]);
        assert_eq!(written.chars().filter(|c| is_hidden(*c)).count(), 1);
        assert!(written.ends_with("\n"));
        assert!(
            written.contains("\\u202eé日\\ufeff\\\\\\udb40\\udc01\\u007f\""),
            "{written}"
        );
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["message"], json!(message));
        assert_eq!(read["app"], json!(message));
    }
}
