mod natives;
mod properties;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::properties::check;
use crate::clock::Now;
use crate::exposition::{
    CanonicalOptions, Content, Kind, LabelText, TextLimits, TimestampPolicy, canonicalize,
};
use crate::peer::Origin;
use crate::registry;
use crate::registry::Batch;
use crate::registry::{Change as Op, Update};
use crate::store::limits::StoreLimits;
use crate::store::rejection::{BatchRejection, Rejection};
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::store::Store;
use crate::store::write::change::Change;
use crate::store::write::change::Write;

fn store_of(bytes: usize, registry: registry::RegistryLimits) -> Store {
    let limits = StoreLimits {
        apps: 10,
        groups: 1000,
        bytes,
        registry,
    };
    Store::new(limits, false)
}

pub fn store() -> Store {
    store_of(1 << 20, registry::RegistryLimits::default())
}

pub fn text(store: &Store) -> String {
    let snapshot = store.snapshot();
    let text = String::from_utf8(snapshot.text()).unwrap();
    assert_eq!(text.len(), snapshot.len());
    text
}

/// Pushes an app's text, parsed into families.
pub fn push(store: &Store, app: &str, text: &str) -> Result<(), Rejection> {
    let (change, good) = change_of(store, app, text);
    assert!(good, "{text}");
    store.apply(Write::one(change), Now::read())
}

pub fn change_of(store: &Store, app: &str, text: &str) -> (Change, bool) {
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: store.hasher(),
    };
    let families = canonicalize(text, &options);
    let good = families.is_ok();
    let change = Change::Replace {
        id: SectionId::new(app, Producer::App),
        content: Content::Families(families.unwrap_or_default()),
        origin: Origin::default(),
        lifetime: None,
    };
    (change, good)
}

pub fn update(family: &str, kind: Kind, labels: &[(&str, &str)], change: Op) -> Update {
    Update {
        family: Arc::from(family),
        kind,
        help: None,
        labels: LabelText::from_plain(labels.iter().copied()).unwrap(),
        ttl: None,
        change,
    }
}

fn add(family: &str, labels: &[(&str, &str)], value: f64) -> Update {
    update(family, Kind::Counter, labels, Op::Add(value))
}

fn delete(family: &str, labels: &[(&str, &str)]) -> Update {
    update(family, Kind::Untyped, labels, Op::Delete)
}

fn operate(store: &Store, updates: Vec<Update>) -> Result<(), BatchRejection> {
    let batch = Batch {
        updates,
        ..Batch::default()
    };
    store.operate(batch, Now::read())
}

#[test]
fn aggregated_families_are_exposed_among_those_of_sections() {
    let store = store();
    push(
        &store,
        "a",
        "# TYPE a gauge\na 1\n# TYPE m counter\nm{app=\"a\"} 1\n",
    )
    .unwrap();
    let mut helped = add("m", &[("x", "y")], 2.0);
    helped.help = Some(Arc::from("first"));
    operate(&store, vec![helped, add("n", &[], 1.5)]).unwrap();
    let both = "# TYPE a gauge\na 1\n# HELP m first\n# TYPE m counter\nm{app=\"a\"} 1\nm{x=\"y\"} 2\n\
                # TYPE n counter\nn 1.5\n";
    assert_eq!(text(&store), both);
    // The first help text stays.
    push(
        &store,
        "b",
        "# HELP n other\n# TYPE n counter\nn{b=\"b\"} 1\n",
    )
    .unwrap();
    push(
        &store,
        "a",
        "# HELP m other\n# TYPE m counter\nm{app=\"a\"} 1\n",
    )
    .unwrap();
    operate(&store, vec![add("m", &[("x", "y")], 1.0)]).unwrap();
    let out = text(&store);
    assert!(out.contains("# HELP m first\n"), "{out}");
    assert!(out.contains("\nm{x=\"y\"} 3\n"), "{out}");

    // Each is removed without the other.
    push(&store, "a", "").unwrap();
    push(&store, "b", "").unwrap();
    assert_eq!(
        text(&store),
        "# HELP m first\n# TYPE m counter\nm{x=\"y\"} 3\n# HELP n other\n# TYPE n counter\nn 1.5\n"
    );
    operate(&store, vec![delete("m", &[("x", "y")]), delete("n", &[])]).unwrap();
    assert_eq!(text(&store), "");
    assert_eq!(store.read().families.series(), 0);
    assert!(!store.read().families.is_exposed("m"));
    assert_eq!(
        (store.aggregated_totals().bytes, store.read().weight),
        (0, 0)
    );
}

