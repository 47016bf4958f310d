//! Property test of the registry against a plain model.
//!
//! For any sequence of batches, both accept and reject the same batches and show
//! the same samples, and the registry's reservations match what it shows.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]

mod model;
mod steps;

use std::collections::{BTreeMap, HashSet};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exporter_proxy::exposition::{
    CanonicalOptions, Kind, TextLimits, TimestampPolicy, canonicalize,
};
use exporter_proxy::registry::{
    Batch, BoundsPolicy, DirtyBlock, LineValue, Registry, RenderBuffers, Reservation,
};
use proptest::collection::vec;
use proptest::prelude::*;

use model::Model;
use steps::{Event, FAMILIES, LIMITS, Step, any_event};

/// The registry, with everything that it has handed out.
struct Tested {
    registry: Registry,
    hasher: RandomState,
    /// Texts by family and number of the block.
    shown: BTreeMap<(Arc<str>, u32), String>,
    /// Hashes of the reserved series lines.
    reserved: HashSet<u64>,
    /// Types and help texts by family.
    heads: BTreeMap<String, (Kind, Option<String>)>,
}

impl Tested {
    fn new() -> Self {
        let hasher = RandomState::new();
        Tested {
            registry: Registry::new(LIMITS, hasher.clone()),
            hasher,
            shown: BTreeMap::new(),
            reserved: HashSet::new(),
            heads: BTreeMap::new(),
        }
    }

    /// Takes and renders what has changed.
    fn take(&mut self) {
        let dirty = self.registry.take_dirty();
        assert_eq!(self.registry.dirty_series(), 0);
        self.remove(dirty.removed);
        for block in dirty.blocks {
            let key = (Arc::clone(&block.family), block.number);
            let before = self.shown.get(&key).map(String::as_str);
            let text = render(&block, &dirty.lines, before);
            assert!(!text.is_empty());
            self.shown.insert(key, text);
            self.registry.set_hint(block.id, block.hint + 1);
        }
    }

    /// Takes what has changed, and loses every `nth` block of it.
    fn lose(&mut self, nth: usize) {
        let dirty = self.registry.take_dirty();
        self.remove(dirty.removed);
        for (index, block) in dirty.blocks.into_iter().enumerate() {
            let key = (Arc::clone(&block.family), block.number);
            if index % nth == 0 {
                self.registry.mark_dirty(block.id);
                self.shown.insert(key, String::from("a lost text\n"));
                continue;
            }
            let before = self.shown.get(&key).map(String::as_str);
            let text = render(&block, &dirty.lines, before);
            self.shown.insert(key, text);
        }
    }

    fn remove(&mut self, removed: Vec<(Arc<str>, u32)>) {
        for block in removed {
            let text = self.shown.remove(&block);
            assert!(text.is_some(), "{block:?} was never shown");
        }
    }

    /// Applies a reservation, as the store does.
    fn reserve(&mut self, reservation: &Reservation) {
        for hash in &reservation.released_series {
            assert!(self.reserved.remove(hash), "a released line was reserved");
        }
        for (hash, _) in &reservation.reserved_series {
            assert!(self.reserved.insert(*hash), "a reserved line was free");
        }
        for name in &reservation.removed_families {
            assert!(self.heads.remove(&**name).is_some());
        }
        let added = reservation.added_families.iter();
        for head in added.chain(&reservation.changed_families) {
            let help = head.help.as_deref().map(str::to_owned);
            self.heads
                .insert(head.family.to_string(), (head.kind, help));
        }
    }

    /// Sets the registry's time, and returns the number of expired series.
    fn expire(&mut self, now: Instant) -> usize {
        let (series, reservation) = self.registry.expire(now);
        self.reserve(&reservation);
        series
    }

    fn text(&mut self) -> String {
        self.take();
        self.shown.values().cloned().collect()
    }

