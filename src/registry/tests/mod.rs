use std::sync::Arc;
use std::time::{Duration, Instant};

use super::block::SLOTS;
use super::*;
use crate::exposition::{Kind, LabelText};

const SECOND: Duration = Duration::from_secs(1);

fn registry() -> Registry {
    with_limits(RegistryLimits::default())
}

fn with_limits(limits: RegistryLimits) -> Registry {
    Registry::new(limits, RandomState::new())
}

fn update(family: &str, kind: Kind, labels: &[(&str, &str)], change: Change) -> Update {
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
    update(family, Kind::Counter, labels, Change::Add(value))
}

fn batch(updates: Vec<Update>) -> Batch {
    Batch {
        updates,
        ..Batch::default()
    }
}

fn apply(registry: &mut Registry, updates: Vec<Update>, now: Instant) -> Result<(), Rejection> {
    let changeset = registry.check(batch(updates), now)?;
    registry.commit(changeset);
    Ok(())
}

/// The text of all changed blocks, rendered whole.
fn changed(registry: &mut Registry) -> String {
    let changed = registry.take_dirty();
    assert_eq!(changed.removed, []);
    for block in &changed.blocks {
        registry.mark_dirty(block.id);
    }
    let changed = registry.take_dirty();
    let blocks = changed.blocks.iter();
    blocks.map(|block| render(block, &[], None)).collect()
}

/// The text of a block, patched into the text before if only values changed.
pub(super) fn render(block: &DirtyBlock, lines: &[LineValue], before: Option<&str>) -> String {
    let mut scratch = RenderBuffers::default();
    let text = match block.render(&mut scratch) {
        Some(whole) => whole.to_vec(),
        None => {
            let before = before.expect("the block was rendered before").as_bytes();
            block.patch(lines, before, &mut scratch).unwrap().to_vec()
        }
    };
    String::from_utf8(text).unwrap()
}

fn is_part(block: &DirtyBlock) -> bool {
    block.render(&mut RenderBuffers::default()).is_none()
}

#[test]
fn a_change_renders_one_block() {
    let mut registry = registry();
    let now = Instant::now();
    let all = (0..1000).map(|n| add("m_total", &[("n", &*n.to_string())], 1.0));
    apply(&mut registry, all.collect(), now).unwrap();
    let text = changed(&mut registry);
    assert_eq!(text.lines().count(), 1000);
    assert_eq!(changed(&mut registry), "");

    apply(
        &mut registry,
        vec![add("m_total", &[("n", "500")], 2.5)],
        now,
    )
    .unwrap();
    assert_eq!((registry.dirty_series(), registry.dirty_blocks()), (1, 1));
    let text = changed(&mut registry);
    assert!(text.contains("m_total{n=\"500\"} 3.5\n"), "{text}");
    assert!(text.lines().count() <= SLOTS, "{text}");
}

#[test]
fn only_changed_values_are_rendered() {
    let mut registry = registry();
    let now = Instant::now();
    let change = |registry: &mut Registry, n: &str, value| {
        let update = update("g", Kind::Gauge, &[("n", n)], Change::Set(value));
        apply(registry, vec![update], now).unwrap();
    };
    for n in ["0", "1", "2"] {
        change(&mut registry, n, 1.0);
    }
    let taken = registry.take_dirty();
    assert!(taken.lines.is_empty() && !is_part(&taken.blocks[0]));
    let text = render(&taken.blocks[0], &taken.lines, None);

    change(&mut registry, "2", 1.0);
    assert_eq!(
        registry.take_dirty().blocks.len(),
        0,
        "the value is the same"
    );

    change(&mut registry, "2", 5.0);
    change(&mut registry, "2", 6.0);
    change(&mut registry, "0", 700.0);
    assert_eq!(registry.dirty_series(), 2);
    let taken = registry.take_dirty();
    let lines = [(0, 700.0), (2, 6.0)].map(|(line, value)| LineValue { line, value });
    assert_eq!(taken.lines, lines);
    let text = render(&taken.blocks[0], &taken.lines, Some(&text));
    assert_eq!(text, "g{n=\"0\"} 700\ng{n=\"1\"} 1\ng{n=\"2\"} 6\n");
    assert!(is_part(&taken.blocks[0]));

    // A removed series moves lines, and so does an added one.
    for (n, value) in [("1", None), ("3", Some(4.0))] {
        let change = value.map_or(Change::Delete, Change::Set);
        let all = vec![
            update("g", Kind::Gauge, &[("n", n)], change),
            update("g", Kind::Gauge, &[("n", "0")], Change::Add(1.0)),
        ];
        apply(&mut registry, all, now).unwrap();
        assert!(!is_part(&registry.take_dirty().blocks[0]));
    }
}

