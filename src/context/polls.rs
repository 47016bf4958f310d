//! Polled targets as other parts of the program see them: their settings, and polls on request.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::reason::Reason;
use crate::telemetry::UsageGauge;

/// Maximum number of polls on request at the same time. Further requests wait.
pub const MAX_REQUESTED_POLLS: usize = 100;

/// How a poll ended.
pub type PollResult = Result<(), Reason>;

/// A request for a poll: takes the result, and is dropped if there is none. Requests share a poll
/// that waits or runs. It has no deadline of its own: the time limit of the target applies, so that
/// a reader with little time does not make the poll fail for others.
pub type PollRequest = watch::Sender<Option<PollResult>>;

/// A permit for a poll on request. Dropping it lets another one begin.
#[derive(Debug)]
pub struct PollPermit {
    _permit: OwnedSemaphorePermit,
    running: Arc<UsageGauge>,
}

impl Drop for PollPermit {
    fn drop(&mut self) {
        self.running.subtract(1);
    }
}

/// The requests for polls of one target, of which at most one waits. This takes a kilobyte less
/// than a channel, for each target.
#[derive(Debug)]
pub struct PollRequests {
    waiting: Mutex<Option<PollRequest>>,
    arrived: Notify,
    all: RequestedPolls,
}

/// The polls on request of all targets.
#[derive(Debug, Clone)]
struct RequestedPolls {
    permits: Arc<Semaphore>,
    /// The number of polls in progress.
    running: Arc<UsageGauge>,
}

impl PollRequests {
    /// Waits for a request, and for a permit for its poll. If this future is dropped, the request
    /// keeps waiting.
    pub async fn next(&self) -> (PollRequest, Option<PollPermit>) {
        loop {
            while self.lock().is_none() {
                self.arrived.notified().await;
            }
            let permit = Box::pin(Arc::clone(&self.all.permits).acquire_owned()).await;
            if let Some(request) = self.take() {
                // The semaphore is never closed.
                let permit = permit.ok().map(|permit| self.all.begin(permit));
                return (request, permit);
            }
        }
    }

    fn take(&self) -> Option<PollRequest> {
        self.lock().take()
    }

