//! The sockets for operations: bound first, served later.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::datagrams::{self, DatagramSocket};
use super::processor::{Processor, Source, Target};
use super::sets::Sets;
use super::sink::{EventSinks, LineSink};
use super::stream;
use crate::context::Context;
use crate::inputs::Input;
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::tls::Protocols;
use crate::net::{Balancers, Connection, Listener};
use crate::security::Door;
use crate::settings::listen::{SocketMode, SocketOwner};
use crate::storage::Persistent;
use crate::telemetry::{ListenerName, Transport};

/// Settings of other tables that sockets for operations need, too.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// Owner of Unix sockets.
    pub user: SocketOwner,
    /// Group of Unix sockets.
    pub group: SocketOwner,
    /// Permissions of Unix sockets.
    pub mode: SocketMode,
    /// Time for a sender to take some of an answer.
    pub write_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Whether the proxy exposes its own metrics, whose names are reserved
    /// then.
    pub own_metrics: bool,
}

/// The input of operations: all its sockets, bound and not yet served.
#[derive(Debug)]
pub struct Operations {
    config: Config,
    options: SocketOptions,
    sink: Option<LineSink>,
    events: EventSinks,
    sets: Arc<Sets>,
    /// Each with its name as the setting is written.
    streams: Vec<(String, Listener)>,
    /// Each with its name as the setting is written.
    datagrams: Vec<(String, DatagramSocket)>,
}

impl Operations {
    /// Binds the configured sockets; none if none is configured.
    ///
    /// # Errors
    ///
    /// The first socket that cannot be bound, with its setting.
    pub async fn bind(config: &Config, options: SocketOptions) -> Result<Self, BindError> {
        let mut streams = Vec::new();
        let mut datagrams = Vec::new();
        if let Some(address) = &config.tcp {
            let listener = bind::tcp_or_tls(
                address,
                "operations.tcp",
                config.tls.as_ref(),
                "operations.tls",
                Protocols::Other,
            )
            .await?;
            streams.push((address.to_string(), listener));
        }
        if let Some(address) = &config.udp {
            let socket = bind::udp(address, "operations.udp").await?;
            datagrams.push((address.to_string(), DatagramSocket::Udp(socket)));
        }
        let (user, group, mode) = (&options.user, &options.group, options.mode);
        for path in &config.unix_sockets {
            let setting = "operations.unix_sockets";
            let listener = bind::unix_at(path, user, group, mode, setting)?;
            streams.push((path.display().to_string(), listener));
        }
        for path in &config.unix_datagram_sockets {
            let setting = "operations.unix_datagram_sockets";
            let (socket, file) = bind::unix_datagram_at(path, user, group, mode, setting)?;
            let socket = DatagramSocket::Unix(socket, file);
            datagrams.push((path.display().to_string(), socket));
        }
        Ok(Operations {
            config: config.clone(),
            options,
            sink: None,
            events: EventSinks::default(),
            sets: Arc::new(Sets::of(config)),
            streams,
            datagrams,
        })
    }

    /// Hands operations to a sink instead of applying them here.
    #[must_use]
    pub fn forward_to(mut self, sink: LineSink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Hands events to sinks.
    #[must_use]
    pub fn send_events(mut self, events: EventSinks) -> Self {
        self.events = events;
        self
    }

    /// The distinct values of StatsD's sets, to be stored.
    pub fn sets(&self) -> Arc<dyn Persistent> {
        Arc::<Sets>::clone(&self.sets)
    }

    /// Whether no socket is configured.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.datagrams.is_empty()
    }
}

impl Input for Operations {
    /// The most connections open at once: those permitted on each socket, and
    /// as many as on one that are closing.
    fn connections(&self) -> usize {
        match self.streams.len() {
            0 => 0,
            sockets => (sockets + 1) * self.config.concurrent_connections,
        }
    }

    /// Logs the bound addresses. The kernel may have chosen ports.
    fn announce(&self) {
        for (_, listener) in &self.streams {
            let (_, transport) = listener_transport(listener);
            let address = listener.address();
            let tls = listener.tls().map_or("", |_| " with TLS");
            log::info!("operations on {} {address}{tls}", describe(transport));
        }
        for (_, socket) in &self.datagrams {
            let address = socket.address();
            log::info!("operations on {} {address}", describe(socket.transport()));
        }
    }

    /// Serves all sockets until the program stops.
    fn start(self: Box<Self>, context: &Context) {
        if self.is_empty() {
            return;
        }
        let target = match self.sink {
            Some(sink) => Target::Sink(sink),
            None => Target::Store(Arc::clone(&context.store)),
        };
        let (stop, tasks) = (&context.stop, &context.tasks);
        let stats = &context.telemetry.operations;
        let own_metrics = self.options.own_metrics;
        let quit = context.quit.clone();
        let state = (target, self.sets);
        let processor = Processor::new(&self.config, own_metrics, state, stats, quit);
        let processor = Arc::new(
            processor
                .sending_events(self.events)
                .guarded_by(&context.access)
                .limited_by(&context.fairness),
        );
        processor.start(stop, tasks);
        let limits = ListenerLimits {
            connections: self.config.concurrent_connections,
            write_timeout: self.options.write_timeout,
            handshake_timeout: self.options.handshake_timeout,
            balancers: Balancers::default(),
        };
        for (configured, listener) in self.streams {
            let (name, transport) = listener_transport(&listener);
            if let Some(tls) = listener.tls() {
                tls.register(&context.telemetry);
            }
            stats.use_transport(transport);
            let (access, address) = (&context.access, listener.socket_address());
            access.warn_if_open(Door::Operations, Some(name), address, "operations.tcp");
            let address = listener.address();
            let source = Source::new(&self.config, transport, &configured, address);
            let (source, processor) = (Arc::new(source), Arc::clone(&processor));
            let stopped = stop.clone();
            tasks.spawn(accept::serve(
                listener,
                name,
                limits.clone(),
                Arc::clone(context.telemetry.listener(name)),
                stop.clone(),
                tasks.clone(),
                move |connection: Connection| {
                    let (processor, source) = (Arc::clone(&processor), Arc::clone(&source));
                    stream::serve(processor, source, connection, stopped.clone())
                },
            ));
        }
        for (configured, socket) in self.datagrams {
            let transport = socket.transport();
            stats.use_transport(transport);
            if let DatagramSocket::Udp(socket) = &socket
                && let Some(inode) = inode(socket.as_raw_fd())
            {
                stats.add_udp_socket(inode);
            }
            let address = socket.socket_address();
            let access = &context.access;
            access.warn_if_open(Door::Operations, None, address, "operations.udp");
            let source = Source::new(&self.config, transport, &configured, socket.address());
            tasks.spawn(datagrams::serve(
                Arc::clone(&processor),
                Arc::new(source),
                socket,
                stop.clone(),
            ));
        }
    }
}

fn listener_transport(listener: &Listener) -> (ListenerName, Transport) {
    match listener {
        Listener::Tcp(_) | Listener::Tls(..) => (ListenerName::OperationsTcp, Transport::Tcp),
        Listener::Unix(..) => (ListenerName::OperationsUnix, Transport::Unix),
    }
}

fn describe(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP socket",
        Transport::Udp => "UDP socket",
        Transport::Unix => "Unix socket",
        Transport::UnixDatagram => "Unix datagram socket",
    }
}

/// The inode that the kernel's tables list a socket by. The link of its file
/// descriptor names it: `socket:[4711]`.
fn inode(descriptor: RawFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    let number = link.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}
