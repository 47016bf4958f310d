//! Forwards operations over UDP or a Unix datagram socket, one datagram each.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::time::timeout;

use crate::outputs::sinks::{Report, Verdict};
use crate::reason::Reason;
use crate::settings::Address;

/// Bytes of the largest datagram over IPv4: 65,535 without the headers of IP
/// and UDP.
pub(super) const MAX_DATAGRAM: usize = 65_507;

/// Time for the receiver to read one of the datagrams that wait at its Unix socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends a datagram for each line. If nothing listens at the receiver's address, its machine
/// reports that for an earlier datagram, and the next send fails. The datagram at hand was not
/// sent then, and is sent again.
#[derive(Debug)]
pub(super) struct DatagramSink {
    receiver: DatagramReceiver,
    socket: Option<Socket>,
}

/// The destination of the datagrams.
#[derive(Debug)]
pub(super) enum DatagramReceiver {
    Udp(Address),
    Unix(PathBuf),
}

impl fmt::Display for DatagramReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatagramReceiver::Udp(address) => address.fmt(f),
            DatagramReceiver::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    async fn connect(receiver: &DatagramReceiver) -> io::Result<Self> {
        match receiver {
            DatagramReceiver::Udp(address) => connect_udp(address).await.map(Socket::Udp),
            DatagramReceiver::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Socket::Unix(socket))
            }
        }
    }

    async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Udp(socket) => socket.send(datagram).await,
            // If the receiver's socket is full, the sender waits.
            Socket::Unix(socket) => timeout(SEND_TIMEOUT, socket.send(datagram)).await?,
        }
    }
}

impl DatagramSink {
    pub(super) fn new(receiver: DatagramReceiver) -> Self {
        DatagramSink {
            receiver,
            socket: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("operations to {}", self.receiver)
    }

    pub(super) async fn send(&mut self, lines: &[Bytes]) -> Report {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => match Socket::connect(&self.receiver).await {
                Ok(socket) => self.socket.insert(socket),
                Err(error) => return Report::failed(0, error.to_string()),
            },
        };
        let mut report = Report::default();
        for line in lines {
            let datagram = line.strip_suffix(b"\n").unwrap_or(line);
            if datagram.len() > MAX_DATAGRAM {
                report.verdicts.push(Verdict::Refused(Reason::TooLarge));
                continue;
            }
            if let Err(error) = socket.send(datagram).await {
                if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
                    report.verdicts.push(Verdict::Refused(Reason::TooLarge));
                    continue;
                }
                // By now, the name may have another address.
                self.socket = None;
                report.failure = Some(error.to_string());
                break;
            }
            report.verdicts.push(Verdict::Taken);
        }
        report
    }
}

/// Binds a socket that sends to the first address of the name that has a
/// route.
async fn connect_udp(address: &Address) -> io::Result<UdpSocket> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for to in lookup_host((address.host(), address.port)).await? {
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(from).await?;
        match socket.connect(to).await {
            Ok(()) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
