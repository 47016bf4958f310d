//! The task that runs each second: withdraws sections and aggregated series whose time is up,
//! whether or not anyone scrapes, and writes how many log lines were suppressed.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Now;
use crate::context::Context;
use crate::telemetry::clip;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// Time between two checks. Each wakes threads with cold caches, which is most of what an idle
/// proxy costs; and nothing is scraped more often.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many checks in a row are skipped while large writes are applied.
const MAX_SKIPPED: u32 = 5;

/// Runs until the program stops.
pub async fn run(context: Context) {
    let Context {
        store,
        telemetry,
        stop,
        ..
    } = context;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut skipped = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        sender_log::report_suppressed(false);
        // A withdrawal would wait for a large write and block this serving thread.
        if store.is_busy() && skipped < MAX_SKIPPED {
            skipped += 1;
            continue;
        }
        skipped = 0;
        let now = Now::read();
        loop {
            let series = store.expire_series(now);
            if series == 0 {
                break;
            }
            telemetry.expired_series.add(series as u64);
            tokio::task::yield_now().await;
        }
        for id in store.expire(now) {
            telemetry.expired.add(1);
            let (producer, name) = (id.producer.as_str(), clip(&id.name));
            sender_log::write(
                LogEvent::Withdrawal,
                About::NOTHING.named(producer, &id.name),
                format_args!("{producer} {name} withdrawn: not heard from in time"),
            );
        }
    }
}
