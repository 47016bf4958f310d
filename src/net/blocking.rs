//! Runs long work off the threads that serve connections.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Messages of sockets and responses of targets up to this size, in bytes, are parsed on
/// the serving thread. Longer ones go to a [`BlockingPool`]: parsing 15 MB takes a second,
/// and the thread's other connections would wait.
pub const INLINE_BYTES: usize = 64 << 10;

/// A share of the runtime's blocking threads, for one kind of long work. Clones
/// use the same share.
#[derive(Debug, Clone)]
pub struct BlockingPool(Arc<Semaphore>);

impl BlockingPool {
    /// A pool with at most `threads` concurrent jobs. Further jobs wait in order of arrival.
    pub fn new(threads: usize) -> Self {
        BlockingPool(Arc::new(Semaphore::new(threads)))
    }

    /// Runs `work` on a blocking thread as soon as the pool has one free. The thread counts
    /// as busy until the work ends, even if the caller stops waiting for it.
    ///
    /// # Errors
    ///
    /// The work panicked, or the runtime is shutting down.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let work = move || {
            let _permit = permit;
            work()
        };
        spawn_blocking(work).await
    }

    /// The number of free threads.
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
    async fn work_runs_on_another_thread() {
        let pool = BlockingPool::new(1);
        let here = std::thread::current().id();
        let there = pool.run(|| std::thread::current().id()).await;
        assert_ne!(there.unwrap(), here);
    }

    #[tokio::test]
    async fn abandoned_work_keeps_its_thread() {
        let pool = BlockingPool::new(1);
        let (started, starts) = tokio::sync::oneshot::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let pool = pool.clone();
            async move {
                let work = move || {
                    started.send(()).unwrap();
                    may_go.recv().unwrap();
                };
                pool.run(work).await
            }
        });
        starts.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(pool.free(), 0);
        go.send(()).unwrap();
        assert_eq!(pool.run(|| 5).await.unwrap(), 5);
        assert_eq!(pool.free(), 1);
    }
}
