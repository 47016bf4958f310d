//! Inspects verbatim texts in the background, and logs the findings.
//!
//! The store does the inspection. This module decides when: each text at most once per round, and a
//! little at a time, so that pushes and scrapes do not notice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Now};
use crate::reason::Reason;
use crate::store::{InspectionReport, Store};
use crate::telemetry::sender_log::{self, About, LogEvent, without_excerpts};
use crate::telemetry::{Telemetry, clip};

/// Minimum time between the starts of two rounds. A round inspects each changed text once.
const ROUND: Duration = Duration::from_secs(3);

/// Bytes of text inspected at a time.
const SLICE: usize = 256 * 1024;

/// After each slice, the task pauses this many times as long as it worked, so it uses at most 1/20
/// of a core.
const PAUSE_FACTOR: u32 = 19;

/// Maximum number of families that are warned about, once each. Conflicts of further families are
/// only counted.
const MAX_WARNED: usize = 10_000;

/// Inspects the store's verbatim texts until `stop` is cancelled.
pub async fn run(store: Arc<Store>, telemetry: Arc<Telemetry>, stop: CancellationToken) {
    let work = async {
        let mut warned = HashSet::new();
        loop {
            let begun = clock::tick();
            round(&store, &telemetry, &mut warned).await;
            sleep(ROUND.saturating_sub(begun.elapsed())).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn round(store: &Arc<Store>, telemetry: &Telemetry, warned: &mut HashSet<Arc<str>>) {
    let mut first = true;
    loop {
        let begun = clock::tick();
        let store = Arc::clone(store);
        let step = move || {
            let now = Now::read();
            let more = match first {
                true => store.begin_inspection(now),
                false => store.inspect_some(SLICE, now),
            };
            (more, store.take_inspection_report())
        };
        let Ok((more, report)) = spawn_blocking(step).await else {
            sender_log::internal_error(format_args!(
                "the inspection of texts failed; the next round tries again"
            ));
            return;
        };
        telemetry.inspections.count(Ok(()), report.fine);
        for (_, suspect, _) in &report.suspect {
            let reason = Reason::from(suspect);
            telemetry.inspections.count(Err(reason), 1);
        }
        log_findings(&report, warned);
        if !more {
            break;
        }
        if !first {
            sleep(begun.elapsed() * PAUSE_FACTOR).await;
        }
        first = false;
    }
}

/// Logs the new findings of a report. Excerpts of texts are logged at `debug` only.
fn log_findings(report: &InspectionReport, warned: &mut HashSet<Arc<str>>) {
    for (id, suspect, _) in report.suspect.iter().filter(|(.., is_new)| *is_new) {
        let (reason, message) = (Reason::from(suspect), suspect.to_string());
        let safe = without_excerpts(reason, &message);
        let about = About::NOTHING.named(id.producer.as_str(), &id.name);
        sender_log::write(
            LogEvent::Finding,
            about.reason(reason),
            format_args!("{id} is suspect ({reason}): {safe}"),
        );
        log::debug!("{id}: {message}");
    }
    for (id, conflict) in &report.conflicts {
        let family = &conflict.family;
        if warned.contains(family) || warned.len() == MAX_WARNED {
            continue;
        }
        warned.insert(Arc::clone(family));
        let with = &conflict.with;
        sender_log::write(
            LogEvent::Finding,
            About::NOTHING.named(id.producer.as_str(), &id.name),
            format_args!(
                "{id}: family {} clashes with that {with}, and a scraper may lose samples: \
                 /apps?wide=1 shows both, and exposition.mode = \"merged\" rejects the second",
                clip(family)
            ),
        );
        log::debug!("{id}: {conflict}");
    }
    if report.left_out > 0 {
        log::debug!("{} findings were not kept for the log", report.left_out);
    }
}