#[test]
fn a_later_help_text_is_exposed() {
    let store = store();
    operate(&store, vec![add("m", &[], 1.0)]).unwrap();
    assert_eq!(text(&store), "# TYPE m counter\nm 1\n");
    let mut helped = add("m", &[], 1.0);
    helped.help = Some(Arc::from("now"));
    operate(&store, vec![helped]).unwrap();
    assert_eq!(text(&store), "# HELP m now\n# TYPE m counter\nm 2\n");
}

#[test]
fn a_later_type_is_exposed_unless_sections_expose_the_family() {
    let store = store();
    let untyped = |labels: &[(&str, &str)]| update("m", Kind::Untyped, labels, Op::Add(2.0));
    operate(&store, vec![untyped(&[("a", "1")])]).unwrap();
    push(&store, "a", "# TYPE m untyped\nm{app=\"a\"} 1\n").unwrap();
    let rejection = operate(&store, vec![add("m", &[("a", "1")], 1.0)]).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::KindConflict { .. }),
        "{rejection}"
    );
    let both = "# TYPE m untyped\nm{a=\"1\"} 2\nm{app=\"a\"} 1\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&text(&store)), sorted(both));
    push(&store, "a", "").unwrap();
    // Enough series for several pages.
    let many: Vec<Update> = (0..2000)
        .map(|number| untyped(&[("number", &number.to_string())]))
        .collect();
    operate(&store, many).unwrap();
    let before = text(&store);
    operate(&store, vec![add("m", &[("a", "1")], 1.0)]).unwrap();
    let expected = before
        .replace("# TYPE m untyped", "# TYPE m counter")
        .replace("m{a=\"1\"} 2\n", "m{a=\"1\"} 3\n");
    assert_eq!(text(&store), expected);
    push(&store, "a", "# TYPE m counter\nm{app=\"a\"} 1\n").unwrap();
}

#[test]
fn a_batch_that_clashes_with_sections_changes_nothing() {
    let store = store();
    let taken = "# TYPE g gauge\ng{a=\"b\"} 1\n# TYPE h_sum gauge\nh_sum 1\n\
                 # TYPE b histogram\nb_bucket{le=\"1\"} 1\nb_bucket{le=\"+Inf\"} 1\n# TYPE my_m gauge\nmy_m 1\n";
    push(&store, "a", taken).unwrap();
    let before = text(&store);
    let observe = |family: &str| {
        let buckets = Arc::from([1.0]);
        update(
            family,
            Kind::Histogram,
            &[],
            Op::Observe {
                value: 0.5,
                times: 1.0,
                buckets,
                native: None,
            },
        )
    };
    let gauge =
        |family: &str, labels: &[(&str, &str)]| update(family, Kind::Gauge, labels, Op::Set(1.0));
    for (bad, why) in [
        (
            add("g", &[], 1.0),
            "family g is a counter here, and a gauge in app",
        ),
        (
            gauge("g", &[("a", "b")]),
            "series g{a=\"b\"} is exposed elsewhere already",
        ),
        (
            observe("h"),
            "family h cannot be exposed beside family h_sum",
        ),
        (
            gauge("b_count", &[]),
            "family b_count cannot be exposed beside family b",
        ),
        (
            gauge("my.m", &[]),
            "family my.m cannot be exposed beside family my_m",
        ),
        // Found by its buckets, although the section has no count.
        (observe("b"), "series b is exposed elsewhere already"),
    ] {
        let rejection = operate(&store, vec![add("fine", &[], 1.0), bad]).unwrap_err();
        assert!(rejection.to_string().starts_with(why), "{rejection}");
        assert_eq!(text(&store), before);
        assert_eq!(store.aggregated_totals().series, 0);
        assert!(!store.read().families.is_exposed("fine"));
    }
    // Also two of one batch.
    let twice = vec![observe("x"), gauge("x_bucket", &[])];
    let rejection = operate(&store, twice).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::NameCollision { .. }),
        "{rejection}"
    );
    let same = vec![gauge("d", &[("a.b", "1")]), gauge("d", &[("a_b", "1")])];
    let rejection = operate(&store, same).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::DuplicateSeries { .. }),
        "{rejection}"
    );
    assert_eq!(text(&store), before);
    // Also one of an earlier batch.
    let labelled = |label| vec![gauge("d", &[(label, "1")])];
    operate(&store, labelled("a.b")).unwrap();
    let rejection = operate(&store, labelled("a_b")).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::DuplicateSeries { .. }),
        "{rejection}"
    );
}

