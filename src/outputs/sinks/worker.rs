//! The task of a sink: takes batches from its queue, sends them, retries.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::control::Control;
use super::queue::{Batch, Queue};
use super::{Refusal, Sink, Verdict};
use crate::clock::Now;
use crate::exposition::counted;
use crate::telemetry::SinkStats;
use crate::telemetry::sender_log::{self, About};

/// Requests in a row that may be refused as a whole while the worker looks for the items
/// to blame. Past it, the whole batch is refused: its items are all alike, or the other
/// system refuses everything. It is enough to find one item among a million.
const MOST_REFUSALS: usize = 20;

/// A sink that goes on failing is logged again after this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Sends until the queue is closed and empty.
///
/// Once `stop` is cancelled, it has the time to drain for what waits, and gives up
/// at the first failure. What is left then is in storage, or counted and logged.
pub(super) async fn run<S: Sink>(
    sink: S,
    queue: Queue<S::Item>,
    stats: Arc<SinkStats>,
    control: Arc<Control<S>>,
    stop: CancellationToken,
) {
    let mut worker = Worker {
        sink,
        queue,
        stats,
        control: Arc::clone(&control),
        batch: Batch::empty(),
        most_items: usize::MAX,
        refusals: 0,
        backoff: Backoff::new(),
        logged: None,
    };
    {
        let mut deadline = pin!(async {
            stop.cancelled().await;
            sleep(*control.drain.load()).await;
        });
        tokio::select! {
            () = worker.send_all(&stop) => {}
            () = &mut deadline => {}
        }
    }
    let left = worker.queue.stop();
    worker.stats.note_stop();
    if left.items > 0 {
        let name = worker.sink.name();
        let (items, bytes) = (counted(left.items, "item", "items"), left.bytes);
        match left.is_stored {
            true => log::info!("{items} of {name}, {bytes} bytes, wait in storage"),
            false => log::warn!("{items} of {name}, {bytes} bytes, were not sent before shutdown"),
        }
    }
}

struct Worker<S: Sink> {
    sink: S,
    queue: Queue<S::Item>,
    stats: Arc<SinkStats>,
    control: Arc<Control<S>>,
    /// The items in hand: taken from the queue, and not settled.
    batch: Batch<S::Item>,
    /// Limit of the items of one request, while the worker looks for those to blame.
    most_items: usize,
    /// Requests in a row that were refused as a whole.
    refusals: usize,
    backoff: Backoff,
    /// When a failure was last logged.
    logged: Option<Instant>,
}

impl<S: Sink> Worker<S> {
    async fn send_all(&mut self, stop: &CancellationToken) {
        loop {
            if let Some(sink) = self.control.take() {
                self.replace(sink).await;
            }
            self.queue.expire_batch(&mut self.batch, Instant::now());
            let mut retry = false;
            let mut retry_after = None;
            let failure;
            if self.batch.items().is_empty() {
                tokio::select! {
                    next = next_batch(&self.queue, stop) => match next {
                        Some(next) => {
                            self.batch = next;
                            failure = None;
                        }
                        None => return self.sink.close().await,
                    },
                    problem = self.sink.idle() => failure = Some(problem),
                    () = self.control.changed() => continue,
                }
            } else {
                let count = self.most_items.min(self.batch.items().len());
                let report = self.sink.send(&self.batch.items()[..count]).await;
                let verdicts = match &report.refusal {
                    Some(refusal) => self.refuse(refusal, report.verdicts, count),
                    None => report.verdicts,
                };
                // The rest of a batch that was refused as a whole need not wait.
                let is_split = report.refusal.is_some_and(|refusal| refusal.whole);
                retry = verdicts.contains(&Verdict::Again) || (verdicts.len() < count && !is_split);
                let taken = verdicts.contains(&Verdict::Taken);
                if taken {
                    self.refusals = 0;
                    self.most_items = self.most_items.saturating_mul(2);
                }
                // A server that accepts connections and then breaks them takes some items
                // each time.
                if report.failure.is_none() && taken {
                    self.backoff.reset();
                    self.succeed();
                }
                self.queue.settle(&mut self.batch, &verdicts);
                failure = report.failure;
                retry_after = report.retry_after;
            }
            if let Some(failure) = &failure {
                self.fail(failure);
            }
            if failure.is_some() || retry {
                if stop.is_cancelled() {
                    return;
                }
                let wait = self.backoff.wait(backoff::random(), retry_after);
                tokio::select! {
                    () = sleep(wait) => {}
                    () = stop.cancelled() => {}
                    () = self.control.changed() => {}
                }
            }
        }
    }

    /// Goes on with another sink.
    async fn replace(&mut self, sink: S) {
        self.sink.close().await;
        self.sink = sink;
        self.backoff.reset();
        self.most_items = usize::MAX;
        self.refusals = 0;
        self.logged = None;
    }

    /// The verdicts for the first `count` items of the batch after the other system refused
    /// some. If it refused them together, only one item alone is known to be to blame.
    fn refuse(&mut self, refusal: &Refusal, verdicts: Vec<Verdict>, count: usize) -> Vec<Verdict> {
        let name = self.sink.name();
        let Refusal {
            reason,
            message,
            answer,
            whole,
        } = refusal;
        let shown = match answer.is_empty() {
            true => message.clone(),
            false => format!("{message}: {answer}"),
        };
        self.stats.note_refusal(Now::read(), &shown);
        let verdicts = if !whole {
            verdicts
        } else if count > 1 && self.refusals < MOST_REFUSALS {
            self.refusals += 1;
            self.most_items = count / 2;
            return Vec::new();
        } else if self.refusals < MOST_REFUSALS {
            self.refusals += 1;
            vec![Verdict::Refused(*reason)]
        } else {
            self.refusals = 0;
            self.most_items = usize::MAX;
            vec![Verdict::Refused(*reason); self.batch.items().len()]
        };
        let refused = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Refused(_)));
        let items = counted(refused.count(), "item", "items");
        let about = About::NOTHING.named("sink", &self.stats.name);
        if sender_log::write(
            S::LOG_EVENT,
            about,
            format_args!("{items} of {name} refused ({reason}): {message}"),
        ) && !answer.is_empty()
        {
            sender_log::write_details(S::LOG_EVENT, about, format_args!("{name}: {shown}"));
        }
        verdicts
    }

    fn fail(&mut self, failure: &str) {
        self.stats.note_failure(Now::read(), failure);
        let now = Instant::now();
        let is_due = |logged: Instant| now.saturating_duration_since(logged) >= LOG_INTERVAL;
        if self.logged.is_none_or(is_due) {
            self.logged = Some(now);
            let name = self.sink.name();
            sender_log::write(
                S::LOG_EVENT,
                About::NOTHING.named("sink", &self.stats.name),
                format_args!("cannot send {name}: {failure}; trying again"),
            );
        }
    }

    fn succeed(&mut self) {
        let failed = self.stats.note_success(Now::read());
        self.logged = None;
        if let Some(failed) = failed {
            log::info!("sending {} again after {failed:.1?}", self.sink.name());
        }
    }
}

/// The next batch of the queue. Once the program stops, batches are not filled any more.
async fn next_batch<T>(queue: &Queue<T>, stop: &CancellationToken) -> Option<Batch<T>> {
    tokio::select! {
        biased;
        next = queue.next_batch() => return next,
        () = stop.cancelled() => queue.hurry(),
    }
    queue.next_batch().await
}
