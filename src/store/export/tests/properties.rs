use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::registry::NativeSpec;

/// One step of a random history. All names are few, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Push(u8, Vec<Sample>, Option<u64>),
    Verbatim(u8, u8),
    Update(u8, Vec<Sample>, bool, bool),
    Remove(u8),
    Fail(u8),
    Operate(Vec<(u8, u8, u8, u8)>, Option<u8>),
    Many(u8, u8),
    Later(u64),
    Snapshot(bool),
    Take,
}

/// Name, label, kind and help of a sample.
type Sample = (u8, u8, u8, u8);

fn any_step() -> impl Strategy<Value = Step> {
    let sample = (0..8_u8, 0..3_u8, 0..4_u8, 0..3_u8);
    let samples = vec(sample, 0..5);
    let op = (0..8_u8, 0..4_u8, 0..9_u8, 0..4_u8);
    let lifetime = proptest::option::weighted(0.5, 1..40_u64);
    let replaced = proptest::option::weighted(0.1, 0..8_u8);
    prop_oneof![
        4 => (0..8_u8, samples.clone(), lifetime).prop_map(|(id, samples, life)| Step::Push(id, samples, life)),
        1 => (0..8_u8, 0..4_u8).prop_map(|(id, lines)| Step::Verbatim(id, lines)),
        3 => (4..8_u8, samples, any::<bool>(), any::<bool>())
            .prop_map(|(id, samples, keep, failed)| Step::Update(id, samples, keep, failed)),
        1 => (0..8_u8).prop_map(Step::Remove),
        1 => (0..8_u8).prop_map(Step::Fail),
        6 => (vec(op, 0..5), replaced).prop_map(|(ops, replace)| Step::Operate(ops, replace)),
        1 => (0..8_u8, 0..9_u8).prop_map(|(name, what)| Step::Many(name, what)),
        2 => (1..30_000_u64).prop_map(Step::Later),
        1 => any::<bool>().prop_map(Step::Snapshot),
        2 => Just(Step::Take),
    ]
}

const NAMES: [&str; 8] = ["h", "h_sum", "g", "h_bucket", "g.1", "g_1", "a/head", "up"];

fn id(number: u8) -> SectionId {
    match number {
        0..3 => SectionId::new(&format!("app/{number}"), Producer::App),
        3 => SectionId::new("target", Producer::Target),
        _ => SectionId::new(&format!("job=\"{number}\""), Producer::Group),
    }
}

fn quoted(name: &str) -> (String, String) {
    match name {
        "g.1" | "a/head" => (format!("\"{name}\""), format!("{{\"{name}\",")),
        name => (name.to_owned(), format!("{name}{{")),
    }
}

/// OpenMetrics text of these samples, for its units and kinds.
fn text_of(samples: &[Sample]) -> String {
    let mut families: BTreeMap<u8, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        families.entry(sample.0).or_default().push(*sample);
    }
    let mut out = String::new();
    for (name, mut samples) in families {
        let name = NAMES[usize::from(name)];
        let (head, start) = quoted(name);
        let (_, _, kind, help) = samples[0];
        let kind = ["gauge", "unknown", "stateset", "gauge"][usize::from(kind)];
        let _ = writeln!(out, "# TYPE {head} {kind}");
        if help > 0 {
            let _ = writeln!(out, "# HELP {head} help {help}");
        }
        samples.sort_unstable();
        samples.dedup_by_key(|sample| sample.1);
        for (_, label, ..) in samples {
            let label = ["x", "", "y"][usize::from(label)];
            let state = if kind == "stateset" { "1" } else { "2.5" };
            let more = if kind == "stateset" {
                format!("{head}=\"s\",")
            } else {
                String::new()
            };
            let _ = writeln!(out, "{start}{more}e=\"\",l=\"{label}\"}} {state}");
        }
    }
    out + "# EOF\n"
}

