//! The task of a sink: takes batches from its queue, sends them, retries.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::control::Control;
use super::queue::{Batch, Queue};
use super::{Refusal, Report, Rest, Sink, Verdict};
use crate::clock::Now;
use crate::exposition::counted;
use crate::reason::Reason;
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{DropReason, SinkStats};

/// The number of requests in a row that may be refused as a whole while the worker looks for the
/// items to blame. Past it, the whole batch is refused: its items are all alike, or the other
/// system refuses everything. It is enough to find one item among a million.
const MOST_REFUSALS: usize = 20;

/// The log target of lines without a rate limit.
const LOG_TARGET: &str = LogEvent::Sink.target();

/// The interval at which a continued failure, or items that wait too long, are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Sends until the queue is closed and empty.
///
/// Once `stop` is cancelled, it has the time to drain for what waits, and gives up at the first
/// failure. The rest stays in storage, or is counted and logged.
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
        batches: Vec::new(),
        under_way: None,
        most_items: usize::MAX,
        refusals: 0,
        backoff: Backoff::new(),
        logged: None,
        expired: Expired::default(),
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
    worker.note_expired(true);
    let left = worker.queue.stop();
    worker.stats.note_stop();
    if left.items > 0 {
        let name = &worker.stats.name;
        let (items, bytes) = (counted(left.items, "item", "items"), left.bytes);
        match left.is_stored {
            true => log::info!(
                target: LOG_TARGET,
                "sink {name}: {items}, {bytes} bytes, wait in storage"
            ),
            false => log::warn!(
                target: LOG_TARGET,
                "sink {name}: {items}, {bytes} bytes, were not sent before shutdown"
            ),
        }
    }
}

struct Worker<S: Sink> {
    sink: S,
    queue: Queue<S::Item>,
    stats: Arc<SinkStats>,
    control: Arc<Control<S>>,
    /// Batches to send, the oldest first. There are several only after overlapping requests of two
    /// batches have failed.
    batches: Vec<Batch<S::Item>>,
    /// The batch whose last requests are under way while the next one is sent.
    under_way: Option<UnderWay<S::Item>>,
    /// Limit on the items of one request, while the worker looks for those to blame.
    most_items: usize,
    /// Requests in a row that were refused as a whole.
    refusals: usize,
    backoff: Backoff,
    /// When a failure was last logged.
    logged: Option<Instant>,
    expired: Expired,
}

/// The log of items that waited too long.
#[derive(Debug, Default)]
struct Expired {
    /// The items that the log has.
    logged: u64,
    /// When the next line may be written.
    next: Option<Instant>,
}

/// A batch with requests under way.
struct UnderWay<T> {
    batch: Batch<T>,
    /// The number of its items that were sent.
    count: usize,
    rest: Rest,
    /// The result of `rest`.
    report: Option<Report>,
}

impl<T> UnderWay<T> {
    /// Waits for the report. Cancel-safe.
    async fn wait(&mut self) {
        if self.report.is_none() {
            self.report = Some((&mut self.rest).await);
        }
    }
}

/// Why the next try has to wait.
#[derive(Debug, Default)]
struct Trouble {
    failure: Option<String>,
    /// Whether items are to be sent again.
    retry: bool,
    retry_after: Option<Duration>,
}

impl Trouble {
    fn and(self, later: Trouble) -> Self {
        Trouble {
            failure: self.failure.or(later.failure),
            retry: self.retry || later.retry,
            retry_after: self.retry_after.max(later.retry_after),
        }
    }
}

