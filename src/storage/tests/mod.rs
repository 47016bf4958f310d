mod double;
mod engine;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use double::{EngineState, Names, TestEngine};

use super::config::Sync;
use super::engine::Engine;
use super::error::DiskProblem;
use super::flusher::{self, Flusher, Syncing};
use super::journal::{Journal, Shared};
use super::persistent::{Persistent, StoredRecords};
use crate::clock::Now;
use crate::record::Record;
use crate::telemetry::StorageStats;

/// Writes the changes of a state, and restores all written records into another one.
/// Returns the written keys and the number of restored records.
pub fn moved(
    from: &dyn Persistent,
    disk: &Disk,
    to: &dyn Persistent,
    now: Now,
) -> (Vec<String>, usize) {
    let mut engine = TestEngine(Arc::clone(&disk.0));
    let changes = from.take_changes(now, &mut || ());
    let records: Vec<Record> = changes.records.collect();
    let mut void = Vec::new();
    for prefix in &changes.full {
        let mut add = |key, _| {
            void.push(Record::removed(key));
            Ok(())
        };
        engine.each(prefix.as_bytes(), &mut add).unwrap();
    }
    engine.write(&void).unwrap();
    engine.write(&records).unwrap();
    let stored = StoredRecords::new(&engine, to.prefixes());
    let restored = to.restore(&stored, now).unwrap();
    let keys = records
        .into_iter()
        .map(|it| String::from_utf8(it.key).unwrap());
    (keys.collect(), restored)
}

/// The records that [`moved`] has written.
#[derive(Debug, Default)]
pub struct Disk(Arc<EngineState>);

/// A push that waits until its change is kept.
type Waiter = tokio::task::JoinHandle<Result<(), super::NotKept>>;

/// A flusher that the test drives.
struct Bench {
    shared: Arc<Shared>,
    disk: Arc<EngineState>,
    names: Arc<Names>,
    journal: Journal,
    stats: Arc<StorageStats>,
}

fn bench(sync: Sync) -> Bench {
    let disk = Arc::new(EngineState::default());
    let names = Arc::new(Names::default());
    let stats = Arc::new(StorageStats::default());
    let shared = Shared::new(sync, "/state".into(), Arc::clone(&stats));
    let shared = Arc::new(shared);
    let state: Arc<dyn Persistent> = Arc::<Names>::clone(&names);
    let engine = Box::new(TestEngine(Arc::clone(&disk)));
    shared.put_flusher(Flusher::new(engine, vec![state], Arc::clone(&shared)));
    Bench {
        disk,
        names,
        journal: Journal::new(Arc::clone(&shared)),
        shared,
        stats,
    }
}

impl Bench {
    fn flush(&self, sync: bool) {
        let syncing = match sync {
            true => Syncing::Wait,
            false => Syncing::No,
        };
        round(&self.shared, syncing);
    }

    /// Starts the flusher's thread.
    fn start(&self) -> JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || flusher::run(&shared))
    }

    /// Starts waiting until the changes so far are kept.
    fn waiter(&self) -> Waiter {
        let journal = self.journal.clone();
        tokio::spawn(async move { journal.kept().await })
    }
}

fn round(shared: &Shared, syncing: Syncing) {
    shared.with_flusher(|flusher| Some(flusher.round(syncing, Now::read())));
}

/// Lets spawned waiters run until they wait.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_is_kept_once_a_flush_that_began_later_has_ended() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    let waiter = bench.waiter();
    settle().await;
    assert!(!waiter.is_finished());
    bench.flush(false);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.disk.written(), [("name/a", "1")]);
    // It is handed to the operating system, and synced within the next second.
    assert_eq!(bench.disk.synced(), []);
    bench.flush(true);
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
    assert_eq!(bench.stats.written_records.value(), 1);
}

#[tokio::test]
async fn always_syncs_before_it_acknowledges() {
    let bench = bench(Sync::Always);
    bench.names.set("a", "1");
    let waiter = bench.waiter();
    settle().await;
    bench.flush(false);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn with_write_a_failing_disk_is_reported_and_recovers_by_itself() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.flush(true);
    bench.disk.fail(Some(DiskProblem::Full));
    bench.names.set("b", "2");
    let waiter = bench.waiter();
    settle().await;
    bench.flush(true);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.stats.is_failing.value(), 1);
    assert_eq!(bench.stats.unkept.value(), 1);
    let failure = bench.journal.failure().unwrap();
    assert!(
        failure.contains("/state") && failure.contains("memory only"),
        "{failure}"
    );
    assert!(!bench.journal.rejects());
    // Nobody waits for a disk that is known to fail.
    assert_eq!(bench.journal.kept().await, Ok(()));
    bench.names.set("a", "3");
    bench.names.remove("b");
    bench.names.set("c", "4");
    bench.flush(true);
    assert_eq!(bench.disk.written(), [("name/a", "1")]);
    bench.disk.fail(None);
    bench.flush(true);
    assert_eq!(bench.disk.synced(), [("name/a", "3"), ("name/c", "4")]);
    assert_eq!(bench.journal.failure(), None);
    assert_eq!(bench.stats.is_failing.value(), 0);
    assert_eq!(bench.stats.pending_bytes.value(), 0);
    assert_eq!(bench.stats.flushes.counts(), [("full", 2), ("ok", 2)]);
}

