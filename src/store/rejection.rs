//! Why a write or a batch was rejected.

use crate::exposition::counted;
use crate::reason::Reason;
use crate::registry;
use crate::store::families::names::reserved;
use crate::store::sections::holder::Holder;
use crate::store::sections::section_id::SectionId;

/// Why a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "cannot add {section}: the limit of {} is reached (receiver.max_apps)",
        counted(*.limit, "app", "apps")
    )]
    TooManyApps { section: SectionId, limit: usize },
    #[error(
        "cannot add {section}: the limit of {} is reached (push.max_groups)",
        counted(*.limit, "group", "groups")
    )]
    TooManyGroups { section: SectionId, limit: usize },
    #[error(
        "{section}: with its text {size} bytes would be held, and the limit is {limit} (exposition.max_total)"
    )]
    TooManyBytes {
        section: SectionId,
        size: usize,
        limit: usize,
    },
    #[error("{section}, line {line}: family {family} is {kind} here, and {held} {holder}")]
    KindConflict {
        section: SectionId,
        line: usize,
        family: String,
        kind: &'static str,
        held: &'static str,
        holder: Holder,
    },
    #[error(
        "{section}, line {line}: family {family} cannot be exposed beside family {other} ({holder}): a series of one would have the name of the other"
    )]
    NameCollision {
        section: SectionId,
        line: usize,
        family: String,
        other: String,
        holder: Holder,
    },
    #[error(
        "{section}{}: series {series} is exposed {}",
        if *.line > 0 { format!(", family at line {}" , .line) } else { String::new() },
        if *.twice { "twice" } else { "elsewhere already" }
    )]
    DuplicateSeries {
        section: SectionId,
        line: usize,
        series: String,
        /// By this write itself.
        twice: bool,
    },
}

impl Rejection {
    /// The family of another producer that is in the way, by its full name,
    /// and where to note whose it is.
    pub(in crate::store) fn blocking_family(&mut self) -> Option<(&str, &mut Holder)> {
        match self {
            Rejection::KindConflict { family, holder, .. } => Some((family, holder)),
            Rejection::NameCollision { other, holder, .. } => Some((other, holder)),
            _ => None,
        }
    }

    /// The section at fault.
    pub fn section(&self) -> &SectionId {
        match self {
            Rejection::TooManyApps { section, .. }
            | Rejection::TooManyGroups { section, .. }
            | Rejection::TooManyBytes { section, .. }
            | Rejection::KindConflict { section, .. }
            | Rejection::NameCollision { section, .. }
            | Rejection::DuplicateSeries { section, .. } => section,
        }
    }

    /// Where in its text, from 1; `None` where it is the text as a whole.
    pub fn line(&self) -> Option<usize> {
        match self {
            Rejection::KindConflict { line, .. }
            | Rejection::NameCollision { line, .. }
            | Rejection::DuplicateSeries { line, .. } => Some(*line).filter(|line| *line > 0),
            _ => None,
        }
    }
}

impl From<&Rejection> for Reason {
    fn from(refused: &Rejection) -> Self {
        match refused {
            Rejection::TooManyApps { .. } => Reason::TooManyApps,
            Rejection::TooManyGroups { .. } => Reason::TooManyGroups,
            Rejection::TooManyBytes { .. } => Reason::TooManyBytes,
            Rejection::KindConflict { .. } => Reason::KindConflict,
            Rejection::NameCollision { .. } => Reason::NameCollision,
            Rejection::DuplicateSeries { .. } => Reason::DuplicateSeries,
        }
    }
}

/// Why a batch of operations changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchRejection {
    /// It does not fit with itself, or with what lives.
    #[error(transparent)]
    Registry(#[from] registry::Rejection),
    #[error("family {family} is {kind} here, and {held} {holder}")]
    KindConflict {
        family: String,
        kind: &'static str,
        held: &'static str,
        holder: Holder,
    },
    #[error("{}", collision(family, other))]
    NameCollision { family: String, other: String },
    #[error("series {series} is exposed elsewhere already")]
    DuplicateSeries { series: String },
    #[error("{size} bytes would be held, and the limit is {limit} (exposition.max_total)")]
    TooManyBytes { size: usize, limit: usize },
}

fn collision(family: &str, other: &str) -> String {
    match reserved(other) {
        Some((kept, _)) => format!(
            "family {family} cannot be used: {kept} is kept for the times of pushed groups, \
             choose another name"
        ),
        None => format!(
            "family {family} cannot be exposed beside family {other}: a series of one would have \
             the name of the other"
        ),
    }
}

impl From<&BatchRejection> for Reason {
    fn from(refused: &BatchRejection) -> Self {
        use crate::registry::Rejection as Registry;
        match refused {
            BatchRejection::KindConflict { .. }
            | BatchRejection::Registry(
                Registry::KindConflict { .. } | Registry::NotACounter { .. },
            ) => Reason::KindConflict,
            BatchRejection::NameCollision { .. } => Reason::NameCollision,
            BatchRejection::DuplicateSeries { .. } => Reason::DuplicateSeries,
            BatchRejection::TooManyBytes { .. } => Reason::TooManyBytes,
            BatchRejection::Registry(
                Registry::TooManyFamilies { .. }
                | Registry::TooManySeries { .. }
                | Registry::TooManySeriesOfFamily { .. },
            ) => Reason::TooManySeries,
            BatchRejection::Registry(
                Registry::ReservedLabel { .. } | Registry::LabelsTooLong { .. },
            ) => Reason::BadLabels,
            BatchRejection::Registry(Registry::InvalidName { .. }) => Reason::BadName,
            BatchRejection::Registry(_) => Reason::BadValue,
        }
    }
}
