//! Work that takes long, done away from the threads that serve.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Places for one kind of long work. Clones share them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    pub fn new(places: usize) -> Self {
        Turns(Arc::new(Semaphore::new(places)))
    }

    /// Runs `work` on a thread of its own as soon as a place is free. The place
    /// is taken until the work ends, even where its caller is gone by then: the
    /// thread is busy all the same.
    pub async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let work = move || {
            let _turn = turn;
            work()
        };
        spawn_blocking(work).await
    }

    /// Places that are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.0.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        let turns = Turns::new(1);
        let here = std::thread::current().id();
        let there = turns.away(|| std::thread::current().id()).await;
        assert_ne!(there.unwrap(), here);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_keeps_its_place() {
        let turns = Turns::new(1);
        let (started, starts) = tokio::sync::oneshot::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let asked = tokio::spawn({
            let turns = turns.clone();
            async move {
                let work = move || {
                    started.send(()).unwrap();
                    may_go.recv().unwrap();
                };
                turns.away(work).await
            }
        });
        starts.await.unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_eq!(turns.free(), 0);
        go.send(()).unwrap();
        assert_eq!(turns.away(|| 5).await.unwrap(), 5);
        assert_eq!(turns.free(), 1);
    }
}
