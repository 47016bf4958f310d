//! A section: what one producer exposes now, and what is known of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::clock::Now;
use crate::peer::Origin;
use crate::store::families::member::Member;
use crate::store::sections::findings::Findings;

/// What is known of one producer. Its text lies in the output's pages.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub state: SectionState,
    /// Bytes of text that are exposed for it.
    pub bytes: usize,
    pub origin: Origin,
    /// What is polled, without its secrets; `None` unless it is a target.
    pub url: Option<Arc<str>>,
    /// When the text came; `None` where there never was one.
    pub updated: Option<Now>,
    /// The last thing that went wrong, however long ago.
    pub problem: Option<LastFailure>,
    /// What the inspection of its verbatim text found; mostly nothing.
    pub findings: Option<Arc<Findings>>,
    /// Whether its verbatim text waits for an inspection.
    pub(in crate::store) uninspected: bool,
    /// Memory held for it, counted against the limit.
    pub(in crate::store) weight: usize,
    /// Tells sections apart. That of one that is gone is used again.
    pub(in crate::store) serial: u32,
    /// The families it exposes samples of, sorted; none where its text is
    /// verbatim.
    pub(in crate::store) members: Arc<Vec<Member>>,
    /// When the section is withdrawn unless something comes.
    pub(in crate::store) deadline: Option<Instant>,
    /// The deadline it stands under in the queue, if it does.
    pub(in crate::store) queued: Option<Instant>,
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
            .map(|member| (&*member.family, member.updated_ms))
    }

    pub(in crate::store) fn member(&self, family: &str) -> Option<&Member> {
        let at = self
            .members
            .binary_search_by(|member| (*member.family).cmp(family));
        at.ok().map(|at| &self.members[at])
    }

    /// The same, looked for at `near` first; that is then the place after it.
    /// Who asks in the order of the names finds each at once.
    pub(in crate::store) fn member_near(&self, family: &str, near: &mut usize) -> Option<&Member> {
        let at = place_near(&self.members, family, near).ok()?;
        Some(&self.members[at])
    }

    /// Whether a removal with that condition is of this section.
    pub(in crate::store) fn is_removed(&self, unless_since: Option<Instant>) -> bool {
        unless_since.is_none_or(|since| self.updated.is_none_or(|at| at.tick < since))
    }
}

/// Something that went wrong with a producer.
#[derive(Debug, Clone)]
pub struct LastFailure {
    pub reason: String,
    pub at: Now,
}

/// How a section stands. Readers of `/apps` see these words, and
/// `docs/polling.md` explains them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SectionState {
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

impl SectionState {
    pub const ALL: [SectionState; 5] = [
        SectionState::Waiting,
        SectionState::Fresh,
        SectionState::Stale,
        SectionState::Failing,
        SectionState::Withdrawn,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            SectionState::Waiting => "waiting",
            SectionState::Fresh => "fresh",
            SectionState::Stale => "stale",
            SectionState::Failing => "failing",
            SectionState::Withdrawn => "withdrawn",
        }
    }

    /// The state after an attempt that failed.
    pub(in crate::store) fn after_failure(self) -> Self {
        match self {
            SectionState::Fresh | SectionState::Stale => SectionState::Stale,
            SectionState::Waiting | SectionState::Failing => SectionState::Failing,
            SectionState::Withdrawn => SectionState::Withdrawn,
        }
    }
}

/// Where a family is among sorted members, or would be.
pub(in crate::store) fn place_near(
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
