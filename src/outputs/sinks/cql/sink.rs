//! The sink: a batch becomes requests, and their results become verdicts.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::config::Settings;
use super::failure::Failure;
use super::rows::{Planner, Row, decode};
use super::session::Cluster;
use super::slots::MAX_SHIFT;
use crate::event::StoredEvent;
use crate::outputs::sinks::stored::{STORED_EVENT, StoredForm};
use crate::outputs::sinks::{Refusal, Report, Sink, Verdict};
use crate::reason::Reason;
use crate::telemetry::sender_log::LogEvent;

/// Requests under way at once. A node needs some dozens to be busy.
const IN_FLIGHT: usize = 256;

/// Writes rows.
#[derive(Debug)]
pub struct CqlSink {
    settings: Settings,
    planner: Planner,
    /// The cluster, once a connection succeeded.
    cluster: Option<Cluster>,
}

impl Sink for CqlSink {
    type Item = StoredEvent;

    const STORED: Option<StoredForm<StoredEvent>> = Some(STORED_EVENT);

    const LOG_EVENT: LogEvent = LogEvent::Sink;

    fn size(event: &StoredEvent) -> usize {
        event.bytes().len()
    }

    fn name(&self) -> String {
        format!("rows to {}", self.settings.table)
    }

    async fn send(&mut self, batch: &[StoredEvent]) -> Report {
        let cluster = match self.cluster.take() {
            Some(cluster) => cluster,
            None => match Cluster::connect(&self.settings).await {
                Ok(cluster) => cluster,
                Err(problem) => return Report::failed(0, problem),
            },
        };
        let events = decode(batch);
        let plan = self.planner.plan(&events, cluster.shape);
        let mut outcome = Outcome::new(batch.len());
        for item in plan.unreadable {
            let message = "an item is damaged".to_owned();
            outcome.refuse(item, Reason::Malformed, message, String::new());
        }
        for item in plan.crowded {
            let message = format!(
                "more values of a series than milliseconds, for a table without the column id: one \
                 would be moved by more than {MAX_SHIFT} ms"
            );
            outcome.refuse(item, Reason::Refused, message, String::new());
        }
        write_all(&cluster, &self.settings, plan.requests, &mut outcome).await;
        if !outcome.reconnect {
            self.cluster = Some(cluster);
        }
        outcome.report
    }
}

impl CqlSink {
    /// A sink with these settings. It connects with its first batch.
    pub fn new(settings: Settings) -> Self {
        CqlSink {
            settings,
            planner: Planner::default(),
            cluster: None,
        }
    }
}

/// The report in the making.
#[derive(Debug)]
struct Outcome {
    report: Report,
    /// Whether the next batch needs a new connection to the cluster.
    reconnect: bool,
}

impl Outcome {
    fn new(items: usize) -> Self {
        Outcome {
            report: Report {
                verdicts: vec![Verdict::Again; items],
                ..Report::default()
            },
            reconnect: false,
        }
    }

    fn set(&mut self, item: usize, verdict: Verdict) {
        if let Some(place) = self.report.verdicts.get_mut(item) {
            *place = verdict;
        }
    }

    fn refuse(&mut self, item: usize, reason: Reason, message: String, answer: String) {
        self.set(item, Verdict::Refused(reason));
        self.report.refusal.get_or_insert(Refusal {
            reason,
            message,
            answer,
            whole: false,
        });
    }

    fn fail(&mut self, message: String) {
        self.report.failure.get_or_insert(message);
    }
}

/// Sends requests, many at once, and notes the verdicts of their rows. After a failure it
/// begins no more of them.
async fn write_all(
    cluster: &Cluster,
    settings: &Settings,
    requests: Vec<Vec<Row<'_>>>,
    outcome: &mut Outcome,
) {
    let mut waiting = VecDeque::from(requests);
    let mut running = FuturesUnordered::new();
    // Whether the table is what it was, once a row was refused.
    let mut checked = false;
    loop {
        while outcome.report.failure.is_none() && running.len() < IN_FLIGHT {
            let Some(rows) = waiting.pop_front() else {
                break;
            };
            running.push(async move {
                let result = cluster.write(&rows).await;
                (rows, result)
            });
        }
        let Some((rows, result)) = running.next().await else {
            break;
        };
        match result {
            Ok(()) => {
                for row in rows {
                    outcome.set(row.item, Verdict::Taken);
                }
            }
            Err(Failure::Later { message, reconnect }) => {
                outcome.fail(message);
                outcome.reconnect |= reconnect;
            }
            Err(Failure::Refused { .. }) if outcome.report.failure.is_some() => {}
            Err(Failure::Refused { message, answer }) => {
                if !checked {
                    match cluster.check(settings).await {
                        Ok(true) => checked = true,
                        Ok(false) => {
                            outcome.fail(format!("the table {} has changed", settings.table));
                            outcome.reconnect = true;
                            continue;
                        }
                        Err(problem) => {
                            outcome.fail(problem);
                            outcome.reconnect = true;
                            continue;
                        }
                    }
                }
                match rows[..] {
                    [row] => outcome.refuse(row.item, Reason::Refused, message, answer),
                    // Only the row to blame is refused.
                    _ => waiting.extend(rows.into_iter().map(|row| vec![row])),
                }
            }
        }
    }
}
