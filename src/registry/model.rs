//! The registry against a plain model: whatever sequence of batches comes, it
//! refuses the same, shows the same, and claims what it shows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::exposition::{Kind, LabelText, Normal, Timestamps, normalize, write_number};

const LIMITS: Limits = Limits {
    families: 3,
    series: 9,
    series_per_family: 5,
    labels: 40,
    bounds: 4,
};

const FAMILIES: [(&str, Kind); 6] = [
    ("c_total", Kind::Counter),
    ("g", Kind::Gauge),
    ("h", Kind::Histogram),
    ("my.s", Kind::Summary),
    ("u", Kind::Untyped),
    ("i", Kind::Histogram),
];

const LABELS: [&str; 8] = [
    "",
    "a=\"1\"",
    "a=\"2\"",
    "a=\"x\\\"\\\\,\",z=\"1\"",
    "\"é\"=\"1\"",
    "m=\"1\"",
    "le=\"1\"",
    "a=\"this one is too long to be let in at all, really\"",
];

/// Seconds that a window of the model spans: a hundred slots of one second.
const SPAN: u64 = 100;

#[derive(Debug, Clone, Default)]
struct Model {
    families: BTreeMap<&'static str, ModelFamily>,
    now: u64,
}

#[derive(Debug, Clone)]
struct ModelFamily {
    kind: Kind,
    help: Option<String>,
    bounds: Option<Vec<i32>>,
    series: BTreeMap<&'static str, ModelSeries>,
}

#[derive(Debug, Clone)]
struct ModelSeries {
    value: Value,
    deadline: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    /// Whether it is a mean, and what came when.
    Window(bool, Vec<(u64, f64)>),
    Histogram {
        buckets: BTreeMap<i32, f64>,
        count: f64,
        sum: Option<f64>,
    },
    Summary {
        count: Option<f64>,
        sum: Option<f64>,
    },
}

#[derive(Debug, Clone)]
struct Step {
    family: usize,
    /// Another kind than the family has, at times.
    wrong_kind: bool,
    labels: usize,
    help: bool,
    ttl: Option<u64>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Add(i32),
    Set(i32),
    Min(i32),
    Max(f64),
    Window(bool, i32),
    Push {
        buckets: BTreeMap<i32, u8>,
        above: u8,
        infinite: bool,
        count: bool,
        sum: Option<i32>,
        monotone: bool,
    },
    Observe(i32, Vec<i32>),
    Delete,
}

#[derive(Debug, Clone)]
enum Event {
    Batch {
        replace: Vec<usize>,
        steps: Vec<Step>,
        conflict: u8,
    },
    Passed(u64),
    Expire,
    Take,
}

fn any_step() -> impl Strategy<Value = Step> {
    let bounds = proptest::collection::btree_map(0..5_i32, 0..4_u8, 0..5);
    let push = (
        bounds,
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(-5..5),
        0..20,
    )
        .prop_map(|(buckets, above, infinite, count, sum, odd)| What::Push {
            buckets,
            above,
            infinite,
            count,
            sum,
            monotone: odd > 0,
        });
    let what = prop_oneof![
        4 => (-1..9_i32).prop_map(What::Add),
        2 => (-1..9_i32).prop_map(What::Set),
        1 => (0..9_i32).prop_map(What::Min),
        1 => prop_oneof![Just(3.5), Just(f64::NAN), Just(1e300)].prop_map(What::Max),
        2 => (any::<bool>(), 0..9_i32).prop_map(|(mean, value)| What::Window(mean, value)),
        8 => push,
        2 => (0..6_i32, Just(vec![1, 3])).prop_map(|(value, bounds)| What::Observe(value, bounds)),
        3 => Just(What::Delete),
    ];
    (
        0..FAMILIES.len(),
        (0..60).prop_map(|odd| odd == 0),
        prop_oneof![40 => 0..6_usize, 1 => 6..8_usize],
        any::<bool>(),
        proptest::option::of(1..50_u64),
        what,
    )
        .prop_map(|(family, wrong_kind, labels, help, ttl, what)| Step {
            family,
            wrong_kind,
            labels,
            help,
            ttl,
            what,
        })
        // Mostly what goes with the kind; the rest is refused at once.
        .prop_map(|mut step| {
            let kind = FAMILIES[step.family].1;
            let fits = match &step.what {
                What::Push { .. } => matches!(kind, Kind::Histogram | Kind::Summary),
                What::Observe(..) => kind == Kind::Histogram,
                What::Window(..) => kind == Kind::Gauge,
                What::Delete => true,
                _ => matches!(kind, Kind::Counter | Kind::Gauge | Kind::Untyped),
            };
            if !fits && step.labels % 5 != 4 {
                step.family = match step.what {
                    What::Push { .. } if step.help => 2,
                    What::Push { .. } => 3,
                    What::Observe(..) => 5,
                    What::Window(..) => 1,
                    _ => 0,
                };
            }
            step
        })
}

