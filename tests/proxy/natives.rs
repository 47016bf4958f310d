//! Native histograms, pushed and scraped with the tests' own schema.

use prost::Message;

use crate::harness::{Answer, Proxy};

/// `io.prometheus.client.MetricFamily`, with the fields of histograms.
#[derive(Clone, PartialEq, Message)]
pub struct Family {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, optional, tag = "3")]
    pub kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<Label>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    #[prost(double, optional, tag = "4")]
    pub count_float: Option<f64>,
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    #[prost(double, optional, tag = "8")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    pub negative_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "10")]
    pub negative_delta: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    pub negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    pub positive_count: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "2")]
    pub bound: f64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

pub const DELIMITED: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// The types of histograms and gauge histograms.
pub const HISTOGRAM: i32 = 4;
pub const GAUGE_HISTOGRAM: i32 = 5;

/// A native histogram: one observation of 0, and two each in the buckets up to 1 and up to 2.
pub fn five_observations() -> Histogram {
    Histogram {
        count: Some(5),
        sum: Some(5.5),
        schema: Some(0),
        zero_threshold: Some(1e-128),
        zero_count: Some(1),
        positive_span: vec![Span {
            offset: 0,
            length: 2,
        }],
        positive_delta: vec![2, 0],
        ..Histogram::default()
    }
}

pub fn family(name: &str, kind: i32, histogram: Histogram) -> Family {
    Family {
        name: name.to_owned(),
        kind: Some(kind),
        metric: vec![Metric {
            label: Vec::new(),
            histogram: Some(histogram),
        }],
    }
}

pub fn push(proxy: &Proxy, path: &str, families: &[Family]) -> Answer {
    push_with(proxy, "PUT", path, families)
}

pub fn push_with(proxy: &Proxy, method: &str, path: &str, families: &[Family]) -> Answer {
    let body: Vec<u8> = families
        .iter()
        .flat_map(Message::encode_length_delimited_to_vec)
        .collect();
    proxy.push_with(method, path, &[("Content-Type", DELIMITED)], body)
}

/// The families that a reader of protobuf gets.
pub fn scrape(proxy: &Proxy, path: &str) -> Vec<Family> {
    let answer = proxy.request("GET", path, &[("Accept", DELIMITED)]);
    let content_type = answer.header("content-type").expect("a type");
    assert!(
        content_type.starts_with("application/vnd.google.protobuf"),
        "{content_type}"
    );
    let mut body = &answer.body[..];
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(Family::decode_length_delimited(&mut body).expect("a message"));
    }
    families
}

/// The only histogram of a family.
#[track_caller]
pub fn histogram_of(families: &[Family], name: &str) -> Histogram {
    let mut own = families.iter().filter(|family| family.name == name);
    let (family, others) = (own.next().expect("the family is there"), own.count());
    assert_eq!((family.metric.len(), others), (1, 0));
    family.metric[0].histogram.clone().expect("a histogram")
}
