//! The accept loop that serves every listener.

mod waiting;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::permits::{Permit, Permits};
use super::proxy_header;
use super::tls::{Handshake, TlsServer};
use super::{Balancers, Listener, PlainStream, Stream, turn_away};
use crate::clock;
use crate::live::Live;
use crate::peer::{ClientIdentity, Peer, Sender};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{Eviction, ListenerName, ListenerStats, RateLimit};
pub use waiting::MAX_WAITING;
use waiting::WaitingConnections;

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Connections that are open at once.
    pub connections: usize,
    /// How long a write waits for the peer to take some bytes.
    pub write_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// The load balancers that name the client of each connection.
    pub balancers: Balancers,
}

/// The current terms of a listener for the connections that it accepts.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Its limits.
    pub limits: ListenerLimits,
    /// Its certificate and rules; `None` without TLS.
    pub tls: Option<Arc<TlsServer>>,
}

/// An accepted connection. Dropping it returns its permit.
#[derive(Debug)]
pub struct Connection {
    /// Both directions of the connection.
    pub stream: Stream,
    /// The peer: an address or a local process.
    pub peer: Peer,
    /// The names in the client certificate, if it was verified.
    pub identity: Option<Arc<ClientIdentity>>,
    permit: Permit,
}

impl Connection {
    /// Splits off the permit, which must be kept while the stream is open.
    pub fn split(self) -> (Stream, Permit) {
        (self.stream, self.permit)
    }
}

/// The pause after the first accept error. It doubles with each further error in a row, up
/// to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// When [`MAX_WAITING`] connections wait, one that has waited this long is turned away,
/// because the next one in the kernel's queue may come from an address with fewer
/// connections. This is twice the time after which a connection is idle.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// After the first connection is turned away, others beyond [`MAX_WAITING`] are turned away
/// at this interval until permits are returned again, because a connection from another
/// address may be far behind them in the kernel's queue.
const TURN_AWAY_INTERVAL: Duration = Duration::from_millis(1);

/// How long to wait for a permit before looking for another connection to evict.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The minimum time between log lines that say that the listener is full.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The minimum time between log lines about accept errors.
const ERROR_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Reads which client a load balancer names; `None` if the connection has no valid header.
/// The sender is then told why, in one line.
async fn client_of(
    stream: &mut PlainStream,
    name: ListenerName,
    balancer: Peer,
    stats: &ListenerStats,
) -> Option<Peer> {
    match proxy_header::read(stream).await {
        Ok(client) => {
            stats.proxy_headers.count(Ok(()), 1);
            // Without a client, the connection is the balancer's own: a health check.
            Some(client.map_or(balancer, Peer::Tcp))
        }
        Err(problem) => {
            let reason = problem.reason();
            stats.proxy_headers.count(Err(reason), 1);
            sender_log::rejected(
                LogEvent::Handshake,
                About::peer(balancer),
                format_args!("{}: connection of {balancer}", name.as_str()),
                reason,
                &problem.to_string(),
            );
            let line = format!("error: {problem}\n");
            turn_away(stream, line.as_bytes()).await;
            None
        }
    }
}