fn any_event() -> impl Strategy<Value = Event> {
    let batch = (
        prop_oneof![6 => Just(Vec::new()), 1 => vec(0..FAMILIES.len(), 1..3)],
        vec(any_step(), 0..6),
        0..3_u8,
    );
    prop_oneof![
        8 => batch.prop_map(|(replace, steps, conflict)| Event::Batch { replace, steps, conflict }),
        2 => (0..40_u64).prop_map(Event::Passed),
        2 => Just(Event::Expire),
        2 => Just(Event::Take),
    ]
}

impl Step {
    fn kind(&self) -> Kind {
        let kind = FAMILIES[self.family].1;
        match (self.wrong_kind, kind) {
            (false, kind) => kind,
            (true, Kind::Counter) => Kind::Gauge,
            (true, _) => Kind::Counter,
        }
    }

    fn buckets(&self) -> (Vec<(f64, f64)>, Option<f64>, Option<f64>) {
        let What::Push {
            buckets,
            above,
            infinite,
            count,
            sum,
            monotone,
        } = &self.what
        else {
            return (Vec::new(), None, None);
        };
        let mut all = 0.0;
        let mut list = Vec::new();
        for (bound, more) in buckets {
            all += f64::from(*more);
            list.push((
                f64::from(*bound),
                if *monotone { all } else { f64::from(*more) },
            ));
        }
        all += f64::from(*above);
        if *infinite {
            list.push((f64::INFINITY, all));
        }
        (list, sum.map(f64::from), count.then_some(all))
    }

    fn update(&self) -> Update {
        let change = match &self.what {
            What::Add(value) => Change::Add(f64::from(*value)),
            What::Set(value) => Change::Set(f64::from(*value)),
            What::Min(value) => Change::Min(f64::from(*value)),
            What::Max(value) => Change::Max(*value),
            What::Window(mean, value) => Change::Window {
                mean: *mean,
                span: Duration::from_secs(SPAN),
                value: f64::from(*value),
            },
            What::Push { .. } => {
                let (buckets, sum, count) = self.buckets();
                if self.kind() == Kind::Summary {
                    let quantiles = vec![(0.5, 1.0)];
                    Change::Summary {
                        sum,
                        count,
                        quantiles,
                    }
                } else {
                    Change::Histogram {
                        buckets,
                        sum,
                        count,
                    }
                }
            }
            What::Observe(value, bounds) => Change::Observe {
                value: f64::from(*value),
                times: 1.0,
                buckets: bounds.iter().map(|bound| f64::from(*bound)).collect(),
            },
            What::Delete => Change::Delete,
        };
        Update {
            family: Arc::from(FAMILIES[self.family].0),
            kind: self.kind(),
            help: self
                .help
                .then(|| Arc::from(format!("help {}", self.labels))),
            labels: labels(LABELS[self.labels]),
            ttl: self.ttl.map(Duration::from_secs),
            change,
        }
    }
}

fn labels(text: &str) -> LabelText {
    let pairs = crate::exposition::label_pairs(text);
    LabelText::from_escaped(pairs.map(|label| (label.name, label.value))).unwrap()
}

impl Model {
    /// `None` where the batch is refused.
    fn after(&self, replace: &[usize], steps: &[Step], conflict: BucketConflict) -> Option<Model> {
        let mut model = self.clone();
        for family in replace {
            if let Some(family) = model.families.get_mut(FAMILIES[*family].0) {
                family.series.clear();
                family.bounds = None;
            }
        }
        for step in steps {
            model.step(step, conflict)?;
        }
        model.families.retain(|_, family| !family.series.is_empty());
        let series = |model: &Model| {
            model
                .families
                .values()
                .map(|it| it.series.len())
                .sum::<usize>()
        };
        let too_many = model.families.len() > LIMITS.families
            && model.families.len() > self.families.len()
            || series(&model) > LIMITS.series && series(&model) > series(self)
            || model
                .families
                .values()
                .any(|it| it.series.len() > LIMITS.series_per_family);
        (!too_many).then_some(model)
    }

