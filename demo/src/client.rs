//! An HTTP client without TLS.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

/// The limit on the body of a reply, in bytes.
const MAX_REPLY: usize = 1 << 20;

/// Sends requests over connections that it keeps.
#[derive(Debug, Clone)]
pub struct Client {
    connections: Connections<HttpConnector, Full<Bytes>>,
    /// The time for a whole reply.
    timeout: Duration,
}

impl Client {
    /// Creates a client with a time limit for each reply.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Client {
            connections: Connections::builder(TokioExecutor::new()).build(connector),
            timeout,
        }
    }

    /// Sends a request, with a body of the given type if there is one, and returns the status and
    /// the body of the reply.
    ///
    /// # Errors
    ///
    /// The URL is not valid, or there is no whole reply in time.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<(StatusCode, Bytes)> {
        let url: Uri = url
            .parse()
            .with_context(|| format!("{url:?} is not a URL"))?;
        let mut request = Request::builder().method(method).uri(url);
        let mut content = Vec::new();
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type);
            content = body;
        }
        let request = request.body(Full::from(content))?;
        let exchange = async {
            let reply = self.connections.request(request).await?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
            let body = body.map_err(|problem| anyhow::anyhow!(problem))?;
            Ok((status, body.to_bytes()))
        };
        let reply = timeout(self.timeout, exchange).await;
        reply.with_context(|| format!("no reply within {:?}", self.timeout))?
    }
}
