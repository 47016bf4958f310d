//! Who sent a message, and to which listener.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where a message came from: the listener and the sender.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The address or path of the listener; for a polled target,
    /// `external_poll: host:port`.
    pub source: Arc<str>,
    /// The sender.
    pub peer: Peer,
    /// The user that the sender authenticated as: a user, a token or a client certificate. For
    /// limits only, not shown to people.
    pub user: Option<Arc<str>>,
}

impl Default for Origin {
    fn default() -> Self {
        Origin {
            source: Arc::from(""),
            peer: Peer::Unknown,
            user: None,
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The remote address.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix {
        /// `None` if the kernel does not report it.
        pid: Option<i32>,
        /// The user that the process runs as.
        uid: u32,
    },
    /// A client named by a trusted reverse proxy.
    Forwarded(IpAddr),
    /// The transport names no sender.
    Unknown,
}

impl Peer {
    /// The IP address, if the peer has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Forwarded(address) => Some(address),
            Peer::Unix { .. } | Peer::Unknown => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix {
                pid: Some(pid),
                uid,
            } => write!(f, "pid {pid}, uid {uid}"),
            Peer::Unix { pid: None, uid } => write!(f, "uid {uid}"),
            Peer::Forwarded(address) => address.fmt(f),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

/// A sender as limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// An IPv4 address, or the /64 network of an IPv6 subscriber.
    Address(IpAddr),
    /// A user of this machine.
    User(u32),
    /// The transport names no sender.
    Unknown,
}

impl Sender {
    /// Whether the sender is on this machine.
    pub fn is_local(self) -> bool {
        match self {
            Sender::Address(ip) => ip.is_loopback(),
            Sender::User(_) | Sender::Unknown => true,
        }
    }
}

impl From<Peer> for Sender {
    fn from(peer: Peer) -> Self {
        /// An IPv6 subscriber chooses the lower 64 bits of its addresses freely.
        const NETWORK: u128 = !0 << 64;
        if let Some(address) = peer.ip() {
            return Sender::Address(match address.to_canonical() {
                IpAddr::V6(ip) if !ip.is_loopback() => {
                    IpAddr::V6((u128::from(ip) & NETWORK).into())
                }
                ip => ip,
            });
        }
        match peer {
            Peer::Unix { uid, .. } => Sender::User(uid),
            _ => Sender::Unknown,
        }
    }
}

/// The names in a certificate that a client presented and the proxy verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// The subject alternative names: DNS names, addresses, e-mail addresses and URIs,
    /// as text.
    pub alternative_names: Vec<String>,
}

impl ClientIdentity {
    /// The alternative names, or the common name of a certificate without them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let common = self.common_name.as_deref();
        let common = common.filter(|_| self.alternative_names.is_empty());
        let names = self.alternative_names.iter().map(String::as_str);
        names.chain(common)
    }
}

impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.names()
                .next()
                .unwrap_or("a certificate without a name"),
        )
    }
}