#[test]
fn changed_lines_of_a_histogram_are_numbered() {
    let mut registry = registry();
    let now = Instant::now();
    let push = |registry: &mut Registry, n: &str, bounds: &[f64]| {
        let change = Change::Histogram {
            buckets: bounds.iter().map(|bound| (*bound, 1.0)).collect(),
            sum: Some(0.5),
            count: Some(2.0),
        };
        apply(
            registry,
            vec![update("h", Kind::Histogram, &[("n", n)], change)],
            now,
        )
        .unwrap();
    };
    push(&mut registry, "0", &[1.0]);
    push(&mut registry, "1", &[1.0, 2.0]);
    push(&mut registry, "2", &[1.0]);
    registry.take_dirty();
    push(&mut registry, "1", &[1.0, 2.0]);
    let taken = registry.take_dirty();
    let lines: Vec<(u32, f64)> = taken.lines.iter().map(|it| (it.line, it.value)).collect();
    assert_eq!(
        lines,
        [(4, 2.0), (5, 2.0), (6, 4.0), (7, 1.0), (8, 4.0)],
        "the first series has four lines"
    );
    // Another bound changes the lines, but not their number.
    push(&mut registry, "1", &[1.0]);
    assert!(!is_part(&registry.take_dirty().blocks[0]));
}

#[test]
fn a_rejected_batch_changes_nothing() {
    let mut registry = registry();
    let now = Instant::now();
    apply(&mut registry, vec![add("m_total", &[], 1.0)], now).unwrap();
    let before = changed(&mut registry);
    let bad = vec![
        add("m_total", &[], 5.0),
        add("n_total", &[("a", "b")], 1.0),
        add("m_total", &[("a", "b")], -1.0),
    ];
    let rejected = apply(&mut registry, bad, now).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "series m_total{a=\"b\"}: the added value is -1, but must be finite and not below 0, as in any counter"
    );
    assert_eq!(changed(&mut registry), "");
    apply(&mut registry, vec![add("m_total", &[], 1.0)], now).unwrap();
    assert_eq!(changed(&mut registry), before.replace(" 1", " 2"));
    assert_eq!((registry.families(), registry.series()), (1, 1));
}

#[test]
fn a_type_holds_until_the_family_is_removed() {
    let mut registry = registry();
    let now = Instant::now();
    let gauge = || update("m", Kind::Gauge, &[], Change::Set(1.0));
    let twice = apply(
        &mut registry,
        vec![gauge(), add("m", &[("a", "b")], 1.0)],
        now,
    );
    let conflict = Rejection::KindConflict {
        family: "m".to_owned(),
        kind: "a counter",
        held: "a gauge",
    };
    assert_eq!(twice, Err(conflict.clone()));
    apply(&mut registry, vec![gauge()], now).unwrap();
    let counter = || vec![add("m", &[], 1.0)];
    assert_eq!(apply(&mut registry, counter(), now), Err(conflict.clone()));
    // Even if the batch removes the last series first.
    let delete = || update("m", Kind::Untyped, &[], Change::Delete);
    let both = vec![delete(), add("m", &[], 1.0)];
    assert_eq!(apply(&mut registry, both, now), Err(conflict));
    apply(&mut registry, vec![delete()], now).unwrap();
    apply(&mut registry, counter(), now).unwrap();
    assert_eq!(changed(&mut registry), "m 1\n");
}

