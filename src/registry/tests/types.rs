//! Untyped families that get a type.

use super::*;

#[test]
fn an_untyped_family_takes_the_first_type() {
    let now = Instant::now();
    let untyped = |labels: &[(&str, &str)], value| {
        update("x_total", Kind::Untyped, labels, Change::Add(value))
    };
    let typed = |kind, value| update("x_total", kind, &[("a", "1")], Change::Add(value));

    for kind in [Kind::Counter, Kind::Gauge] {
        let mut registry = registry();
        apply(&mut registry, vec![untyped(&[("a", "1")], 6.0)], now).unwrap();
        let changeset = registry.check(batch(vec![typed(kind, 1.0)]), now).unwrap();
        let reservation = changeset.reservation();
        assert_eq!(
            (
                reservation.changed_families.len(),
                reservation.changed_families[0].kind
            ),
            (1, kind)
        );
        assert_eq!(
            (reservation.reserved_bytes, reservation.released_bytes),
            (0, 0)
        );
        registry.commit(changeset);
        assert_eq!(registry.kind_of("x_total"), Some(kind));
        // Untyped updates now take this type.
        apply(&mut registry, vec![untyped(&[("a", "1")], 2.0)], now).unwrap();
        assert_eq!(registry.kind_of("x_total"), Some(kind));
        let below = apply(&mut registry, vec![untyped(&[("a", "1")], -1.0)], now);
        assert_eq!(below.is_err(), kind == Kind::Counter);
        let other = match kind {
            Kind::Counter => Kind::Gauge,
            _ => Kind::Counter,
        };
        let rejected = apply(&mut registry, vec![typed(other, 1.0)], now).unwrap_err();
        assert!(
            matches!(rejected, Rejection::KindConflict { .. }),
            "{rejected}"
        );
    }
}

#[test]
fn values_that_no_counter_has_keep_a_family_untyped() {
    let now = Instant::now();
    let mut registry = registry();
    let set =
        |place: &str, value| update("x", Kind::Untyped, &[("place", place)], Change::Set(value));
    let count = || update("x", Kind::Counter, &[("place", "c")], Change::Add(1.0));
    apply(&mut registry, vec![set("a", -1.0), set("b", f64::NAN)], now).unwrap();
    let rejected = apply(&mut registry, vec![count()], now).unwrap_err();
    let message = "family x has no type yet and cannot become a counter: 2 of its values are below 0 \
                or not finite";
    assert_eq!(rejected.to_string(), message);
    assert_eq!(registry.kind_of("x"), Some(Kind::Untyped));
    // The state after the whole batch counts, in any order.
    let gone = update("x", Kind::Untyped, &[("place", "b")], Change::Delete);
    let rejected = apply(&mut registry, vec![count(), gone.clone()], now);
    assert!(rejected.is_err());
    apply(&mut registry, vec![gone], now).unwrap();
    let up = update("x", Kind::Untyped, &[("place", "a")], Change::Add(3.0));
    apply(&mut registry, vec![count(), up], now).unwrap();
    assert_eq!(registry.kind_of("x"), Some(Kind::Counter));
}

#[test]
fn each_family_of_a_batch_is_checked_by_its_own_values() {
    let now = Instant::now();
    let mut registry = registry();
    let of = |family: &str, kind, value| update(family, kind, &[], Change::Set(value));
    let first = ["a", "b", "c"].map(|family| of(family, Kind::Untyped, 1.0));
    let gauge = |value| of("g", Kind::Gauge, value);
    apply(&mut registry, first.into(), now).unwrap();
    apply(&mut registry, vec![gauge(-1.0)], now).unwrap();
    let typed = |b| {
        let b = update("b", Kind::Untyped, &[("below", "0")], Change::Set(b));
        let counters = ["a", "b", "c"].map(|family| of(family, Kind::Counter, 2.0));
        [&[gauge(-2.0), b], &counters[..], &[gauge(1.0)]].concat()
    };
    let rejected = apply(&mut registry, typed(-1.0), now).unwrap_err();
    assert!(
        matches!(&rejected, Rejection::NotACounter { family, values: 1 } if family == "b"),
        "{rejected}"
    );
    apply(&mut registry, typed(1.0), now).unwrap();
    let kinds = ["a", "b", "c", "g"].map(|family| registry.kind_of(family));
    let counter = Some(Kind::Counter);
    assert_eq!(kinds, [counter, counter, counter, Some(Kind::Gauge)]);
}

#[test]
fn an_untyped_family_does_not_become_a_summary() {
    let now = Instant::now();
    let mut registry = registry();
    let untyped = || update("x", Kind::Untyped, &[], Change::Add(1.0));
    let summary = || {
        let change = Change::Summary {
            sum: None,
            count: Some(1.0),
            quantiles: Vec::new(),
        };
        update("x", Kind::Summary, &[], change)
    };
    for (first, second) in [(untyped(), summary()), (summary(), untyped())] {
        apply(&mut registry, vec![first], now).unwrap();
        let rejected = apply(&mut registry, vec![second], now).unwrap_err();
        assert!(
            matches!(rejected, Rejection::KindConflict { .. }),
            "{rejected}"
        );
        apply(
            &mut registry,
            vec![update("x", Kind::Untyped, &[], Change::Delete)],
            now,
        )
        .unwrap();
    }
}
