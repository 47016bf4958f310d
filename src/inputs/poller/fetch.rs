//! One poll: asks a target for its text.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, StatusCode};

use crate::config::{BasicAuth, Target, TargetUrl};
use crate::exposition::Text;
use crate::inputs::door::Rejection;
use crate::store::Peer;
use crate::telemetry::Reason;

/// What Prometheus asks for where it wants text, OpenMetrics left out: what
/// is passed through is to stay text format 0.0.4.
const ACCEPT_TEXT: &str = "text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Redirects followed in one poll.
const MOST_REDIRECTS: usize = 10;

/// Asks one target.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    url: String,
    headers: HeaderMap,
    basic_auth: Option<BasicAuth>,
    bearer_token_file: Option<PathBuf>,
    max_body: usize,
}

/// A target's answer.
#[derive(Debug)]
pub struct Fetched {
    pub text: Text,
    pub peer: Peer,
}

/// Why a poll failed.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    message: String,
}

impl Failure {
    pub fn timed_out(limit: Duration) -> Self {
        Failure {
            reason: Reason::Timeout,
            message: format!("it did not end within {limit:?}"),
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Failure {
            reason: rejection.reason,
            message: rejection.message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// A target that cannot even be asked.
#[derive(Debug, thiserror::Error)]
#[error("target {name}: no HTTP client can be made for it: {problem}")]
pub struct SetupError {
    name: String,
    problem: String,
}

impl Fetcher {
    pub fn new(target: &Target, max_body: usize) -> Result<Self, SetupError> {
        let failed = |problem: String| SetupError {
            name: target.name.clone(),
            problem,
        };
        let url = match &target.url {
            TargetUrl::Http(url) => url.to_string(),
            TargetUrl::Unix { path, .. } => format!("http://localhost{path}"),
        };
        let client = builder(target)
            .and_then(|builder| {
                builder
                    .build()
                    .or_else(|problem| trusting_nobody(target, &problem))
            })
            .map_err(|problem| failed(chain(&problem)))?;
        let headers = headers(target).map_err(failed)?;
        Ok(Fetcher {
            client,
            url,
            headers,
            basic_auth: target.basic_auth.clone(),
            bearer_token_file: target.bearer_token_file.clone(),
            max_body,
        })
    }

    /// Asks, and reads the whole answer.
    pub async fn fetch(&self) -> Result<Fetched, Failure> {
        let mut request = self.client.get(&self.url).headers(self.headers.clone());
        if let Some(auth) = &self.basic_auth {
            request = request.basic_auth(&auth.username, Some(auth.password.reveal()));
        }
        if let Some(file) = &self.bearer_token_file {
            request = request.header(AUTHORIZATION, bearer_token(file).await?);
        }
        let mut response = request.send().await.map_err(explain)?;
        if response.status() != StatusCode::OK {
            return Err(Failure {
                reason: Reason::Status,
                message: format!("it answered {}", response.status()),
            });
        }
        let peer = response.remote_addr().map_or(Peer::Unknown, Peer::Tcp);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > self.max_body {
                return Err(Failure {
                    reason: Reason::TooLarge,
                    message: format!(
                        "the answer is longer than {} bytes (poll_external.max_body)",
                        self.max_body
                    ),
                });
            }
            body.extend_from_slice(&chunk);
        }
        let text = std::str::from_utf8(&body).map_err(|problem| Failure {
            reason: Reason::InvalidUtf8,
            message: format!("the answer is not UTF-8 at byte {}", problem.valid_up_to()),
        })?;
        Ok(Fetched {
            text: Text::new(text),
            peer,
        })
    }
}

fn builder(target: &Target) -> reqwest::Result<ClientBuilder> {
    let mut builder = Client::builder()
        .user_agent(concat!("exporter-proxy/", env!("CARGO_PKG_VERSION")))
        .timeout(target.timeout)
        .redirect(reqwest::redirect::Policy::limited(MOST_REDIRECTS))
        .tls_danger_accept_invalid_certs(target.allow_invalid_certs);
    if let Some(ca) = &target.ca_file {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&ca.pem)?);
    }
    if let TargetUrl::Unix { socket, .. } = &target.url {
        builder = builder.unix_socket(socket.clone()).no_proxy();
    }
    Ok(builder)
}

/// A client for a machine that has no certificates, on which `problem` came of
/// making one that trusts them. Targets that need none are served all the
/// same, and the polls of others fail as they would with a wrong certificate.
fn trusting_nobody(target: &Target, problem: &reqwest::Error) -> reqwest::Result<Client> {
    let client = builder(target)?.tls_certs_only([]).build()?;
    if matches!(&target.url, TargetUrl::Http(url) if url.scheme() == "https") {
        log::warn!(
            "target {}: no certificate is trusted, since none of this machine's can be ({}); \
             a ca_file can name some",
            target.name,
            chain(problem)
        );
    }
    Ok(client)
}

fn headers(target: &Target) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPT_TEXT));
    headers.insert(
        "X-Prometheus-Scrape-Timeout-Seconds",
        HeaderValue::from_str(&target.timeout.as_secs_f64().to_string())
            .map_err(|problem| problem.to_string())?,
    );
    for (name, value) in &target.headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|problem| problem.to_string())?;
        let mut value =
            HeaderValue::from_str(value.reveal()).map_err(|problem| problem.to_string())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

async fn bearer_token(file: &Path) -> Result<HeaderValue, Failure> {
    let failed = |problem: String| Failure {
        reason: Reason::BadSetting,
        message: format!("bearer_token_file {}: {problem}", file.display()),
    };
    let path = file.to_owned();
    let token = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .map_err(|problem| failed(problem.to_string()))?
        .map_err(|problem| failed(problem.to_string()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| failed("its text cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn explain(problem: reqwest::Error) -> Failure {
    // Without the URL, which may hold credentials; the log names the target.
    let problem = problem.without_url();
    let reason = if problem.is_timeout() {
        Reason::Timeout
    } else if problem.is_redirect() {
        Reason::Redirect
    } else if is_tls(&problem) {
        Reason::Tls
    } else if problem.is_connect() {
        Reason::Connect
    } else {
        Reason::Protocol
    };
    Failure {
        reason,
        message: chain(&problem),
    }
}

fn is_tls(problem: &(dyn Error + 'static)) -> bool {
    let mut next = Some(problem);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An I/O error hides what it wraps from `source`.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// An error with its causes, each once.
fn chain(problem: &dyn Error) -> String {
    let mut text = problem.to_string();
    let mut next = problem.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
