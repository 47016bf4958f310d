//! Property tests of sections and batches in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{change_of, push, store, text, update};
use crate::clock::Now;
use crate::exposition::{Families, InputFormat, Kind, Labels, ParsedLine, Parser, TextLimits};
use crate::registry::{Batch, BoundsPolicy, Change as Op, Update};
use crate::store::write::change::Write;

/// Checks that each family with samples has one head and no other family has one, and
/// that every series is exposed once.
pub fn check(text: &str) {
    let families = Families::parse(text, InputFormat::Text, &TextLimits::default());
    let families = families.unwrap_or_else(|fault| panic!("{fault} in\n{text}"));
    let with_samples: BTreeSet<&str> = families.iter().map(|family| family.name()).collect();
    let mut parser = Parser::new(text, InputFormat::Text);
    let mut labels = Labels::new();
    let mut heads = BTreeSet::new();
    while let Some(entry) = parser.next(&mut labels).unwrap() {
        if let ParsedLine::Type { name, .. } = entry {
            assert!(heads.insert(name), "a second head of {name} in\n{text}");
        }
    }
    assert_eq!(heads, with_samples, "{text}");
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8, Vec<(u8, u8, u8)>),
    Operate(Vec<(u8, u8, u8, bool)>, Option<u8>),
    Later(u64),
    Snapshot,
}

fn any_step() -> impl Strategy<Value = Step> {
    let sample = (0..6_u8, 0..3_u8, 0..5_u8);
    let op = (0..6_u8, 0..3_u8, 0..7_u8, any::<bool>());
    prop_oneof![
        3 => (0..3_u8, vec(sample, 0..4)).prop_map(|(app, samples)| Step::Push(app, samples)),
        4 => (vec(op, 0..4), proptest::option::weighted(0.1, 0..6_u8))
            .prop_map(|(ops, replace)| Step::Operate(ops, replace)),
        1 => (0..30_u64).prop_map(Step::Later),
        3 => Just(Step::Snapshot),
    ]
}

/// Names that clash: among them series of a histogram, and two that are equal in the
/// legacy character set.
const NAMES: [&str; 6] = ["h", "h_sum", "g", "h_bucket", "g.1", "g_1"];

fn section_text(samples: &[(u8, u8, u8)]) -> String {
    let mut families: BTreeMap<u8, (u8, BTreeSet<u8>)> = BTreeMap::new();
    for (name, labels, kind) in samples {
        let family = families
            .entry(*name)
            .or_insert_with(|| (*kind, BTreeSet::new()));
        family.1.insert(*labels);
    }
    let mut out = String::new();
    for (name, (kind, labels)) in families {
        let name = NAMES[usize::from(name)];
        let (quoted, start) = match name {
            "g.1" => ("\"g.1\"".to_owned(), "{\"g.1\",".to_owned()),
            name => (name.to_owned(), format!("{name}{{")),
        };
        let histogram = kind == 0 && name == "h";
        let word = if histogram {
            "histogram"
        } else {
            ["gauge", "untyped"][usize::from(kind % 2)]
        };
        out.push_str(&format!("# TYPE {quoted} {word}\n"));
        for label in labels {
            if histogram {
                out.push_str(&format!(
                    "h_bucket{{l=\"{label}\",le=\"1\"}} 1\nh_count{{l=\"{label}\"}} 1\n"
                ));
            } else {
                out.push_str(&format!("{start}l=\"{label}\"}} 1\n"));
            }
        }
    }
    out
}

fn op(name: u8, label: u8, what: u8, ttl: bool) -> Update {
    let observe = Op::Observe {
        native: None,
        value: f64::from(label),
        times: 1.0,
        buckets: Arc::from([1.0, 2.0]),
    };
    let counts = |bound| Op::Histogram {
        buckets: vec![(1.0, 1.0), (bound, 1.0)],
        sum: None,
        count: Some(2.0),
    };
    let (kind, change) = match what {
        0 => (Kind::Histogram, observe),
        1 => (Kind::Histogram, counts(3.0)),
        2 => (Kind::Gauge, Op::Add(1.0)),
        3 => (Kind::Untyped, Op::Set(2.0)),
        4 => {
            let span = Duration::from_secs(20);
            let (mean, value) = (label > 0, f64::from(label));
            (Kind::Gauge, Op::Window { mean, span, value })
        }
        _ => (Kind::Gauge, Op::Delete),
    };
    let mut update = update(
        NAMES[usize::from(name)],
        kind,
        &[("l", &label.to_string())],
        change,
    );
    update.ttl = ttl.then_some(Duration::from_secs(10));
    update
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After any writes and batches in any order, the output can be parsed, has every
    /// series once and one head for each family with samples. A rejected change leaves
    /// the output as it was. Snapshots on the way make no difference.
    #[test]
    fn sections_and_aggregated_families_never_clash_in_the_output(steps in vec(any_step(), 1..40)) {
        let store = store();
        let unseen = self::store();
        let mut now = Now::read();
        for step in steps {
            let mut before = None;
            let done = match step {
                Step::Push(app, samples) => {
                    before = (app == 0).then(|| text(&store));
                    let text = section_text(&samples);
                    let apply = |store| {
                        let (change, good) = change_of(store, &format!("app{app}"), &text);
                        good && store.apply(Write::one(change), now).is_ok()
                    };
                    let done = apply(&store);
                    prop_assert_eq!(apply(&unseen), done);
                    done
                }
                Step::Operate(ops, replace) => {
                    before = ops.first().is_some_and(|op| op.3).then(|| text(&store));
                    let batch = || Batch {
                        replace: replace.iter().map(|name| Arc::from(NAMES[usize::from(*name)])).collect(),
                        updates: ops.iter().map(|(name, label, what, ttl)| op(*name, *label, *what, *ttl)).collect(),
                        bounds_policy: BoundsPolicy::Union,
                        existing_only: false,
                    };
                    let done = store.operate(batch(), now).is_ok();
                    prop_assert_eq!(unseen.operate(batch(), now).is_ok(), done);
                    done
                }
                Step::Later(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    prop_assert_eq!(store.expire_series(now), unseen.expire_series(now));
                    true
                }
                Step::Snapshot => {
                    check(&text(&store));
                    true
                }
            };
            if let Some(before) = before.filter(|_| !done) {
                prop_assert_eq!(text(&store), before);
            }
        }
        let out = text(&store);
        check(&out);
        prop_assert_eq!(text(&unseen), &*out);
        let samples = out.lines().filter(|line| !line.starts_with('#')).count();
        prop_assert_eq!(store.read().families.series(), samples);
        // When everything is removed, nothing is left.
        for app in 0..3 {
            push(&store, &format!("app{app}"), "").unwrap();
        }
        let replace = NAMES.map(Arc::from).to_vec();
        store.operate(Batch { replace, ..Batch::default() }, now).unwrap();
        prop_assert_eq!(text(&store), "");
        prop_assert_eq!(store.read().weight, 0);
        prop_assert_eq!(store.read().families.series(), 0);
    }
}