    fn step(&mut self, step: &Step, conflict: BucketConflict) -> Option<()> {
        let name = FAMILIES[step.family].0;
        let labels = LABELS[step.labels];
        if matches!(step.what, What::Delete) {
            if let Some(family) = self.families.get_mut(name) {
                family.series.remove(labels);
            }
            return Some(());
        }
        let now = self.now;
        let family = self.families.entry(name).or_insert_with(|| ModelFamily {
            kind: step.kind(),
            help: None,
            bounds: None,
            series: BTreeMap::new(),
        });
        if family.kind != step.kind() {
            return None;
        }
        if step.help && family.help.is_none() {
            family.help = Some(format!("help {}", step.labels));
        }
        let before = family.series.get(labels).map(|series| series.value.clone());
        if before.is_none() {
            let own = family.kind == Kind::Histogram && labels.starts_with("le=");
            if own || labels.len() > LIMITS.labels {
                return None;
            }
        }
        let value = match family.kind {
            Kind::Histogram => histogram(before, step, family.bounds.as_deref(), conflict)?,
            Kind::Summary => summary(before, step)?,
            kind => number(before, step, kind, now)?,
        };
        if let (Value::Histogram { buckets, .. }, None) = (&value, &family.bounds) {
            family.bounds = Some(buckets.keys().copied().collect());
        }
        let deadline = step.ttl.map(|ttl| now + ttl);
        family
            .series
            .insert(labels, ModelSeries { value, deadline });
        Some(())
    }

    fn expire(&mut self) -> usize {
        let mut gone = 0;
        for family in self.families.values_mut() {
            let before = family.series.len();
            let now = self.now;
            family
                .series
                .retain(|_, series| series.deadline.is_none_or(|deadline| deadline > now));
            gone += before - family.series.len();
        }
        self.families.retain(|_, family| !family.series.is_empty());
        gone
    }

    /// All samples, a line each.
    fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            for (labels, series) in &family.series {
                let mut line = |suffix: &str, le: Option<String>, value: f64| {
                    let mut all: Vec<(String, String)> = crate::exposition::label_pairs(labels)
                        .map(|label| (label.name.to_owned(), label.value.to_owned()))
                        .collect();
                    all.extend(le.map(|le| ("le".to_owned(), le)));
                    let all = all.iter().map(|(name, value)| (&**name, &**value));
                    let all = LabelText::from_escaped(all).unwrap();
                    let comma = if all.is_empty() { "" } else { "," };
                    let start = match *name {
                        "my.s" => format!("{{\"my.s{suffix}\"{comma}{all}}}"),
                        name if all.is_empty() => format!("{name}{suffix}"),
                        name => format!("{name}{suffix}{{{all}}}"),
                    };
                    let _ = write!(out, "{start} ");
                    write_number(&mut out, value);
                    out.push('\n');
                };
                match &series.value {
                    Value::Number(value) => line("", None, *value),
                    Value::Window(mean, _) => {
                        line("", None, window(&series.value, *mean, self.now))
                    }
                    Value::Histogram {
                        buckets,
                        count,
                        sum,
                    } => {
                        for (bound, count) in buckets {
                            line("_bucket", Some(bound.to_string()), *count);
                        }
                        line("_bucket", Some("+Inf".to_owned()), *count);
                        if let Some(sum) = sum {
                            line("_sum", None, *sum);
                        }
                        line("_count", None, *count);
                    }
                    Value::Summary { count, sum } => {
                        if let Some(sum) = sum {
                            line("_sum", None, *sum);
                        }
                        if let Some(count) = count {
                            line("_count", None, *count);
                        }
                    }
                }
            }
        }
        out
    }
}

fn window(value: &Value, mean: bool, now: u64) -> f64 {
    let Value::Window(_, came) = value else {
        return f64::NAN;
    };
    let held: Vec<f64> = came
        .iter()
        .filter(|(at, _)| at + SPAN > now)
        .map(|(_, value)| *value)
        .collect();
    // Adding nothing up gives -0.
    let sum: f64 = held.iter().sum::<f64>() + 0.0;
    if mean { sum / held.len() as f64 } else { sum }
}

fn number(before: Option<Value>, step: &Step, kind: Kind, now: u64) -> Option<Value> {
    if let What::Window(mean, value) = step.what {
        let mut came = match before {
            Some(Value::Window(own, came)) if own == mean => came,
            _ => Vec::new(),
        };
        came.push((now, f64::from(value)));
        return (kind == Kind::Gauge).then_some(Value::Window(mean, came));
    }
    let old = match &before {
        Some(Value::Number(value)) => Some(*value),
        Some(it @ Value::Window(mean, _)) => Some(window(it, *mean, now)),
        _ => None,
    };
    let old = old.filter(|old| !old.is_nan());
    let (given, value) = match step.what {
        What::Add(value) => (f64::from(value), old.unwrap_or(0.0) + f64::from(value)),
        What::Set(value) => (f64::from(value), f64::from(value)),
        What::Min(value) => (
            f64::from(value),
            old.map_or(f64::from(value), |old| old.min(f64::from(value))),
        ),
        What::Max(value) => (value, old.map_or(value, |old| old.max(value))),
        _ => return None,
    };
    let good = kind != Kind::Counter || (given.is_finite() && given >= 0.0);
    good.then_some(Value::Number(value))
}

