//! Why a text is refused, and where.

use std::fmt;

/// A fault in a text. It displays as `line 3, column 14: expected '=', found ','`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// In characters from 1; one past the last where more was expected.
    pub column: usize,
    pub reason: ParseProblem,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError {
            line,
            column,
            reason,
        } = self;
        write!(f, "line {line}, column {column}: {reason}")
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseProblem {
    Unexpected {
        expected: &'static str,
        found: String,
    },
    /// Lines end in CR LF.
    CarriageReturn,
    DuplicateLabel {
        name: String,
    },
    /// The same name with the same labels, in whatever order, on another line.
    DuplicateSeries {
        first_line: usize,
    },
    /// The family has this already.
    SecondHelp {
        family: String,
    },
    SecondType {
        family: String,
    },
    SecondUnit {
        family: String,
    },
    TypeAfterSamples {
        family: String,
    },
    /// A time where none is taken.
    Timestamp {
        found: String,
    },
    Limit {
        limit: LimitKind,
        allowed: usize,
    },
    /// The labels that are put on its samples make the text too long.
    TooLong {
        bytes: usize,
        allowed: usize,
    },
}

impl ParseProblem {
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

impl fmt::Display for ParseProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseProblem::Unexpected { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            ParseProblem::CarriageReturn => {
                f.write_str("expected the line to end in LF, found CR LF: write \"\\n\" alone")
            }
            ParseProblem::DuplicateLabel { name } => {
                write!(f, "expected each label once, found a second {name:?}")
            }
            ParseProblem::DuplicateSeries { first_line } => write!(
                f,
                "expected each series once, found that of line {first_line} again"
            ),
            ParseProblem::SecondHelp { family } => {
                write!(f, "expected one HELP for {family:?}, found a second")
            }
            ParseProblem::SecondType { family } => {
                write!(f, "expected one TYPE for {family:?}, found a second")
            }
            ParseProblem::SecondUnit { family } => {
                write!(f, "expected one UNIT for {family:?}, found a second")
            }
            ParseProblem::TypeAfterSamples { family } => write!(
                f,
                "expected the TYPE of {family:?} before its samples, found it after"
            ),
            ParseProblem::Timestamp { found } => write!(f, "expected no timestamp, found {found}"),
            ParseProblem::TooLong { bytes, allowed } => write!(
                f,
                "expected at most {allowed} bytes of text with the labels put on its samples \
                 (exposition.max_text), found {bytes}"
            ),
            ParseProblem::Limit { limit, allowed } => {
                let noun = limit.noun(*allowed == 1);
                write!(f, "expected at most {allowed} {noun}")?;
                if let Some(setting) = limit.setting() {
                    write!(f, " ({setting})")?;
                }
                f.write_str(", found more")
            }
        }
    }
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Bytes of one text: what a 32-bit offset reaches.
    TextBytes,
    FamiliesPerText,
    SamplesPerText,
    LabelsPerSample,
    LabelNameBytes,
    LabelValueBytes,
}

impl LimitKind {
    /// The setting that holds it.
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

    /// What is counted, for a message.
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

/// A [`ParseProblem`] and how many bytes into the line it lies. It is passed in a
/// box, which keeps the results that carry none in registers.
#[derive(Debug)]
pub(in crate::exposition) struct LineError {
    at: usize,
    reason: ParseProblem,
}

impl LineError {
    #[cold]
    pub(in crate::exposition) fn new(at: usize, reason: ParseProblem) -> Box<Self> {
        Box::new(LineError { at, reason })
    }

    /// Finds the column, which nobody counts while nothing is wrong.
    pub(in crate::exposition) fn on(&self, line: &str, number: usize) -> ParseError {
        let before = line.get(..self.at).unwrap_or(line);
        ParseError {
            line: number,
            column: before.chars().count() + 1,
            reason: self.reason.clone(),
        }
    }
}

impl From<&ParseError> for crate::reason::Reason {
    fn from(fault: &ParseError) -> Self {
        match fault.reason {
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
