//! Work that takes long, done away from the threads that serve.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, spawn_blocking};

/// A place among those that work at once. It is given back when it is dropped.
pub type Turn = SemaphorePermit<'static>;

/// Does `work` on a thread of its own once there is a place in `turns`. It
/// keeps the place until it ends, even where nobody waits for it any more: a
/// client that leaves does not end the work it asked for.
pub async fn away<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let turn = turns.acquire().await;
    let work = move || {
        let _turn = turn;
        work()
    };
    spawn_blocking(work).await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let here = std::thread::current().id();
        let there = away(&TURNS, || std::thread::current().id()).await;
        assert_ne!(there.unwrap(), here);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_keeps_its_place() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (started, starts) = tokio::sync::oneshot::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let asked = tokio::spawn(away(&TURNS, move || {
            started.send(()).unwrap();
            may_go.recv().unwrap();
        }));
        starts.await.unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_eq!(TURNS.available_permits(), 0);
        go.send(()).unwrap();
        assert_eq!(away(&TURNS, || 5).await.unwrap(), 5);
        assert_eq!(TURNS.available_permits(), 1);
    }
}
