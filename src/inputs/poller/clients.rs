//! HTTP clients, shared by all targets that need the same of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, NoProxy, Proxy, Request, RequestBuilder, Response, redirect};
use rustls::ClientConfig;
use tower::util::MapResponseLayer;
use url::Url;

use super::{failure, tls};
use crate::config::{PollExternal, Target, TargetUrl};

/// No kept connection is older: a name is looked up again after this, so that
/// polls follow it to another address.
pub const LONGEST_KEPT: Duration = Duration::from_secs(60);

/// Targets whose connections are kept, those polled most often first. A kept
/// connection takes about 35 KB; opening one costs little beside a poll.
pub const MOST_KEPT: usize = 100;

tokio::task_local! {
    /// Whether the request under way has opened a connection.
    static OPENED: Cell<bool>;
}

/// The clients made so far, by what they are needed for.
#[derive(Debug)]
pub struct Clients<'c> {
    config: &'c PollExternal,
    shared: HashMap<Needs, Arc<SharedClient>>,
}

/// What a client can be shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Needs {
    allow_invalid_certs: bool,
    ca: Option<Vec<u8>>,
    socket: Option<PathBuf>,
}

impl<'c> Clients<'c> {
    pub fn new(config: &'c PollExternal) -> Self {
        Clients {
            config,
            shared: HashMap::new(),
        }
    }

    /// The client of a target.
    pub fn of(&mut self, target: &Target) -> Result<Arc<SharedClient>, String> {
        let needs = Needs {
            allow_invalid_certs: target.allow_invalid_certs,
            ca: target.ca_file.as_ref().map(|ca| ca.pem.clone()),
            socket: match &target.url {
                TargetUrl::Unix { socket, .. } => Some(socket.clone()),
                TargetUrl::Http(_) => None,
            },
        };
        if let Some(client) = self.shared.get(&needs) {
            return Ok(Arc::clone(client));
        }
        let tls = tls::config(needs.allow_invalid_certs, needs.ca.as_deref())?;
        let recipe = Recipe {
            tls,
            socket: needs.socket.clone(),
            proxy: proxy(self.config)?,
            proxy_from_environment: self.config.proxy_from_environment,
        };
        let client = Arc::new(SharedClient::new(recipe).map_err(|problem| problem.to_string())?);
        self.shared.insert(needs, Arc::clone(&client));
        Ok(client)
    }

    pub fn into_shared(self) -> Vec<Arc<SharedClient>> {
        self.shared.into_values().collect()
    }
}

/// The proxy that is named in the settings.
fn proxy(config: &PollExternal) -> Result<Option<Proxy>, String> {
    let Some(url) = &config.proxy_url else {
        return Ok(None);
    };
    let proxy = Proxy::all(url.0.clone())
        .map_err(|problem| format!("poll_external.proxy_url: {}", problem.without_url()))?;
    Ok(Some(proxy.no_proxy(NoProxy::from_env())))
}

/// How a client is made.
#[derive(Debug)]
struct Recipe {
    tls: ClientConfig,
    socket: Option<PathBuf>,
    proxy: Option<Proxy>,
    proxy_from_environment: bool,
}

impl Recipe {
    fn builder(&self) -> ClientBuilder {
        let mut builder = Client::builder()
            .user_agent(concat!("exporter-proxy/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(self.tls.clone());
        builder = match (&self.socket, &self.proxy) {
            (Some(socket), _) => builder.no_proxy().unix_socket(socket.clone()),
            (None, Some(proxy)) => builder.proxy(proxy.clone()),
            (None, None) if self.proxy_from_environment => builder,
            (None, None) => builder.no_proxy(),
        };
        builder
    }

    /// A client that keeps connections for later requests.
    fn keeping(&self) -> reqwest::Result<Client> {
        // Runs in the request's own task, unless a kept connection comes first.
        let note = MapResponseLayer::new(|connection| {
            let _ = OPENED.try_with(|opened| opened.set(true));
            connection
        });
        self.builder()
            .pool_idle_timeout(None)
            .connector_layer(note)
            .build()
    }
}

/// A client for many targets. Requests have no timeout of their own.
#[derive(Debug)]
pub struct SharedClient {
    recipe: Recipe,
    /// Replaced by [`SharedClient::renew`], which closes what it keeps.
    keeping: Mutex<Client>,
    /// Opens a connection for every request.
    opening: Client,
}

impl SharedClient {
    fn new(recipe: Recipe) -> reqwest::Result<Self> {
        Ok(SharedClient {
            keeping: Mutex::new(recipe.keeping()?),
            opening: recipe.builder().pool_max_idle_per_host(0).build()?,
            recipe,
        })
    }

    /// Whether a proxy may stand between this client and a target.
    pub fn may_use_proxy(&self) -> bool {
        self.recipe.socket.is_none()
            && (self.recipe.proxy.is_some() || self.recipe.proxy_from_environment)
    }

    /// A request, to be sent with [`SharedClient::send`].
    pub fn get(&self, url: Url) -> RequestBuilder {
        self.opening.get(url)
    }

    /// Sends a `GET`, with `keep` over a connection that may have served
    /// before. An upstream may close such a connection at the moment when it is
    /// used again: where nothing was answered, the request is sent once more,
    /// over a connection of its own.
    pub async fn send(&self, request: Request, keep: bool) -> reqwest::Result<Response> {
        let again = request.try_clone().filter(|_| keep);
        let Some(again) = again else {
            return self.opening.execute(request).await;
        };
        let client = self.keeping().clone();
        let sent = OPENED.scope(Cell::new(false), async move {
            let answer = client.execute(request).await;
            (answer, OPENED.with(Cell::get))
        });
        match sent.await {
            (Err(problem), false) if is_lost(&problem) => {
                log::debug!("a kept connection was closed by the target; opening another");
                self.opening.execute(again).await
            }
            (answer, _) => answer,
        }
    }

    /// Closes all connections that are kept, once they are not in use.
    pub fn renew(&self) {
        match self.recipe.keeping() {
            Ok(client) => *self.keeping() = client,
            Err(problem) => log::warn!("kept connections cannot be renewed: {problem}"),
        }
    }

    fn keeping(&self) -> std::sync::MutexGuard<'_, Client> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request failed before anything was answered.
fn is_lost(problem: &reqwest::Error) -> bool {
    let answered = failure::causes(problem)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse);
    problem.is_request() && !problem.is_connect() && !problem.is_timeout() && !answered
}