#[test]
fn a_write_that_clashes_with_aggregated_families_is_rejected() {
    let store = store();
    let observe = Op::Observe {
        native: None,
        value: 0.5,
        times: 1.0,
        buckets: Arc::from([1.0]),
    };
    let living = vec![
        add("m", &[("a", "b")], 1.0),
        update("h", Kind::Histogram, &[("z", "1")], observe),
    ];
    operate(&store, living).unwrap();
    let before = text(&store);
    for taken in [
        "# TYPE m gauge\nm 1\n",
        "# TYPE m counter\nm{a=\"b\"} 1\n",
        "# TYPE h histogram\nh_bucket{z=\"1\",le=\"1\"} 1\n",
        "# TYPE h histogram\nh_bucket{z=\"1\",le=\"+Inf\"} 1\n",
        "# TYPE h histogram\nh_sum{z=\"1\"} 1\n",
        "# TYPE h_count gauge\nh_count 1\n",
    ] {
        assert!(push(&store, "a", taken).is_err(), "{taken}");
        assert_eq!(text(&store), before);
    }
    push(&store, "a", "# TYPE m counter\nm{a=\"c\"} 1\n").unwrap();
    // Removed names and series are free again.
    operate(&store, vec![delete("m", &[("a", "b")])]).unwrap();
    push(&store, "b", "# TYPE m counter\nm{a=\"b\"} 7\n").unwrap();
    let again = operate(&store, vec![add("m", &[("a", "b")], 1.0)]);
    assert!(matches!(again, Err(BatchRejection::DuplicateSeries { .. })));
    assert!(text(&store).contains("m{a=\"b\"} 7\n"));
}

#[test]
fn a_removed_family_may_return_with_another_kind() {
    let store = store();
    let many = (0..300).map(|n| add("m", &[("n", &*n.to_string())], 1.0));
    operate(&store, many.collect()).unwrap();
    assert_eq!(text(&store).lines().count(), 301);
    let nothing = Batch {
        replace: vec![Arc::from("m")],
        ..Batch::default()
    };
    store.operate(nothing, Now::read()).unwrap();
    push(&store, "a", "# TYPE m gauge\nm 1\n").unwrap();
    assert_eq!(text(&store), "# TYPE m gauge\nm 1\n");
    let gauge = update("m", Kind::Gauge, &[("n", "1")], Op::Set(2.0));
    operate(&store, vec![gauge]).unwrap();
    assert_eq!(text(&store), "# TYPE m gauge\nm 1\nm{n=\"1\"} 2\n");
}

#[test]
fn a_histogram_reserves_added_lines_and_releases_removed_ones() {
    let store = store();
    let push_buckets = |bounds: &[f64], sum| {
        let change = Op::Histogram {
            buckets: bounds.iter().map(|bound| (*bound, 1.0)).collect(),
            sum,
            count: Some(1.0),
        };
        operate(&store, vec![update("h", Kind::Histogram, &[], change)])
    };
    push_buckets(&[1.0, 2.0], None).unwrap();
    let section = "# TYPE h histogram\nh_bucket{le=\"2\"} 5\n";
    assert!(push(&store, "a", section).is_err());
    push_buckets(&[1.0], None).unwrap();
    push(&store, "a", section).unwrap();
    push(&store, "b", "# TYPE h histogram\nh_sum 5\n").unwrap();
    let rejection = push_buckets(&[1.0], Some(1.0)).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::DuplicateSeries { .. }),
        "{rejection}"
    );
    push(&store, "b", "").unwrap();
    push_buckets(&[1.0], Some(1.0)).unwrap();
    assert_eq!(
        text(&store),
        "# TYPE h histogram\nh_bucket{le=\"2\"} 5\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 3\n\
         h_sum 1\nh_count 3\n"
    );
}

#[test]
fn aggregated_series_count_as_memory() {
    let store = store_of(20_000, registry::RegistryLimits::default());
    let many = |count: usize| {
        let all = (0..count).map(|n| add("m", &[("n", &*n.to_string())], 1.0));
        operate(&store, all.collect())
    };
    let rejection = many(1000).unwrap_err();
    assert!(
        matches!(rejection, BatchRejection::TooManyBytes { .. }),
        "{rejection}"
    );
    assert_eq!(text(&store), "");
    many(50).unwrap();
    let long = format!("# TYPE x gauge\nx{{a=\"{}\"}} 1\n", "x".repeat(15_000));
    assert!(matches!(
        push(&store, "a", &long),
        Err(Rejection::TooManyBytes { .. })
    ));
    let nothing = Batch {
        replace: vec![Arc::from("m")],
        ..Batch::default()
    };
    store.operate(nothing, Now::read()).unwrap();
    push(&store, "a", &long).unwrap();
}

