use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::Now;
use crate::exposition::Content;
use crate::exposition::{FamilyText, Kind, LabelText, NativeHistogram, Text};
use crate::peer::{Origin, Peer};
use crate::registry;
use crate::store::limits::{ShareLimits, StoreLimits};
use crate::store::rejection::Rejection;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::shares::Shares;
use crate::store::store::Store;
use crate::store::write::change::{Change, OtherFamilies};

fn store(bytes: usize) -> Store {
    let limits = StoreLimits {
        apps: 3,
        groups: 2,
        bytes,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, true)
}

fn id(number: u8) -> SectionId {
    let producer = match number {
        0..4 => Producer::App,
        4 => Producer::Target,
        _ => Producer::Group,
    };
    SectionId::new(&format!("s{number}"), producer)
}

/// A family of some series, whose values have the number of the write.
fn family(name: u8, shape: u8, series: u8, write: usize) -> FamilyText {
    let mut samples = String::new();
    let series: Vec<u64> = (0..=series)
        .map(|n| {
            let _ = writeln!(samples, "f{name}{{n=\"{n}\"}} {write}");
            (u64::from(name) << 32) + u64::from(n) + 1
        })
        .collect();
    let native = NativeHistogram {
        labels: Box::from("n=\"0\""),
        gauge: false,
        histogram: bytes::Bytes::from(vec![write as u8]),
    };
    FamilyText {
        name: format!("f{name}").into(),
        kind: [Kind::Gauge, Kind::Gauge, Kind::Histogram, Kind::Counter][shape as usize % 4],
        open: None,
        help: (shape > 4).then(|| format!("help {shape}")),
        line: 1,
        samples: Text::new(&samples),
        series: series.into(),
        natives: if shape == 2 { vec![native] } else { Vec::new() },
    }
}

#[derive(Debug, Clone)]
enum Step {
    Replace(u8, Vec<(u8, u8, u8)>),
    Update(u8, Vec<(u8, u8, u8)>, Option<u8>, bool, bool),
    Verbatim(u8, usize),
    Remove(u8),
    Fail(u8),
}

fn any_families() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    let family = (0..12_u8, (0..8_u8, 0..4_u8));
    let families = proptest::collection::btree_map(family.0, family.1, 0..8);
    families.prop_map(|families| {
        let families = families.into_iter();
        families
            .map(|(name, (shape, series))| (name, shape, series))
            .collect()
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8, any_families()).prop_map(|(id, families)| Step::Replace(id, families)),
        4 => (0..8_u8, any_families(), proptest::option::of(0..14_u8), any::<bool>(), any::<bool>())
            .prop_map(|(id, families, default, keep, failed)| Step::Update(id, families, default, keep, failed)),
        1 => (0..4_u8, 0..40_000_usize).prop_map(|(id, size)| Step::Verbatim(id, size)),
        1 => (0..8_u8).prop_map(Step::Remove),
        1 => (0..8_u8).prop_map(Step::Fail),
    ]
}

/// One of several senders.
fn origin(write: usize) -> Origin {
    Origin {
        source: Arc::from("test"),
        peer: Peer::Forwarded(Ipv4Addr::new(192, 0, 2, write as u8 % 3).into()),
        user: (write % 2 == 1).then(|| Arc::from("user")),
    }
}

fn change(step: &Step, write: usize) -> Change {
    let families = |families: &[(u8, u8, u8)]| {
        let families = families.iter();
        let families = families.map(|(name, shape, series)| family(*name, *shape, *series, write));
        families.collect::<Vec<_>>()
    };
    let lifetime = write
        .is_multiple_of(3)
        .then(|| Duration::from_secs(write as u64 % 7));
    match step {
        Step::Replace(of, told) => Change::Replace {
            id: id(*of),
            content: Content::Families(families(told)),
            origin: origin(write),
            lifetime,
        },
        Step::Update(of, told, default, keep, failed) => Change::Update {
            id: id(*of),
            families: families(told),
            defaults: default
                .iter()
                .map(|name| family(*name + 20, 0, 0, write))
                .collect(),
            others: if *keep {
                OtherFamilies::Keep
            } else {
                OtherFamilies::Drop
            },
            origin: origin(write),
            lifetime,
            problem: failed.then(|| "failed".to_owned()),
        },
        Step::Verbatim(of, size) => Change::Replace {
            id: id(*of),
            content: Content::Verbatim(Text::new(&"v 1\n".repeat(size / 4))),
            origin: origin(write),
            lifetime,
        },
        Step::Remove(of) => Change::Remove {
            id: id(*of),
            unless_since: None,
        },
        Step::Fail(of) => Change::Fail {
            id: id(*of),
            origin: origin(write),
            problem: "failed".to_owned(),
            keep: lifetime,
        },
    }
}

