//! Metrics as protobuf: length-delimited messages
//! `io.prometheus.client.MetricFamily`, as clients push them and as Prometheus
//! asks for them when it wants native histograms.
//!
//! - [`decode`]: decodes a body to text 0.0.4, which is then parsed like any
//!   other text, and to the native histograms that text cannot show.
//! - [`measure`]: a lower bound of the length of that text, before it is
//!   written.
//! - [`attach_native_histograms`]: attaches the native histograms to the parsed
//!   families.
//! - [`encode`]: encodes canonical text and its native histograms.
//! - [`native_message`]: encodes one native histogram.
//!
//! Bodies are read in place, field by field (`wire`). Messages decoded to
//! structures would take up to a hundred times a body's size, and their errors
//! could not name the byte.
//!
//! The schema is `metrics.proto` of prometheus/client_model, in proto2: every
//! scalar is optional, and the last one counts if it comes twice.

mod buckets;
mod decode;
mod encode;
mod error;
mod family_writer;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod measure;
mod native;
mod native_writer;
mod remote;
#[cfg(test)]
mod tests;
mod wire;

pub use buckets::{Bounds, NativeBucket, native_buckets};
pub use decode::{DecodeLimits, DecodedBody, DecodedNative, attach_native_histograms, decode};
pub use encode::{NativeHistograms, encode};
pub use error::DecodeError;
pub use measure::{Measured, measure};
pub use native_writer::{ClassicPart, NativeParts, native_message};
pub use remote::{RemoteExemplar, RemoteHistogram};
pub(crate) use wire::{Payload, Reader};
pub use wire::{put_bytes, put_double, put_unsigned, put_varint};

/// Field numbers of the messages.
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
    /// Gauges, counters and untyped values.
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

/// The values of the enum `MetricType`. A family without one is a counter.
mod metric_type {
    pub const COUNTER: u64 = 0;
    pub const GAUGE: u64 = 1;
    pub const SUMMARY: u64 = 2;
    pub const UNTYPED: u64 = 3;
    pub const HISTOGRAM: u64 = 4;
    pub const GAUGE_HISTOGRAM: u64 = 5;
}
