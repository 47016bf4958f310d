//! Bodies in other formats than text, written by hand so that the test does not trust the code it
//! tests.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Content type of delimited protobuf.
pub const PROTOBUF: &str = "application/vnd.google.protobuf; \
                            proto=io.prometheus.client.MetricFamily; encoding=delimited";

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text).expect("memory takes it");
    packer.finish().expect("memory takes it")
}

/// Snappy's framing, with one uncompressed chunk.
pub fn snappy(text: &[u8]) -> Vec<u8> {
    let mut framed = b"\xff\x06\x00\x00sNaPpY".to_vec();
    framed.push(1);
    framed.extend_from_slice(&(text.len() as u32 + 4).to_le_bytes()[..3]);
    let masked = crc32c(text).rotate_right(15).wrapping_add(0xa282_ead8);
    framed.extend_from_slice(&masked.to_le_bytes());
    framed.extend_from_slice(text);
    framed
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * low);
        }
    }
    !crc
}

/// A Zstandard frame of one raw block; for texts below 256 bytes.
pub fn zstd(text: &[u8]) -> Vec<u8> {
    let size = u8::try_from(text.len()).expect("a short text");
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, size];
    frame.extend_from_slice(&((u32::from(size) << 3) | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(text);
    frame
}

/// Types of families, by their numbers in protobuf.
pub const COUNTER: u8 = 0;
pub const GAUGE: u8 = 1;
pub const SUMMARY: u8 = 2;
pub const HISTOGRAM: u8 = 4;

/// A `MetricFamily`, preceded by its length.
pub fn family(name: &str, kind: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut family = bytes(1, name.as_bytes());
    family.extend(bytes(2, b"Help."));
    family.extend(number(3, kind));
    for metric in metrics {
        family.extend(bytes(4, metric));
    }
    let mut delimited = varint(family.len());
    delimited.extend(family);
    delimited
}

/// A `Metric` with one label, and a value in the field of its type.
pub fn metric(label: (&str, &str), value: &[u8]) -> Vec<u8> {
    let mut pair = bytes(1, label.0.as_bytes());
    pair.extend(bytes(2, label.1.as_bytes()));
    let mut metric = bytes(1, &pair);
    metric.extend_from_slice(value);
    metric
}

pub fn gauge(value: f64) -> Vec<u8> {
    bytes(2, &double(1, value))
}

pub fn counter(value: f64) -> Vec<u8> {
    bytes(3, &double(1, value))
}

/// A timestamp in milliseconds beside a value.
pub fn timestamp(milliseconds: u8) -> Vec<u8> {
    number(6, milliseconds)
}

pub fn summary(count: u8, sum: f64, quantiles: &[(f64, f64)]) -> Vec<u8> {
    counted(4, count, sum, quantiles, |quantile, value| {
        let mut it = double(1, quantile);
        it.extend(double(2, value));
        it
    })
}

pub fn histogram(count: u8, sum: f64, buckets: &[(u8, f64)]) -> Vec<u8> {
    counted(7, count, sum, buckets, |count, bound| {
        let mut it = number(1, count);
        it.extend(double(2, bound));
        it
    })
}

fn counted<T: Copy>(
    field: u8,
    count: u8,
    sum: f64,
    items: &[(T, f64)],
    item: impl Fn(T, f64) -> Vec<u8>,
) -> Vec<u8> {
    let mut value = number(1, count);
    value.extend(double(2, sum));
    for (first, second) in items {
        value.extend(bytes(3, &item(*first, *second)));
    }
    bytes(field, &value)
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(value.len()));
    out.extend_from_slice(value);
    out
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut out = vec![field << 3 | 1];
    out.extend_from_slice(&value.to_le_bytes());
    out
}

/// A number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}
