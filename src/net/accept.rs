//! The accept loop of every listener.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::slots::{Claim, Holder, Slots};
use super::stream::Socket;
use super::{Listener, Slot, Stream};
use crate::peer::Peer;
use crate::telemetry::{Eviction, ListenerName, ListenerStats};

/// What a listener serves at most, and for how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: usize,
    /// For the other side to take some of what is written.
    pub write_timeout: Duration,
}

/// An accepted connection. Its place among the permitted ones is free again
/// once this is dropped.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub peer: Peer,
    claim: Claim,
}

impl Connection {
    /// Takes the stream out. The guard that comes with it keeps the place.
    pub fn split(self) -> (Stream, Place) {
        (self.stream, Place(self.claim))
    }
}

/// A connection's place among the permitted ones.
#[derive(Debug)]
pub struct Place(Claim);

impl Place {
    pub fn slot(&self) -> &Arc<Slot> {
        &self.0.slot
    }
}

/// Back-off after an accept error, doubled each time up to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// Connections that wait for a place, of one listener. Further ones wait in the
/// kernel's queue.
pub const MOST_WAITING: usize = 16;

/// When [`MOST_WAITING`] connections wait, one that has waited this long is turned
/// away: the next in the kernel's queue may come from an address with fewer
/// connections. It is twice the time after which a connection counts as still.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Once one was turned away, so are others that come beyond [`MOST_WAITING`], at
/// this pace, until places go round again: far behind them in the kernel's queue
/// may be one of another address.
const TURN_AWAY_PACE: Duration = Duration::from_millis(1);

/// How long to wait for a permit before looking again for somebody to evict.
const RECHECK: Duration = Duration::from_millis(100);

