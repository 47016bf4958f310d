//! Requests of both protocols, encoded as series are added.
//!
//! Sources: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

use serde::Serialize;

use super::symbols::{Symbol, SymbolTable, Symbols};
use crate::exposition::protobuf::{
    RemoteExemplar, put_bytes, put_double, put_unsigned, put_varint,
};
use crate::exposition::{FamilyHead, Kind};

/// The version of the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// `prometheus.WriteRequest`: each series with its labels.
    #[default]
    #[serde(rename = "1.0")]
    V1,
    /// `io.prometheus.write.v2.Request`: a table of strings, and metadata with each series.
    #[serde(rename = "2.0")]
    V2,
}

/// Field numbers that the module [`convert`](super::convert) needs, too.
pub mod field {
    pub const V1_SERIES: u32 = 1;
    pub const V1_METADATA: u32 = 3;
    pub const V2_SYMBOLS: u32 = 4;
    pub const V2_SERIES: u32 = 5;
    pub const LABELS: u32 = 1;
    pub const SAMPLES: u32 = 2;
    pub const V1_EXEMPLARS: u32 = 3;
    pub const V1_HISTOGRAMS: u32 = 4;
    pub const V2_HISTOGRAMS: u32 = 3;
    pub const V2_EXEMPLARS: u32 = 4;
    pub const V2_METADATA: u32 = 5;
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
    pub const EXEMPLAR_VALUE: u32 = 2;
    pub const EXEMPLAR_TIMESTAMP: u32 = 3;
    pub const HISTOGRAM_TIMESTAMP: u32 = 15;
    pub const HISTOGRAM_START: u32 = 17;
}

/// The metadata of a series in protocol 2.0; all zero if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The number of the type.
    pub kind: u8,
    /// The help.
    pub help: Symbol,
    /// The unit.
    pub unit: Symbol,
}

/// The labels of a series, encoded for one of the protocols.
#[derive(Debug, Clone)]
pub enum SeriesLabels {
    /// The fields `labels` of a series.
    Encoded(Box<[u8]>),
    /// Names and values in turn.
    Symbols(Box<[Symbol]>),
}

/// A point that is added to a request.
#[derive(Debug, Clone, Copy)]
pub enum Point<'p> {
    /// The bits of a value, and its time.
    Value(u64, i64),
    /// A histogram.
    Histogram(&'p HistogramPoint),
}

/// A native histogram.
#[derive(Debug, Default)]
pub struct HistogramPoint {
    /// The message without times.
    pub message: Vec<u8>,
    /// Its time.
    pub timestamp: i64,
    /// When counting began, which only protocol 2.0 has.
    pub created: Option<i64>,
    /// Its exemplars.
    pub exemplars: Vec<RemoteExemplar>,
}

/// A request under construction.
#[derive(Debug)]
pub struct RequestBuilder {
    protocol: Protocol,
    body: Vec<u8>,
    table: SymbolTable,
    series: Vec<u8>,
    part: Vec<u8>,
    nested: Vec<u8>,
}

/// The number of a type in both protocols.
pub fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::GaugeHistogram => 4,
        Kind::Summary => 5,
        Kind::Info => 6,
        Kind::StateSet => 7,
    }
}

impl SeriesLabels {
    /// Encodes labels, which are sorted by name.
    pub fn encode<'l>(
        protocol: Protocol,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        symbols: &mut Symbols,
    ) -> Self {
        match protocol {
            Protocol::V1 => {
                let (mut out, mut pair) = (Vec::new(), Vec::new());
                for (name, value) in labels {
                    put_label(&mut out, &mut pair, name, value);
                }
                SeriesLabels::Encoded(out.into())
            }
            Protocol::V2 => SeriesLabels::Symbols(
                labels
                    .flat_map(|(name, value)| [name, value])
                    .map(|text| symbols.acquire(text))
                    .collect(),
            ),
        }
    }

    /// Ends the use of the symbols.
    pub fn release(&self, symbols: &mut Symbols) {
        if let SeriesLabels::Symbols(all) = self {
            for symbol in all {
                symbols.release(*symbol);
            }
        }
    }
}

fn put_label(out: &mut Vec<u8>, pair: &mut Vec<u8>, name: &str, value: &str) {
    pair.clear();
    put_bytes(pair, field::NAME, name.as_bytes());
    put_bytes(pair, field::VALUE, value.as_bytes());
    put_bytes(out, field::LABELS, pair);
}

impl RequestBuilder {
    /// A builder without a request. [`begin`](Self::begin) begins one.
    pub fn new(protocol: Protocol) -> Self {
        RequestBuilder {
            protocol,
            body: Vec::new(),
            table: SymbolTable::default(),
            series: Vec::new(),
            part: Vec::new(),
            nested: Vec::new(),
        }
    }

    /// The protocol of the requests.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Begins a request, in the memory of the previous one.
    pub fn begin(&mut self, symbols: &mut Symbols) {
        self.body.clear();
        symbols.begin(&mut self.table);
    }

    /// Bytes of the request so far.
    pub fn len(&self) -> usize {
        self.body.len() + self.table.encoded().len()
    }

    /// Finishes the request.
    pub fn request(&mut self) -> &[u8] {
        if self.protocol == Protocol::V1 {
            return &self.body;
        }
        // The symbols must come before the series that refer to them.
        self.series.clear();
        self.series.extend_from_slice(self.table.encoded());
        self.series.extend_from_slice(&self.body);
        &self.series
    }