    fn put(&self, request: PollRequest) {
        *self.lock() = Some(request);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<PollRequest>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings of a target.
pub trait TargetSettings: fmt::Debug + Send + Sync {
    /// The settings by name, without secrets.
    fn describe(&self) -> Value;

    /// Whether the target is polled by each scrape, and by nothing else.
    fn is_polled_by_scrapes(&self) -> bool;
}

/// The targets that are polled now.
#[derive(Debug, Clone)]
pub struct Polls {
    entries: Arc<Mutex<Entries>>,
    requested: RequestedPolls,
}

impl RequestedPolls {
    fn begin(&self, permit: OwnedSemaphorePermit) -> PollPermit {
        self.running.add(1);
        PollPermit {
            _permit: permit,
            running: Arc::clone(&self.running),
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    by_name: HashMap<Arc<str>, PolledEntry>,
    /// The names of the targets that scrapes poll.
    of_scrapes: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct PolledEntry {
    /// Owned by the task of the target.
    requests: Weak<PollRequests>,
    settings: Arc<dyn TargetSettings>,
    /// The outcome of the last request.
    outcome: Option<watch::Receiver<Option<PollResult>>>,
}

/// Why a target was not polled on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPolled {
    /// No target has the name.
    #[error("no such target is polled")]
    Unknown,
    /// The target changed or was removed meanwhile, or the program stops.
    #[error("the target is no longer polled in this way")]
    Interrupted,
    /// The poll has not ended in time.
    #[error("the poll takes too long")]
    Late,
    /// The poll failed.
    #[error("the poll failed: {}", .0.describe())]
    Failed(Reason),
}

impl Polls {
    /// No targets. `running` shows the number of polls on request in progress.
    pub fn new(running: &Arc<UsageGauge>) -> Self {
        Polls {
            entries: Arc::default(),
            requested: RequestedPolls {
                permits: Arc::new(Semaphore::new(MAX_REQUESTED_POLLS)),
                running: Arc::clone(running),
            },
        }
    }

    /// Adds a target, or replaces one of the same name. Its task receives the requests, and calls
    /// [`Polls::remove_ended`] after dropping them.
    pub fn add(&self, name: &str, settings: Arc<dyn TargetSettings>) -> Arc<PollRequests> {
        let requests = Arc::new(PollRequests {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            all: self.requested.clone(),
        });
        let entry = PolledEntry {
            requests: Arc::downgrade(&requests),
            settings,
            outcome: None,
        };
        self.lock().insert(Arc::from(name), entry);
        requests
    }

    /// Replaces the settings of a target.
    pub fn set_settings(&self, name: &str, settings: Arc<dyn TargetSettings>) {
        let mut entries = self.lock();
        if let Some((name, mut entry)) = entries.by_name.remove_entry(name) {
            entry.settings = settings;
            entries.insert(name, entry);
        }
    }

    /// Removes a target whose task has ended, unless another target has its name now.
    pub fn remove_ended(&self, name: &str) {
        let mut entries = self.lock();
        let entry = entries.by_name.get(name);
        if entry.is_some_and(|it| it.requests.strong_count() == 0) {
            entries.by_name.remove(name);
            entries.of_scrapes.remove(name);
        }
    }

    /// The settings of a target, without secrets; `None` if none has the name.
    pub fn settings(&self, name: &str) -> Option<Value> {
        let settings = Arc::clone(&self.lock().by_name.get(name)?.settings);
        Some(settings.describe())
    }

    /// Whether the target of this name is polled by scrapes.
    pub fn is_polled_by_scrapes(&self, name: &str) -> bool {
        self.lock().of_scrapes.contains(name)
    }

    /// Polls a target now, and waits for the result until the deadline or, without one, for the
    /// time limit of its polls. A requested poll that is in progress is shared. The schedule of the
    /// target does not change.
    ///
    /// # Errors
    ///
    /// The target was not polled, or the poll failed.
    pub async fn poll(&self, name: &str, deadline: Option<Instant>) -> PollOutcome {
        let outcome = self.lock().request(name)?;
        wait(outcome, deadline).await
    }

    /// Polls the targets that scrapes poll, or those of them in `names`, and waits for them until
    /// the deadline. A failure concerns its own target alone: the store has what each target shows
    /// then.
    pub async fn poll_for_scrape(&self, names: Option<&[&str]>, deadline: Instant) {
        let requested: Vec<_> = {
            let mut entries = self.lock();
            if entries.of_scrapes.is_empty() {
                return;
            }
            let wanted: Vec<Arc<str>> = match names {
                None => entries.of_scrapes.iter().cloned().collect(),
                Some(names) => {
                    let known = names
                        .iter()
                        .filter_map(|name| entries.of_scrapes.get(*name));
                    known.cloned().collect()
                }
            };
            let wanted = wanted.iter();
            wanted
                .filter_map(|name| entries.request(name).ok())
                .collect()
        };
        for outcome in requested {
            let _ = wait(outcome, Some(deadline)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of a requested poll.
pub type PollOutcome = Result<(), NotPolled>;

async fn wait(
    mut outcome: watch::Receiver<Option<PollResult>>,
    deadline: Option<Instant>,
) -> PollOutcome {
    let ended = outcome.wait_for(Option::is_some);
    let ended = match deadline {
        Some(deadline) => timeout_at(deadline, ended).await,
        None => Ok(ended.await),
    };
    match ended.map_err(|_| NotPolled::Late)?.as_deref() {
        Ok(Some(result)) => result.map_err(NotPolled::Failed),
        _ => Err(NotPolled::Interrupted),
    }
}

impl Entries {
    fn insert(&mut self, name: Arc<str>, entry: PolledEntry) {
        match entry.settings.is_polled_by_scrapes() {
            true => self.of_scrapes.insert(Arc::clone(&name)),
            false => self.of_scrapes.remove(&name),
        };
        self.by_name.insert(name, entry);
    }

    /// Requests a poll, unless one is requested already. Returns its outcome to come.
    fn request(&mut self, name: &str) -> Result<watch::Receiver<Option<PollResult>>, NotPolled> {
        let entry = self.by_name.get_mut(name).ok_or(NotPolled::Unknown)?;
        if let Some(outcome) = &entry.outcome
            && outcome.borrow().is_none()
            // The sender exists until the poll has ended.
            && outcome.has_changed().is_ok()
        {
            return Ok(outcome.clone());
        }
        let requests = entry.requests.upgrade().ok_or(NotPolled::Unknown)?;
        let (outcome, receiver) = watch::channel(None);
        requests.put(outcome);
        entry.outcome = Some(receiver.clone());
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str, bool);

    impl TargetSettings for Named {
        fn describe(&self) -> Value {
            json!({ "url": self.0 })
        }

        fn is_polled_by_scrapes(&self) -> bool {
            self.1
        }
    }

    fn add(polls: &Polls, name: &str, by_scrapes: bool) -> Arc<PollRequests> {
        polls.add(name, Arc::new(Named("one", by_scrapes)))
    }

    #[tokio::test]
    async fn the_task_of_a_target_answers_requests_for_polls() {
        let polls = Polls::new(&Arc::default());
        assert_eq!(polls.poll("a", None).await, Err(NotPolled::Unknown));
        let requests = add(&polls, "a", false);
        let task = tokio::spawn(async move {
            for result in [Ok(()), Err(Reason::Timeout)] {
                let (request, _) = requests.next().await;
                request.send(Some(result)).unwrap();
            }
            drop(requests.next().await);
        });
        assert_eq!(polls.poll("a", None).await, Ok(()));
        let failed = NotPolled::Failed(Reason::Timeout);
        assert_eq!(polls.poll("a", None).await, Err(failed));
        assert_eq!(polls.poll("a", None).await, Err(NotPolled::Interrupted));
        task.await.unwrap();
        assert_eq!(polls.poll("a", None).await, Err(NotPolled::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_a_poll() {
        let running = Arc::new(UsageGauge::default());
        let polls = Polls::new(&running);
        let requests = add(&polls, "a", true);
        let _quiet = add(&polls, "b", false);
        let far = Instant::now() + Duration::from_secs(60);
        let ask = || {
            let polls = polls.clone();
            tokio::spawn(async move { polls.poll("a", Some(far)).await })
        };
        let scrape = {
            let polls = polls.clone();
            tokio::spawn(async move { polls.poll_for_scrape(None, far).await })
        };
        let (first, permit) = requests.next().await;
        assert_eq!(running.value(), 1);
        // Other requests come while the poll runs. One of them has less time.
        let others = [ask(), ask()];
        let near = Instant::now() + Duration::from_secs(1);
        assert_eq!(polls.poll("a", Some(near)).await, Err(NotPolled::Late));
        assert!(requests.take().is_none());
        first.send(Some(Ok(()))).unwrap();
        drop(permit);
        assert_eq!(running.value(), 0);
        scrape.await.unwrap();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(()));
        }
        // A later request polls again.
        let other = ask();
        let (second, _) = requests.next().await;
        second.send(Some(Err(Reason::Connect))).unwrap();
        let failed = NotPolled::Failed(Reason::Connect);
        assert_eq!(other.await.unwrap(), Err(failed));
        // Only targets that scrapes poll, and of these only the named ones.
        polls.poll_for_scrape(Some(&["b", "c"]), far).await;
        assert!(requests.take().is_none());
    }

    #[tokio::test]
    async fn a_target_that_came_back_stays() {
        let polls = Polls::new(&Arc::default());
        let first = add(&polls, "a", true);
        assert!(polls.is_polled_by_scrapes("a"));
        let second = add(&polls, "a", false);
        assert!(!polls.is_polled_by_scrapes("a"));
        drop(first);
        polls.remove_ended("a");
        polls.set_settings("a", Arc::new(Named("three", true)));
        assert_eq!(polls.settings("a"), Some(json!({ "url": "three" })));
        assert!(polls.is_polled_by_scrapes("a"));
        drop(second);
        polls.remove_ended("a");
        assert_eq!(polls.settings("a"), None);
        assert!(!polls.is_polled_by_scrapes("a"));
    }
}
