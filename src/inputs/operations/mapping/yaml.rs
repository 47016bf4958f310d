//! The mapping file as written, in YAML.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use crate::yaml::YamlProblem;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenMapping {
    pub(super) defaults: Option<Spanned<WrittenDefaults>>,
    pub(super) mappings: Option<Vec<Spanned<WrittenRule>>>,
}

/// The defaults for rules. `timer_type`, `buckets` and `quantiles` are older names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenDefaults {
    pub(super) observer_type: Option<String>,
    pub(super) timer_type: Option<String>,
    pub(super) buckets: Option<Vec<f64>>,
    pub(super) quantiles: Option<Vec<WrittenQuantile>>,
    pub(super) match_type: Option<String>,
    pub(super) glob_disable_ordering: Option<bool>,
    pub(super) ttl: Option<GoDuration>,
    pub(super) summary_options: Option<WrittenSummary>,
    pub(super) histogram_options: Option<WrittenHistogram>,
}

/// A rule.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenRule {
    #[serde(rename = "match")]
    pub(super) pattern: Option<String>,
    pub(super) name: Option<String>,
    /// Without a value, a label is empty.
    pub(super) labels: Option<BTreeMap<String, Option<String>>>,
    pub(super) honor_labels: Option<bool>,
    pub(super) observer_type: Option<String>,
    pub(super) timer_type: Option<String>,
    pub(super) buckets: Option<Vec<f64>>,
    pub(super) quantiles: Option<Vec<WrittenQuantile>>,
    pub(super) match_type: Option<String>,
    pub(super) help: Option<String>,
    pub(super) action: Option<String>,
    pub(super) match_metric_type: Option<String>,
    pub(super) ttl: Option<GoDuration>,
    pub(super) summary_options: Option<WrittenSummary>,
    pub(super) histogram_options: Option<WrittenHistogram>,
    pub(super) scale: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSummary {
    pub(super) quantiles: Option<Vec<WrittenQuantile>>,
    pub(super) max_age: Option<GoDuration>,
    pub(super) age_buckets: Option<u32>,
    /// The size of a buffer. The sketches have none.
    pub(super) buf_cap: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenHistogram {
    pub(super) buckets: Option<Vec<f64>>,
    pub(super) native_histogram_bucket_factor: Option<f64>,
    pub(super) native_histogram_max_buckets: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenQuantile {
    pub(super) quantile: f64,
    /// The allowed error by rank, in statsd_exporter. The sketch has its own error.
    pub(super) error: f64,
}

/// Reads a mapping file. An empty file has no rules.
///
/// # Errors
///
/// The text is not YAML, or it has an unknown key or a value of the wrong type.
pub(super) fn read(text: &str) -> Result<WrittenMapping, YamlProblem> {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim() == "---")
    {
        return Ok(WrittenMapping::default());
    }
    let written: Option<WrittenMapping> =
        serde_saphyr::from_str(text).map_err(|error| YamlProblem::from(&error))?;
    Ok(written.unwrap_or_default())
}

/// A duration in Go's notation, such as `1m20s`. A number is in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map(GoDuration).ok_or_else(|| {
            let problem = format!(
                "must be a duration such as 1m20s (h, m, s, ms, us, ns), and not negative, not {text:?}"
            );
            de::Error::custom(problem)
        })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    /// Durations longer than a century mean for ever.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    if let Ok(nanos) = text.parse() {
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    loop {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit].parse().ok()?;
        rest = &rest[unit..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
        if rest.is_empty() {
            return Duration::try_from_secs_f64(seconds.min(LONGEST)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_gos_notation() {
        for (text, seconds) in [
            ("0", 0.0),
            ("1000000000", 1.0),
            ("1m20s", 80.0),
            ("1.5h", 5400.0),
            ("300ms", 0.3),
            ("2us", 2e-6),
            ("2µs", 2e-6),
            ("+5s", 5.0),
            (".5s", 0.5),
        ] {
            let read = parse_duration(text).unwrap();
            assert!(
                (read.as_secs_f64() - seconds).abs() < 1e-9,
                "{text}: {read:?}"
            );
        }
        for wrong in ["", "5", "-5s", "5d", "s", "5 s", "1.2.3s", "1w"] {
            let read = parse_duration(wrong);
            assert!(wrong == "5" || read.is_none(), "{wrong}: {read:?}");
        }
    }
}