impl<S: Sink> Worker<S> {
    async fn send_all(&mut self, stop: &CancellationToken) {
        loop {
            if let Some(sink) = self.control.take() {
                self.replace(sink).await;
            }
            for batch in &mut self.batches {
                self.queue.expire_batch(batch, Instant::now());
            }
            self.batches.retain(|batch| !batch.items().is_empty());
            self.note_expired(false);
            let trouble = match self.batches.is_empty() {
                true => match self.wait(stop).await {
                    Some(trouble) => trouble,
                    None => return self.sink.close().await,
                },
                false => self.send().await,
            };
            self.note(&trouble);
            if trouble.failure.is_some() || trouble.retry {
                if stop.is_cancelled() {
                    let last = self.finish_all().await;
                    return self.note(&last);
                }
                let wait = self.backoff.wait(backoff::random(), trouble.retry_after);
                tokio::select! {
                    () = sleep(wait) => {}
                    () = stop.cancelled() => {}
                    () = self.control.changed() => {}
                }
            }
        }
    }

    /// Waits for the next batch, or for something else to do. `None` once the queue is closed and
    /// everything has been sent.
    async fn wait(&mut self, stop: &CancellationToken) -> Option<Trouble> {
        let mut trouble = Trouble::default();
        let expired = self.unlogged() > 0;
        tokio::select! {
            () = sleep_until(self.expired.next.unwrap_or_else(Instant::now)), if expired => {}
            () = done(&mut self.under_way) => trouble = self.finish_all().await,
            next = next_batch(&self.queue, stop) => match next {
                Some(next) => self.batches.push(next),
                None if self.under_way.is_some() => trouble = self.finish_all().await,
                None => return None,
            },
            problem = self.sink.idle() => trouble.failure = Some(problem),
            () = self.control.changed() => {}
        }
        Some(trouble)
    }

    /// Sends the oldest batch, while the last requests of the previous one go on.
    async fn send(&mut self) -> Trouble {
        let batch = self.batches.remove(0);
        let count = self.most_items.min(batch.items().len());
        let report = {
            let mut send = pin!(self.sink.send(&batch.items()[..count]));
            tokio::select! {
                biased;
                report = &mut send => report,
                () = done(&mut self.under_way) => send.await,
            }
        };
        let before = self.under_way.take();
        match report {
            Report {
                rest: Some(rest), ..
            } => {
                self.under_way = Some(UnderWay {
                    batch,
                    count,
                    rest,
                    report: None,
                });
                self.finish(before).await
            }
            report => {
                let trouble = self.finish(before).await;
                trouble.and(self.judge(batch, count, report))
            }
        }
    }

    /// Waits for a batch. The one under way goes on meanwhile, since it may hold the permits that
    /// the other waits for.
    async fn finish(&mut self, batch: Option<UnderWay<S::Item>>) -> Trouble {
        let Some(mut it) = batch else {
            return Trouble::default();
        };
        tokio::select! {
            () = it.wait() => {}
            () = done(&mut self.under_way) => it.wait().await,
        }
        self.judge(it.batch, it.count, it.report.unwrap_or_default())
    }

    /// Waits for the batch under way, if there is one.
    async fn finish_all(&mut self) -> Trouble {
        let last = self.under_way.take();
        self.finish(last).await
    }

    /// Settles the first `count` items of a batch, as their report says.
    fn judge(&mut self, mut batch: Batch<S::Item>, count: usize, report: Report) -> Trouble {
        let verdicts = match &report.refusal {
            Some(refusal) => self.refuse(refusal, report.verdicts, count, batch.items().len()),
            None => report.verdicts,
        };
        // The rest of a batch that was refused as a whole is sent at once.
        let is_split = report.refusal.is_some_and(|refusal| refusal.whole);
        let retry = verdicts.contains(&Verdict::Again) || (verdicts.len() < count && !is_split);
        let taken = verdicts.contains(&Verdict::Taken);
        if taken {
            self.refusals = 0;
            self.most_items = self.most_items.saturating_mul(2);
        }
        // A server that accepts connections and then breaks them takes some items each time.
        if report.failure.is_none() && taken {
            self.backoff.reset();
            self.succeed();
        }
        self.queue.settle(&mut batch, &verdicts);
        if !batch.items().is_empty() {
            self.batches.push(batch);
            self.batches.sort_by_key(Batch::first);
        }
        Trouble {
            failure: report.failure,
            retry,
            retry_after: report.retry_after,
        }
    }

