//! The worker with a scripted sink, on paused time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::telemetry::{DropReason, SinkState};

/// The other system's answer to a batch.
#[derive(Debug, Clone)]
enum Answer {
    Verdicts(Vec<Verdict>),
    /// Refuses the batch as a whole.
    RefusesAll,
    /// Refuses every batch that contains this number as a whole, from now on.
    Refuses(u32),
    Fails,
    /// Takes nothing, and asks to wait.
    Busy(Duration),
    /// Takes all, after a while.
    Slow(Duration),
    /// Starts all requests, and gives the verdicts after a while. Fails if some are `Again`.
    UnderWay(Duration, Vec<Verdict>),
    /// Starts all requests, and takes all items once the next batch has ended.
    AfterNext,
    Never,
}

fn refused(whole: bool, verdicts: Vec<Verdict>) -> Report {
    Report {
        verdicts,
        refusal: Some(Refusal {
            reason: Reason::Refused,
            message: "it does not like it".to_owned(),
            answer: String::new(),
            whole,
        }),
        ..Report::default()
    }
}

/// The batches that a scripted sink got, and when.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    batches: Vec<(Duration, Vec<u32>)>,
    closed: bool,
}

/// Follows the script, then takes everything.
#[derive(Debug)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    started: Instant,
    /// Notified when a batch that was under way has ended.
    ended: Arc<Notify>,
}

impl Scripted {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Scripted {
    type Item = u32;

    const LOG_EVENT: LogEvent = LogEvent::OperationTransport;

    fn size(_: &u32) -> usize {
        4
    }

    fn name(&self) -> String {
        "numbers".to_owned()
    }

    async fn send(&mut self, batch: &[u32]) -> Report {
        let answer = {
            let mut script = self.script();
            script
                .batches
                .push((self.started.elapsed(), batch.to_vec()));
            script.answers.pop_front()
        };
        match answer {
            None => Report::taken(batch.len()),
            Some(Answer::Verdicts(verdicts)) => Report {
                verdicts,
                ..Report::default()
            },
            Some(Answer::RefusesAll) => refused(true, Vec::new()),
            Some(Answer::Refuses(bad)) if batch.contains(&bad) => {
                self.script().answers.push_back(Answer::Refuses(bad));
                refused(true, Vec::new())
            }
            Some(Answer::Refuses(bad)) => {
                self.script().answers.push_back(Answer::Refuses(bad));
                Report::taken(batch.len())
            }
            Some(Answer::Busy(time)) => Report {
                retry_after: Some(time),
                ..Report::failed(0, "busy")
            },
            Some(Answer::Fails) => Report::failed(0, "no connection"),
            Some(Answer::Slow(time)) => {
                sleep(time).await;
                Report::taken(batch.len())
            }
            Some(Answer::AfterNext) => {
                let (ended, count) = (Arc::clone(&self.ended), batch.len());
                Report::under_way(async move {
                    ended.notified().await;
                    Report::taken(count)
                })
            }
            Some(Answer::UnderWay(time, verdicts)) => Report::under_way({
                let ended = Arc::clone(&self.ended);
                async move {
                    sleep(time).await;
                    ended.notify_one();
                    let fails = verdicts.contains(&Verdict::Again);
                    Report {
                        verdicts,
                        failure: fails.then(|| "no connection".to_owned()),
                        ..Report::default()
                    }
                }
            }),
            Some(Answer::Never) => future::pending().await,
        }
    }

    async fn close(&mut self) {
        self.script().closed = true;
    }
}

const LIMITS: QueueLimits = QueueLimits {
    bytes: 400,
    age: None,
    batch_items: 3,
    batch_bytes: 1000,
    batch_wait: Duration::ZERO,
};

/// Time to drain in these tests.
const DRAIN: Duration = Duration::from_secs(20);

struct Bench {
    handle: QueueHandle<u32>,
    script: Arc<Mutex<Script>>,
    stats: Arc<SinkStats>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn bench(limits: QueueLimits, answers: impl Into<VecDeque<Answer>>) -> Bench {
    let script = Arc::new(Mutex::new(Script {
        answers: answers.into(),
        ..Script::default()
    }));
    let sink = Scripted {
        script: Arc::clone(&script),
        started: Instant::now(),
        ended: Arc::default(),
    };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let stats = Arc::new(SinkStats::default());
    let handle = start(sink, limits, DRAIN, Arc::clone(&stats), &stop, &tasks);
    tasks.close();
    Bench {
        handle,
        script,
        stats,
        stop,
        tasks,
    }
}

impl Bench {
    /// Drops the handle, waits for the worker, and returns the batches sent
    /// and whether the sink was closed.
    async fn end(self) -> (Vec<Vec<u32>>, bool) {
        drop(self.handle);
        self.tasks.wait().await;
        let script = self.script.lock().unwrap();
        let batches = script.batches.iter().map(|(_, batch)| batch.clone());
        (batches.collect(), script.closed)
    }

