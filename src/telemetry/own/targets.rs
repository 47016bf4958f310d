//! The metrics of polled targets, and of discoveries.

use std::sync::Arc;

use super::families::OwnFamilies;
use crate::clock::Now;
use crate::exposition::Kind;
use crate::store::{Producer, Store};
use crate::telemetry::Telemetry;
use crate::telemetry::targets::Polls;

/// Adds the families.
pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry, store: &Store) {
    discoveries(out, telemetry);
    polls(out, telemetry);
    targets(out, telemetry, store);
}

fn discoveries(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let discoveries = telemetry.targets.discoveries();
    let discoveries = discoveries
        .iter()
        .map(|stats| (&*stats.name, stats.state()));
    let discoveries: Vec<_> = discoveries.collect();
    let family = out.family(
        "exporter_proxy_discovery_dropped_entries",
        Kind::Gauge,
        "Found entries that rules drop (relabel).",
    );
    for (name, state) in &discoveries {
        family.sample(&[("discovery", name)], state.dropped as f64);
    }
    let family = out.family(
        "exporter_proxy_discovery_last_success_timestamp_seconds",
        Kind::Gauge,
        "When targets were last found without a problem, in seconds since 1970; 0 if never.",
    );
    for (name, state) in &discoveries {
        let at = state.last_success.map_or(0.0, Now::unix_seconds);
        family.sample(&[("discovery", name)], at);
    }
    let family = out.family(
        "exporter_proxy_discovery_rejected_entries",
        Kind::Gauge,
        "Found entries that are not polled, because they are wrong or beyond poll_external.max_targets.",
    );
    for (name, state) in &discoveries {
        family.sample(&[("discovery", name)], state.rejected as f64);
    }
    let family = out.family(
        "exporter_proxy_discovery_success",
        Kind::Gauge,
        "1 if the last update of a discovery succeeded, 0 otherwise.",
    );
    for (name, state) in &discoveries {
        if let Some(success) = state.success() {
            family.sample(&[("discovery", name)], f64::from(u8::from(success)));
        }
    }
    let family = out.family(
        "exporter_proxy_discovery_targets",
        Kind::Gauge,
        "Found targets that are polled.",
    );
    for (name, state) in &discoveries {
        family.sample(&[("discovery", name)], state.targets as f64);
    }
    let family = out.family(
        "exporter_proxy_discovery_updates_total",
        Kind::Counter,
        "Updates of discoveries, by result: ok, or the reason for failure.",
    );
    for (name, state) in &discoveries {
        for (result, count) in &state.results {
            family.sample(&[("discovery", name), ("result", result)], *count as f64);
        }
    }
}

fn polls(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let targets = telemetry.targets.by_name().into_iter();
    let targets: Vec<_> = targets.map(|(name, stats)| (name, stats.polls())).collect();
    if targets.is_empty() {
        return;
    }
    let family = out.family(
        "exporter_proxy_poll_duration_seconds",
        Kind::Gauge,
        "Duration of the last poll in seconds.",
    );
    for (name, polls) in &targets {
        if polls.success.is_some() {
            family.sample(&[("target", name)], polls.duration.as_secs_f64());
        }
    }
    let family = out.family(
        "exporter_proxy_poll_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a poll last succeeded, in seconds since 1970; 0 if never.",
    );
    for (name, polls) in &targets {
        let at = polls.last_success.map_or(0.0, Now::unix_seconds);
        family.sample(&[("target", name)], at);
    }
    let family = out.family(
        "exporter_proxy_poll_samples",
        Kind::Gauge,
        "Samples in the target's last text.",
    );
    for (name, polls) in &targets {
        family.sample(&[("target", name)], polls.samples as f64);
    }
    let family = out.family(
        "exporter_proxy_poll_success",
        Kind::Gauge,
        "1 if the last poll succeeded, 0 otherwise.",
    );
    for (name, polls) in &targets {
        if let Some(success) = polls.success {
            family.sample(&[("target", name)], f64::from(u8::from(success)));
        }
    }
    let family = out.family(
        "exporter_proxy_polls_total",
        Kind::Counter,
        "Polls, by target and by result: ok, or the reason for failure.",
    );
    for (name, polls) in &targets {
        for (result, count) in &polls.results {
            family.sample(&[("result", result), ("target", name)], *count as f64);
        }
    }
    files(out, &targets);
}

fn files(out: &mut OwnFamilies, targets: &[(Arc<str>, Polls)]) {
    let files = targets.iter();
    let mut files = files
        .filter_map(|(name, polls)| Some((name, polls.modified?)))
        .peekable();
    if files.peek().is_none() {
        return;
    }
    let family = out.family(
        "exporter_proxy_textfile_mtime_seconds",
        Kind::Gauge,
        "When a file with metrics was modified, in seconds since 1970, as of the last text that was taken.",
    );
    for (name, modified) in files {
        family.sample(&[("file", name)], modified);
    }
}

fn targets(out: &mut OwnFamilies, telemetry: &Telemetry, store: &Store) {
    let family = out.family(
        "exporter_proxy_targets",
        Kind::Gauge,
        "Polled targets, by state.",
    );
    let states = store.totals().states;
    for (state, count) in states.of(Producer::Target) {
        family.sample(&[("state", state.as_str())], count as f64);
    }
    out.family(
        "exporter_proxy_targets_max",
        Kind::Gauge,
        "Limit on polled targets (poll_external.max_targets).",
    )
    .sample(&[], telemetry.limits.load().targets as f64);
}
