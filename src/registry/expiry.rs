//! Removes series whose time to live is over.

use std::sync::Arc;
use std::time::Instant;

use super::family::SeriesAddress;
use super::planner::each_line_hash;
use super::reservation::Reservation;
use super::time::NEVER;
use super::weight::{family_weight, series_weight};
use super::{BlockId, Registry};

impl Registry {
    /// Whether [`Registry::expire`] has something to do.
    pub fn is_due(&self, now: Instant) -> bool {
        let now = self.time(now);
        self.expiry_queue
            .first()
            .is_some_and(|(due, _)| *due <= now)
    }

    /// Removes series that have expired, from at most 128 blocks; call it again
    /// while [`Registry::is_due`].
    ///
    /// Returns the number of removed series, and what they give back. The number may be 0 although
    /// the registry was due, since a block is checked early after its series got a later deadline.
    pub fn expire(&mut self, now: Instant) -> (usize, Reservation) {
        const MAX_BLOCKS: usize = 128;
        self.advance(now);
        let mut released = Reservation::default();
        let before = self.series;
        let mut buffer = String::new();
        for _ in 0..MAX_BLOCKS {
            let Some((due, block)) = self.expiry_queue.first().copied() else {
                break;
            };
            if due > self.now {
                break;
            }
            self.expire_block(block, &mut buffer, &mut released);
        }
        self.weight -= released.released_bytes;
        (before - self.series, released)
    }

    fn expire_block(&mut self, block_id: BlockId, buffer: &mut String, released: &mut Reservation) {
        let (id, number) = block_id;
        let now = self.now;
        let Some(family) = self.families[id as usize].as_deref() else {
            return;
        };
        let Some(block) = family.block(number) else {
            return;
        };
        self.expiry_queue.remove(&(block.expiry, block_id));
        let mut expired = Vec::new();
        for slot in block.expired(now) {
            let state = block.state(slot);
            let labels = block.labels().get(slot).unwrap_or_default();
            let mut release = |hash| released.released_series.push(hash);
            each_line_hash(
                &self.hasher,
                &family.name,
                labels,
                &state,
                buffer,
                &mut release,
            );
            released.released_bytes += series_weight(&family.name, labels, &state);
            expired.push(SeriesAddress::new(number, slot));
        }
        if expired.len() == family.len() {
            released.removed_families.push(Arc::clone(&family.name));
            released.released_bytes += family_weight(&family.name, family.help.as_deref());
        }
        if let Some(block) = self.block_mut(block_id) {
            block.expiry = NEVER;
        }
        for address in expired {
            self.remove_series(id, address);
        }
        if let Some(block) = self.block_mut(block_id) {
            let next = block.next_deadline();
            block.expiry = next;
            if next != NEVER {
                self.expiry_queue.insert((next, block_id));
            }
        }
        self.remove_if_empty(id);
    }
}
