//! A section: the state of one producer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::peer::Origin;
use crate::store::families::member::Member;
use crate::store::sections::findings::Findings;

/// The state of one producer. Its text is in the pages of the output.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Whether its text is exposed, and how the last attempt to update it ended.
    pub state: SectionState,
    /// Bytes of text that it exposes.
    pub bytes: usize,
    /// The listener and the sender of its last update.
    pub origin: Origin,
    /// The URL that is polled, without secrets; `None` unless it is a target.
    pub url: Option<Arc<str>>,
    /// When the text was received; `None` if there never was one.
    pub updated: Option<Now>,
    /// The last failure, however long ago.
    pub problem: Option<LastFailure>,
    /// What the inspection of its verbatim text found; `None` for nothing.
    pub findings: Option<Arc<Findings>>,
    /// Whether its verbatim text waits for inspection.
    pub(in crate::store) uninspected: bool,
    /// Whether it waits to be copied for storage.
    pub(in crate::store) is_noted: bool,
    /// Its memory in bytes, as it counts against [`StoreLimits::bytes`](
    /// crate::store::StoreLimits::bytes).
    pub(in crate::store) weight: usize,
    /// A number that identifies it among the owners of series. It is reused after the
    /// section is gone.
    pub(in crate::store) serial: u32,
    /// The families that it exposes, sorted by name; none if its text is verbatim.
    pub(in crate::store) members: Arc<Vec<Member>>,
    /// When the section is withdrawn, unless it is updated before.
    pub(in crate::store) deadline: Option<Instant>,
    /// The time of its entry in the queue of deadlines.
    pub(in crate::store) queued: Option<Instant>,
}

impl Section {
    /// The wall time at which it is withdrawn, unless it is updated before.
    pub fn expires(&self, now: Now) -> Option<SystemTime> {
        let left = self.deadline?.saturating_duration_since(now.tick);
        now.wall.checked_add(left)
    }

    /// The number of series that it exposes; 0 if its text is verbatim.
    pub fn series(&self) -> usize {
        self.members.iter().map(|member| member.series.len()).sum()
    }

    /// The families that it exposes, and when each was received, in milliseconds since
    /// 1970. None if its text is verbatim.
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

    /// Like [`member`](Self::member), but looks at index `near` first, and sets it to the
    /// index after the result. So looking up names in order needs no search.
    pub(in crate::store) fn member_near(&self, family: &str, near: &mut usize) -> Option<&Member> {
        let at = place_near(&self.members, family, near).ok()?;
        Some(&self.members[at])
    }

    /// Whether a removal with this condition applies to the section: it was not updated at
    /// or after `unless_since`.
    pub(in crate::store) fn is_removed(&self, unless_since: Option<Instant>) -> bool {
        unless_since.is_none_or(|since| self.updated.is_none_or(|at| at.tick < since))
    }
}

/// The last failure of a producer.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// The message for people.
    pub reason: String,
    /// When it happened.
    pub at: Now,
}

/// The state of a section. `/apps` shows these words, and `docs/polling.md` explains them.
///
/// Storage keeps a state as its number in this order, so new ones come last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// Attempts failed for too long, so the last text is no longer exposed.
    Withdrawn,
}

impl SectionState {
    /// All states, in the order of their numbers.
    pub const ALL: [SectionState; 5] = [
        SectionState::Waiting,
        SectionState::Fresh,
        SectionState::Stale,
        SectionState::Failing,
        SectionState::Withdrawn,
    ];

    /// The word for this state.
    pub fn as_str(self) -> &'static str {
        match self {
            SectionState::Waiting => "waiting",
            SectionState::Fresh => "fresh",
            SectionState::Stale => "stale",
            SectionState::Failing => "failing",
            SectionState::Withdrawn => "withdrawn",
        }
    }

    /// The state after a failed attempt.
    pub(in crate::store) fn after_failure(self) -> Self {
        match self {
            SectionState::Fresh | SectionState::Stale => SectionState::Stale,
            SectionState::Waiting | SectionState::Failing => SectionState::Failing,
            SectionState::Withdrawn => SectionState::Withdrawn,
        }
    }
}

/// The index of a family among sorted members, or the index to insert it at. Looks at
/// index `near` first, and sets it to the index after the result.
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
