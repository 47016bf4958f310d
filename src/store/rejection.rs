//! Why a write or a batch was rejected.
//!
//! There are two types, because a write's rejection always names a section and mostly a line
//! of its text, and a batch has neither: it can fail for the registry's reasons too.

use std::fmt;

use crate::exposition::counted;
use crate::reason::Reason;
use crate::registry;
use crate::store::families::names::reserved;
use crate::store::sections::holder::Holder;
use crate::store::sections::section_id::SectionId;

/// Why a write was rejected. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The limit of apps is reached.
    #[error("{} (receiver.max_apps)", over_count(section, *new, counted(*limit, "app", "apps")))]
    TooManyApps {
        /// The first new app.
        section: SectionId,
        /// The number of new apps of the write.
        new: usize,
        /// The limit.
        limit: usize,
    },
    /// The limit of pushed groups is reached.
    #[error(
        "{} (push.max_groups)",
        over_count(section, *new, counted(*limit, "group", "groups"))
    )]
    TooManyGroups {
        /// The first new group.
        section: SectionId,
        /// The number of new groups of the write.
        new: usize,
        /// The limit.
        limit: usize,
    },
    /// The limit of memory is reached.
    #[error(
        "{section}: with {} the store would hold {size} bytes; the limit is {limit} \
         (exposition.max_total)",
        if *.sections > 1 { format!("the texts of all {sections} together") } else { "its text".to_owned() }
    )]
    TooManyBytes {
        /// The last section of the write.
        section: SectionId,
        /// The number of sections of the write, without removed ones.
        sections: usize,
        /// Bytes that would be held.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The sender would hold more than its share of memory.
    #[error(
        "{section}: with this, the {} would hold {size} bytes; the limit is {limit} \
         (limits.{}.memory)",
        of.as_str(),
        of.as_str()
    )]
    ShareExceeded {
        /// A section of the write.
        section: SectionId,
        /// Whose share it is.
        of: ShareOf,
        /// Bytes that would be held.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The family exists with another kind.
    #[error("{section}{}: family {family} is {kind} here, and {held} {holder}", at_line(*line))]
    KindConflict {
        /// The section at fault.
        section: SectionId,
        /// The line of the family in its text, from 1; 0 if it is not from a text.
        line: usize,
        /// The family's name.
        family: String,
        /// The kind in the write, with its article.
        kind: &'static str,
        /// The kind of the existing family, with its article.
        held: &'static str,
        /// Who exposes the existing family.
        holder: Holder,
    },
    /// Two families would expose series of the same name.
    #[error(
        "{section}{}: family {family} cannot be exposed beside family {other} ({holder}): a series of one would have the name of the other",
        at_line(*line)
    )]
    NameCollision {
        /// The section at fault.
        section: SectionId,
        /// The line of the family in its text, from 1; 0 if it is not from a text.
        line: usize,
        /// The family's name.
        family: String,
        /// The name of the existing family.
        other: String,
        /// Who exposes the existing family.
        holder: Holder,
    },
    /// The series exists already.
    #[error(
        "{section}{}: series {series} is exposed {}",
        if *.line > 0 { format!(", family at line {}" , .line) } else { String::new() },
        match within {
            Some(other) if other == section => "twice".to_owned(),
            Some(other) => format!("by {other} too"),
            None => "elsewhere already".to_owned(),
        }
    )]
    DuplicateSeries {
        /// The section at fault.
        section: SectionId,
        /// The line of the family in its text, from 1; 0 if it is not from a text.
        line: usize,
        /// The series, as in a text.
        series: String,
        /// The section of the same write that has it, if one has.
        within: Option<SectionId>,
    },
}

/// Whose share of memory is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareOf {
    /// That of an address.
    Address,
    /// That of an app.
    App,
    /// That of a user, a token or a client certificate.
    User,
}

impl ShareOf {
    /// All, in order.
    pub const ALL: [ShareOf; 3] = [ShareOf::Address, ShareOf::App, ShareOf::User];

    /// The name of the table of settings.
    pub fn as_str(self) -> &'static str {
        match self {
            ShareOf::Address => "address",
            ShareOf::App => "app",
            ShareOf::User => "user",
        }
    }
}

/// The message that a write has more new sections than there is room for.
fn over_count(first: &SectionId, new: usize, limit: impl fmt::Display) -> String {
    match new {
        1 => format!("cannot add {first}: the limit of {limit} is reached"),
        _ => format!(
            "cannot add {first} and {} more together: with them the limit of {limit} is exceeded",
            new - 1
        ),
    }
}

/// The line of a family for a message; nothing if it is not from a text.
fn at_line(line: usize) -> String {
    match line {
        0 => String::new(),
        line => format!(", line {line}"),
    }
}

impl Rejection {
    /// The existing family that the write clashes with, and the field for its holder.
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
            | Rejection::ShareExceeded { section, .. }
            | Rejection::KindConflict { section, .. }
            | Rejection::NameCollision { section, .. }
            | Rejection::DuplicateSeries { section, .. } => section,
        }
    }

    /// The line at fault in the section's text, from 1. `None` if it is the text as a whole.
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
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::TooManyApps { .. } => Reason::TooManyApps,
            Rejection::TooManyGroups { .. } => Reason::TooManyGroups,
            Rejection::TooManyBytes { .. } => Reason::TooManyBytes,
            Rejection::ShareExceeded { .. } => Reason::ShareExceeded,
            Rejection::KindConflict { .. } => Reason::KindConflict,
            Rejection::NameCollision { .. } => Reason::NameCollision,
            Rejection::DuplicateSeries { .. } => Reason::DuplicateSeries,
        }
    }
}

/// Why a batch of operations was rejected. Nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchRejection {
    /// It contradicts itself or the aggregated families.
    #[error(transparent)]
    Registry(#[from] registry::Rejection),
    /// A section exposes the family with another kind.
    #[error("family {family} is {kind} here, and {held} {holder}")]
    KindConflict {
        /// The family's name.
        family: String,
        /// The kind in the batch, with its article.
        kind: &'static str,
        /// The kind of the existing family, with its article.
        held: &'static str,
        /// Who exposes the existing family.
        holder: Holder,
    },
    /// Two families would expose series of the same name.
    #[error("{}", collision(family, other))]
    NameCollision {
        /// The family's name.
        family: String,
        /// The name of the existing or reserved family.
        other: String,
    },
    /// A section exposes the series already.
    #[error("series {series} is exposed elsewhere already")]
    DuplicateSeries {
        /// The series, as in a text.
        series: String,
    },
    /// The limit of memory is reached.
    #[error("the store would hold {size} bytes; the limit is {limit} (exposition.max_total)")]
    TooManyBytes {
        /// Bytes that would be held.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
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
    fn from(rejection: &BatchRejection) -> Self {
        use crate::registry::Rejection as Registry;
        match rejection {
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
