//! Queues in storage: their items after the program ended at any moment.

use std::mem::{replace, swap};

use bytes::Bytes;
use proptest::prelude::*;

use super::consumer::Left;
use super::*;
use crate::clock::Now;
use crate::live::Live;
use crate::outputs::sinks::Verdict;
use crate::outputs::sinks::stored::{KEPT_FOR, QueueName, StoredForm, StoredQueues};
use crate::reason::Reason;
use crate::storage::{Disk, Persistent, moved};
use crate::telemetry::UnconfiguredSink;

/// Texts as items.
const TEXTS: StoredForm<String> = StoredForm {
    bytes: |text| text.as_bytes(),
    restore: |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap(),
};

const LIMITS: QueueLimits = QueueLimits {
    bytes: 1 << 30,
    age: None,
    batch_items: 4,
    batch_bytes: 1 << 30,
    batch_wait: Duration::ZERO,
};

fn name() -> QueueName {
    QueueName::new("loki", "log")
}

fn queues(names: &[QueueName]) -> (StoredQueues, Live<Vec<UnconfiguredSink>>) {
    let shown = Live::default();
    (StoredQueues::new(names.to_vec(), shown.clone()), shown)
}

/// A queue with its storage.
struct Bench {
    disk: Disk,
    queues: StoredQueues,
    /// The restored items of a program that starts after the last flush.
    next: StoredQueues,
    handle: QueueHandle<String>,
    queue: Queue<String>,
    stats: Arc<SinkStats>,
    batch: Batch<String>,
    /// Another batch that is not settled.
    other: Batch<String>,
}

impl Bench {
    fn new() -> Self {
        let (all, next) = (queues(&[name()]).0, queues(&[name()]).0);
        Bench::of(Disk::default(), all, next, Now::read())
    }

    fn of(disk: Disk, queues: StoredQueues, next: StoredQueues, now: Now) -> Self {
        let stats = Arc::new(SinkStats::default());
        let (handle, queue) = queue(LIMITS, String::len, Arc::clone(&stats));
        let chunks = queues.take_restored(&name());
        queues.open(name(), queue.store(name(), TEXTS, chunks, now));
        Bench {
            disk,
            queues,
            next,
            handle,
            queue,
            stats,
            batch: Batch::empty(),
            other: Batch::empty(),
        }
    }

    fn push(&self, items: &[&str]) {
        let items = items.iter().map(|item| (*item).to_owned());
        self.handle.push(items.collect()).unwrap();
    }

    fn take(&mut self) -> Vec<String> {
        let next = self.queue.try_next_batch(Instant::now());
        self.batch = next.flatten().unwrap_or_else(Batch::empty);
        self.batch.items().to_vec()
    }

    fn settle(&mut self, verdicts: &[Verdict]) {
        self.queue.settle(&mut self.batch, verdicts);
    }

    /// Writes what changed. Returns the keys.
    fn flush(&mut self) -> Vec<String> {
        let (next, _) = queues(&[name()]);
        let (keys, _) = moved(&self.queues, &self.disk, &next, Now::read());
        self.next = next;
        keys
    }

    /// The items that wait, and those of the batches.
    fn live(&self) -> Vec<String> {
        let state = self.queue.0.state();
        let waiting = state.items.iter().map(|entry| &entry.item);
        let mut batches = [&self.batch, &self.other];
        batches.sort_by_key(|batch| batch.first());
        let in_hand = batches.into_iter().flat_map(Batch::items);
        in_hand.chain(waiting).cloned().collect()
    }

    /// Ends the program without a flush, and starts it again.
    fn restart(self) -> Self {
        let (next, _) = queues(&[name()]);
        let bench = Bench::of(self.disk, self.next, next, Now::read());
        let mut bench = bench;
        // It survives another restart, too.
        bench.flush();
        bench
    }
}

fn key(number: u64) -> String {
    String::from_utf8(name().key(number)).unwrap()
}

use Verdict::{Again, Refused, Taken};

