//! What the store holds at most.

use crate::registry::RegistryLimits;

/// What the store holds at most.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Apps known at once. Targets are bounded by the configuration.
    pub apps: usize,
    /// Pushed groups known at once.
    pub groups: usize,
    /// Memory for what the registry and all sections but the proxy's own
    /// expose, in bytes: their text, and what is kept to find families and
    /// series again.
    pub bytes: usize,
    pub registry: RegistryLimits,
}

/// How much may be held, and how much of that nobody else holds: see
/// [`StoreLimits::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    pub left: usize,
    pub limit: usize,
}

impl MemoryBudget {
    /// For what is not known to be held.
    pub const UNLIMITED: MemoryBudget = MemoryBudget {
        left: usize::MAX,
        limit: usize::MAX,
    };
}
