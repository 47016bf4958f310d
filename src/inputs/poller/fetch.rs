//! Fetches the text of a target over HTTP: one poll.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderValue, LOCATION, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode};
use url::Url;

use super::body::{BodyLimit, ReceivedBody};
use super::clients::{MAX_CONNECTION_AGE, SharedClient};
use super::config::target::{Target, TargetUrl};
use super::direct;
use super::error::ScrapeError;
use super::file;
use super::kept;
use crate::coding::{self, Coding, CodingError};
use crate::exposition::{InputFormat, Text};
use crate::http_client::{INSTANCE_HEADER, instance, is_end};
use crate::net::{BlockingPool, BudgetShare};
use crate::peer::Peer;
use crate::reason::Reason;
use crate::redact::redact_url;

/// The value that Prometheus sends, without OpenMetrics: text format 0.0.4 needs no conversion.
const ACCEPT_TEXT: &str = "text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The limit on redirects of one poll.
const MAX_REDIRECTS: usize = 10;

/// Polls one target.
#[derive(Debug)]
pub struct Fetcher {
    /// The settings of the target.
    pub target: Arc<Target>,
    /// The client for its requests.
    pub client: Arc<SharedClient>,
    /// Whether to keep the connection for the next poll.
    pub keep: bool,
    /// The limit on bytes of a response, after decompression.
    pub max_body: usize,
    /// Threads for decompressing large responses.
    pub pool: BlockingPool,
    /// What is requested.
    pub purpose: Purpose,
}

/// What to request from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Metrics.
    Scrape,
    /// A list of targets.
    List,
}

/// The response of a target.
#[derive(Debug)]
pub struct Fetched {
    /// The text, decompressed.
    pub text: Text,
    /// The format by `Content-Type`; `None` if that does not decide.
    pub format: Option<InputFormat>,
    /// The server that responded.
    pub peer: Peer,
    /// When a file was last modified, in seconds since 1970.
    pub modified: Option<f64>,
    /// The share of the text in the limit of all responses, held with the text; `None` for
    /// a file.
    pub share: Option<BudgetShare>,
    /// The memory of the text, if the next response can use it.
    pub memory: Option<Bytes>,
}

/// A response whose body may not have arrived yet.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    peer: Peer,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Whole(ReceivedBody),
    Coming(Response),
}

/// The outcome of one request.
#[derive(Debug)]
enum Followed {
    /// The whole response.
    Fetched(Fetched),
    /// The URL of the redirect.
    Redirected(Url),
}