    /// Compares the shown and reserved series with the model.
    fn check(&mut self, model: &Model) -> Result<(), TestCaseError> {
        let text = self.text();
        let expected = model.text();
        prop_assert_eq!(sorted(&text), sorted(&expected));
        let options = CanonicalOptions {
            limits: TextLimits::default(),
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: &self.hasher,
        };
        let families = canonicalize(&text, &options).unwrap();
        let hashes: HashSet<u64> = families
            .iter()
            .flat_map(|family| family.series.iter())
            .copied()
            .collect();
        prop_assert_eq!(&hashes, &self.reserved);
        let heads: BTreeMap<String, (Kind, Option<String>)> = model
            .families
            .iter()
            .map(|(name, family)| ((*name).to_owned(), (family.kind, family.help.clone())))
            .collect();
        prop_assert_eq!(&self.heads, &heads);
        prop_assert_eq!(self.registry.families(), heads.len());
        let series: usize = model.families.values().map(|it| it.series.len()).sum();
        prop_assert_eq!(self.registry.series(), series);
        Ok(())
    }
}

/// The text of a block, patched into the previous text if only values changed.
fn render(block: &DirtyBlock, lines: &[LineValue], before: Option<&str>) -> String {
    let mut buffers = RenderBuffers::default();
    let text = match block.render(&mut buffers) {
        Some(whole) => whole.to_vec(),
        None => {
            let before = before.expect("the block was rendered before").as_bytes();
            block.patch(lines, before, &mut buffers).unwrap().to_vec()
        }
    };
    String::from_utf8(text).unwrap()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_registry_agrees_with_the_model(events in vec(any_event(), 1..40)) {
        let mut tested = Tested::new();
        let mut model = Model::default();
        let start = Instant::now();
        let policies = [BoundsPolicy::Common, BoundsPolicy::Union, BoundsPolicy::Reject];
        // The registry counts time from the first time that it gets.
        tested.registry.expire(start);
        for event in events {
            let at = start + Duration::from_secs(model.now);
            match event {
                Event::Batch { replace, steps, policy } => {
                    let policy = policies[usize::from(policy)];
                    let batch = Batch {
                        replace: replace.iter().map(|family| Arc::from(FAMILIES[*family].0)).collect(),
                        updates: steps.iter().map(Step::update).collect(),
                        bounds_policy: policy,
                        existing_only: false,
                    };
                    match (tested.registry.check(batch, at), model.after(&replace, &steps, policy)) {
                        (Ok(changeset), Some(after)) => {
                            tested.reserve(changeset.reservation());
                            tested.registry.commit(changeset);
                            model = after;
                        }
                        (Err(_), None) => {}
                        (Ok(_), None) => prop_assert!(false, "{steps:?} must be rejected"),
                        (Err(rejection), Some(_)) => prop_assert!(false, "{steps:?}: {rejection}"),
                    }
                }
                Event::Lose(nth) => {
                    tested.expire(at);
                    model.expire();
                    tested.lose(nth);
                }
                Event::Wait(seconds) => model.now += seconds,
                Event::Expire => {
                    prop_assert_eq!(tested.expire(at), model.expire());
                    prop_assert!(!tested.registry.is_due(at));
                }
                Event::Take => {
                    // Windows have moved to the time of the last expiry.
                    prop_assert_eq!(tested.expire(at), model.expire());
                    tested.check(&model)?;
                }
            }
            tested.registry.assert_consistent();
        }
        let at = start + Duration::from_secs(model.now);
        tested.expire(at);
        model.expire();
        tested.check(&model)?;

        // Nothing is left when all families are removed.
        let replace = (0..FAMILIES.len()).map(|family| Arc::from(FAMILIES[family].0)).collect();
        let batch = Batch { replace, ..Batch::default() };
        let changeset = tested.registry.check(batch, at).unwrap();
        tested.reserve(changeset.reservation());
        tested.registry.commit(changeset);
        tested.check(&Model::default())?;
        prop_assert_eq!(tested.registry.weight(), 0);
        prop_assert_eq!(tested.registry.dirty_blocks(), 0);
        prop_assert!(tested.registry.take_dirty().removed.is_empty());
        // Without a block, all queues must be empty.
        tested.registry.assert_consistent();
    }
}
