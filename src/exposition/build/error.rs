//! Why a family cannot be built.

use crate::exposition::{Kind, LabelError};

/// Why a family cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name is empty or has NUL in it.
    #[error("{name:?} cannot be the name of a metric: it is empty or has NUL in it")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// A label cannot be a label of the family.
    #[error("family {family}: {problem}")]
    Label {
        /// The family's name, escaped.
        family: String,
        /// What is wrong with the label.
        problem: LabelError,
    },
    /// The family's name does not end in its unit.
    #[error("family {family}: its name does not end in its unit, _{unit}")]
    Unit {
        /// The family's name, escaped.
        family: String,
        /// The unit as it was given.
        unit: String,
    },
    /// A value of another kind was added.
    #[error("family {family} is {}: it cannot hold {given}", kind.with_article())]
    Kind {
        /// The family's name, escaped.
        family: String,
        /// The family's kind.
        kind: Kind,
        /// What was added.
        given: &'static str,
    },
    /// Bounds do not ascend or are not finite, or quantiles do not ascend from 0
    /// to 1.
    #[error("family {family}: bounds must be finite and ascend, and quantiles from 0 to 1")]
    Bounds {
        /// The family's name, escaped.
        family: String,
    },
    /// The counts of a histogram are not one more than its bounds, or fall.
    #[error("family {family}: a histogram has a cumulative count for each bound and one for all")]
    Counts {
        /// The family's name, escaped.
        family: String,
    },
    /// A timestamp is before 1970.
    #[error("family {family}: the timestamp {milliseconds} is before 1970")]
    Time {
        /// The family's name, escaped.
        family: String,
        /// The timestamp as it was given.
        milliseconds: i64,
    },
    /// Two metrics have the same labels, and times that do not ascend.
    #[error("family {family}: two of its metrics have the labels {{{labels}}}")]
    Repeated {
        /// The family's name, escaped.
        family: String,
        /// The labels that were given twice, without those that have no value.
        labels: String,
    },
}
