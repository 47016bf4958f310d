//! Aggregating pushes: families as a batch of updates for the registry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

use super::bounds::check_batch;
use super::clearmode::{self, ClearMode};
use super::config::{self, Aggregation, Policy};
use super::idempotency::KeyOutcome;
use super::rules::Rule;
use super::{Admission, Body, Group, Rejection};
use crate::clock::Now;
use crate::exposition::{
    FamilyText, Kind, LabelText, Metric, MetricValue, Metrics, NativeHistogram,
};
use crate::fairness::Account;
use crate::reason::Reason;
use crate::registry::{Batch, BoundsPolicy, Change, Changeset, Update};
use crate::security::Scope;
use crate::settings::pattern::matches;
use crate::store::Store;

/// Options of an aggregating push.
#[derive(Debug, Clone, Default)]
pub struct Addition {
    /// How long its series are kept without a push; zero keeps them forever. `None`
    /// uses `push.series_ttl`.
    pub ttl: Option<Duration>,
    /// The `Idempotency-Key`, with which the push counts once however often it is
    /// sent.
    pub key: Option<String>,
    /// The series that the sender may change.
    pub scope: Scope,
    /// The account that new series are charged to.
    pub account: Account,
    /// The address or path of the listener that received the push.
    pub listener: Option<Arc<str>>,
}