/// Accepts connections until `stop` is cancelled, and serves each with `handle` in its own
/// task. Accept errors are logged, counted and retried.
pub async fn serve<Handle, Handled>(
    listener: Arc<Listener>,
    name: ListenerName,
    (terms, permits): (Live<Terms>, Arc<Permits>),
    stats: Arc<ListenerStats>,
    stop: CancellationToken,
    tasks: TaskTracker,
    handle: Handle,
) where
    Handle: Fn(Connection) -> Handled + Send + Sync + 'static,
    Handled: Future<Output = ()> + Send + 'static,
{
    let mut waiting = WaitingConnections::default();
    let mut errors = AcceptErrors::new(name);
    let mut full = FullLog::new(name, Arc::clone(&stats));
    let handle = Arc::new(handle);
    let start = |socket, peer, acquired| {
        let permit = permits.assign(Sender::from(peer), acquired);
        let progress = Arc::clone(permit.progress());
        let terms = terms.load();
        let stream = PlainStream::new(socket, progress, terms.limits.write_timeout);
        let has_header = terms.limits.balancers.contain(peer);
        if terms.tls.is_none() && !has_header {
            tasks.spawn(handle(Connection {
                stream: Stream::Plain(stream),
                peer,
                identity: None,
                permit,
            }));
            return;
        }
        let (server, stats) = (terms.tls.clone(), Arc::clone(&stats));
        let (handle, stop) = (Arc::clone(&handle), stop.clone());
        tasks.spawn(async move {
            let (mut stream, mut peer) = (stream, peer);
            if has_header {
                peer = tokio::select! {
                    client = client_of(&mut stream, name, peer, &stats) => match client {
                        Some(client) => client,
                        None => return,
                    },
                    () = permit.progress().evicted() => return,
                    () = stop.cancelled() => return,
                };
                permit.progress().set_client(Sender::from(peer));
            }
            let Some(server) = server else {
                drop((stats, stop));
                let connection = Connection {
                    stream: Stream::Plain(stream),
                    peer,
                    identity: None,
                    permit,
                };
                return handle(connection).await;
            };
            let handshake = Handshake {
                server: &server,
                name,
                peer,
                timeout: terms.limits.handshake_timeout,
            };
            // Boxed, so that the connection's task does not hold the handshake's memory.
            let secured = tokio::select! {
                secured = Box::pin(handshake.run(stream, &stats)) => secured,
                () = permit.progress().evicted() => None,
                () = stop.cancelled() => None,
            };
            if let Some((stream, identity)) = secured {
                drop((server, stats, stop));
                let connection = Connection {
                    stream,
                    peer,
                    identity,
                    permit,
                };
                handle(connection).await;
            }
        });
    };
    let accept = async {
        // Whether to turn waiting connections away at once. Cleared when a permit is
        // returned while only one holder waits.
        let mut turning_away = false;
        loop {
            // When all permits are taken, accepted connections wait here, so that their
            // addresses are known. Only then is an open one evicted.
            tokio::select! {
                biased;
                acquired = permits.acquire(), if !waiting.is_empty() => {
                    turning_away &= !waiting.have_one_holder();
                    let next = waiting.remove(permits.next_served(waiting.holders()));
                    start(next.socket, next.peer, acquired);
                }
                accepted = listener.accept(), if waiting.has_room() => match accepted {
                    Ok((socket, peer)) => {
                        errors.clear();
                        stats.accepted.add(1);
                        match permits.try_acquire().filter(|_| waiting.is_empty()) {
                            Some(acquired) => start(socket, peer, acquired),
                            None => {
                                waiting.push(socket, peer);
                                let makes_room = permits.make_room(waiting.holders());
                                full.log();
                                if turning_away && !makes_room && !waiting.has_room() {
                                    let index = permits.turned_away(waiting.holders());
                                    drop(waiting.remove(index));
                                    sleep(TURN_AWAY_INTERVAL).await;
                                }
                            }
                        }
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        stats.accept_errors.add(1);
                        // File descriptors or memory ran out. Evicting an idle connection
                        // frees some.
                        permits.evict_idle();
                        sleep(errors.add(&error)).await;
                    }
                },
                () = sleep(RECHECK_INTERVAL), if !waiting.is_empty() => {
                    let makes_room = permits.make_room(waiting.holders());
                    let is_full = !makes_room && !waiting.has_room();
                    if is_full && waiting.longest() >= MAX_WAIT {
                        turning_away = true;
                        drop(waiting.remove(permits.turned_away(waiting.holders())));
                    }
                    full.log();
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept => {}
    }
}

/// Logs that a listener is full, and how many connections were closed since the last such line.
struct FullLog {
    name: ListenerName,
    stats: Arc<ListenerStats>,
    limit: RateLimit,
    /// The counts at the last log line.
    logged: [u64; 3],
}

impl FullLog {
    fn new(name: ListenerName, stats: Arc<ListenerStats>) -> Self {
        FullLog {
            name,
            stats,
            limit: RateLimit::new(1, FULL_LOG_INTERVAL),
            logged: [0; 3],
        }
    }

    fn log(&mut self) {
        if self.limit.allow(clock::tick()).is_none() {
            return;
        }
        let counts = [Eviction::Idle, Eviction::Share, Eviction::Full];
        let counts = counts.map(|why| self.stats.evicted(why));
        let [idle, share, turned_away] = [0, 1, 2].map(|index| counts[index] - self.logged[index]);
        log::warn!(
            "{} listener is full: {} connections may be open ({}), and others wait; \
             closed {idle} without progress and {share} of addresses above their share; \
             turned away {turned_away}",
            self.name.as_str(),
            self.stats.max(),
            self.name.setting(),
        );
        self.logged = counts;
    }
}

/// Whether the error concerns only the connection that was not accepted, and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Consecutive accept errors: how long to pause, and what to log.
struct AcceptErrors {
    name: ListenerName,
    backoff: Duration,
    limit: RateLimit,
    any: bool,
}

impl AcceptErrors {
    fn new(name: ListenerName) -> Self {
        AcceptErrors {
            name,
            backoff: FIRST_BACKOFF,
            limit: RateLimit::new(1, ERROR_LOG_INTERVAL),
            any: false,
        }
    }

    /// Adds an error, and returns how long to pause.
    fn add(&mut self, error: &io::Error) -> Duration {
        self.any = true;
        if let Some(suppressed) = self.limit.allow(clock::tick()) {
            log::error!(
                "{} listener cannot accept connections: {error} ({} times); trying again",
                self.name.as_str(),
                suppressed + 1
            );
        }
        let pause = self.backoff;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        pause
    }

    /// Notes an accepted connection. Recovery is logged only after some time without
    /// errors, since near a limit they come and go.
    fn clear(&mut self) {
        self.backoff = FIRST_BACKOFF;
        if self.any && self.limit.has_token(clock::tick()) {
            log::info!("{} listener accepts connections again", self.name.as_str());
            self.any = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_second_and_is_reset_by_success() {
        let mut errors = AcceptErrors::new(ListenerName::Tcp);
        let error = io::Error::other("out of descriptors");
        let pauses: Vec<u128> = (0..10).map(|_| errors.add(&error).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        // Only the first error of each second is logged.
        assert_eq!(errors.limit.take_suppressed(clock::tick(), true), Some(9));
        errors.clear();
        assert_eq!(errors.add(&error), FIRST_BACKOFF);
    }
}
