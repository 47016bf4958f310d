//! The registry against a plain model: whatever sequence of batches comes, it
//! refuses the same, shows the same, and reservation what it shows.

mod plain;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::render;
use super::*;
use crate::exposition::{CanonicalOptions, Kind, TextLimits, TimestampPolicy, canonicalize};
use plain::Model;
use steps::{Event, FAMILIES, LIMITS, Step, any_event};

/// The registry with what it has shown and claimed so far.
struct Tested {
    registry: Registry,
    hasher: RandomState,
    shown: BTreeMap<(Arc<str>, u32), String>,
    claimed: HashSet<u64>,
    heads: BTreeMap<String, (Kind, Option<String>)>,
}

impl Tested {
    fn new() -> Self {
        let hasher = RandomState::new();
        Tested {
            registry: Registry::new(LIMITS, hasher.clone()),
            hasher,
            shown: BTreeMap::new(),
            claimed: HashSet::new(),
            heads: BTreeMap::new(),
        }
    }

    fn take(&mut self) {
        let changed = self.registry.take_dirty();
        assert_eq!(self.registry.dirty_series(), 0);
        self.remove(changed.removed);
        for block in changed.blocks {
            let key = (Arc::clone(&block.family), block.number);
            let before = self.shown.get(&key).map(String::as_str);
            let text = render(&block, &changed.lines, before);
            assert!(!text.is_empty());
            self.shown.insert(key, text);
            self.registry.set_hint(block.id, block.hint + 1);
        }
    }

    /// Takes what has changed, and loses some of it: every so many blocks.
    fn lose(&mut self, every: usize) {
        let changed = self.registry.take_dirty();
        self.remove(changed.removed);
        for (at, block) in changed.blocks.into_iter().enumerate() {
            let key = (Arc::clone(&block.family), block.number);
            if at % every == 0 {
                self.registry.mark_dirty(block.id);
                self.shown
                    .insert(key, String::from("it is of no use now\n"));
                continue;
            }
            let before = self.shown.get(&key).map(String::as_str);
            let text = render(&block, &changed.lines, before);
            self.shown.insert(key, text);
        }
    }

    fn remove(&mut self, gone: Vec<(Arc<str>, u32)>) {
        for block in gone {
            assert!(
                self.shown.remove(&block).is_some(),
                "{block:?} was never shown"
            );
        }
    }

    /// What is to be rendered is counted as it comes.
    fn check_counts(&self) {
        let registry = &self.registry;
        let blocks = (0..).zip(&registry.families).filter_map(|(id, family)| {
            let family = family.as_deref()?;
            let numbers = family.iter().map(|(slot, _)| slot.block());
            let numbers: BTreeSet<u32> = numbers.collect();
            Some(numbers.into_iter().map(move |number| (id, number, family)))
        });
        let mut sum = 0;
        for (id, number, family) in blocks.flatten() {
            let block = family.block(number).unwrap();
            let count = block.stale().count();
            assert_eq!(block.counted, count);
            assert_eq!(registry.changed.contains(&(id, number)), count > 0);
            sum += usize::from(count);
        }
        assert_eq!(registry.stale, sum);
    }

    fn claim(&mut self, reservation: &Reservation) {
        for hash in &reservation.released_series {
            assert!(self.claimed.remove(hash), "what is released was held");
        }
        for (hash, _) in &reservation.reserved_series {
            assert!(self.claimed.insert(*hash), "what is claimed was free");
        }
        for name in &reservation.removed_families {
            assert!(self.heads.remove(&**name).is_some());
        }
        for head in reservation
            .added_families
            .iter()
            .chain(&reservation.changed_families)
        {
            let help = head.help.as_deref().map(str::to_owned);
            self.heads
                .insert(head.family.to_string(), (head.kind, help));
        }
    }

    fn text(&mut self) -> String {
        self.take();
        self.shown.values().cloned().collect()
    }

    fn check(&mut self, model: &Model) -> Result<(), TestCaseError> {
        let text = self.text();
        let expected = model.text();
        prop_assert_eq!(sorted(&text), sorted(&expected));
        let normal = CanonicalOptions {
            limits: TextLimits::default(),
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: &self.hasher,
        };
        let families = canonicalize(&text, &normal).unwrap();
        let hashes: HashSet<u64> = families
            .iter()
            .flat_map(|family| family.series.iter())
            .copied()
            .collect();
        prop_assert_eq!(&hashes, &self.claimed);
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

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_registry_is_the_model(events in vec(any_event(), 1..40)) {
        let mut tested = Tested::new();
        let mut model = Model::default();
        let start = Instant::now();
        let policies = [BoundsPolicy::Common, BoundsPolicy::Union, BoundsPolicy::Reject];
        // The first moment that is told is the beginning.
        tested.registry.expire(start);
        for event in events {
            let at = start + Duration::from_secs(model.now);
            match event {
                Event::Batch { replace, steps, conflict } => {
                    let conflict = policies[usize::from(conflict)];
                    let batch = Batch {
                        replace: replace.iter().map(|family| Arc::from(FAMILIES[*family].0)).collect(),
                        updates: steps.iter().map(Step::update).collect(),
                        bounds_policy: conflict,
                        existing_only: false,
                    };
                    match (tested.registry.check(batch, at), model.after(&replace, &steps, conflict)) {
                        (Ok(plan), Some(after)) => {
                            tested.claim(plan.reservation());
                            tested.registry.commit(plan);
                            model = after;
                        }
                        (Err(_), None) => {}
                        (Ok(_), None) => prop_assert!(false, "{steps:?} is to be refused"),
                        (Err(refused), Some(_)) => prop_assert!(false, "{steps:?}: {refused}"),
                    }
                }
                Event::Lose(every) => {
                    let (_, reservation) = tested.registry.expire(at);
                    tested.claim(&reservation);
                    model.expire();
                    tested.lose(every);
                }
                Event::Passed(seconds) => model.now += seconds,
                Event::Expire => {
                    let (series, reservation) = tested.registry.expire(at);
                    tested.claim(&reservation);
                    prop_assert_eq!(series, model.expire());
                    prop_assert!(!tested.registry.is_due(at));
                }
                Event::Take => {
                    // This alone tells the time, and takes nothing else.
                    let (series, reservation) = tested.registry.expire(at);
                    tested.claim(&reservation);
                    prop_assert_eq!(series, model.expire());
                    tested.check(&model)?;
                }
            }
            tested.check_counts();
        }
        let at = start + Duration::from_secs(model.now);
        let (_, reservation) = tested.registry.expire(at);
        tested.claim(&reservation);
        model.expire();
        tested.check(&model)?;

        // When all is gone, nothing is left.
        let replace = (0..FAMILIES.len()).map(|family| Arc::from(FAMILIES[family].0)).collect();
        let batch = Batch { replace, ..Batch::default() };
        let plan = tested.registry.check(batch, at).unwrap();
        tested.claim(plan.reservation());
        tested.registry.commit(plan);
        tested.check(&Model::default())?;
        prop_assert_eq!(tested.registry.weight(), 0);
        let registry = &tested.registry;
        prop_assert!(registry.expiring.is_empty() && registry.aging.is_empty());
        prop_assert!(registry.changed.is_empty() && registry.removed_blocks.is_empty());
        prop_assert_eq!(registry.by_name.len(), 0);
    }
}