    /// Waits, however long in paused time, until `count` batches came.
    async fn batches(&self, count: usize) {
        while self.script.lock().unwrap().batches.len() < count {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn items_are_sent_in_batches_in_their_order() {
    let bench = bench(LIMITS, []);
    let stats = Arc::clone(&bench.stats);
    bench.handle.push((1..=7).collect()).unwrap();
    let (batches, closed) = bench.end().await;
    assert_eq!(batches, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
    assert!(closed);
    assert_eq!((stats.items.ok(), stats.queued.value()), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn each_item_gets_its_verdict() {
    use Verdict::{Again, Refused, Taken};
    let answers = [Answer::Verdicts(vec![
        Again,
        Refused(Reason::TooLarge),
        Taken,
    ])];
    let bench = bench(LIMITS, answers);
    let stats = Arc::clone(&bench.stats);
    bench.handle.push(vec![1, 2, 3, 4]).unwrap();
    let (batches, _) = bench.end().await;
    assert_eq!(
        batches,
        [vec![1, 2, 3], vec![1], vec![4]],
        "an item that was not taken comes before newer ones"
    );
    assert_eq!(stats.items.counts(), [("ok", 3), ("too_large", 1)]);
}

#[tokio::test(start_paused = true)]
async fn waits_between_retries_grow_and_pushes_go_on() {
    let bench = bench(LIMITS, vec![Answer::Fails; 8]);
    bench.handle.push(vec![1]).unwrap();
    bench.batches(8).await;
    bench.handle.push(vec![2]).unwrap();
    let script = Arc::clone(&bench.script);
    let (batches, _) = bench.end().await;
    assert_eq!(batches.len(), 10);
    assert_eq!(batches[8..], [[1], [2]]);
    let script = script.lock().unwrap();
    let times: Vec<u128> = script
        .batches
        .iter()
        .map(|(at, _)| at.as_millis())
        .collect();
    let waits: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let longest = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
    for (wait, longest) in waits.iter().zip(longest) {
        // Timers round up to the next millisecond.
        assert!((longest / 2..=longest + 1).contains(wait), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_rejects_while_the_sink_is_slow() {
    // Room for two items, which are small beside their entries.
    let limits = QueueLimits {
        bytes: 60,
        ..LIMITS
    };
    let bench = bench(limits, [Answer::Slow(Duration::from_secs(60))]);
    bench.handle.push(vec![1, 2]).unwrap();
    bench.batches(1).await;
    assert_eq!(bench.handle.push(vec![3]), Err(PushError::Full));
    assert_eq!(bench.stats.dropped(DropReason::Full), 1);
    sleep(Duration::from_secs(60)).await;
    bench.handle.push(vec![4]).unwrap();
    let (batches, _) = bench.end().await;
    assert_eq!(batches, [vec![1, 2], vec![4]]);
}

#[tokio::test(start_paused = true)]
async fn items_that_wait_too_long_for_a_retry_expire() {
    let limits = QueueLimits {
        age: Some(Duration::from_secs(3)),
        ..LIMITS
    };
    let bench = bench(limits, vec![Answer::Fails; 1000]);
    bench.handle.push(vec![1, 2]).unwrap();
    sleep(Duration::from_secs(12)).await;
    assert_eq!(bench.stats.dropped(DropReason::Expired), 2);
    assert_eq!(bench.stats.queued.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_shutdown_is_sent() {
    let bench = bench(LIMITS, [Answer::Slow(Duration::from_secs(10))]);
    bench.handle.push((1..=5).collect()).unwrap();
    bench.batches(1).await;
    bench.stop.cancel();
    // An input may still push while it ends.
    bench.handle.push(vec![6]).unwrap();
    let stats = Arc::clone(&bench.stats);
    let (batches, closed) = bench.end().await;
    assert_eq!(batches, [vec![1, 2, 3], vec![4, 5, 6]]);
    assert!(closed);
    assert_eq!(stats.items.counts(), [("ok", 6)]);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_at_its_deadline() {
    let bench = bench(LIMITS, [Answer::Never]);
    bench.handle.push((1..=5).collect()).unwrap();
    bench.batches(1).await;
    let begun = Instant::now();
    bench.stop.cancel();
    // A handle that is never dropped does not hold up the worker either.
    let handle = bench.handle.clone();
    let stats = Arc::clone(&bench.stats);
    let (batches, closed) = bench.end().await;
    assert_eq!(batches.len(), 1);
    assert!(!closed);
    let waited = begun.elapsed();
    assert!(waited >= DRAIN && waited < DRAIN + Duration::from_secs(1));
    assert_eq!(stats.dropped(DropReason::Shutdown), 5);
    assert_eq!(handle.push(vec![6]), Err(PushError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_stop_ends_the_sink_at_once() {
    let bench = bench(LIMITS, vec![Answer::Fails; 1000]);
    let begun = Instant::now();
    bench.stop.cancel();
    bench.handle.push(vec![1, 2]).unwrap();
    let stats = Arc::clone(&bench.stats);
    let (batches, closed) = bench.end().await;
    assert_eq!(batches, [[1, 2]]);
    assert!(!closed);
    assert!(begun.elapsed() < Duration::from_millis(50));
    assert_eq!(stats.dropped(DropReason::Shutdown), 2);
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_does_not_spoil_its_batch() {
    let limits = QueueLimits {
        bytes: 100_000,
        batch_items: 1000,
        ..LIMITS
    };
    let bench = bench(limits, [Answer::Refuses(77)]);
    let stats = Arc::clone(&bench.stats);
    let begun = Instant::now();
    bench.handle.push((0..1000).collect()).unwrap();
    let (batches, _) = bench.end().await;
    assert_eq!(stats.items.counts(), [("ok", 999), ("refused", 1)]);
    assert!(batches.len() < 30, "{}", batches.len());
    assert!(begun.elapsed() < Duration::from_millis(50), "no wait");
    let taken: Vec<u32> = batches
        .into_iter()
        .filter(|batch| !batch.contains(&77))
        .flatten()
        .collect();
    assert!(taken.is_sorted(), "in order");
    let (_, error) = stats.health().last_error.unwrap();
    assert_eq!(error, "it does not like it");
}

#[tokio::test(start_paused = true)]
async fn a_system_that_refuses_everything_is_not_asked_for_each_item() {
    let limits = QueueLimits {
        bytes: 1_000_000,
        batch_items: 10_000,
        batch_bytes: 1_000_000,
        ..LIMITS
    };
    let bench = bench(limits, vec![Answer::RefusesAll; 21]);
    let stats = Arc::clone(&bench.stats);
    bench.handle.push((0..10_000).collect()).unwrap();
    let (batches, _) = bench.end().await;
    assert_eq!(batches.len(), 21);
    assert_eq!(stats.items.counts(), [("ok", 0), ("refused", 10_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_system_is_left_alone_for_the_time_it_asks_for() {
    let pause = Duration::from_secs(30);
    let bench = bench(LIMITS, [Answer::Busy(pause)]);
    let begun = Instant::now();
    bench.handle.push(vec![1]).unwrap();
    bench.batches(1).await;
    let health = bench.stats.health();
    assert_eq!((health.state, health.failures), (SinkState::Failing, 1));
    let stats = Arc::clone(&bench.stats);
    let (batches, _) = bench.end().await;
    assert_eq!(batches, [[1], [1]]);
    assert!(begun.elapsed() >= pause && begun.elapsed() < pause * 2);
    assert_eq!(stats.health().last_error.unwrap().1, "busy");
    assert!(stats.health().last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_sent_while_requests_of_the_last_are_under_way() {
    let time = Duration::from_secs(10);
    let answers = [1, 3, 1, 1].map(|times| Answer::UnderWay(times * time, vec![Verdict::Taken; 3]));
    let bench = bench(LIMITS, answers);
    let (stats, script) = (Arc::clone(&bench.stats), Arc::clone(&bench.script));
    bench.handle.push((1..=12).collect()).unwrap();
    bench.batches(2).await;
    sleep(time / 2).await;
    assert_eq!(script.lock().unwrap().batches.len(), 2, "two at most");
    assert_eq!(stats.queued_items.value(), 12, "none is settled");
    bench.batches(3).await;
    assert_eq!(stats.items.ok(), 3, "the oldest batch is settled first");
    let (batches, closed) = bench.end().await;
    let expected = [
        vec![1, 2, 3],
        vec![4, 5, 6],
        vec![7, 8, 9],
        vec![10, 11, 12],
    ];
    assert_eq!(batches, expected);
    assert!(closed);
    assert_eq!((stats.items.ok(), stats.queued.value()), (12, 0));
    let script = script.lock().unwrap();
    let times = script.batches.iter().map(|(at, _)| at.as_secs());
    assert_eq!(times.collect::<Vec<_>>(), [0, 0, 10, 30]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_overlap_fail_apart_and_come_again_in_order() {
    use Verdict::{Again, Taken};
    let time = Duration::from_secs(10);
    let answers = [
        Answer::UnderWay(time, vec![Taken, Again, Taken]),
        Answer::UnderWay(2 * time, vec![Again, Taken, Again]),
        Answer::Fails,
    ];
    let bench = bench(LIMITS, answers);
    let stats = Arc::clone(&bench.stats);
    bench.handle.push((1..=7).collect()).unwrap();
    let (batches, _) = bench.end().await;
    let expected = [
        vec![1, 2, 3],
        vec![4, 5, 6],
        vec![2],
        vec![2],
        vec![4, 6],
        vec![7],
    ];
    assert_eq!(batches, expected);
    assert_eq!(stats.items.counts(), [("ok", 7)]);
    assert_eq!(stats.queued.value(), 0);
}

/// Both batches share permits for requests, so the older can wait for one that the newer has.
#[tokio::test(start_paused = true)]
async fn a_batch_goes_on_while_the_one_before_waits_for_it() {
    let time = Duration::from_secs(1);
    let answers = [
        Answer::AfterNext,
        Answer::UnderWay(time, vec![Verdict::Taken; 3]),
    ];
    let bench = bench(LIMITS, answers);
    let stats = Arc::clone(&bench.stats);
    bench.handle.push((1..=7).collect()).unwrap();
    bench.batches(2).await;
    // A batch that does not go on is dropped at the deadline.
    bench.stop.cancel();
    let (batches, closed) = bench.end().await;
    assert_eq!((batches.len(), closed), (3, true));
    assert_eq!(stats.items.counts(), [("ok", 7)]);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_the_last_batch_counts_after_the_stop() {
    let time = Duration::from_secs(5);
    let answers = [1, 2].map(|times| Answer::UnderWay(times * time, vec![Verdict::Again; 3]));
    let bench = bench(LIMITS, answers);
    bench.handle.push((1..=6).collect()).unwrap();
    bench.batches(2).await;
    bench.stop.cancel();
    let stats = Arc::clone(&bench.stats);
    let (batches, _) = bench.end().await;
    assert_eq!(batches, [[1, 2, 3], [4, 5, 6]]);
    assert_eq!(stats.health().failures, 2);
    assert_eq!(stats.dropped(DropReason::Shutdown), 6);
}

#[tokio::test(start_paused = true)]
async fn batches_that_overlap_are_dropped_at_the_deadline() {
    let answers = vec![Answer::UnderWay(2 * DRAIN, vec![Verdict::Taken; 3]); 2];
    let bench = bench(LIMITS, answers);
    bench.handle.push((1..=7).collect()).unwrap();
    bench.batches(2).await;
    bench.stop.cancel();
    let stats = Arc::clone(&bench.stats);
    let (batches, closed) = bench.end().await;
    assert_eq!((batches.len(), closed), (2, false));
    assert_eq!(stats.dropped(DropReason::Shutdown), 7);
}