#[test]
fn what_waits_comes_back_in_its_order_also_what_is_being_sent() {
    let mut bench = Bench::new();
    bench.push(&["1", "2", "3", "4", "5", "6"]);
    assert_eq!(bench.take(), ["1", "2", "3", "4"]);
    assert_eq!(bench.flush(), [key(0)]);
    bench.push(&["7"]);
    assert_eq!(bench.flush(), [key(1)], "only what is new is written");
    assert_eq!(bench.flush(), [] as [&str; 0]);
    let before = bench.stats.queued.value();
    let mut bench = bench.restart();
    assert_eq!(bench.live(), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(bench.stats.queued.value(), before);
    assert_eq!(bench.stats.queued_items.value(), 7);
    assert!(bench.stats.oldest().is_some());
    bench.push(&["8"]);
    assert_eq!(bench.flush(), [key(2)], "the numbers of chunks go on");
    assert_eq!(bench.take(), ["1", "2", "3", "4"]);
}

#[test]
fn what_was_sent_does_not_come_back() {
    let mut bench = Bench::new();
    bench.push(&["1", "2", "3", "4", "5", "6", "7"]);
    bench.flush();
    bench.take();
    bench.settle(&[Taken, Again, Refused(Reason::TooLarge), Taken]);
    assert_eq!(bench.flush(), [key(0)], "the chunk without them");
    let mut bench = bench.restart();
    assert_eq!(bench.live(), ["2", "5", "6", "7"]);
    bench.take();
    bench.settle(&[Taken; 4]);
    assert_eq!(bench.flush(), [key(0)]);
    let mut bench = bench.restart();
    assert_eq!(bench.live(), [] as [&str; 0]);

    bench.push(&["8"]);
    bench.take();
    bench.settle(&[Taken]);
    assert_eq!(bench.flush(), [] as [&str; 0], "it was never stored");
}

#[test]
fn items_are_written_in_chunks() {
    let mut bench = Bench::new();
    let large = "x".repeat(30 << 10);
    bench.push(&[&large, &large, &large, "1", "2"]);
    let huge = "y".repeat(100 << 10);
    bench.push(&[&huge, "3"]);
    let keys = [0, 1, 2, 3].map(key);
    assert_eq!(bench.flush(), keys, "two, one with two small, huge, one");
    bench.take();
    bench.settle(&[Taken; 3]);
    assert_eq!(
        bench.flush(),
        [key(0), key(1)],
        "one is gone, one is smaller"
    );
    let bench = bench.restart();
    assert_eq!(bench.live(), ["1", "2", &*huge, "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_storage_counts_for_the_age() {
    let bench = Bench::new();
    bench.push(&["old"]);
    let now = Now::read();
    let (next, _) = queues(&[name()]);
    moved(&bench.queues, &bench.disk, &next, now);
    let later = now.after(Duration::from_secs(100));
    let bench = Bench::of(bench.disk, next, queues(&[]).0, later);
    let age = later.tick - bench.stats.oldest().unwrap();
    assert!(age >= Duration::from_secs(100) && age < Duration::from_secs(110));
}

#[test]
fn what_is_left_at_the_end_is_not_dropped() {
    let mut bench = Bench::new();
    bench.push(&["1", "2", "3", "4", "5"]);
    bench.take();
    let left = Left {
        items: 5,
        bytes: 5,
        is_stored: true,
    };
    assert_eq!(bench.queue.stop(), left);
    assert_eq!(bench.stats.dropped(DropReason::Shutdown), 0);
    assert_eq!(
        bench.handle.push(vec!["6".to_owned()]),
        Err(PushError::Stopped)
    );
    bench.flush();
    assert_eq!(bench.restart().live(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn everything_is_written_anew_after_a_failure() {
    let mut bench = Bench::new();
    bench.push(&["1", "2", "3", "4", "5", "6"]);
    // These changes are lost.
    let lost = bench.queues.take_changes(Now::read(), &mut || ());
    assert_eq!(lost.records.count(), 1);
    bench.take();
    bench.settle(&[Taken]);
    bench.push(&["7"]);
    bench.queues.note_everything();
    let changes = bench.queues.take_changes(Now::read(), &mut || ());
    assert_eq!(changes.full, [name().prefix()], "not those of other sinks");
    let keys: Vec<_> = changes.records.map(|record| record.key).collect();
    assert_eq!(keys, [0, 1].map(|number| name().key(number)));
    bench.queues.note_everything();
    bench.flush();
    assert_eq!(bench.restart().live(), ["2", "3", "4", "5", "6", "7"]);
}

#[test]
fn items_of_a_sink_that_is_not_configured_are_kept_for_a_week() {
    let mut bench = Bench::new();
    bench.push(&["1", "22"]);
    bench.flush();
    let (without, shown) = queues(&[QueueName::new("opensearch", "log")]);
    let now = Now::read();
    moved(&bench.queues, &bench.disk, &without, now);
    let expected = UnconfiguredSink {
        name: "log".to_owned(),
        kind: "loki".to_owned(),
        items: 2,
        bytes: 3,
    };
    assert_eq!(*shown.load(), [expected]);
    assert!(without.has_unconfigured(&name()));
    let changes = |later| {
        let changes = without.take_changes(now.after(later), &mut || ());
        changes.records.collect::<Vec<_>>()
    };
    assert_eq!(changes(KEPT_FOR / 2), []);
    let removed = changes(KEPT_FOR + Duration::from_secs(10));
    assert_eq!(removed.len(), 1);
    assert_eq!(
        (&removed[0].key, &removed[0].value),
        (&name().key(0), &None)
    );
    assert!(!without.has_unconfigured(&name()));
    assert_eq!(*shown.load(), []);
}

#[test]
fn a_queue_that_is_released_leaves_its_records() {
    let mut bench = Bench::new();
    bench.push(&["1", "2"]);
    bench.take();
    bench.settle(&[Taken]);
    bench.flush();
    let now = Now::read();
    bench.queues.release(&name(), now);
    assert!(bench.queues.has_unconfigured(&name()));
    assert_eq!(bench.flush(), [] as [&str; 0]);
    assert_eq!(bench.restart().live(), ["2"]);
}

/// One operation on a queue.
#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Take,
    /// Switches to the other batch.
    Swap,
    Settle(Vec<bool>),
    Flush,
    LoseChanges,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_usize..9).prop_map(Step::Push),
        3 => Just(Step::Take),
        2 => Just(Step::Swap),
        3 => prop::collection::vec(any::<bool>(), 0..5).prop_map(Step::Settle),
        2 => Just(Step::Flush),
        1 => Just(Step::LoseChanges),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// However a program ends, after its next start it has exactly the items that were live at the
    /// last flush, in their order.
    #[test]
    fn a_restart_finds_what_was_live_at_the_last_flush(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut bench = Bench::new();
        let mut stored = Vec::new();
        let mut count = 0;
        for step in steps {
            match step {
                Step::Push(items) => {
                    // Some are larger than a chunk.
                    let text = |number: usize| {
                        let size = if number.is_multiple_of(7) { 70 << 10 } else { 1 };
                        format!("{number}{}", "x".repeat(size))
                    };
                    let items: Vec<String> = (count..count + items).map(text).collect();
                    count += items.len();
                    bench.handle.push(items).unwrap();
                }
                Step::Take if bench.batch.items().is_empty() => drop(bench.take()),
                Step::Take => {}
                Step::Swap => swap(&mut bench.batch, &mut bench.other),
                Step::Settle(taken) => {
                    let verdicts = taken.into_iter().map(|it| if it { Taken } else { Again });
                    bench.settle(&verdicts.collect::<Vec<_>>());
                }
                Step::Flush => {
                    bench.flush();
                    stored = bench.live();
                }
                Step::LoseChanges => {
                    let changes = bench.queues.take_changes(Now::read(), &mut || ());
                    let _ = changes.records.count();
                    bench.queues.note_everything();
                }
                Step::Restart => {
                    let fresh = Bench::new();
                    bench = replace(&mut bench, fresh).restart();
                    prop_assert_eq!(bench.live(), stored.clone());
                }
            }
            let live = bench.live();
            prop_assert_eq!(bench.stats.queued_items.value(), live.len());
        }
    }
}
