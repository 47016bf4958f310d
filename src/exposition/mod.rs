//! The Prometheus text format, pure: no I/O, no clock, no locks.
//!
//! - [`Text`]: a sender's exposition text, made safe to stand beside others.
//! - [`Content`]: what a producer exposes, verbatim or as [`FamilyText`]s.
//! - [`Encoder`]: writes families in text format 0.0.4.
//! - [`Parser`]: reads text 0.0.4 and OpenMetrics 1.0, line by line.
//! - [`Families`]: the entries of one sender's text, family by family.
//! - [`canonicalize`]: a sender's text as [`FamilyText`]s, ready to be merged.
//! - [`single`]: one sample of our own in the same form.
//! - [`AddedLabel`]: labels that are put on every sample on the way.
//! - [`OutputFormat`]: the forms in which normal text is shown to readers, with names
//!   under an [`Escaping`].
//! - [`LabelText`]: the labels of one series as one canonical text.
//! - [`Metrics`]: a family's samples as whole histograms, summaries and values.
//! - [`protobuf`]: text from protobuf, and protobuf from text.
//! - [`keep_families`]: a text with some of its families only.
//! - [`counted`]: a number with its noun, for messages.

mod added;
mod canonical;
mod counted;
mod encode;
mod escaping;
mod families;
mod family;
mod filter;
mod kind;
mod label_text;
mod metric;
mod output_format;
mod parse;
pub mod protobuf;
mod series;
mod text;

pub use added::{AddedLabel, LabelConflict};
pub use canonical::{
    CanonicalOptions, TimestampPolicy, canonicalize, canonicalize_as, detect_format, single,
};
pub use canonical::{is_plain_label, is_plain_name};
pub use counted::counted;
pub use encode::{
    Encoder, FamilyEncoder, number_text, write_bound, write_help, write_label_value, write_number,
};
pub use escaping::{Escaping, aliases};
pub use families::{Families, FamilyView, Samples, TextLimits};
pub use family::{Content, FamilyText, NativeHistogram, OpenMetricsHead};
pub use filter::keep_families;
pub use kind::Kind;
pub use label_text::{LabelError, LabelPairs, LabelText, label_pairs};
pub use metric::{Metric, MetricValue, Metrics, labels_text, parse_labels};
pub use output_format::{OutputFormat, is_plain, plain_name};
pub use parse::{
    InputFormat, Label, Labels, LimitKind, ParseError, ParseProblem, ParsedLine, Parser, Sample,
    Timestamp, unescape, unescape_help,
};
pub use series::{SeriesHashes, hash_series, is_family_name, needs_quotes, write_series};
pub use text::{Text, sample_lines};
