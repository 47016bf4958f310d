//! HTTP clients, shared by targets with the same TLS and socket settings.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Request, RequestBuilder, Response, redirect};
use rustls::ClientConfig;
use tower::util::MapResponseLayer;
use url::Url;

use super::config::Config;
use super::config::target::{RequestSettings, TargetUrl};
use super::direct::{self, DirectClient};
use super::kept;
use crate::http_client::{AGENT, ClientTls, ProxyChoice, ProxyUrl, causes, trust};

/// The maximum age of a kept connection. A new connection resolves the host name again, so
/// that polls follow a changed address.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60);

/// The limit on targets whose connections are kept, besides those of [`DirectClient`]. A
/// kept connection takes about 35 KB, and opening one costs little compared with a poll.
pub const MAX_KEPT_CONNECTIONS: usize = 100;

tokio::task_local! {
    /// Whether the current request opened a connection.
    static OPENED: Cell<bool>;
}

/// The HTTP client of a target or discovery cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("{user}: cannot create its HTTP client: {problem}")]
pub struct ClientError {
    user: String,
    problem: String,
}

/// The clients of all targets.
#[derive(Debug, Default)]
pub struct Clients {
    /// Kept connections that need no client.
    direct: Arc<DirectClient>,
    proxy: ProxySettings,
    shared: HashMap<ClientKey, Arc<SharedClient>>,
}

/// The settings for all targets that clients depend on.
#[derive(Debug, Default, PartialEq, Eq)]
struct ProxySettings {
    url: Option<ProxyUrl>,
    from_environment: bool,
}

/// The settings of a target that its client depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    allow_invalid_certs: bool,
    ca: Option<Vec<u8>>,
    tls: ClientTls,
    socket: Option<PathBuf>,
    /// The proxy of this target, which replaces that of all targets.
    proxy: Option<ProxyUrl>,
}

impl Clients {
    /// Creates a set without clients. It shares the direct connections of `before`.
    pub fn new(config: &Config, before: &Clients) -> Self {
        Clients {
            direct: Arc::clone(&before.direct),
            proxy: ProxySettings {
                url: config.proxy_url.clone(),
                from_environment: config.proxy_from_environment,
            },
            shared: HashMap::new(),
        }
    }

    /// The client for requests with these settings, to the Unix socket of `url` if it names
    /// one. A client of `before` with the same settings is reused with its connections.
    /// `user` names the target or discovery in errors.
    ///
    /// # Errors
    ///
    /// The client cannot be created.
    pub fn get(
        &mut self,
        user: &str,
        (requests, url): (&RequestSettings, Option<&TargetUrl>),
        config: &Config,
        before: &Clients,
    ) -> Result<Arc<SharedClient>, ClientError> {
        let key = ClientKey {
            allow_invalid_certs: requests.allow_invalid_certs,
            ca: requests.ca_file.as_ref().map(|ca| ca.pem.clone()),
            tls: requests.tls.clone(),
            socket: match url {
                Some(TargetUrl::Unix { socket, .. }) => Some(socket.clone()),
                Some(TargetUrl::Http(_) | TargetUrl::File(_)) | None => None,
            },
            proxy: requests.proxy_url.clone(),
        };
        if let Some(client) = self.shared.get(&key) {
            return Ok(Arc::clone(client));
        }
        let same = before.shared.get(&key);
        let client = match same.filter(|_| before.proxy == self.proxy) {
            Some(client) => Arc::clone(client),
            None => {
                let created = create(&key, config, Arc::clone(&self.direct));
                Arc::new(created.map_err(|problem| ClientError {
                    user: user.to_owned(),
                    problem,
                })?)
            }
        };
        self.shared.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// Closes all kept connections as soon as they are idle. Closes direct connections, whose
    /// address cannot change, and frees memory of responses, only if they have not been used
    /// for [`MAX_CONNECTION_AGE`].
    pub fn renew(&self) {
        self.direct.close_unused(MAX_CONNECTION_AGE);
        kept::drop_unused(MAX_CONNECTION_AGE);
        self.shared.values().for_each(|client| client.renew());
    }
}

fn create(
    key: &ClientKey,
    config: &Config,
    direct: Arc<DirectClient>,
) -> Result<SharedClient, String> {
    let proxy = match &key.proxy {
        Some(proxy) => ProxyChoice::new(Some(proxy), false),
        None => ProxyChoice::new(config.proxy_url.as_ref(), config.proxy_from_environment)
            .map_err(|problem| format!("poll_external.{problem}")),
    };
    let settings = ClientSettings {
        tls: trust::config(key.allow_invalid_certs, key.ca.as_deref(), &key.tls)?,
        socket: key.socket.clone(),
        proxy: proxy?,
    };
    SharedClient::new(settings, direct).map_err(|error| error.to_string())
}

/// The settings of a client.
#[derive(Debug)]
struct ClientSettings {
    tls: ClientConfig,
    socket: Option<PathBuf>,
    proxy: ProxyChoice,
}

impl ClientSettings {
    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder()
            .user_agent(AGENT)
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(self.tls.clone());
        match &self.socket {
            Some(socket) => builder.no_proxy().unix_socket(socket.clone()),
            None => self.proxy.apply(builder),
        }
    }

