//! Resource use of this process, from the operating system. A value that is not
//! available, as without `/proc`, is `None`.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

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
    /// Reads all values.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            cpu_seconds: getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
                let micros =
                    usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
                micros as f64 / 1e6
            }),
            resident_bytes: field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
            virtual_bytes: field(&status, "VmSize:").map(|kilobytes| kilobytes * 1024),
            // One of them is the directory that is being read.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
            threads: field(&status, "Threads:"),
        }
    }
}

/// The number after `name` in the text of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_the_status_text() {
        let status = "Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "VmSize:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn all_values_are_available_on_linux() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.virtual_bytes.unwrap() > process.resident_bytes.unwrap());
        assert!(process.open_fds.unwrap() >= 3);
        assert!(process.max_fds.unwrap() >= process.open_fds.unwrap());
        assert!(process.threads.unwrap() >= 1);
    }
}
