//! One poll: asks a target for its text.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode};
use tokio::task::spawn_blocking;
use url::Url;

use super::clients::SharedClient;
use super::config::{Target, TargetUrl};
use super::failure::{Failure, is_end};
use crate::coding::{self, Coding, CodingError};
use crate::exposition::{InputFormat, Text};
use crate::net::BlockingPool;
use crate::peer::Peer;
use crate::reason::Reason;
use crate::redact::redact_url;

/// What Prometheus asks for where it wants text, OpenMetrics left out: text
/// format 0.0.4 is passed through as it is.
const ACCEPT_TEXT: &str = "text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Redirects followed in one poll.
const MOST_REDIRECTS: usize = 10;

/// Compressed answers up to the first size that decompress to at most the second
/// are decompressed on the serving thread. Larger ones would delay its other work.
const PACKED_AT_ONCE: usize = 16 << 10;
const UNPACKED_AT_ONCE: usize = 64 << 10;

/// Asks one target.
#[derive(Debug)]
pub struct Fetcher {
    pub target: Arc<Target>,
    pub client: Arc<SharedClient>,
    /// Whether the connection is kept for the next poll.
    pub keep: bool,
    pub max_body: usize,
    /// Places where large answers are unpacked.
    pub turns: BlockingPool,
}

/// A target's answer.
#[derive(Debug)]
pub struct Fetched {
    pub text: Text,
    /// What the answer calls itself; `None` where that does not tell.
    pub format: Option<InputFormat>,
    pub peer: Peer,
}

impl Fetcher {
    /// Asks, follows redirects, and reads the whole answer.
    pub async fn fetch(&self) -> Result<Fetched, Failure> {
        let own = self.url()?;
        let mut url = own.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.ask(&own, &url).await?;
            match self.redirect(&own, &url, &response)? {
                Some(next) => url = next,
                None => return self.read(&url, response).await,
            }
        }
        let message = format!("too many redirects: at most {MOST_REDIRECTS} are followed");
        Err(Failure::new(Reason::Redirect, &message))
    }

    /// Where the target is asked. A server at a Unix socket sees `localhost`.
    fn url(&self) -> Result<Url, Failure> {
        match &self.target.url {
            TargetUrl::Http(url) => Ok(url.clone()),
            TargetUrl::Unix { path, .. } => Url::parse(&format!("http://localhost{path}"))
                .map_err(|problem| Failure::new(Reason::BadSetting, &format!("url: {problem}"))),
        }
    }

    async fn ask(&self, own: &Url, url: &Url) -> Result<Response, Failure> {
        let failed = |problem: reqwest::Error| Failure::of(&problem, &self.address(url));
        let target = &self.target;
        let mut request = self.client.get(url.clone()).headers(asking(target.timeout));
        // What is configured for the target is for its own server: redirects
        // to another must not carry it there.
        if is_same_server(own, url) {
            if let Some(auth) = &target.basic_auth {
                request = request.basic_auth(&auth.username, Some(auth.password.reveal()));
            }
            let mut headers = configured(target);
            if let Some(file) = &target.bearer_token_file {
                headers.insert(AUTHORIZATION, bearer_token(file).await?);
            }
            request = request.headers(headers);
        }
        let request = request.build().map_err(failed)?;
        self.client.send(request, self.keep).await.map_err(failed)
    }

    /// Where an answer redirects to, if it does.
    fn redirect(&self, own: &Url, url: &Url, response: &Response) -> Result<Option<Url>, Failure> {
        let status = response.status();
        let location = response.headers().get(LOCATION);
        let Some(location) = location.filter(|_| is_redirect(status)) else {
            return Ok(None);
        };
        let failed = |message: String| Failure::new(Reason::Redirect, &message);
        let location = String::from_utf8_lossy(location.as_bytes());
        let mut next = url
            .join(&location)
            .map_err(|problem| failed(format!("answered {status} to no URL: {problem}")))?;
        let shown = redact_url(&next);
        if !self.target.follow_redirects {
            let message = format!("answered {status} to {shown} (follow_redirects is false)");
            return Err(failed(message));
        }
        if !matches!(next.scheme(), "http" | "https") {
            let message = format!("answered {status} to {shown}: only http and https are followed");
            return Err(failed(message));
        }
        let own_server = is_same_server(own, &next);
        if !own_server && matches!(self.target.url, TargetUrl::Unix { .. }) {
            let message = format!("answered {status} to {shown}: a Unix socket leads nowhere else");
            return Err(failed(message));
        }
        if own_server && next.username().is_empty() && next.password().is_none() {
            // Refused only by URLs without a host.
            let _ = next.set_username(own.username());
            let _ = next.set_password(own.password());
        }
        Ok(Some(next))
    }

    async fn read(&self, url: &Url, mut response: Response) -> Result<Fetched, Failure> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(Failure::new(Reason::Status, &format!("answered {status}")));
        }
        let format = format(response.headers())?;
        let coding = coding(response.headers()).map_err(|it| self.undecodable(&it))?;
        let peer = response.remote_addr().map_or(Peer::Unknown, Peer::Tcp);
        let body = self.body(url, &mut response).await?;
        let body = self.unpacked(coding, Bytes::from(body)).await?;
        let text = std::str::from_utf8(&body).map_err(|problem| {
            let at = problem.valid_up_to();
            Failure::new(
                Reason::InvalidUtf8,
                &format!("the answer is not UTF-8 at byte {at}"),
            )
        })?;
        Ok(Fetched {
            text: Text::new(text),
            format,
            peer,
        })
    }

    async fn body(&self, url: &Url, response: &mut Response) -> Result<Vec<u8>, Failure> {
        // Such a body ends with the connection, and many servers close it
        // without the farewell that TLS has for this.
        let headers = response.headers();
        let ends_with_connection =
            !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING);
        let mut body = Vec::new();
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(body),
                Err(problem) if ends_with_connection && is_end(&problem) => return Ok(body),
                Err(problem) => return Err(Failure::of(&problem, &self.address(url))),
            };
            if body.len() + chunk.len() > self.max_body {
                return Err(Failure::too_large(self.max_body));
            }
            body.extend_from_slice(&chunk);
        }
    }

    async fn unpacked(&self, coding: Coding, body: Bytes) -> Result<Bytes, Failure> {
        let limit = self.max_body;
        if coding == Coding::Identity || body.len() <= PACKED_AT_ONCE {
            let at_once = match coding {
                Coding::Identity => limit,
                _ => limit.min(UNPACKED_AT_ONCE),
            };
            match coding::decode(coding, body.clone(), at_once) {
                Err(CodingError::TooLarge { .. }) if at_once < limit => {}
                unpacked => return unpacked.map_err(|problem| self.undecodable(&problem)),
            }
        }
        let unpack = move || coding::decode(coding, body, limit);
        let unpacked = self.turns.run(unpack).await.map_err(|problem| {
            let message = format!("the answer cannot be unpacked: {problem}");
            Failure::new(Reason::Malformed, &message)
        })?;
        unpacked.map_err(|problem| self.undecodable(&problem))
    }

    fn undecodable(&self, problem: &CodingError) -> Failure {
        Failure::undecodable(problem, self.max_body)
    }

    /// Who is asked, for messages.
    fn address(&self, url: &Url) -> String {
        let address = match &self.target.url {
            TargetUrl::Unix { .. } => self.target.url.authority(),
            TargetUrl::Http(_) => TargetUrl::Http(url.clone()).authority(),
        };
        match self.client.may_use_proxy() {
            true => format!("{address} (or the proxy before it)"),
            false => address,
        }
    }
}

