//! Resource use of this process, from the operating system. A value that is not
//! available, as without `/proc`, is `None`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use rustix::param::page_size;

/// Resource use of this process.
#[derive(Debug, Default)]
pub struct Process {
    /// User and system CPU time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Virtual memory.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit on open file descriptors.
    pub max_fds: Option<u64>,
    /// Operating system threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads all values. Each scrape does, so it uses what the system has at hand: the files
    /// that list everything take as long as the rest of a small scrape.
    pub fn read() -> Self {
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let (virtual_bytes, resident_bytes) = memory(&statm, page_size() as u64);
        Process {
            cpu_seconds: getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
                let micros =
                    usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
                micros as f64 / 1e6
            }),
            resident_bytes,
            virtual_bytes,
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
            // A directory has a link for itself, one from its parent, and one from each
            // directory in it: here, one for each thread.
            threads: fs::metadata("/proc/self/task")
                .ok()
                .and_then(|task| task.nlink().checked_sub(2)),
        }
    }
}

/// Virtual and resident bytes, of the text of `/proc/self/statm`.
fn memory(statm: &str, page_size: u64) -> (Option<u64>, Option<u64>) {
    let mut pages = statm.split_whitespace().map(str::parse::<u64>);
    let mut bytes = || Some(pages.next()?.ok()? * page_size);
    (bytes(), bytes())
}

/// The number of open file descriptors: since Linux 6.2 the size of the directory of them, before
/// that the number of its entries.
fn open_fds() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        // One of the entries is the directory that is being read.
        0 => Some((fs::read_dir(DIRECTORY).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_in_the_text() {
        let both = (Some(9 << 12), Some(4 << 12));
        assert_eq!(memory("9 4 3 1 0 2 0\n", 1 << 12), both);
        assert_eq!(memory("9", 1 << 12), (Some(9 << 12), None));
        assert_eq!(memory("", 1 << 12), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn all_values_are_available_on_linux() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.virtual_bytes.unwrap() > process.resident_bytes.unwrap());
        // Other tests open and close files meanwhile.
        let listed = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        assert!(process.open_fds.unwrap().abs_diff(listed) < 100);
        assert!(process.max_fds.unwrap() >= process.open_fds.unwrap());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let listed = status.lines().find_map(|it| it.strip_prefix("Threads:"));
        let listed: u64 = listed.unwrap().trim().parse().unwrap();
        assert!(process.threads.unwrap().abs_diff(listed) < 100);
    }
}
