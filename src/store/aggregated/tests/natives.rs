//! Tests of native histograms of aggregated families.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{push, store, text, update};
use crate::clock::Now;
use crate::exposition::protobuf::{NativeHistograms, encode, native_buckets};
use crate::exposition::{Escaping, Kind};
use crate::registry::{Batch, Change as Op, NativeSpec, Update};
use crate::store::rejection::BatchRejection;
use crate::store::store::Store;

fn observe(family: &str, label: &str, value: f64, max_buckets: u32) -> Update {
    let change = Op::Observe {
        value,
        times: 1.0,
        buckets: Arc::from([1.0]),
        native: (max_buckets > 0).then_some(NativeSpec {
            schema: 0,
            max_buckets,
        }),
    };
    update(family, Kind::Histogram, &[("l", label)], change)
}

fn delete(family: &str, label: &str) -> Update {
    update(family, Kind::Untyped, &[("l", label)], Op::Delete)
}

fn operate(store: &Store, updates: Vec<Update>, now: Now) -> Result<(), BatchRejection> {
    let batch = Batch {
        updates,
        ..Batch::default()
    };
    store.operate(batch, now)
}

/// The counts of the native buckets of each series. Checks that the kept messages equal a new
/// encoding of everything.
fn shown(store: &Store) -> BTreeMap<String, Vec<String>> {
    let snapshot = store.snapshot_with_natives();
    let mut known = NativeHistograms::default();
    let mut shown = BTreeMap::new();
    for (family, natives) in snapshot.natives() {
        known.add(family, natives);
        for native in natives.iter() {
            let counts = native_buckets(&native.histogram).unwrap();
            let counts = counts.into_iter().map(|it| it.count);
            shown.insert(format!("{family}{{{}}}", native.labels), counts.collect());
        }
    }
    let text = String::from_utf8(snapshot.text()).unwrap();
    let whole = encode(&text, &known, Escaping::AllowUtf8);
    let messages = store.messages(&snapshot, Escaping::AllowUtf8);
    assert_eq!(messages.text(), whole);
    store.registry().assert_consistent();
    shown
}

fn counts<const N: usize>(series: [(&str, &[&str]); N]) -> BTreeMap<String, Vec<String>> {
    let owned = |counts: &[&str]| counts.iter().map(|it| (*it).to_owned()).collect();
    let series = series.into_iter();
    series
        .map(|(name, counts)| (name.to_owned(), owned(counts)))
        .collect()
}

#[test]
fn native_histograms_are_encoded_when_a_reader_asks() {
    let (store, now) = (store(), Now::read());
    let both = vec![observe("h", "a", 1.0, 9), observe("h", "b", 3.0, 0)];
    operate(&store, both, now).unwrap();
    // A reader of text does not take what a reader of protobuf gets.
    let before = text(&store);
    assert!(
        before.contains("h_bucket{l=\"a\",le=\"+Inf\"} 1\n"),
        "{before}"
    );
    assert_eq!(shown(&store), counts([("h{l=\"a\"}", &["1"])]));
    assert_eq!(shown(&store), counts([("h{l=\"a\"}", &["1"])]));
    operate(&store, vec![observe("h", "a", -3.0, 9)], now).unwrap();
    text(&store);
    operate(&store, vec![observe("h", "a", 1.0, 0)], now).unwrap();
    assert_eq!(shown(&store), counts([("h{l=\"a\"}", &["1", "2"])]));
}

#[test]
fn later_series_do_not_show_removed_native_histograms() {
    let (store, now) = (store(), Now::read());
    let both = || vec![observe("h", "a", 1.0, 9), observe("h", "b", 1.0, 9)];
    operate(&store, both(), now).unwrap();
    assert_eq!(shown(&store).len(), 2);
    operate(&store, vec![delete("h", "a")], now).unwrap();
    assert_eq!(shown(&store), counts([("h{l=\"b\"}", &["1"])]));
    operate(&store, vec![delete("h", "b")], now).unwrap();
    assert_eq!(shown(&store), counts([]));
    // Nor before a snapshot has noticed that they are gone.
    operate(&store, both(), now).unwrap();
    assert_eq!(shown(&store).len(), 2);
    operate(&store, vec![delete("h", "a"), delete("h", "b")], now).unwrap();
    operate(&store, vec![observe("h", "a", 1.0, 0)], now).unwrap();
    assert_eq!(shown(&store), counts([]));
    operate(&store, vec![delete("h", "a")], now).unwrap();
    operate(&store, both(), now).unwrap();
    assert_eq!(shown(&store).len(), 2);
    operate(&store, vec![delete("h", "a"), delete("h", "b")], now).unwrap();
    push(
        &store,
        "app",
        "# TYPE h histogram\nh_bucket{l=\"a\",le=\"+Inf\"} 7\nh_sum{l=\"a\"} 7\nh_count{l=\"a\"} 7\n",
    )
    .unwrap();
    assert!(store.natives().is_empty(), "a section has none");
    assert_eq!(shown(&store), counts([]));
}

#[test]
fn native_histograms_expire_with_their_series() {
    let (store, start) = (store(), Now::read());
    let mut short = observe("h", "a", 1.0, 9);
    short.ttl = Some(Duration::from_secs(1));
    operate(&store, vec![short, observe("h", "b", 1.0, 9)], start).unwrap();
    assert_eq!(shown(&store).len(), 2);
    assert_eq!(store.expire_series(start.after(Duration::from_secs(2))), 1);
    assert_eq!(shown(&store), counts([("h{l=\"b\"}", &["1"])]));
}

#[test]
fn native_buckets_count_as_memory_until_removed() {
    let (store, now) = (store(), Now::read());
    let bytes = || store.aggregated_totals().bytes;
    operate(&store, vec![observe("h", "a", 1.0, 0)], now).unwrap();
    let classic = bytes();
    operate(&store, vec![delete("h", "a")], now).unwrap();
    operate(&store, vec![observe("h", "a", 1.0, 1000)], now).unwrap();
    let one = bytes();
    assert!(one > classic, "{one} and {classic}");
    for power in 0..100 {
        operate(
            &store,
            vec![observe("h", "a", f64::from(power).exp2(), 1000)],
            now,
        )
        .unwrap();
    }
    assert!(bytes() >= one + 96 * 12, "{} and {one}", bytes());
    assert_eq!(shown(&store)["h{l=\"a\"}"].len(), 100);
    operate(&store, vec![delete("h", "a")], now).unwrap();
    assert_eq!((bytes(), store.read().weight), (0, 0));
}

#[test]
fn a_rejected_native_update_changes_nothing() {
    let (store, now) = (store(), Now::read());
    operate(&store, vec![observe("h", "a", 1.0, 9)], now).unwrap();
    let before = shown(&store);
    let counts = Op::Histogram {
        buckets: vec![(1.0, 1.0)],
        sum: None,
        count: Some(2.0),
    };
    let pushed = update("h", Kind::Histogram, &[("l", "a")], counts);
    let rejection = operate(&store, vec![pushed], now).unwrap_err().to_string();
    let why = "it has native buckets of observations, and pushed counts have none";
    assert!(rejection.contains(why), "{rejection}");
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        operate(&store, vec![observe("h", "a", value, 9)], now).unwrap_err();
    }
    assert_eq!(shown(&store), before);
}
