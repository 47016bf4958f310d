//! Metrics of the process, under the names that Prometheus' client libraries use.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::{Counter, Gauge, IntGauge, Registry};

/// The operating system's values for this process; 0 where one is not available.
#[derive(Debug)]
pub struct Process {
    /// User and system CPU time.
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: i64,
    threads: i64,
}

impl Process {
    /// Reads all values.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| field(&status, name) as f64 * 1024.0;
        let micros = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
        });
        // One of them is the directory that is being read.
        let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() - 1);
        Process {
            cpu_seconds: micros as f64 / 1e6,
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            open_fds: i64::try_from(open_fds).unwrap_or_default(),
            threads: field(&status, "Threads:"),
        }
    }
}

/// The number after `name` in the text of `/proc/self/status`.
fn field(status: &str, name: &str) -> i64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

/// The metrics. [`ProcessMetrics::update`] sets them.
#[derive(Debug)]
pub struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_fds: IntGauge,
    max_fds: Gauge,
    threads: IntGauge,
    start_time: Gauge,
}

impl ProcessMetrics {
    /// Creates the metrics. The process starts now.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = ProcessMetrics {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time in seconds.",
            )?,
            resident_bytes: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
            virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Virtual memory.")?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Limit on open file descriptors.")?,
            threads: IntGauge::new("process_threads", "Threads of the process.")?,
            start_time: Gauge::new(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )?,
        };
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            metrics.max_fds.set(soft as f64);
        }
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            metrics.start_time.set(now.as_secs_f64());
        }
        Ok(metrics)
    }

    /// Registers all metrics.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.cpu_seconds.clone()))?;
        registry.register(Box::new(self.resident_bytes.clone()))?;
        registry.register(Box::new(self.virtual_bytes.clone()))?;
        registry.register(Box::new(self.open_fds.clone()))?;
        registry.register(Box::new(self.max_fds.clone()))?;
        registry.register(Box::new(self.threads.clone()))?;
        registry.register(Box::new(self.start_time.clone()))
    }

    /// Sets the metrics to the values that were read.
    pub fn update(&self, process: &Process) {
        // Two concurrent scrapes may have read their values in another order.
        let grown = process.cpu_seconds - self.cpu_seconds.get();
        self.cpu_seconds.inc_by(grown.max(0.0));
        self.resident_bytes.set(process.resident_bytes);
        self.virtual_bytes.set(process.virtual_bytes);
        self.open_fds.set(process.open_fds);
        self.threads.set(process.threads);
    }
}
