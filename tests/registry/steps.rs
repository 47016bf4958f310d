//! Random events, applied to the registry and to the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use exporter_proxy::exposition::{Kind, LabelText, label_pairs};
use exporter_proxy::registry::{Change, RegistryLimits, Update};

pub const LIMITS: RegistryLimits = RegistryLimits {
    families: 3,
    series: 9,
    series_per_family: 5,
    label_bytes: 40,
    bounds: 4,
};

pub const FAMILIES: [(&str, Kind); 6] = [
    ("c_total", Kind::Counter),
    ("g", Kind::Gauge),
    ("h", Kind::Histogram),
    ("my.s", Kind::Summary),
    ("u", Kind::Untyped),
    ("i", Kind::Histogram),
];

pub const LABELS: [&str; 8] = [
    "",
    "a=\"1\"",
    "a=\"2\"",
    "a=\"x\\\"\\\\,\",z=\"1\"",
    "\"é\"=\"1\"",
    "m=\"1\"",
    "le=\"1\"",
    "a=\"this text is longer than the limit of 40 bytes\"",
];

/// Span of a window in seconds: a hundred steps of one second.
pub const SPAN: u64 = 100;

#[derive(Debug, Clone)]
pub struct Step {
    pub family: usize,
    /// Send another type than the family's.
    pub wrong_kind: bool,
    pub labels: usize,
    pub help: bool,
    pub ttl: Option<u64>,
    pub change: StepChange,
}

#[derive(Debug, Clone)]
pub enum StepChange {
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
pub enum Event {
    Batch {
        replace: Vec<usize>,
        steps: Vec<Step>,
        policy: u8,
    },
    Wait(u64),
    Expire,
    Take,
    /// Take what has changed, and lose every nth block of it.
    Lose(usize),
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
        .prop_map(
            |(buckets, above, infinite, count, sum, odd)| StepChange::Push {
                buckets,
                above,
                infinite,
                count,
                sum,
                monotone: odd > 0,
            },
        );
    let change = prop_oneof![
        4 => (-1..9_i32).prop_map(StepChange::Add),
        2 => (-1..9_i32).prop_map(StepChange::Set),
        1 => (0..9_i32).prop_map(StepChange::Min),
        1 => prop_oneof![Just(3.5), Just(f64::NAN), Just(1e300)].prop_map(StepChange::Max),
        2 => (any::<bool>(), 0..9_i32).prop_map(|(mean, value)| StepChange::Window(mean, value)),
        8 => push,
        2 => (0..6_i32, Just(vec![1, 3])).prop_map(|(value, bounds)| StepChange::Observe(value, bounds)),
        3 => Just(StepChange::Delete),
    ];
    (
        0..FAMILIES.len(),
        (0..20).prop_map(|odd| odd == 0),
        prop_oneof![40 => 0..6_usize, 1 => 6..8_usize],
        any::<bool>(),
        proptest::option::of(1..50_u64),
        change,
    )
        .prop_map(|(family, wrong_kind, labels, help, ttl, change)| Step {
            family,
            wrong_kind,
            labels,
            help,
            ttl,
            change,
        })
        // Mostly changes that the type supports; others are rejected at once.
        .prop_map(|mut step| {
            let kind = FAMILIES[step.family].1;
            let fits = match &step.change {
                StepChange::Push { .. } => matches!(kind, Kind::Histogram | Kind::Summary),
                StepChange::Observe(..) => kind == Kind::Histogram,
                StepChange::Window(..) => kind == Kind::Gauge,
                StepChange::Delete => true,
                _ => matches!(kind, Kind::Counter | Kind::Gauge | Kind::Untyped),
            };
            if !fits && step.labels % 5 != 4 {
                step.family = match step.change {
                    StepChange::Push { .. } if step.help => 2,
                    StepChange::Push { .. } => 3,
                    StepChange::Observe(..) => 5,
                    StepChange::Window(..) => 1,
                    _ => 0,
                };
            }
            step
        })
}

pub fn any_event() -> impl Strategy<Value = Event> {
    let batch = (
        prop_oneof![6 => Just(Vec::new()), 1 => vec(0..FAMILIES.len(), 1..3)],
        vec(any_step(), 0..6),
        0..3_u8,
    );
    prop_oneof![
        8 => batch.prop_map(|(replace, steps, policy)| Event::Batch { replace, steps, policy }),
        2 => (0..40_u64).prop_map(Event::Wait),
        2 => Just(Event::Expire),
        6 => Just(Event::Take),
        1 => (1..4_usize).prop_map(Event::Lose),
    ]
}

impl Step {
    pub fn kind(&self) -> Kind {
        let kind = FAMILIES[self.family].1;
        match (self.wrong_kind, kind) {
            (false, kind) => kind,
            // A number may have any of these types.
            (true, _) => [Kind::Gauge, Kind::Counter, Kind::Untyped][self.labels % 3],
        }
    }

    pub fn buckets(&self) -> (Vec<(f64, f64)>, Option<f64>, Option<f64>) {
        let StepChange::Push {
            buckets,
            above,
            infinite,
            count,
            sum,
            monotone,
        } = &self.change
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

    pub fn update(&self) -> Update {
        let change = match &self.change {
            StepChange::Add(value) => Change::Add(f64::from(*value)),
            StepChange::Set(value) => Change::Set(f64::from(*value)),
            StepChange::Min(value) => Change::Min(f64::from(*value)),
            StepChange::Max(value) => Change::Max(*value),
            StepChange::Window(mean, value) => Change::Window {
                mean: *mean,
                span: Duration::from_secs(SPAN),
                value: f64::from(*value),
            },
            StepChange::Push { .. } => {
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
            StepChange::Observe(value, bounds) => Change::Observe {
                value: f64::from(*value),
                times: 1.0,
                buckets: bounds.iter().map(|bound| f64::from(*bound)).collect(),
                native: None,
            },
            StepChange::Delete => Change::Delete,
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
    let pairs = label_pairs(text);
    LabelText::from_escaped(pairs.map(|label| (label.name, label.value))).unwrap()
}