#[test]
fn limits_apply_to_the_batch_as_a_whole() {
    let mut registry = with_limits(RegistryLimits {
        families: 2,
        series: 4,
        series_per_family: 3,
        ..RegistryLimits::default()
    });
    let now = Instant::now();
    let m = |n: usize| add("m", &[("n", &*n.to_string())], 1.0);
    let four = (0..4).map(m).collect();
    assert!(matches!(
        apply(&mut registry, four, now),
        Err(Rejection::TooManySeriesOfFamily { limit: 3, .. })
    ));
    // Repeated series count once, and deleted ones make room.
    let delete = |n: &str| update("m", Kind::Counter, &[("n", n)], Change::Delete);
    let three = vec![m(0), m(0), m(1), m(1), m(7), delete("7"), m(2)];
    apply(&mut registry, three, now).unwrap();
    assert_eq!(registry.series(), 3);
    let other = |name: &str| add(name, &[], 1.0);
    assert!(matches!(
        apply(&mut registry, vec![other("a"), other("b")], now),
        Err(Rejection::TooManySeries { limit: 4, .. })
    ));
    apply(&mut registry, vec![delete("0"), other("a")], now).unwrap();
    let families = apply(&mut registry, vec![other("b")], now);
    assert_eq!(
        families.unwrap_err().to_string(),
        "cannot add series b: the limit of 2 families is reached (push.max_families)"
    );
}

#[test]
fn a_replaced_family_has_only_the_series_of_the_batch() {
    let mut registry = registry();
    let now = Instant::now();
    let three = ["1", "2", "3"].map(|n| add("m", &[("n", n)], 5.0));
    apply(&mut registry, three.to_vec(), now).unwrap();
    apply(&mut registry, vec![add("other", &[], 1.0)], now).unwrap();
    changed(&mut registry);
    let replace = Batch {
        replace: vec![Arc::from("m"), Arc::from("not_there")],
        updates: vec![add("m", &[("n", "2")], 1.0), add("m", &[("x", "y")], 2.0)],
        ..Batch::default()
    };
    let changeset = registry.check(replace, now).unwrap();
    assert_eq!(changeset.reservation().reserved_series.len(), 1);
    assert_eq!(changeset.reservation().released_series.len(), 2);
    registry.commit(changeset);
    let text = changed(&mut registry);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["m{n=\"2\"} 1", "m{x=\"y\"} 2"]);
    // A family that is replaced by nothing is removed.
    let nothing = Batch {
        replace: vec![Arc::from("m")],
        ..Batch::default()
    };
    let changeset = registry.check(nothing, now).unwrap();
    assert_eq!(changeset.reservation().removed_families, [Arc::from("m")]);
    registry.commit(changeset);
    assert_eq!(registry.families(), 1);
    assert_eq!(registry.take_dirty().removed, [(Arc::from("m"), 0)]);
}

#[test]
fn labels_that_a_type_uses_itself_are_rejected() {
    let mut registry = registry();
    let now = Instant::now();
    let observe = Change::Observe {
        value: 1.0,
        times: 1.0,
        buckets: Arc::from([1.0]),
        native: None,
    };
    let summary = Change::Summary {
        sum: None,
        count: Some(1.0),
        quantiles: Vec::new(),
    };
    for (kind, label, change) in [
        (Kind::Histogram, "le", observe),
        (Kind::Summary, "quantile", summary),
    ] {
        let own = update("m", kind, &[(label, "1")], change.clone());
        let rejected = apply(&mut registry, vec![own], now).unwrap_err();
        let kind_text = kind.with_article();
        let message = format!("label {label} is reserved, since the family is {kind_text}");
        assert!(rejected.to_string().ends_with(&message), "{rejected}");
        let fine = update("m", kind, &[("a", "1")], change);
        apply(&mut registry, vec![fine], now).unwrap();
        let delete = update("m", kind, &[("a", "1")], Change::Delete);
        apply(&mut registry, vec![delete], now).unwrap();
    }
    // For a gauge they are ordinary labels.
    let gauge = update(
        "m",
        Kind::Gauge,
        &[("le", "1"), ("quantile", "1")],
        Change::Set(1.0),
    );
    apply(&mut registry, vec![gauge], now).unwrap();
}

