//! The task of one target: polls, stores, and logs changes.

use std::future;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::config::target::{Limits, Target};
use super::error::ScrapeError;
use super::fetch::{Fetched, Fetcher};
use super::kept;
use crate::clock::Now;
use crate::context::{Context, PollRequests, Polls, TargetSettings};
use crate::exposition::{InputFormat, sample_lines};
use crate::ingest::reading::Remembered;
use crate::ingest::{Admission, Rejection};
use crate::net::{BlockingPool, BudgetShare, INLINE_BYTES};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{TargetInfo, TargetStats, Telemetry};

/// The time between the first polls of two new targets, if there are few.
const FIRST_POLL_AFTER: Duration = Duration::from_millis(5);

/// The time within which all new targets have their first poll. It is well within the time
/// that readiness waits for them.
const FIRST_POLLS_WITHIN: Duration = Duration::from_secs(5);

/// How a target is polled. New settings replace it.
#[derive(Debug)]
pub struct Work {
    /// Fetches its text.
    pub fetcher: Fetcher,
    /// The properties shown to people.
    pub info: Arc<TargetInfo>,
    admission: Arc<Admission>,
}

impl Work {
    /// `found_in` is the setting or list that names the target.
    pub fn new(fetcher: Fetcher, found_in: Arc<str>, context: &Context) -> Self {
        let target = &fetcher.target;
        let info = Arc::new(TargetInfo {
            url: Arc::from(target.url.to_string()),
            labels: target.labels.labels().clone(),
            found_in,
            interval: target.settings.interval.every(),
            timeout: target.settings.timeout,
        });
        Work {
            fetcher,
            info,
            admission: Arc::clone(&context.admission),
        }
    }

    /// Whether [`Work::new`] would give the same from these arguments.
    pub fn is(&self, fetcher: &Fetcher, found_in: &str, context: &Context) -> bool {
        let own = &self.fetcher;
        own.target == fetcher.target
            && Arc::ptr_eq(&own.client, &fetcher.client)
            && (own.keep, own.max_body) == (fetcher.keep, fetcher.max_body)
            && *self.info.found_in == *found_in
            && Arc::ptr_eq(&self.admission, &context.admission)
    }
}

/// When a new target is polled first.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// The time to the first poll.
    pub first: Duration,
    /// The time to the first poll on schedule. Schedules are spread over the interval. This
    /// is the first poll itself, or a later one.
    pub schedule: Duration,
}

impl Begin {
    /// The beginning for one of `count` targets that are new together.
    pub fn of(index: usize, count: usize, interval: Option<Duration>) -> Self {
        let part = index as f64 / count as f64;
        let schedule = interval.unwrap_or_default().mul_f64(part);
        let first = FIRST_POLLS_WITHIN.mul_f64(part);
        let first =
            first.min(FIRST_POLL_AFTER.saturating_mul(index.try_into().unwrap_or(u32::MAX)));
        Begin {
            first: first.min(schedule),
            schedule,
        }
    }
}

/// A target with its section and statistics.
#[derive(Debug)]
pub struct PolledTarget {
    /// The work of the current poll.
    work: Arc<Work>,
    /// Notified when the settings of the target change, and closed when it is removed.
    changes: watch::Receiver<Arc<Work>>,
    stats: Arc<TargetStats>,
    telemetry: Arc<Telemetry>,
    store: Arc<Store>,
    pool: BlockingPool,
    id: SectionId,
    source: Arc<str>,
    polls: Polls,
    /// Requests for a poll outside of the schedule.
    requests: Arc<PollRequests>,
    /// The result of the last poll, since only changes are logged.
    last: Option<Result<(), Reason>>,
    /// The lines of the last text, if it was parsed.
    remembered: Remembered,
    /// The share of the limit on kept memory that this target uses.
    kept: BudgetShare,
    /// Cancelled when the program stops.
    stop: CancellationToken,
}

/// Why a wait, for a poll or a response, ended.
enum Interruption {
    Stopped,
    Changed,
    Removed,
}

impl PolledTarget {
    pub fn new(changes: watch::Receiver<Arc<Work>>, pool: BlockingPool, context: &Context) -> Self {
        let work = Arc::clone(&changes.borrow());
        let target = &work.fetcher.target;
        PolledTarget {
            stats: context
                .telemetry
                .targets
                .add(&target.name, Arc::clone(&work.info)),
            telemetry: Arc::clone(&context.telemetry),
            store: Arc::clone(&context.store),
            pool,
            id: SectionId::new(&target.name, Producer::Target),
            source: source(target),
            polls: context.polls.clone(),
            requests: context.polls.add(&target.name, settings(&work)),
            work,
            changes,
            last: None,
            remembered: Remembered::default(),
            kept: kept::share(),
            stop: context.stop.clone(),
        }
    }

    /// The statistics of the target.
    pub fn stats(&self) -> &Arc<TargetStats> {
        &self.stats
    }

