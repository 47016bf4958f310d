//! Memory that all connections of a kind share.

use std::sync::Arc;

use crate::telemetry::Level;

/// Memory that what is not whole yet may take, of all connections together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Arc<Level>,
}

impl Budget {
    /// What is taken is added to `used`, for all to see.
    pub fn new(limit: usize, used: Arc<Level>) -> Self {
        Budget { limit, used }
    }

    /// Takes `bytes` more, if they are there.
    pub fn take(&self, bytes: usize) -> bool {
        self.used.rise(bytes, self.limit)
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.fall(bytes);
    }

    pub fn used(&self) -> usize {
        self.used.value()
    }
}