fn summary(before: Option<Value>, step: &Step) -> Option<Value> {
    if !matches!(step.what, What::Push { .. }) {
        return None;
    }
    let (_, sum, count) = step.buckets();
    if sum.is_none() && count.is_none() {
        return None;
    }
    let (old_sum, old_count) = match before {
        Some(Value::Summary { sum, count }) => (sum, count),
        _ => (None, None),
    };
    Some(Value::Summary {
        sum: sum.map(|sum| sum + old_sum.unwrap_or(0.0)).or(old_sum),
        count: count
            .map(|count| count + old_count.unwrap_or(0.0))
            .or(old_count),
    })
}

fn histogram(
    before: Option<Value>,
    step: &Step,
    family: Option<&[i32]>,
    conflict: BucketConflict,
) -> Option<Value> {
    let old = match before {
        Some(Value::Histogram {
            buckets,
            count,
            sum,
        }) => Some((buckets, count, sum)),
        _ => None,
    };
    if let What::Observe(value, bounds) = &step.what {
        let new = || {
            family
                .unwrap_or(bounds)
                .iter()
                .map(|bound| (*bound, 0.0))
                .collect()
        };
        let (mut buckets, count, sum) = old.unwrap_or_else(|| (new(), 0.0, None));
        for (bound, count) in &mut buckets {
            *count += f64::from(u8::from(value <= bound));
        }
        return Some(Value::Histogram {
            buckets,
            count: count + 1.0,
            sum: Some(sum.unwrap_or(0.0) + f64::from(*value)),
        });
    }
    let (list, sum, count) = step.buckets();
    let What::Push {
        infinite,
        count: counted,
        ..
    } = step.what
    else {
        return None;
    };
    if !infinite && !counted {
        return None;
    }
    let all = count.or(list.last().map(|(_, count)| *count))?;
    let finite = || list.iter().filter(|(bound, _)| bound.is_finite());
    if !list.iter().map(|(_, count)| *count).is_sorted() || finite().any(|(_, count)| *count > all)
    {
        return None;
    }
    let pushed: BTreeMap<i32, f64> = finite()
        .map(|(bound, count)| (*bound as i32, *count))
        .collect();
    let Some((own, own_count, own_sum)) = old else {
        return (pushed.len() <= LIMITS.bounds).then_some(Value::Histogram {
            buckets: pushed,
            count: all,
            sum,
        });
    };
    let keys = |map: &BTreeMap<i32, f64>| map.keys().copied().collect::<BTreeSet<i32>>();
    let (mine, theirs) = (keys(&own), keys(&pushed));
    let bounds: BTreeSet<i32> = match conflict {
        _ if mine == theirs => mine,
        BucketConflict::Refuse => return None,
        BucketConflict::Common => mine.intersection(&theirs).copied().collect(),
        BucketConflict::Union => mine.union(&theirs).copied().collect(),
    };
    if bounds.len() > LIMITS.bounds || (bounds.is_empty() && !own.is_empty()) {
        return None;
    }
    let at = |map: &BTreeMap<i32, f64>, bound: i32| {
        map.range(..=bound)
            .next_back()
            .map_or(0.0, |(_, count)| *count)
    };
    Some(Value::Histogram {
        buckets: bounds
            .into_iter()
            .map(|bound| (bound, at(&own, bound) + at(&pushed, bound)))
            .collect(),
        count: own_count + all,
        sum: match (own_sum, sum) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
        },
    })
}

/// The registry with what it has shown and claimed so far.
struct Tested {
    registry: Registry,
    hasher: RandomState,
    shown: BTreeMap<(Arc<str>, u32), String>,
    claimed: HashSet<u64>,
    heads: BTreeMap<String, (Kind, Option<String>)>,
}

impl Tested {
    fn new() -> Self {
        let hasher = RandomState::new();
        Tested {
            registry: Registry::new(LIMITS, hasher.clone()),
            hasher,
            shown: BTreeMap::new(),
            claimed: HashSet::new(),
            heads: BTreeMap::new(),
        }
    }