    /// Lists the target in the store before its first response.
    pub fn list(&self) {
        let expect = Change::Expect {
            id: self.id.clone(),
            origin: self.origin(Peer::Unknown),
            url: Arc::clone(&self.work.info.url),
        };
        // The store never rejects a change without a text.
        let _ = self.store.apply(Write::one(expect), Now::read());
    }

    /// Polls the target until the program stops or the target is removed, beginning as
    /// `begin` says. First waits for the end of the task `before`, which had the same name.
    pub async fn run(mut self, before: Option<JoinHandle<()>>, begin: Begin) {
        if let Some(before) = before {
            // That task may have withdrawn the listed target.
            let _ = before.await;
            self.list();
        }
        let mut ticks = self.ticks(begin.first);
        let mut schedule =
            (begin.first < begin.schedule).then(|| slot(Instant::now() + begin.schedule));
        let removed = loop {
            let interruption = tokio::select! {
                biased;
                it = interruption(&self.stop, &mut self.changes) => it,
                (request, _permit) = self.requests.next() => match Box::pin(self.poll()).await {
                    // Dropping the request tells those who wait for it.
                    Some(interruption) => interruption,
                    None => {
                        // Nobody may be waiting any longer.
                        let _ = request.send(self.last);
                        continue;
                    }
                },
                () = next(&mut ticks) => {
                    if let (Some(ticks), Some(schedule)) = (&mut ticks, schedule.take()) {
                        ticks.reset_at(schedule);
                    }
                    match Box::pin(self.poll()).await {
                        Some(interruption) => interruption,
                        None => continue,
                    }
                },
            };
            match interruption {
                Interruption::Stopped => break false,
                Interruption::Removed => break true,
                Interruption::Changed => {
                    self.work = Arc::clone(&self.changes.borrow_and_update());
                    self.source = source(self.target());
                    self.polls.set_settings(&self.id.name, settings(&self.work));
                    self.list();
                    ticks = self.ticks(Duration::ZERO);
                    schedule = None;
                }
            }
        };
        drop(self.requests);
        self.polls.remove_ended(&self.id.name);
        if removed {
            let remove = Change::Remove {
                id: self.id.clone(),
                unless_since: None,
            };
            // The store never rejects a removal.
            let _ = self.store.apply(Write::one(remove), Now::read());
            self.telemetry.targets.remove(&self.stats);
        }
    }

    /// The times to poll, `first` from now; `None` if only scrapes cause polls.
    fn ticks(&self, first: Duration) -> Option<Interval> {
        let interval = self.target().settings.interval.every()?;
        let mut ticks = interval_at(slot(Instant::now() + first), interval);
        // After a poll longer than the interval, polls return to the schedule.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Some(ticks)
    }

    fn target(&self) -> &Target {
        &self.work.fetcher.target
    }

    /// Polls once. An interruption ends the wait for a response, but a response that has
    /// arrived is stored.
    async fn poll(&mut self) -> Option<Interruption> {
        // Apply new settings that do not affect the schedule.
        self.work = Arc::clone(&self.changes.borrow());
        let started = Instant::now();
        let limit = self.target().settings.timeout;
        let work = Arc::clone(&self.work);
        let fetched = tokio::select! {
            biased;
            it = interruption(&self.stop, &mut self.changes) => return Some(it),
            fetched = timeout(limit, work.fetcher.fetch()) => fetched,
        };
        let fetched = fetched.unwrap_or_else(|_| Err(ScrapeError::timed_out(limit)));
        let now = Now::read();
        let stored = match fetched {
            Ok(fetched) => self.store(fetched, now).await,
            Err(error) => Err(error),
        };
        let result = stored.as_ref().map_err(|error| error.reason).copied();
        if let Err(error) = &stored {
            let fail = Change::Fail {
                id: self.id.clone(),
                origin: self.origin(Peer::Unknown),
                problem: error.to_string(),
                keep: Some(self.target().settings.stale_after),
            };
            // The store never rejects a failure.
            let _ = self.store.apply(Write::one(fail), now);
        }
        self.stats.record(result, started.elapsed(), now);
        self.log(&stored);
        self.last = Some(result);
        None
    }

