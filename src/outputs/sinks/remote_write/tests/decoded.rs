//! Reads requests of both protocols with another decoder, and checks them as a strict server
//! would. `tests/proxy` has this file as a module too, so it imports nothing of the crate.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub help: String,
    #[prost(string, tag = "5")]
    pub unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// A histogram of both protocols.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Count {
    #[prost(uint64, tag = "1")]
    Whole(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Whole(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<SymbolSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct SymbolSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<SymbolExemplar>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<SymbolMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct SymbolExemplar {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SymbolMetadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

/// A sent series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Labels as `name{a="b"}`, without escapes.
    pub series: String,
    pub samples: Vec<Sample>,
    pub histograms: Vec<Histogram>,
    /// Labels, value and time.
    pub exemplars: Vec<(String, f64, i64)>,
    /// The number of the type, help and unit; of protocol 2.0.
    pub metadata: Option<(i32, String, String)>,
}

/// Decodes a request of protocol 1.0: its series, and the metadata beside them.
pub fn decode_v1(compressed: &[u8]) -> (Vec<Sent>, Vec<MetricMetadata>) {
    let request = WriteRequest::decode(&*decompress(compressed)).unwrap();
    let pairs = |labels: Vec<Label>| -> Vec<(String, String)> {
        labels.into_iter().map(|it| (it.name, it.value)).collect()
    };
    let series = request.timeseries.into_iter();
    let sent = series.map(|series| Sent {
        series: series_text(pairs(series.labels)),
        samples: series.samples,
        histograms: series.histograms,
        exemplars: series
            .exemplars
            .into_iter()
            .map(|it| (labels_text(&pairs(it.labels)), it.value, it.timestamp))
            .collect(),
        metadata: None,
    });
    (sent.map(checked).collect(), request.metadata)
}

/// Decodes a request of protocol 2.0.
pub fn decode_v2(compressed: &[u8]) -> Vec<Sent> {
    let request = Request::decode(&*decompress(compressed)).unwrap();
    let symbols = request.symbols;
    assert_eq!(symbols.first().map(String::as_str), Some(""));
    let text = |at: u32| symbols[at as usize].clone();
    let pairs = |references: &[u32]| -> Vec<(String, String)> {
        let (pairs, rest) = references.as_chunks::<2>();
        assert!(rest.is_empty(), "labels are pairs");
        pairs
            .iter()
            .map(|[name, value]| (text(*name), text(*value)))
            .collect()
    };
    let series = request.timeseries.iter();
    series
        .map(|series| Sent {
            series: series_text(pairs(&series.labels_refs)),
            samples: series.samples.clone(),
            histograms: series.histograms.clone(),
            exemplars: series
                .exemplars
                .iter()
                .map(|it| (labels_text(&pairs(&it.labels_refs)), it.value, it.timestamp))
                .collect(),
            metadata: series
                .metadata
                .as_ref()
                .map(|it| (it.kind, text(it.help_ref), text(it.unit_ref))),
        })
        .map(checked)
        .collect()
}

/// Bodies are in the block format of snappy, not in the one with frames.
fn decompress(body: &[u8]) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(body).unwrap()
}

fn checked(series: Sent) -> Sent {
    assert!(
        series.samples.is_empty() != series.histograms.is_empty(),
        "{series:?} has either samples or histograms"
    );
    series
}

fn series_text(labels: Vec<(String, String)>) -> String {
    let names = labels.iter().map(|(name, _)| name);
    assert!(
        names.is_sorted_by(|one, other| one < other),
        "{labels:?} are sorted, each once"
    );
    assert!(
        labels.iter().all(|(_, value)| !value.is_empty()),
        "{labels:?}"
    );
    let (names, labels): (Vec<_>, Vec<_>) =
        labels.into_iter().partition(|(name, _)| name == "__name__");
    let name = &names.first().expect("a name").1;
    match labels.is_empty() {
        true => name.clone(),
        false => format!("{name}{{{}}}", labels_text(&labels)),
    }
}

fn labels_text(labels: &[(String, String)]) -> String {
    let labels = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""));
    labels.collect::<Vec<_>>().join(",")
}
