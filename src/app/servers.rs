//! The HTTP listeners: one for scrapes, one for pushes unless both share a port, and one
//! for health checks and own metrics if it is on.

use std::sync::Arc;

use crate::config::Config;
use crate::context::Context;
use crate::http::listen::HttpListener;
use crate::http::router::{Route, Table};
use crate::http::{self, Hosts, PushLocation, Server, WorkPools};
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::tls::{Protocols, TlsSettings};
use crate::net::{Balancers, Connection, Listener, MemoryBudget};
use crate::security::{Access, Door};
use crate::settings::listen::Listen;
use crate::telemetry::ListenerName;

/// The HTTP listeners, bound and not served yet.
#[derive(Debug)]
pub struct Servers(Vec<BoundServer>);

/// One of them.
#[derive(Debug)]
struct BoundServer {
    listener: Listener,
    /// Its name in the log and in metrics.
    name: ListenerName,
    accepts_pushes: bool,
}

impl Servers {
    /// Binds the listeners. Those with one address in both settings are one.
    pub async fn bind(config: &Config, access: &Access) -> Result<Self, BindError> {
        let (shared_tls, http2) = access.http_tls();
        let protocols = Protocols::Http { http2 };
        let tls = (shared_tls.as_ref(), protocols);
        const SCRAPES: &str = "exporter.scrape_expose_endpoint";
        const PUSHES: &str = "push.listen";
        let (scrapes, pushes) = (&config.exporter.scrape_expose_endpoint, &config.push.listen);
        let same = |one: &HttpListener, other: &HttpListener| match &other.address {
            Listen::Tcp(address) => one.address.is(address),
            Listen::Unix(_) => one.address == other.address,
            Listen::Off => false,
        };
        let mut servers = Vec::new();
        for (setting, scraped) in scrapes.named(SCRAPES) {
            servers.push(BoundServer {
                listener: bind_one(config, scraped, (SCRAPES, &setting), tls).await?,
                name: ListenerName::Http,
                accepts_pushes: pushes.iter().any(|pushed| same(pushed, scraped)),
            });
        }
        for (setting, pushed) in pushes.named(PUSHES) {
            if !scrapes.iter().any(|scraped| same(scraped, pushed)) {
                servers.push(BoundServer {
                    listener: bind_one(config, pushed, (PUSHES, &setting), tls).await?,
                    name: ListenerName::Push,
                    accepts_pushes: true,
                });
            }
        }
        const LIFECYCLE: &str = "lifecycle.listen";
        for (setting, listener) in config.lifecycle.listen.named(LIFECYCLE) {
            servers.push(BoundServer {
                listener: bind_one(config, listener, (LIFECYCLE, &setting), tls).await?,
                name: ListenerName::Lifecycle,
                accepts_pushes: false,
            });
        }
        Ok(Servers(servers))
    }

    /// The listeners for scrapes.
    fn scrapes(&self) -> impl Iterator<Item = &Listener> {
        let servers = self.0.iter();
        let scrapes = servers.filter(|server| server.name == ListenerName::Http);
        scrapes.map(|server| &server.listener)
    }

    /// The listeners that accept pushes.
    fn pushes(&self) -> impl Iterator<Item = &Listener> {
        let pushes = self.0.iter().filter(|server| server.accepts_pushes);
        pushes.map(|server| &server.listener)
    }

    /// The URL of the first listener for scrapes.
    pub fn scrape_url(&self) -> String {
        self.scrapes().next().map(Listener::url).unwrap_or_default()
    }

    /// The address of `/metrics`: the first one.
    pub fn scrape_address(&self) -> String {
        self.scrapes()
            .next()
            .map(Listener::address)
            .unwrap_or_default()
    }

    /// The address or path of the first listener that accepts pushes.
    pub fn push_address(&self) -> Option<String> {
        self.pushes().next().map(Listener::address)
    }

    /// Logs where the program is scraped and pushed to. `prefix` is the begin of paths.
    pub fn announce(&self, prefix: &str) {
        for listener in self.scrapes() {
            match listener {
                Listener::Unix(..) => {
                    log::info!("serving {prefix}/metrics on {}", listener.url());
                }
                _ => log::info!("serving {}{prefix}/metrics", listener.url()),
            }
        }
        for listener in self.pushes() {
            log::info!("accepting pushes on {}", listener.url());
        }
        let others = self.0.iter();
        for other in others.filter(|it| it.name == ListenerName::Lifecycle) {
            log::info!("health and own metrics on {}", other.listener.url());
        }
    }

