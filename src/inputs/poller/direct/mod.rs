//! Polls servers at an IP address over plain HTTP.
//!
//! Such a target needs no name resolution, TLS or proxy. Its connection can be kept from
//! poll to poll as a bare socket: between polls it has no task and no buffers, so keeping
//! thousands costs little. Opening a connection for each poll would take longer than the
//! rest of a poll of a hundred series.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::TcpStream;
use url::{Host, Position, Url};

use super::body::{BodyLimit, ReceivedBody};
use crate::clock::tick;
use crate::http_client::AGENT;

/// Kept connections may use one part in `DESCRIPTOR_SHARE` of the file descriptors. The
/// rest are for senders and scrapers.
const DESCRIPTOR_SHARE: u64 = 2;

/// The limit on kept connections, even if more file descriptors are allowed. The kernel
/// takes a few KB for each.
const MAX_KEPT: usize = 16_384;

/// Connections between polls.
#[derive(Debug, Default)]
pub struct DirectClient {
    kept: Mutex<HashMap<SocketAddr, Kept>>,
    /// The limit on kept connections. The first one sets it, since the program raises its
    /// file descriptor limit only after it has created clients.
    limit: OnceLock<usize>,
}

#[derive(Debug)]
struct Kept {
    socket: TcpStream,
    since: Instant,
}

/// The response of a server. Only the body of a successful one is read.
#[derive(Debug)]
pub struct DirectResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReceivedBody,
}

/// Why a request failed.
#[derive(Debug)]
pub enum DirectError {
    /// The connection could not be opened.
    Connect(io::Error),
    /// The request got no response.
    Request(hyper::Error),
    /// The response is incomplete.
    Body(hyper::Error),
    /// The body exceeds a limit.
    TooLarge(BodyLimit),
    /// The URL or host is not valid in a request.
    Url,
}

/// The address of a server that can be polled directly.
pub fn address(url: &Url) -> Option<SocketAddr> {
    let ip: IpAddr = match url.host()? {
        Host::Ipv4(ip) => ip.into(),
        Host::Ipv6(ip) => ip.into(),
        Host::Domain(_) => return None,
    };
    let port = url.port_or_known_default()?;
    (url.scheme() == "http").then(|| SocketAddr::new(ip, port))
}

/// The limit on kept connections.
fn most_kept() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let share = usize::try_from(descriptors / DESCRIPTOR_SHARE).unwrap_or(MAX_KEPT);
    share.min(MAX_KEPT)
}

impl DirectClient {
    /// Sends a `GET` to the server at `address`. With `keep`, it may use the kept
    /// connection, and keeps the connection afterwards. The server may have closed a kept
    /// one: without a response, the request is sent again over a new connection.
    ///
    /// # Errors
    ///
    /// The request failed, or the response is incomplete or exceeds `max_body` bytes.
    pub async fn get(
        &self,
        (address, url): (SocketAddr, &Url),
        headers: &HeaderMap,
        max_body: usize,
        keep: bool,
    ) -> Result<DirectResponse, DirectError> {
        let kept = keep.then(|| self.take(address)).flatten();
        let sent = match kept {
            Some(socket) => match exchange(socket, request(url, headers)?, max_body).await {
                // A response that cannot be parsed is a response nevertheless.
                Err(DirectError::Request(problem)) if !problem.is_parse() => {
                    log::debug!("a kept connection was closed by the target; opening another");
                    None
                }
                sent => Some(sent?),
            },
            None => None,
        };
        let (response, socket) = match sent {
            Some(sent) => sent,
            None => {
                let socket = TcpStream::connect(address).await;
                let socket = socket.map_err(DirectError::Connect)?;
                exchange(socket, request(url, headers)?, max_body).await?
            }
        };
        if let Some(socket) = socket.filter(|_| keep) {
            self.keep(address, socket);
        }
        Ok(response)
    }

