//! An event as the JSON object that metrics-server writes.

use std::io::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Buckets, Content};

impl Content<'_> {
    /// Appends the message as one JSON object, without a newline: its keys are in
    /// metrics-server's order, and empty and zero ones are left out, except for name and
    /// value. `timestamp`, in nanoseconds since 1970, replaces the sender's.
    pub fn write_json(&self, timestamp: Option<i64>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        write_string(self.name, out);
        if !self.labels.is_empty() {
            out.extend_from_slice(b",\"labels\":{");
            for (at, (name, value)) in self.labels.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_string(value, out);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b",\"op\":");
        write_string(self.kind.as_str(), out);
        for (key, text) in [("help", self.help), ("index", self.index)] {
            if !text.is_empty() {
                key_of(key, out);
                write_string(text, out);
            }
        }
        if let Some(buckets) = &self.buckets {
            write_buckets(buckets, out);
        }
        key_of("value", out);
        write_number(self.value, out);
        if let Some(time) = timestamp.or(self.timestamp) {
            key_of("timestamp", out);
            write_string(&rfc3339(time), out);
        }
        out.push(b'}');
    }
}

fn write_buckets(buckets: &Buckets, out: &mut Vec<u8>) {
    if buckets.count != 0 {
        key_of("buckets", out);
        let _ = write!(out, "{}", buckets.count);
    }
    if !buckets.custom.is_empty() {
        key_of("bucket_custom", out);
        out.push(b'[');
        for (at, bound) in buckets.custom.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_number(*bound, out);
        }
        out.push(b']');
    }
    for (key, number) in [
        ("bucket_width", buckets.width),
        ("bucket_factor", buckets.factor),
        ("bucket_min", buckets.min),
        ("bucket_max", buckets.max),
        ("bucket_start", buckets.start),
    ] {
        if number != 0.0 {
            key_of(key, out);
            write_number(number, out);
        }
    }
}

fn key_of(key: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, ",\"{key}\":");
}

/// Appends a text as JSON.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

/// Appends a number as Go's `encoding/json` does: whole numbers without a fraction,
/// exponents below 1e-6 and from 1e21. JSON has no infinities: they are 0, which no
/// message can contain anyway.
fn write_number(number: f64, out: &mut Vec<u8>) {
    let size = number.abs();
    let _ = if !number.is_finite() {
        write!(out, "0")
    } else if size != 0.0 && size < 1e-6 {
        write!(out, "{number:e}")
    } else if size >= 1e21 {
        let text = format!("{number:e}");
        write!(out, "{}", text.replace('e', "e+"))
    } else {
        write!(out, "{number}")
    };
}

/// A time in nanoseconds since 1970 as RFC 3339, with as many digits as it needs.
fn rfc3339(nanos: i64) -> String {
    let date = DateTime::<Utc>::from_timestamp_nanos(nanos);
    date.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
