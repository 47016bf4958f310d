//! Limits of the store.

use crate::registry::RegistryLimits;

/// Limits of the store. A write or batch past a limit is rejected.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Maximum number of apps. Targets are bounded by the configuration.
    pub apps: usize,
    /// Maximum number of pushed groups.
    pub groups: usize,
    /// Maximum memory of the registry and of all sections but the proxy's own, in bytes: their
    /// text, and what is kept to find families and series.
    pub bytes: usize,
    /// The limits of aggregated families.
    pub registry: RegistryLimits,
}

impl StoreLimits {
    /// The limits of a store that has only the proxy's own metrics.
    pub fn own_metrics_only() -> Self {
        StoreLimits {
            apps: 0,
            groups: 0,
            bytes: 0,
            registry: RegistryLimits::default(),
        }
    }
}

/// How much of the memory one sender may hold, in bytes. `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareLimits {
    /// By one address: an IPv4 address, or a /64 network of IPv6.
    pub address: Option<usize>,
    /// Whether that applies to this machine: to the loopback, and to each user at Unix
    /// sockets.
    pub loopback: bool,
    /// By one app.
    pub app: Option<usize>,
    /// By one user, token or client certificate.
    pub user: Option<usize>,
}

impl ShareLimits {
    /// Whether there are any limits.
    pub fn is_any(&self) -> bool {
        self.address.or(self.app).or(self.user).is_some()
    }
}

/// The memory that a section may take; see [`StoreLimits::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLeft {
    /// Bytes that are not taken by others.
    pub left: usize,
    /// The limit, in bytes, for messages.
    pub limit: usize,
}

impl MemoryLeft {
    /// A budget that bounds nothing.
    pub const UNLIMITED: MemoryLeft = MemoryLeft {
        left: usize::MAX,
        limit: usize::MAX,
    };
}
