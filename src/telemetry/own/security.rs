//! Metrics of authentication.

use std::sync::atomic::Ordering;

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::SecurityStats;

/// The families up to `exporter_proxy_authentications_total`, in order of names.
pub fn authentications(out: &mut OwnFamilies, stats: &SecurityStats) {
    let family = out.family(
        "exporter_proxy_authentications_total",
        Kind::Counter,
        "Requests and connections that needed authentication, by what the sender showed (none, password, token, connection: its address or its Unix user) and by result: ok, or the reason for rejection.",
    );
    for (credential, result, count) in stats.counts() {
        let labels = [("credential", credential), ("result", result)];
        family.sample(&labels, count as f64);
    }
}

/// The other families.
pub fn write(out: &mut OwnFamilies, stats: &SecurityStats) {
    let family = out.family(
        "exporter_proxy_open_listeners",
        Kind::Gauge,
        "1 if anyone on the network can write to the listener without authentication, 0 otherwise.",
    );
    for (listener, open) in stats.open() {
        family.sample(&[("listener", listener)], f64::from(u8::from(open)));
    }
    out.family(
        "exporter_proxy_password_checks_total",
        Kind::Counter,
        "Passwords compared with a bcrypt hash. Those that were right before are remembered and not compared.",
    )
    .sample(&[], stats.password_checks.value() as f64);
    let stale = stats.file_is_stale.load(Ordering::Relaxed);
    out.family(
        "exporter_proxy_web_files_last_load_successful",
        Kind::Gauge,
        "1 if the files of [web] are in use as they are, 0 if a changed one cannot be used; the log has the cause.",
    )
    .sample(&[], f64::from(u8::from(!stale)));
}
