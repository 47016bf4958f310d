//! Apps send their texts over TCP and Unix sockets, as JSON or Cap'n Proto.
//!
//! A message goes through three steps:
//!
//! 1. [`inbox`] detects the format and cuts the bytes of a connection into messages,
//!    which [`json`] and [`capnp`] decode into a [`Message`]. This step is pure.
//! 2. [`service`] admits the texts and stores the message as one [`Write`].
//! 3. [`connection`] reads, waits, and tells the sender what was rejected.
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
use crate::inputs::Input;
use crate::net::accept::{self, ListenerLimits, MAX_WAITING};
use crate::net::bind::{self, BindError};
use crate::net::tls::Protocols;
use crate::net::{BlockingPool, Listener, MemoryBudget};
use crate::security::Door;
use crate::settings::listen::SocketPath;
use crate::telemetry::ListenerName;

pub use error::MessageError;
pub use inbox::{Inbox, InboxLimits, Next};

/// Large messages that are parsed at the same time.
const LARGE_MESSAGES: usize = 2;

/// A decoded message: the names of apps, and the text that each exposes from now on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names and texts.
    pub apps: Vec<(String, Text)>,
}

/// The sockets that apps send to, bound and ready to serve.
#[derive(Debug)]
pub struct Sockets {
    config: Arc<Config>,
    limits: ListenerLimits,
    tcp: Option<Listener>,
    unix: Option<Listener>,
}

impl Sockets {
    /// Binds the sockets that the settings enable. `limits` apply to each.
    ///
    /// # Errors
    ///
    /// A socket cannot be bound.
    pub async fn bind(config: &Config, limits: ListenerLimits) -> Result<Self, BindError> {
        let mut tcp = None;
        if config.receive_on_tcp_socket {
            let address = &config.receiver_tcp_socket;
            let listener = bind::tcp_or_tls(
                address,
                "receiver.receiver_tcp_socket",
                config.tls.as_ref(),
                "receiver.tls",
                Protocols::Other,
            );
            tcp = Some(listener.await?);
        }
        let mut unix = None;
        if config.receive_on_unix_socket {
            unix = Some(bind::unix(
                &config.receiver_unix_socket,
                &config.unix_socket_user,
                &config.unix_socket_group,
                config.unix_socket_mode,
                "receiver.receiver_unix_socket",
            )?);
        }
        Ok(Sockets {
            config: Arc::new(config.clone()),
            limits,
            tcp,
            unix,
        })
    }
}

impl Input for Sockets {
    /// Logs the bound addresses.
    fn announce(&self) {
        if let Some(listener) = &self.tcp {
            let tls = listener.tls().map_or("", |_| " with TLS");
            log::info!("receiving on TCP socket {}{tls}", listener.address());
        }
        if let Some(listener) = &self.unix {
            let chosen = match self.config.receiver_unix_socket {
                SocketPath::Auto => " (chosen by receiver_unix_socket = \"auto\")",
                SocketPath::Path(_) => "",
            };
            log::info!("receiving on Unix socket {}{chosen}", listener.address());
        }
    }

    /// The most connections that can be open, including those that wait for a permit.
    fn connections(&self) -> usize {
        let listeners = usize::from(self.tcp.is_some()) + usize::from(self.unix.is_some());
        listeners * (self.limits.connections + MAX_WAITING)
    }

    /// Serves the sockets in tasks of their own until the program stops.
    fn start(self: Box<Self>, context: &Context) {
        let telemetry = &context.telemetry;
        let budget = Arc::new(MemoryBudget::new(
            self.config.max_buffered,
            Arc::clone(&telemetry.buffered),
        ));
        let pool = BlockingPool::new(LARGE_MESSAGES);
        let listeners = [
            (self.tcp, ListenerName::Tcp, &telemetry.received_tcp),
            (self.unix, ListenerName::Unix, &telemetry.received_unix),
        ];
        for (listener, name, stats) in listeners {
            let Some(listener) = listener else { continue };
            if let Some(tls) = listener.tls() {
                tls.register(telemetry);
            }
            let setting = "receiver.receiver_tcp_socket";
            let address = listener.socket_address();
            let access = &context.access;
            access.warn_if_open(Door::Receiver, Some(name), address, setting);
            let service = Arc::new(Service {
                config: Arc::clone(&self.config),
                admission: Arc::clone(&context.admission),
                store: Arc::clone(&context.store),
                access: Arc::clone(&context.access),
                fairness: Arc::clone(&context.fairness),
                stats: Arc::clone(stats),
                budget: Arc::clone(&budget),
                pool: pool.clone(),
                source: Arc::from(listener.address()),
                stop: context.stop.clone(),
            });
            context.tasks.spawn(accept::serve(
                listener,
                name,
                self.limits.clone(),
                Arc::clone(telemetry.listener(name)),
                context.stop.clone(),
                context.tasks.clone(),
                move |connection| connection::serve(Arc::clone(&service), connection),
            ));
        }
    }
}