    /// Creates a client that keeps connections for later requests.
    fn keeping_client(&self) -> reqwest::Result<Client> {
        // This runs in the task of the request, and only if no kept connection is used.
        let mark = MapResponseLayer::new(|connection| {
            let _ = OPENED.try_with(|opened| opened.set(true));
            connection
        });
        self.builder()
            .pool_idle_timeout(None)
            .connector_layer(mark)
            .build()
    }
}

/// A client for many targets. Its requests have no timeout of their own: the caller adds one.
#[derive(Debug)]
pub struct SharedClient {
    settings: ClientSettings,
    /// The client that keeps connections. [`SharedClient::renew`] closes them by replacing it.
    keeping: Mutex<Client>,
    /// The client that opens a connection for every request.
    opening: Client,
    direct: Arc<DirectClient>,
}

impl SharedClient {
    fn new(settings: ClientSettings, direct: Arc<DirectClient>) -> reqwest::Result<Self> {
        Ok(SharedClient {
            keeping: Mutex::new(settings.keeping_client()?),
            opening: settings.builder().pool_max_idle_per_host(0).build()?,
            direct,
            settings,
        })
    }

    /// Whether requests can go through a proxy.
    pub fn may_use_proxy(&self) -> bool {
        self.settings.socket.is_none() && self.settings.proxy.may_be_used()
    }

    /// The direct client and the server's address, for a URL that needs no other client.
    pub fn direct(&self, url: &Url) -> Option<(&DirectClient, SocketAddr)> {
        let needs_more = self.settings.socket.is_some() || self.may_use_proxy();
        let address = direct::address(url).filter(|_| !needs_more)?;
        Some((&self.direct, address))
    }

    /// Begins a request for [`SharedClient::send`].
    pub fn get(&self, url: Url) -> RequestBuilder {
        self.opening.get(url)
    }

    /// Sends a `GET`. With `keep`, it may use a kept connection, which the target may be closing
    /// at the same moment: without a response, the request is sent again over a new connection.
    ///
    /// # Errors
    ///
    /// The request failed.
    pub async fn send(&self, request: Request, keep: bool) -> reqwest::Result<Response> {
        let again = request.try_clone().filter(|_| keep);
        let Some(again) = again else {
            return self.opening.execute(request).await;
        };
        let client = self.keeping().clone();
        let sent = OPENED.scope(Cell::new(false), async move {
            let response = client.execute(request).await;
            (response, OPENED.with(Cell::get))
        });
        match sent.await {
            (Err(problem), false) if is_lost(&problem) => {
                log::debug!("a kept connection was closed by the target; opening another");
                self.opening.execute(again).await
            }
            (response, _) => response,
        }
    }

    /// Closes the kept connections of this client as soon as they are idle.
    fn renew(&self) {
        match self.settings.keeping_client() {
            Ok(client) => *self.keeping() = client,
            Err(problem) => log::warn!("kept connections cannot be renewed: {problem}"),
        }
    }

    fn keeping(&self) -> std::sync::MutexGuard<'_, Client> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request failed without a response.
fn is_lost(problem: &reqwest::Error) -> bool {
    let answered = causes(problem)
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

    /// A server that keeps connections, and the number of its connections.
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
                        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(response).unwrap();
                    }
                });
            }
        });
        (url.parse().unwrap(), connections)
    }

    #[tokio::test]
    async fn kept_connections_are_used_until_they_are_renewed() {
        let config = |certs: bool| {
            let text = format!(
                "[[poll_external.targets]]\nurl = \"http://a/\"\nallow_invalid_certs = {certs}\n\
                 [[poll_external.targets]]\nurl = \"http://b/\"\n"
            );
            settle("test", &text, []).unwrap().0.poll_external
        };
        let same = config(false);
        let none = Clients::default();
        let mut clients = Clients::new(&same, &none);
        let get = |clients: &mut Clients, config: &Config, at: usize, before: &Clients| {
            let requests = &config.targets[at].settings.requests;
            clients
                .get("test", (requests, None), config, before)
                .unwrap()
        };
        let client = get(&mut clients, &same, 0, &none);
        let other = get(&mut clients, &same, 1, &none);
        assert!(Arc::ptr_eq(&client, &other));
        let changed = config(true);
        let mut later = Clients::new(&changed, &clients);
        let other = get(&mut later, &changed, 0, &clients);
        assert!(!Arc::ptr_eq(&client, &other));
        // All clients together share one limit on direct connections.
        let address: Url = "http://127.0.0.1:1/".parse().unwrap();
        let direct = |client: &SharedClient| {
            let (direct, _) = client.direct(&address).unwrap();
            std::ptr::from_ref(direct)
        };
        assert_eq!(direct(&client), direct(&other));
        // A client that is needed again is reused.
        let kept = get(&mut later, &changed, 1, &clients);
        assert!(Arc::ptr_eq(&client, &kept));

        let (url, connections) = server();
        let connections = || connections.load(Ordering::SeqCst);
        let send = async |keep| {
            let request = client.get(url.clone()).build().unwrap();
            let response = client.send(request, keep).await.unwrap();
            assert_eq!(response.bytes().await.unwrap(), "");
        };
        for _ in 0..3 {
            send(true).await;
        }
        assert_eq!(connections(), 1);
        client.renew();
        send(true).await;
        assert_eq!(connections(), 2);
        for _ in 0..3 {
            send(false).await;
        }
        assert_eq!(connections(), 5);
    }
}
