//! Receives the body of a response, within its own limit and that of all bodies together.

use std::sync::{Arc, LazyLock};

use super::kept;
use crate::net::{BudgetShare, MemoryBudget};
use crate::telemetry::POLL_RECEIVED;

/// The limit on bytes of all responses together, of targets and lists, that are being
/// received or processed.
pub const MAX_RECEIVED: usize = 512 << 20;

/// The budget that all responses share.
static RECEIVED: LazyLock<Arc<MemoryBudget>> =
    LazyLock::new(|| Arc::new(MemoryBudget::new(MAX_RECEIVED, Arc::clone(&POLL_RECEIVED))));

/// A body that is being received.
#[derive(Debug)]
pub struct ReceivedBody {
    bytes: Vec<u8>,
    max: usize,
    share: BudgetShare,
}

/// The limit that a body exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// Its own limit.
    Own,
    /// The limit of all together.
    All,
}

impl ReceivedBody {
    /// An empty body with a limit of `max` bytes.
    pub fn new(max: usize) -> Self {
        ReceivedBody {
            bytes: Vec::new(),
            max,
            share: BudgetShare::new(&RECEIVED),
        }
    }

    /// Prepares for a body of `length` bytes, before the first of them. Until it is filled, new
    /// capacity takes no physical memory.
    pub fn reserve(&mut self, length: usize) {
        self.bytes = kept::take(length.min(self.max));
    }

    /// Adds bytes that have arrived.
    pub fn extend(&mut self, data: &[u8]) -> Result<(), BodyLimit> {
        if self.bytes.len() + data.len() > self.max {
            return Err(BodyLimit::Own);
        }
        if !self.share.grow(data.len()) {
            return Err(BodyLimit::All);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Returns the body, and its share of the budget, to hold until the body is processed.
    pub fn finish(mut self) -> (Vec<u8>, BudgetShare) {
        if !kept::fits(self.bytes.capacity(), self.bytes.len()) {
            self.bytes.shrink_to_fit();
        }
        (self.bytes, self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_limit_of_its_own_and_a_share_of_that_of_all() {
        let budget = Arc::new(MemoryBudget::new(5, Arc::default()));
        let body = || ReceivedBody {
            share: BudgetShare::new(&budget),
            ..ReceivedBody::new(4)
        };
        let (mut one, mut other) = (body(), body());
        assert_eq!(one.extend(b"abcde"), Err(BodyLimit::Own));
        assert_eq!(one.extend(b"abc"), Ok(()));
        assert_eq!(one.extend(b"de"), Err(BodyLimit::Own));
        assert_eq!(other.extend(b"abc"), Err(BodyLimit::All));
        assert_eq!(other.extend(b"ab"), Ok(()));
        let (bytes, share) = one.finish();
        assert_eq!((&*bytes, share.bytes()), (&b"abc"[..], 3));
        assert_eq!(other.extend(b"c"), Err(BodyLimit::All));
        drop(share);
        assert_eq!(other.extend(b"c"), Ok(()));
    }
}