/// A family with a native histogram, beside the classic ones.
fn native(store: &Store, help: u8) -> FamilyText {
    let text = "# TYPE n histogram\nn_bucket{le=\"+Inf\"} 3\nn_sum 0\nn_count 3\n";
    let mut family = parsed(store, text).remove(0);
    let mut histogram = vec![8, 3, 0x31];
    histogram.extend_from_slice(&1.0_f64.to_le_bytes());
    histogram.extend_from_slice(&[0x38, 3]);
    family.help = (help > 0).then(|| format!("native {help}"));
    family.natives = vec![NativeHistogram {
        labels: Box::from(""),
        histogram: histogram.into(),
        gauge: false,
    }];
    family
}

fn families(store: &Store, samples: &[Sample]) -> Vec<FamilyText> {
    let mut families = parsed(store, &text_of(samples));
    if let Some((7, _, _, help)) = samples.first() {
        families.push(native(store, *help));
    }
    families
}

fn op((name, label, what, more): (u8, u8, u8, u8)) -> Update {
    let number = f64::from(label) - 0.9;
    let observe = |times| Op::Observe {
        value: number,
        times,
        buckets: Arc::from([1.0, 2.0]),
        native: (what == 7).then_some(NativeSpec {
            schema: 3,
            max_buckets: 2,
        }),
    };
    let counts = Op::Histogram {
        buckets: vec![(1.0, 1.0), (3.0, 1.3)],
        sum: (label > 1).then_some(0.1),
        count: Some(2.3),
    };
    let summary = Op::Summary {
        sum: (label > 1).then_some(0.1),
        count: Some(1.7),
        quantiles: Vec::new(),
    };
    let (kind, change) = match what {
        0 => (Kind::Histogram, observe(1.0 / 0.3)),
        1 => (Kind::Histogram, counts),
        2 => (Kind::Gauge, Op::Add(number)),
        3 => (Kind::Untyped, Op::Set(-number)),
        4 => {
            let span = Duration::from_millis(20_000 + u64::from(label) * 333);
            let (mean, value) = (label > 0, number);
            (Kind::Gauge, Op::Window { mean, span, value })
        }
        5 => (Kind::Counter, Op::Add(number)),
        6 => (Kind::Summary, summary),
        7 => (Kind::Histogram, observe(1.0)),
        _ => (Kind::Gauge, Op::Delete),
    };
    let mut update = update(NAMES[usize::from(name)], kind, &label.to_string(), change);
    update.ttl = (more == 1).then_some(Duration::from_secs(10));
    update.help = (more > 1).then(|| Arc::from(format!("ops {more}")));
    update
}

