//! The task of a sink: takes batches from its queue, sends them, retries.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::queue::{Batch, Queue};
use super::{Sink, Verdict};
use crate::telemetry::sender_log;

/// Sends until the queue is closed and empty.
///
/// Once `stop` is cancelled, it has `drain` to send what waits, and gives up
/// at the first failure. What is left then is counted and logged.
pub(super) async fn run<S: Sink>(
    mut sink: S,
    queue: Queue<S::Item>,
    drain: Duration,
    stop: CancellationToken,
) {
    let mut batch = Batch::empty();
    {
        let mut deadline = pin!(async {
            stop.cancelled().await;
            sleep(drain).await;
        });
        tokio::select! {
            () = send_all(&mut sink, &queue, &mut batch, &stop) => {}
            () = &mut deadline => {}
        }
    }
    let left = queue.stop(&batch);
    if left > 0 {
        let name = sink.name();
        log::warn!("{left} bytes of {name} were not sent before shutdown");
    }
}

async fn send_all<S: Sink>(
    sink: &mut S,
    queue: &Queue<S::Item>,
    batch: &mut Batch<S::Item>,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        queue.expire_batch(batch, Instant::now());
        let mut failure = None;
        let mut retry = false;
        if batch.items().is_empty() {
            tokio::select! {
                next = queue.next_batch() => match next {
                    Some(next) => *batch = next,
                    None => return sink.close().await,
                },
                problem = sink.idle() => failure = Some(problem),
            }
        } else {
            let report = sink.send(batch.items()).await;
            // A server that accepts connections and then breaks them takes some items
            // each time.
            if report.failure.is_none() && report.verdicts.contains(&Verdict::Taken) {
                backoff.reset();
            }
            queue.settle(batch, &report.verdicts);
            retry = !batch.items().is_empty();
            failure = report.failure;
        }
        if let Some(failure) = &failure {
            let name = sink.name();
            sender_log::write(
                S::LOG_EVENT,
                format_args!("cannot send {name}: {failure}; trying again"),
            );
        }
        if failure.is_some() || retry {
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = sleep(backoff.wait(backoff::random())) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
