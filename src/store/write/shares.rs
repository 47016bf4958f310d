//! Checks a write against the shares of memory of its senders.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::store::rejection::{Rejection, ShareOf};
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::shares::{Owner, Shares};
use crate::store::write::changeset::SectionChangeset;

impl Shares {
    /// Checks that no sender exceeds its share by a write. A write that frees memory is
    /// accepted even if the limit is still exceeded.
    pub fn check(&self, changesets: &[SectionChangeset<'_>]) -> Result<(), Rejection> {
        let mut changes: BTreeMap<Owner, (isize, &SectionId)> = BTreeMap::new();
        for changeset in changesets {
            let before = changeset.old.map_or(0, |old| old.weight);
            let after = before + changeset.added_bytes - changeset.removed_bytes;
            if let Some(limit) = self.limits().app
                && changeset.id.producer == Producer::App
                && after > limit
                && after > before
            {
                return Err(self.exceeded(ShareOf::App, changeset.id, after, limit));
            }
            if let Some(old) = changeset.old {
                for owner in self.owners(changeset.id, &old.origin, before) {
                    changes.entry(owner).or_insert((0, changeset.id)).0 -= before as isize;
                }
            }
            if let Some(origin) = changeset.origin {
                for owner in self.owners(changeset.id, origin, after) {
                    changes.entry(owner).or_insert((0, changeset.id)).0 += after as isize;
                }
            }
        }
        for (owner, (change, id)) in changes {
            let (held, limit) = self.of(&owner);
            let size = held.saturating_add_signed(change);
            if let Some(limit) = limit
                && change > 0
                && size > limit
            {
                let of = match owner {
                    Owner::Address(_) => ShareOf::Address,
                    Owner::User(_) => ShareOf::User,
                };
                return Err(self.exceeded(of, id, size, limit));
            }
        }
        Ok(())
    }

    fn exceeded(&self, of: ShareOf, id: &SectionId, size: usize, limit: usize) -> Rejection {
        self.exceeded[of as usize].fetch_add(1, Ordering::Relaxed);
        Rejection::ShareExceeded {
            section: id.clone(),
            of,
            size,
            limit,
        }
    }
}
