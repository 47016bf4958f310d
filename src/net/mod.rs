//! Listeners and connections, for every protocol.
//!
//! - [`bind`]: makes [`Listener`]s from addresses and socket paths.
//! - [`listeners`]: the listeners of one part of the program; a reload adds and removes
//!   them.
//! - [`accept`]: the accept loop, which gives each [`Connection`] a [`Permit`].
//! - [`passed`]: sockets that the service manager passes in.
//! - `permits`: connection permits, and eviction when they run out.
//! - [`Stream`]: a connection's bytes, with a timeout for writes; [`tls`] encrypts them.
//! - [`turn_away`]: ends a connection so that its last bytes arrive.
//! - [`MemoryBudget`]: memory that connections share.
//! - [`BlockingPool`]: runs long work off the serving threads.

pub mod accept;
pub mod bind;
mod blocking;
mod budget;
mod farewell;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod listeners;
pub mod passed;
mod permits;
mod proxy_header;
mod stream;
pub mod tls;
mod unix_socket;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, UnixListener};

pub use accept::Connection;
pub use blocking::{BlockingPool, INLINE_BYTES};
pub use budget::{BudgetShare, MemoryBudget, MinimumRate, RATE_BYTES, RATE_PERIOD, SMALL_MESSAGE};
pub use farewell::{turn_away, write_last};
pub use permits::{Permit, Permits, Progress};
pub use proxy_header::Balancers;
pub use stream::{PlainStream, Socket, Stream};
pub use unix_socket::SocketFile;

use crate::peer::Peer;

/// A bound socket, ready to accept.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket. Dropping the listener removes its file.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Peer::Tcp(address)))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().map_or(Peer::Unknown, |cred| Peer::Unix {
                    pid: cred.pid(),
                    uid: cred.uid(),
                });
                Ok((Socket::Unix(stream), peer))
            }
        }
    }

    /// The IP address of a TCP listener.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_address().map(|address| address.ip())
    }

    /// The address of a TCP listener.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }

    /// The bound address or path, for the log and as the source recorded with messages.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            Listener::Unix(_, file) => file.path().display().to_string(),
        }
    }
}

/// The first byte of a TLS connection: a handshake record.
pub const HANDSHAKE_RECORD: u8 = 22;

/// Whether a connection begins with a TLS handshake: such a record of version 3.x.
/// No valid message begins like this.
pub fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.starts_with(&[HANDSHAKE_RECORD, 3])
}

/// Raises the soft limit on open files to the hard limit, and returns the resulting limit.
/// The soft limit is low by default only because of programs that use `select`.
pub fn raise_file_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}
