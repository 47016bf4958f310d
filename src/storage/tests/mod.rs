mod double;
mod engine;

use std::sync::Arc;
use std::time::Duration;

use double::{EngineState, Names, TestEngine};

use super::config::Sync;
use super::engine::Engine;
use super::error::DiskProblem;
use super::flusher::Flusher;
use super::journal::{Journal, Shared};
use super::persistent::{Persistent, StoredRecords};
use crate::clock::Now;
use crate::record::Record;
use crate::telemetry::StorageStats;

/// Writes the changes of a state, and restores another one from all that is written.
/// Returns the keys that were written, and the number of records restored.
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

/// What [`moved`] has written.
#[derive(Debug, Default)]
pub struct Disk(Arc<EngineState>);

/// A flusher that a test drives itself.
struct Bench {
    flusher: Flusher,
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
    Bench {
        flusher: Flusher::new(engine, vec![state], Arc::clone(&shared)),
        disk,
        names,
        journal: Journal::new(shared),
        stats,
    }
}

impl Bench {
    fn flush(&mut self, sync: bool) {
        self.flusher.round(sync, Now::read());
    }

    /// Begins to wait for what was changed until now.
    fn waiter(&self) -> tokio::task::JoinHandle<Result<(), super::NotKept>> {
        let journal = self.journal.clone();
        tokio::spawn(async move { journal.kept().await })
    }
}

/// Lets a spawned waiter run until it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_is_kept_once_a_flush_that_began_later_has_ended() {
    let mut bench = bench(Sync::Write);
    bench.names.set("a", "1");
    let waiter = bench.waiter();
    settle().await;
    assert!(!waiter.is_finished());
    bench.flush(false);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.disk.written(), [("name/a", "1")]);
    // It is handed to the operating system, and synced with the next second.
    assert_eq!(bench.disk.synced(), []);
    bench.flush(true);
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
    assert_eq!(bench.stats.written_records.value(), 1);
}

#[tokio::test]
async fn always_syncs_before_it_acknowledges() {
    let mut bench = bench(Sync::Always);
    bench.names.set("a", "1");
    let waiter = bench.waiter();
    settle().await;
    bench.flush(false);
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn with_write_a_failing_disk_is_reported_and_recovers_by_itself() {
    let mut bench = bench(Sync::Write);
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
    let mut bench = bench(Sync::Always);
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
    // The next is rejected before it changes anything.
    let problem = bench.journal.admit().unwrap_err().to_string();
    assert!(problem.contains("nothing was changed"), "{problem}");
    assert!(bench.journal.rejects());
    bench.disk.fail(None);
    bench.flush(true);
    assert_eq!(bench.journal.admit(), Ok(()));
    assert_eq!(bench.disk.synced(), [("name/a", "1")]);
}

#[tokio::test]
async fn changes_that_wait_are_bounded_and_everything_is_written_anew() {
    let mut bench = bench(Sync::Write);
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
    let mut bench = bench(Sync::Write);
    bench.names.set("a", "1");
    bench.flush(false);
    bench.disk.fail_sync(true);
    bench.flush(true);
    assert_eq!(bench.stats.is_failing.value(), 1);
    // The disk has lost what was not synced.
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
    let flusher = std::thread::spawn(|| bench.flusher.run());
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
        let flusher = std::thread::spawn(|| bench.flusher.run());
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
        // A push that was admitted just before.
        bench.names.set("late", "1");
        let problem = bench.journal.kept().await.unwrap_err().to_string();
        assert!(problem.contains("the proxy is stopping"), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_delays_pushes_up_to_a_limit_and_nothing_else() {
    for sync in [Sync::Write, Sync::Always] {
        let mut bench = bench(sync);
        bench.disk.stick(true);
        bench.names.set("a", "1");
        let waiter = bench.waiter();
        settle().await;
        let flusher = std::thread::spawn(move || {
            bench.flusher.round(true, Now::read());
            bench.flusher
        });
        bench.disk.await_write();
        // The disk does not answer, and the state changes all the same.
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
        bench.flusher = flusher.join().unwrap();
        bench.flusher.round(true, Now::read());
        assert_eq!(bench.disk.synced(), [("name/a", "1"), ("name/b", "2")]);
    }
}

#[tokio::test]
async fn without_storage_everything_counts_as_kept() {
    let journal = Journal::off();
    assert_eq!(journal.admit(), Ok(()));
    assert_eq!(journal.kept().await, Ok(()));
    assert!(journal.close(Duration::ZERO).await);
    assert_eq!(journal.failure(), None);
}
