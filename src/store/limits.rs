//! Limits of the store.

use crate::registry::RegistryLimits;

/// Limits of the store. A write or batch past a limit is rejected.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// The most apps. Targets are bounded by the configuration.
    pub apps: usize,
    /// The most pushed groups.
    pub groups: usize,
    /// The most memory for the registry and for all sections but the proxy's own, in bytes:
    /// their text, and what is kept to find families and series.
    pub bytes: usize,
    /// The limits of aggregated families.
    pub registry: RegistryLimits,
}

/// The memory that a section may take; see [`StoreLimits::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Bytes that are not taken by others.
    pub left: usize,
    /// The limit, in bytes, for messages.
    pub limit: usize,
}

impl MemoryBudget {
    /// A budget that bounds nothing.
    pub const UNLIMITED: MemoryBudget = MemoryBudget {
        left: usize::MAX,
        limit: usize::MAX,
    };
}
