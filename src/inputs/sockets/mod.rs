//! Apps send their texts over TCP and Unix sockets, as JSON or Cap'n Proto.
//!
//! A message goes through three steps:
//!
//! 1. [`inbox`] detects the format and cuts the bytes of a connection into messages,
//!    which [`json`] and [`capnp`] decode into a [`Message`]. This step is pure.
//! 2. [`service`] admits the texts and stores the message as one [`Write`].
//! 3. [`connection`] reads, waits, and tells the sender about rejections.
//!
//! [`Write`]: crate::store::Write

mod capnp;
pub mod config;
mod connection;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod inbox;
mod json;
mod service;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::config::Config;
use self::service::Service;
use crate::context::Context;
use crate::exposition::Text;
use crate::net::accept::ListenerLimits;
use crate::net::bind::BindError;
use crate::net::listeners::{Listeners, Place, Ready, Wanted, WantedTls};
use crate::net::tls::Protocols;
use crate::net::{BlockingPool, MemoryBudget};
use crate::security::ListenerKind;
use crate::settings::listen::SocketPath;
use crate::telemetry::ListenerName;

pub use error::MessageError;
pub use inbox::{Inbox, InboxLimits, Next};

/// The limit on large messages that are parsed at the same time.
const LARGE_MESSAGES: usize = 2;

/// The key of the TCP socket, for errors and warnings.
const TCP_SETTING: &str = "receiver.receiver_tcp_socket";

/// A decoded message: apps by name, each with its new text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names and texts.
    pub apps: Vec<(String, Text)>,
}

/// The sockets that apps send to.
#[derive(Debug)]
pub struct Sockets {
    listeners: Listeners<Service>,
    /// Memory for incomplete messages of all connections.
    budget: Arc<MemoryBudget>,
    /// Threads for large messages of all connections.
    pool: BlockingPool,
}

/// Sockets that are bound for new settings.
#[derive(Debug)]
pub struct ReadySockets {
    config: Arc<Config>,
    listeners: Vec<Ready>,
}

impl Sockets {
    /// Creates the input without sockets.
    pub fn new(config: &Config, context: &Context) -> Self {
        let used = Arc::clone(&context.telemetry.buffered);
        Sockets {
            listeners: Listeners::new(&context.stop),
            budget: Arc::new(MemoryBudget::new(config.max_buffered, used)),
            pool: BlockingPool::new(LARGE_MESSAGES),
        }
    }

    /// Binds the sockets that the settings enable, each with `limits`. Nothing is served or
    /// changed yet.
    ///
    /// # Errors
    ///
    /// The errors of all sockets that cannot be bound.
    pub async fn prepare(
        &self,
        config: &Config,
        limits: &ListenerLimits,
    ) -> Result<ReadySockets, Vec<BindError>> {
        let mut wanted = Vec::new();
        if config.receive_on_tcp_socket {
            wanted.push(Wanted {
                place: Place::Tcp(config.receiver_tcp_socket.clone()),
                name: ListenerName::Tcp,
                setting: TCP_SETTING,
                tls: config.tls.as_ref().map(|settings| WantedTls {
                    settings: settings.clone(),
                    setting: "receiver.tls".to_owned(),
                    protocols: Protocols::Other,
                }),
                limits: limits.clone(),
            });
        }
        if config.receive_on_unix_socket {
            let owner = (
                config.unix_socket_user.clone(),
                config.unix_socket_group.clone(),
                config.unix_socket_mode,
            );
            wanted.push(Wanted {
                place: Place::Unix(config.receiver_unix_socket.chosen(), owner),
                name: ListenerName::Unix,
                setting: "receiver.receiver_unix_socket",
                tls: None,
                limits: limits.clone(),
            });
        }
        Ok(ReadySockets {
            config: Arc::new(config.clone()),
            listeners: self.listeners.prepare(wanted).await?,
        })
    }

    /// Serves the sockets that are ready, and closes all others.
    pub fn apply(&mut self, ready: ReadySockets, context: &Context) {
        let ReadySockets { config, listeners } = ready;
        self.budget.set_limit(config.max_buffered);
        let telemetry = &context.telemetry;
        let with_services = listeners.into_iter().map(|ready| {
            let address = ready.listener.socket_address();
            let access = &context.access;
            access.warn_if_open(
                ListenerKind::Receiver,
                Some(ready.name),
                address,
                TCP_SETTING,
            );
            let service = Service {
                config: Arc::clone(&config),
                admission: Arc::clone(&context.admission),
                store: Arc::clone(&context.store),
                access: Arc::clone(&context.access),
                fairness: Arc::clone(&context.fairness),
                stats: Arc::clone(match ready.name {
                    ListenerName::Unix => &telemetry.received_unix,
                    _ => &telemetry.received_tcp,
                }),
                budget: Arc::clone(&self.budget),
                pool: self.pool.clone(),
                source: Arc::from(ready.listener.address()),
                stop: ready.stop.clone(),
            };
            (ready, service)
        });
        let with_services = with_services.collect();
        self.listeners
            .apply(with_services, telemetry, &context.tasks, connection::serve);
    }
}

impl ReadySockets {
    /// Logs the addresses of new sockets.
    pub fn announce(&self) {
        for ready in self.listeners.iter().filter(|ready| ready.is_new) {
            let address = ready.listener.address();
            let is_auto = self.config.receiver_unix_socket == SocketPath::Auto;
            match ready.name {
                ListenerName::Unix if is_auto => log::info!(
                    "receiving on Unix socket {address} (chosen by receiver_unix_socket = \"auto\")"
                ),
                ListenerName::Unix => log::info!("receiving on Unix socket {address}"),
                _ if ready.has_tls() => log::info!("receiving on TCP socket {address} with TLS"),
                _ => log::info!("receiving on TCP socket {address}"),
            }
        }
    }

    /// The number of connections that can be open, including those that wait for a permit.
    pub fn connections(&self) -> usize {
        self.listeners.iter().map(Ready::connections).sum()
    }
}
