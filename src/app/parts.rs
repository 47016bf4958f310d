//! The parts of the program that serve: HTTP listeners, inputs with listeners of their own, polls
//! and sinks.
//!
//! They change in two steps, at the start as on a reload. [`Parts::prepare`] binds and builds what
//! new settings require; it can fail, and changes nothing. [`Parts::apply`] puts the result into
//! use and cannot fail.

use super::StartError;
use super::servers::{ReadyServers, Servers};
use super::sinks::{ReadySinks, Sinks};
use crate::config::Config;
use crate::context::Context;
use crate::http::router::Route;
use crate::inputs::operations::{Operations, ReadyOperations, SocketOptions};
use crate::inputs::poller::{Poller, ReadyPoller};
use crate::inputs::sockets::{ReadySockets, Sockets};
use crate::net::Balancers;
use crate::net::accept::ListenerLimits;
use crate::routes::{self, Stateful};
use crate::security::Rules;

/// All parts that serve.
#[derive(Debug)]
pub struct Parts {
    servers: Servers,
    sockets: Sockets,
    operations: Operations,
    poller: Poller,
    sinks: Sinks,
    stateful: Stateful,
    /// Routes from another crate, which come before the program's own.
    more_routes: Vec<Route>,
}

/// What new settings require, bound and built but not yet in use.
#[derive(Debug)]
pub struct ReadyParts {
    /// The HTTP listeners.
    pub servers: ReadyServers,
    sockets: ReadySockets,
    operations: ReadyOperations,
    poller: ReadyPoller,
    sinks: ReadySinks,
}

impl Parts {
    /// The parts with their stored state, without listeners and targets yet.
    pub fn new(config: &Config, context: &Context) -> Self {
        Parts {
            servers: Servers::new(config, context),
            sockets: Sockets::new(&config.receiver, context),
            operations: Operations::new(&config.operations, context),
            poller: Poller::new(context),
            sinks: Sinks::new(config, context),
            stateful: Stateful::new(config, context),
            more_routes: Vec::new(),
        }
    }

    /// Adds routes from another crate.
    pub fn add_routes(&mut self, routes: Vec<Route>) {
        self.more_routes.extend(routes);
    }

    /// Binds listeners and builds clients for new settings, and changes nothing.
    ///
    /// # Errors
    ///
    /// Everything that cannot be bound or built.
    pub async fn prepare(
        &self,
        config: &Config,
        rules: &Rules,
    ) -> Result<ReadyParts, Vec<StartError>> {
        let mut errors = Vec::new();
        // This comes first: it binds nothing, and a bad target is reported before a port in use.
        let poller = self.poller.prepare(&config.poll_external);
        let poller = taken(poller.map_err(|error| vec![error]), &mut errors);
        let sinks = taken(self.sinks.prepare(config).await, &mut errors);
        let servers = taken(self.servers.prepare(config, rules).await, &mut errors);
        let limits = ListenerLimits {
            connections: config.exporter.concurrent_requests,
            write_timeout: config.exporter.write_timeout,
            handshake_timeout: config.exporter.tls_handshake_timeout,
            balancers: Balancers::new(&config.receiver.proxy_protocol),
        };
        let sockets = self.sockets.prepare(&config.receiver, &limits);
        let sockets = taken(sockets.await, &mut errors);
        let options = SocketOptions {
            user: config.receiver.unix_socket_user.clone(),
            group: config.receiver.unix_socket_group.clone(),
            mode: config.receiver.unix_socket_mode,
            write_timeout: config.exporter.write_timeout,
            handshake_timeout: config.exporter.tls_handshake_timeout,
            own_metrics: config.exporter.own_metrics,
        };
        let operations = self.operations.prepare(&config.operations, options);
        let operations = taken(operations.await, &mut errors);
        match (servers, sockets, operations, poller, sinks) {
            (Some(servers), Some(sockets), Some(operations), Some(poller), Some(sinks)) => {
                Ok(ReadyParts {
                    servers,
                    sockets,
                    operations,
                    poller,
                    sinks,
                })
            }
            _ => Err(errors),
        }
    }

    /// Starts the work that does not depend on settings.
    pub fn start(&self, context: &Context) {
        self.operations.start(context);
        self.poller.start(context);
    }

    /// Puts new settings into use.
    pub fn apply(&mut self, ready: ReadyParts, config: &Config, context: &Context) {
        let ReadyParts {
            servers,
            sockets,
            operations,
            poller,
            sinks,
        } = ready;
        self.stateful.apply(config);
        // Stored items are back in their queues before new ones arrive.
        let producers = self.sinks.apply(sinks, context);
        self.operations
            .send_to(producers.operations, producers.events);
        self.sockets.apply(sockets, context);
        self.operations.apply(operations, context);
        self.poller.apply(poller, context);
        let mut routes = self.more_routes.clone();
        routes.extend(routes::all(config, context, &self.stateful));
        let lifecycle = routes::lifecycle(config, context);
        self.servers
            .apply(servers, config, context, (&routes, &lifecycle));
    }
}

impl ReadyParts {
    /// Logs the addresses of new listeners, including ports that the system chose.
    pub fn announce(&self, config: &Config) {
        self.servers.announce(&config.web.front.route_prefix);
        self.sockets.announce();
        self.operations.announce();
        self.poller.announce();
    }

    /// Maximum number of open connections.
    pub fn connections(&self) -> usize {
        let inputs = self.sockets.connections() + self.operations.connections();
        self.servers.connections() + inputs
    }
}

/// Returns the value of a result, or moves its errors to `errors`.
fn taken<T, E: Into<StartError>>(
    result: Result<T, Vec<E>>,
    errors: &mut Vec<StartError>,
) -> Option<T> {
    let add = |found: Vec<E>| errors.extend(found.into_iter().map(Into::into));
    result.map_err(add).ok()
}
