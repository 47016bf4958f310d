//! The sockets for operations: bound first, served later, changed by reloads.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::Config;
use super::datagrams::{self, DatagramSocket};
use super::extra_labels::ExtraLabels;
use super::processor::{Processor, Service, Source, Target};
use super::sets::Sets;
use super::sink::{EventSinks, LineSink};
use super::stream;
use crate::clock::Now;
use crate::context::Context;
use crate::live::Live;
use crate::net::Balancers;
use crate::net::accept::ListenerLimits;
use crate::net::bind::{self, BindError};
use crate::net::listeners::{Listeners, Place, Ready, Wanted, WantedTls};
use crate::net::tls::Protocols;
use crate::security::ListenerKind;
use crate::settings::Address;
use crate::settings::listen::{SocketMode, SocketOwner};
use crate::storage::Persistent;
use crate::telemetry::{ListenerName, Transport};

/// The interval between checks of the label file for changes, and of sets for expiry.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Settings from other tables that also apply to the sockets for operations.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// Owner of Unix sockets.
    pub user: SocketOwner,
    /// Group of Unix sockets.
    pub group: SocketOwner,
    /// Permissions of Unix sockets.
    pub mode: SocketMode,
    /// How long a write waits for the sender to take some of an answer.
    pub write_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Whether the proxy exposes its own metrics, which reserves their names.
    pub own_metrics: bool,
}

/// The operations input: all its sockets, and their shared state.
#[derive(Debug)]
pub struct Operations {
    listeners: Listeners<Service>,
    datagrams: Vec<OpenSocket>,
    /// Where operations are forwarded to instead of being applied here.
    sink: Option<Arc<LineSink>>,
    /// The sinks of events.
    events: Arc<EventSinks>,
    sets: Arc<Sets>,
    extra_labels: Option<WatchedLabels>,
    /// Cancelled when the program stops.
    stop: CancellationToken,
}

/// A datagram socket in service.
#[derive(Debug)]
struct OpenSocket {
    place: DatagramPlace,
    /// The address of a UDP socket.
    address: Option<SocketAddr>,
    service: Live<Service>,
    stop: CancellationToken,
}

/// Labels for every series. Dropping this stops the watch on their file.
#[derive(Debug)]
struct WatchedLabels {
    labels: Arc<ExtraLabels>,
    _watch: DropGuard,
}

/// The place of a datagram socket, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DatagramPlace {
    Udp(Address),
    Unix(PathBuf),
}

impl fmt::Display for DatagramPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatagramPlace::Udp(address) => address.fmt(f),
            DatagramPlace::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Sockets that are bound for new settings.
#[derive(Debug)]
pub struct ReadyOperations {
    config: Config,
    options: SocketOptions,
    streams: Vec<Ready>,
    /// Each with a new socket, or `None` if it is already open.
    datagrams: Vec<(DatagramPlace, Option<DatagramSocket>)>,
}

impl Operations {
    /// Creates the input without sockets.
    pub fn new(config: &Config, context: &Context) -> Self {
        let sets = Arc::new(Sets::of(config));
        let stored: Arc<dyn Persistent> = Arc::<Sets>::clone(&sets);
        context.journal.attach(stored, Now::read());
        Operations {
            listeners: Listeners::new(&context.stop),
            datagrams: Vec::new(),
            sink: None,
            events: Arc::default(),
            sets,
            extra_labels: None,
            stop: context.stop.clone(),
        }
    }

    /// Hands events to sinks. With a sink for operations, these are forwarded to it instead
    /// of being applied here.
    pub fn send_to(&mut self, operations: Option<LineSink>, events: EventSinks) {
        self.sink = operations.map(Arc::new);
        self.events = Arc::new(events);
    }

