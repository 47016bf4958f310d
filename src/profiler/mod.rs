//! CPU profiles of this process: which functions its threads run while they use a
//! processor, sampled by a timer of the system, in the format of `pprof`.
//!
//! The system has one such timer, so profiles are recorded one at a time. A requested profile
//! takes precedence over one in the background, which then ends early.

mod encode;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::spawn_blocking;

/// Samples in each second of processor time, as in Go.
pub const FREQUENCY: i32 = 100;

/// Libraries whose frames are not walked: they can hold a lock that walking needs.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// When recording began.
    pub start: SystemTime,
    /// Its length.
    pub duration: Duration,
    /// A message `perftools.profiles.Profile`, compressed with gzip.
    pub body: Bytes,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Another request is being served.
    #[error("another profile is being recorded; ask again when it is complete")]
    Busy,
    /// The profiler cannot be used.
    #[error("no profile can be recorded: {0}")]
    Failed(String),
}

/// The profiler of the process, which all embedded proxies share.
pub static PROFILER: LazyLock<Profiler> = LazyLock::new(|| Profiler {
    timer: Mutex::new(()),
    asking: Semaphore::new(1),
    is_asked: watch::Sender::new(false),
});

/// Records profiles.
#[derive(Debug)]
pub struct Profiler {
    /// The timer. Background profiles wait for it.
    timer: Mutex<()>,
    /// The permit of the one request at a time.
    asking: Semaphore,
    /// Whether a request waits for the timer.
    is_asked: watch::Sender<bool>,
}

impl Profiler {
    /// Records a requested profile until `end` is ready.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Busy`] while another one is recorded this way.
    pub async fn record(&self, end: impl Future<Output = ()>) -> Result<Profile, ProfileError> {
        let _one = self.asking.try_acquire().map_err(|_| ProfileError::Busy)?;
        let turn = {
            let _asked = Asked::new(&self.is_asked);
            self.timer.lock().await
        };
        let profile = record(end).await;
        drop(turn);
        profile
    }

    /// Records a profile in the background, until `end` is ready or a profile is requested.
    ///
    /// # Errors
    ///
    /// The profiler cannot be used.
    pub async fn record_in_background(
        &self,
        end: impl Future<Output = ()>,
    ) -> Result<Profile, ProfileError> {
        let turn = self.timer.lock().await;
        let mut is_asked = self.is_asked.subscribe();
        let profile = record(async {
            tokio::select! {
                () = end => {}
                _ = is_asked.wait_for(|is_asked| *is_asked) => {}
            }
        });
        let profile = profile.await;
        drop(turn);
        profile
    }
}

/// Marks that a request waits for the timer, until it is dropped.
struct Asked<'a>(&'a watch::Sender<bool>);

impl<'a> Asked<'a> {
    fn new(is_asked: &'a watch::Sender<bool>) -> Self {
        is_asked.send_replace(true);
        Asked(is_asked)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

async fn record(end: impl Future<Output = ()>) -> Result<Profile, ProfileError> {
    let failed = |problem: &dyn std::fmt::Display| ProfileError::Failed(problem.to_string());
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&BLOCKED)
        .build()
        .map_err(|problem| failed(&problem))?;
    end.await;
    // Looking up the names of functions takes a second or more for the first profile.
    let profile = spawn_blocking(move || finish(guard)).await;
    let profile = profile.map_err(|problem| failed(&problem))?;
    profile.map_err(|problem| failed(&problem))
}

/// Ends sampling, and builds the profile.
fn finish(guard: ProfilerGuard<'static>) -> pprof::Result<Profile> {
    let report = guard.report().build_unresolved()?;
    drop(guard);
    let (start, duration) = (report.timing.start_time, report.timing.duration);
    let samples = report.data.into_iter();
    let named = samples.map(|(frames, count)| (Frames::from(frames), count));
    Ok(Profile {
        start,
        duration,
        body: encode::encode(named, start, duration)?,
    })
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::thread;

    use nix::sys::time::TimeValLike as _;
    use nix::time::{ClockId, clock_gettime};
    use tokio::sync::oneshot;

    use super::*;

    /// Keeps a processor busy until it is stopped.
    #[derive(Debug, Default)]
    struct Burning {
        stop: AtomicBool,
        /// The processor time that it has used, in milliseconds.
        used: AtomicI64,
    }

    #[inline(never)]
    fn burn_for_the_profiler(burning: &Burning) -> u64 {
        let mut sum = 0_u64;
        while !burning.stop.load(Ordering::Relaxed) {
            for number in 0..100_000 {
                sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
            let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            burning
                .used
                .store(used.num_milliseconds(), Ordering::Relaxed);
        }
        sum
    }

    /// All in one test: the tests of this process share one timer.
    #[tokio::test(flavor = "multi_thread")]
    async fn profiles_are_recorded_one_at_a_time_and_those_asked_for_come_first() {
        let burning = Arc::new(Burning::default());
        let thread = {
            let burning = Arc::clone(&burning);
            thread::spawn(move || burn_for_the_profiler(&burning))
        };
        let (begin, begun) = oneshot::channel();
        let background = tokio::spawn(PROFILER.record_in_background(async {
            begin.send(()).unwrap();
            std::future::pending::<()>().await;
        }));
        begun.await.unwrap();
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let asked = tokio::spawn(PROFILER.record(async {
            begin.send(()).unwrap();
            drop(ended.await);
        }));
        // The background profile ends, since one was requested.
        background.await.unwrap().unwrap();
        let second = PROFILER.record(std::future::ready(())).await;
        assert!(matches!(second, Err(ProfileError::Busy)), "{second:?}");
        begun.await.unwrap();
        let used = || burning.used.load(Ordering::Relaxed);
        // Enough processor time for some samples, which may take longer than the sleep.
        let enough = used() + 100;
        tokio::time::sleep(Duration::from_millis(300)).await;
        while used() < enough {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        end.send(()).unwrap();
        let profile = asked.await.unwrap().unwrap();
        burning.stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        assert!(profile.duration >= Duration::from_millis(300));
        let text = encode::tests::decompressed(&profile.body);
        let name = b"burn_for_the_profiler";
        assert!(text.windows(name.len()).any(|part| part == name));
        // A request that is dropped leaves nothing behind.
        drop(PROFILER.record(std::future::pending()));
        let next = PROFILER.record(std::future::ready(())).await;
        next.unwrap();
    }
}
