//! Events as one request of Loki's push API.
//!
//! Events with equal labels are one stream, whose entries are in the order of the events.
//! The format is that of `logproto.PushRequest` in Loki's repository (`pkg/push`), and its
//! JSON form is documented at `POST /loki/api/v1/push`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;

use super::config::{Encoding, Settings};
use super::line::write_value;
use crate::event::{Event, write_string};
use crate::exposition::protobuf::{put_bytes, put_unsigned};

/// The label of a stream that would otherwise have none: Loki requires one.
const ONLY_LABEL: (&str, &str) = ("job", "exporter-proxy");

/// Field numbers of Loki's messages.
mod field {
    pub const STREAMS: u32 = 1;
    pub const LABELS: u32 = 1;
    pub const ENTRIES: u32 = 2;
    pub const TIMESTAMP: u32 = 1;
    pub const LINE: u32 = 2;
    pub const METADATA: u32 = 3;
    pub const SECONDS: u32 = 1;
    pub const NANOS: u32 = 2;
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// Builds a request.
#[derive(Debug)]
pub struct RequestBuilder<'s> {
    settings: &'s Settings,
    /// The position of each stream in `streams`, by its encoded labels.
    by_labels: HashMap<Vec<u8>, usize>,
    streams: Vec<Stream>,
    /// The encoded labels of the current event.
    labels: Vec<u8>,
    /// The line of the current event.
    line: Vec<u8>,
    /// The current entry, and its parts.
    entry: Vec<u8>,
    part: Vec<u8>,
}

/// Entries with the same labels, encoded.
#[derive(Debug)]
struct Stream {
    labels: Vec<u8>,
    entries: Vec<u8>,
}

impl<'s> RequestBuilder<'s> {
    /// An empty request.
    pub fn new(settings: &'s Settings) -> Self {
        RequestBuilder {
            settings,
            by_labels: HashMap::new(),
            streams: Vec::new(),
            labels: Vec::new(),
            line: Vec::new(),
            entry: Vec::new(),
            part: Vec::new(),
        }
    }

    /// Adds an event.
    pub fn add(&mut self, event: &Event<'_>) {
        let stream = self.stream(event);
        self.line.clear();
        self.settings.line.write(&event.content, &mut self.line);
        let entries = &mut self.streams[stream].entries;
        match self.settings.encoding {
            Encoding::Protobuf => {
                let time = event.time();
                let nanos = u64::try_from(time.rem_euclid(1_000_000_000)).unwrap_or_default();
                let seconds = time.div_euclid(1_000_000_000);
                self.part.clear();
                put_unsigned(&mut self.part, field::SECONDS, seconds.cast_unsigned());
                put_unsigned(&mut self.part, field::NANOS, nanos);
                self.entry.clear();
                put_bytes(&mut self.entry, field::TIMESTAMP, &self.part);
                put_bytes(&mut self.entry, field::LINE, &self.line);
                for (name, value) in metadata(self.settings, event) {
                    self.part.clear();
                    put_bytes(&mut self.part, field::NAME, name.as_bytes());
                    put_bytes(&mut self.part, field::VALUE, value.as_bytes());
                    put_bytes(&mut self.entry, field::METADATA, &self.part);
                }
                put_bytes(entries, field::ENTRIES, &self.entry);
            }
            Encoding::Json => {
                if !entries.is_empty() {
                    entries.push(b',');
                }
                // Writing to memory cannot fail.
                let _ = write!(entries, "[\"{}\",", event.time());
                write_string(&String::from_utf8_lossy(&self.line), entries);
                let mut comma = ",{";
                for (name, value) in metadata(self.settings, event) {
                    entries.extend_from_slice(comma.as_bytes());
                    comma = ",";
                    write_string(&name, entries);
                    entries.push(b':');
                    write_string(&value, entries);
                }
                let end: &[u8] = match comma {
                    "," => b"}]",
                    _ => b"]",
                };
                entries.extend_from_slice(end);
            }
        }
    }

    /// The media type and the body.
    pub fn finish(self) -> (&'static str, Vec<u8>) {
        match self.settings.encoding {
            Encoding::Protobuf => ("application/x-protobuf", protobuf(&self.streams)),
            Encoding::Json => ("application/json", json(&self.streams)),
        }
    }

