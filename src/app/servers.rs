//! The HTTP listeners: for scrapes, for pushes unless they share a port with scrapes, and for
//! health checks and own metrics.

use std::sync::Arc;

use crate::config::Config;
use crate::context::Context;
use crate::http::listen::{HttpListener, LIFECYCLE, PUSHES, SCRAPES};
use crate::http::router::{Route, Table};
use crate::http::{self, Hosts, PushLocation, Server, WorkPools};
use crate::net::accept::ListenerLimits;
use crate::net::bind::BindError;
use crate::net::listeners::{Listeners, Place, Ready, Wanted, WantedTls};
use crate::net::tls::Protocols;
use crate::net::{Balancers, MemoryBudget};
use crate::security::{ListenerKind, Rules};
use crate::settings::listen::Listen;
use crate::telemetry::ListenerName;

/// The HTTP listeners, and what they share.
#[derive(Debug)]
pub struct Servers {
    listeners: Listeners<Server>,
    /// Memory for request bodies.
    budget: Arc<MemoryBudget>,
    pools: Arc<WorkPools>,
}

/// Listeners that are bound for new settings.
#[derive(Debug)]
pub struct ReadyServers(Vec<ReadyServer>);

/// A bound listener.
#[derive(Debug)]
struct ReadyServer {
    ready: Ready,
    accepts_pushes: bool,
}

impl Servers {
    /// No listeners yet.
    pub fn new(config: &Config, context: &Context) -> Self {
        let telemetry = &context.telemetry;
        let buffered = Arc::clone(&telemetry.pushes.buffered);
        let max_buffered = config.push.requests.max_buffered;
        Servers {
            listeners: Listeners::new(&context.stop),
            budget: Arc::new(MemoryBudget::new(max_buffered, buffered)),
            pools: Arc::new(WorkPools::new(&telemetry.copied)),
        }
    }

    /// Binds the listeners that are not open yet. An address in both settings is one listener.
    /// `rules` hold the TLS settings of listeners without a table of their own.
    ///
    /// # Errors
    ///
    /// All listeners that cannot be bound.
    pub async fn prepare(
        &self,
        config: &Config,
        rules: &Rules,
    ) -> Result<ReadyServers, Vec<BindError>> {
        let (scrapes, pushes) = (&config.exporter.scrape_expose_endpoint, &config.push.listen);
        let same =
            |one: &HttpListener, other: &HttpListener| one.address.is_shared_with(&other.address);
        let (mut all, mut accept_pushes) = (Vec::new(), Vec::new());
        for (item, scraped) in scrapes.named(SCRAPES) {
            all.extend(wanted(
                config,
                rules,
                scraped,
                (ListenerName::Http, SCRAPES, &item),
            ));
            accept_pushes.push(pushes.iter().any(|pushed| same(pushed, scraped)));
        }
        for (item, pushed) in pushes.named(PUSHES) {
            if !scrapes.iter().any(|scraped| same(scraped, pushed)) {
                all.extend(wanted(
                    config,
                    rules,
                    pushed,
                    (ListenerName::Push, PUSHES, &item),
                ));
                accept_pushes.push(true);
            }
        }
        for (item, listener) in config.lifecycle.listen.named(LIFECYCLE) {
            let name = (ListenerName::Lifecycle, LIFECYCLE, &*item);
            all.extend(wanted(config, rules, listener, name));
            accept_pushes.push(false);
        }
        let ready = self.listeners.prepare(all).await?;
        let servers = ready.into_iter().zip(accept_pushes);
        let server = |(ready, accepts_pushes)| ReadyServer {
            ready,
            accepts_pushes,
        };
        Ok(ReadyServers(servers.map(server).collect()))
    }