impl Admission {
    /// Adds a push to aggregated families, as a whole or not at all. `labels` override
    /// those of its series.
    ///
    /// # Errors
    ///
    /// The body is not valid, or the registry rejects the updates.
    pub fn add(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<KeyOutcome, Rejection> {
        let families = self.added_families(store, labels, body, addition)?;
        let ttl = self.series_ttl(addition);
        let batch = batch(&families, &self.aggregation, ttl)?;
        check_batch(&addition.scope, &batch)?;
        let apply = || {
            let added = store.operate_and(batch, now, Changeset::added_series)?;
            addition.account.charge_series(added, now.tick);
            Ok(())
        };
        let content = (labels, body.content_type, body.bytes, ttl);
        self.apply_once(addition, content, now, apply)
    }

    /// Calls `apply` unless a push with the same idempotency key was applied before.
    /// The hash of `content` tells a repeated push from a different one. It is the same
    /// in every run, since keys are stored.
    ///
    /// # Errors
    ///
    /// The error of `apply`, or a different push used the key.
    pub fn apply_once(
        &self,
        addition: &Addition,
        content: impl Hash,
        now: Now,
        apply: impl FnOnce() -> Result<(), Rejection>,
    ) -> Result<KeyOutcome, Rejection> {
        let Some(key) = &addition.key else {
            return apply().map(|()| KeyOutcome::Applied);
        };
        let mut hasher = Xxh3Default::new();
        content.hash(&mut hasher);
        let fingerprint = hasher.finish();
        match self.keys.apply_once(key, fingerprint, now, apply)? {
            KeyOutcome::Conflict => {
                let message = format!(
                    "a different push used the Idempotency-Key {key:?}: give each push its own key"
                );
                Err(Rejection::new(Reason::KeyReused, &message))
            }
            outcome => Ok(outcome),
        }
    }

    /// Checks a push as [`Admission::add`] would, and returns its numbers of families
    /// and series. Nothing is changed, and no key is remembered.
    ///
    /// # Errors
    ///
    /// The push would be rejected.
    pub fn validate_addition(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<(usize, usize), Rejection> {
        let families = self.added_families(store, labels, body, addition)?;
        let batch = batch(&families, &self.aggregation, self.series_ttl(addition))?;
        check_batch(&addition.scope, &batch)?;
        store.check_batch(batch, now)?;
        let series = families.iter().map(|family| family.series.len()).sum();
        Ok((families.len(), series))
    }

    fn added_families(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
        addition: &Addition,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let mut families = self.families(labels, body, addition.listener.as_deref())?;
        for family in &families {
            self.check_family(labels, family)?;
        }
        // A family without a type has the type of the aggregated one.
        let untyped = |family: &&mut FamilyText| family.kind == Kind::Untyped;
        let untyped: Vec<&mut FamilyText> = families.iter_mut().filter(untyped).collect();
        if !untyped.is_empty() {
            let kinds = store.aggregated_kinds(untyped.iter().map(|family| &*family.name));
            for (family, kind) in untyped.into_iter().zip(kinds) {
                if let Some(kind @ (Kind::Counter | Kind::Gauge)) = kind {
                    family.kind = kind;
                }
            }
        }
        Ok(families)
    }

    /// How long the series of a push are kept without another; `None` is forever.
    pub fn series_ttl(&self, addition: &Addition) -> Option<Duration> {
        let ttl = addition.ttl.unwrap_or(self.aggregation.series_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }
}

/// How a value combines with its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combination {
    Add,
    Replace,
    Min,
    Max,
    Window { mean: bool, span: Duration },
}

/// The updates that `families` make. Series expire if they are not pushed for `ttl`.
///
/// How a value combines is set by its label `clearmode`; without one, by the first
/// rule that matches its family; without a rule, by its kind: gauges follow
/// `push.gauges`, values of all other kinds are added.
fn batch(
    families: &[FamilyText],
    config: &Aggregation,
    ttl: Option<Duration>,
) -> Result<Batch, Rejection> {
    let mut batch = empty_batch(config);
    for family in families {
        add_family(&mut batch, family, config, ttl).map_err(|problem| {
            let (name, line) = (&family.name, family.line);
            let rejection = |place: &str| {
                let message = format!("family {name}{place}: {problem}");
                Rejection::new(Reason::BadValue, &message)
            };
            match line {
                // The family was decoded from protobuf.
                0 => rejection(""),
                _ => rejection(&format!(", line {line}")).at(line, None),
            }
        })?;
    }
    Ok(batch)
}

/// A batch without updates, with the configured policy for bucket bounds.
pub fn empty_batch(config: &Aggregation) -> Batch {
    Batch {
        bounds_policy: match config.bucket_conflict {
            config::BucketConflict::Common => BoundsPolicy::Common,
            config::BucketConflict::Union => BoundsPolicy::Union,
            config::BucketConflict::Reject => BoundsPolicy::Reject,
        },
        ..Batch::default()
    }
}

fn add_family(
    batch: &mut Batch,
    family: &FamilyText,
    config: &Aggregation,
    ttl: Option<Duration>,
) -> Result<(), String> {
    if family.kind == Kind::GaugeHistogram {
        return Err(
            "gauge histograms are not aggregated; push it without mode=aggregate, or as a histogram"
                .to_owned(),
        );
    }
    let mut updates = FamilyUpdates::new(&family.name, family.kind, config, ttl);
    updates.help = family.help.as_deref().map(Arc::from);
    let natives = family.natives.iter();
    let natives: HashMap<&str, &NativeHistogram> = natives.map(|it| (&*it.labels, it)).collect();
    for metric in metrics_of(family)? {
        if !natives.is_empty()
            && let Some(native) = natives.get(&*metric.labels_text())
        {
            check_native(native, &metric)?;
            updates.is_gauge_histogram = native.gauge;
        } else {
            updates.is_gauge_histogram = false;
        }
        updates.add(batch, &metric.labels, metric.value)?;
    }
    Ok(())
}

/// Rejects a native histogram without classic buckets: only classic buckets are
/// aggregated, so its distribution would be lost.
fn check_native(native: &NativeHistogram, metric: &Metric<'_>) -> Result<(), String> {
    let MetricValue::Histogram { buckets, .. } = &metric.value else {
        return Ok(());
    };
    if native.histogram.is_empty() || buckets.iter().any(|(bound, _)| bound.is_finite()) {
        return Ok(());
    }
    let labels = metric.labels_text();
    Err(format!(
        "histogram {{{labels}}} has only native buckets, which are not aggregated: \
         observe into classic buckets too, or push it to a group without mode=aggregate"
    ))
}

/// The metrics of a family.
///
/// # Errors
///
/// A sample does not belong to a metric of the family's kind, or a bound is given
/// twice.
pub fn metrics_of(family: &FamilyText) -> Result<Vec<Metric<'_>>, String> {
    let metrics = Metrics::of_text(family);
    if let Some(series) = metrics.first_duplicate {
        return Err(format!(
            "{series} has one bound twice: 1 and 1.0 are one number"
        ));
    }
    if let Some(sample) = metrics.first_unmatched {
        let kind = family.kind.with_article();
        return Err(format!("{sample} is not part of {kind}"));
    }
    Ok(metrics.metrics)
}

/// Builds the updates of one family, one metric at a time.
#[derive(Debug)]
pub struct FamilyUpdates<'a> {
    name: &'a Arc<str>,
    kind: Kind,
    /// The help text, escaped.
    pub help: Option<Arc<str>>,
    ttl: Option<Duration>,
    rule: Option<&'a Rule>,
    /// How values of the family's kind combine by default.
    default: Combination,
    /// How gauge histograms among them combine by default.
    gauge_default: Combination,
    /// Whether the next metric is a gauge histogram.
    is_gauge_histogram: bool,
}

/// Names and values of labels, unescaped.
pub type LabelPairs<'t> = [(Cow<'t, str>, Cow<'t, str>)];

impl<'a> FamilyUpdates<'a> {
    /// Starts a family named `name`. Its series expire if they are not pushed for
    /// `ttl`.
    pub fn new(
        name: &'a Arc<str>,
        kind: Kind,
        config: &'a Aggregation,
        ttl: Option<Duration>,
    ) -> Self {
        let rule = rule_for(name, config);
        FamilyUpdates {
            name,
            kind,
            help: None,
            ttl,
            rule,
            default: default_combination(kind, rule, config),
            gauge_default: default_combination(Kind::Gauge, rule, config),
            is_gauge_histogram: false,
        }
    }