    /// The position of the stream of an event.
    fn stream(&mut self, event: &Event<'_>) -> usize {
        self.labels.clear();
        let is_label = |name: &str| {
            let labels = &self.settings.labels;
            labels.is_empty() || labels.iter().any(|label| label == name)
        };
        let own = event.content.labels.iter().copied();
        let mut labels = clean(own.filter(|(name, _)| is_label(name)));
        if labels.is_empty() {
            labels.push((Cow::Borrowed(ONLY_LABEL.0), ONLY_LABEL.1));
        }
        match self.settings.encoding {
            Encoding::Protobuf => selector(&labels, &mut self.labels),
            Encoding::Json => {
                for (at, (name, value)) in labels.iter().enumerate() {
                    self.labels.push(if at == 0 { b'{' } else { b',' });
                    write_string(name, &mut self.labels);
                    self.labels.push(b':');
                    write_string(value, &mut self.labels);
                }
                self.labels.push(b'}');
            }
        }
        if let Some(known) = self.by_labels.get(&self.labels) {
            return *known;
        }
        self.by_labels
            .insert(self.labels.clone(), self.streams.len());
        self.streams.push(Stream {
            labels: self.labels.clone(),
            entries: Vec::new(),
        });
        self.streams.len() - 1
    }
}

/// The structured metadata of an event: its name, its value, and the labels that do not belong
/// to its stream.
fn metadata<'e>(
    settings: &Settings,
    event: &'e Event<'_>,
) -> impl Iterator<Item = (Cow<'e, str>, Cow<'e, str>)> {
    let mut all = Vec::new();
    if settings.structured_metadata {
        let content = &event.content;
        if !content.name.is_empty() {
            all.push((Cow::Borrowed("name"), Cow::Borrowed(content.name)));
        }
        let mut value = Vec::new();
        write_value(content, &mut value);
        let value = String::from_utf8_lossy(&value).into_owned();
        all.push((Cow::Borrowed("value"), Cow::Owned(value)));
        let names = &settings.labels;
        let is_other = |name: &str| !names.is_empty() && !names.iter().any(|label| label == name);
        let labels = content.labels.iter().copied();
        let labels = clean(labels.filter(|(name, _)| is_other(name)));
        let labels = labels.into_iter();
        all.extend(labels.map(|(name, value)| (name, Cow::Borrowed(value))));
    }
    all.into_iter()
}

/// The labels with valid names, sorted. Of those that get the same name, the last one stays.
fn clean<'e>(labels: impl Iterator<Item = (&'e str, &'e str)>) -> Vec<(Cow<'e, str>, &'e str)> {
    let mut labels: Vec<_> = labels
        .map(|(name, value)| (clean_name(name), value))
        .collect();
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            kept.1 = later.1;
        }
        is_same
    });
    labels
}

/// The name with underscores in place of characters that are invalid in label names. An empty
/// one becomes an underscore.
fn clean_name(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() {
        return Cow::Borrowed("_");
    }
    if !digit && name.chars().all(plain) {
        return Cow::Borrowed(name);
    }
    let start = if digit { "_" } else { "" };
    let rest = name.chars().map(|c| if plain(c) { c } else { '_' });
    Cow::Owned(start.chars().chain(rest).collect())
}

/// Appends labels as a selector: `{a="b", c="d"}`.
fn selector(labels: &[(Cow<'_, str>, &str)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                0..0x20 | 0x7f => {
                    let _ = write!(out, "\\x{byte:02x}");
                }
                _ => out.push(byte),
            }
        }
        out.push(b'"');
    }
    out.push(b'}');
}

fn protobuf(streams: &[Stream]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut message = Vec::new();
    for stream in streams {
        message.clear();
        put_bytes(&mut message, field::LABELS, &stream.labels);
        message.extend_from_slice(&stream.entries);
        put_bytes(&mut body, field::STREAMS, &message);
    }
    // It fails only for bodies of 4 GiB.
    snap::raw::Encoder::new()
        .compress_vec(&body)
        .unwrap_or_default()
}

fn json(streams: &[Stream]) -> Vec<u8> {
    let mut body = b"{\"streams\":[".to_vec();
    for (at, stream) in streams.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"stream\":");
        body.extend_from_slice(&stream.labels);
        body.extend_from_slice(b",\"values\":[");
        body.extend_from_slice(&stream.entries);
        body.extend_from_slice(b"]}");
    }
    body.extend_from_slice(b"]}");
    body
}
