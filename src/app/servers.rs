//! The HTTP listeners: one for scrapes, and one for pushes unless both share a port.

use std::sync::Arc;

use crate::config::Config;
use crate::context::Context;
use crate::http::router::{Route, Table};
use crate::http::{self, Hosts, PushLocation, Server, WorkPools};
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::{Connection, Listener, MemoryBudget};
use crate::settings::listen::Listen;
use crate::telemetry::ListenerName;

/// The HTTP listeners, bound and not served yet.
#[derive(Debug)]
pub struct Servers {
    scrapes: Listener,
    /// `None` if pushes are off, or come in where scrapes do.
    pushes: Option<Listener>,
    /// Whether one port serves scrapes and pushes.
    shared: bool,
}

impl Servers {
    /// Binds the listeners.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let scraped = &config.exporter.scrape_expose_endpoint;
        let shared = config.push.listen.is(scraped);
        Ok(Servers {
            scrapes: bind::tcp(scraped, "exporter.scrape_expose_endpoint").await?,
            pushes: match shared {
                true => None,
                false => bind_push(config).await?,
            },
            shared,
        })
    }

    /// The address of `/metrics`.
    pub fn scrape_address(&self) -> String {
        self.scrapes.address()
    }

    /// The listener that accepts pushes.
    fn push_listener(&self) -> Option<&Listener> {
        self.pushes
            .as_ref()
            .or(self.shared.then_some(&self.scrapes))
    }

    /// The address or path of the listener that accepts pushes.
    pub fn push_address(&self) -> Option<String> {
        self.push_listener().map(Listener::address)
    }

    /// Logs where the program is scraped and pushed to.
    pub fn announce(&self) {
        log::info!("serving {}/metrics", self.scrapes.url());
        if let Some(listener) = self.push_listener() {
            log::info!("accepting pushes on {}", listener.url());
        }
    }

    /// Connections that can be open at once, with those that wait to be accepted.
    pub fn connections(&self, config: &Config) -> usize {
        let listeners = 1 + usize::from(self.pushes.is_some());
        listeners * (config.exporter.max_connections + accept::MAX_WAITING)
    }

    /// Serves until the program stops.
    pub fn start(self, config: &Config, context: &Context, routes: &[Route]) {
        let requests = &config.push.requests;
        let budget = Arc::new(MemoryBudget::new(
            requests.max_buffered,
            Arc::clone(&context.telemetry.pushes.buffered),
        ));
        let pools = Arc::new(WorkPools::new(&context.telemetry.copied));
        let push_location = match self.push_listener() {
            Some(listener) => PushLocation::At(listener.url()),
            None => PushLocation::Off,
        };
        let limits = ListenerLimits {
            connections: config.exporter.max_connections,
            write_timeout: config.exporter.write_timeout,
            handshake_timeout: config.exporter.tls_handshake_timeout,
        };
        let shared = self.shared;
        let serve = |listener: Listener, name: ListenerName| {
            let accepts_pushes = shared || name == ListenerName::Push;
            let server = Arc::new(Server {
                table: Table::new(routes, accepts_pushes),
                telemetry: Arc::clone(&context.telemetry),
                header_timeout: config.exporter.header_timeout,
                requests: requests.clone(),
                accepts_pushes,
                budget: Arc::clone(&budget),
                pools: Arc::clone(&pools),
                source: Arc::from(listener.address()),
                push_location: (!accepts_pushes).then(|| push_location.clone()),
                hosts: Hosts::of(listener.ip(), &requests.allowed_hosts),
                stop: context.stop.clone(),
            });
            context.tasks.spawn(accept::serve(
                listener,
                name,
                limits,
                Arc::clone(context.telemetry.listener(name)),
                context.stop.clone(),
                context.tasks.clone(),
                move |connection: Connection| http::serve(Arc::clone(&server), connection),
            ));
        };
        if let Some(pushes) = self.pushes {
            serve(pushes, ListenerName::Push);
        }
        serve(self.scrapes, ListenerName::Http);
    }
}

/// Binds the listener for pushes, if they are on.
async fn bind_push(config: &Config) -> Result<Option<Listener>, BindError> {
    let listener = match &config.push.listen {
        Listen::Tcp(address) => bind::tcp(address, "push.listen").await?,
        Listen::Unix(path) => bind::unix_at(
            path,
            &config.receiver.unix_socket_user,
            &config.receiver.unix_socket_group,
            config.receiver.unix_socket_mode,
            "push.listen",
        )?,
        Listen::Off => return Ok(None),
    };
    Ok(Some(listener))
}
