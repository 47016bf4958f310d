//! The accept loop of every listener.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::slots::{Claim, Slots};
use super::{Listener, Slot, Stream};
use crate::store::Peer;
use crate::telemetry::{ListenerName, ListenerStats};

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
    pub fn slot(&self) -> &Slot {
        &self.0.slot
    }
}

/// Back-off after an accept error, doubled each time up to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

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
    let mut errors = AcceptErrors::new(name);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    errors.over();
                    stats.accepted.add(1);
                    // One connection waits here in hand when all permits are
                    // taken: so it is known that somebody wants in, and only
                    // then is anybody asked to go.
                    let claim = slots.claim().await;
                    let stream = Stream::new(socket, Arc::clone(&claim.slot), limits.write_timeout);
                    tasks.spawn(handle(Connection {
                        stream,
                        peer,
                        claim,
                    }));
                }
                Err(problem) if is_of_one_connection(&problem) => {}
                Err(problem) => {
                    stats.accept_errors.add(1);
                    // Out of descriptors or memory: what lies still gives some back.
                    slots.evict_stillest();
                    sleep(errors.note(&problem)).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept => {}
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
