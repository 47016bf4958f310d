//! Runs the handshake of one connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, Error};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::server::TlsServer;
use crate::net::{HANDSHAKE_RECORD, PlainStream, Stream, turn_away};
use crate::peer::{ClientIdentity, Peer};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{HandshakeFailure, ListenerName, ListenerStats};

/// A connection with TLS, and the verified names of its client.
type Secured = (Stream, Option<Arc<ClientIdentity>>);

/// A handshake on one connection.
#[derive(Debug)]
pub struct Handshake<'s> {
    /// The certificate and rules.
    pub server: &'s Arc<TlsServer>,
    /// The name of the listener.
    pub name: ListenerName,
    /// The peer.
    pub peer: Peer,
    /// The time limit.
    pub timeout: Duration,
}

/// Why a handshake failed, with a message for the log.
struct Failed(HandshakeFailure, String);

impl Handshake<'_> {
    /// Secures a connection. A failure is counted and logged.
    pub async fn run(self, mut stream: PlainStream, stats: &ListenerStats) -> Option<Secured> {
        let handshake = async {
            match is_plain(&stream).await? {
                true => Ok(None),
                false => Ok(Some(self.server.config().await)),
            }
        };
        let deadline = Instant::now() + self.timeout;
        let begun = timeout_at(deadline, handshake).await;
        match begun.unwrap_or_else(|_| Err(self.timed_out())) {
            Ok(Some(config)) => {
                let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
                match timeout_at(deadline, accept).await {
                    Ok(Ok(stream)) => {
                        stats.handshakes.add(1);
                        let identity = self.server.identity(stream.get_ref().1);
                        return Some((Stream::Tls(Box::new(stream)), identity.map(Arc::new)));
                    }
                    Ok(Err((problem, mut stream))) => {
                        self.count_failure(&failure(&problem), stats);
                        // The client was sent an alert. With TLS 1.3 its handshake may already
                        // be complete, and its first bytes on the way.
                        turn_away(&mut stream, &[]).await;
                    }
                    Err(_) => self.count_failure(&self.timed_out(), stats),
                }
            }
            Ok(None) => {
                let problem = format!("the client does not use TLS ({})", self.server.setting());
                self.count_failure(&Failed(HandshakeFailure::NotTls, problem), stats);
                self.answer_plain(&mut stream).await;
            }
            Err(failed) => self.count_failure(&failed, stats),
        }
        None
    }

    fn timed_out(&self) -> Failed {
        let limit = self.timeout;
        let problem = format!("not done within {limit:?} (exporter.tls_handshake_timeout)");
        Failed(HandshakeFailure::Timeout, problem)
    }

    fn count_failure(&self, Failed(why, problem): &Failed, stats: &ListenerStats) {
        stats.count_failed_handshake(*why);
        let event = match why {
            // Health checks connect and disconnect.
            HandshakeFailure::Closed => LogEvent::Connection,
            _ => LogEvent::Handshake,
        };
        let (name, peer, why) = (self.name.as_str(), self.peer, why.as_str());
        sender_log::write(
            event,
            About::peer(peer),
            format_args!("{name}: TLS handshake with {peer} failed ({why}): {problem}"),
        );
    }

    /// Tells a client without TLS that this port expects TLS.
    async fn answer_plain(&self, stream: &mut PlainStream) {
        let setting = self.server.setting();
        let answer = match self.name {
            ListenerName::Http | ListenerName::Push | ListenerName::Lifecycle => {
                // The message begins with Go's words for this error, which people search for.
                let problem = format!(
                    "client sent an HTTP request to an HTTPS server: use https:// ({setting})\n"
                );
                format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{problem}",
                    problem.len()
                )
            }
            _ => format!("error: this port expects TLS ({setting})\n"),
        };
        turn_away(stream, answer.as_bytes()).await;
    }
}

/// Whether the first byte of a connection is not the start of a handshake.
async fn is_plain(stream: &PlainStream) -> Result<bool, Failed> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => {
            let problem = "the connection ended before the first byte".to_owned();
            Err(Failed(HandshakeFailure::Closed, problem))
        }
        Ok(_) => Ok(first[0] != HANDSHAKE_RECORD),
        Err(problem) => Err(Failed(HandshakeFailure::Closed, problem.to_string())),
    }
}

/// Classifies a failed handshake.
fn failure(problem: &io::Error) -> Failed {
    let inner = problem.get_ref();
    let Some(cause) = inner.and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Failed(HandshakeFailure::Closed, problem.to_string());
    };
    let why = match cause {
        Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
        Error::InvalidCertificate(_) => HandshakeFailure::BadCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeFailure::Unsupported,
        Error::AlertReceived(_) => HandshakeFailure::Rejected,
        _ => HandshakeFailure::Protocol,
    };
    let message = match cause {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::AlertReceived(alert) => format!("the client ended it with the alert {alert:?}"),
        cause => cause.to_string(),
    };
    Failed(why, message)
}
