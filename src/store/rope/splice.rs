//! Many fragments that are set at once: their pages are made beside the rope,
//! while it is read and written as ever, and put in together.

use std::sync::Arc;

use bytes::Bytes;

use super::{LARGEST, PAGE_SIZE, Rope, RopeKey, SMALLEST, Slot};
use crate::store::page::Page;

/// Pages that are copied from the rope under one lock.
const PAGES_AT_ONCE: usize = 16;

/// Small pages that are joined with their neighbours when a splice is put in.
const MOST_BALANCED: usize = 64;

/// New pages for a part of the rope each, in order.
#[derive(Debug)]
pub struct Splice<K> {
    runs: Vec<Run<K>>,
}

/// Neighbouring pages, and those that take their place.
#[derive(Debug)]
struct Run<K> {
    /// Nobody changes a page that is held here; who has to, changes a copy.
    old: Vec<Arc<Page>>,
    /// `None` where the old pages have all of it already.
    new: Option<Vec<Slot<K>>>,
    /// What the new pages were made for, to be done one by one where the old
    /// ones are no longer there.
    changes: Vec<(K, Bytes)>,
}

/// A part of the rope, as it was when it was looked at.
#[derive(Debug)]
pub struct Part<K> {
    slots: Vec<(Vec<K>, Arc<Page>)>,
    /// How many of the changes fall into it.
    changes: usize,
}

/// What a splice has replaced. It is freed without a lock.
#[derive(Debug)]
pub struct Replaced<K> {
    _slots: Vec<Slot<K>>,
    _runs: Vec<Run<K>>,
    _texts: Vec<Bytes>,
}

impl<K: RopeKey + Clone> Rope<K> {
    /// A rope that only notes what is done to it.
    pub fn noting() -> Self {
        Rope {
            noted: Some(Vec::new()),
            ..Rope::default()
        }
    }

    /// What was noted, by key: the last change of each.
    pub fn into_noted(self) -> Vec<(K, Bytes)> {
        let mut changes = self.noted.unwrap_or_default();
        // The sort is stable, so that the last of several is the last here.
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes.reverse();
        changes.dedup_by(|later, first| later.0 == first.0);
        changes.reverse();
        changes
    }

    /// The part of the rope that the first of these changes are about, which
    /// are in order: some pages, the changes in which are counted.
    pub fn part(&self, changes: &[(K, Bytes)]) -> Part<K> {
        let mut part = Part {
            slots: Vec::new(),
            changes: 0,
        };
        let Some((first, _)) = changes.first() else {
            return part;
        };
        let start = self.slot_of(first);
        for at in start..(start + PAGES_AT_ONCE).min(self.slots.len()) {
            let slot = &self.slots[at];
            let rest = &changes[part.changes..];
            let inside = match self.slots.get(at + 1) {
                Some(next) => rest.partition_point(|(key, _)| *key < next.keys[0]),
                None => rest.len(),
            };
            if inside == 0 {
                return part;
            }
            part.slots.push((slot.keys.clone(), Arc::clone(&slot.page)));
            part.changes += inside;
        }
        if self.slots.is_empty() {
            part.changes = changes.len();
        }
        part
    }

    /// Puts new pages in. Costs a little for each page that there is, and for
    /// changes where others changed the same pages meanwhile.
    pub fn splice(&mut self, splice: Splice<K>) -> Replaced<K> {
        let mut texts = Vec::new();
        let (runs, late): (Vec<_>, Vec<_>) = splice
            .runs
            .into_iter()
            .map(|run| (self.place_of(&run), run))
            .partition(|(place, _)| place.is_some());
        let added = |run: &Run<K>| run.new.as_ref().map_or(0, Vec::len);
        let added: usize = runs.iter().map(|(_, run)| added(run)).sum();
        let mut before = std::mem::take(&mut self.slots).into_iter();
        let mut slots = Vec::with_capacity(before.len() + added);
        let mut replaced = Vec::new();
        let mut done = Vec::with_capacity(runs.len());
        let mut small = Vec::new();
        let mut at = 0;
        for (place, mut run) in runs {
            let Some(mut new) = run.new.take() else {
                done.push(run);
                continue;
            };
            let place = place.unwrap_or(at);
            slots.extend(before.by_ref().take(place - at));
            for slot in before.by_ref().take(run.old.len()) {
                self.len -= slot.page.len();
                replaced.push(slot);
            }
            at = place + run.old.len();
            self.len += new.iter().map(|slot| slot.page.len()).sum::<usize>();
            slots.append(&mut new);
            if slots.last().is_some_and(|last| last.page.len() < SMALLEST) {
                small.push(slots.len() - 1);
            }
            done.push(run);
        }
        slots.extend(before);
        self.slots = slots;
        // From the end on, so that places before stay what they are.
        for at in small.into_iter().rev().take(MOST_BALANCED) {
            if at < self.slots.len() {
                self.balance(at);
            }
        }
        for (_, mut run) in late {
            for (key, text) in run.changes.drain(..) {
                texts.push(self.set(key, text));
            }
            done.push(run);
        }
        Replaced {
            _slots: replaced,
            _runs: done,
            _texts: texts,
        }
    }

