//! How much long work is done at once. What waits for a place waits in order.

use crate::net::Turns;

/// Places for the long work of all HTTP listeners. Each kind has its own, so
/// that none keeps another waiting.
#[derive(Debug)]
pub struct Places {
    /// Steps of lists, and what else is looked for in all that is held.
    pub lists: Turns,
    /// Forms of `/metrics` that are made for one reader, each a copy.
    pub scrapes: Turns,
    /// Bodies of pushes that are large, which take their own size in memory
    /// again a few times over.
    pub bodies: Turns,
    /// Bodies of values, which may take seconds, and hundreds of megabytes.
    pub values: Turns,
    /// Bodies of webhooks: JSON of few bytes may be much in memory.
    pub webhooks: Turns,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            lists: Turns::new(2),
            scrapes: Turns::new(4),
            bodies: Turns::new(4),
            values: Turns::new(1),
            webhooks: Turns::new(1),
        }
    }
}
