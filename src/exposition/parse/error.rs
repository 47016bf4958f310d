//! Mistakes in a text, with their positions.

/// A mistake in a text. It displays as `line 3, column 14: expected '=', found
/// ','`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1; one past the last if more was expected.
    pub column: usize,
    /// What is wrong.
    pub problem: ParseProblem,
}

/// A mistake in a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProblem {
    /// Something other than what the format requires.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the format requires.
        expected: &'static str,
        /// What the text has.
        found: String,
    },
    /// A line ends in CR LF.
    #[error("expected the line to end in LF, found CR LF: write \"\\n\" alone")]
    CarriageReturn,
    /// Two labels of a sample have the same name.
    #[error("expected each label once, found a second {name:?}")]
    DuplicateLabel {
        /// The name of the labels.
        name: String,
    },
    /// The same name with the same labels, in any order, as on another line.
    #[error("expected each series once, found that of line {first_line} again")]
    DuplicateSeries {
        /// The line of the first sample of the series.
        first_line: usize,
    },
    /// A second `HELP` for a family.
    #[error("expected one HELP for {family:?}, found a second")]
    SecondHelp {
        /// The family's name.
        family: String,
    },
    /// A second `TYPE` for a family.
    #[error("expected one TYPE for {family:?}, found a second")]
    SecondType {
        /// The family's name.
        family: String,
    },
    /// A second `UNIT` for a family.
    #[error("expected one UNIT for {family:?}, found a second")]
    SecondUnit {
        /// The family's name.
        family: String,
    },
    /// A `TYPE` after samples of the family.
    #[error("expected the TYPE of {family:?} before its samples, found it after")]
    TypeAfterSamples {
        /// The family's name.
        family: String,
    },
    /// A timestamp, which the options refuse.
    #[error("expected no timestamp, found {found}")]
    Timestamp {
        /// The timestamp as written.
        found: String,
    },
    /// A limit is exceeded.
    #[error("expected at most {allowed} {}, found more", limit.described(*allowed))]
    Limit {
        /// The limit.
        limit: LimitKind,
        /// Its value.
        allowed: usize,
    },
    /// The text is too long with the labels that are added to its samples.
    #[error(
        "expected at most {allowed} bytes of text with the labels added to its samples \
         (exposition.max_text), found {bytes}"
    )]
    TooLong {
        /// The length with the labels.
        bytes: usize,
        /// The limit.
        allowed: usize,
    },
}

impl ParseProblem {
    /// What is wrong, without quotes of the text.
    pub fn without_quotes(&self) -> String {
        match self {
            ParseProblem::Unexpected { expected, .. } => format!("expected {expected}"),
            ParseProblem::DuplicateLabel { .. } => "expected each label once".to_owned(),
            ParseProblem::SecondHelp { .. } => "expected one HELP for each family".to_owned(),
            ParseProblem::SecondType { .. } => "expected one TYPE for each family".to_owned(),
            ParseProblem::SecondUnit { .. } => "expected one UNIT for each family".to_owned(),
            ParseProblem::TypeAfterSamples { .. } => {
                "expected the TYPE of a family before its samples".to_owned()
            }
            ParseProblem::Timestamp { .. } => "expected no timestamp".to_owned(),
            ParseProblem::CarriageReturn
            | ParseProblem::DuplicateSeries { .. }
            | ParseProblem::Limit { .. }
            | ParseProblem::TooLong { .. } => self.to_string(),
        }
    }

    pub(in crate::exposition) fn unexpected(
        expected: &'static str,
        found: impl Into<String>,
    ) -> Self {
        ParseProblem::Unexpected {
            expected,
            found: found.into(),
        }
    }
}

/// A limit on a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Bytes of one text, which a 32-bit offset must reach.
    TextBytes,
    /// Families of one text.
    FamiliesPerText,
    /// Samples of one text.
    SamplesPerText,
    /// Labels of one sample.
    LabelsPerSample,
    /// Bytes of one label name.
    LabelNameBytes,
    /// Bytes of one label value or metric name.
    LabelValueBytes,
}

impl LimitKind {
    /// What the limit counts and its setting, for a message.
    fn described(self, allowed: usize) -> String {
        let noun = self.noun(allowed == 1);
        match self.setting() {
            Some(setting) => format!("{noun} ({setting})"),
            None => noun.to_owned(),
        }
    }

    /// The setting of the limit.
    fn setting(self) -> Option<&'static str> {
        match self {
            LimitKind::TextBytes => None,
            LimitKind::FamiliesPerText => Some("exposition.max_families"),
            LimitKind::SamplesPerText => Some("exposition.max_samples"),
            LimitKind::LabelsPerSample => Some("exposition.max_labels"),
            LimitKind::LabelNameBytes | LimitKind::LabelValueBytes => {
                Some("exposition.max_label_length")
            }
        }
    }

    /// What the limit counts, for a message.
    fn noun(self, one: bool) -> &'static str {
        match self {
            LimitKind::TextBytes if one => "byte in a text",
            LimitKind::TextBytes => "bytes in a text",
            LimitKind::FamiliesPerText if one => "family in a text",
            LimitKind::FamiliesPerText => "families in a text",
            LimitKind::SamplesPerText if one => "sample in a text",
            LimitKind::SamplesPerText => "samples in a text",
            LimitKind::LabelsPerSample if one => "label on a sample",
            LimitKind::LabelsPerSample => "labels on a sample",
            LimitKind::LabelNameBytes if one => "byte in a label name",
            LimitKind::LabelNameBytes => "bytes in a label name",
            LimitKind::LabelValueBytes if one => "byte in a label value",
            LimitKind::LabelValueBytes => "bytes in a label value",
        }
    }
}

/// A [`ParseProblem`] and its position in the line, in bytes. It is passed in a
/// box, so that results without one stay in registers.
#[derive(Debug)]
pub(in crate::exposition) struct LineError {
    at: usize,
    problem: ParseProblem,
}

impl LineError {
    #[cold]
    pub(in crate::exposition) fn new(at: usize, problem: ParseProblem) -> Box<Self> {
        Box::new(LineError { at, problem })
    }

    /// The error for this line. The column is counted only here, when something
    /// is wrong.
    pub(in crate::exposition) fn on(&self, line: &str, number: usize) -> ParseError {
        let before = line.get(..self.at).unwrap_or(line);
        ParseError {
            line: number,
            column: before.chars().count() + 1,
            problem: self.problem.clone(),
        }
    }
}

impl From<&ParseError> for crate::reason::Reason {
    fn from(error: &ParseError) -> Self {
        match error.problem {
            ParseProblem::TooLong { .. }
            | ParseProblem::Limit {
                limit: LimitKind::TextBytes,
                ..
            } => Self::TooLarge,
            ParseProblem::Limit { .. } => Self::TooManySamples,
            ParseProblem::DuplicateSeries { .. } => Self::DuplicateSeries,
            ParseProblem::Timestamp { .. } => Self::Timestamp,
            _ => Self::InvalidText,
        }
    }
}