    /// Where the old pages of a run are, if they are all there as they were.
    fn place_of(&self, run: &Run<K>) -> Option<usize> {
        let (first, _) = run.changes.first()?;
        if run.old.is_empty() {
            return self.slots.is_empty().then_some(0);
        }
        let at = self.slot_of(first);
        let now = self.slots.get(at..at + run.old.len())?;
        let mut pairs = now.iter().zip(&run.old);
        pairs
            .all(|(slot, old)| Arc::ptr_eq(&slot.page, old))
            .then_some(at)
    }
}

impl<K: RopeKey + Clone> Splice<K> {
    /// Makes pages for changes, which are in order, each key once. `look` tells
    /// of the first of them with [`Rope::part`].
    pub fn make(changes: Vec<(K, Bytes)>, mut look: impl FnMut(&[(K, Bytes)]) -> Part<K>) -> Self {
        let mut runs = Vec::new();
        let mut rest = changes.into_iter();
        while !rest.as_slice().is_empty() {
            let part = look(rest.as_slice());
            let here = rest.by_ref().take(part.changes.max(1));
            runs.push(Run::of(part, here.collect()));
        }
        Splice { runs }
    }
}

impl<K: RopeKey + Clone> Run<K> {
    /// The new pages of a part. A part in which nothing changes is a run too:
    /// others may change it before it is put in.
    fn of(part: Part<K>, changes: Vec<(K, Bytes)>) -> Self {
        let mut cut = Cut::default();
        let mut coming = changes.iter().peekable();
        let mut changed = false;
        let mut old = Vec::with_capacity(part.slots.len());
        for (keys, page) in part.slots {
            for (index, key) in keys.into_iter().enumerate() {
                while let Some((new, text)) = coming.next_if(|(new, _)| *new < key) {
                    changed |= cut.push(new.clone(), text.clone());
                }
                match coming.next_if(|(new, _)| *new == key) {
                    Some((_, text)) if page.has(index, text) => {
                        cut.push(key, page.fragment(index));
                    }
                    Some((_, text)) => {
                        cut.push(key, text.clone());
                        changed = true;
                    }
                    None => drop(cut.push(key, page.fragment(index))),
                }
            }
            old.push(page);
        }
        for (new, text) in coming {
            changed |= cut.push(new.clone(), text.clone());
        }
        let new = changed.then(|| cut.finish());
        Run { old, new, changes }
    }
}

/// Fragments that are cut into pages.
struct Cut<K> {
    slots: Vec<Slot<K>>,
    keys: Vec<K>,
    texts: Vec<Bytes>,
    len: usize,
}

impl<K> Default for Cut<K> {
    fn default() -> Self {
        Cut {
            slots: Vec::new(),
            keys: Vec::new(),
            texts: Vec::new(),
            len: 0,
        }
    }
}

impl<K: RopeKey> Cut<K> {
    /// Adds the next fragment, and says whether there is one: an empty text is
    /// none.
    fn push(&mut self, key: K, text: Bytes) -> bool {
        if text.is_empty() {
            return false;
        }
        let apart = self.is_verbatim() != Some(key.is_verbatim());
        if self.len > 0 && (apart || self.len + text.len() > PAGE_SIZE) {
            self.end_page();
        }
        self.len += text.len();
        self.keys.push(key);
        self.texts.push(text);
        true
    }

    /// Whether the page that is being filled is of verbatim text.
    fn is_verbatim(&self) -> Option<bool> {
        self.keys.first().map(RopeKey::is_verbatim)
    }

    fn end_page(&mut self) {
        let is_verbatim = self.is_verbatim() == Some(true);
        self.len = 0;
        let mut keys = std::mem::take(&mut self.keys);
        keys.shrink_to_fit();
        let page = Page::of_texts(self.texts.drain(..), is_verbatim);
        self.slots.push(Slot {
            keys,
            page: Arc::new(page),
        });
    }