#[test]
fn names_labels_and_bounds_are_limited() {
    let mut registry = with_limits(RegistryLimits {
        label_bytes: 20,
        bounds: 2,
        ..RegistryLimits::default()
    });
    let now = Instant::now();
    for name in ["", "a\"b", "a\nb", "this_name_is_far_too_long"] {
        let rejected = apply(&mut registry, vec![add(name, &[], 1.0)], now);
        assert!(
            matches!(rejected, Err(Rejection::InvalidName { .. })),
            "{name:?}"
        );
    }
    let long = add("m", &[("a", "more than twenty bytes")], 1.0);
    assert!(matches!(
        apply(&mut registry, vec![long], now),
        Err(Rejection::LabelsTooLong { limit: 20, .. })
    ));
    let observe = Change::Observe {
        value: 1.0,
        times: 1.0,
        buckets: Arc::from([1.0, 2.0, 3.0]),
        native: None,
    };
    let rejected = apply(
        &mut registry,
        vec![update("h", Kind::Histogram, &[], observe)],
        now,
    );
    assert_eq!(
        rejected.unwrap_err().to_string(),
        "series h: it has 3 bucket bounds; the limit is 2"
    );
    let info = update("i", Kind::Info, &[], Change::Set(1.0));
    assert!(matches!(
        apply(&mut registry, vec![info], now),
        Err(Rejection::UnsupportedChange { .. })
    ));
}

#[test]
fn a_series_expires_after_its_time_to_live() {
    let mut registry = registry();
    let start = Instant::now();
    let with_ttl = |labels: &str, seconds: u32| Update {
        ttl: Some(SECOND * seconds),
        ..add("m", &[("n", labels)], 1.0)
    };
    apply(
        &mut registry,
        vec![with_ttl("1", 10), with_ttl("2", 20)],
        start,
    )
    .unwrap();
    changed(&mut registry);
    // An update postpones it.
    apply(&mut registry, vec![with_ttl("1", 10)], start + SECOND * 5).unwrap();
    assert!(
        registry.is_due(start + SECOND * 10),
        "a block may be due early"
    );
    assert_eq!(registry.expire(start + SECOND * 10).0, 0);
    assert!(!registry.is_due(start + SECOND * 14));
    let (series, reservation) = registry.expire(start + SECOND * 15);
    assert_eq!((series, reservation.released_series.len()), (1, 1));
    assert_eq!(reservation.removed_families, []);
    assert_eq!(changed(&mut registry), "m{n=\"2\"} 1\n");
    let (series, reservation) = registry.expire(start + SECOND * 20);
    assert_eq!(
        (series, &reservation.removed_families[..]),
        (1, &[Arc::from("m")][..])
    );
    assert_eq!((registry.series(), registry.weight()), (0, 0));

    // An update without a time to live makes the series permanent.
    apply(&mut registry, vec![with_ttl("1", 1)], start + SECOND * 30).unwrap();
    let for_ever = add("m", &[("n", "1")], 1.0);
    apply(&mut registry, vec![for_ever], start + SECOND * 30).unwrap();
    assert_eq!(registry.expire(start + SECOND * 10_000).0, 0);
}

#[test]
fn queues_do_not_grow_with_updates() {
    let mut registry = registry();
    let start = Instant::now();
    for round in 0..1000 {
        let now = start + SECOND * round;
        let of = |name: &str, change| Update {
            ttl: Some(SECOND * 1000 - SECOND * (round % 7)),
            ..update(name, Kind::Gauge, &[], change)
        };
        let window = Change::Window {
            mean: true,
            span: SECOND * 50,
            value: 1.0,
        };
        let updates = vec![of("a", window), of("b", Change::Add(1.0))];
        apply(&mut registry, updates, now).unwrap();
        let delete = update("b", Kind::Gauge, &[], Change::Delete);
        apply(&mut registry, vec![delete], now).unwrap();
        if round % 100 == 0 {
            registry.take_dirty();
        }
        assert!(registry.expiry_queue.len() <= 1 && registry.window_queue.len() <= 1);
        assert!(registry.dirty.len() <= 1 && registry.removed_blocks.len() <= 1);
    }
    assert_eq!(registry.families.len(), 2);
}

