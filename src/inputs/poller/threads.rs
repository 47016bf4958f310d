//! Runs the tasks of targets on threads of their own.
//!
//! Polls are many and short, and each waits for its time and for a response. On threads
//! that share their tasks, every such event wakes one thread to handle it and another one
//! to look for more work; that took a quarter of the time of a poll of a hundred series. So
//! targets are spread over threads that share nothing, and serving threads do no polling.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::sender_log;

/// The number of serving threads for each polling thread. A poll takes less time than
/// scrapes and pushes of the same series.
const SERVING_THREADS: usize = 2;

/// How long a thread for long texts waits for the next one. Its memory would end with it, and
/// each poll would begin with fresh pages. Most targets are polled more often.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// The threads of all targets. They start with the first target.
#[derive(Debug)]
pub struct PollThreads {
    handles: Vec<Handle>,
    /// The index of the thread for the next target.
    next: usize,
    /// Cancelled when the program stops.
    stop: CancellationToken,
    /// Tasks of targets; the threads end after the last one.
    tasks: TaskTracker,
}

impl PollThreads {
    /// Creates an empty set of threads.
    pub fn new(stop: CancellationToken, tasks: TaskTracker) -> Self {
        PollThreads {
            handles: Vec::new(),
            next: 0,
            stop,
            tasks,
        }
    }

    /// Starts a task on one of the threads.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        if self.handles.is_empty() {
            self.start();
        }
        let handle = &self.handles[self.next % self.handles.len()];
        self.next += 1;
        self.tasks.spawn_on(task, handle)
    }

    /// Starts the threads. Serving threads stand in for threads that fail to start.
    fn start(&mut self) {
        let serving = Handle::current();
        let is_single = serving.runtime_flavor() == RuntimeFlavor::CurrentThread;
        let count = match is_single {
            // One thread does everything (`exporter.worker_threads = 0`).
            true => 0,
            false => (serving.metrics().num_workers() / SERVING_THREADS).max(1),
        };
        for number in 0..count {
            match self.start_thread(number) {
                Ok(handle) => self.handles.push(handle),
                Err(problem) => {
                    sender_log::internal_error(format_args!(
                        "cannot start a thread for polls, so serving threads poll: {problem}"
                    ));
                    break;
                }
            }
        }
        if self.handles.is_empty() {
            self.handles.push(serving);
        }
    }

    fn start_thread(&self, number: usize) -> io::Result<Handle> {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().thread_keep_alive(KEEP_ALIVE);
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        let run = move || {
            runtime.block_on(async {
                stop.cancelled().await;
                // Let the last polls end. Polls that take too long are cut off with the program.
                tasks.wait().await;
            });
        };
        let thread = thread::Builder::new().name(format!("polls-{number}"));
        thread.spawn(run)?;
        Ok(handle)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The names of the threads on which three tasks run.
    fn names(threads: &mut PollThreads) -> Vec<String> {
        let (sender, names) = mpsc::channel();
        for _ in 0..3 {
            let sender = sender.clone();
            let task = threads.spawn(async move {
                let name = thread::current().name().unwrap_or_default().to_owned();
                sender.send(name).unwrap();
            });
            drop(task);
        }
        drop(sender);
        names.iter().collect()
    }

    fn no_threads() -> PollThreads {
        PollThreads::new(CancellationToken::new(), TaskTracker::new())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn targets_are_spread_over_threads() {
        let mut threads = no_threads();
        let mut names = tokio::task::block_in_place(|| names(&mut threads));
        names.sort();
        assert_eq!(names, ["polls-0", "polls-0", "polls-1"]);
        threads.stop.cancel();
        threads.tasks.close();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn threads_end_with_the_last_task_after_the_stop() {
        let mut threads = no_threads();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let task = threads.spawn(async {
            let _ = gone.await;
        });
        threads.stop.cancel();
        threads.tasks.close();
        assert!(!task.is_finished());
        go.send(()).unwrap();
        task.await.unwrap();
        threads.tasks.wait().await;
    }

    #[tokio::test]
    async fn without_worker_threads_the_serving_thread_polls() {
        let mut threads = no_threads();
        let here = thread::current().id();
        let task = threads.spawn(async move { assert_eq!(thread::current().id(), here) });
        task.await.unwrap();
    }
}