    /// Adds a series with one point.
    pub fn add(
        &mut self,
        labels: &SeriesLabels,
        metadata: Metadata,
        point: Point<'_>,
        symbols: &mut Symbols,
    ) {
        match labels {
            SeriesLabels::Encoded(labels) => self.add_v1(labels, point),
            SeriesLabels::Symbols(labels) => self.add_v2(labels, metadata, point, symbols),
        }
    }

    fn add_v1(&mut self, labels: &[u8], point: Point<'_>) {
        self.part.clear();
        match point {
            Point::Value(bits, timestamp) => {
                // Nearly all points are values, so these are written in place.
                put_sample(&mut self.part, bits, timestamp);
                let length = labels.len() + 2 + self.part.len();
                put_varint(&mut self.body, tag(field::V1_SERIES));
                put_varint(&mut self.body, length as u64);
                self.body.extend_from_slice(labels);
                put_bytes(&mut self.body, field::SAMPLES, &self.part);
            }
            Point::Histogram(point) => {
                self.series.clear();
                self.series.extend_from_slice(labels);
                for exemplar in &point.exemplars {
                    self.part.clear();
                    for (name, value) in &exemplar.labels {
                        put_label(&mut self.part, &mut self.nested, name, value);
                    }
                    put_exemplar(&mut self.part, exemplar, point.timestamp);
                    put_bytes(&mut self.series, field::V1_EXEMPLARS, &self.part);
                }
                self.part.clear();
                self.part.extend_from_slice(&point.message);
                put_time(&mut self.part, field::HISTOGRAM_TIMESTAMP, point.timestamp);
                put_bytes(&mut self.series, field::V1_HISTOGRAMS, &self.part);
                put_bytes(&mut self.body, field::V1_SERIES, &self.series);
            }
        }
    }

    fn add_v2(
        &mut self,
        labels: &[Symbol],
        metadata: Metadata,
        point: Point<'_>,
        symbols: &mut Symbols,
    ) {
        let table = &mut self.table;
        self.series.clear();
        self.part.clear();
        for symbol in labels {
            let reference = symbols.reference(*symbol, table);
            put_varint(&mut self.part, u64::from(reference));
        }
        put_bytes(&mut self.series, field::LABELS, &self.part);
        self.part.clear();
        match point {
            Point::Value(bits, timestamp) => {
                put_sample(&mut self.part, bits, timestamp);
                put_bytes(&mut self.series, field::SAMPLES, &self.part);
            }
            Point::Histogram(point) => {
                self.part.extend_from_slice(&point.message);
                put_time(&mut self.part, field::HISTOGRAM_TIMESTAMP, point.timestamp);
                if let Some(created) = point.created {
                    put_time(&mut self.part, field::HISTOGRAM_START, created);
                }
                put_bytes(&mut self.series, field::V2_HISTOGRAMS, &self.part);
                for exemplar in &point.exemplars {
                    self.nested.clear();
                    for text in exemplar
                        .labels
                        .iter()
                        .flat_map(|(name, value)| [name, value])
                    {
                        let reference = table.add(text);
                        put_varint(&mut self.nested, u64::from(reference));
                    }
                    self.part.clear();
                    put_bytes(&mut self.part, field::LABELS, &self.nested);
                    put_exemplar(&mut self.part, exemplar, point.timestamp);
                    put_bytes(&mut self.series, field::V2_EXEMPLARS, &self.part);
                }
            }
        }
        if metadata != Metadata::default() {
            self.part.clear();
            put_unsigned(&mut self.part, 1, u64::from(metadata.kind));
            let help = symbols.reference(metadata.help, table);
            put_unsigned(&mut self.part, 3, u64::from(help));
            let unit = symbols.reference(metadata.unit, table);
            put_unsigned(&mut self.part, 4, u64::from(unit));
            put_bytes(&mut self.series, field::V2_METADATA, &self.part);
        }
        put_bytes(&mut self.body, field::V2_SERIES, &self.series);
    }

    /// Adds the metadata of a family to a request of protocol 1.0.
    pub fn add_metadata(&mut self, head: &FamilyHead) {
        self.part.clear();
        put_unsigned(&mut self.part, 1, u64::from(kind_number(head.kind)));
        for (number, text) in [(2, &head.name), (4, &head.help), (5, &head.unit)] {
            if !text.is_empty() {
                put_bytes(&mut self.part, number, text.as_bytes());
            }
        }
        put_bytes(&mut self.body, field::V1_METADATA, &self.part);
    }
}

/// The tag of a field with bytes.
fn tag(number: u32) -> u64 {
    u64::from(number) << 3 | 2
}

/// The fields of a sample, which are the same in both protocols.
fn put_sample(out: &mut Vec<u8>, bits: u64, timestamp: i64) {
    // As bits: as a number, a staleness marker could become another NaN.
    put_varint(out, 1 << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
    put_time(out, 2, timestamp);
}

fn put_time(out: &mut Vec<u8>, number: u32, millis: i64) {
    put_unsigned(out, number, millis.cast_unsigned());
}

/// Value and time of an exemplar. Without its own time, it has that of its histogram.
fn put_exemplar(out: &mut Vec<u8>, exemplar: &RemoteExemplar, timestamp: i64) {
    put_double(out, field::EXEMPLAR_VALUE, exemplar.value);
    put_time(
        out,
        field::EXEMPLAR_TIMESTAMP,
        exemplar.timestamp.unwrap_or(timestamp),
    );
}
