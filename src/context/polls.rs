//! Polled targets for those who are no part of the poller: their settings, and polls out
//! of turn.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::reason::Reason;

/// The limit on requests for a poll of one target that wait.
const MAX_REQUESTS: usize = 4;

/// Someone who waits for a poll, and learns whether it succeeded.
pub type PollRequest = oneshot::Sender<Result<(), Reason>>;

/// The settings of a target.
pub trait TargetSettings: fmt::Debug + Send + Sync {
    /// The settings by name, without secrets.
    fn describe(&self) -> Value;
}

/// The targets that are polled now.
#[derive(Debug, Clone, Default)]
pub struct Polls(Arc<Mutex<HashMap<Arc<str>, PolledEntry>>>);

#[derive(Debug)]
struct PolledEntry {
    requests: mpsc::Sender<PollRequest>,
    settings: Arc<dyn TargetSettings>,
}

/// Why a target was not polled on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPolled {
    /// No target has the name.
    #[error("no such target is polled")]
    Unknown,
    /// Enough requests wait.
    #[error("polls of this target have been requested already, and wait for the one before")]
    Busy,
    /// The target changed or was removed meanwhile, or the program stops.
    #[error("the target is no longer polled in this way")]
    Interrupted,
    /// The poll failed.
    #[error("the poll failed: {}", .0.describe())]
    Failed(Reason),
}

impl Polls {
    /// Adds a target, in place of one of the same name. Its task receives the requests, and
    /// calls [`Polls::remove_ended`] after it has dropped their receiver.
    pub fn add(
        &self,
        name: &str,
        settings: Arc<dyn TargetSettings>,
    ) -> mpsc::Receiver<PollRequest> {
        let (requests, receiver) = mpsc::channel(MAX_REQUESTS);
        let entry = PolledEntry { requests, settings };
        self.lock().insert(Arc::from(name), entry);
        receiver
    }

    /// Replaces the settings of a target.
    pub fn set_settings(&self, name: &str, settings: Arc<dyn TargetSettings>) {
        if let Some(entry) = self.lock().get_mut(name) {
            entry.settings = settings;
        }
    }

    /// Removes a target whose task has ended, unless another one has its name now.
    pub fn remove_ended(&self, name: &str) {
        let mut entries = self.lock();
        if entries.get(name).is_some_and(|it| it.requests.is_closed()) {
            entries.remove(name);
        }
    }

    /// The settings of a target, without secrets; `None` if none has the name.
    pub fn settings(&self, name: &str) -> Option<Value> {
        let settings = Arc::clone(&self.lock().get(name)?.settings);
        Some(settings.describe())
    }

    /// Polls a target out of turn, and waits for the result: the time limit is that of its
    /// polls. Its schedule stays as it is.
    ///
    /// # Errors
    ///
    /// It was not polled, or the poll failed.
    pub async fn poll(&self, name: &str) -> Result<(), NotPolled> {
        let requests = self.lock().get(name).map(|it| it.requests.clone());
        let requests = requests.ok_or(NotPolled::Unknown)?;
        let (request, outcome) = oneshot::channel();
        requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotPolled::Busy,
            mpsc::error::TrySendError::Closed(_) => NotPolled::Unknown,
        })?;
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(NotPolled::Failed(reason)),
            Err(_) => Err(NotPolled::Interrupted),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, PolledEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl TargetSettings for Named {
        fn describe(&self) -> Value {
            json!({ "url": self.0 })
        }
    }

    #[tokio::test]
    async fn a_poll_is_requested_of_the_task_and_waited_for() {
        let polls = Polls::default();
        assert_eq!(polls.poll("a").await, Err(NotPolled::Unknown));
        let mut requests = polls.add("a", Arc::new(Named("one")));
        let task = tokio::spawn(async move {
            for outcome in [Ok(()), Err(Reason::Timeout)] {
                let request = requests.recv().await.unwrap();
                request.send(outcome).unwrap();
            }
            drop(requests.recv().await);
        });
        assert_eq!(polls.poll("a").await, Ok(()));
        let failed = NotPolled::Failed(Reason::Timeout);
        assert_eq!(polls.poll("a").await, Err(failed));
        assert_eq!(polls.poll("a").await, Err(NotPolled::Interrupted));
        task.await.unwrap();
        assert_eq!(polls.poll("a").await, Err(NotPolled::Unknown));
    }

    #[tokio::test]
    async fn requests_are_limited_and_a_target_that_came_back_stays() {
        let polls = Polls::default();
        let first = polls.add("a", Arc::new(Named("one")));
        for _ in 0..MAX_REQUESTS {
            let polls = polls.clone();
            tokio::spawn(async move { polls.poll("a").await });
        }
        tokio::task::yield_now().await;
        assert_eq!(polls.poll("a").await, Err(NotPolled::Busy));
        let _second = polls.add("a", Arc::new(Named("two")));
        drop(first);
        polls.remove_ended("a");
        assert_eq!(polls.settings("a"), Some(json!({ "url": "two" })));
        polls.set_settings("a", Arc::new(Named("three")));
        assert_eq!(polls.settings("a"), Some(json!({ "url": "three" })));
        drop(_second);
        polls.remove_ended("a");
        assert_eq!(polls.settings("a"), None);
    }
}
