//! The sockets at which operations are taken.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::datagrams::{self, DatagramSocket};
use super::{Operations, Source, config, stream};
use crate::config::Config;
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::{Connection, Listener};
use crate::telemetry::{ListenerName, Telemetry, Transport};

/// All sockets, bound and not yet served. Each comes with its name in the
/// settings.
#[derive(Debug, Default)]
pub struct Sockets {
    streams: Vec<(String, Listener)>,
    datagrams: Vec<(String, DatagramSocket)>,
}

impl Sockets {
    /// Binds what the settings name.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let operations = &config.operations;
        let owner = &config.receiver;
        let mut sockets = Sockets::default();
        if let Some(address) = &operations.tcp {
            let listener = bind::tcp(address, "operations.tcp").await?;
            sockets.streams.push((address.to_string(), listener));
        }
        if let Some(address) = &operations.udp {
            let socket = bind::udp(address, "operations.udp").await?;
            let socket = DatagramSocket::Udp(socket);
            sockets.datagrams.push((address.to_string(), socket));
        }
        for path in &operations.unix_sockets {
            let listener = bind::unix_at(
                path,
                &owner.unix_socket_user,
                &owner.unix_socket_group,
                owner.unix_socket_mode,
                "operations.unix_sockets",
            )?;
            sockets.streams.push((path.display().to_string(), listener));
        }
        for path in &operations.unix_datagram_sockets {
            let (socket, file) = bind::unix_datagram_at(
                path,
                &owner.unix_socket_user,
                &owner.unix_socket_group,
                owner.unix_socket_mode,
                "operations.unix_datagram_sockets",
            )?;
            let socket = DatagramSocket::Unix(socket, file);
            sockets.datagrams.push((path.display().to_string(), socket));
        }
        Ok(sockets)
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.datagrams.is_empty()
    }

    /// Connections that there may be at once: those that are permitted on each
    /// socket, and as many as on one that are ending.
    pub fn connections(&self, config: &config::Config) -> usize {
        match self.streams.len() {
            0 => 0,
            sockets => (sockets + 1) * config.concurrent_connections,
        }
    }

    /// Tells where operations are taken. Ports may have been chosen just now.
    pub fn announce(&self) {
        for (_, listener) in &self.streams {
            let (_, transport) = of_listener(listener);
            let address = listener.address();
            log::info!("operations on {} {address}", shown(transport));
        }
        for (_, socket) in &self.datagrams {
            let address = socket.address();
            log::info!("operations on {} {address}", shown(of_datagrams(socket)));
        }
    }

    /// Serves them all until `stop`.
    pub fn start(
        self,
        operations: Operations,
        telemetry: &Telemetry,
        limits: ListenerLimits,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        if self.is_empty() {
            return;
        }
        let operations = Arc::new(operations);
        operations.start(stop, tasks);
        for (configured, listener) in self.streams {
            let (name, transport) = of_listener(&listener);
            telemetry.operations.use_transport(transport);
            let source = Source::new(
                &operations.config,
                transport,
                &configured,
                listener.address(),
            );
            let (source, operations) = (Arc::new(source), Arc::clone(&operations));
            let stopped = stop.clone();
            tasks.spawn(accept::serve(
                listener,
                name,
                limits,
                Arc::clone(telemetry.listener(name)),
                stop.clone(),
                tasks.clone(),
                move |connection: Connection| {
                    let (operations, source) = (Arc::clone(&operations), Arc::clone(&source));
                    stream::serve(operations, source, connection, stopped.clone())
                },
            ));
        }
        for (configured, socket) in self.datagrams {
            let transport = of_datagrams(&socket);
            telemetry.operations.use_transport(transport);
            if let DatagramSocket::Udp(socket) = &socket
                && let Some(inode) = inode(socket.as_raw_fd())
            {
                telemetry.operations.add_udp_socket(inode);
            }
            let source = Source::new(&operations.config, transport, &configured, socket.address());
            tasks.spawn(datagrams::serve(
                Arc::clone(&operations),
                Arc::new(source),
                socket,
                stop.clone(),
            ));
        }
    }
}

fn of_listener(listener: &Listener) -> (ListenerName, Transport) {
    match listener {
        Listener::Tcp(_) => (ListenerName::OperationsTcp, Transport::Tcp),
        Listener::Unix(..) => (ListenerName::OperationsUnix, Transport::Unix),
    }
}

fn of_datagrams(socket: &DatagramSocket) -> Transport {
    match socket {
        DatagramSocket::Udp(_) => Transport::Udp,
        DatagramSocket::Unix(..) => Transport::UnixDatagram,
    }
}

fn shown(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP socket",
        Transport::Udp => "UDP socket",
        Transport::Unix => "Unix socket",
        Transport::UnixDatagram => "Unix datagram socket",
    }
}

/// The number that the kernel lists a socket by; it stands in what the file
/// descriptor's link says: `socket:[4711]`.
fn inode(descriptor: RawFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    let number = link.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}