    /// Starts the task that forgets expired sets.
    pub fn start(&self, context: &Context) {
        let (sets, stop) = (Arc::clone(&self.sets), self.stop.clone());
        context.tasks.spawn(async move {
            let mut ticks = interval(CHECK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => sets.expire(Now::read()),
                }
            }
        });
    }

    /// Binds the configured sockets that are not open. Nothing is served or changed yet.
    ///
    /// # Errors
    ///
    /// The errors of all sockets that cannot be bound.
    pub async fn prepare(
        &self,
        config: &Config,
        options: SocketOptions,
    ) -> Result<ReadyOperations, Vec<BindError>> {
        let (streams, mut errors) = match self.listeners.prepare(wanted(config, &options)).await {
            Ok(streams) => (streams, Vec::new()),
            Err(errors) => (Vec::new(), errors),
        };
        let udp = config.udp.clone().map(DatagramPlace::Udp);
        let unix = config.unix_datagram_sockets.iter();
        let unix = unix.map(|path| DatagramPlace::Unix(path.clone()));
        let mut datagrams = Vec::new();
        for place in udp.into_iter().chain(unix) {
            if self.datagrams.iter().any(|open| open.place == place) {
                datagrams.push((place, None));
                continue;
            }
            match place.bind(&options).await {
                Ok(socket) => datagrams.push((place, Some(socket))),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(ReadyOperations {
            config: config.clone(),
            options,
            streams,
            datagrams,
        })
    }

    /// Serves the sockets that are ready, and closes all others.
    pub fn apply(&mut self, ready: ReadyOperations, context: &Context) {
        let ReadyOperations {
            config,
            options,
            streams,
            datagrams,
        } = ready;
        self.sets.set_limits(&config);
        let processor = self.processor(&config, options.own_metrics, context);
        let stats = &context.telemetry.operations;
        let with_services = streams.into_iter().map(|ready| {
            let transport = transport(&ready);
            stats.use_transport(transport);
            let (access, address) = (&context.access, ready.listener.socket_address());
            access.warn_if_open(
                ListenerKind::Operations,
                Some(ready.name),
                address,
                "operations.tcp",
            );
            let configured = match &ready.place {
                Place::Tcp(address) => address.to_string(),
                Place::Unix(path, _) => path.display().to_string(),
            };
            let name = ready.listener.address();
            let service = Service {
                processor: Arc::clone(&processor),
                source: Arc::new(Source::new(&config, transport, &configured, name)),
                stop: ready.stop.clone(),
            };
            (ready, service)
        });
        let with_services = with_services.collect();
        let telemetry = &context.telemetry;
        self.listeners
            .apply(with_services, telemetry, &context.tasks, stream::serve);

        let mut before = std::mem::take(&mut self.datagrams);
        for (place, socket) in datagrams {
            let open = match socket {
                Some(socket) => self.open(place, socket, (&config, &processor), context),
                None => {
                    let Some(at) = before.iter().position(|open| open.place == place) else {
                        continue;
                    };
                    let open = before.swap_remove(at);
                    let service = open.service.load();
                    let (transport, name) = (service.source.transport, &service.source.name);
                    let configured = open.place.to_string();
                    let source = Source::new(&config, transport, &configured, name.clone());
                    open.service.set(Service {
                        processor: Arc::clone(&processor),
                        source: Arc::new(source),
                        stop: open.stop.clone(),
                    });
                    open
                }
            };
            let access = &context.access;
            access.warn_if_open(
                ListenerKind::Operations,
                None,
                open.address,
                "operations.udp",
            );
            self.datagrams.push(open);
        }
        for gone in before {
            log::info!("operations socket {} is closed", gone.place);
            gone.stop.cancel();
        }
    }

    /// Starts reading a new datagram socket.
    fn open(
        &self,
        place: DatagramPlace,
        socket: DatagramSocket,
        (config, processor): (&Config, &Arc<Processor>),
        context: &Context,
    ) -> OpenSocket {
        let stats = &context.telemetry.operations;
        let transport = socket.transport();
        stats.use_transport(transport);
        let losses = match &socket {
            DatagramSocket::Udp(socket) => inode(socket.as_raw_fd()),
            DatagramSocket::Unix(..) => None,
        };
        let losses = losses.map(|inode| stats.add_udp_socket(inode));
        let address = socket.socket_address();
        let source = Source::new(config, transport, &place.to_string(), socket.address());
        let stop = self.stop.child_token();
        let service = Live::new(Service {
            processor: Arc::clone(processor),
            source: Arc::new(source),
            stop: stop.clone(),
        });
        let (live, stopped) = (service.clone(), stop.clone());
        context.tasks.spawn(async move {
            datagrams::serve(live, &socket, stopped).await;
            drop(losses);
        });
        OpenSocket {
            place,
            address,
            service,
            stop,
        }
    }

    /// Creates the processor for new settings.
    fn processor(
        &mut self,
        config: &Config,
        own_metrics: bool,
        context: &Context,
    ) -> Arc<Processor> {
        let labels = match &self.extra_labels {
            Some(watched) if watched.labels.is_of(config) => Arc::clone(&watched.labels),
            _ => {
                let labels = Arc::new(ExtraLabels::new(config));
                let stop = self.stop.child_token();
                let watch = Arc::clone(&labels).watch(CHECK_INTERVAL, stop.clone());
                context.tasks.spawn(watch);
                self.extra_labels = Some(WatchedLabels {
                    labels: Arc::clone(&labels),
                    _watch: stop.drop_guard(),
                });
                labels
            }
        };
        let target = match &self.sink {
            Some(sink) if config.forward_keep => {
                Target::Tee(Arc::clone(&context.store), Arc::clone(sink))
            }
            Some(sink) => Target::Sink(Arc::clone(sink)),
            None => Target::Store(Arc::clone(&context.store)),
        };
        let stats = &context.telemetry.operations;
        let state = (target, Arc::clone(&self.sets));
        let quit = context.quit.clone();
        let processor = Processor::new(config, own_metrics, state, &labels, stats, quit);
        let processor = processor
            .sending_events(&self.events)
            .guarded_by(&context.access)
            .shaped_by(&context.admission.shapes);
        Arc::new(processor.limited_by(&context.fairness))
    }
}

impl ReadyOperations {
    /// The limit on open connections: those permitted on each socket, and as many closing
    /// ones as one socket may have open.
    pub fn connections(&self) -> usize {
        match self.streams.len() {
            0 => 0,
            sockets => (sockets + 1) * self.config.concurrent_connections,
        }
    }

    /// Logs the addresses of new sockets, with the ports that the kernel chose for port 0.
    pub fn announce(&self) {
        for ready in self.streams.iter().filter(|ready| ready.is_new) {
            let (transport, address) = (transport(ready), ready.listener.address());
            let tls = if ready.has_tls() { " with TLS" } else { "" };
            log::info!("operations on {} {address}{tls}", describe(transport));
        }
        let sockets = self
            .datagrams
            .iter()
            .filter_map(|(_, socket)| socket.as_ref());
        for socket in sockets {
            let address = socket.address();
            log::info!("operations on {} {address}", describe(socket.transport()));
        }
    }
}

impl DatagramPlace {
    async fn bind(&self, options: &SocketOptions) -> Result<DatagramSocket, BindError> {
        match self {
            DatagramPlace::Udp(address) => {
                let socket = bind::udp(address, "operations.udp").await?;
                Ok(DatagramSocket::Udp(socket))
            }
            DatagramPlace::Unix(path) => {
                let (user, group, mode) = (&options.user, &options.group, options.mode);
                let setting = "operations.unix_datagram_sockets";
                let (socket, file) = bind::unix_datagram_at(path, user, group, mode, setting)?;
                Ok(DatagramSocket::Unix(socket, file))
            }
        }
    }
}

/// The stream sockets that the settings demand.
fn wanted(config: &Config, options: &SocketOptions) -> Vec<Wanted> {
    let limits = ListenerLimits {
        connections: config.concurrent_connections,
        write_timeout: options.write_timeout,
        handshake_timeout: options.handshake_timeout,
        balancers: Balancers::default(),
    };
    let tcp = config.tcp.iter().map(|address| Wanted {
        place: Place::Tcp(address.clone()),
        name: ListenerName::OperationsTcp,
        setting: "operations.tcp",
        tls: config.tls.as_ref().map(|settings| WantedTls {
            settings: settings.clone(),
            setting: "operations.tls".to_owned(),
            protocols: Protocols::Other,
        }),
        limits: limits.clone(),
    });
    let owner = (options.user.clone(), options.group.clone(), options.mode);
    let unix = config.unix_sockets.iter().map(|path| Wanted {
        place: Place::Unix(path.clone(), owner.clone()),
        name: ListenerName::OperationsUnix,
        setting: "operations.unix_sockets",
        tls: None,
        limits: limits.clone(),
    });
    tcp.chain(unix).collect()
}

fn transport(ready: &Ready) -> Transport {
    match ready.place {
        Place::Tcp(_) => Transport::Tcp,
        Place::Unix(..) => Transport::Unix,
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

/// The inode by which the kernel's tables list a socket. The link of the file descriptor
/// names it: `socket:[4711]`.
fn inode(descriptor: RawFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    let number = link.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}
