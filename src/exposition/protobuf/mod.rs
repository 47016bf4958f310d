//! Metrics as protobuf: length-delimited messages
//! `io.prometheus.client.MetricFamily`, as clients push them and as
//! Prometheus asks for them where it wants native histograms.
//!
//! - [`decode`]: a body becomes text 0.0.4, which then goes the way of any
//!   text, and the native histograms that text has no words for.
//! - [`measure`]: how long that text will be at least, before it is made.
//! - [`attach_native_histograms`]: gives these to the families, once the text was taken apart.
//! - [`encode`]: normal text and its native histograms become messages.
//!
//! Bodies are read where they lie, field by field (`wire`). Messages made into
//! structures first would take up to a hundred times a body's size, and could
//! not say at which byte it goes wrong.
//!
//! The schema is `metrics.proto` of prometheus/client_model, of proto2: every
//! scalar is optional, and of one that is there twice the last one holds.

mod buckets;
mod decode;
mod encode;
mod error;
mod lines;
mod measure;
mod native;
#[cfg(test)]
mod tests;
mod wire;

pub use buckets::{Bounds, NativeBucket, native_buckets};
pub use decode::{DecodeLimits, Decoded, DecodedNative, attach_native_histograms, decode};
pub use encode::{NativeHistograms, encode};
pub use error::DecodeError;
pub use measure::{Measured, measure};

/// Field numbers of the messages, each message's own.
mod field {
    pub mod family {
        pub const NAME: u32 = 1;
        pub const HELP: u32 = 2;
        pub const TYPE: u32 = 3;
        pub const METRIC: u32 = 4;
    }
    pub mod metric {
        pub const LABEL: u32 = 1;
        pub const GAUGE: u32 = 2;
        pub const COUNTER: u32 = 3;
        pub const SUMMARY: u32 = 4;
        pub const UNTYPED: u32 = 5;
        pub const TIMESTAMP_MS: u32 = 6;
        pub const HISTOGRAM: u32 = 7;
    }
    pub mod label {
        pub const NAME: u32 = 1;
        pub const VALUE: u32 = 2;
    }
    /// Of gauges, counters and untyped values alike.
    pub mod single {
        pub const VALUE: u32 = 1;
    }
    pub mod summary {
        pub const COUNT: u32 = 1;
        pub const SUM: u32 = 2;
        pub const QUANTILE: u32 = 3;
    }
    pub mod quantile {
        pub const QUANTILE: u32 = 1;
        pub const VALUE: u32 = 2;
    }
    pub mod histogram {
        pub const COUNT: u32 = 1;
        pub const SUM: u32 = 2;
        pub const BUCKET: u32 = 3;
        pub const COUNT_FLOAT: u32 = 4;
        pub const SCHEMA: u32 = 5;
        pub const ZERO_THRESHOLD: u32 = 6;
        pub const ZERO_COUNT: u32 = 7;
        pub const ZERO_COUNT_FLOAT: u32 = 8;
        pub const NEGATIVE_SPAN: u32 = 9;
        pub const NEGATIVE_DELTA: u32 = 10;
        pub const NEGATIVE_COUNT: u32 = 11;
        pub const POSITIVE_SPAN: u32 = 12;
        pub const POSITIVE_DELTA: u32 = 13;
        pub const POSITIVE_COUNT: u32 = 14;
        pub const CREATED: u32 = 15;
        pub const EXEMPLAR: u32 = 16;
    }
    pub mod bucket {
        pub const COUNT: u32 = 1;
        pub const UPPER_BOUND: u32 = 2;
        pub const EXEMPLAR: u32 = 3;
        pub const COUNT_FLOAT: u32 = 4;
    }
    pub mod span {
        pub const OFFSET: u32 = 1;
        pub const LENGTH: u32 = 2;
    }
    pub mod exemplar {
        pub const LABEL: u32 = 1;
        pub const VALUE: u32 = 2;
        pub const TIMESTAMP: u32 = 3;
    }
    pub mod timestamp {
        pub const SECONDS: u32 = 1;
        pub const NANOS: u32 = 2;
    }
}

/// The values of the enumeration `MetricType`. A family without one is a
/// counter, the first of them.
mod metric_type {
    pub const COUNTER: u64 = 0;
    pub const GAUGE: u64 = 1;
    pub const SUMMARY: u64 = 2;
    pub const UNTYPED: u64 = 3;
    pub const HISTOGRAM: u64 = 4;
    pub const GAUGE_HISTOGRAM: u64 = 5;
}
