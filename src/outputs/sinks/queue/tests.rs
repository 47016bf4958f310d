use std::mem::swap;

use proptest::prelude::*;

use super::consumer::Left;
use super::*;
use crate::outputs::sinks::Verdict;
use crate::reason::Reason;

const AGE: Duration = Duration::from_secs(10);

/// A queue of texts whose sizes are their lengths.
fn texts(limits: QueueLimits) -> (QueueHandle<String>, Queue<String>, Arc<SinkStats>) {
    let stats = Arc::new(SinkStats::default());
    let (handle, queue) = queue(limits, String::len, Arc::clone(&stats));
    (handle, queue, stats)
}

/// The memory of an entry beside its text.
const ENTRY: usize = size_of::<Entry<String>>();

/// Room for `items` of `bytes` together.
fn limits(items: usize, bytes: usize) -> QueueLimits {
    QueueLimits {
        bytes: bytes + items * ENTRY,
        age: Some(AGE),
        batch_items: 3,
        batch_bytes: 10,
        batch_wait: Duration::ZERO,
    }
}

fn items(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Items of one byte each that are dropped at the end.
fn dropped(items: usize) -> Left {
    Left {
        items,
        bytes: items,
        is_stored: false,
    }
}

/// The items of the next batch, which is not settled.
fn next(queue: &Queue<String>, now: Instant) -> Batch<String> {
    queue
        .try_next_batch(now)
        .expect("something waits")
        .expect("the queue is open")
}

#[test]
fn a_push_over_the_byte_limit_changes_nothing() {
    let (handle, queue, stats) = texts(limits(3, 10));
    let now = Instant::now();
    handle.push_at(items(&["12345"]), now).unwrap();
    let rejected = handle.push_at(items(&["123", "456"]), now);
    assert_eq!(rejected, Err(PushError::Full));
    assert_eq!(stats.dropped(DropReason::Full), 2);
    handle.push_at(items(&["12", "345"]), now).unwrap();
    assert_eq!(stats.queued.value(), 10 + 3 * ENTRY);
    assert_eq!(next(&queue, now).items(), ["12345", "12", "345"]);
}

#[test]
fn as_many_items_as_fit_are_taken() {
    let (handle, queue, stats) = texts(limits(3, 10));
    let now = Instant::now();
    let taken = handle.push_fitting_at(items(&["1234", "56", "7", "8"]), now);
    assert_eq!(taken, Ok(3));
    assert_eq!(stats.dropped(DropReason::Full), 1);
    assert_eq!(stats.queued.value(), 7 + 3 * ENTRY);
    assert_eq!(
        handle.push_fitting_at(items(&["9"]), now),
        Err(PushError::Full)
    );
    assert_eq!(stats.dropped(DropReason::Full), 2);
    assert_eq!(handle.push_fitting_at(Vec::new(), now), Ok(0));
    assert_eq!(next(&queue, now).items(), ["1234", "56", "7"]);
    assert_eq!(stats.queued_items.value(), 3);
}

#[test]
fn items_count_as_queued_until_they_are_settled() {
    let (handle, queue, stats) = texts(limits(4, 4));
    let now = Instant::now();
    handle.push_at(items(&["1", "2", "3", "4"]), now).unwrap();
    let mut batch = next(&queue, now);
    assert_eq!(handle.push_at(items(&["5"]), now), Err(PushError::Full));
    let verdicts = [
        Verdict::Again,
        Verdict::Taken,
        Verdict::Refused(Reason::TooLarge),
    ];
    queue.settle(&mut batch, &verdicts);
    assert_eq!(batch.items(), ["1"]);
    assert_eq!(stats.queued.value(), 2 + 2 * ENTRY);
    assert_eq!(
        stats.items.counts(),
        [("no_buffer", 1), ("ok", 1), ("too_large", 1)]
    );
    handle.push_at(items(&["5", "6"]), now).unwrap();
    queue.settle(&mut batch, &[]);
    assert_eq!(batch.items(), ["1"], "without a verdict an item stays");
}

#[test]
fn batches_are_bounded_and_an_item_larger_than_a_batch_goes_alone() {
    let (handle, queue, _) = texts(limits(10, 100));
    let now = Instant::now();
    let large = "a text of more than ten bytes";
    handle
        .push_at(
            items(&["1", large, "2", "3", "4", "5", "123456", "7890"]),
            now,
        )
        .unwrap();
    let batches: [&[&str]; 4] = [&["1"], &[large], &["2", "3", "4"], &["5", "123456"]];
    for expected in batches {
        assert_eq!(next(&queue, now).items(), expected);
    }
}

#[test]
fn items_past_the_age_limit_are_dropped() {
    let (handle, queue, stats) = texts(limits(10, 100));
    let start = Instant::now();
    handle.push_at(items(&["old", "aged"]), start).unwrap();
    handle.push_at(items(&["new"]), start + AGE).unwrap();
    let mut batch = next(&queue, start + AGE);
    assert_eq!(batch.items(), ["old", "aged", "new"], "just young enough");
    let later = start + AGE + Duration::from_millis(1);
    queue.expire_batch(&mut batch, later);
    assert_eq!(batch.items(), ["new"]);
    assert_eq!(stats.queued.value(), 3 + ENTRY);
    queue.expire_batch(&mut batch, later + AGE);
    assert!(batch.items().is_empty());
    handle.push_at(items(&["waits"]), start).unwrap();
    assert!(queue.try_next_batch(later).is_none());
    assert_eq!(stats.dropped(DropReason::Expired), 4);
    assert_eq!(stats.queued.value(), 0);
}

#[test]
fn expired_items_make_room_in_a_full_queue() {
    let (handle, queue, stats) = texts(limits(1, 4));
    let start = Instant::now();
    handle.push_at(items(&["1234"]), start).unwrap();
    let later = start + 2 * AGE;
    handle.push_at(items(&["5678"]), later).unwrap();
    assert_eq!(stats.dropped(DropReason::Expired), 1);
    assert_eq!(next(&queue, later).items(), ["5678"]);
}

#[tokio::test]
async fn the_queue_ends_after_its_last_handle_and_its_last_item() {
    let (handle, queue, _) = texts(limits(10, 100));
    let other = handle.clone();
    handle.push(items(&["last"])).unwrap();
    drop(handle);
    let batch = queue.next_batch().await.expect("an item is left");
    assert_eq!(batch.items(), ["last"]);
    let (end, ()) = tokio::join!(queue.next_batch(), async { drop(other) });
    assert!(end.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_to_be_filled_but_not_for_ever() {
    let wait = Duration::from_secs(5);
    let limits = QueueLimits {
        batch_wait: wait,
        ..limits(10, 100)
    };
    let (handle, queue, stats) = texts(limits);
    let begun = Instant::now();
    handle.push(items(&["1"])).unwrap();
    assert_eq!(stats.oldest(), Some(begun.into_std()));
    let push = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.push(items(&["2", "3"])).unwrap();
    };
    let (batch, ()) = tokio::join!(queue.next_batch(), push);
    let mut first = batch.unwrap();
    assert_eq!(first.items(), ["1", "2", "3"], "as many as fit");
    assert_eq!(begun.elapsed(), Duration::from_secs(1));

    handle.push(items(&["4"])).unwrap();
    let mut second = queue.next_batch().await.unwrap();
    assert_eq!(second.items(), ["4"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(1) + wait);

    handle.push(items(&["5"])).unwrap();
    queue.hurry();
    let mut third = queue.next_batch().await.unwrap();
    assert_eq!(third.items(), ["5"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(1) + wait);
    queue.settle(&mut second, &[Verdict::Taken]);
    assert_eq!(stats.oldest(), Some(begun.into_std()), "of all batches");
    queue.settle(&mut first, &[Verdict::Taken; 3]);
    assert_eq!(stats.oldest(), Some(Instant::now().into_std()));
    queue.settle(&mut third, &[Verdict::Taken]);
    assert_eq!(stats.oldest(), None);
}

#[tokio::test]
async fn a_push_wakes_the_consumer() {
    let (handle, queue, _) = texts(limits(10, 100));
    let push = async {
        tokio::task::yield_now().await;
        handle.push(items(&["1"])).unwrap();
    };
    let (batch, ()) = tokio::join!(queue.next_batch(), push);
    assert_eq!(batch.expect("an item").items(), ["1"]);
}

#[test]
fn a_stopped_queue_counts_what_it_drops_and_rejects_pushes() {
    let (handle, queue, stats) = texts(limits(10, 100));
    let now = Instant::now();
    handle
        .push_at(items(&["1", "2", "3", "4", "5"]), now)
        .unwrap();
    let _batch = next(&queue, now);
    assert_eq!(queue.stop(), dropped(5));
    assert_eq!(stats.dropped(DropReason::Shutdown), 5);
    assert_eq!(handle.push_at(items(&["6"]), now), Err(PushError::Stopped));
    assert_eq!(stats.dropped(DropReason::Shutdown), 6);
    assert_eq!(stats.queued.value(), 0);
}

/// A step of a producer or of the consumer.
#[derive(Debug, Clone)]
enum Step {
    Push(Vec<usize>),
    Take,
    /// Switches to the other batch.
    Swap,
    /// Verdicts for the batch in hand, by number.
    Settle(Vec<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(1_usize..8, 1..5).prop_map(Step::Push),
        Just(Step::Take),
        Just(Step::Swap),
        prop::collection::vec(0_u8..3, 0..4).prop_map(Step::Settle),
        (1_u64..15).prop_map(Step::Wait),
    ]
}

proptest! {
    /// After any sequence of calls, the queue is within its bounds and in order,
    /// and every pushed item is counted once or still waits.
    #[test]
    fn bounds_hold_and_no_item_is_lost_uncounted(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let limits = limits(5, 25);
        let (handle, queue, stats) = texts(limits);
        let mut now = Instant::now();
        let (mut batch, mut other) = (Batch::empty(), Batch::empty());
        let mut pushed = 0;
        for step in steps {
            match step {
                Step::Push(sizes) => {
                    pushed += sizes.len();
                    let items = sizes.iter().map(|size| "x".repeat(*size)).collect();
                    let _ = handle.push_at(items, now);
                }
                Step::Take if batch.items().is_empty() => {
                    if let Some(next) = queue.try_next_batch(now) {
                        batch = next.expect("a handle is left");
                    }
                    let fresh = |since: &Instant| now.duration_since(*since) <= AGE;
                    prop_assert!(batch.0.since.iter().all(fresh));
                }
                Step::Take => queue.expire_batch(&mut batch, now),
                Step::Swap => swap(&mut batch, &mut other),
                Step::Settle(numbers) => {
                    let verdicts = [
                        Verdict::Taken,
                        Verdict::Again,
                        Verdict::Refused(Reason::TooLarge),
                    ];
                    let verdicts: Vec<Verdict> =
                        numbers.iter().map(|it| verdicts[usize::from(*it)]).collect();
                    queue.settle(&mut batch, &verdicts);
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let state = queue.0.state();
            let waiting = state.items.iter().map(|entry| &entry.item);
            let waiting = waiting.chain(batch.items()).chain(other.items());
            let bytes = waiting.map(|item| item.len() + ENTRY).sum::<usize>();
            prop_assert_eq!(stats.queued.value(), bytes);
            let sizes: usize = state.items.iter().map(|entry| entry.item.len()).sum();
            prop_assert_eq!(state.bytes, sizes);
            prop_assert!(bytes <= limits.bytes);
            prop_assert!(batch.items().len() <= 3);
            let counted: u64 = stats.items.counts().iter().map(|(_, count)| count).sum();
            let held = state.items.len() + batch.items().len() + other.items().len();
            prop_assert_eq!(stats.queued_items.value(), held);
            prop_assert_eq!(counted as usize + held, pushed);
            prop_assert!(state.items.iter().is_sorted_by_key(|entry| entry.since));
        }
        queue.stop();
        let counted: u64 = stats.items.counts().iter().map(|(_, count)| count).sum();
        prop_assert_eq!((counted as usize, stats.queued.value()), (pushed, 0));
    }
}
