//! Metrics of the process, as Prometheus client libraries name them.

use super::ProcessNames;
use super::families::OwnFamilies;
use crate::clock::Now;
use crate::exposition::Kind;
use crate::store::Store;
use crate::telemetry::process::Process;

/// Writes the metrics that the operating system provides. If an app exposes a series of the
/// usual name, the proxy's own gets the prefix `exporter_proxy_`.
pub fn write(out: &mut OwnFamilies, started: Now, names: ProcessNames, store: &Store) {
    if names == ProcessNames::Off {
        return;
    }
    let process = Process::read();
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "User and system CPU time in seconds.",
            process.cpu_seconds,
        ),
        (
            "process_max_fds",
            Kind::Gauge,
            "Limit on open file descriptors.",
            whole(process.max_fds),
        ),
        (
            "process_open_fds",
            Kind::Gauge,
            "Open file descriptors.",
            whole(process.open_fds),
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory in bytes.",
            whole(process.resident_bytes),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since 1970.",
            Some(started.unix_seconds()),
        ),
        (
            "process_threads",
            Kind::Gauge,
            "Operating system threads.",
            whole(process.threads),
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory in bytes.",
            whole(process.virtual_bytes),
        ),
    ] {
        let Some(value) = value else { continue };
        let usual = names == ProcessNames::Usual && !store.is_exposed(name);
        let name = match usual {
            true => name.to_owned(),
            false => format!("exporter_proxy_{name}"),
        };
        out.family(&name, kind, help).sample(&[], value);
    }
}
