//! Metrics of TLS: handshakes and certificates.

use std::sync::atomic::Ordering;

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::{HandshakeFailure, ListenerName, Telemetry};

/// Writes nothing if no listener has TLS.
pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let mut certificates = telemetry.certificates();
    if certificates.is_empty() {
        return;
    }
    certificates.sort_by(|a, b| a.setting.cmp(&b.setting));
    let family = out.family(
        "exporter_proxy_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate in use expires, in seconds since 1970, by setting.",
    );
    for stats in &certificates {
        let expiry = stats.expiry.load(Ordering::Relaxed) as f64;
        family.sample(&[("setting", &stats.setting)], expiry);
    }
    let family = out.family(
        "exporter_proxy_tls_certificate_files_ok",
        Kind::Gauge,
        "1 if the certificate files are in use as they were last seen, 0 if they changed and cannot be used.",
    );
    for stats in &certificates {
        let is_current = u8::from(stats.is_current.load(Ordering::Relaxed));
        family.sample(&[("setting", &stats.setting)], f64::from(is_current));
    }
    let family = out.family(
        "exporter_proxy_tls_certificate_reloads_total",
        Kind::Counter,
        "Changes of certificate files, by result: ok, or bad_setting if the files cannot be used.",
    );
    for stats in &certificates {
        let counts = [
            ("bad_setting", &stats.failed_reloads),
            ("ok", &stats.reloads),
        ];
        for (result, count) in counts {
            let labels = [("result", result), ("setting", &*stats.setting)];
            family.sample(&labels, count.value() as f64);
        }
    }
    let family = out.family(
        "exporter_proxy_tls_handshakes_total",
        Kind::Counter,
        "TLS handshakes, by listener and by result: ok, or the reason for failure.",
    );
    for listener in ListenerName::ALL {
        let stats = telemetry.listener(listener);
        for why in HandshakeFailure::ALL {
            let labels = [("listener", listener.as_str()), ("result", why.as_str())];
            let count = stats.failed_handshakes(why);
            if count > 0 {
                family.sample(&labels, count as f64);
            }
        }
        let labels = [("listener", listener.as_str()), ("result", "ok")];
        family.sample(&labels, stats.handshakes.value() as f64);
    }
}
