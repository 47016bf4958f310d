//! How living families come into the output.
//!
//! There, a living family is fragments of blocks. They are set when a snapshot
//! is taken, and the pages are taken while the registry is still locked: so a
//! snapshot shows the registry as it was at one moment.
//!
//! The output holds the one text of a block. Where only values have changed
//! since it was rendered, the next is made from it, and nobody else changes it
//! meanwhile: snapshots that render take turns.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::rope::Place;
use super::sections::{Key, Part, Sections};
use super::{Snapshot, Store};
use crate::registry::{BlockCopy, BlockId, Changed, Registry, Scratch};

/// Changed blocks that are rendered under the locks. More of them are rendered
/// before, and what has changed meanwhile is looked at again.
const FEW_BLOCKS: usize = 8;

/// How often that is done. Whatever is left then is rendered under the locks:
/// it has changed within the time that the round before took.
const ROUNDS: usize = 3;

/// Texts that are looked for under one lock, so that no writer waits long.
const LOOKED_FOR_AT_ONCE: usize = 1024;

/// What was taken from the registry and is not in the output yet. Nothing stays
/// in here from one snapshot to the next, unless one ends in the middle.
#[derive(Debug, Default)]
pub struct Flush {
    taken: Vec<BlockId>,
    gone: Vec<(Arc<str>, u32)>,
}

/// What is made of one look at the registry. What came out of a later one holds
/// where both have the same.
#[derive(Debug, Default)]
struct Round {
    gone: Vec<(Arc<str>, u32)>,
    /// In the order of their ids.
    blocks: Vec<(BlockCopy, Bytes)>,
}

impl Store {
    /// With `natives`, the native histograms of that moment are in it.
    pub(super) fn flushed_snapshot(&self, natives: bool) -> Snapshot {
        let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rounds = vec![Round {
            gone: flush.gone.clone(),
            blocks: Vec::new(),
        }];
        // Blocks whose texts were lost are asked for again.
        let mut lost = std::mem::take(&mut flush.taken);
        let mut scratch = Scratch::default();
        loop {
            let mut registry = self.registry();
            for id in lost.drain(..) {
                registry.redo(id);
            }
            let changed = registry.take_changed();
            flush
                .taken
                .extend(changed.blocks.iter().map(|block| block.id));
            flush.gone.extend_from_slice(&changed.gone);
            let is_last = changed.blocks.len() <= FEW_BLOCKS || rounds.len() >= ROUNDS;
            let registry = is_last.then_some(registry);
            let round = self.render(changed, &rounds, &mut scratch, &mut lost);
            rounds.push(round);
            if let Some(mut registry) = registry.filter(|_| lost.is_empty()) {
                let snapshot = self.snapshot_with(&mut registry, rounds, natives);
                *flush = Flush::default();
                return snapshot;
            }
        }
    }

    /// Renders what has changed. Blocks whose text cannot be made come to
    /// `lost`.
    fn render(
        &self,
        changed: Changed,
        rounds: &[Round],
        scratch: &mut Scratch,
        lost: &mut Vec<BlockId>,
    ) -> Round {
        let Changed {
            gone,
            blocks,
            lines,
        } = changed;
        let texts = self.texts_of(&blocks, rounds);
        let mut rendered = Vec::with_capacity(blocks.len());
        for (block, before) in blocks.into_iter().zip(texts) {
            match block.render(&lines, before.as_deref(), scratch) {
                Some(text) => rendered.push((block.without_values(), text)),
                None => lost.push(block.id),
            }
        }
        Round {
            gone,
            blocks: rendered,
        }
    }

    /// The last texts of blocks that are rendered from them.
    fn texts_of(&self, blocks: &[BlockCopy], rounds: &[Round]) -> Vec<Option<Bytes>> {
        if !blocks.iter().any(BlockCopy::is_part) {
            return vec![None; blocks.len()];
        }
        let text = |block: &BlockCopy, sections: &Sections| {
            if !block.is_part() {
                return None;
            }
            let rendered = rounds.iter().rev().find_map(|round| round.text(block.id));
            rendered.or_else(|| {
                let key = key(sections, &block.family, block.number);
                sections.rope.get_near(&key, block.mark.into())
            })
        };
        let mut texts = Vec::with_capacity(blocks.len());
        for some in blocks.chunks(LOOKED_FOR_AT_ONCE) {
            let sections = self.read();
            texts.extend(some.iter().map(|block| text(block, &sections)));
        }
        texts
    }

    /// Sets what was rendered, and takes the pages. The registry is locked.
    fn snapshot_with(
        &self,
        registry: &mut Registry,
        rounds: Vec<Round>,
        natives: bool,
    ) -> Snapshot {
        let taken = |sections: &Sections| {
            let pages = (sections.rope.pages(), sections.rope.len());
            let snapshot = Snapshot::new(pages.0, pages.1, Arc::clone(&self.bundles));
            let snapshot = snapshot.of_families(sections.is_merged());
            if natives {
                snapshot.with_natives(sections.natives.all())
            } else {
                snapshot
            }
        };
        let is_empty = |round: &Round| round.gone.is_empty() && round.blocks.is_empty();
        if rounds.iter().all(is_empty) {
            return taken(&self.read());
        }
        let mut sections = self.write();
        let mut freed = Vec::new();
        for round in rounds {
            for (family, number) in round.gone {
                let key = key(&sections, &family, number);
                freed.push(sections.rope.remove(&key));
            }
            for (block, text) in round.blocks {
                let mut place = Place::from(block.mark);
                let key = key(&sections, &block.family, block.number);
                freed.push(sections.rope.set_near(key, text, &mut place));
                if u64::from(place) != block.mark {
                    registry.set_mark(block.id, place.into());
                }
            }
        }
        let snapshot = taken(&sections);
        drop(sections);
        drop(freed);
        snapshot
    }
}

