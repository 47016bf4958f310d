//! `exporter-proxy healthcheck`, for supervisors that run a command: asks the running program for
//! its state over HTTP, at an address from its configuration.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::clock;
use crate::config::Config;
use crate::http::listen::{LIFECYCLE, SCRAPES};
use crate::http_client::tls::ClientTls;
use crate::http_client::trust;
use crate::net::tls::TlsSettings;
use crate::security::Rules;
use crate::settings::Address;
use crate::settings::listen::Listen;
use crate::telemetry::clip;

/// Maximum length of an answer, in bytes. Answers to checks are short.
const MAX_ANSWER: u64 = 16 << 10;

/// The host of requests, which every listener accepts.
const HOST: &str = "localhost";

/// The question to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Whether the program serves.
    Healthy,
    /// Whether it also accepts pushes and is not about to stop.
    Ready,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No listener can be asked.
    #[error("{0}")]
    NoListener(&'static str),
    /// The files of `[web]` cannot be read.
    #[error("{0}")]
    Web(String),
    /// The program does not answer.
    #[error("{place} ({setting}): {problem}")]
    NoAnswer {
        /// The address or path.
        place: String,
        /// The setting that it comes from.
        setting: String,
        /// What went wrong.
        problem: String,
    },
    /// The program answers that it is not healthy or not ready.
    #[error("{place} ({setting}) answers {status}: {text}")]
    Refused {
        /// The address or path.
        place: String,
        /// The setting that it comes from.
        setting: String,
        /// The status code.
        status: u16,
        /// The first line of the answer.
        text: String,
    },
}

/// Asks the program that runs with this configuration, and waits up to `timeout` for the answer.
/// Returns the answer.
///
/// # Errors
///
/// The program is not healthy or not ready, or does not answer.
pub fn run(config: &Config, check: Check, timeout: Duration) -> Result<String, CheckError> {
    let rules = Rules::load(&config.web.security).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string);
        CheckError::Web(problems.collect::<Vec<_>>().join("\n"))
    })?;
    let (setting, address, tls) = listener(config, rules.tls.as_ref())?;
    let deadline = clock::tick() + timeout;
    let path = match check {
        Check::Healthy => "/-/healthy",
        Check::Ready => "/-/ready",
    };
    let prefix = config.web.front.route_prefix.trim_end_matches('/');
    let request =
        format!("GET {prefix}{path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let (place, answer) = match address {
        Asked::Tcp(address) => {
            let place = address.to_string();
            (place, ask_tcp(address, tls, &request, deadline))
        }
        Asked::Unix(path) => {
            let place = path.display().to_string();
            (place, ask_unix(path, &request, deadline))
        }
    };
    let (status, text) = answer.map_err(|problem| CheckError::NoAnswer {
        place: place.clone(),
        setting: setting.clone(),
        problem: match problem.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer within {timeout:?} (--timeout)")
            }
            _ => problem.to_string(),
        },
    })?;
    match (status, check) {
        (200, _) => Ok(text),
        // The program serves, but gives this machine no role.
        (401 | 403, Check::Healthy) => Ok(format!("{status}: {text}")),
        _ => Err(CheckError::Refused {
            place,
            setting,
            status,
            text,
        }),
    }
}

/// A listener that can be asked.
enum Asked<'c> {
    Tcp(&'c Address),
    Unix(&'c Path),
}

/// The first listener that can be asked, with the name of its setting and its TLS: one for health
/// checks if possible, otherwise one for scrapes.
fn listener<'c>(
    config: &'c Config,
    shared: Option<&'c TlsSettings>,
) -> Result<(String, Asked<'c>, Option<&'c TlsSettings>), CheckError> {
    const NEEDS_CERTIFICATE: &str = "every listener requires a client certificate (client_auth_type): give lifecycle.listen an \
         address of this machine without client_auth_type";
    const UNKNOWN_PORT: &str = "the port is 0, so the system chooses another one at each start: give lifecycle.listen a port";
    let mut why = UNKNOWN_PORT;
    let checks = config.lifecycle.listen.named(LIFECYCLE);
    let scrapes = &config.exporter.scrape_expose_endpoint;
    for (setting, listener) in checks.chain(scrapes.named(SCRAPES)) {
        let tls = match &listener.address {
            Listen::Tcp(_) => listener.tls.as_ref().or(shared),
            Listen::Unix(_) | Listen::Off => None,
        };
        if tls.is_some_and(|tls| tls.client_auth_type.is_required()) {
            why = NEEDS_CERTIFICATE;
            continue;
        }
        match &listener.address {
            Listen::Tcp(address) if address.port != 0 => {
                return Ok((setting, Asked::Tcp(address), tls));
            }
            Listen::Unix(path) => return Ok((setting, Asked::Unix(path), None)),
            Listen::Tcp(_) | Listen::Off => {}
        }
    }
    Err(CheckError::NoListener(why))
}

