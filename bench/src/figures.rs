//! Figures of measured times, and of processes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};

/// The median; NaN without values.
pub fn median(values: Vec<f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value that `part` (0 to 1) of all values do not exceed; NaN without values.
pub fn percentile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part) as usize;
    let last = values.len().saturating_sub(1);
    values.get(rank.min(last)).copied().unwrap_or(f64::NAN)
}

/// Processor time of this thread so far, in seconds. It depends less than the clock on other load.
///
/// # Errors
///
/// If the kernel does not count it.
pub fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64())
}

/// Resident memory of a process, in bytes.
///
/// # Errors
///
/// If the process is gone.
pub fn resident_bytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("the process has no VmRSS")?
        .parse()?;
    Ok(kilobytes * 1024.0)
}

/// Processor time of a process, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessTime {
    /// In its own code.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl ProcessTime {
    /// Both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Processor time of a process so far.
///
/// # Errors
///
/// If the process is gone.
pub fn process_time(pid: u32) -> Result<ProcessTime> {
    /// Unit of times in `/proc/PID/stat`.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything and ends with the last bracket. User and system time are
    // fields 14 and 15, see proc(5).
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.filter_map(|ticks| ticks.parse().ok()).collect();
    let [user, system] = ticks[..] else {
        bail!("the process has no times");
    };
    Ok(ProcessTime {
        user: user / TICKS_A_SECOND,
        system: system / TICKS_A_SECOND,
    })
}

/// How long [`wait_for_quiet`] waits at most.
const LOUD: Duration = Duration::from_secs(1);

/// Waits until this machine is idle, for at most a second. Work of a server after its turn (Go's
/// collector frees memory for a while) must not count against the next one.
///
/// # Errors
///
/// If `/proc/stat` cannot be read.
pub fn wait_for_quiet() -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(50);
    // Of 5 a core.
    const MOST_TICKS: u64 = 1;
    let begin = Instant::now();
    let mut before = busy_ticks()?;
    while begin.elapsed() < LOUD {
        thread::sleep(WINDOW);
        let now = busy_ticks()?;
        if now - before <= MOST_TICKS {
            break;
        }
        before = now;
    }
    Ok(())
}

/// Busy time of all cores since boot, in hundredths of a second.
fn busy_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq: see proc(5).
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else {
        bail!("/proc/stat has no line for all processors");
    };
    Ok(user + nice + system + irq + softirq)
}