/// Everything that a store exposes and counts.
fn seen(store: &Store) -> impl PartialEq + std::fmt::Debug + use<> {
    let snapshot = store.snapshot_with_natives();
    let natives: Vec<(String, Vec<u8>)> = store
        .natives()
        .iter()
        .map(|(name, natives)| {
            let histograms = natives.iter().flat_map(|native| native.histogram.to_vec());
            (name.to_string(), histograms.collect())
        })
        .collect();
    let sections: Vec<String> = store
        .sections(None, usize::MAX)
        .iter()
        .map(|(id, section)| {
            let families: Vec<_> = section.families().collect();
            let text = store.text(id);
            let (state, bytes, weight) = (section.state, section.bytes, section.weight);
            let problem = section.problem.as_ref().map(|problem| &problem.reason);
            format!("{id} {state:?} {bytes} {weight} {families:?} {problem:?} {text:?}")
        })
        .collect();
    let inside = store.read();
    if let Some(shares) = &inside.shares {
        let all = inside.by_id.iter().map(|(id, section)| (id, &**section));
        let counted = Shares::new(*shares.limits(), &Arc::default(), all);
        assert_eq!(shares.held(), counted.held());
    }
    let held = (
        inside.weight,
        inside.families().series(),
        inside.page_list.len(),
    );
    let text = String::from_utf8(snapshot.text()).unwrap();
    assert_eq!(text.len(), held.2);
    (text, natives, sections, store.totals(), held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Large writes and ordinary ones have the same effect.
    #[test]
    fn a_large_write_has_the_effect_of_any_other(writes in vec(vec(any_step(), 1..4), 1..12)) {
        let (plain, large) = (store(60_000), store(60_000));
        let shares = ShareLimits {
            address: Some(30_000),
            app: Some(35_000),
            user: Some(30_000),
            loopback: false,
        };
        for store in [&plain, &large] {
            store.set_shares(shares);
        }
        let start = Now::read();
        for (number, steps) in writes.iter().enumerate() {
            let now = Now {
                tick: start.tick + Duration::from_secs(number as u64),
                wall: start.wall + Duration::from_secs(number as u64),
            };
            let write = || Write {
                changes: steps.iter().map(|step| change(step, number)).collect(),
            }.deduplicated();
            let expected = plain.apply(write(), now);
            let turn = large.turn();
            let done = large.apply_large(write(), now);
            drop(turn);
            prop_assert_eq!(done, expected);
            prop_assert_eq!(seen(&large), seen(&plain));
            prop_assert_eq!(large.expire(now), plain.expire(now));
            prop_assert_eq!(seen(&large), seen(&plain));
        }
    }

    #[test]
    fn a_large_withdrawal_has_the_effect_of_any_other(steps in vec(any_step(), 1..8), of in 0..8_u8) {
        let (plain, large) = (store(1 << 20), store(1 << 20));
        for (number, step) in steps.iter().enumerate() {
            for store in [&plain, &large] {
                let _ = store.apply(Write::one(change(step, number)), Now::read());
            }
        }
        let known: Vec<u8> = (0..8).filter(|of| plain.section_of(&id(*of)).is_some()).collect();
        prop_assume!(!known.is_empty());
        let of = known[usize::from(of) % known.len()];
        plain.write().withdraw(&id(of), &mut Vec::new());
        large.withdraw_large(&id(of));
        let texts = |store: &Store| {
            let text = String::from_utf8(store.snapshot().text()).unwrap();
            // Update times differ.
            let lines = text.lines().filter(|line| !line.starts_with("exporter_proxy_app_last"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        prop_assert_eq!(texts(&large), texts(&plain));
        prop_assert_eq!(large.totals(), plain.totals());
        prop_assert_eq!(large.read().families().series(), plain.read().families().series());
    }
}

fn many(families: u64, value: u64) -> Write {
    let families = (0..families).map(|number| FamilyText {
        name: format!("m{number}").into(),
        kind: Kind::Gauge,
        help: None,
        open: None,
        line: 1,
        samples: Text::new(&format!("m{number} {value}\n")),
        series: vec![number | (1 << 63)].into(),
        natives: Vec::new(),
    });
    Write::one(Change::Replace {
        id: SectionId::new("large", Producer::App),
        content: Content::Families(families.collect()),
        origin: Origin::default(),
        lifetime: None,
    })
}

/// Ends the other threads, even if this one panics.
struct AtEnd<'o>(&'o AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_see_a_large_write_whole_and_never_wait_for_it() {
    const FAMILIES: usize = 20_000;
    let store = store(usize::MAX);
    let over = AtomicBool::new(false);
    // How often the reader has seen that a write was in progress.
    let seen = AtomicU32::new(0);
    let values = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with('m'));
        let mut values: Vec<String> = lines
            .map(|line| line.rsplit(' ').next().unwrap().to_owned())
            .collect();
        let count = values.len();
        values.dedup();
        (count, values)
    };
    let mut value = 0;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let text = String::from_utf8(store.snapshot().text()).unwrap();
                let (count, values) = values(&text);
                assert!(
                    matches!((count, values.len()), (0, 0) | (FAMILIES, 1)),
                    "{count} {values:?}"
                );
                seen.fetch_add(u32::from(store.is_busy()), Ordering::Relaxed);
            }
        });
        let small = scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number = (number + 1) % 5;
                let step = Step::Replace(1, vec![(number, 0, 1)]);
                store
                    .apply(Write::one(change(&step, 1)), Now::read())
                    .unwrap();
                thread::yield_now();
            }
        });
        let end = AtEnd(&over);
        let is_seen = || seen.load(Ordering::Relaxed) > 0;
        let begun = Instant::now();
        // The reader may come late on a busy machine.
        while value < 5 || !is_seen() && begun.elapsed() < Duration::from_secs(30) {
            value += 1;
            store
                .apply(many(FAMILIES as u64, value), Now::read())
                .unwrap();
        }
        drop(end);
        small.join().unwrap();
        reader.join().unwrap();
        // It read while a write was in progress.
        assert!(is_seen());
    });
    let (count, values) = values(&String::from_utf8(store.snapshot().text()).unwrap());
    assert_eq!((count, values), (FAMILIES, vec![value.to_string()]));
}