    /// Connections that can be open at once, with those that wait to be accepted.
    pub fn connections(&self, config: &Config) -> usize {
        self.0.len() * (config.exporter.max_connections + accept::MAX_WAITING)
    }

    /// Serves until the program stops. `lifecycle` are the routes of the listener for health
    /// checks and own metrics, and `routes` those of the others.
    pub fn start(self, config: &Config, context: &Context, routes: &[Route], lifecycle: &[Route]) {
        let requests = &config.push.requests;
        let budget = Arc::new(MemoryBudget::new(
            requests.max_buffered,
            Arc::clone(&context.telemetry.pushes.buffered),
        ));
        let pools = Arc::new(WorkPools::new(&context.telemetry.copied));
        let pushes: Vec<String> = self.pushes().map(Listener::url).collect();
        let push_location = match pushes.is_empty() {
            false => PushLocation::At(pushes.join(" or ")),
            true => PushLocation::Off,
        };
        let limits = ListenerLimits {
            connections: config.exporter.max_connections,
            write_timeout: config.exporter.write_timeout,
            handshake_timeout: config.exporter.tls_handshake_timeout,
            balancers: Balancers::default(),
        };
        let front = &config.web.front;
        let mut hosts = requests.allowed_hosts.clone();
        hosts.extend(front.host().map(str::to_owned));
        for bound in self.0 {
            let BoundServer {
                listener,
                name,
                accepts_pushes,
            } = bound;
            if let Some(tls) = listener.tls() {
                tls.register(&context.telemetry);
            }
            if accepts_pushes {
                let address = listener.socket_address();
                let access = &context.access;
                access.warn_if_open(Door::Http, Some(name), address, "push.listen");
            }
            let server = Arc::new(Server {
                table: match name {
                    ListenerName::Lifecycle => Table::new(lifecycle, false),
                    _ => Table::new(routes, accepts_pushes),
                },
                telemetry: Arc::clone(&context.telemetry),
                header_timeout: config.exporter.header_timeout,
                write_timeout: config.exporter.write_timeout,
                requests: requests.clone(),
                accepts_pushes,
                access: Arc::clone(&context.access),
                fairness: Arc::clone(&context.fairness),
                budget: Arc::clone(&budget),
                pools: Arc::clone(&pools),
                source: Arc::from(listener.address()),
                push_location: (!accepts_pushes).then(|| push_location.clone()),
                hosts: Hosts::of(listener.ip(), &hosts),
                front: front.clone(),
                write_origins: match accepts_pushes {
                    true => {
                        let own = front.origin().map(str::to_owned);
                        requests.cors_origins.iter().cloned().chain(own).collect()
                    }
                    false => Vec::new(),
                },
                journal: context.journal.clone(),
                stop: context.stop.clone(),
            });
            context.tasks.spawn(accept::serve(
                listener,
                name,
                limits.clone(),
                Arc::clone(context.telemetry.listener(name)),
                context.stop.clone(),
                context.tasks.clone(),
                move |connection: Connection| http::serve(Arc::clone(&server), connection),
            ));
        }
    }
}

/// Binds a listener of `setting`; `item` also names its place in a list. `shared` is the
/// TLS of listeners without a table of their own.
async fn bind_one(
    config: &Config,
    listener: &HttpListener,
    (setting, item): (&'static str, &str),
    (shared, protocols): (Option<&TlsSettings>, Protocols),
) -> Result<Listener, BindError> {
    let receiver = &config.receiver;
    match &listener.address {
        Listen::Unix(path) => bind::unix_at(
            path,
            &receiver.unix_socket_user,
            &receiver.unix_socket_group,
            receiver.unix_socket_mode,
            setting,
        ),
        Listen::Tcp(address) => {
            let tls = listener.tls.as_ref();
            let item = match (tls, shared) {
                (None, Some(_)) => &*format!("{item} (web.config_file)"),
                _ => item,
            };
            bind::tcp_or_tls(address, setting, tls.or(shared), item, protocols).await
        }
        Listen::Off => unreachable!("listeners that are off are left out"),
    }
}
