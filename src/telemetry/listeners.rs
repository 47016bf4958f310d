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
    /// Connections closed to make room for others.
    pub evicted: Counter,
    pub open: AtomicUsize,
}

impl ListenerStats {
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}
