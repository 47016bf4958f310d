//! What each sender holds, against its share of memory.
//!
//! A section counts for the sender of its last update. Aggregated series belong to many
//! senders and count for none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::peer::{Origin, Sender};
use crate::store::limits::ShareLimits;
use crate::store::rejection::ShareOf;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::{Producer, SectionId};

/// Memory by sender.
#[derive(Debug)]
pub struct Shares {
    limits: ShareLimits,
    held: HashMap<Owner, usize>,
    /// Rejected writes.
    pub exceeded: Arc<ShareCounts>,
}

/// How often shares were exceeded, by [`ShareOf`].
pub type ShareCounts = [AtomicU64; ShareOf::ALL.len()];

/// The owner of a share that a section counts against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// An address, or a user of this machine.
    Address(Sender),
    /// A user, a token or a client certificate.
    User(Arc<str>),
}

impl Shares {
    /// Counts these sections. Rejected writes are counted in `exceeded`.
    pub fn new<'s>(
        limits: ShareLimits,
        exceeded: &Arc<ShareCounts>,
        sections: impl Iterator<Item = (&'s SectionId, &'s Section)>,
    ) -> Self {
        let mut shares = Shares {
            limits,
            held: HashMap::new(),
            exceeded: Arc::clone(exceeded),
        };
        for (id, section) in sections {
            shares.add(id, section);
        }
        shares
    }

    /// Counts a section.
    pub fn add(&mut self, id: &SectionId, section: &Section) {
        for owner in self.owners(id, &section.origin, section.weight) {
            *self.held.entry(owner).or_default() += section.weight;
        }
    }

    /// No longer counts a section as it is.
    pub fn subtract(&mut self, id: &SectionId, section: &Section) {
        for owner in self.owners(id, &section.origin, section.weight) {
            if let Some(held) = self.held.get_mut(&owner) {
                *held = held.saturating_sub(section.weight);
                if *held == 0 {
                    self.held.remove(&owner);
                }
            }
        }
    }

    /// The owners of a section of `weight` bytes whose shares are limited.
    pub fn owners(
        &self,
        id: &SectionId,
        origin: &Origin,
        weight: usize,
    ) -> impl Iterator<Item = Owner> + use<> {
        let counts = weight > 0 && matches!(id.producer, Producer::App | Producer::Group);
        let sender = Sender::from(origin.peer);
        let has_address =
            counts && self.limits.address.is_some() && (self.limits.loopback || !sender.is_local());
        let address = has_address.then_some(Owner::Address(sender));
        let has_user = counts && self.limits.user.is_some();
        let user = origin.user.as_ref().filter(|_| has_user);
        let user = user.map(|user| Owner::User(Arc::clone(user)));
        address.into_iter().chain(user)
    }

    /// The limits of shares.
    pub fn limits(&self) -> &ShareLimits {
        &self.limits
    }

    /// Bytes that an owner holds, and its limit.
    pub fn of(&self, owner: &Owner) -> (usize, Option<usize>) {
        let limit = match owner {
            Owner::Address(_) => self.limits.address,
            Owner::User(_) => self.limits.user,
        };
        (self.held.get(owner).copied().unwrap_or_default(), limit)
    }

    #[cfg(test)]
    pub fn held(&self) -> &HashMap<Owner, usize> {
        &self.held
    }
}
