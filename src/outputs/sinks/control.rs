//! Changes of a sink while it runs.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::live::Live;

/// The requests of a sink's owner to its task.
pub(super) struct Control<S> {
    /// The sink that replaces the current one.
    next: Mutex<Option<S>>,
    changed: Notify,
    /// Time for sending what waits, once the sink is to stop.
    pub(super) drain: Live<Duration>,
}

impl<S> Control<S> {
    pub(super) fn new(drain: Duration) -> Self {
        Control {
            next: Mutex::default(),
            changed: Notify::new(),
            drain: Live::new(drain),
        }
    }

    /// Replaces the current sink, after the request in progress.
    pub(super) fn replace(&self, sink: S) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
        self.changed.notify_one();
    }

    /// Takes the next sink.
    pub(super) fn take(&self) -> Option<S> {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits for the next sink. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl<S> fmt::Debug for Control<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
