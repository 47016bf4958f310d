//! Sends requests, and judges answers by their status.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use reqwest::{Client, Response, redirect};
use url::Url;

use super::config::HttpSettings;
use crate::clock;
use crate::http_client::{AGENT, Credentials, ProxyChoice, explain, trust};
use crate::outputs::sinks::{Refusal, Report, Verdict};
use crate::reason::Reason;
use crate::telemetry::clip_to;

/// Bytes to read of an answer that only says what is wrong.
const EXPLANATION: usize = 4 << 10;

/// Bytes to show of such an answer.
const SHOWN: usize = 300;

/// Idle connections that are kept. A sink sends one request at a time.
const KEPT_CONNECTIONS: usize = 2;

/// How long an idle connection is kept. After that, the name of the server is resolved again.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Sends the requests of one sink.
#[derive(Debug)]
pub struct HttpClient {
    client: Client,
    credentials: Credentials,
    timeout: Duration,
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
}

impl HttpClient {
    /// A client with these settings.
    ///
    /// # Errors
    ///
    /// A certificate, the key or the proxy cannot be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, String> {
        let tls = &settings.tls;
        let ca = tls.ca_file.as_ref().map(|ca| &*ca.pem);
        let config = trust::config(tls.insecure_skip_verify, ca, &tls.client)?;
        let proxy = ProxyChoice::new(settings.proxy_url.as_ref(), settings.proxy_from_environment)?;
        let builder = Client::builder()
            .user_agent(AGENT)
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(config)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .pool_idle_timeout(KEPT_FOR);
        Ok(HttpClient {
            client: proxy
                .apply(builder)
                .build()
                .map_err(|problem| problem.to_string())?,
            credentials: settings.credentials.clone(),
            timeout: settings.timeout,
        })
    }

    /// Sends a request, and reads at most `max_body` bytes of a good answer.
    ///
    /// # Errors
    ///
    /// There is no answer, in words for the log.
    pub async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        max_body: usize,
    ) -> Result<Answer, String> {
        let own = self.credentials.headers().await;
        let own = own.map_err(|problem| problem.to_string())?;
        let request = self
            .client
            .request(method, url)
            .headers(headers)
            .headers(own)
            .timeout(self.timeout)
            .body(body);
        let explained = |problem: reqwest::Error| {
            let (reason, what) = explain(&problem);
            match reason {
                Reason::Timeout => format!("no answer within {:?}", self.timeout),
                // The cause alone says it: connection refused, network unreachable.
                Reason::Connect => what,
                reason => format!("{}: {what}", reason.describe()),
            }
        };
        let response = request.send().await.map_err(explained)?;
        let status = response.status();
        let headers = response.headers().clone();
        let max_body = match status.is_success() {
            true => max_body,
            false => EXPLANATION,
        };
        Ok(Answer {
            status,
            retry_after: retry_after(&headers),
            headers,
            body: read(response, max_body).await.map_err(explained)?,
        })
    }

    /// Sends a `POST` whose answer applies to all items of a batch.
    pub async fn post_batch(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        items: usize,
    ) -> Report {
        match self.send(Method::POST, url, headers, body, 0).await {
            Ok(answer) => answer.judge(items),
            Err(problem) => Report::failed(0, problem),
        }
    }
}

impl Answer {
    /// The verdicts for a batch of `items`, by status. See the [module](super).
    pub fn judge(&self, items: usize) -> Report {
        let status = self.status.as_u16();
        match status {
            200..=299 => Report::taken(items),
            300..=399 | 401..=404 | 407 | 408 | 425 | 429 | 500.. => Report {
                failure: Some(self.describe()),
                retry_after: self.retry_after,
                ..Report::default()
            },
            _ => Report {
                verdicts: Vec::new(),
                refusal: Some(Refusal {
                    reason: match status {
                        413 => Reason::TooLarge,
                        _ => Reason::Refused,
                    },
                    message: self.describe(),
                    answer: self.explanation(),
                    whole: true,
                }),
                ..Report::default()
            },
        }
    }

    /// The status in words, and what the server says about it.
    pub fn describe_whole(&self) -> String {
        match self.explanation().as_str() {
            "" => self.describe(),
            answer => format!("{}: {answer}", self.describe()),
        }
    }

    /// The status in words.
    pub fn describe(&self) -> String {
        let hint = match self.status.as_u16() {
            300..=399 => " (redirects are not followed)",
            401 | 403 => " (check the credentials)",
            404 => " (check the url)",
            _ => "",
        };
        format!("the server answered {}{hint}", self.status)
    }

    /// The beginning of the body, as one line of text.
    pub fn explanation(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words: Vec<&str> = text.split_whitespace().collect();
        clip_to(SHOWN, &words.join(" "), "…")
    }
}

impl Verdict {
    /// The verdict for one item, in an answer with a status for each.
    pub fn of_status(status: u16) -> Verdict {
        match status {
            200..=299 => Verdict::Taken,
            429 | 500.. => Verdict::Again,
            413 => Verdict::Refused(Reason::TooLarge),
            _ => Verdict::Refused(Reason::Refused),
        }
    }
}

/// Headers with a media type.
pub fn content_type(media: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))])
}

async fn read(mut response: Response, max: usize) -> reqwest::Result<Bytes> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if max > 0 && body.len() == max {
            break;
        }
    }
    Ok(Bytes::from(body))
}

/// The value of `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    let wait = date.to_utc() - DateTime::<Utc>::from(clock::wall());
    wait.to_std().ok()
}
