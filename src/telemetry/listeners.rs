//! Counts of connections, by listener.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Counter;

/// The sockets that the proxy listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    /// The receivers' TCP port.
    Tcp,
    /// The receivers' Unix socket.
    Unix,
    /// The HTTP port that serves scrapes.
    Http,
    /// The HTTP listener for pushes, if it is a separate one.
    Push,
    /// The TCP port for operations.
    OperationsTcp,
    /// All Unix stream sockets for operations.
    OperationsUnix,
}

impl ListenerName {
    /// The setting that limits its connections.
    pub fn setting(self) -> &'static str {
        match self {
            ListenerName::Tcp | ListenerName::Unix => "exporter.concurrent_requests",
            ListenerName::Http | ListenerName::Push => "exporter.max_connections",
            ListenerName::OperationsTcp | ListenerName::OperationsUnix => {
                "operations.concurrent_connections"
            }
        }
    }

    /// Sorted by label.
    pub const ALL: [ListenerName; 6] = [
        ListenerName::Http,
        ListenerName::OperationsTcp,
        ListenerName::OperationsUnix,
        ListenerName::Push,
        ListenerName::Tcp,
        ListenerName::Unix,
    ];

    /// The listener as a label value and in the log.
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
    /// Connections accepted.
    pub accepted: Counter,
    /// Failures to accept a connection.
    pub accept_errors: Counter,
    /// By [`Eviction`].
    evicted: [Counter; Eviction::ALL.len()],
    /// Open connections.
    pub open: AtomicUsize,
    /// The limit on open connections.
    pub max: AtomicUsize,
}

/// Why a connection was closed to make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// It made no progress.
    Idle,
    /// Its address had more than its share.
    Share,
    /// It found no free permit in time.
    Full,
    /// It was idle when file descriptors or memory ran out.
    AcceptError,
}

impl Eviction {
    /// All reasons, in order of their discriminants.
    pub const ALL: [Eviction; 4] = [
        Eviction::Idle,
        Eviction::Share,
        Eviction::Full,
        Eviction::AcceptError,
    ];

    /// The label value.
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
    /// The number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The limit on open connections; 0 if the listener is off.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Counts an evicted connection.
    pub fn count_evicted(&self, why: Eviction) {
        self.evicted[why as usize].add(1);
    }

    /// The number of connections evicted for that reason.
    pub fn evicted(&self, why: Eviction) -> u64 {
        self.evicted[why as usize].value()
    }
}
