//! Limits on the samples of one text, as in Prometheus' `scrape_config`.

use super::family::Content;
use super::parse::{self, InputFormat, Labels, unescape};
use super::text::sample_lines;

/// The limits; 0 means none. Labels that were added to the samples count too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleLimits {
    /// Samples.
    pub samples: usize,
    /// Labels of one sample. The name of the metric counts as one, as in Prometheus.
    pub labels: usize,
    /// Bytes of a label's name.
    pub label_name: usize,
    /// Bytes of a label's value, and of a metric's name.
    pub label_value: usize,
}

/// A limit that a text exceeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Too many samples.
    #[error("{found} samples; sample_limit is {limit}")]
    Samples {
        /// The samples of the text.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A sample has too many labels.
    #[error("a sample of {metric} has {found} labels with its name; label_limit is {limit}")]
    Labels {
        /// The name of the metric.
        metric: String,
        /// The labels of the sample.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A label's name is too long.
    #[error("a label of {metric} has a name of {found} bytes; label_name_length_limit is {limit}")]
    LabelName {
        /// The name of the metric.
        metric: String,
        /// Bytes of the label's name.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A label's value is too long.
    #[error(
        "label {label} of {metric} has a value of {found} bytes; label_value_length_limit is \
         {limit}"
    )]
    LabelValue {
        /// The name of the metric.
        metric: String,
        /// The name of the label.
        label: String,
        /// Bytes of the value.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

impl SampleLimits {
    /// Checks all samples. Lines of a verbatim text that are no samples are skipped.
    ///
    /// # Errors
    ///
    /// The first limit that is exceeded.
    pub fn check(&self, content: &Content) -> Result<(), LimitExceeded> {
        if *self == SampleLimits::default() {
            return Ok(());
        }
        let texts: Vec<&str> = match content {
            Content::Verbatim(text) => vec![text.as_str()],
            Content::Families(families) => {
                let samples = families.iter().map(|family| family.samples.as_str());
                samples.collect()
            }
        };
        if self.samples > 0 {
            let found = texts.iter().map(|text| sample_lines(text.as_bytes())).sum();
            if found > self.samples {
                let limit = self.samples;
                return Err(LimitExceeded::Samples { found, limit });
            }
        }
        if self.labels == 0 && self.label_name == 0 && self.label_value == 0 {
            return Ok(());
        }
        let mut labels = Labels::new();
        for line in texts.iter().flat_map(|text| text.lines()) {
            if line.trim_start_matches([' ', '\t']).starts_with('#') {
                continue;
            }
            labels.clear();
            if let Some(sample) = parse::sample(line, InputFormat::Text, &mut labels) {
                self.check_sample(sample.name, &labels)?;
            }
        }
        Ok(())
    }

    fn check_sample(&self, metric: &str, labels: &Labels<'_>) -> Result<(), LimitExceeded> {
        let shown = || unescape(metric).into_owned();
        let found = labels.len() + 1;
        if is_beyond(found, self.labels) {
            return Err(LimitExceeded::Labels {
                metric: shown(),
                found,
                limit: self.labels,
            });
        }
        let named = labels.iter().map(|label| (label.name, label.value));
        for (name, value) in [("__name__", metric)].into_iter().chain(named) {
            let length = |text: &str, limit: usize| match is_beyond(text.len(), limit) {
                // Escaped text is never shorter.
                true => unescape(text).len(),
                false => text.len(),
            };
            let found = length(name, self.label_name);
            if name != "__name__" && is_beyond(found, self.label_name) {
                return Err(LimitExceeded::LabelName {
                    metric: shown(),
                    found,
                    limit: self.label_name,
                });
            }
            let found = length(value, self.label_value);
            if is_beyond(found, self.label_value) {
                return Err(LimitExceeded::LabelValue {
                    metric: shown(),
                    label: unescape(name).into_owned(),
                    found,
                    limit: self.label_value,
                });
            }
        }
        Ok(())
    }
}

fn is_beyond(found: usize, limit: usize) -> bool {
    limit > 0 && found > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Text;

    const TEXT: &str = "# HELP m {a=\"1\",b=\"2\",c=\"3\"} 1\nm{a=\"1\",bb=\"2\"} 1\n\
                        n{a=\"\\n\\n\\n\"} 2\nno sample{\n{\"o.o\",\"q.q.q\"=\"3\"} 3\n";

    #[test]
    fn each_limit_holds_to_the_last_sample_or_byte() {
        let limits = SampleLimits::default();
        for (limits, problem) in [
            (limits, ""),
            (
                SampleLimits {
                    samples: 4,
                    ..limits
                },
                "",
            ),
            (
                SampleLimits {
                    samples: 3,
                    ..limits
                },
                "4 samples; sample_limit is 3",
            ),
            (
                SampleLimits {
                    labels: 3,
                    ..limits
                },
                "",
            ),
            (
                SampleLimits {
                    labels: 2,
                    ..limits
                },
                "a sample of m has 3 labels with its name; label_limit is 2",
            ),
            (
                SampleLimits {
                    label_name: 5,
                    label_value: 3,
                    ..limits
                },
                "",
            ),
            (
                SampleLimits {
                    label_name: 4,
                    ..limits
                },
                "a label of o.o has a name of 5 bytes; label_name_length_limit is 4",
            ),
            (
                SampleLimits {
                    label_value: 2,
                    ..limits
                },
                "label a of n has a value of 3 bytes; label_value_length_limit is 2",
            ),
        ] {
            let checked = limits.check(&Content::Verbatim(Text::new(TEXT)));
            let found = checked.map_or_else(|problem| problem.to_string(), |()| String::new());
            assert_eq!(found, problem);
        }
    }
}