    /// Closes connections that have not been used for `age`, such as those of removed targets.
    pub fn close_unused(&self, age: Duration) {
        let now = tick();
        let mut kept = self.kept();
        kept.retain(|_, kept| now.saturating_duration_since(kept.since) < age);
        kept.shrink_to_fit();
    }

    /// Takes the kept connection, unless the server has closed it or sent unexpected data.
    fn take(&self, address: SocketAddr) -> Option<TcpStream> {
        let socket = self.kept().remove(&address)?.socket;
        let read = socket.try_read(&mut [0]);
        let is_quiet = read.is_err_and(|problem| problem.kind() == io::ErrorKind::WouldBlock);
        is_quiet.then_some(socket)
    }

    fn keep(&self, address: SocketAddr, socket: TcpStream) {
        let (since, limit) = (tick(), *self.limit.get_or_init(most_kept));
        let mut kept = self.kept();
        if kept.len() < limit || kept.contains_key(&address) {
            kept.insert(address, Kept { socket, since });
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<SocketAddr, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(url: &Url, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, DirectError> {
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().map_err(|_| DirectError::Url)?;
    let host = HeaderValue::from_str(host).map_err(|_| DirectError::Url)?;
    let all = request.headers_mut();
    all.insert(HOST, host);
    all.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    // Configured headers take precedence over the usual ones.
    for name in headers.keys() {
        all.remove(name);
    }
    for (name, value) in headers {
        all.append(name, value.clone());
    }
    Ok(request)
}

/// Sends a request and reads the response, within this task. Returns the socket if another
/// request can follow.
async fn exchange(
    socket: TcpStream,
    request: Request<Empty<Bytes>>,
    max_body: usize,
) -> Result<(DirectResponse, Option<TcpStream>), DirectError> {
    let opened = http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = opened.map_err(DirectError::Request)?;
    let mut connection = pin!(connection.without_shutdown());
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await;
        let (head, mut incoming) = response.map_err(DirectError::Request)?.into_parts();
        let is_read = head.status == StatusCode::OK;
        let mut body = ReceivedBody::new(max_body);
        if is_read {
            body.reserve(length(&head.headers));
        }
        while is_read && let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(DirectError::Body)?.into_data() else {
                continue;
            };
            body.extend(&data).map_err(DirectError::TooLarge)?;
        }
        drop(sender);
        Ok((head, body))
    });
    let mut ended = None;
    let (head, body) = poll_fn(|context| {
        if ended.is_none()
            && let Poll::Ready(end) = connection.as_mut().poll(context)
        {
            ended = Some(end);
        }
        exchange.as_mut().poll(context)
    })
    .await?;
    let can_be_kept = can_be_kept(&head);
    let socket = poll_fn(|context| {
        let end = match ended.take() {
            Some(end) => end,
            None => match connection.as_mut().poll(context) {
                Poll::Ready(end) => end,
                Poll::Pending => return Poll::Ready(None),
            },
        };
        let parts = end.ok().filter(|parts| parts.read_buf.is_empty());
        Poll::Ready(parts.map(|parts| parts.io.into_inner()))
    })
    .await;
    let response = DirectResponse {
        status: head.status,
        headers: head.headers,
        body,
    };
    Ok((response, socket.filter(|_| can_be_kept)))
}

/// Whether the connection can be kept: the server agrees, and the response ended before the
/// connection.
fn can_be_kept(head: &Parts) -> bool {
    let closes = head.headers.get_all(CONNECTION).iter().any(|value| {
        let value = value.to_str().unwrap_or("close");
        value
            .split(',')
            .any(|option| option.trim().eq_ignore_ascii_case("close"))
    });
    let has_end =
        head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING);
    head.status == StatusCode::OK && head.version == Version::HTTP_11 && has_end && !closes
}

/// The length of a body by its headers; 0 if they do not say it.
pub fn length(headers: &HeaderMap) -> usize {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
    let length = length.and_then(|length| length.ok()?.parse().ok());
    length.unwrap_or_default()
}

#[cfg(test)]
mod tests;
