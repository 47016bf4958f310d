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

use super::config::{Config as PollExternal, Target, TargetUrl};
use super::{failure, tls};

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
            through: Through::of(self.config)?,
        };
        let client = Arc::new(SharedClient::new(recipe).map_err(|problem| problem.to_string())?);
        self.shared.insert(needs, Arc::clone(&client));
        Ok(client)
    }

    pub fn into_shared(self) -> Vec<Arc<SharedClient>> {
        self.shared.into_values().collect()
    }
}

/// The proxy that polls go through.
#[derive(Debug)]
enum Through {
    Nothing,
    /// The one that is named in the settings.
    Named(Box<Proxy>),
    /// Those that the environment names.
    Environment,
}

impl Through {
    fn of(config: &PollExternal) -> Result<Self, String> {
        // reqwest takes this for all names, and for no address.
        #[expect(clippy::disallowed_methods, reason = "all clients honour these")]
        let exclusions = ["NO_PROXY", "no_proxy"].map(std::env::var);
        let exclusions = exclusions.into_iter().find_map(Result::ok);
        let all_excluded = exclusions
            .as_deref()
            .is_some_and(|hosts| hosts.split(',').any(|host| host.trim() == "*"));
        match &config.proxy_url {
            _ if all_excluded => Ok(Through::Nothing),
            None if config.proxy_from_environment => Ok(Through::Environment),
            None => Ok(Through::Nothing),
            Some(url) => {
                let proxy = Proxy::all(url.0.clone()).map_err(|problem| {
                    format!("poll_external.proxy_url: {}", problem.without_url())
                })?;
                let exclusions = exclusions.as_deref().and_then(NoProxy::from_string);
                Ok(Through::Named(Box::new(proxy.no_proxy(exclusions))))
            }
        }
    }
}

/// How a client is made.
#[derive(Debug)]
struct Recipe {
    tls: ClientConfig,
    socket: Option<PathBuf>,
    through: Through,
}

impl Recipe {
    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder()
            .user_agent(concat!("exporter-proxy/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(self.tls.clone());
        match (&self.socket, &self.through) {
            (Some(socket), _) => builder.no_proxy().unix_socket(socket.clone()),
            (None, Through::Nothing) => builder.no_proxy(),
            (None, Through::Named(proxy)) => builder.proxy(Proxy::clone(proxy)),
            (None, Through::Environment) => builder,
        }
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
        self.recipe.socket.is_none() && !matches!(self.recipe.through, Through::Nothing)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::config::settle;

    /// A server that keeps its connections, and how many there were.
    fn server() -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|read| read > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(answer).unwrap();
                    }
                });
            }
        });
        (url.parse().unwrap(), connections)
    }

    #[tokio::test]
    async fn kept_connections_serve_until_they_are_renewed() {
        let config = |certs: bool| {
            let text = format!(
                "[[poll_external.targets]]\nurl = \"http://a/\"\nallow_invalid_certs = {certs}\n\
                 [[poll_external.targets]]\nurl = \"http://b/\"\n"
            );
            settle("test", &text, []).unwrap().0.poll_external
        };
        let same = config(false);
        let mut clients = Clients::new(&same);
        let client = clients.of(&same.targets[0]).unwrap();
        assert!(Arc::ptr_eq(&client, &clients.of(&same.targets[1]).unwrap()));
        let other = config(true);
        assert!(!Arc::ptr_eq(
            &client,
            &clients.of(&other.targets[0]).unwrap()
        ));

        let (url, connections) = server();
        let connections = || connections.load(Ordering::SeqCst);
        let ask = async |keep| {
            let request = client.get(url.clone()).build().unwrap();
            let answer = client.send(request, keep).await.unwrap();
            assert_eq!(answer.bytes().await.unwrap(), "");
        };
        for _ in 0..3 {
            ask(true).await;
        }
        assert_eq!(connections(), 1);
        client.renew();
        ask(true).await;
        assert_eq!(connections(), 2);
        for _ in 0..3 {
            ask(false).await;
        }
        assert_eq!(connections(), 5);
    }
}
