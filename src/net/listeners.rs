//! The listeners of one part of the program. A reload adds, changes and removes them.
//!
//! They change in two steps. [`Listeners::prepare`] binds new ones, which can fail and
//! changes nothing. [`Listeners::apply`] cannot fail: it starts the new listeners, gives
//! the others their new settings, and closes those that are no longer wanted. The start of
//! the program is a reload from no listeners.
//!
//! A listener that stays keeps its socket and its connections. One that is closed accepts
//! no more connections, and open ones end when their work is done, as at shutdown.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{self, ListenerLimits, MAX_WAITING, Terms};
use super::bind::{self, BindError};
use super::permits::Permits;
use super::tls::{Protocols, TlsServer, TlsSettings};
use super::{Connection, Listener};
use crate::live::Live;
use crate::settings::Address;
use crate::settings::listen::{SocketMode, SocketOwner};
use crate::telemetry::{ListenerName, Telemetry};

/// A listener that the settings demand.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where to bind it.
    pub place: Place,
    /// Its name in the log and in metrics.
    pub name: ListenerName,
    /// The key of the setting, for errors.
    pub setting: &'static str,
    /// Its TLS; `None` for none.
    pub tls: Option<WantedTls>,
    /// Its limits.
    pub limits: ListenerLimits,
}

/// The place of a listener, as configured.
#[derive(Debug, Clone)]
pub enum Place {
    /// A TCP port.
    Tcp(Address),
    /// A Unix socket with its owner, group and permissions.
    Unix(PathBuf, (SocketOwner, SocketOwner, SocketMode)),
}

impl Place {
    /// Whether a socket bound at one place also serves the other.
    fn is(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Tcp(one), Place::Tcp(other)) => one == other,
            (Place::Unix(one, _), Place::Unix(other, _)) => one == other,
            _ => false,
        }
    }

    /// Whether the place names one particular socket, and not any free port.
    fn is_fixed(&self) -> bool {
        !matches!(self, Place::Tcp(address) if address.port == 0)
    }

    async fn bind(&self, setting: &'static str) -> Result<Listener, BindError> {
        match self {
            Place::Tcp(address) => bind::tcp(address, setting).await,
            Place::Unix(path, (user, group, mode)) => {
                bind::unix_at(path, user, group, *mode, setting)
            }
        }
    }
}

/// The TLS of a listener.
#[derive(Debug, Clone)]
pub struct WantedTls {
    /// Its settings.
    pub settings: TlsSettings,
    /// The key of their table, for errors and metrics.
    pub setting: String,
    /// The protocols that clients can choose.
    pub protocols: Protocols,
}

/// A bound listener that is wanted.
#[derive(Debug)]
pub struct Ready {
    /// Where it is bound, as configured.
    pub place: Place,
    /// Its name in the log and in metrics.
    pub name: ListenerName,
    /// Its socket.
    pub listener: Arc<Listener>,
    /// Cancelled to close it.
    pub stop: CancellationToken,
    /// Whether it was not there before.
    pub is_new: bool,
    terms: Terms,
}

impl Ready {
    /// Whether it has TLS.
    pub fn has_tls(&self) -> bool {
        self.terms.tls.is_some()
    }

    /// Its HTTP address, as shown to people.
    pub fn url(&self) -> String {
        let address = self.listener.address();
        match (&*self.listener, self.has_tls()) {
            (Listener::Unix(..), _) => format!("Unix socket {address}"),
            (_, false) => format!("http://{address}"),
            (_, true) => format!("https://{address}"),
        }
    }

    /// The number of connections that can be open, including those that wait for a permit.
    pub fn connections(&self) -> usize {
        self.terms.limits.connections + MAX_WAITING
    }
}

/// The listeners of one part of the program. `S` is the value that the connections of a
/// listener share.
#[derive(Debug)]
pub struct Listeners<S> {
    open: Vec<Open<S>>,
    /// Cancelled when the program stops.
    stop: CancellationToken,
}

/// A listener in service.
#[derive(Debug)]
struct Open<S> {
    place: Place,
    name: ListenerName,
    listener: Arc<Listener>,
    terms: Live<Terms>,
    permits: Arc<Permits>,
    shared: Live<S>,
    stop: CancellationToken,
}

