//! What is done to the registry and to the model.

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
    "a=\"this one is too long to be let in at all, really\"",
];

/// Seconds that a window of the model spans: a hundred slots of one second.
pub const SPAN: u64 = 100;

#[derive(Debug, Clone)]
pub struct Step {
    pub family: usize,
    /// Another kind than the family has, at times.
    pub wrong_kind: bool,
    pub labels: usize,
    pub help: bool,
    pub ttl: Option<u64>,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
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
    /// Every so many of the blocks that are taken are lost.
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
        (0..20).prop_map(|odd| odd == 0),
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
        // Mostly what goes with the kind; the rest is rejected at once.
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
            // Numbers without a type may be of any.
            (true, _) => [Kind::Gauge, Kind::Counter, Kind::Untyped][self.labels % 3],
        }
    }

    pub fn buckets(&self) -> (Vec<(f64, f64)>, Option<f64>, Option<f64>) {
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

    pub fn update(&self) -> Update {
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
    let pairs = label_pairs(text);
    LabelText::from_escaped(pairs.map(|label| (label.name, label.value))).unwrap()
}