    /// Adds the updates of a metric to the batch, and returns the labels of its
    /// series.
    ///
    /// # Errors
    ///
    /// The labels are not valid, or the value does not combine in the requested way.
    pub fn add(
        &self,
        batch: &mut Batch,
        labels: &LabelPairs<'_>,
        value: MetricValue,
    ) -> Result<LabelText, String> {
        let mut combination = match self.is_gauge_histogram {
            true => self.gauge_default,
            false => self.default,
        };
        match clear_mode(labels)? {
            None => {}
            Some(ClearMode::Add) => combination = Combination::Add,
            Some(ClearMode::Replace) => combination = Combination::Replace,
            Some(ClearMode::Family) => {
                combination = Combination::Replace;
                if batch.replace.last() != Some(self.name) {
                    batch.replace.push(Arc::clone(self.name));
                }
            }
            Some(ClearMode::Window { mean, span }) => {
                combination = Combination::Window { mean, span };
            }
        }
        let labels = series_labels(labels, self.rule)?;
        let update = |kind, change| Update {
            family: Arc::clone(self.name),
            kind,
            help: self.help.clone(),
            labels: labels.clone(),
            ttl: self.ttl,
            change,
        };
        let has_components = matches!(
            value,
            MetricValue::Histogram { .. } | MetricValue::Summary { .. }
        );
        if has_components && combination == Combination::Replace {
            batch.updates.push(update(self.kind, Change::Delete));
        }
        let kind = match combination {
            // The mean and the sum of a window can fall.
            Combination::Window { .. } => Kind::Gauge,
            _ => self.kind,
        };
        let change = change(value, combination)?;
        batch.updates.push(update(kind, change));
        Ok(labels)
    }
}

/// The first rule that matches the name of a family.
pub fn rule_for<'c>(name: &str, config: &'c Aggregation) -> Option<&'c Rule> {
    let mut rules = config.rules.iter();
    rules.find(|rule| matches(&rule.pattern, name))
}

/// How values of a family combine, unless the sender says something else.
pub fn policy(kind: Kind, rule: Option<&Rule>, config: &Aggregation) -> Policy {
    match rule.and_then(|rule| rule.policy) {
        Some(policy) => policy,
        None if kind == Kind::Gauge => config.gauges,
        None => Policy::Sum,
    }
}

fn default_combination(kind: Kind, rule: Option<&Rule>, config: &Aggregation) -> Combination {
    match policy(kind, rule, config) {
        Policy::Last => Combination::Replace,
        Policy::Sum => Combination::Add,
        Policy::Min => Combination::Min,
        Policy::Max => Combination::Max,
    }
}

fn clear_mode(labels: &LabelPairs<'_>) -> Result<Option<ClearMode>, String> {
    let label = labels.iter().find(|(name, _)| name == clearmode::LABEL);
    label.map(|(_, value)| ClearMode::parse(value)).transpose()
}

/// The labels of the series that a metric is added to.
fn series_labels(labels: &LabelPairs<'_>, rule: Option<&Rule>) -> Result<LabelText, String> {
    let dropped = rule.map_or(&[][..], |rule| &rule.drop_labels);
    // A label with an empty value is the same as no label.
    let kept = labels.iter().filter(|(name, value)| {
        !value.is_empty()
            && name != clearmode::LABEL
            && !dropped.iter().any(|dropped| dropped == name)
    });
    let pairs = kept.map(|(name, value)| (&**name, &**value));
    LabelText::from_plain(pairs).map_err(|error| error.to_string())
}

fn change(value: MetricValue, combination: Combination) -> Result<Change, String> {
    let check_components = |kind: &str| match combination {
        Combination::Add | Combination::Replace => Ok(()),
        Combination::Min => Err(format!("a {kind} has no minimum (policy \"min\")")),
        Combination::Max => Err(format!("a {kind} has no maximum (policy \"max\")")),
        Combination::Window { .. } => Err(format!("a {kind} has no window (clearmode)")),
    };
    Ok(match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            match combination {
                Combination::Add => Change::Add(value),
                Combination::Replace => Change::Set(value),
                Combination::Min => Change::Min(value),
                Combination::Max => Change::Max(value),
                Combination::Window { mean, span } => Change::Window { mean, span, value },
            }
        }
        MetricValue::Histogram {
            buckets,
            sum,
            count,
        } => {
            check_components("histogram")?;
            Change::Histogram {
                buckets,
                sum,
                count,
            }
        }
        MetricValue::Summary {
            quantiles,
            sum,
            count,
        } => {
            check_components("summary")?;
            Change::Summary {
                sum,
                count,
                quantiles,
            }
        }
    })
}

#[cfg(test)]
mod tests;