impl<S: Send + Sync + 'static> Listeners<S> {
    /// No listeners yet. Future ones are closed when `stop` is cancelled.
    pub fn new(stop: &CancellationToken) -> Self {
        Listeners {
            open: Vec::new(),
            stop: stop.clone(),
        }
    }

    /// Binds the wanted listeners that are not open, and reads their TLS files. Nothing is
    /// accepted yet, and open listeners are not changed.
    ///
    /// # Errors
    ///
    /// The errors of all listeners that cannot be bound.
    pub async fn prepare(&self, wanted: Vec<Wanted>) -> Result<Vec<Ready>, Vec<BindError>> {
        let (mut ready, mut errors) = (Vec::new(), Vec::new());
        for one in wanted {
            // Several listeners can have the place `127.0.0.1:0`.
            let is_taken = |open: &Open<S>| {
                let mut ready = ready.iter();
                ready.any(|ready: &Ready| Arc::ptr_eq(&ready.listener, &open.listener))
            };
            let here = |open: &&Open<S>| open.place.is(&one.place) && !is_taken(open);
            let open = self.open.iter().filter(here);
            let same = open.clone().find(|open| open.name == one.name);
            // A renamed socket serves new connections under its new name.
            let renamed = || open.clone().find(|open| open.place.is_fixed());
            let bound = same.or_else(renamed);
            match self.ready(one, same, bound).await {
                Ok(one) => ready.push(one),
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(ready),
            false => Err(errors),
        }
    }

    /// Binds a listener, unless an open one is the same or has its socket `bound` under
    /// another name.
    async fn ready(
        &self,
        wanted: Wanted,
        same: Option<&Open<S>>,
        bound: Option<&Open<S>>,
    ) -> Result<Ready, BindError> {
        let Wanted {
            place,
            name,
            setting,
            tls,
            limits,
        } = wanted;
        let listener = match bound {
            Some(open) => Arc::clone(&open.listener),
            None => {
                let bound = place.bind(setting).await;
                Arc::new(bound.map_err(|error| self.explain(error, &place))?)
            }
        };
        let before = bound.and_then(|open| open.terms.load().tls.clone());
        let tls = match tls {
            Some(tls) => Some(server(&tls, before)?),
            None => None,
        };
        Ok(Ready {
            place,
            name,
            listener,
            stop: same.map_or_else(|| self.stop.child_token(), |open| open.stop.clone()),
            is_new: same.is_none(),
            terms: Terms { limits, tls },
        })
    }

    /// Names the own listener that has the port of `wanted`, if there is one. The listener
    /// before closes only after the new one is bound, so a port cannot move to another host.
    fn explain(&self, error: BindError, wanted: &Place) -> BindError {
        let Place::Tcp(wanted) = wanted else {
            return error;
        };
        let own = self.open.iter().find_map(|open| match &open.place {
            Place::Tcp(own) if own.port == wanted.port => Some(own),
            _ => None,
        });
        match (error, own) {
            (
                BindError::Address {
                    address,
                    setting,
                    problem,
                },
                Some(own),
            ) if problem.kind() == io::ErrorKind::AddrInUse => BindError::Address {
                address,
                setting,
                problem: io::Error::other(format!(
                    "exporter-proxy itself listens at {own}: restart to change the host, or \
                     choose another port"
                )),
            },
            (error, _) => error,
        }
    }

    /// Starts new listeners, changes the others, and closes those that are not among
    /// `ready`. `handle` serves the connections, which share one value for each listener.
    pub fn apply<Handle, Handled>(
        &mut self,
        ready: Vec<(Ready, S)>,
        telemetry: &Telemetry,
        tasks: &TaskTracker,
        handle: Handle,
    ) where
        Handle: Fn(Live<S>, Connection) -> Handled + Clone + Send + Sync + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let mut before = std::mem::take(&mut self.open);
        for (ready, shared) in ready {
            if let Some(tls) = &ready.terms.tls {
                tls.register(telemetry);
            }
            let same = |open: &Open<S>| {
                Arc::ptr_eq(&open.listener, &ready.listener) && open.name == ready.name
            };
            if let Some(at) = before.iter().position(same) {
                let open = before.swap_remove(at);
                open.shared.set(shared);
                open.permits.set_limit(ready.terms.limits.connections);
                open.terms.set(ready.terms);
                self.open.push(open);
                continue;
            }
            let stats = telemetry.listener(ready.name);
            let open = Open {
                permits: Permits::new(ready.terms.limits.connections, Arc::clone(stats)),
                place: ready.place,
                name: ready.name,
                listener: ready.listener,
                terms: Live::new(ready.terms),
                shared: Live::new(shared),
                stop: ready.stop,
            };
            let (shared, handle) = (open.shared.clone(), handle.clone());
            tasks.spawn(accept::serve(
                Arc::clone(&open.listener),
                open.name,
                (open.terms.clone(), Arc::clone(&open.permits)),
                Arc::clone(stats),
                open.stop.clone(),
                tasks.clone(),
                move |connection| handle(shared.clone(), connection),
            ));
            self.open.push(open);
        }
        for gone in before {
            log::info!(
                "{} listener {} is closed; its connections end when their work is done",
                gone.name.as_str(),
                gone.listener.address()
            );
            gone.stop.cancel();
        }
    }
}

/// The certificate and rules of `tls`. If the settings are unchanged, `before` is kept: it
/// rereads its files by itself.
fn server(tls: &WantedTls, before: Option<Arc<TlsServer>>) -> Result<Arc<TlsServer>, BindError> {
    let same = |server: &Arc<TlsServer>| server.is_of(&tls.settings, &tls.setting, tls.protocols);
    if let Some(server) = before.filter(same) {
        return Ok(server);
    }
    let server = TlsServer::new(&tls.settings, &tls.setting, tls.protocols);
    server.map(Arc::new).map_err(|problem| BindError::Tls {
        setting: tls.setting.clone(),
        problem,
    })
}
