//! Binds listeners, or takes those that the service manager has [passed]. Every error
//! names the address or path, and its setting.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use crate::net::Listener;
use crate::net::passed;
use crate::net::tls::TlsError;
use crate::net::unix_socket;
use crate::net::unix_socket::SocketFile;
use crate::settings::Address;
use crate::settings::listen::{SocketMode, SocketOwner};

/// The length of the kernel's queue of connections that are not yet accepted. The kernel
/// caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP or UDP port.
    #[error("cannot listen at {address} ({setting}): {problem}")]
    Address {
        /// The address as configured.
        address: String,
        /// The setting that holds it.
        setting: &'static str,
        /// The error of the last address that was tried.
        problem: io::Error,
    },
    /// The files of a `tls` table.
    #[error("cannot use TLS ({setting}): {problem}")]
    Tls {
        /// The setting of the table.
        setting: String,
        /// What is wrong.
        problem: TlsError,
    },
    /// A Unix socket.
    #[error("cannot create the Unix socket {} ({setting}): {problem}", path.display())]
    Unix {
        /// The path for the socket's file.
        path: PathBuf,
        /// The setting that holds the path.
        setting: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Binds a TCP listener at the first address of the name that can be bound.
/// `setting` is the key of the setting, for the error.
///
/// # Errors
///
/// The name cannot be resolved, or none of its addresses can be bound.
pub async fn tcp(address: &Address, setting: &'static str) -> Result<Listener, BindError> {
    first(address, setting, listen).await.map(Listener::Tcp)
}

/// Returns the result of `bind` for the first address of the name that can be bound.
async fn first<T>(
    address: &Address,
    setting: &'static str,
    bind: fn(SocketAddr) -> io::Result<T>,
) -> Result<T, BindError> {
    let failed = |problem| BindError::Address {
        address: address.to_string(),
        setting,
        problem,
    };
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let resolved = lookup_host((address.host(), address.port)).await;
    for resolved in resolved.map_err(failed)? {
        match bind(resolved) {
            Ok(bound) => return Ok(bound),
            Err(error) => problem = error,
        }
    }
    Err(failed(problem))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if let Some(listener) = passed::tcp(address) {
        setsockopt(&listener, sockopt::KeepAlive, &true)?;
        return TcpListener::from_std(listener);
    }
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the connections of the previous run.
    socket.set_reuseaddr(true)?;
    // Connections inherit this option. It ends those whose peer has vanished, which would
    // otherwise stay open for ever.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The size of the kernel's buffer for unread datagrams, in bytes. Without `CAP_NET_ADMIN`,
/// the kernel caps it at `net.core.rmem_max`.
const DATAGRAM_BUFFER: usize = 8 << 20;

/// Binds a non-blocking UDP socket at the first address of the name that can be bound.
///
/// # Errors
///
/// The name cannot be resolved, or none of its addresses can be bound.
pub async fn udp(address: &Address, setting: &'static str) -> Result<UdpSocket, BindError> {
    let socket = first(address, setting, bind_udp).await?;
    // A smaller buffer loses more datagrams, but is not an error.
    if setsockopt(&socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &DATAGRAM_BUFFER);
    }
    Ok(socket)
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    if let Some(socket) = passed::udp(address) {
        return Ok(socket);
    }
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a Unix socket at `path` with the given owner and mode.
///
/// # Errors
///
/// The user or group does not exist, another program listens at `path`, or the
/// file cannot be made there.
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
    let (listener, file) = match passed::unix(path) {
        Some(listener) => (listener, SocketFile::of_other(path)),
        None => {
            let listener = unix_socket::bind(path, user, group, mode).map_err(failed)?;
            let file = SocketFile::new(path).map_err(|problem| failed(problem.to_string()))?;
            (listener, file)
        }
    };
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(|problem| failed(problem.to_string()))?;
    Ok(Listener::Unix(listener, file))
}

/// Binds a non-blocking Unix datagram socket at `path` with the given owner and mode.
///
/// # Errors
///
/// As for [`unix_at`].
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
    if let Some(socket) = passed::unix_datagram(path) {
        return Ok((socket, SocketFile::of_other(path)));
    }
    let socket = unix_socket::bind_datagram(path, user, group, mode).map_err(failed)?;
    let file = SocketFile::new(path).map_err(|problem| failed(problem.to_string()))?;
    socket
        .set_nonblocking(true)
        .map_err(|problem| failed(problem.to_string()))?;
    Ok((socket, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_resolved_and_the_error_for_a_taken_port_names_its_setting() {
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