#[tokio::test]
async fn with_always_a_push_that_cannot_be_stored_is_rejected() {
    let bench = bench(Sync::Always);
    bench.disk.fail(Some(DiskProblem::ReadOnly));
    bench.names.set("a", "1");
    let waiter = bench.waiter();
    settle().await;
    bench.flush(false);
    let problem = waiter.await.unwrap().unwrap_err().to_string();
    assert!(
        problem.contains("storage.sync = \"always\"") && problem.contains("applied in memory"),
        "{problem}"
    );
    // The next push is rejected before it changes anything.
    let problem = bench.journal.admit().unwrap_err().to_string();
    assert!(problem.contains("nothing was changed"), "{problem}");
    assert!(bench.journal.rejects());
    bench.disk.fail(None);
    bench.flush(true);
    assert_eq!(bench.journal.admit(), Ok(()));
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn pending_changes_are_bounded_and_everything_is_written_again() {
    let bench = bench(Sync::Write);
    bench.names.set("gone", "1");
    bench.names.set("stays", "1");
    bench.flush(true);
    bench.disk.fail(Some(DiskProblem::Failed));
    let long = "x".repeat(3 << 20);
    for number in 0..12 {
        bench.names.set(&format!("long-{number:02}"), &long);
        bench.flush(true);
        assert!(bench.stats.pending_bytes.value() <= 32 << 20);
    }
    bench.names.remove("gone");
    bench.flush(true);
    assert_eq!(bench.stats.pending_bytes.value(), 0);
    bench.disk.fail(None);
    bench.flush(true);
    let keys: Vec<String> = bench.disk.synced_keys();
    assert_eq!(keys.len(), 13, "{keys:?}");
    assert!(keys.contains(&"name/stays".to_owned()) && !keys.contains(&"name/gone".to_owned()));
}

#[tokio::test]
async fn after_a_failed_sync_what_was_written_before_is_written_again() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.flush(false);
    bench.disk.fail_sync(true);
    bench.flush(true);
    assert_eq!(bench.stats.is_failing.value(), 1);
    // The disk loses unsynced writes.
    bench.disk.lose_unsynced();
    assert_eq!(bench.disk.written(), []);
    bench.disk.fail_sync(false);
    bench.flush(true);
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn a_waiter_learns_that_the_flusher_has_stopped() {
    let bench = bench(Sync::Always);
    let waiter = bench.waiter();
    settle().await;
    let flusher = bench.start();
    assert_eq!(waiter.await.unwrap(), Ok(()));
    bench.names.set("last", "1");
    assert!(bench.journal.close(Duration::from_secs(10)).await);
    flusher.join().unwrap();
    assert_eq!(bench.disk.synced(), [("name/last", "1")]);
    assert!(bench.journal.kept().await.is_err());
}

#[tokio::test]
async fn after_the_last_flush_no_change_counts_as_kept() {
    for (sync, fails) in [
        (Sync::Write, false),
        (Sync::Write, true),
        (Sync::Always, false),
    ] {
        let bench = bench(sync);
        let flusher = bench.start();
        if fails {
            bench.disk.fail(Some(DiskProblem::Full));
            bench.names.set("early", "1");
            assert_eq!(bench.journal.kept().await, Ok(()));
        }
        bench.journal.close(Duration::from_secs(10)).await;
        flusher.join().unwrap();
        let problem = bench.journal.admit().unwrap_err().to_string();
        assert!(
            problem.contains("the proxy is stopping; nothing was changed"),
            "{problem}"
        );
        // A push that was admitted just before the end.
        bench.names.set("late", "1");
        let problem = bench.journal.kept().await.unwrap_err().to_string();
        assert!(problem.contains("the proxy is stopping"), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_delays_pushes_up_to_a_limit_and_nothing_else() {
    for sync in [Sync::Write, Sync::Always] {
        let bench = bench(sync);
        bench.disk.stick(true);
        bench.names.set("a", "1");
        let waiter = bench.waiter();
        settle().await;
        let shared = Arc::clone(&bench.shared);
        let flusher = thread::spawn(move || round(&shared, Syncing::Wait));
        bench.disk.await_write();
        // The state changes even while the disk does not answer.
        bench.names.set("b", "2");
        let started = tokio::time::Instant::now();
        let kept = waiter.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(bench.stats.unkept.value(), 1);
        match sync {
            Sync::Write => assert_eq!(kept, Ok(())),
            Sync::Always => {
                let problem = kept.unwrap_err().to_string();
                assert!(problem.contains("did not answer within 10s"), "{problem}");
            }
        }
        bench.disk.stick(false);
        flusher.join().unwrap();
        bench.flush(true);
        assert_eq!(bench.disk.synced(), [("name/a", "1"), ("name/b", "2")]);
    }
}

#[tokio::test]
async fn no_push_waits_for_a_slow_sync() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.disk.stick_sync(true);
    round(&bench.shared, Syncing::Begin);
    bench.names.set("b", "2");
    let waiter = bench.waiter();
    settle().await;
    // A second sync does not begin.
    round(&bench.shared, Syncing::Begin);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.disk.written(), [("name/a", "1"), ("name/b", "2")]);
    assert_eq!(bench.disk.synced(), []);
    bench.disk.stick_sync(false);
    bench.flush(true);
    assert_eq!(bench.disk.synced(), [("name/a", "1"), ("name/b", "2")]);
    assert_eq!(bench.stats.sync_durations.read().0.last(), Some(&2));
}

#[tokio::test]
async fn a_failed_background_sync_is_noticed_and_recovered() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.disk.fail_sync(true);
    round(&bench.shared, Syncing::Begin);
    while bench.journal.failure().is_none() {
        bench.flush(false);
    }
    bench.disk.lose_unsynced();
    bench.disk.fail_sync(false);
    bench.flush(false);
    assert_eq!(bench.journal.failure(), None);
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn the_last_changes_are_kept_although_the_sync_before_failed() {
    let bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.disk.fail_sync(true);
    round(&bench.shared, Syncing::Begin);
    let mut is_syncing = true;
    while is_syncing {
        bench.shared.with_flusher(|flusher| {
            is_syncing = flusher.is_syncing();
            None
        });
    }
    bench.disk.fail_sync(false);
    bench.disk.lose_unsynced();
    bench.names.set("b", "2");
    let flusher = bench.start();
    assert!(bench.journal.close(Duration::from_secs(10)).await);
    flusher.join().unwrap();
    assert_eq!(bench.disk.synced(), [("name/a", "1"), ("name/b", "2")]);
}

#[tokio::test]
async fn without_storage_everything_counts_as_kept() {
    let journal = Journal::off();
    assert_eq!(journal.admit(), Ok(()));
    assert_eq!(journal.kept().await, Ok(()));
    assert!(journal.close(Duration::ZERO).await);
    assert_eq!(journal.failure(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_write_a_push_flushes_for_all_that_wait() {
    let bench = bench(Sync::Write);
    bench.disk.stick(true);
    bench.names.set("first", "1");
    let first = bench.waiter();
    bench.disk.await_write();
    // The first push blocks one thread, and the others wait on the other thread.
    let others: Vec<Waiter> = (0..50)
        .map(|number| {
            bench.names.set(&format!("{number:02}"), "1");
            bench.waiter()
        })
        .collect();
    while bench.shared.waiting() <= others.len() {
        tokio::task::yield_now().await;
    }
    bench.disk.stick(false);
    let flusher = bench.start();
    assert_eq!(first.await.unwrap(), Ok(()));
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(()));
    }
    bench.journal.close(Duration::from_secs(10)).await;
    flusher.join().unwrap();
    assert_eq!(bench.stats.unkept.value(), 0);
    assert_eq!(bench.disk.written().len(), 51);
    let flushes = bench.stats.flushes.counts();
    assert!(matches!(flushes[..], [("ok", 2..=50)]), "{flushes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_slow_flush_pushes_do_not_flush_themselves() {
    let bench = bench(Sync::Write);
    bench.disk.stick(true);
    bench.names.set("slow", "1");
    let slow = bench.waiter();
    bench.disk.await_write();
    thread::sleep(Duration::from_millis(20));
    bench.disk.stick(false);
    assert_eq!(slow.await.unwrap(), Ok(()));
    bench.names.set("next", "1");
    let next = bench.waiter();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(bench.disk.written(), [("name/slow", "1")]);
    // The flusher's thread flushes instead, and finds that the disk is quick again. On a busy
    // machine, it may need more than one flush.
    let flusher = bench.start();
    assert_eq!(next.await.unwrap(), Ok(()));
    let is_slow = || bench.shared.is_slow.load(Ordering::Relaxed);
    for _ in 0..1000 {
        if is_slow() {
            assert_eq!(bench.waiter().await.unwrap(), Ok(()));
        }
    }
    assert!(!is_slow());
    bench.journal.close(Duration::from_secs(10)).await;
    flusher.join().unwrap();
}