    /// Admits and stores a text. A large text that needs parsing is parsed off the serving threads.
    async fn store(&mut self, fetched: Fetched, now: Now) -> Result<(), ScrapeError> {
        let Fetched {
            text,
            format,
            peer,
            modified,
            share: _share,
            memory,
        } = fetched;
        let admission = &self.work.admission;
        let (target, limits) = (self.target(), self.target().settings.limits);
        let is_parsed = admission.parses_texts()
            || format == Some(InputFormat::OpenMetrics)
            || modified.is_some()
            || !target.labels.is_empty()
            || limits != Limits::default();
        let is_large = text.len() > INLINE_BYTES;
        let (admission, store) = (Arc::clone(admission), Arc::clone(&self.store));
        let target = Arc::clone(&self.work.fetcher.target);
        let (id, origin) = (self.id.clone(), self.origin(peer));
        let mut remembered = mem::take(&mut self.remembered);
        let store_text = move |remembered: &mut Remembered| {
            let samples = sample_lines(text.bytes());
            if modified.is_some() {
                admission.check_file(&id, &text)?;
            }
            let content =
                admission.admit_with(&target.labels, &id, text, format, Some(remembered))?;
            limits.of_text().check(&content).map_err(|problem| {
                Rejection::new(Reason::TooManySamples, &format!("{id}: {problem}"))
            })?;
            let replace = Change::Replace {
                content,
                id,
                origin,
                lifetime: None,
            };
            store.apply(Write::one(replace), now)?;
            memory.into_iter().for_each(kept::keep);
            Ok(samples)
        };
        let store = move || {
            let stored = store_text(&mut remembered);
            (stored, remembered)
        };
        let (stored, remembered): (Result<usize, Rejection>, _) = if is_parsed && is_large {
            self.pool.run(store).await.map_err(|error| {
                let message = format!("the response cannot be processed: {error}");
                ScrapeError::new(Reason::Closed, &message)
            })?
        } else {
            store()
        };
        self.remembered = remembered;
        let memory = self.remembered.text.kept_memory();
        self.kept.shrink_to(memory);
        if !self.kept.grow(memory - self.kept.bytes()) {
            self.remembered.text.free_memory();
            self.kept.shrink_to(0);
        }
        self.stats.record_samples(stored?, modified);
        Ok(())
    }

    fn origin(&self, peer: Peer) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer,
            user: None,
        }
    }

    /// Logs one line when the target begins to fail, fails for another reason, or recovers.
    /// Many targets can do so at once, so these lines are rate-limited. Other polls are
    /// logged at `debug`.
    fn log(&self, stored: &Result<(), ScrapeError>) {
        let target = self.target();
        let name = &target.name;
        let about = About::NOTHING.named("target", name);
        match stored {
            Err(error) if self.last == Some(Err(error.reason)) => {
                log::debug!("target {name}: {error}");
            }
            Err(error) => {
                // Quotes of what a target sent appear only at `debug`.
                let public = match error.quotes {
                    true => sender_log::without_excerpts(error.reason, &error.message),
                    false => error.message.as_str().into(),
                };
                let (url, reason) = (&target.url, error.reason);
                let event = LogEvent::TargetFailure;
                let about = about.reason(reason);
                let line = format_args!("target {name} ({url}): {reason}: {public}");
                if sender_log::write(event, about, line) && *public != *error.message {
                    sender_log::write_details(event, about, format_args!("target {name}: {error}"));
                }
            }
            Ok(()) if matches!(self.last, Some(Err(_))) => {
                let line = format_args!("target {name} answers again");
                sender_log::write(LogEvent::TargetRecovery, about, line);
            }
            Ok(()) => log::debug!("target {name} answered"),
        }
    }
}

/// Polls begin at multiples of this time, so that many targets share one wake-up of their thread.
const SLOT: Duration = Duration::from_millis(50);

/// The first slot at or after `at`.
fn slot(at: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let nanos = at.saturating_duration_since(first).as_nanos();
    let over = nanos.next_multiple_of(SLOT.as_nanos()) - nanos;
    at + Duration::from_nanos(over as u64)
}

/// Waits for the next time to poll; forever without a schedule.
async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => future::pending().await,
    }
}

/// Waits until the program stops, or the target changes or is removed.
async fn interruption(
    stop: &CancellationToken,
    changes: &mut watch::Receiver<Arc<Work>>,
) -> Interruption {
    tokio::select! {
        biased;
        () = stop.cancelled() => Interruption::Stopped,
        changed = changes.changed() => match changed {
            Ok(()) => Interruption::Changed,
            Err(_) => Interruption::Removed,
        },
    }
}

fn settings(work: &Work) -> Arc<dyn TargetSettings> {
    Arc::<Target>::clone(&work.fetcher.target)
}

/// The source that is recorded with the texts of a target.
fn source(target: &Target) -> Arc<str> {
    Arc::from(format!("external_poll: {}", target.url.authority()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_polls_come_soon_and_schedules_are_spread() {
        let milliseconds = Duration::from_millis;
        let of = |index, count, interval| {
            let begin = Begin::of(index, count, Some(milliseconds(interval)));
            (begin.first.as_millis(), begin.schedule.as_millis())
        };
        // With few targets.
        assert_eq!(of(0, 3, 60_000), (0, 0));
        assert_eq!(of(2, 3, 60_000), (10, 40_000));
        // With many targets, the last one begins within five seconds.
        assert_eq!(of(9_999, 10_000, 60_000), (4_999, 59_994));
        // With a short interval.
        assert_eq!(of(5_000, 10_000, 1000), (500, 500));
        assert_eq!(Begin::of(7, 10, None).schedule, Duration::ZERO);
    }

    #[test]
    fn polls_begin_together() {
        let one = slot(Instant::now() + SLOT);
        assert_eq!(slot(one), one);
        for early in [SLOT / 3, SLOT - Duration::from_nanos(1)] {
            assert_eq!(slot(one - early), one, "{early:?}");
        }
        assert_eq!(slot(one - SLOT), one - SLOT);
        assert_eq!(slot(one + Duration::from_nanos(1)), one + SLOT);
    }
}