impl Fetcher {
    /// Sends the request, follows redirects, and reads the whole response.
    ///
    /// # Errors
    ///
    /// The request failed, or the response is not a valid text.
    pub async fn fetch(&self) -> Result<Fetched, ScrapeError> {
        if let TargetUrl::File(path) = &self.target.url {
            let (text, modified) = file::read(path, self.max_body, self.has_own_limit()).await?;
            return Ok(Fetched {
                text,
                format: Some(InputFormat::Text),
                peer: Peer::Unknown,
                modified: Some(modified),
                share: None,
                memory: None,
            });
        }
        let own = self.url()?;
        let mut url = own.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.follow(&own, &url).await {
                Ok(Followed::Redirected(next)) => url = next,
                Ok(Followed::Fetched(fetched)) => return Ok(fetched),
                Err(error) if url != own => {
                    return Err(error.within(&format!("redirected to {}", redact_url(&url))));
                }
                Err(error) => return Err(error),
            }
        }
        let message = format!("too many redirects: at most {MAX_REDIRECTS} are followed");
        Err(ScrapeError::new(Reason::Redirect, &message))
    }

    /// Sends one request, and reads the response unless it is a redirect.
    async fn follow(&self, own: &Url, url: &Url) -> Result<Followed, ScrapeError> {
        let answer = self.request(own, url).await?;
        Ok(match self.redirect(own, url, &answer)? {
            Some(next) => Followed::Redirected(next),
            None => Followed::Fetched(self.read(url, answer).await?),
        })
    }

    /// The URL of the request. For a Unix socket, its host is `localhost`.
    fn url(&self) -> Result<Url, ScrapeError> {
        match &self.target.url {
            TargetUrl::Http(url) => Ok(url.clone()),
            TargetUrl::File(_) => Err(ScrapeError::new(Reason::BadSetting, "a file has no URL")),
            TargetUrl::Unix { path, .. } => {
                Url::parse(&format!("http://localhost{path}")).map_err(|problem| {
                    ScrapeError::new(Reason::BadSetting, &format!("url: {problem}"))
                })
            }
        }
    }

    async fn request(&self, own: &Url, url: &Url) -> Result<Answer, ScrapeError> {
        let failed = |problem: reqwest::Error| ScrapeError::request(&problem, &self.address(url));
        let target = &self.target;
        let mut request = self.client.get(url.clone()).headers(self.request_headers());
        // Configured credentials and headers are only for the target's own server, not for
        // servers that it redirects to.
        if is_same_server(own, url) {
            let headers = target.settings.requests.credentials.headers().await?;
            request = request.headers(headers);
        }
        let request = request.build().map_err(failed)?;
        if let Some((client, address)) = self.client.direct(url) {
            let to = (address, request.url());
            let interval = target.settings.interval.every();
            let keep = interval.is_none_or(|interval| interval < MAX_CONNECTION_AGE);
            let response = client.get(to, request.headers(), self.max_body, keep).await;
            let response = response.map_err(|problem| {
                ScrapeError::direct(
                    &problem,
                    &self.address(url),
                    self.max_body,
                    self.has_own_limit(),
                )
            })?;
            return Ok(Answer {
                status: response.status,
                headers: response.headers,
                peer: Peer::Tcp(address),
                body: Body::Whole(response.body),
            });
        }
        let sent = self.client.send(request, self.keep).await;
        let mut response = sent.map_err(failed)?;
        Ok(Answer {
            status: response.status(),
            headers: mem::take(response.headers_mut()),
            peer: response.remote_addr().map_or(Peer::Unknown, Peer::Tcp),
            body: Body::Coming(response),
        })
    }

    /// The URL that a response redirects to, if it is a redirect.
    fn redirect(&self, own: &Url, url: &Url, answer: &Answer) -> Result<Option<Url>, ScrapeError> {
        let status = answer.status;
        let location = answer.headers.get(LOCATION);
        let Some(location) = location.filter(|_| is_redirect(status)) else {
            return Ok(None);
        };
        let failed = |message: String| ScrapeError::new(Reason::Redirect, &message);
        let location = String::from_utf8_lossy(location.as_bytes());
        let mut next = url.join(&location).map_err(|problem| {
            failed(format!(
                "redirected ({status}) to an invalid URL: {problem}"
            ))
        })?;
        let shown = redact_url(&next);
        if !self.target.settings.requests.follow_redirects {
            let message =
                format!("redirected ({status}) to {shown}, and follow_redirects is false");
            return Err(failed(message));
        }
        if !matches!(next.scheme(), "http" | "https") {
            let message =
                format!("redirected ({status}) to {shown}; only http and https are followed");
            return Err(failed(message));
        }
        let own_server = is_same_server(own, &next);
        if !own_server && matches!(self.target.url, TargetUrl::Unix { .. }) {
            let message = format!(
                "redirected ({status}) to {shown}; a target on a Unix socket can redirect only to itself"
            );
            return Err(failed(message));
        }
        if own_server && next.username().is_empty() && next.password().is_none() {
            // This fails only for URLs without a host.
            let _ = next.set_username(own.username());
            let _ = next.set_password(own.password());
        }
        Ok(Some(next))
    }

    async fn read(&self, url: &Url, answer: Answer) -> Result<Fetched, ScrapeError> {
        let status = answer.status;
        if status != StatusCode::OK {
            return Err(ScrapeError::new(
                Reason::Status,
                &format!("answered {status}"),
            ));
        }
        let format = format(&answer.headers)?;
        let coding = coding(&answer.headers).map_err(|it| self.undecodable(&it))?;
        let body = match answer.body {
            Body::Whole(body) => body,
            Body::Coming(response) => self.body(url, &answer.headers, response).await?,
        };
        let (body, mut share) = body.finish();
        let body = self.decompress(coding, Bytes::from(body)).await?;
        if !share.grow(body.len().saturating_sub(share.bytes())) {
            return Err(self.beyond(BodyLimit::All));
        }
        let is_large = body.len() >= kept::LEAST;
        let memory = (coding == Coding::Identity && is_large).then(|| body.clone());
        let text = match coding {
            Coding::Identity => Text::from_body(body),
            // Copy the text, to drop the spare capacity left by decompression.
            _ => std::str::from_utf8(&body).map(Text::new),
        };
        let text = text.map_err(|problem| {
            let at = problem.valid_up_to();
            ScrapeError::new(
                Reason::InvalidUtf8,
                &format!("the response is not UTF-8 at byte {at}"),
            )
        })?;
        Ok(Fetched {
            text,
            format,
            peer: answer.peer,
            modified: None,
            share: Some(share),
            memory,
        })
    }

    async fn body(
        &self,
        url: &Url,
        headers: &HeaderMap,
        mut response: Response,
    ) -> Result<ReceivedBody, ScrapeError> {
        // Without a length, the body ends with the connection, and many servers close
        // it without `close_notify`.
        let ends_with_connection =
            !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING);
        let mut body = ReceivedBody::new(self.max_body);
        body.reserve(direct::length(headers));
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(body),
                Err(problem) if ends_with_connection && is_end(&problem) => return Ok(body),
                Err(problem) => return Err(ScrapeError::request(&problem, &self.address(url))),
            };
            body.extend(&chunk).map_err(|limit| self.beyond(limit))?;
        }
    }

    async fn decompress(&self, coding: Coding, body: Bytes) -> Result<Bytes, ScrapeError> {
        let limit = self.max_body;
        let decoded = match coding::decode_small(coding, &body, limit) {
            Some(decoded) => decoded,
            None => {
                let decode = move || coding::decode(coding, body, limit);
                self.pool.run(decode).await.map_err(|error| {
                    let message = format!("the response cannot be decompressed: {error}");
                    ScrapeError::new(Reason::Malformed, &message)
                })?
            }
        };
        decoded.map_err(|error| self.undecodable(&error))
    }

    fn undecodable(&self, problem: &CodingError) -> ScrapeError {
        ScrapeError::undecodable(problem, self.max_body, self.has_own_limit())
    }

    fn beyond(&self, exceeded: BodyLimit) -> ScrapeError {
        ScrapeError::beyond(exceeded, self.max_body, self.has_own_limit())
    }

    /// Whether the limit on bytes is the target's own.
    fn has_own_limit(&self) -> bool {
        self.target.settings.body_size_limit.is_some()
    }

    /// The headers of every request.
    fn request_headers(&self) -> HeaderMap {
        let settings = &self.target.settings;
        let (accept, name, time) = match self.purpose {
            Purpose::Scrape => (
                ACCEPT_TEXT,
                "X-Prometheus-Scrape-Timeout-Seconds",
                settings.timeout,
            ),
            Purpose::List => (
                "application/json",
                "X-Prometheus-Refresh-Interval-Seconds",
                settings.interval.every().unwrap_or_default(),
            ),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if self.purpose == Purpose::List {
            headers.insert(INSTANCE_HEADER, HeaderValue::from_static(instance()));
        }
        if let Ok(time) = HeaderValue::from_str(&time.as_secs_f64().to_string()) {
            headers.insert(name, time);
        }
        headers
    }

    /// The server, for error messages.
    fn address(&self, url: &Url) -> String {
        let address = match &self.target.url {
            TargetUrl::Unix { .. } | TargetUrl::File(_) => self.target.url.authority(),
            TargetUrl::Http(_) => TargetUrl::Http(url.clone()).authority(),
        };
        match self.client.may_use_proxy() {
            true => format!("{address} (or the proxy before it)"),
            false => address,
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether two URLs have the same scheme, host and port.
fn is_same_server(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// The format of a response by its `Content-Type`; `None` if that does not decide, since
/// servers of plain files send any type.
fn format(headers: &HeaderMap) -> Result<Option<InputFormat>, ScrapeError> {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let Some(Ok(content_type)) = content_type else {
        return Ok(None);
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    match media.as_str() {
        "application/openmetrics-text" => Ok(Some(InputFormat::OpenMetrics)),
        "application/vnd.google.protobuf" => Err(ScrapeError::new(
            Reason::UnsupportedMedia,
            "answered protobuf, but text was requested",
        )),
        "text/plain" if parts.any(|part| is_named(part, "version")) => Ok(Some(InputFormat::Text)),
        _ => Ok(None),
    }
}

/// Whether a parameter of a media type has this name.
fn is_named(parameter: &str, name: &str) -> bool {
    let before = parameter.split_once('=').map(|(before, _)| before.trim());
    before.is_some_and(|before| before.eq_ignore_ascii_case(name))
}

fn coding(headers: &HeaderMap) -> Result<Coding, CodingError> {
    let codings: Vec<_> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    Coding::from_header(&codings.join(","))
}
