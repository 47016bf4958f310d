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

use super::family::FamilyIndex;
use super::family_name::FamilyName;
use super::pages::page_list::FragmentHint;
use super::sections::{Key, Part, Sections};
use super::{Snapshot, Store};
use crate::registry::{BlockId, DirtyBlock, DirtyBlocks, LineValue, Registry, RenderBuffers};

/// DirtyBlocks blocks that come into the output while the registry is locked. More
/// of them come before, and what has changed meanwhile is looked at again: only
/// whoever takes a snapshot reads that part of the output.
const FEW_BLOCKS: usize = 8;

/// How often that is done. Whatever is left then comes under the lock: it has
/// changed within the time that the round before took.
const ROUNDS: usize = 3;

/// Blocks that come into the output under one lock, so that no writer waits
/// long.
const BLOCKS_AT_ONCE: usize = 16;

/// What was taken from the registry and may not be in the output yet. Nothing
/// stays in here from one snapshot to the next, unless one ends in the middle.
#[derive(Debug, Default)]
pub struct Flush {
    taken: Vec<BlockId>,
    gone: Vec<(Arc<str>, u32)>,
}

/// What goes on from one look at the registry to the next.
#[derive(Debug, Default)]
struct Work {
    /// Blocks whose texts are lost. They are asked for again.
    lost: Vec<BlockId>,
    /// Where texts of blocks are now, which the registry is to keep.
    marks: Vec<(BlockId, u64)>,
    /// Freed without a lock.
    freed: Vec<Bytes>,
    scratch: RenderBuffers,
}

/// The names that families have in the output, for as long as it is locked.
struct Names<'f> {
    families: &'f FamilyIndex,
    /// That of the family before: blocks of a family come together.
    last: Option<(Arc<str>, FamilyName)>,
}

impl Store {
    /// With `natives`, the native histograms of that moment are in it.
    pub(super) fn flushed_snapshot(&self, natives: bool) -> Snapshot {
        let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        let mut work = Work {
            lost: std::mem::take(&mut flush.taken),
            ..Work::default()
        };
        let mut gone = flush.gone.clone();
        let mut round = 0;
        let (mut registry, changed) = loop {
            let mut registry = self.registry();
            let mut changed = work.take_changed(&mut registry, &mut flush);
            gone.append(&mut changed.removed);
            changed.removed = std::mem::take(&mut gone);
            if changed.blocks.len() + changed.removed.len() <= FEW_BLOCKS || round == ROUNDS {
                break (registry, changed);
            }
            drop(registry);
            self.bring(changed, &mut work);
            round += 1;
        };
        let snapshot = if changed.removed.is_empty() && changed.blocks.is_empty() {
            self.pages_of(&self.read(), natives)
        } else {
            let mut sections = self.write();
            work.bring(&mut sections, &changed);
            while !work.lost.is_empty() {
                let changed = work.take_changed(&mut registry, &mut flush);
                work.bring(&mut sections, &changed);
            }
            self.pages_of(&sections, natives)
        };
        work.set_marks(&mut registry);
        drop(registry);
        *flush = Flush::default();
        snapshot
    }

    /// Brings what has changed into the output, some of it at a time.
    fn bring(&self, changed: DirtyBlocks, work: &mut Work) {
        for gone in changed.removed.chunks(BLOCKS_AT_ONCE) {
            work.remove(&mut self.write(), gone);
            work.freed.clear();
        }
        let mut blocks = changed.blocks.into_iter();
        loop {
            // Values make room for texts: there may be very many.
            let some: Vec<_> = blocks.by_ref().take(BLOCKS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            let texts = work.render(&some);
            work.set(&mut self.write(), &some, texts, &changed.lines);
            work.freed.clear();
        }
    }

    fn pages_of(&self, sections: &Sections, natives: bool) -> Snapshot {
        let pages = (sections.page_list.to_pages(), sections.page_list.len());
        let snapshot = Snapshot::new(pages.0, pages.1, Arc::clone(&self.page_runs));
        let snapshot = snapshot.of_families(sections.is_merged());
        if natives {
            snapshot.with_natives(sections.natives.all())
        } else {
            snapshot
        }
    }
}

impl Work {
    /// What has changed since it was taken last, and what was lost. `flush`
    /// takes note of it.
    fn take_changed(&mut self, registry: &mut Registry, flush: &mut Flush) -> DirtyBlocks {
        self.set_marks(registry);
        for id in self.lost.drain(..) {
            registry.mark_dirty(id);
        }
        let changed = registry.take_dirty();
        let ids = changed.blocks.iter().map(|block| block.id);
        flush.taken.extend(ids);
        flush.gone.extend_from_slice(&changed.removed);
        changed
    }

