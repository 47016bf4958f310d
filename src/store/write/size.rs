//! Decides which writes are [large](super::large).

use crate::exposition::Content;
use crate::registry::Reservation;
use crate::store::sections::section::Section;
use crate::store::write::change::{Change, OtherFamilies, Write};

/// The number of families past which a write is large: it would hold the lock for more than
/// some milliseconds.
const MANY_FAMILIES: usize = 2048;

/// The number of series past which a write is large.
const MANY_SERIES: usize = 16 * 1024;

/// The memory in bytes past which replacing or removing a section of families is large.
const LARGE_SECTION: usize = 2 << 20;

/// Whether a reservation of the registry takes long to enter.
pub(in crate::store) fn is_large_reservation(reservation: &Reservation) -> bool {
    let size = WriteSize {
        families: reservation.added_families.len()
            + reservation.removed_families.len()
            + reservation.changed_families.len(),
        series: reservation.reserved_series.len() + reservation.released_series.len(),
    };
    size.has_many_families() || size.has_many_series()
}

/// The number of families and series in a write.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteSize {
    families: usize,
    series: usize,
}

impl WriteSize {
    pub fn has_many_families(self) -> bool {
        self.families > MANY_FAMILIES
    }

    pub fn has_many_series(self) -> bool {
        self.series > MANY_SERIES
    }
}

impl Write {
    pub(in crate::store) fn size(&self) -> WriteSize {
        let mut size = WriteSize::default();
        for change in &self.changes {
            let (Change::Replace {
                content: Content::Families(families),
                ..
            }
            | Change::Update { families, .. }) = change
            else {
                continue;
            };
            size.families += families.len();
            let series = families.iter().map(|family| family.series.len());
            size.series += series.sum::<usize>();
        }
        size
    }
}

impl Change {
    /// Whether the change may remove families from a section that has `members` of them. A
    /// replacement by as many families is assumed to keep them all.
    pub(in crate::store) fn may_remove_families(&self, members: usize) -> bool {
        match self {
            Change::Remove { .. } => true,
            Change::Replace { content, .. } => match content {
                Content::Families(families) => families.len() != members,
                Content::Verbatim(_) => true,
            },
            Change::Update {
                families,
                defaults,
                others,
                ..
            } => *others == OtherFamilies::Drop && families.len() + defaults.len() != members,
            Change::Expect { .. } | Change::Fail { .. } => false,
        }
    }
}

impl Section {
    /// Whether removing it takes long.
    pub(in crate::store) fn is_large(&self) -> bool {
        !self.members.is_empty() && self.weight > LARGE_SECTION
    }
}
