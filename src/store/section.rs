//! A section: what one producer exposes now, and what is known of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::family::Member;
use super::inspect::Findings;
use crate::clock::Now;
use crate::peer::Origin;

/// Names a section. Sections are exposed in the order of their ids: by name,
/// an app before a target of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId {
    pub name: Arc<str>,
    pub producer: Producer,
}

impl SectionId {
    pub fn new(name: &str, producer: Producer) -> Self {
        SectionId {
            name: Arc::from(name),
            producer,
        }
    }

    /// The section of the proxy's own metrics.
    pub fn own() -> Self {
        SectionId::new("", Producer::Own)
    }
}

impl fmt::Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.producer {
            // Its name has quotes of its own.
            Producer::Group => write!(f, "group {}", self.name),
            Producer::Target => write!(f, "target {:?}", self.name),
            Producer::App | Producer::Own => write!(f, "app {:?}", self.name),
        }
    }
}

/// What sort of producer a section is of. An app and a target may have the
/// same name, and still cannot replace one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// A sender that pushes its text.
    App,
    /// An upstream exporter that is polled.
    Target,
    /// A group of series that is pushed over HTTP. Its name is the canonical
    /// text of its labels.
    Group,
    /// The proxy itself.
    Own,
}

impl Producer {
    pub fn as_str(self) -> &'static str {
        match self {
            Producer::App => "app",
            Producer::Target => "target",
            Producer::Group => "group",
            Producer::Own => "own",
        }
    }
}

/// What is known of one producer. Its text lies in the output's pages.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub state: State,
    /// Bytes of text that are exposed for it.
    pub bytes: usize,
    pub origin: Origin,
    /// What is polled, without its secrets; `None` unless it is a target.
    pub url: Option<Arc<str>>,
    /// When the text came; `None` where there never was one.
    pub updated: Option<Now>,
    /// The last thing that went wrong, however long ago.
    pub problem: Option<Problem>,
    /// What the inspection of its verbatim text found; mostly nothing.
    pub findings: Option<Arc<Findings>>,
    /// Whether its verbatim text waits for an inspection.
    pub(super) uninspected: bool,
    /// Memory held for it, counted against the limit.
    pub(super) weight: usize,
    /// Tells sections apart. That of one that is gone is used again.
    pub(super) serial: u32,
    /// The families it exposes samples of, sorted; none where its text is
    /// verbatim.
    pub(super) members: Arc<Vec<Member>>,
    /// When the section is withdrawn unless something comes.
    pub(super) deadline: Option<Instant>,
    /// The deadline it stands under in the queue, if it does.
    pub(super) queued: Option<Instant>,
}

impl Section {
    /// When it is withdrawn if nothing comes until then, seen from `now`.
    pub fn expires(&self, now: Now) -> Option<SystemTime> {
        let left = self.deadline?.saturating_duration_since(now.tick);
        now.wall.checked_add(left)
    }

    /// Series that it exposes; 0 where its text is verbatim.
    pub fn series(&self) -> usize {
        self.members.iter().map(|member| member.series.len()).sum()
    }

    /// The families that it exposes, and when each came, in milliseconds
    /// since 1970. None where its text is verbatim.
    pub fn families(&self) -> impl Iterator<Item = (&str, u64)> {
        self.members
            .iter()
            .map(|member| (&*member.family, member.came))
    }

    pub(super) fn member(&self, family: &str) -> Option<&Member> {
        let at = self
            .members
            .binary_search_by(|member| (*member.family).cmp(family));
        at.ok().map(|at| &self.members[at])
    }

    /// The same, looked for at `near` first; that is then the place after it.
    /// Who asks in the order of the names finds each at once.
    pub(super) fn member_near(&self, family: &str, near: &mut usize) -> Option<&Member> {
        let at = place_near(&self.members, family, near).ok()?;
        Some(&self.members[at])
    }

    /// Whether a removal with that condition is of this section.
    pub(super) fn is_removed(&self, unless_since: Option<Instant>) -> bool {
        unless_since.is_none_or(|since| self.updated.is_none_or(|at| at.tick < since))
    }
}

/// Something that went wrong with a producer.
#[derive(Debug, Clone)]
pub struct Problem {
    pub reason: String,
    pub at: Now,
}

/// How a section stands. Readers of `/apps` see these words, and
/// `docs/polling.md` explains them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// A target whose first poll has not ended.
    #[default]
    Waiting,
    /// The newest text is exposed.
    Fresh,
    /// The last attempt failed; the text before it is exposed.
    Stale,
    /// Every attempt has failed, so there is no text to expose.
    Failing,
    /// Attempts failed for too long; the last text is no longer exposed.
    Withdrawn,
}

impl State {
    pub const ALL: [State; 5] = [
        State::Waiting,
        State::Fresh,
        State::Stale,
        State::Failing,
        State::Withdrawn,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Fresh => "fresh",
            State::Stale => "stale",
            State::Failing => "failing",
            State::Withdrawn => "withdrawn",
        }
    }

    /// The state after an attempt that failed.
    pub(super) fn after_failure(self) -> Self {
        match self {
            State::Fresh | State::Stale => State::Stale,
            State::Waiting | State::Failing => State::Failing,
            State::Withdrawn => State::Withdrawn,
        }
    }
}

/// Where a family is among sorted members, or would be.
pub(super) fn place_near(
    members: &[Member],
    family: &str,
    near: &mut usize,
) -> Result<usize, usize> {
    let known = members.get(*near).filter(|it| *it.family == *family);
    let place = match known {
        Some(_) => Ok(*near),
        None => members.binary_search_by(|member| (*member.family).cmp(family)),
    };
    *near = place.map_or_else(|at| at, |at| at + 1);
    place
}