/// The headers of every request.
fn asking(timeout: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPT_TEXT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Ok(timeout) = HeaderValue::from_str(&timeout.as_secs_f64().to_string()) {
        headers.insert("X-Prometheus-Scrape-Timeout-Seconds", timeout);
    }
    headers
}

/// The headers that are configured for a target. They were checked when the
/// settings were read.
fn configured(target: &Target) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &target.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.reveal());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether two URLs name one scheme, host and port.
fn is_same_server(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// What an answer is written in, as far as its `Content-Type` tells. Servers
/// of plain files call it anything, and it is text all the same.
fn format(headers: &HeaderMap) -> Result<Option<InputFormat>, Failure> {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let Some(Ok(content_type)) = content_type else {
        return Ok(None);
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    match media.as_str() {
        "application/openmetrics-text" => Ok(Some(InputFormat::OpenMetrics)),
        "application/vnd.google.protobuf" => Err(Failure::new(
            Reason::UnsupportedMedia,
            "answered protobuf, and text was asked for",
        )),
        "text/plain" if parts.any(|part| is_named(part, "version")) => Ok(Some(InputFormat::Text)),
        _ => Ok(None),
    }
}

/// Whether a parameter of a media type has that name.
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

async fn bearer_token(file: &Path) -> Result<HeaderValue, Failure> {
    let failed = |problem: String| {
        let message = format!("bearer_token_file {}: {problem}", file.display());
        Failure::new(Reason::BadSetting, &message)
    };
    let path = file.to_owned();
    let token = spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .map_err(|problem| failed(problem.to_string()))?
        .map_err(|problem| failed(problem.to_string()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| failed("its text cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
