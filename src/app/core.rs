//! Builds the core (store, admission, access and counters) and applies new settings to it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{StartError, limits};
use crate::clock::Now;
use crate::config::Config;
use crate::context::{Context, Polls, ReloadRequest, Reloads};
use crate::fairness::Fairness;
use crate::ingest::shaping::Shapes;
use crate::ingest::{Admission, IdempotencyKeys, text};
use crate::security::{Access, Rules};
use crate::storage::{Journal, StoredCore};
use crate::store::Store;
use crate::telemetry::{Telemetry, logging};

/// Builds the core. The receiver gets requests for reloads.
pub fn build(config: &Config) -> Result<(Context, mpsc::Receiver<ReloadRequest>), StartError> {
    let own_metrics = config.exporter.own_metrics;
    let rules = text::inspection_rules(&config.exposition, own_metrics);
    let app_times = own_metrics && config.exporter.app_metrics;
    let store = Store::new(limits::of_store(config), app_times).with_rules(rules);
    let admission = Admission::new(
        config.exposition.clone(),
        config.push.aggregation.clone(),
        own_metrics,
        store.hasher().clone(),
    );
    let now = Now::read();
    let telemetry = Arc::new(Telemetry::new(now, limits::shown(config)));
    let admission = admission.with_shapes(shapes(config, &telemetry));
    let process_names = config.exporter.process_metrics;
    telemetry.process_names.set(process_names);
    let access = Access::new(&config.web.security, &telemetry.security)?;
    let journal = Journal::open(&config.storage, &telemetry.storage)?;
    let fairness = Fairness::new(config.limits.clone(), &telemetry.fairness, now.tick);
    store.set_shares(limits::of_senders(config));
    let store = Arc::new(store);
    journal.attach(Arc::new(StoredCore::new(&store)), now);
    journal.attach(Arc::<IdempotencyKeys>::clone(admission.keys()), now);
    let (reloads, requests) = Reloads::new();
    let polls = Polls::new(&telemetry.requested_polls);
    let context = Context {
        store,
        admission: Arc::new(admission),
        journal,
        access: Arc::new(access),
        fairness: Arc::new(fairness),
        telemetry,
        tasks: TaskTracker::new(),
        reloads,
        polls,
        quit: CancellationToken::new(),
        leaving: CancellationToken::new(),
        stop: CancellationToken::new(),
    };
    Ok((context, requests))
}

/// Applies new settings and access rules to the core; `before` are the settings used so far.
/// Returns the context for parts that are built with the new settings.
pub fn apply(context: &Context, config: &Config, before: &Config, rules: Rules) -> Context {
    if config.log != before.log {
        logging::apply(&config.log);
    }
    context.access.set_rules(rules);
    context.store.set_limits(limits::of_store(config));
    // This visits every section.
    if limits::of_senders(config) != limits::of_senders(before) {
        context.store.set_shares(limits::of_senders(config));
    }
    context.fairness.set_limits(config.limits.clone());
    let own_metrics = config.exporter.own_metrics;
    let inspection = text::inspection_rules(&config.exposition, own_metrics);
    context.store.set_rules(inspection);
    context.telemetry.limits.set(limits::shown(config));
    let process_names = config.exporter.process_metrics;
    context.telemetry.process_names.set(process_names);
    let aggregation = &config.push.aggregation;
    let (keys, time) = (aggregation.idempotency_keys, aggregation.idempotency_time);
    context.admission.keys().set_limits(keys, time);
    let is_same = config.exposition == before.exposition
        && *aggregation == before.push.aggregation
        && config.shape == before.shape;
    if is_same {
        // A new admission would have to be handed to every target.
        return context.clone();
    }
    let admission = context
        .admission
        .with_settings(config.exposition.clone(), aggregation.clone())
        .with_shapes(shapes(config, &context.telemetry));
    Context {
        admission: Arc::new(admission),
        ..context.clone()
    }
}

fn shapes(config: &Config, telemetry: &Telemetry) -> Shapes {
    Shapes {
        list: config.shape.clone(),
        stats: Arc::clone(&telemetry.shaping),
    }
}
