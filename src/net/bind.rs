//! Binds listeners. Every error says what was to be bound, and why it was not.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use crate::net::Listener;
use crate::net::unix_socket;
use crate::net::unix_socket::SocketFile;
use crate::settings::Address;
use crate::settings::listen::{SocketMode, SocketOwner, SocketPath};

/// Connections that the kernel holds for us until they are accepted. The
/// kernel lowers it to its own bound (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen at {address} ({setting}): {problem}")]
    Tcp {
        address: String,
        setting: &'static str,
        problem: io::Error,
    },
    #[error("cannot create the Unix socket {} ({setting}): {problem}", path.display())]
    Unix {
        path: PathBuf,
        setting: &'static str,
        problem: String,
    },
}

/// Binds a TCP listener at the first address of the name that can be bound.
/// `setting` names the configuration key, for the error.
pub async fn tcp(address: &Address, setting: &'static str) -> Result<Listener, BindError> {
    let failed = |problem| BindError::Tcp {
        address: address.to_string(),
        setting,
        problem,
    };
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in lookup_host((address.host(), address.port))
        .await
        .map_err(failed)?
    {
        match listen(resolved) {
            Ok(listener) => return Ok(Listener::Tcp(listener)),
            Err(fault) => problem = fault,
        }
    }
    Err(failed(problem))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the run before it.
    socket.set_reuseaddr(true)?;
    // Connections have this from their listener. It finds out those whose other
    // side is gone without a word, which may be idle for ever.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The bytes that the kernel is asked to hold of datagrams that are not read
/// yet. Without a privilege it gives no more than `net.core.rmem_max`.
const DATAGRAM_BUFFER: usize = 8 << 20;

/// Binds a UDP socket, likewise. Calls on it do not wait.
pub async fn udp(address: &Address, setting: &'static str) -> Result<UdpSocket, BindError> {
    let failed = |problem| BindError::Tcp {
        address: address.to_string(),
        setting,
        problem,
    };
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in lookup_host((address.host(), address.port))
        .await
        .map_err(failed)?
    {
        match bind_udp(resolved) {
            Ok(socket) => {
                use nix::sys::socket::{setsockopt, sockopt};
                // More is better, and what there is will do.
                if setsockopt(&socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER).is_err() {
                    let _ = setsockopt(&socket, sockopt::RcvBuf, &DATAGRAM_BUFFER);
                }
                return Ok(socket);
            }
            Err(fault) => problem = fault,
        }
    }
    Err(failed(problem))
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Makes the receiver's Unix socket, owned as configured.
pub fn unix(
    path: &SocketPath,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
    setting: &'static str,
) -> Result<Listener, BindError> {
    unix_at(&path.chosen(), user, group, mode, setting)
}

/// Makes a Unix socket at `path`, owned as configured.
pub fn unix_at(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
    setting: &'static str,
) -> Result<Listener, BindError> {
    let failed = |problem: String| BindError::Unix {
        path: path.to_owned(),
        setting,
        problem,
    };
    let listener = unix_socket::bind(path, user, group, mode).map_err(failed)?;
    let file = SocketFile::claim(path).map_err(|problem| failed(problem.to_string()))?;
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(|problem| failed(problem.to_string()))?;
    Ok(Listener::Unix(listener, file))
}

/// Makes a Unix socket for datagrams at `path`, owned as configured. Calls on it
/// do not wait.
pub fn unix_datagram_at(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
    setting: &'static str,
) -> Result<(UnixDatagram, SocketFile), BindError> {
    let failed = |problem: String| BindError::Unix {
        path: path.to_owned(),
        setting,
        problem,
    };
    let socket = unix_socket::bind_datagram(path, user, group, mode).map_err(failed)?;
    let file = SocketFile::claim(path).map_err(|problem| failed(problem.to_string()))?;
    socket
        .set_nonblocking(true)
        .map_err(|problem| failed(problem.to_string()))?;
    Ok((socket, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_and_a_taken_port_is_explained() {
        let first = tcp(&Address::new("localhost", 0), "a.b").await.unwrap();
        let address: SocketAddr = first.address().parse().unwrap();
        assert!(address.ip().is_loopback());

        let taken = Address::new(&address.ip().to_string(), address.port());
        let error = tcp(&taken, "receiver.receiver_tcp_socket")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&taken.to_string()), "{error}");
        assert!(error.contains("receiver.receiver_tcp_socket"), "{error}");
    }
}
