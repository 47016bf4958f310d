//! Counts of authentication.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Counter, ListenerName, ResultCounts};
use crate::reason::Reason;

/// What a sender shows to authenticate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Its connection: the address, or the process at the other end of a Unix socket.
    Connection,
    /// Nothing.
    None,
    /// A user and a password.
    Password,
    /// A bearer token.
    Token,
}

impl Credential {
    /// Sorted by label.
    pub const ALL: [Credential; 4] = [
        Credential::Connection,
        Credential::None,
        Credential::Password,
        Credential::Token,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Credential::Connection => "connection",
            Credential::None => "none",
            Credential::Password => "password",
            Credential::Token => "token",
        }
    }
}

/// Counts of authentication.
#[derive(Debug, Default)]
pub struct SecurityStats {
    /// Passwords compared with a hash; remembered ones are not counted.
    pub password_checks: Counter,
    /// Whether a changed file of `[web]` is not in use, because it is invalid or cannot be
    /// read.
    pub file_is_stale: AtomicBool,
    /// Results, by [`Credential`].
    results: [ResultCounts; Credential::ALL.len()],
    /// Whether anyone on the network can write, in the order of [`ListenerName::ALL`].
    open: [AtomicBool; ListenerName::ALL.len()],
    /// Whether anyone on the network can write over UDP.
    open_udp: AtomicBool,
}

impl SecurityStats {
    /// Counts a request or connection that needs authentication.
    pub fn count(&self, credential: Credential, result: Result<(), Reason>) {
        self.results[credential as usize].count(result, 1);
    }

    /// The counts, by the labels `credential` and `result`.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let credentials = Credential::ALL.iter().zip(&self.results);
        let counts = credentials.flat_map(|(credential, results)| {
            let counts = results.counts().into_iter();
            counts.map(|(result, count)| (credential.as_str(), result, count))
        });
        counts.collect()
    }

    /// Forgets which listeners are open, before all are checked again.
    pub fn clear_open(&self) {
        for open in self.open.iter().chain([&self.open_udp]) {
            open.store(false, Ordering::Relaxed);
        }
    }

    /// Records that anyone on the network can write to a listener; `None` for operations
    /// over UDP.
    pub fn set_open(&self, listener: Option<ListenerName>) {
        let place = listener.and_then(|name| ListenerName::ALL.iter().position(|it| *it == name));
        match place {
            Some(place) => self.open[place].store(true, Ordering::Relaxed),
            None => self.open_udp.store(true, Ordering::Relaxed),
        }
    }

    /// Each listener that takes writes over TCP or UDP, and whether anyone on the network
    /// can write to it.
    pub fn open(&self) -> Vec<(&'static str, bool)> {
        let read = |open: &AtomicBool| open.load(Ordering::Relaxed);
        let all = ListenerName::ALL.iter().zip(&self.open);
        let network = all.filter(|(name, _)| {
            let others = [
                ListenerName::Lifecycle,
                ListenerName::OperationsUnix,
                ListenerName::Unix,
            ];
            !others.contains(name)
        });
        let mut open: Vec<_> = network
            .map(|(name, open)| (name.as_str(), read(open)))
            .collect();
        open.push(("operations_udp", read(&self.open_udp)));
        open
    }
}
