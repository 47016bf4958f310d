//! The model: the rules of the registry over plain maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::steps::{FAMILIES, LABELS, LIMITS, SPAN, Step, StepChange};
use exporter_proxy::exposition::{Kind, LabelText, label_pairs, write_number};
use exporter_proxy::registry::BoundsPolicy;

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub families: BTreeMap<&'static str, ModelFamily>,
    /// The time, in seconds.
    pub now: u64,
}

#[derive(Debug, Clone)]
pub struct ModelFamily {
    pub kind: Kind,
    pub help: Option<String>,
    /// Whether an update gave an untyped family its type.
    typed: bool,
    bounds: Option<Vec<i32>>,
    pub series: BTreeMap<&'static str, ModelSeries>,
}

#[derive(Debug, Clone)]
pub struct ModelSeries {
    value: Value,
    deadline: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    /// Whether the mean is shown, and the values with their times.
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

impl Model {
    /// The model after a batch; `None` if the batch must be rejected.
    pub fn after(&self, replace: &[usize], steps: &[Step], policy: BoundsPolicy) -> Option<Model> {
        let mut model = self.clone();
        for family in replace {
            if let Some(family) = model.families.get_mut(FAMILIES[*family].0) {
                family.series.clear();
                family.bounds = None;
            }
        }
        for step in steps {
            model.step(step, policy)?;
        }
        for (name, family) in &model.families {
            let before = self.families.get(name).map(|before| before.kind);
            let typed = family.typed && before.is_none_or(|before| before == Kind::Untyped);
            let countable = |series: &ModelSeries| match series.value {
                Value::Number(value) => value.is_finite() && value >= 0.0,
                _ => false,
            };
            if typed && family.kind == Kind::Counter && !family.series.values().all(countable) {
                return None;
            }
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

    fn step(&mut self, step: &Step, policy: BoundsPolicy) -> Option<()> {
        let name = FAMILIES[step.family].0;
        let labels = LABELS[step.labels];
        if matches!(step.change, StepChange::Delete) {
            if let Some(family) = self.families.get_mut(name) {
                family.series.remove(labels);
            }
            return Some(());
        }
        let now = self.now;
        let family = self.families.entry(name).or_insert_with(|| ModelFamily {
            kind: step.kind(),
            help: None,
            typed: false,
            bounds: None,
            series: BTreeMap::new(),
        });
        match (family.kind, step.kind()) {
            (own, kind) if own == kind => {}
            (Kind::Untyped, kind @ (Kind::Counter | Kind::Gauge)) => {
                family.kind = kind;
                family.typed = true;
            }
            (Kind::Counter | Kind::Gauge, Kind::Untyped) => {}
            _ => return None,
        }
        if step.help && family.help.is_none() {
            family.help = Some(format!("help {}", step.labels));
        }
        let before = family.series.get(labels).map(|series| series.value.clone());
        if before.is_none() {
            let own = family.kind == Kind::Histogram && labels.starts_with("le=");
            if own || labels.len() > LIMITS.label_bytes {
                return None;
            }
        }
        let value = match family.kind {
            Kind::Histogram => histogram(before, step, family.bounds.as_deref(), policy)?,
            Kind::Summary => summary(before.as_ref(), step)?,
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

    /// Removes expired series, and returns their number.
    pub fn expire(&mut self) -> usize {
        let mut removed = 0;
        for family in self.families.values_mut() {
            let before = family.series.len();
            let now = self.now;
            family
                .series
                .retain(|_, series| series.deadline.is_none_or(|deadline| deadline > now));
            removed += before - family.series.len();
        }
        self.families.retain(|_, family| !family.series.is_empty());
        removed
    }

    /// All samples, one on each line.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            for (labels, series) in &family.series {
                let mut line = |suffix: &str, le: Option<String>, value: f64| {
                    let mut all: Vec<(String, String)> = label_pairs(labels)
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
                        line("", None, window(&series.value, *mean, self.now));
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
    let Value::Window(_, values) = value else {
        return f64::NAN;
    };
    let recent: Vec<f64> = values
        .iter()
        .filter(|(at, _)| at + SPAN > now)
        .map(|(_, value)| *value)
        .collect();
    // The sum of an empty window is -0.
    let sum: f64 = recent.iter().sum::<f64>() + 0.0;
    if mean { sum / recent.len() as f64 } else { sum }
}

fn number(before: Option<Value>, step: &Step, kind: Kind, now: u64) -> Option<Value> {
    if let StepChange::Window(mean, value) = step.change {
        let mut values = match before {
            Some(Value::Window(own, values)) if own == mean => values,
            _ => Vec::new(),
        };
        values.push((now, f64::from(value)));
        return (kind == Kind::Gauge).then_some(Value::Window(mean, values));
    }
    let old = match &before {
        Some(Value::Number(value)) => Some(*value),
        Some(it @ Value::Window(mean, _)) => Some(window(it, *mean, now)),
        _ => None,
    };
    let old = old.filter(|old| !old.is_nan());
    let (operand, value) = match step.change {
        StepChange::Add(value) => (f64::from(value), old.unwrap_or(0.0) + f64::from(value)),
        StepChange::Set(value) => (f64::from(value), f64::from(value)),
        StepChange::Min(value) => (
            f64::from(value),
            old.map_or(f64::from(value), |old| old.min(f64::from(value))),
        ),
        StepChange::Max(value) => (value, old.map_or(value, |old| old.max(value))),
        _ => return None,
    };
    let good = kind != Kind::Counter || (operand.is_finite() && operand >= 0.0);
    good.then_some(Value::Number(value))
}

fn summary(before: Option<&Value>, step: &Step) -> Option<Value> {
    if !matches!(step.change, StepChange::Push { .. }) {
        return None;
    }
    let (_, sum, count) = step.buckets();
    if sum.is_none() && count.is_none() {
        return None;
    }
    let (old_sum, old_count) = match before {
        Some(Value::Summary { sum, count }) => (*sum, *count),
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
    policy: BoundsPolicy,
) -> Option<Value> {
    let old = match before {
        Some(Value::Histogram {
            buckets,
            count,
            sum,
        }) => Some((buckets, count, sum)),
        _ => None,
    };
    if let StepChange::Observe(value, bounds) = &step.change {
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
    let StepChange::Push {
        infinite,
        count: counted,
        ..
    } = step.change
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
    let bounds: BTreeSet<i32> = match policy {
        _ if mine == theirs => mine,
        BoundsPolicy::Reject => return None,
        BoundsPolicy::Common => mine.intersection(&theirs).copied().collect(),
        BoundsPolicy::Union => mine.union(&theirs).copied().collect(),
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
