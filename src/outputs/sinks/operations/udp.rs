//! Forwards operations over UDP, one datagram each.

use std::io;

use bytes::Bytes;
use nix::errno::Errno;
use tokio::net::{UdpSocket, lookup_host};

use crate::outputs::sinks::{Report, Verdict};
use crate::reason::Reason;
use crate::settings::Address;

/// Bytes of the largest datagram over IPv4: 65,535 without the headers of IP
/// and UDP.
pub(super) const MAX_DATAGRAM: usize = 65_507;

/// Sends a datagram for each line. If nothing listens at the receiver's address, its
/// machine reports that for an earlier datagram, and the next send fails. The datagram
/// at hand was not sent then, and comes again.
#[derive(Debug)]
pub(super) struct UdpSink {
    address: Address,
    socket: Option<UdpSocket>,
}

impl UdpSink {
    pub(super) fn new(address: Address) -> Self {
        UdpSink {
            address,
            socket: None,
        }
    }
}

impl UdpSink {
    pub(super) fn name(&self) -> String {
        format!("operations to {}", self.address)
    }

    pub(super) async fn send(&mut self, lines: &[Bytes]) -> Report {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => match connect(&self.address).await {
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
                // The name may have another address by now.
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
async fn connect(address: &Address) -> io::Result<UdpSocket> {
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
