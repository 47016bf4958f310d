//! Counts of connections, by listener.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::Counter;
use super::results::ResultCounts;

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
    /// The HTTP listener for health checks and own metrics.
    Lifecycle,
    /// The TCP port for operations.
    OperationsTcp,
    /// All Unix stream sockets for operations.
    OperationsUnix,
}

impl ListenerName {
    /// The setting that limits the connections of this listener.
    pub fn setting(self) -> &'static str {
        match self {
            ListenerName::Tcp | ListenerName::Unix => "exporter.concurrent_requests",
            ListenerName::Http | ListenerName::Push | ListenerName::Lifecycle => {
                "exporter.max_connections"
            }
            ListenerName::OperationsTcp | ListenerName::OperationsUnix => {
                "operations.concurrent_connections"
            }
        }
    }

    /// All listeners, sorted by label.
    pub const ALL: [ListenerName; 7] = [
        ListenerName::Http,
        ListenerName::Lifecycle,
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
            ListenerName::Lifecycle => "lifecycle",
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
    /// Completed TLS handshakes.
    pub handshakes: Counter,
    /// Headers of the PROXY protocol.
    pub proxy_headers: ResultCounts,
    /// Failed TLS handshakes, by [`HandshakeFailure`].
    failed_handshakes: [Counter; HandshakeFailure::ALL.len()],
    /// Evicted connections, by [`Eviction`].
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

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client did not begin one.
    NotTls,
    /// It was not completed in time.
    Timeout,
    /// The connection ended.
    Closed,
    /// The client and the listener have no version, cipher or protocol in common.
    Unsupported,
    /// The client has no certificate, and the listener demands one.
    NoCertificate,
    /// The certificate of the client is not accepted.
    BadCertificate,
    /// The client rejected the certificate of the listener.
    Rejected,
    /// The client broke the protocol.
    Protocol,
}

impl HandshakeFailure {
    /// All reasons, in order of their discriminants.
    pub const ALL: [HandshakeFailure; 8] = [
        HandshakeFailure::NotTls,
        HandshakeFailure::Timeout,
        HandshakeFailure::Closed,
        HandshakeFailure::Unsupported,
        HandshakeFailure::NoCertificate,
        HandshakeFailure::BadCertificate,
        HandshakeFailure::Rejected,
        HandshakeFailure::Protocol,
    ];

    /// The label value, and the word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            HandshakeFailure::NotTls => "not_tls",
            HandshakeFailure::Timeout => "timeout",
            HandshakeFailure::Closed => "closed",
            HandshakeFailure::Unsupported => "unsupported",
            HandshakeFailure::NoCertificate => "no_certificate",
            HandshakeFailure::BadCertificate => "bad_certificate",
            HandshakeFailure::Rejected => "rejected_by_client",
            HandshakeFailure::Protocol => "protocol",
        }
    }
}

/// Counts of one certificate, with the setting that names it.
#[derive(Debug)]
pub struct CertificateStats {
    /// The setting of the `tls` table, such as `receiver.tls`.
    pub setting: String,
    /// When the certificate expires, in seconds since 1970.
    pub expiry: AtomicU64,
    /// Whether the files as they are now could be read when last looked at.
    pub is_current: AtomicBool,
    /// Changed files that are in use.
    pub reloads: Counter,
    /// Changed files that cannot be used.
    pub failed_reloads: Counter,
}

impl CertificateStats {
    /// The counts of a certificate that has just been read.
    pub fn new(setting: &str, expiry: u64) -> Self {
        CertificateStats {
            setting: setting.to_owned(),
            expiry: AtomicU64::new(expiry),
            is_current: AtomicBool::new(true),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
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

    /// Counts a TLS handshake that failed.
    pub fn count_failed_handshake(&self, why: HandshakeFailure) {
        self.failed_handshakes[why as usize].add(1);
    }

    /// The number of TLS handshakes that failed for that reason.
    pub fn failed_handshakes(&self, why: HandshakeFailure) -> u64 {
        self.failed_handshakes[why as usize].value()
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