#[test]
fn a_rejected_large_write_changes_nothing() {
    let store = store(usize::MAX);
    let small = Step::Replace(1, vec![(1, 0, 1)]);
    store
        .apply(Write::one(change(&small, 1)), Now::read())
        .unwrap();
    let before = seen(&store);
    let mut large = many(5_000, 1);
    if let Change::Replace {
        content: Content::Families(families),
        ..
    } = &mut large.changes[0]
    {
        families.push(family(1, 0, 1, 9));
    }
    let rejection = store.apply(large, Now::read()).unwrap_err();
    let Rejection::DuplicateSeries { section, .. } = &rejection else {
        panic!("{rejection}");
    };
    assert_eq!(*section, SectionId::new("large", Producer::App));
    assert_eq!(seen(&store), before);
    assert!(!store.is_busy());
    store.apply(many(5_000, 1), Now::read()).unwrap();
    store.apply(many(0, 1), Now::read()).unwrap();
    assert_eq!(store.read().families().series(), 2);
}

#[test]
fn an_operation_releases_the_registry_while_it_waits_for_a_large_write() {
    let store = store(usize::MAX);
    let added = registry::Update {
        family: "ops".into(),
        kind: Kind::Counter,
        help: None,
        labels: LabelText::default(),
        ttl: None,
        change: registry::Change::Add(1.0),
    };
    let batch = registry::Batch {
        updates: vec![added],
        ..registry::Batch::default()
    };
    let turn = store.turn();
    store.set_busy(true);
    thread::scope(|scope| {
        let operated = scope.spawn(|| store.operate(batch, Now::read()));
        // By then it waits, unless the machine is very slow.
        thread::sleep(Duration::from_millis(50));
        let is_free = (0..3000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            store.registry.try_lock().is_ok()
        });
        let waits = !operated.is_finished();
        store.set_busy(false);
        drop(turn);
        operated.join().unwrap().unwrap();
        assert!(is_free && waits);
    });
    let text = String::from_utf8(store.snapshot().text()).unwrap();
    assert!(text.ends_with("ops 1\n"), "{text}");
}