    /// Serves the listeners that are ready, and closes the others. `lifecycle` are the routes of
    /// listeners for health checks and own metrics, `routes` those of all others.
    pub fn apply(
        &mut self,
        ready: ReadyServers,
        config: &Config,
        context: &Context,
        (routes, lifecycle): (&[Route], &[Route]),
    ) {
        let requests = &config.push.requests;
        self.budget.set_limit(requests.max_buffered);
        let pushes: Vec<String> = ready.pushes().map(Ready::url).collect();
        let push_location = match pushes.is_empty() {
            false => PushLocation::At(pushes.join(" or ")),
            true => PushLocation::Off,
        };
        let front = &config.web.front;
        let mut hosts = requests.allowed_hosts.clone();
        hosts.extend(front.host().map(str::to_owned));
        let with_servers = ready.0.into_iter().map(|server| {
            let ReadyServer {
                ready,
                accepts_pushes,
            } = server;
            let listener = &ready.listener;
            if accepts_pushes {
                let (address, name) = (listener.socket_address(), Some(ready.name));
                let access = &context.access;
                access.warn_if_open(ListenerKind::Http, name, address, PUSHES);
            }
            let server = Server {
                table: match ready.name {
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
                budget: Arc::clone(&self.budget),
                pools: Arc::clone(&self.pools),
                source: Arc::from(listener.address()),
                is_secure: ready.has_tls(),
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
                stop: ready.stop.clone(),
            };
            (ready, server)
        });
        let with_servers = with_servers.collect();
        self.listeners.apply(
            with_servers,
            &context.telemetry,
            &context.tasks,
            http::serve,
        );
    }
}

impl ReadyServers {
    /// The listeners for scrapes.
    fn scrapes(&self) -> impl Iterator<Item = &Ready> {
        let all = self.0.iter().map(|server| &server.ready);
        all.filter(|ready| ready.name == ListenerName::Http)
    }

    /// The listeners that accept pushes.
    fn pushes(&self) -> impl Iterator<Item = &Ready> {
        let pushes = self.0.iter().filter(|server| server.accepts_pushes);
        pushes.map(|server| &server.ready)
    }

    /// The URL of the first listener for scrapes.
    pub fn scrape_url(&self) -> String {
        self.scrapes().next().map(Ready::url).unwrap_or_default()
    }

    /// The address of the first listener for scrapes.
    pub fn scrape_address(&self) -> String {
        let first = self.scrapes().next();
        first
            .map(|ready| ready.listener.address())
            .unwrap_or_default()
    }

    /// The address or path of the first listener that accepts pushes.
    pub fn push_address(&self) -> Option<String> {
        self.pushes().next().map(|ready| ready.listener.address())
    }

    /// Logs the addresses of new listeners. Paths begin with `prefix`.
    pub fn announce(&self, prefix: &str) {
        for ready in self.scrapes().filter(|ready| ready.is_new) {
            let url = ready.url();
            match ready.place {
                Place::Unix(..) => log::info!("serving {prefix}/metrics on {url}"),
                Place::Tcp(_) => log::info!("serving {url}{prefix}/metrics"),
            }
        }
        for ready in self.pushes().filter(|ready| ready.is_new) {
            log::info!("accepting pushes on {}", ready.url());
        }
        let others = self.0.iter().map(|server| &server.ready);
        let others = others.filter(|ready| ready.name == ListenerName::Lifecycle);
        for ready in others.filter(|ready| ready.is_new) {
            log::info!("health and own metrics on {}", ready.url());
        }
    }

    /// Maximum number of connections, including those that wait to be accepted.
    pub fn connections(&self) -> usize {
        let all = self.0.iter();
        all.map(|server| server.ready.connections()).sum()
    }
}

/// A listener as the settings require it; `None` if it is off. `item` names its place in the list
/// of `setting`.
fn wanted(
    config: &Config,
    rules: &Rules,
    listener: &HttpListener,
    (name, setting, item): (ListenerName, &'static str, &str),
) -> Option<Wanted> {
    let receiver = &config.receiver;
    let mut tls = None;
    let place = match &listener.address {
        Listen::Unix(path) => {
            let (user, group) = (&receiver.unix_socket_user, &receiver.unix_socket_group);
            let owner = (user.clone(), group.clone(), receiver.unix_socket_mode);
            Place::Unix(path.clone(), owner)
        }
        Listen::Tcp(address) => {
            let own = listener.tls.as_ref().map(|tls| (tls, item.to_owned()));
            let shared = rules.tls.as_ref();
            let shared = shared.map(|tls| (tls, format!("{item} (web.config_file)")));
            tls = own.or(shared).map(|(settings, setting)| WantedTls {
                settings: settings.clone(),
                setting,
                protocols: Protocols::Http { http2: rules.http2 },
            });
            Place::Tcp(address.clone())
        }
        Listen::Off => return None,
    };
    Some(Wanted {
        place,
        name,
        setting,
        tls,
        limits: ListenerLimits {
            connections: config.exporter.max_connections,
            write_timeout: config.exporter.write_timeout,
            handshake_timeout: config.exporter.tls_handshake_timeout,
            balancers: Balancers::default(),
        },
    })
}