#[test]
fn series_are_removed_after_their_lifetime() {
    let store = store_of(1 << 30, registry::RegistryLimits::default());
    let start = Now::read();
    let second = Duration::from_secs(1);
    let updates = (0..20_000).map(|n| {
        let mut update = add("m", &[("n", &*n.to_string())], 1.0);
        update.ttl = Some(second * (1 + n % 2));
        update
    });
    let batch = Batch {
        updates: updates.collect(),
        ..Batch::default()
    };
    store.operate(batch, start).unwrap();
    // Each call removes a few thousand.
    let expire = |at: Now| {
        let calls = std::iter::repeat_with(|| store.expire_series(at));
        calls.take_while(|expired| *expired > 0).sum::<usize>()
    };
    assert_eq!(text(&store).lines().count(), 20_001);
    assert_eq!(expire(start), 0);
    assert_eq!(expire(start.after(second)), 10_000);
    assert_eq!(text(&store).lines().count(), 10_001);
    assert_eq!(expire(start.after(second * 2)), 10_000);
    assert_eq!(text(&store), "");
    assert_eq!(store.read().families.series(), 0);
}

#[test]
fn a_snapshot_without_changes_shares_all_pages() {
    let store = store_of(1 << 30, registry::RegistryLimits::default());
    let many = (0..6000).map(|n| add("m", &[("n", &*n.to_string())], 1.0));
    operate(&store, many.collect()).unwrap();
    assert!(store.is_snapshot_slow(false));
    store.snapshot().gzip();
    assert!(!store.is_snapshot_slow(false));
    assert_eq!(store.snapshot().pending_bytes(true), 0);
    // Setting the same value changes nothing either.
    operate(&store, vec![add("m", &[("n", "7")], 0.0)]).unwrap();
    assert_eq!(store.snapshot().pending_bytes(true), 0);
    operate(&store, vec![add("m", &[("n", "7")], 1.0)]).unwrap();
    let snapshot = store.snapshot();
    assert!((1..snapshot.len()).contains(&snapshot.pending_bytes(true)));
}

/// Every batch adds the same to all series, more than are rendered under the locks,
/// while families are added and removed. So every snapshot has one value for all of
/// them, and heads where there are samples.
#[test]
fn a_snapshot_has_a_whole_batch_or_none_of_it() {
    let store = store_of(1 << 30, registry::RegistryLimits::default());
    let names: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    let stop = AtomicBool::new(false);
    let all = |round: usize| {
        let mut updates: Vec<Update> = names
            .iter()
            .map(|name| add("m", &[("n", name)], 1.0))
            .collect();
        let (new, old) = (round % 3, (round + 1) % 3);
        let kind = [Kind::Gauge, Kind::Untyped][round % 2];
        updates.push(update(&format!("f{new}"), kind, &[], Op::Set(1.0)));
        updates.push(delete(&format!("f{old}"), &[]));
        updates
    };
    operate(&store, all(0)).unwrap();
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for round in 1..30 {
                operate(&store, all(round)).unwrap();
                push(
                    &store,
                    "a",
                    &format!("# TYPE m counter\nm 1\n# TYPE s{round} gauge\ns{round} 1\n"),
                )
                .unwrap();
            }
        });
        // A family that is added and removed all the time.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let here = update("x", Kind::Gauge, &[], Op::Set(1.0));
                operate(&store, vec![here]).unwrap();
                operate(&store, vec![delete("x", &[])]).unwrap();
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let out = text(&store);
                        let value =
                            |line: &str| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap();
                        let values: BTreeSet<usize> = out
                            .lines()
                            .filter(|line| line.starts_with("m{"))
                            .map(value)
                            .collect();
                        assert_eq!(values.len(), 1, "{values:?}");
                        let seen = *values.first().unwrap();
                        assert!(seen >= last, "{seen} after {last}");
                        last = seen;
                        let new = format!("f{}", (seen - 1) % 3);
                        assert!(out.contains(&format!("\n{new} 1\n")), "{seen}");
                        check(&out);
                    }
                })
            })
            .collect();
        // The readers end even if a batch failed.
        let changed = changing.join();
        stop.store(true, Ordering::Relaxed);
        changed.unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn reserved_group_gauges_cannot_be_aggregated() {
    let store = store();
    for name in [
        "push_time_seconds",
        "push_failure_time_seconds",
        "push.time.seconds",
    ] {
        let gauge = update(name, Kind::Gauge, &[("job", "x")], Op::Set(1.0));
        for bad in [add(name, &[], 1.0), gauge] {
            let rejection = operate(&store, vec![add("fine", &[], 1.0), bad]).unwrap_err();
            assert!(
                matches!(rejection, BatchRejection::NameCollision { .. }),
                "{rejection}"
            );
            assert!(
                rejection
                    .to_string()
                    .contains("kept for the times of pushed groups"),
                "{rejection}"
            );
            assert_eq!(text(&store), "");
        }
    }
}
