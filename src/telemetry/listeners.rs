//! Connections, by listener.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Counter;

/// The sockets that the proxy listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    Tcp,
    Unix,
    Http,
    Push,
    OperationsTcp,
    /// All Unix sockets for operations together.
    OperationsUnix,
}

impl ListenerName {
    /// The setting that bounds its connections.
    pub fn setting(self) -> &'static str {
        match self {
            ListenerName::Tcp | ListenerName::Unix => "exporter.concurrent_requests",
            ListenerName::Http | ListenerName::Push => "exporter.max_connections",
            ListenerName::OperationsTcp | ListenerName::OperationsUnix => {
                "operations.concurrent_connections"
            }
        }
    }

    /// In the order of their names.
    pub const ALL: [ListenerName; 6] = [
        ListenerName::Http,
        ListenerName::OperationsTcp,
        ListenerName::OperationsUnix,
        ListenerName::Push,
        ListenerName::Tcp,
        ListenerName::Unix,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ListenerName::Tcp => "tcp",
            ListenerName::Unix => "unix",
            ListenerName::Http => "http",
            ListenerName::Push => "push",
            ListenerName::OperationsTcp => "operations_tcp",
            ListenerName::OperationsUnix => "operations_unix",
        }
    }
}

/// Counts of one listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    pub accepted: Counter,
    pub accept_errors: Counter,
    /// By [`Eviction`].
    evicted: [Counter; Eviction::ALL.len()],
    pub open: AtomicUsize,
    /// Connections that may be open.
    pub max: AtomicUsize,
}

/// Why a connection is closed so that others are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// It made no progress.
    Idle,
    /// Its address holds more than its share.
    Share,
    /// It waited for a place in vain.
    Full,
    /// The listener could not accept, for want of descriptors or memory.
    AcceptError,
}

impl Eviction {
    pub const ALL: [Eviction; 4] = [
        Eviction::Idle,
        Eviction::Share,
        Eviction::Full,
        Eviction::AcceptError,
    ];

    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Eviction::Idle => "idle",
            Eviction::Share => "share",
            Eviction::Full => "full",
            Eviction::AcceptError => "accept_error",
        }
    }
}

impl ListenerStats {
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    pub fn count_evicted(&self, why: Eviction) {
        self.evicted[why as usize].add(1);
    }

    pub fn evicted(&self, why: Eviction) -> u64 {
        self.evicted[why as usize].value()
    }
}
