//! The sink: turns batches into requests, and their results into verdicts.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::config::Settings;
use super::failure::Failure;
use super::rows::{Planner, Request};
use super::session::Cluster;
use super::slots::MAX_SHIFT;
use crate::event::StoredEvent;
use crate::outputs::sinks::stored::{STORED_EVENT, StoredForm};
use crate::outputs::sinks::{Refusal, Report, Sink, Verdict};
use crate::reason::Reason;
use crate::telemetry::sender_log::LogEvent;

/// Concurrent requests, of both batches that can overlap. A node needs some dozens to be busy.
const IN_FLIGHT: usize = 256;

/// Writes rows.
#[derive(Debug)]
pub struct CqlSink {
    settings: Arc<Settings>,
    planner: Planner,
    /// The cluster, once connected.
    cluster: Option<Arc<Cluster>>,
    /// Permits for requests.
    room: Arc<Semaphore>,
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
        let cluster = match self.cluster.take().filter(|cluster| !cluster.is_broken()) {
            Some(cluster) => cluster,
            None => match Cluster::connect(&self.settings).await {
                Ok(cluster) => Arc::new(cluster),
                Err(problem) => return Report::failed(0, problem),
            },
        };
        self.cluster = Some(Arc::clone(&cluster));
        let plan = self.planner.plan(batch, cluster.shape);
        let mut writing = Writing {
            cluster,
            settings: Arc::clone(&self.settings),
            room: Arc::clone(&self.room),
            waiting: plan.requests.into(),
            running: FuturesUnordered::new(),
            is_checked: false,
            report: Report {
                verdicts: vec![Verdict::Again; batch.len()],
                ..Report::default()
            },
        };
        for item in plan.unreadable {
            let message = "an item is damaged".to_owned();
            writing.refuse(item, Reason::Malformed, message, String::new());
        }
        for item in plan.crowded {
            let message = format!(
                "no free millisecond within {MAX_SHIFT} ms for another value of the series: the \
                 primary key of the table needs the column id"
            );
            writing.refuse(item, Reason::Refused, message, String::new());
        }
        writing.begin().await;
        match writing.report.failure.is_some() || writing.running.is_empty() {
            true => writing.finish().await,
            false => Report::under_way(writing.finish()),
        }
    }
}

impl CqlSink {
    /// A sink with these settings. It connects with its first batch.
    pub fn new(settings: Settings) -> Self {
        CqlSink {
            settings: Arc::new(settings),
            planner: Planner::default(),
            cluster: None,
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }
}

/// A batch whose requests are being sent, many at once.
struct Writing {
    cluster: Arc<Cluster>,
    settings: Arc<Settings>,
    room: Arc<Semaphore>,
    waiting: VecDeque<Request>,
    running: FuturesUnordered<BoxFuture<'static, (Request, Result<(), Failure>)>>,
    /// Whether the table was found unchanged after a row was refused.
    is_checked: bool,
    report: Report,
}

impl Writing {
    /// Starts all waiting requests as permits allow, and records those that end meanwhile. After
    /// a failure it starts no more of them.
    async fn begin(&mut self) {
        while self.report.failure.is_none() && !self.waiting.is_empty() {
            tokio::select! {
                biased;
                Some((request, result)) = self.running.next() => self.note(request, result).await,
                room = Arc::clone(&self.room).acquire_owned() => {
                    let Some(request) = self.waiting.pop_front() else {
                        break;
                    };
                    let cluster = Arc::clone(&self.cluster);
                    self.running.push(Box::pin(async move {
                        let result = cluster.write(&request).await;
                        drop(room);
                        (request, result)
                    }));
                }
            }
        }
    }

    /// Waits for all requests, and returns the report of the batch.
    async fn finish(mut self) -> Report {
        loop {
            self.begin().await;
            let Some((request, result)) = self.running.next().await else {
                return self.report;
            };
            self.note(request, result).await;
        }
    }

    /// Records the result of a request.
    async fn note(&mut self, request: Request, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                for item in request.items() {
                    self.set(item, Verdict::Taken);
                }
            }
            Err(Failure::Later { message, reconnect }) => self.fail(message, reconnect),
            Err(Failure::Refused { .. }) if self.report.failure.is_some() => {}
            Err(Failure::Refused { message, answer }) => {
                if !self.is_checked {
                    match self.cluster.check(&self.settings).await {
                        Ok(true) => self.is_checked = true,
                        Ok(false) => {
                            let table = &self.settings.table;
                            return self.fail(format!("the table {table} has changed"), true);
                        }
                        Err(problem) => return self.fail(problem, true),
                    }
                }
                match request.items().len() {
                    1 => {
                        for item in request.items() {
                            self.refuse(item, Reason::Refused, message.clone(), answer.clone());
                        }
                    }
                    // Each row is sent alone, so that only bad ones are refused.
                    _ => self.waiting.extend(request.split()),
                }
            }
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

    fn fail(&mut self, message: String, reconnect: bool) {
        self.report.failure.get_or_insert(message);
        if reconnect {
            self.cluster.note_broken();
        }
    }
}