    fn finish(mut self) -> Vec<Slot<K>> {
        // A small rest goes to the page before it, if that is of its kind.
        let (len, is_verbatim) = (self.len, self.is_verbatim());
        let takes_it = |last: &mut Slot<K>| {
            last.page.len() + len <= LARGEST && Some(last.page.is_verbatim()) == is_verbatim
        };
        if len < SMALLEST
            && let Some(last) = self.slots.pop_if(takes_it)
        {
            let count = last.keys.len();
            let texts = (0..count).map(|index| last.page.fragment(index));
            self.texts = texts.chain(self.texts).collect();
            let mut keys = last.keys;
            keys.append(&mut self.keys);
            self.keys = keys;
        }
        if !self.keys.is_empty() {
            self.end_page();
        }
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn text(key: u32, size: usize, write: usize) -> Bytes {
        let line = format!("series_{key}{{write=\"{write}\"}} {size}\n");
        Bytes::from(line.repeat(size.div_ceil(line.len())).into_bytes()[..size].to_vec())
    }

    fn any_size() -> impl Strategy<Value = usize> {
        prop_oneof![2 => Just(0_usize), 8 => 1..300_usize, 2 => 0..5_000_usize, 1 => 0..70_000_usize]
    }

    fn whole(rope: &Rope<u32>) -> Vec<u8> {
        let pages = rope.pages();
        let pieces = pages
            .iter()
            .flat_map(|page| page.pieces(crate::exposition::Form::Normal));
        pieces.flatten().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        /// Whatever is set together, and whatever others set while its pages
        /// are made, the rope is a sorted map in which what came together came
        /// last.
        #[test]
        fn what_is_set_together_is_as_if_it_was_set_one_by_one(
            rounds in vec((btree_map(0..240_u32, any_size(), 0..200), vec((0..240_u32, any_size()), 0..4)), 1..5)
        ) {
            let mut rope: Rope<u32> = Rope::default();
            let mut map = BTreeMap::new();
            for (write, (together, meanwhile)) in rounds.into_iter().enumerate() {
                let changes: Vec<(u32, Bytes)> = together
                    .iter()
                    .map(|(key, size)| (*key, text(*key, *size, write)))
                    .collect();
                let splice = Splice::make(changes.clone(), |rest| rope.part(rest));
                for (key, size) in meanwhile {
                    let text = text(key, size, write + 100);
                    rope.set(key, text.clone());
                    map.insert(key, text);
                }
                drop(rope.splice(splice));
                map.extend(changes);
                map.retain(|_, text: &mut Bytes| !text.is_empty());
                let expected: Vec<u8> = map.values().flatten().copied().collect();
                prop_assert_eq!(rope.len(), expected.len());
                prop_assert_eq!(&whole(&rope), &expected);
                for (key, text) in &map {
                    prop_assert_eq!(rope.get(key), Some(text.clone()));
                }
                for slot in &rope.slots {
                    prop_assert_eq!(slot.keys.len(), slot.page.count());
                    let verbatim = slot.page.is_verbatim();
                    prop_assert!(slot.keys.iter().all(|key| key.is_verbatim() == verbatim));
                    let single = slot.keys.len() == 1;
                    prop_assert!(single || slot.page.len() <= LARGEST, "{}", slot.page.len());
                }
            }
        }
    }

    #[test]
    fn what_others_set_before_is_removed_even_if_it_was_not_there_at_first() {
        let mut rope = Rope::default();
        for key in 0..20 {
            rope.set(key, text(key, 1000, 0));
        }
        rope.set(7, Bytes::new());
        let before = rope.len();
        let splice = Splice::make(vec![(7, Bytes::new())], |rest| rope.part(rest));
        rope.set(7, text(7, 1000, 1));
        drop(rope.splice(splice));
        assert_eq!((rope.get(&7), rope.len()), (None, before));
    }

    #[test]
    fn pages_in_which_nothing_changes_stay_as_they_are() {
        let mut rope = Rope::default();
        let all = |write| {
            (0..500_u32)
                .map(move |key| (key, text(key, 1000, write)))
                .collect::<Vec<_>>()
        };
        let splice = Splice::make(all(1), |rest| rope.part(rest));
        drop(rope.splice(splice));
        let before = rope.pages();
        assert!(before.len() > 25);
        let mut some = all(1);
        some[250] = (250, text(250, 1000, 2));
        let splice = Splice::make(some, |rest| rope.part(rest));
        drop(rope.splice(splice));
        let after = rope.pages();
        let same = |page: &&Arc<Page>| after.iter().any(|other| Arc::ptr_eq(other, page));
        assert!(before.iter().filter(same).count() >= before.len() - PAGES_AT_ONCE);
    }
}