fn ask_tcp(
    address: &Address,
    tls: Option<&TlsSettings>,
    request: &str,
    deadline: Instant,
) -> io::Result<(u16, String)> {
    let mut last = io::Error::other("the name has no address");
    let mut connected = None;
    for at in (address.host(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&reachable(at), left(deadline)?) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(problem) => last = problem,
        }
    }
    let Some(stream) = connected else {
        return Err(last);
    };
    stream.set_write_timeout(Some(left(deadline)?))?;
    let set_timeout = |stream: &TcpStream| stream.set_read_timeout(Some(left(deadline)?));
    if tls.is_none() {
        return ask(stream, request, set_timeout);
    }
    // The certificate has the names that other clients use, and the answer is no secret, so the
    // certificate is not verified.
    let settings = trust::config(true, None, &ClientTls::default()).map_err(io::Error::other)?;
    let name = ServerName::try_from(HOST).expect("a valid name");
    let client = ClientConnection::new(Arc::new(settings), name).map_err(io::Error::other)?;
    let stream = StreamOwned::new(client, stream);
    ask(stream, request, |stream| set_timeout(&stream.sock))
}

fn ask_unix(path: &Path, request: &str, deadline: Instant) -> io::Result<(u16, String)> {
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    ask(stream, request, |stream| {
        stream.set_read_timeout(Some(left(deadline)?))
    })
}

/// The address to connect to. For a listener bound to all addresses of the machine, this is the
/// loopback.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::tick());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// Sends the request, and reads the status and the first line of the body. `set_timeout` is called
/// before each read, so that all reads end by the deadline.
fn ask<S: Read + Write>(
    mut stream: S,
    request: &str,
    set_timeout: impl Fn(&S) -> io::Result<()>,
) -> io::Result<(u16, String)> {
    set_timeout(&stream)?;
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while (answer.len() as u64) < MAX_ANSWER {
        set_timeout(&stream)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            // The server closed without ending TLS, as some do.
            Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(problem) => return Err(problem),
        }
    }
    read_answer(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn read_answer(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let line = head.lines().next()?;
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let text = body.lines().next().unwrap_or_default();
    Some((status.parse().ok()?, clip(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    #[test]
    fn listeners_for_checks_are_asked_first_if_possible() {
        for (text, expected) in [
            ("", "exporter.scrape_expose_endpoint 0.0.0.0:6555"),
            (
                "[lifecycle]\nlisten = \"127.0.0.1:1\"\n",
                "lifecycle.listen 127.0.0.1:1",
            ),
            (
                "[exporter]\nscrape_expose_endpoint = [\"127.0.0.1:0\", \"unix:/run/m.sock\"]\n",
                "exporter.scrape_expose_endpoint[1] /run/m.sock",
            ),
            (
                "[exporter]\nscrape_expose_endpoint = \"127.0.0.1:0\"\n",
                "the port is 0, so the system chooses another one at each start: give lifecycle.listen a port",
            ),
        ] {
            let config = settle("test", text, []).unwrap().0;
            let found = match listener(&config, None) {
                Ok((setting, Asked::Tcp(address), _)) => format!("{setting} {address}"),
                Ok((setting, Asked::Unix(path), _)) => format!("{setting} {}", path.display()),
                Err(problem) => problem.to_string(),
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_answer_has_a_status_and_a_line() {
        let of = |answer| read_answer(answer);
        assert_eq!(
            of("HTTP/1.1 200 OK\r\nA: b\r\n\r\nOK\nmore"),
            Some((200, "OK".to_owned()))
        );
        assert_eq!(
            of("HTTP/1.0 503 Service Unavailable\r\n\r\n"),
            Some((503, String::new()))
        );
        for other in ["", "SSH-2.0\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1\r\n\r\n"] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }

    #[test]
    fn all_addresses_are_reached_over_the_loopback() {
        for (bound, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.5:1", "10.0.0.5:1"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