/// That a listener is full is logged at most this often.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Accept errors are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts until `stop`, and gives each connection to `handle` in a task of
/// its own. An error of `accept` never ends it.
pub async fn serve<Handle, Handled>(
    listener: Listener,
    name: ListenerName,
    limits: Limits,
    stats: Arc<ListenerStats>,
    stop: CancellationToken,
    tasks: TaskTracker,
    handle: Handle,
) where
    Handle: Fn(Connection) -> Handled,
    Handled: Future<Output = ()> + Send + 'static,
{
    let slots = Slots::new(limits.connections, Arc::clone(&stats));
    let mut waiting = Waiting::default();
    let mut errors = AcceptErrors::new(name);
    let mut full = FullLog::new(name, Arc::clone(&stats));
    let start = |socket, peer, permit| {
        let claim = slots.claim(Holder::from(peer), permit);
        let stream = Stream::new(socket, Arc::clone(&claim.slot), limits.write_timeout);
        tasks.spawn(handle(Connection {
            stream,
            peer,
            claim,
        }));
    };
    let accept = async {
        let mut stuck = false;
        loop {
            // When all permits are taken, accepted connections wait here. They
            // show that a place is wanted, and by which address; only then is
            // another connection evicted.
            tokio::select! {
                biased;
                permit = slots.permit(), if !waiting.is_empty() => {
                    stuck &= !waiting.are_of_one();
                    let next = waiting.take(slots.first_served(&waiting.holders));
                    start(next.socket, next.peer, permit);
                }
                accepted = listener.accept(), if waiting.has_room() => match accepted {
                    Ok((socket, peer)) => {
                        errors.over();
                        stats.accepted.add(1);
                        match slots.try_permit().filter(|_| waiting.is_empty()) {
                            Some(permit) => start(socket, peer, permit),
                            None => {
                                waiting.push(socket, peer);
                                let makes_room = slots.make_room(&waiting.holders);
                                full.note();
                                if stuck && !makes_room && !waiting.has_room() {
                                    drop(waiting.take(slots.turned_away(&waiting.holders)));
                                    sleep(TURN_AWAY_PACE).await;
                                }
                            }
                        }
                    }
                    Err(problem) if is_of_one_connection(&problem) => {}
                    Err(problem) => {
                        stats.accept_errors.add(1);
                        // Out of descriptors or memory: what lies still gives some back.
                        slots.evict_stillest();
                        sleep(errors.note(&problem)).await;
                    }
                },
                () = sleep(RECHECK), if !waiting.is_empty() => {
                    let makes_room = slots.make_room(&waiting.holders);
                    let is_full = !makes_room && !waiting.has_room();
                    if is_full && waiting.longest() >= LONGEST_WAIT {
                        stuck = true;
                        drop(waiting.take(slots.turned_away(&waiting.holders)));
                    }
                    full.note();
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept => {}
    }
}

/// Accepted connections that wait for a place. The oldest is the first.
#[derive(Debug, Default)]
struct Waiting {
    connections: Vec<Waits>,
    /// Whose they are.
    holders: Vec<Holder>,
}

#[derive(Debug)]
struct Waits {
    socket: Socket,
    peer: Peer,
    since: Instant,
}

impl Waiting {
    fn push(&mut self, socket: Socket, peer: Peer) {
        self.holders.push(Holder::from(peer));
        self.connections.push(Waits {
            socket,
            peer,
            since: Instant::now(),
        });
    }

    fn take(&mut self, at: usize) -> Waits {
        self.holders.remove(at);
        self.connections.remove(at)
    }

    fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn has_room(&self) -> bool {
        self.connections.len() < MOST_WAITING
    }

    /// Whether all are of the same holder.
    fn are_of_one(&self) -> bool {
        self.holders.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// How long the oldest has waited.
    fn longest(&self) -> Duration {
        self.connections
            .first()
            .map_or(Duration::ZERO, |first| first.since.elapsed())
    }
}

/// Tells, now and then, that a listener is full, and what became of it.
struct FullLog {
    name: ListenerName,
    stats: Arc<ListenerStats>,
    logged_at: Option<Instant>,
    /// What had been told of by then.
    told: [u64; 3],
}

impl FullLog {
    fn new(name: ListenerName, stats: Arc<ListenerStats>) -> Self {
        FullLog {
            name,
            stats,
            logged_at: None,
            told: [0; 3],
        }
    }

    /// Notes that connections wait.
    fn note(&mut self) {
        let recent = |at: Instant| at.elapsed() < FULL_LOG_INTERVAL;
        if self.logged_at.is_some_and(recent) {
            return;
        }
        let counts = [Eviction::Idle, Eviction::Share, Eviction::Full];
        let counts = counts.map(|why| self.stats.evicted(why));
        let [idle, share, turned_away] = [0, 1, 2].map(|at| counts[at] - self.told[at]);
        log::warn!(
            "{} listener is full: {} connections may be open ({}), and others wait; \
             closed {idle} that made no progress, {share} of addresses with more than their share, \
             and {turned_away} that waited in vain",
            self.name.as_str(),
            self.stats.max(),
            self.name.setting(),
        );
        self.logged_at = Some(Instant::now());
        self.told = counts;
    }
}

/// Errors that say something of the connection that was not accepted, and
/// nothing of the listener.
fn is_of_one_connection(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Accept errors in a row: how long to wait, and when to log.
struct AcceptErrors {
    name: ListenerName,
    backoff: Duration,
    unlogged: u64,
    logged_at: Option<Instant>,
    any: bool,
}

impl AcceptErrors {
    fn new(name: ListenerName) -> Self {
        AcceptErrors {
            name,
            backoff: FIRST_BACKOFF,
            unlogged: 0,
            logged_at: None,
            any: false,
        }
    }

    /// Notes an error, and says how long to wait.
    fn note(&mut self, problem: &io::Error) -> Duration {
        self.any = true;
        self.unlogged += 1;
        let now = Instant::now();
        if self
            .logged_at
            .is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL)
        {
            log::error!(
                "{} listener cannot accept connections: {problem} ({} times); trying again",
                self.name.as_str(),
                self.unlogged
            );
            self.logged_at = Some(now);
            self.unlogged = 0;
        }
        let wait = self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        wait
    }

    /// Notes that a connection was accepted. That errors are over is told once
    /// they have been for a while: they come and go near a limit.
    fn over(&mut self) {
        self.backoff = FIRST_BACKOFF;
        if self.any && self.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            log::info!("{} listener accepts connections again", self.name.as_str());
            self.any = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_second_and_starts_again_after_a_success() {
        let mut errors = AcceptErrors::new(ListenerName::Tcp);
        let problem = io::Error::other("out of descriptors");
        let waits: Vec<u128> = (0..10).map(|_| errors.note(&problem).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        // All but the first fell into the same second and were not logged.
        assert_eq!(errors.unlogged, 9);
        errors.over();
        assert_eq!(errors.note(&problem), FIRST_BACKOFF);
    }
}