#[test]
fn windows_move_on_without_updates() {
    let mut registry = registry();
    let start = Instant::now();
    let window = |value| {
        let span = SECOND * 100;
        let mean = false;
        update("g", Kind::Gauge, &[], Change::Window { mean, span, value })
    };
    apply(&mut registry, vec![window(2.0)], start).unwrap();
    apply(&mut registry, vec![window(3.0)], start + SECOND * 50).unwrap();
    assert_eq!(changed(&mut registry), "g 5\n");
    registry.expire(start + SECOND * 99);
    assert_eq!(changed(&mut registry), "");
    registry.expire(start + SECOND * 100);
    assert_eq!(changed(&mut registry), "g 3\n");
    registry.expire(start + SECOND * 500);
    assert_eq!(changed(&mut registry), "g 0\n");
    assert!(registry.window_queue.is_empty());
}

#[test]
fn a_taken_block_does_not_change() {
    let mut registry = registry();
    let now = Instant::now();
    let two = || vec![add("m", &[("n", "1")], 1.0), add("m", &[("n", "2")], 1.0)];
    apply(&mut registry, two(), now).unwrap();
    let copy = registry.take_dirty();
    let mut after = two();
    after.push(add("m", &[("n", "3")], 1.0));
    after.push(update("m", Kind::Counter, &[("n", "1")], Change::Delete));
    apply(&mut registry, after, now).unwrap();
    assert_eq!(
        render(&copy.blocks[0], &copy.lines, None),
        "m{n=\"1\"} 1\nm{n=\"2\"} 1\n"
    );
    // The new series has taken the slot of the removed one.
    assert_eq!(changed(&mut registry), "m{n=\"3\"} 1\nm{n=\"2\"} 2\n");
}

#[test]
fn a_changeset_has_the_totals_of_its_series() {
    let mut registry = registry();
    let now = Instant::now();
    let summary = || Change::Summary {
        sum: Some(2.5),
        count: None,
        quantiles: Vec::new(),
    };
    let updates = || {
        vec![
            update("c", Kind::Counter, &[], Change::Add(2.0)),
            update("c", Kind::Counter, &[], Change::Add(1.0)),
            update("s", Kind::Summary, &[], summary()),
            update("gone", Kind::Gauge, &[], Change::Set(1.0)),
            update("gone", Kind::Gauge, &[], Change::Delete),
        ]
    };
    let existing_only = || Batch {
        existing_only: true,
        ..batch(updates())
    };
    let totals = |changeset: &Changeset| -> Vec<(String, Option<f64>)> {
        let totals = changeset.totals();
        let series = totals.iter();
        series
            .map(|(family, total)| (family.to_string(), total))
            .collect()
    };
    let changeset = registry.check(existing_only(), now).unwrap();
    assert_eq!(totals(&changeset), [], "no family exists");

    let changeset = registry.check(batch(updates()), now).unwrap();
    registry.commit(changeset);
    assert_eq!(registry.kind_of("c"), Some(Kind::Counter));
    assert_eq!(registry.kind_of("gone"), None);

    let changeset = registry.check(existing_only(), now).unwrap();
    let both = [("c", 6.0), ("s", 5.0)].map(|(name, total)| (name.to_owned(), Some(total)));
    assert_eq!(totals(&changeset), both);
    let changeset = registry.check(batch(updates()), now).unwrap();
    assert_eq!(totals(&changeset)[2], ("gone".to_owned(), None));
}

#[test]
fn a_help_text_is_counted_as_memory() {
    let mut registry = registry();
    let start = Instant::now();
    let helped = |help: Option<&str>| Update {
        ttl: Some(SECOND),
        help: help.map(Arc::from),
        ..add("m", &[], 1.0)
    };
    apply(&mut registry, vec![helped(None)], start).unwrap();
    let without = registry.weight();
    let long = "h".repeat(1000);
    // The first help text stays.
    for help in [&long[..], "another"] {
        apply(&mut registry, vec![helped(Some(help))], start).unwrap();
        assert_eq!(registry.weight(), without + 3 * long.len());
    }
    registry.expire(start + SECOND * 2);
    assert_eq!(registry.weight(), 0);
    apply(&mut registry, vec![helped(Some(&long))], start + SECOND * 3).unwrap();
    assert_eq!(registry.weight(), without + 3 * long.len());
}

mod types;
