//! Converts requests of protocol 2.0 to 1.0, for a server that turns out not to know 2.0.
//!
//! Metadata and start times are dropped: in 1.0, series have none. Native histograms and exemplars
//! are kept only if the settings send them in 1.0 too.

use super::request::field;
use crate::exposition::protobuf::{Payload, Reader, put_bytes, put_varint};

/// Converts an encoded request. `None` if it is invalid, or nothing of it remains.
pub fn to_v1(request: &[u8], histograms: bool) -> Option<Vec<u8>> {
    let mut symbols: Vec<&[u8]> = Vec::new();
    let mut fields = Reader::new(request, 0);
    while let Some(field) = fields.next().ok()? {
        if let (field::V2_SYMBOLS, Payload::Bytes(text, _)) = (field.number, field.payload) {
            symbols.push(text);
        }
    }
    let mut out = Vec::with_capacity(request.len() * 2);
    let mut fields = Reader::new(request, 0);
    while let Some(field) = fields.next().ok()? {
        if let (field::V2_SERIES, Payload::Bytes(series, _)) = (field.number, field.payload)
            && let Some(series) = convert_series(series, &symbols, histograms)?
        {
            put_bytes(&mut out, field::V1_SERIES, &series);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// A converted series; `Some(None)` if nothing of it remains.
fn convert_series(series: &[u8], symbols: &[&[u8]], histograms: bool) -> Option<Option<Vec<u8>>> {
    let mut out = Vec::new();
    let mut has_points = false;
    let mut fields = Reader::new(series, 0);
    while let Some(field) = fields.next().ok()? {
        let Payload::Bytes(bytes, _) = field.payload else {
            continue;
        };
        match field.number {
            field::LABELS => put_labels(&mut out, bytes, symbols)?,
            field::SAMPLES => {
                put_bytes(&mut out, field::SAMPLES, bytes);
                has_points = true;
            }
            field::V2_EXEMPLARS if histograms => {
                let mut exemplar = Vec::new();
                let mut fields = Reader::new(bytes, 0);
                while let Some(field) = fields.next().ok()? {
                    match (field.number, field.payload) {
                        (field::LABELS, Payload::Bytes(bytes, _)) => {
                            put_labels(&mut exemplar, bytes, symbols)?;
                        }
                        _ => exemplar.extend_from_slice(field.raw),
                    }
                }
                put_bytes(&mut out, field::V1_EXEMPLARS, &exemplar);
            }
            field::V2_HISTOGRAMS if histograms => {
                let mut histogram = Vec::new();
                let mut fields = Reader::new(bytes, 0);
                while let Some(field) = fields.next().ok()? {
                    if field.number != field::HISTOGRAM_START {
                        histogram.extend_from_slice(field.raw);
                    }
                }
                put_bytes(&mut out, field::V1_HISTOGRAMS, &histogram);
                has_points = true;
            }
            _ => {}
        }
    }
    Some(has_points.then_some(out))
}

/// Writes the labels for packed references to names and values in turn.
fn put_labels(out: &mut Vec<u8>, references: &[u8], symbols: &[&[u8]]) -> Option<()> {
    let mut references = Reader::new(references, 0);
    let mut next = || {
        let at = references.varint("a reference").ok()?;
        symbols.get(usize::try_from(at).ok()?).copied()
    };
    while let Some(name) = next() {
        let value = next()?;
        let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
        put_bytes(&mut pair, field::NAME, name);
        put_bytes(&mut pair, field::VALUE, value);
        put_varint(out, u64::from(field::LABELS) << 3 | 2);
        put_varint(out, pair.len() as u64);
        out.extend_from_slice(&pair);
    }
    Some(())
}