    fn set_marks(&mut self, registry: &mut Registry) {
        for (id, mark) in self.marks.drain(..) {
            registry.set_hint(id, mark);
        }
    }

    fn bring(&mut self, sections: &mut Sections, changed: &DirtyBlocks) {
        self.remove(sections, &changed.removed);
        let texts = self.render(&changed.blocks);
        self.set(sections, &changed.blocks, texts, &changed.lines);
    }

    fn remove(&mut self, sections: &mut Sections, gone: &[(Arc<str>, u32)]) {
        let mut names = Names::of(&sections.families);
        for (family, number) in gone {
            let key = names.key(family, *number);
            self.freed.push(sections.page_list.remove(&key));
        }
    }

    /// The texts of blocks that were taken whole.
    fn render(&mut self, blocks: &[DirtyBlock]) -> Vec<Option<Bytes>> {
        let texts = blocks.iter().map(|block| block.render(&mut self.scratch));
        texts.collect()
    }

    /// Sets the texts of blocks, and makes those of the others from what they
    /// were.
    fn set(
        &mut self,
        sections: &mut Sections,
        blocks: &[DirtyBlock],
        texts: Vec<Option<Bytes>>,
        lines: &[LineValue],
    ) {
        let mut names = Names::of(&sections.families);
        for (block, text) in blocks.iter().zip(texts) {
            let key = names.key(&block.family, block.number);
            let mut place = FragmentHint::from(block.hint);
            let freed = match text {
                Some(text) => Some(sections.page_list.set_near(key, text, &mut place)),
                None => sections.page_list.change_near(&key, &mut place, |before| {
                    block.patch(lines, before, &mut self.scratch)
                }),
            };
            match freed {
                Some(freed) => self.freed.push(freed),
                None => self.lost.push(block.id),
            }
            if u64::from(place) != block.hint {
                self.marks.push((block.id, place.into()));
            }
        }
    }
}

impl<'f> Names<'f> {
    fn of(families: &'f FamilyIndex) -> Self {
        Names {
            families,
            last: None,
        }
    }

    fn key(&mut self, family: &Arc<str>, number: u32) -> Key {
        let same = |(last, _): &&(Arc<str>, FamilyName)| Arc::ptr_eq(last, family);
        let known = self.last.as_ref().filter(same);
        let name = known.map_or_else(|| self.families.name(family), |(_, name)| name.clone());
        if known.is_none() {
            self.last = Some((Arc::clone(family), name.clone()));
        }
        Key::Family(name, Part::Block(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::exposition::{Kind, LabelText};
    use crate::registry::{self, Batch, Change, Update};
    use crate::store::Limits;

    fn store() -> Store {
        let limits = Limits {
            apps: 10,
            groups: 10,
            bytes: 1 << 20,
            registry: registry::RegistryLimits::default(),
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
        let changed = store.registry().take_dirty();
        assert_eq!((changed.blocks.len(), changed.removed.len()), (1, 1));
        *store.flush.lock().unwrap() = Flush {
            taken: changed.blocks.iter().map(|block| block.id).collect(),
            gone: changed.removed,
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
        let family = Arc::from("a");
        let keys = [0, 1].map(|number| Names::of(&store.read().families).key(&family, number));
        store.write().page_list.remove(&keys[0]);
        let other = Bytes::from_static(b"a 1\n");
        store.write().page_list.set(keys[1].clone(), other);
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
        let mut work = Work::default();
        let steps = [("a", 1), ("a", 2), ("new", 1), ("a", 3), ("new", 2)];
        for (family, n) in steps {
            change(&store, family, n, Change::Set(2.0));
            if family == "new" {
                change(&store, "b", 10 + n, Change::Set(2.0));
            }
            let changed = store.registry().take_dirty();
            store.bring(changed, &mut work);
        }
        change(&store, "new", 1, Change::Set(3.0));
        let changed = store.registry().take_dirty();
        let whole = changed.blocks[0].render(&mut RenderBuffers::default());
        assert_eq!(whole, None, "it is made from its text before");
        store.bring(changed, &mut work);
        assert!(work.lost.is_empty());
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
