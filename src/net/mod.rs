//! Sockets: binding them, owning their files, accepting from them.
//!
//! - [`bind`]: addresses and socket paths become [`Listener`]s.
//! - [`accept`]: the one accept loop, with permits and back-off.
//! - [`Budget`]: memory that connections share.
//! - [`Stream`]: a connection that notes when it moves, and gives up on a
//!   reader that does not.
//! - [`Turns`]: places for work that takes long.

pub mod accept;
pub mod bind;
mod budget;
mod slots;
mod stream;
mod turns;
mod unix_socket;

use std::io;
use std::net::IpAddr;

use tokio::net::{TcpListener, UnixListener};

pub use accept::Connection;
pub use budget::{Budget, Held, PACE_BYTES, PACE_TIME, Pace, SMALL};
pub use slots::Slot;
pub use stream::{Socket, Stream};
pub use turns::Turns;
pub use unix_socket::SocketFile;

use crate::peer::Peer;

/// A bound socket, ready to accept.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// The file is removed when the listener is dropped.
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

    /// The address of a TCP listener.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Listener::Tcp(listener) => Some(listener.local_addr().ok()?.ip()),
            Listener::Unix(..) => None,
        }
    }

    /// Where it is spoken to over HTTP, for people.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(_) => format!("http://{}", self.address()),
            Listener::Unix(..) => format!("Unix socket {}", self.address()),
        }
    }

    /// The bound address, for the log and as the source of what comes in.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|problem| problem.to_string(), |address| address.to_string()),
            Listener::Unix(_, file) => file.path().display().to_string(),
        }
    }
}

/// Raises the soft limit on open files to the hard one, as servers may: the
/// soft one is kept low for the sake of programs that use `select`. Returns
/// the limit that now holds.
pub fn raise_file_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}
