//! Exposition formats: text 0.0.4, OpenMetrics 1.0 and protobuf. Pure: no I/O,
//! no clock, no locks.
//!
//! Everything that is parsed ends in the canonical form: text 0.0.4, each
//! family once, labels sorted, names in quotes where they need them. Every
//! output format is made from it.
//!
//! - [`Parser`]: reads a text line by line, in place.
//! - [`Families`]: the lines of one text, grouped by family and checked.
//! - [`canonicalize`]: a text as canonical [`FamilyText`]s, ready to be merged
//!   with those of other producers.
//! - [`FamilyBuilder`]: builds a [`FamilyText`] from values, without text in
//!   between.
//! - [`OutputFormat`]: converts canonical text to what a reader asked for, with
//!   names under an [`Escaping`].
//! - [`Content`]: what a producer exposes, as verbatim [`Text`] or as families.
//! - [`LabelText`]: the labels of one series as one canonical text.
//! - [`Metrics`]: the samples of a family as whole histograms, summaries and
//!   values.
//! - [`AddedLabel`]: a label that is added to every sample; [`SampleLabels`]: those of a
//!   producer, whether its text is parsed or not; [`SampleLimits`]: limits on their number and
//!   length.
//! - [`protobuf`]: decodes protobuf to text and encodes canonical text as
//!   protobuf.
//!
//! ```
//! use exporter_proxy::exposition::{Families, InputFormat, TextLimits};
//!
//! let text = "# TYPE up gauge\nup{job=\"a\"} 1\nup{job=\"b\"} 0\n";
//! let families = Families::parse(text, InputFormat::Text, &TextLimits::default())?;
//! let up = families.iter().next().expect("a family");
//! assert_eq!((up.name(), up.kind().as_str(), up.sample_count()), ("up", "gauge", 2));
//!
//! let error = Families::parse("up 1\nup one\n", InputFormat::Text, &TextLimits::default());
//! assert_eq!(
//!     error.expect_err("not a number").to_string(),
//!     "line 2, column 4: expected a number as the value, found \"one\"",
//! );
//! # Ok::<(), exporter_proxy::exposition::ParseError>(())
//! ```

mod added;
mod build;
mod canonical;
mod counted;
mod escaping;
mod families;
mod family;
mod filter;
mod head;
mod kind;
mod label_text;
mod metric;
mod output_format;
mod parse;
pub mod protobuf;
mod sample_labels;
mod sample_limits;
mod series;
mod text;
mod write;

pub use added::{AddedLabel, LabelConflict};
pub use build::{BuildError, FamilyBuilder};
#[cfg(any(test, feature = "fuzzing"))]
pub use canonical::fuzzing;
pub use canonical::{
    CanonicalOptions, KnownText, SampleShaper, ShapedCounts, ShapedSample, ShapedSeries,
    TimestampPolicy, canonicalize, canonicalize_as, canonicalize_shaped, detect_format,
    single_sample_family,
};
pub use canonical::{is_plain_label, is_plain_name};
pub use counted::counted;
pub use escaping::{Escaping, aliases};
pub use families::{
    Families, FamilyNames, FamilyView, Mistakes, Samples, TextLimits, is_component,
};
pub use family::{Content, FamilyText, NativeHistogram, OpenMetricsHead};
pub use filter::keep_families;
pub use head::{CanonicalSample, FamilyHead};
pub use kind::Kind;
pub use label_text::{LabelError, LabelPairs, LabelText, label_pairs};
pub use metric::{Metric, MetricValue, Metrics, labels_text, parse_labels};
pub use output_format::{OutputFormat, is_plain, plain_name};
pub use parse::{
    InputFormat, Label, Labels, LimitKind, ParseError, ParseProblem, ParsedLine, Parser, Sample,
    Timestamp, bare_name, unescape, unescape_help,
};
pub use sample_labels::SampleLabels;
pub use sample_limits::{LimitExceeded, SampleLimits};
pub use series::{SeriesHashes, hash_series, is_family_name, needs_quotes, write_series};
pub use text::{Text, sample_lines};
pub use write::{number_text, write_bound, write_help, write_label_value, write_number};
