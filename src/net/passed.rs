//! Sockets that the service manager passes to the program (socket activation).
//!
//! A listener whose configured address or path is that of a passed socket uses this socket.
//! So a socket unit repeats addresses of the configuration, which is all that links the
//! two. Connections wait in the socket while the program restarts.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

/// A passed socket that no listener has taken yet.
#[derive(Debug)]
enum Passed {
    Tcp(TcpListener, SocketAddr),
    Udp(UdpSocket, SocketAddr),
    Unix(UnixListener, PathBuf),
    UnixDatagram(UnixDatagram, PathBuf),
}

/// The passed sockets of the process. They are global, like the environment variables that
/// name them; `main` adopts them.
static PASSED: Mutex<Vec<Passed>> = Mutex::new(Vec::new());

/// Takes over the sockets that were passed to this process, for listeners that are bound later.
///
/// # Errors
///
/// A passed descriptor is not a socket that listens at an address or path.
pub fn adopt() -> io::Result<()> {
    let mut descriptors = ListenFd::from_env();
    let mut passed = Vec::new();
    for index in 0..descriptors.len() {
        passed.extend(take(&mut descriptors, index)?);
    }
    *sockets() = passed;
    Ok(())
}

/// Takes the passed socket at an index.
fn take(descriptors: &mut ListenFd, index: usize) -> io::Result<Option<Passed>> {
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(index) {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        return Ok(Some(Passed::Tcp(listener, address)));
    }
    if let Ok(Some(socket)) = descriptors.take_udp_socket(index) {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        return Ok(Some(Passed::Udp(socket, address)));
    }
    if let Ok(Some(listener)) = descriptors.take_unix_listener(index) {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or_else(without_path)?.to_owned();
        return Ok(Some(Passed::Unix(listener, path)));
    }
    if let Ok(Some(socket)) = descriptors.take_unix_datagram(index) {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let path = address.as_pathname().ok_or_else(without_path)?.to_owned();
        return Ok(Some(Passed::UnixDatagram(socket, path)));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "descriptor {} is neither a stream nor a datagram socket",
            index + FIRST_DESCRIPTOR
        ),
    ))
}

/// The number of the first passed descriptor: `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const FIRST_DESCRIPTOR: usize = 3;

fn without_path() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a passed Unix socket has no path in the file system",
    )
}

/// Takes the passed TCP listener at an address.
pub(super) fn tcp(address: SocketAddr) -> Option<TcpListener> {
    remove(|passed| match passed {
        Passed::Tcp(listener, at) if is_same(at, address) => Ok(listener),
        other => Err(other),
    })
}

/// Takes the passed UDP socket at an address.
pub(super) fn udp(address: SocketAddr) -> Option<UdpSocket> {
    remove(|passed| match passed {
        Passed::Udp(socket, at) if is_same(at, address) => Ok(socket),
        other => Err(other),
    })
}

/// Takes the passed Unix listener at a path.
pub(super) fn unix(path: &Path) -> Option<UnixListener> {
    remove(|passed| match passed {
        Passed::Unix(listener, at) if at == path => Ok(listener),
        other => Err(other),
    })
}

/// Takes the passed Unix datagram socket at a path.
pub(super) fn unix_datagram(path: &Path) -> Option<UnixDatagram> {
    remove(|passed| match passed {
        Passed::UnixDatagram(socket, at) if at == path => Ok(socket),
        other => Err(other),
    })
}

/// Closes the passed sockets that no listener has taken, and returns their addresses.
pub fn close_unused() -> Vec<String> {
    let unused = std::mem::take(&mut *sockets());
    let places = unused.iter().map(|passed| match passed {
        Passed::Tcp(_, address) => format!("TCP {address}"),
        Passed::Udp(_, address) => format!("UDP {address}"),
        Passed::Unix(_, path) | Passed::UnixDatagram(_, path) => path.display().to_string(),
    });
    places.collect()
}

/// Whether a passed socket at `passed` serves a configured address. A socket at `[::]`,
/// which socket units create for a bare port, also accepts IPv4.
fn is_same(passed: SocketAddr, configured: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    passed == configured
        || (passed.port() == configured.port()
            && passed.is_ipv6()
            && any(passed.ip())
            && any(configured.ip()))
}

/// Removes and returns the first socket that `choose` accepts.
fn remove<T>(choose: impl Fn(Passed) -> Result<T, Passed>) -> Option<T> {
    let mut sockets = sockets();
    let mut rest = Vec::with_capacity(sockets.len());
    let mut chosen = None;
    for passed in sockets.drain(..) {
        match chosen {
            None => match choose(passed) {
                Ok(socket) => chosen = Some(socket),
                Err(other) => rest.push(other),
            },
            Some(_) => rest.push(passed),
        }
    }
    *sockets = rest;
    chosen
}

fn sockets() -> MutexGuard<'static, Vec<Passed>> {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_all_addresses_is_passed_as_ipv6() {
        for (passed, configured, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "[::]:80", false),
        ] {
            let (one, other) = (passed.parse().unwrap(), configured.parse().unwrap());
            assert_eq!(is_same(one, other), expected, "{passed} {configured}");
        }
    }
}
