//! Inspects verbatim texts in the background, and tells what it finds.
//!
//! What an inspection is, and what becomes of its findings, is the store's to
//! know. Here it is decided when: a text at most once a round, and little at a
//! time, so that pushes and scrapes do not notice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::reason::Reason;
use crate::store::{InspectionReport, Store};
use crate::telemetry::sender_log::{self, LogEvent, without_excerpts};
use crate::telemetry::{Telemetry, clip};

/// From the beginning of one round to the next, at least. In a round every text
/// that changed is inspected once.
const ROUND: Duration = Duration::from_secs(3);

/// Bytes of texts that are inspected at a time.
const SLICE: usize = 256 * 1024;

/// It rests this many times as long as it worked, so it takes at most a twentieth
/// of one core.
const REST: u32 = 19;

/// Families that are warned of, each once. Conflicts of further families are only
/// counted.
const MOST_WARNED: usize = 10_000;

/// Inspects the store's verbatim texts until `stop`.
pub async fn run(store: Arc<Store>, telemetry: Arc<Telemetry>, stop: CancellationToken) {
    let work = async {
        let mut warned = HashSet::new();
        loop {
            let begun = Instant::now();
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
        let begun = Instant::now();
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
                "the inspection of texts failed; it goes on with the next round"
            ));
            return;
        };
        telemetry.inspections.count(Ok(()), report.fine);
        for (_, suspect, _) in &report.suspect {
            let reason = Reason::from(suspect);
            telemetry.inspections.count(Err(reason), 1);
        }
        tell(&report, warned);
        if !more {
            break;
        }
        if !first {
            sleep(begun.elapsed() * REST).await;
        }
        first = false;
    }
}

/// Logs what is new in a report. Texts are quoted at `debug` alone.
fn tell(report: &InspectionReport, warned: &mut HashSet<Arc<str>>) {
    for (id, suspect, _) in report.suspect.iter().filter(|(.., is_new)| *is_new) {
        let (reason, message) = (Reason::from(suspect), suspect.to_string());
        let told = without_excerpts(reason, &message);
        sender_log::write(
            LogEvent::Finding,
            format_args!("{id} is suspect ({reason}): {told}"),
        );
        log::debug!("{id}: {message}");
    }
    for (id, conflict) in &report.conflicts {
        let family = &conflict.family;
        if warned.contains(family) || warned.len() == MOST_WARNED {
            continue;
        }
        warned.insert(Arc::clone(family));
        let with = &conflict.with;
        sender_log::write(
            LogEvent::Finding,
            format_args!(
                "{id}: family {} clashes with that {with}, and a scraper may lose samples: \
                 /apps?wide=1 tells more, and exposition.mode = \"merged\" refuses the second",
                clip(family)
            ),
        );
        log::debug!("{id}: {conflict}");
    }
    if report.left_out > 0 {
        log::debug!("{} findings were not kept for the log", report.left_out);
    }
}
