//! Settings of admission: `[exposition]`, and the part of `[push]` about aggregated
//! families.

use std::time::Duration;

use serde::Serialize;

use super::rules::{self, Rule};
use crate::settings::document::Node;
use crate::settings::reader::{Table, defaults};
use crate::settings::value::{
    boolean, choice, duration, integer, positive_duration, size, text, write_duration, write_size,
};

/// `[exposition]`: how texts are checked and exposed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposition {
    /// How the texts of apps and targets are combined.
    pub mode: Mode,
    /// Whether invalid texts are rejected in verbatim mode. Merged mode always
    /// rejects them.
    pub validate: bool,
    /// The label that merged mode adds to each sample of an app, with the app's name;
    /// empty to add none.
    pub app_label: String,
    /// What merged mode does with timestamps.
    pub timestamps: Timestamps,
    /// The limit of families in one text.
    pub max_families: usize,
    /// The limit of samples in one text.
    pub max_samples: usize,
    /// The limit of labels on one sample.
    pub max_labels: usize,
    /// The longest name or value of a label, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_label_length: usize,
    /// The longest parsed text with added labels, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_text: usize,
    /// The limit of all apps, targets and groups together, in bytes of text.
    #[serde(serialize_with = "write_size")]
    pub max_total: usize,
}

/// How the texts of apps and targets are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The texts are exposed unchanged, one after another.
    Verbatim,
    /// The texts are parsed and their samples grouped by family.
    Merged,
}

/// What merged mode does with the timestamps that senders give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// They are exposed.
    Keep,
    /// They are removed.
    Strip,
}

/// Treatment of timestamps in pushes over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushTimestamps {
    /// The push is rejected, as in Pushgateway.
    #[serde(rename = "refuse")]
    Reject,
    /// They are removed.
    Strip,
    /// They are exposed. Aggregated values have none.
    Keep,
}

/// How a push combines with earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushMode {
    /// It replaces its group, as in Pushgateway.
    Replace,
    /// It is added to aggregated families, as in prom-aggregation-gateway.
    Aggregate,
}

/// How a pushed value combines with the current value of its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The pushed value replaces the current one.
    Last,
    /// The sum of both.
    Sum,
    /// The smaller of both.
    Min,
    /// The larger of both.
    Max,
}

impl Policy {
    /// The word for this policy in the configuration.
    pub fn as_str(self) -> &'static str {
        let known = POLICIES.iter().find(|(_, policy)| *policy == self);
        known.map_or("", |(word, _)| word)
    }
}

/// The names of policies in the configuration.
pub const POLICIES: &[(&str, Policy)] = &[
    ("last", Policy::Last),
    ("sum", Policy::Sum),
    ("min", Policy::Min),
    ("max", Policy::Max),
];

/// How a pushed histogram combines with one that has other bucket bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BucketConflict {
    /// The bounds that both have are kept, so that all counts are exact.
    Common,
    /// All bounds are kept; a side that lacks a bound contributes its count at the
    /// next lower one.
    Union,
    /// The push is rejected.
    #[serde(rename = "refuse")]
    Reject,
}

/// Reads `[exposition]`.
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
    // Settings without effect are errors.
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

/// The settings of `[push]` for timestamps and aggregated families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aggregation {
    /// Treatment of timestamps in pushes to groups and in aggregating pushes.
    pub timestamps: PushTimestamps,
    /// How pushed gauges are combined.
    pub gauges: Policy,
    /// How histograms with different bucket bounds are combined.
    pub bucket_conflict: BucketConflict,
    /// How long a series is kept without a push; zero keeps it forever.
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
    /// Rules for families; the first matching rule applies.
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

/// Reads the settings of timestamps and aggregated families from `[push]`.
pub fn read_aggregation(table: &mut Table<'_>) -> Aggregation {
    Aggregation {
        timestamps: table.take(
            "timestamps",
            PushTimestamps::Reject,
            choice(&[
                ("refuse", PushTimestamps::Reject),
                ("strip", PushTimestamps::Strip),
                ("keep", PushTimestamps::Keep),
            ]),
        ),
        gauges: table.take("gauges", Policy::Last, choice(POLICIES)),
        bucket_conflict: table.take(
            "bucket_conflict",
            BucketConflict::Common,
            choice(&[
                ("common", BucketConflict::Common),
                ("union", BucketConflict::Union),
                ("refuse", BucketConflict::Reject),
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