/// Does a step. `large` applies writes as large ones.
fn run(store: &Store, step: &Step, now: Now, large: bool) -> bool {
    let apply = |change: Change| {
        let write = Write::one(change);
        if large {
            let _turn = store.turn();
            store.apply_large(write, now).is_ok()
        } else {
            store.apply(write, now).is_ok()
        }
    };
    match step {
        Step::Push(of, samples, lifetime) => apply(Change::Replace {
            id: id(*of),
            content: Content::Families(families(store, samples)),
            origin: origin(*of),
            lifetime: lifetime.map(Duration::from_secs),
        }),
        Step::Verbatim(of, lines) => apply(Change::Replace {
            id: id(*of % 3),
            content: Content::Verbatim(Text::new(&"v 1\n".repeat(usize::from(*lines)))),
            origin: origin(*of),
            lifetime: None,
        }),
        Step::Update(of, samples, keep, failed) => apply(Change::Update {
            id: id(*of),
            families: families(store, samples),
            defaults: parsed(
                store,
                "# HELP p_seconds when\n# TYPE p_seconds gauge\np_seconds 1\n",
            )
            .into_iter()
            .filter(|_| *of == 4)
            .collect(),
            others: if *keep {
                OtherFamilies::Keep
            } else {
                OtherFamilies::Drop
            },
            origin: origin(*of),
            lifetime: keep.then_some(Duration::from_secs(20)),
            problem: failed.then(|| "it \"failed\"".to_owned()),
        }),
        Step::Remove(of) => apply(Change::Remove {
            id: id(*of),
            unless_since: None,
        }),
        Step::Fail(of) => apply(Change::Fail {
            id: id(*of),
            origin: origin(*of),
            problem: "no".to_owned(),
            keep: Some(Duration::from_secs(5)),
        }),
        Step::Operate(ops, replace) => {
            let mut batch = batch(ops.iter().map(|it| op(*it)).collect());
            batch.replace = replace
                .iter()
                .map(|name| Arc::from(NAMES[usize::from(*name)]))
                .collect();
            store.operate(batch, now).is_ok()
        }
        Step::Many(name, what) => {
            // Several blocks; some are removed again.
            let many = (0..70).map(|number| {
                let mut update = op((*name, 1, *what, number % 5));
                update.labels = LabelText::from_plain([("n", &*number.to_string())]).unwrap();
                update
            });
            store.operate(batch(many.collect()), now).is_ok()
        }
        Step::Later(_) => {
            store.expire(now);
            while store.expire_series(now) > 0 {}
            true
        }
        Step::Snapshot(natives) => {
            match natives {
                true => store.snapshot_with_natives(),
                false => store.snapshot(),
            };
            true
        }
        Step::Take => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Changes that are taken in pieces make the same records as all at once. A store that is
    /// restored from them exposes the same, to the byte, and continues in the same way.
    #[test]
    fn a_restored_store_is_the_same_and_continues_alike(
        history in vec((any_step(), any::<bool>()), 1..50),
        future in vec((any_step(), any::<bool>()), 0..20),
        pause in 0..20_000_u64,
    ) {
        let store = store();
        let mut now = start();
        let mut kept = Records::new();
        // The registry's time begins with the first operation.
        run(&store, &Step::Operate(vec![(2, 0, 2, 0)], None), now, false);
        for (step, large) in &history {
            if let Step::Later(millis) = step {
                now = now.after(Duration::from_millis(*millis));
            }
            run(&store, step, now, *large);
            if matches!(step, Step::Take) {
                take(&store, now, &mut kept);
            }
        }
        // Targets are not kept.
        run(&store, &Step::Remove(3), now, false);
        take(&store, now, &mut kept);
        prop_assert_eq!(timeless(&kept), timeless(&everything(&store, now)));

        now = now.after(Duration::from_millis(pause));
        run(&store, &Step::Later(0), now, false);
        let (other, restored) = restored(&kept, now);
        prop_assert_eq!(restored.skipped, 0, "{:?}", restored.skips);
        prop_assert_eq!(seen(&other, now), seen(&store, now));
        let mut kept_by_other = kept.clone();
        for (step, large) in &future {
            if let Step::Later(millis) = step {
                now = now.after(Duration::from_millis(*millis));
            }
            let done = run(&store, step, now, *large);
            prop_assert_eq!(run(&other, step, now, *large), done);
            if matches!(step, Step::Take) {
                take(&store, now, &mut kept);
                take(&other, now, &mut kept_by_other);
            }
            prop_assert_eq!(seen(&other, now), seen(&store, now), "{:?}", step);
        }
        run(&store, &Step::Remove(3), now, false);
        run(&other, &Step::Remove(3), now, false);
        take(&store, now, &mut kept);
        take(&other, now, &mut kept_by_other);
        prop_assert_eq!(timeless(&kept_by_other), timeless(&kept));
        prop_assert_eq!(timeless(&kept_by_other), timeless(&everything(&other, now)));
    }

    /// A value that is cut off or random is an error or another value, and never a
    /// panic.
    #[test]
    fn damaged_records_are_errors(
        history in vec((any_step(), any::<bool>()), 1..30),
        at in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        random in vec(any::<u8>(), 0..60),
        how in 0..4_u8,
    ) {
        let store = store();
        let now = start();
        for (step, large) in &history {
            run(&store, step, now, *large);
        }
        let mut kept = everything(&store, now);
        prop_assume!(!kept.is_empty());
        let key = kept.keys().nth(at.index(kept.len())).unwrap().clone();
        let value = kept.get_mut(&key).unwrap();
        match how {
            0 => value.truncate(cut.index(value.len())),
            1 => {
                let place = cut.index(value.len());
                value[place] ^= byte | 1;
            }
            2 => value.extend_from_slice(&random),
            _ => *value = [&[1][..], &random].concat(),
        }
        let other = self::store();
        match other.restore(records(&kept), now) {
            Ok(_) => drop(seen(&other, now)),
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}
