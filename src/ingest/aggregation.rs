//! Pushes that are added to what is there: families as a batch for the
//! registry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use super::clearmode::{self, ClearMode};
use super::config::{self, Aggregation, Policy};
use super::idempotency::Once;
use super::rules::Rule;
use super::{Admission, Body, Group, Rejection};
use crate::clock::Now;
use crate::exposition::{
    FamilyText, Kind, LabelText, Metric, MetricValue, Metrics, NativeHistogram,
};
use crate::reason::Reason;
use crate::registry::{Batch, BoundsPolicy, Change, Update};
use crate::store::{BatchRejection, Store};

/// How a push is to be added.
#[derive(Debug, Clone, Default)]
pub struct Addition {
    /// Forget its series when they were not pushed for so long; zero is never.
    /// `None`: as `push.series_ttl` has it.
    pub ttl: Option<Duration>,
    /// Names the push, so that it counts once however often it comes.
    pub key: Option<String>,
}

impl Admission {
    /// Adds a push to living families, whole or not at all. `labels` are put
    /// over those of its series.
    pub fn add(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<Once, Rejection> {
        let families = self.added_families(store, labels, body)?;
        let ttl = self.series_ttl(addition);
        let batch = batch(&families, &self.aggregation, ttl)?;
        let operate = || store.operate(batch, now).map_err(Rejection::from);
        let print = (labels, body.content_type, body.bytes, ttl);
        self.once(addition, print, now, operate)
    }

    /// Operates, unless that was done before for a push of the same key.
    /// `print` tells pushes apart.
    pub(crate) fn once(
        &self,
        addition: &Addition,
        print: impl Hash,
        now: Now,
        operate: impl FnOnce() -> Result<(), Rejection>,
    ) -> Result<Once, Rejection> {
        let Some(key) = &addition.key else {
            return operate().map(|()| Once::Applied);
        };
        let print = self.hash.hash_one(print);
        match self.keys.once(key, print, now.tick, operate)? {
            Once::Another => {
                let message = format!(
                    "another push had the Idempotency-Key {key:?}: each push needs one of its own"
                );
                Err(Rejection::new(Reason::KeyReused, &message))
            }
            once => Ok(once),
        }
    }

    /// What such a push would come to: how many families and series it brings,
    /// or why it would be refused. Nothing is changed, and no key remembered.
    pub fn validate_addition(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<(usize, usize), Rejection> {
        let families = self.added_families(store, labels, body)?;
        let batch = batch(&families, &self.aggregation, self.series_ttl(addition))?;
        store.check_batch(batch, now)?;
        let series = families.iter().map(|family| family.series.len()).sum();
        Ok((families.len(), series))
    }

    fn added_families(
        &self,
        store: &Store,
        labels: &Group,
        body: Body<'_>,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let mut families = self.families(labels, body)?;
        for family in &families {
            self.check_family(labels, family)?;
        }
        // Values without a type are of the type that their family has.
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

    pub(crate) fn series_ttl(&self, addition: &Addition) -> Option<Duration> {
        let ttl = addition.ttl.unwrap_or(self.aggregation.series_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }
}

impl From<BatchRejection> for Rejection {
    fn from(refused: BatchRejection) -> Self {
        Rejection::new(Reason::from(&refused), &refused.to_string())
    }
}

/// What becomes of the values of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Add,
    Replace,
    Min,
    Max,
    Window { mean: bool, span: Duration },
}

/// The updates that `families` make.
///
/// What becomes of a value is said by its label `clearmode`, or else by the
/// first rule that matches its family, or else by its kind: counters,
/// histograms, summaries and untyped values are added, and gauges go as
/// `push.gauges` has it. A series goes when it was not pushed for `ttl`.
fn batch(
    families: &[FamilyText],
    config: &Aggregation,
    ttl: Option<Duration>,
) -> Result<Batch, Rejection> {
    let mut batch = empty_batch(config);
    for family in families {
        add_family(&mut batch, family, config, ttl).map_err(|problem| {
            let (name, line) = (&family.name, family.line);
            let message = format!("family {name}, line {line}: {problem}");
            Rejection::new(Reason::BadValue, &message).at(line, None)
        })?;
    }
    Ok(batch)
}

/// A batch of no updates, to which the settings apply.
pub(crate) fn empty_batch(config: &Aggregation) -> Batch {
    Batch {
        bounds_policy: match config.bucket_conflict {
            config::BucketConflict::Common => BoundsPolicy::Common,
            config::BucketConflict::Union => BoundsPolicy::Union,
            config::BucketConflict::Refuse => BoundsPolicy::Reject,
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
    let mut adding = Adding::new(&family.name, family.kind, config, ttl);
    adding.help = family.help.as_deref().map(Arc::from);
    let natives = family.natives.iter();
    let natives: HashMap<&str, &NativeHistogram> = natives.map(|it| (&*it.labels, it)).collect();
    for metric in metrics_of(family)? {
        if !natives.is_empty()
            && let Some(native) = natives.get(&*metric.labels_text())
        {
            check_native(native, &metric)?;
            adding.gauge_histogram = native.gauge;
        } else {
            adding.gauge_histogram = false;
        }
        adding.add(batch, &metric.labels, metric.value)?;
    }
    Ok(())
}

/// What is added up of a histogram is its classic buckets: those of a native one
/// are of other bounds, and would be lost.
fn check_native(native: &NativeHistogram, metric: &Metric<'_>) -> Result<(), String> {
    let MetricValue::Histogram { buckets, .. } = &metric.value else {
        return Ok(());
    };
    if native.histogram.is_empty() || buckets.iter().any(|(bound, _)| bound.is_finite()) {
        return Ok(());
    }
    let labels = metric.labels_text();
    Err(format!(
        "histogram {{{labels}}} has native buckets alone, which are not added up: \
         observe into classic buckets too, or push it to a group without mode=aggregate"
    ))
}

/// The metrics of a family, all of whose samples must be parts of one.
pub(crate) fn metrics_of(family: &FamilyText) -> Result<Vec<Metric<'_>>, String> {
    let metrics = Metrics::of_text(family);
    if let Some(twice) = metrics.first_duplicate {
        return Err(format!(
            "two parts of {twice} have the same bound: 1 and 1.0 are one number"
        ));
    }
    if let Some(stray) = metrics.first_unmatched {
        let kind = family.kind.with_article();
        return Err(format!("{stray} is no part of {kind}"));
    }
    Ok(metrics.metrics)
}

/// A family whose metrics are being added to a batch, one by one.
#[derive(Debug)]
pub(crate) struct Adding<'a> {
    name: &'a Arc<str>,
    kind: Kind,
    /// Escaped.
    pub help: Option<Arc<str>>,
    ttl: Option<Duration>,
    rule: Option<&'a Rule>,
    usual: Way,
    /// What becomes of gauges, and of the gauge histograms among the others.
    of_gauges: Way,
    /// Whether what is added next is a gauge histogram.
    gauge_histogram: bool,
}

/// Labels as they are meant, without escapes.
pub(crate) type Labels<'t> = [(Cow<'t, str>, Cow<'t, str>)];

impl<'a> Adding<'a> {
    pub fn new(
        name: &'a Arc<str>,
        kind: Kind,
        config: &'a Aggregation,
        ttl: Option<Duration>,
    ) -> Self {
        let mut rules = config.rules.iter();
        let rule = rules.find(|rule| matches(&rule.pattern, name));
        Adding {
            name,
            kind,
            help: None,
            ttl,
            rule,
            usual: usual_way(kind, rule, config),
            of_gauges: usual_way(Kind::Gauge, rule, config),
            gauge_histogram: false,
        }
    }

    /// Adds a metric of the family's kind, and returns the labels of the
    /// series that it is added to.
    pub fn add(
        &self,
        batch: &mut Batch,
        labels: &Labels<'_>,
        value: MetricValue,
    ) -> Result<LabelText, String> {
        let mut way = match self.gauge_histogram {
            true => self.of_gauges,
            false => self.usual,
        };
        match mode_of(labels)? {
            None => {}
            Some(ClearMode::Add) => way = Way::Add,
            Some(ClearMode::Replace) => way = Way::Replace,
            Some(ClearMode::Family) => {
                way = Way::Replace;
                if batch.replace.last() != Some(self.name) {
                    batch.replace.push(Arc::clone(self.name));
                }
            }
            Some(ClearMode::Window { mean, span }) => way = Way::Window { mean, span },
        }
        let labels = kept_labels(labels, self.rule)?;
        let update = |kind, change| Update {
            family: Arc::clone(self.name),
            kind,
            help: self.help.clone(),
            labels: labels.clone(),
            ttl: self.ttl,
            change,
        };
        let replaces_points = way == Way::Replace
            && matches!(
                value,
                MetricValue::Histogram { .. } | MetricValue::Summary { .. }
            );
        if replaces_points {
            batch.updates.push(update(self.kind, Change::Delete));
        }
        let kind = match way {
            // Means and sums of a window fall as well as rise.
            Way::Window { .. } => Kind::Gauge,
            _ => self.kind,
        };
        batch.updates.push(update(kind, change(value, way)?));
        Ok(labels)
    }
}

fn usual_way(kind: Kind, rule: Option<&Rule>, config: &Aggregation) -> Way {
    let policy = match rule.and_then(|rule| rule.policy) {
        Some(policy) => policy,
        None if kind == Kind::Gauge => config.gauges,
        None => Policy::Sum,
    };
    match policy {
        Policy::Last => Way::Replace,
        Policy::Sum => Way::Add,
        Policy::Min => Way::Min,
        Policy::Max => Way::Max,
    }
}

fn mode_of(labels: &Labels<'_>) -> Result<Option<ClearMode>, String> {
    let label = labels.iter().find(|(name, _)| name == clearmode::LABEL);
    label.map(|(_, value)| ClearMode::parse(value)).transpose()
}

/// The labels of the series that the metric is added to.
fn kept_labels(labels: &Labels<'_>, rule: Option<&Rule>) -> Result<LabelText, String> {
    let dropped = rule.map_or(&[][..], |rule| &rule.drop_labels);
    // To a reader, a label without a value is none.
    let kept = labels.iter().filter(|(name, value)| {
        !value.is_empty()
            && name != clearmode::LABEL
            && !dropped.iter().any(|dropped| dropped == name)
    });
    let pairs = kept.map(|(name, value)| (&**name, &**value));
    LabelText::from_plain(pairs).map_err(|fault| fault.to_string())
}

fn change(value: MetricValue, way: Way) -> Result<Change, String> {
    let many = |what: &str| match way {
        Way::Add | Way::Replace => Ok(()),
        Way::Min => Err(format!("a {what} has no minimum (policy \"min\")")),
        Way::Max => Err(format!("a {what} has no maximum (policy \"max\")")),
        Way::Window { .. } => Err(format!("a {what} has no window (clearmode)")),
    };
    Ok(match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            match way {
                Way::Add => Change::Add(value),
                Way::Replace => Change::Set(value),
                Way::Min => Change::Min(value),
                Way::Max => Change::Max(value),
                Way::Window { mean, span } => Change::Window { mean, span, value },
            }
        }
        MetricValue::Histogram {
            buckets,
            sum,
            count,
        } => {
            many("histogram")?;
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
            many("summary")?;
            Change::Summary {
                sum,
                count,
                quantiles,
            }
        }
    })
}

/// Whether a name is what the pattern says, in which `*` stands for any
/// characters. Linear in the name for each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(begin) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        // Taking the first place leaves the most for what follows.
        let Some(at) = left.find(piece) else {
            return false;
        };
        left = &left[at + piece.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;
    use crate::exposition::{CanonicalOptions, TextLimits, TimestampPolicy, canonicalize};

    fn families(text: &str) -> Vec<FamilyText> {
        const HASH: &BuildHasherDefault<DefaultHasher> = &BuildHasherDefault::new();
        let normal = CanonicalOptions {
            limits: TextLimits::default(),
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: HASH,
        };
        canonicalize(text, &normal).unwrap()
    }

    fn batch_of(text: &str, config: &Aggregation) -> Result<Batch, Rejection> {
        batch(&families(text), config, None)
    }

    fn config(change: impl FnOnce(&mut Aggregation)) -> Aggregation {
        let mut config = Aggregation::default();
        change(&mut config);
        config
    }

    fn rule(pattern: &str, policy: Option<Policy>, drop: &[&str]) -> Rule {
        Rule {
            pattern: pattern.to_owned(),
            policy,
            drop_labels: drop.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    /// Each update's labels, kind and change.
    fn shown(batch: &Batch) -> Vec<String> {
        let updates = batch.updates.iter();
        updates
            .map(|it| {
                let (family, kind) = (&it.family, it.kind.as_str());
                format!("{family}{{{}}} {kind} {:?}", it.labels, it.change)
            })
            .collect()
    }

    const EACH_KIND: &str = "# TYPE c_total counter\nc_total{b=\"1\",a=\"2\"} 3\n# TYPE g gauge\ng 4\n\
                             u 5\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n\
                             # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";

    #[test]
    fn kinds_go_their_usual_ways() {
        let shown = shown(&batch_of(EACH_KIND, &config(|_| {})).unwrap());
        assert_eq!(
            shown,
            [
                "c_total{a=\"2\",b=\"1\"} counter Add(3.0)",
                "g{} gauge Set(4.0)",
                "u{} untyped Add(5.0)",
                "s{} summary Summary { sum: Some(2.0), count: Some(3.0), quantiles: [(0.5, 1.0)] }",
                "h{} histogram Histogram { buckets: [(1.0, 1.0), (inf, 2.0)], sum: Some(3.0), count: Some(2.0) }",
            ]
        );
    }

    #[test]
    fn gauges_go_as_the_settings_have_it() {
        for (policy, change) in [
            (Policy::Last, "Set(1.0)"),
            (Policy::Sum, "Add(1.0)"),
            (Policy::Min, "Min(1.0)"),
            (Policy::Max, "Max(1.0)"),
        ] {
            let config = config(|config| config.gauges = policy);
            let batch = batch_of("# TYPE g gauge\ng 1\n", &config).unwrap();
            assert_eq!(shown(&batch), [format!("g{{}} gauge {change}")]);
        }
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let config = config(|config| {
            config.rules = vec![
                rule("c_*", Some(Policy::Max), &["a"]),
                rule("*", Some(Policy::Last), &[]),
            ];
        });
        let text = "# TYPE c_total counter\nc_total{b=\"1\",a=\"2\"} 3\nu 5\n";
        assert_eq!(
            shown(&batch_of(text, &config).unwrap()),
            ["c_total{b=\"1\"} counter Max(3.0)", "u{} untyped Set(5.0)"]
        );
        // A replaced histogram goes first, and comes again.
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n";
        let shown = shown(&batch_of(text, &config).unwrap());
        assert_eq!(shown[0], "h{} histogram Delete");
        assert!(shown[1].contains("Histogram {"), "{}", shown[1]);
    }

    #[test]
    fn a_sender_that_says_clearmode_has_it_its_way() {
        let config = config(|config| config.gauges = Policy::Max);
        let text = "# TYPE g gauge\ng{clearmode=\"sum\",a=\"1\"} 1\ng{clearmode=\"replace\"} 2\n\
                    # TYPE w_total counter\nw_total{clearmode=\"mean5m\"} 3\n\
                    # TYPE i gauge\ni{clearmode=\"info\",version=\"1\"} 1\n";
        let batch = batch_of(text, &config).unwrap();
        assert_eq!(
            shown(&batch),
            [
                "g{a=\"1\"} gauge Add(1.0)",
                "g{} gauge Set(2.0)",
                "w_total{} gauge Window { mean: true, span: 300s, value: 3.0 }",
                "i{version=\"1\"} gauge Set(1.0)",
            ]
        );
        assert_eq!(batch.replace, [Arc::from("i")]);
    }

    #[test]
    fn what_cannot_be_done_is_told_with_family_and_line() {
        let told = |text: &str| batch_of(text, &config(|_| {})).unwrap_err().to_string();
        assert!(
            told("u 1\nm{clearmode=\"never\"} 1\n")
                .starts_with("family m, line 2: clearmode \"never\" is not known"),
        );
        let window = "# TYPE h histogram\nh_bucket{le=\"+Inf\",clearmode=\"sum5m\"} 2\n";
        assert!(told(window).ends_with("a histogram has no window (clearmode)"));
        assert!(told("# TYPE h histogram\nh 1\n").ends_with("h is no part of a histogram"));
        let config = config(|config| config.rules = vec![rule("h", Some(Policy::Min), &[])]);
        let told = batch_of("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n", &config);
        assert!(told.unwrap_err().message.ends_with("(policy \"min\")"));
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("a*b", "ab", true),
            ("ab*b", "ab", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axcxb", false),
            ("*x*x*", "axa", false),
            ("*é*", "aéa", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