    fn take(&mut self) {
        let changed = self.registry.take_changed();
        for block in changed.gone {
            assert!(
                self.shown.remove(&block).is_some(),
                "{block:?} was never shown"
            );
        }
        for block in changed.blocks {
            let text = String::from_utf8(block.render().to_vec()).unwrap();
            assert!(!text.is_empty());
            self.shown.insert((block.family, block.number), text);
        }
    }

    fn claim(&mut self, claims: &Claims) {
        for hash in &claims.released {
            assert!(self.claimed.remove(hash), "what is released was held");
        }
        for (hash, _) in &claims.claimed {
            assert!(self.claimed.insert(*hash), "what is claimed was free");
        }
        for name in &claims.left {
            assert!(self.heads.remove(&**name).is_some());
        }
        for head in claims.joined.iter().chain(&claims.helped) {
            let help = head.help.as_deref().map(str::to_owned);
            self.heads
                .insert(head.family.to_string(), (head.kind, help));
        }
    }

    fn text(&mut self) -> String {
        self.take();
        self.shown.values().cloned().collect()
    }

    fn check(&mut self, model: &Model) -> Result<(), TestCaseError> {
        let text = self.text();
        let expected = model.text();
        prop_assert_eq!(sorted(&text), sorted(&expected));
        let normal = Normal {
            limits: crate::exposition::Limits::default(),
            added: &[],
            timestamps: Timestamps::Keep,
            hash: &self.hasher,
        };
        let families = normalize(&text, &normal).unwrap();
        let hashes: HashSet<u64> = families
            .iter()
            .flat_map(|family| &family.series)
            .copied()
            .collect();
        prop_assert_eq!(&hashes, &self.claimed);
        let heads: BTreeMap<String, (Kind, Option<String>)> = model
            .families
            .iter()
            .map(|(name, family)| ((*name).to_owned(), (family.kind, family.help.clone())))
            .collect();
        prop_assert_eq!(&self.heads, &heads);
        prop_assert_eq!(self.registry.families(), heads.len());
        let series: usize = model.families.values().map(|it| it.series.len()).sum();
        prop_assert_eq!(self.registry.series(), series);
        Ok(())
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_registry_is_the_model(events in vec(any_event(), 1..40)) {
        let mut tested = Tested::new();
        let mut model = Model::default();
        let start = Instant::now();
        let policies = [BucketConflict::Common, BucketConflict::Union, BucketConflict::Refuse];
        // The first moment that is told is the beginning.
        tested.registry.expire(start);
        for event in events {
            let at = start + Duration::from_secs(model.now);
            match event {
                Event::Batch { replace, steps, conflict } => {
                    let conflict = policies[usize::from(conflict)];
                    let batch = Batch {
                        replace: replace.iter().map(|family| Arc::from(FAMILIES[*family].0)).collect(),
                        updates: steps.iter().map(Step::update).collect(),
                        conflict,
                    };
                    match (tested.registry.check(batch, at), model.after(&replace, &steps, conflict)) {
                        (Ok(plan), Some(after)) => {
                            tested.claim(plan.claims());
                            tested.registry.commit(plan);
                            model = after;
                        }
                        (Err(_), None) => {}
                        (Ok(_), None) => prop_assert!(false, "{steps:?} is to be refused"),
                        (Err(refused), Some(_)) => prop_assert!(false, "{steps:?}: {refused}"),
                    }
                }
                Event::Passed(seconds) => model.now += seconds,
                Event::Expire => {
                    let (series, claims) = tested.registry.expire(at);
                    tested.claim(&claims);
                    prop_assert_eq!(series, model.expire());
                    prop_assert!(!tested.registry.is_due(at));
                }
                Event::Take => {
                    // This alone tells the time, and takes nothing else.
                    let (series, claims) = tested.registry.expire(at);
                    tested.claim(&claims);
                    prop_assert_eq!(series, model.expire());
                    tested.check(&model)?;
                }
            }
        }
        let at = start + Duration::from_secs(model.now);
        let (_, claims) = tested.registry.expire(at);
        tested.claim(&claims);
        model.expire();
        tested.check(&model)?;

        // When all is gone, nothing is left.
        let replace = (0..FAMILIES.len()).map(|family| Arc::from(FAMILIES[family].0)).collect();
        let batch = Batch { replace, ..Batch::default() };
        let plan = tested.registry.check(batch, at).unwrap();
        tested.claim(plan.claims());
        tested.registry.commit(plan);
        tested.check(&Model::default())?;
        prop_assert_eq!(tested.registry.weight(), 0);
        let registry = &tested.registry;
        prop_assert!(registry.expiring.is_empty() && registry.aging.is_empty());
        prop_assert!(registry.changed.is_empty() && registry.gone.is_empty());
        prop_assert_eq!(registry.by_name.len(), 0);
    }
}