    /// Continues with another sink.
    async fn replace(&mut self, sink: S) {
        let last = self.finish_all().await;
        self.note(&last);
        self.sink.close().await;
        self.sink = sink;
        self.backoff.reset();
        self.most_items = usize::MAX;
        self.refusals = 0;
        self.logged = None;
    }

    /// The verdicts for the first `count` of `all` items of a batch after the other system refused
    /// some. If it refused the request as a whole, an item is to blame only if it was sent alone.
    fn refuse(
        &mut self,
        refusal: &Refusal,
        verdicts: Vec<Verdict>,
        count: usize,
        all: usize,
    ) -> Vec<Verdict> {
        let name = &self.stats.name;
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
            vec![Verdict::Refused(*reason); all]
        };
        let refused = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Refused(_)));
        let items = counted(refused.count(), "item", "items");
        let about = About::NOTHING.named("sink", name).reason(*reason);
        if sender_log::write(
            S::LOG_EVENT,
            about,
            format_args!("sink {name}: {items} refused: {message}"),
        ) && !answer.is_empty()
        {
            sender_log::write_details(S::LOG_EVENT, about, format_args!("sink {name}: {shown}"));
        }
        verdicts
    }

    /// Counts and logs the failure of a batch, if there was one.
    fn note(&mut self, trouble: &Trouble) {
        let Some(failure) = &trouble.failure else {
            return;
        };
        self.stats.note_failure(Now::read(), failure);
        let now = Instant::now();
        let is_due = |logged: Instant| now.saturating_duration_since(logged) >= LOG_INTERVAL;
        if self.logged.is_none_or(is_due) {
            self.logged = Some(now);
            let (name, what) = (&self.stats.name, self.sink.name());
            sender_log::write(
                S::LOG_EVENT,
                About::NOTHING.named("sink", name),
                format_args!("sink {name}: cannot send {what}: {failure}; trying again"),
            );
        }
    }

    fn succeed(&mut self) {
        let failed = self.stats.note_success(Now::read());
        self.logged = None;
        if let Some(failed) = failed {
            let (name, what) = (&self.stats.name, self.sink.name());
            log::info!(
                target: LOG_TARGET,
                "sink {name}: sending {what} again after {failed:.1?}"
            );
        }
    }

    /// The number of items that waited too long and are not logged yet.
    fn unlogged(&self) -> u64 {
        let expired = self.stats.dropped(DropReason::Expired);
        expired.saturating_sub(self.expired.logged)
    }

    /// Logs the items that waited too long, once a minute. `force` writes a line at once.
    fn note_expired(&mut self, force: bool) {
        let (items, now) = (self.unlogged(), Instant::now());
        if items == 0 || (!force && self.expired.next.is_some_and(|next| now < next)) {
            return;
        }
        self.expired.logged += items;
        self.expired.next = Some(now + LOG_INTERVAL);
        let name = &self.stats.name;
        let items = counted(items as usize, "item", "items");
        let age = self.queue.max_age();
        sender_log::write(
            S::LOG_EVENT,
            About::NOTHING.named("sink", name).reason(Reason::Timeout),
            format_args!(
                "sink {name}: {items} dropped: they waited for longer than {age:?} (max_age)"
            ),
        );
    }
}

/// Waits for the report of the batch under way.
async fn done<T>(under_way: &mut Option<UnderWay<T>>) {
    match under_way {
        Some(under_way) => under_way.wait().await,
        None => pending().await,
    }
}

/// The next batch of the queue. Once the program stops, batches no longer wait to be filled.
async fn next_batch<T>(queue: &Queue<T>, stop: &CancellationToken) -> Option<Batch<T>> {
    tokio::select! {
        biased;
        next = queue.next_batch() => return next,
        () = stop.cancelled() => queue.hurry(),
    }
    queue.next_batch().await
}