impl Round {
    fn text(&self, id: BlockId) -> Option<Bytes> {
        let at = self.blocks.binary_search_by_key(&id, |(block, _)| block.id);
        at.ok().map(|at| self.blocks[at].1.clone())
    }
}

fn key(sections: &Sections, family: &Arc<str>, number: u32) -> Key {
    Key::Family(sections.families.name(family), Part::Block(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Kind, LabelText};
    use crate::registry::{self, Batch, Change, Update};
    use crate::store::{Limits, Now};

    fn store() -> Store {
        let limits = Limits {
            apps: 10,
            groups: 10,
            bytes: 1 << 20,
            registry: registry::Limits::default(),
        };
        Store::new(limits, false)
    }

    fn change(store: &Store, family: &str, n: usize, change: Change) {
        let n = n.to_string();
        let update = Update {
            family: Arc::from(family),
            kind: Kind::Gauge,
            help: None,
            labels: LabelText::from_plain([("n", &*n)]).unwrap(),
            ttl: None,
            change,
        };
        let batch = Batch {
            updates: vec![update],
            ..Batch::default()
        };
        store.operate(batch, Now::read()).unwrap();
    }

    fn text(store: &Store) -> String {
        let text = String::from_utf8(store.snapshot().text()).unwrap();
        let flush = store.flush.lock().unwrap();
        assert!(flush.taken.is_empty() && flush.gone.is_empty());
        text
    }

    /// Series of two families, in several blocks, once shown.
    fn shown() -> Store {
        let store = store();
        for family in ["a", "b"] {
            for n in 0..100 {
                change(&store, family, n, Change::Set(1.0));
            }
        }
        text(&store);
        store
    }

    #[test]
    fn what_a_snapshot_takes_and_never_shows_comes_with_the_next() {
        let store = shown();
        change(&store, "a", 50, Change::Set(2.0));
        for n in 32..64 {
            change(&store, "b", n, Change::Delete);
        }
        // One ends in the middle here.
        let changed = store.registry().take_changed();
        assert_eq!((changed.blocks.len(), changed.gone.len()), (1, 1));
        *store.flush.lock().unwrap() = Flush {
            taken: changed.blocks.iter().map(|block| block.id).collect(),
            gone: changed.gone,
        };
        change(&store, "a", 51, Change::Set(3.0));
        // They take what room there is, and then the place of the gone block.
        for n in 32..62 {
            change(&store, "b", n, Change::Set(4.0));
        }
        let out = text(&store);
        for line in ["a{n=\"50\"} 2\n", "a{n=\"51\"} 3\n", "b{n=\"61\"} 4\n"] {
            assert!(out.contains(line), "{out}");
        }
        assert_eq!(out.lines().count(), 2 + 200 - 2);
    }

    #[test]
    fn a_text_that_is_not_as_it_was_left_is_rendered_whole() {
        let store = shown();
        let before = text(&store);
        let keys = [0, 1].map(|number| key(&store.read(), &Arc::from("a"), number));
        store.write().rope.remove(&keys[0]);
        let other = Bytes::from_static(b"a 1\n");
        store.write().rope.set(keys[1].clone(), other);
        change(&store, "a", 7, Change::Set(2.0));
        change(&store, "a", 50, Change::Set(2.0));
        let after = text(&store);
        let expected = before.replace("a{n=\"7\"} 1\n", "a{n=\"7\"} 2\n");
        let expected = expected.replace("a{n=\"50\"} 1\n", "a{n=\"50\"} 2\n");
        assert_eq!(after, expected);
    }

    /// Changes may come between two looks at the registry: here they always do.
    #[test]
    fn a_later_round_goes_on_from_the_one_before() {
        let store = shown();
        let (scratch, lost) = (&mut Scratch::default(), &mut Vec::new());
        let mut rounds = Vec::new();
        let steps = [("a", 1), ("a", 2), ("new", 1), ("a", 3), ("new", 2)];
        for (family, n) in steps {
            change(&store, family, n, Change::Set(2.0));
            if family == "new" {
                change(&store, "b", 10 + n, Change::Set(2.0));
            }
            let changed = store.registry().take_changed();
            let round = store.render(changed, &rounds, scratch, lost);
            rounds.push(round);
        }
        change(&store, "new", 1, Change::Set(3.0));
        let changed = store.registry().take_changed();
        assert!(changed.blocks[0].is_part(), "its text is in a round only");
        let round = store.render(changed, &rounds, scratch, lost);
        rounds.push(round);
        assert!(lost.is_empty());
        store.snapshot_with(&mut store.registry(), rounds, false);
        let out = text(&store);
        let changed = |line: &&str| !line.ends_with(" 1") && !line.starts_with('#');
        let changed: Vec<&str> = out.lines().filter(changed).collect();
        let expected = [
            "a{n=\"1\"} 2",
            "a{n=\"2\"} 2",
            "a{n=\"3\"} 2",
            "b{n=\"11\"} 2",
            "b{n=\"12\"} 2",
            "new{n=\"1\"} 3",
            "new{n=\"2\"} 2",
        ];
        assert_eq!(changed, expected);
    }

    #[test]
    fn blocks_are_found_where_they_were_though_others_moved_them() {
        let store = shown();
        for round in 0..3 {
            // Texts that come before move all that follow.
            for n in 0..300 {
                change(&store, &format!("0{round}"), n, Change::Set(1.0));
            }
            change(&store, "b", 99, Change::Set(f64::from(round) + 2.0));
            let out = text(&store);
            assert!(out.ends_with(&format!("b{{n=\"99\"}} {}\n", round + 2)));
        }
    }
}
