//! `[exposition]`: how pushed and polled texts are shown together.

use std::time::Duration;

use serde::Serialize;

use super::rules::{self, Rule};

use crate::settings::document::Node;
use crate::settings::reader::{Table, defaults};
use crate::settings::value::{
    boolean, choice, duration, integer, positive_duration, size, text, write_duration, write_size,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposition {
    pub mode: Mode,
    /// Whether bad text is refused. In merged mode it always is.
    pub validate: bool,
    /// The label that names the app on each of its samples; none where it is
    /// empty. Only in merged mode.
    pub app_label: String,
    pub timestamps: Timestamps,
    /// Families of one text.
    pub max_families: usize,
    /// Samples of one text.
    pub max_samples: usize,
    /// Labels of one sample.
    pub max_labels: usize,
    /// Bytes of a label's name, and of its value.
    #[serde(serialize_with = "write_size")]
    pub max_label_length: usize,
    /// Bytes of one text once it is taken apart, with the labels put on it.
    #[serde(serialize_with = "write_size")]
    pub max_text: usize,
    /// Bytes of text of all apps and targets together.
    #[serde(serialize_with = "write_size")]
    pub max_total: usize,
}

/// How texts of several producers stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each as it came, one after the other.
    Verbatim,
    /// Grouped by family, each family once.
    Merged,
}

/// What becomes of timestamps that senders give. Only in merged mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    Keep,
    Strip,
}

/// What a push does to the group's earlier pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushMode {
    /// It takes its place, as with Pushgateway.
    Replace,
    /// It is added to it, as with prom-aggregation-gateway.
    Aggregate,
}

/// How a value that is pushed and the one that is there become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Last,
    Sum,
    Min,
    Max,
}

pub const POLICIES: &[(&str, Policy)] = &[
    ("last", Policy::Last),
    ("sum", Policy::Sum),
    ("min", Policy::Min),
    ("max", Policy::Max),
];

/// What becomes of a histogram whose buckets are not those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BucketConflict {
    /// Bounds that both have stay, and all that is shown is exact.
    Common,
    /// All bounds stay; at one that a side lacks, that side counts with its
    /// bound below.
    Union,
    /// The push is refused.
    Refuse,
}

pub fn read(mut table: Table<'_>) -> Exposition {
    let mode_place = table.place("mode");
    let label_place = table.place("app_label");
    let strip_place = table.place("timestamps");
    let exposition = Exposition {
        mode: table.take(
            "mode",
            Mode::Verbatim,
            choice(&[("verbatim", Mode::Verbatim), ("merged", Mode::Merged)]),
        ),
        validate: table.take("validate", false, boolean),
        app_label: table.take("app_label", String::new(), label_name),
        timestamps: table.take(
            "timestamps",
            Timestamps::Keep,
            choice(&[("keep", Timestamps::Keep), ("strip", Timestamps::Strip)]),
        ),
        max_families: table.take("max_families", 50_000, integer(1, 1_000_000_000)),
        max_samples: table.take("max_samples", 1_000_000, integer(1, 1_000_000_000)),
        max_labels: table.take("max_labels", 64, integer(1, 10_000)),
        max_label_length: table.take("max_label_length", 16 << 10, size),
        max_text: table.take("max_text", 128 << 20, size),
        max_total: table.take("max_total", 1 << 30, size),
    };
    // Settings that would silently do nothing are worth a word.
    if exposition.mode == Mode::Verbatim {
        let idle = [
            (label_place, !exposition.app_label.is_empty(), "app_label"),
            (
                strip_place,
                exposition.timestamps == Timestamps::Strip,
                "timestamps",
            ),
        ];
        for (place, set, key) in idle {
            if let Some(place) = place.filter(|_| set) {
                let why = match mode_place {
                    Some(_) => "",
                    None => "; the default mode is \"verbatim\"",
                };
                table.fault(
                    place,
                    format!("`exposition.{key}` requires `exposition.mode = \"merged\"`{why}"),
                );
            }
        }
    }
    table.finish();
    exposition
}

/// Settings of `[push]` for aggregated families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aggregation {
    /// How pushed gauges are combined.
    pub gauges: Policy,
    /// How histograms with different buckets are combined.
    pub bucket_conflict: BucketConflict,
    /// How long a series is kept without a push; zero is for ever.
    #[serde(serialize_with = "write_duration")]
    pub series_ttl: Duration,
    /// The limit of aggregated series.
    pub max_series: usize,
    /// The limit of aggregated series in one family.
    pub max_series_per_family: usize,
    /// The limit of aggregated families.
    pub max_families: usize,
    /// The limit of remembered idempotency keys.
    pub idempotency_keys: usize,
    /// How long an idempotency key is remembered.
    #[serde(serialize_with = "write_duration")]
    pub idempotency_time: Duration,
    /// Settings of single families; the first rule that matches applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for Exposition {
    fn default() -> Self {
        defaults(read)
    }
}

impl Default for Aggregation {
    fn default() -> Self {
        defaults(|mut table| read_aggregation(&mut table))
    }
}

/// Takes the settings of aggregated families out of `[push]`.
pub fn read_aggregation(table: &mut Table<'_>) -> Aggregation {
    Aggregation {
        gauges: table.take("gauges", Policy::Last, choice(POLICIES)),
        bucket_conflict: table.take(
            "bucket_conflict",
            BucketConflict::Common,
            choice(&[
                ("common", BucketConflict::Common),
                ("union", BucketConflict::Union),
                ("refuse", BucketConflict::Refuse),
            ]),
        ),
        series_ttl: table.take("series_ttl", Duration::ZERO, duration),
        max_series: table.take("max_series", 1_000_000, integer(1, 1_000_000_000)),
        max_series_per_family: table.take(
            "max_series_per_family",
            100_000,
            integer(1, 1_000_000_000),
        ),
        max_families: table.take("max_families", 10_000, integer(1, 100_000_000)),
        idempotency_keys: table.take("idempotency_keys", 10_000, integer(1, 100_000_000)),
        idempotency_time: table.take(
            "idempotency_time",
            Duration::from_secs(600),
            positive_duration,
        ),
        rules: table.take_tables("rules", rules::read),
    }
}

fn label_name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    let right = name
        .chars()
        .enumerate()
        .all(|(place, c)| begins(c) || (place > 0 && c.is_ascii_digit()));
    let taken = ["le", "quantile"].contains(&name.as_str()) || name.starts_with("__");
    if right && !taken {
        Ok(name)
    } else {
        Err(format!(
            "must be a label name such as \"app\" (\"le\", \"quantile\" and \"__*\" are reserved), not \
             {name:?}"
        ))
    }
}
