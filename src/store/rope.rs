//! The output as an ordered rope of fragments, cut into pages.

mod splice;

use std::sync::Arc;

use bytes::Bytes;

use super::fragments::make_room;
use super::page::Page;
pub use splice::Splice;

/// What a page is cut to, in bytes. Small pages cost a little compression
/// (16 KiB against 64 KiB: 3 % of size), large ones make a small change dear:
/// a whole page is compressed again for it.
pub const PAGE_SIZE: usize = 16 * 1024;

/// A page is split when it outgrows this, ...
const LARGEST: usize = 2 * PAGE_SIZE;

/// ... and joined with a neighbour when it falls below this.
const SMALLEST: usize = PAGE_SIZE / 4;

/// What fragments are found by, in the order of the output.
pub trait RopeKey: Ord {
    /// Whether the fragment is verbatim text. Such fragments come last, and
    /// have pages of their own, which are the same in every form.
    fn is_verbatim(&self) -> bool;
}

/// Fragments under ordered keys.
#[derive(Debug)]
pub struct Rope<K> {
    slots: Vec<Slot<K>>,
    len: usize,
    /// What is set and removed (an empty text), where it is only noted.
    noted: Option<Vec<(K, Bytes)>>,
}

/// A page with the keys of its fragments. No slot is empty.
#[derive(Debug)]
struct Slot<K> {
    keys: Vec<K>,
    page: Arc<Page>,
}

impl<K: RopeKey> Slot<K> {
    fn of(key: K, text: Bytes) -> Self {
        let page = match key.is_verbatim() {
            true => Page::verbatim(text),
            false => Page::of(text),
        };
        Slot {
            keys: vec![key],
            page: Arc::new(page),
        }
    }
}

/// Where a fragment was when it was last set. Others may have moved it since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    slot: u32,
    index: u32,
}

/// For who keeps places without knowing what they are.
impl From<Place> for u64 {
    fn from(place: Place) -> u64 {
        u64::from(place.slot) << 32 | u64::from(place.index)
    }
}

impl From<u64> for Place {
    fn from(number: u64) -> Place {
        Place {
            slot: (number >> 32) as u32,
            index: number as u32,
        }
    }
}

impl<K> Default for Rope<K> {
    fn default() -> Self {
        Rope {
            slots: Vec::new(),
            len: 0,
            noted: None,
        }
    }
}

impl<K: RopeKey + Clone> Rope<K> {
    /// Bytes of text.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The key of the last fragment.
    pub fn last_key(&self) -> Option<&K> {
        self.slots.last()?.keys.last()
    }

    /// The keys behind `key`, in order.
    pub fn keys_after<'r>(&'r self, key: &'r K) -> impl Iterator<Item = &'r K> {
        let slots = self.slots.get(self.slot_of(key)..).unwrap_or_default();
        let keys = slots.iter().flat_map(|slot| &slot.keys);
        keys.skip_while(move |other| *other <= key)
    }

    /// The pages as they are now. What is written later does not touch them.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        self.slots
            .iter()
            .map(|slot| Arc::clone(&slot.page))
            .collect()
    }

    /// The fragment under `key`.
    pub fn get(&self, key: &K) -> Option<Bytes> {
        let (at, found) = self.find(key, Place::default());
        Some(self.slots.get(at)?.page.fragment(found.ok()?))
    }

    /// Changes the fragment under `key` to what `change` makes of it, mostly
    /// where it lies. It was in `place` once, where it is looked for first;
    /// `place` is then where it is now. Returns what is to be freed, and
    /// nothing where nothing was changed, since there is no such fragment or no
    /// text can be made of it.
    pub fn change_near<'t>(
        &mut self,
        key: &K,
        place: &mut Place,
        change: impl FnOnce(&[u8]) -> Option<&'t [u8]>,
    ) -> Option<Bytes> {
        let (at, found) = self.find(key, *place);
        let (slot, index) = (self.slots.get_mut(at)?, found.ok()?);
        let before = slot.page.len();
        let text = slot.page.with_text(index, change);
        let text = text.filter(|text| !text.is_empty())?;
        *place = Place {
            slot: at as u32,
            index: index as u32,
        };
        // What does not change leaves the page as it is.
        if slot.page.has(index, text) {
            return Some(Bytes::new());
        }
        let freed = Arc::make_mut(&mut slot.page).rewrite(index, text);
        self.len = self.len + slot.page.len() - before;
        self.balance(at);
        Some(freed)
    }

    /// Sets the fragment under `key`; an empty text removes it. Returns what
    /// is to be freed, which is for the caller to do without a lock.
    pub fn set(&mut self, key: K, text: Bytes) -> Bytes {
        self.set_near(key, text, &mut Place::default())
    }

    /// The same for a fragment that was in `place` once, where it is looked
    /// for first; `place` is then where it is now. Finding a fragment by its
    /// key alone takes far longer than setting it.
    pub fn set_near(&mut self, key: K, text: Bytes, place: &mut Place) -> Bytes {
        if let Some(noted) = &mut self.noted {
            noted.push((key, text));
            return Bytes::new();
        }
        if text.is_empty() {
            return self.remove(&key);
        }
        self.len += text.len();
        let (at, found) = self.find(&key, *place);
        let Some(slot) = self.slots.get_mut(at) else {
            self.slots.push(Slot::of(key, text));
            return Bytes::new();
        };
        if found.is_err() && slot.page.is_verbatim() != key.is_verbatim() {
            return self.set_apart(at, key, text);
        }
        let (Ok(index) | Err(index)) = found;
        *place = Place {
            slot: at as u32,
            index: index as u32,
        };
        let before = slot.page.len();
        let mut freed = Bytes::new();
        match found {
            // What does not change leaves the page as it is: joined and
            // compressed.
            Ok(index) if slot.page.has(index, &text) => {
                self.len -= text.len();
                return text;
            }
            Ok(index) => {
                let added = text.len();
                freed = Arc::make_mut(&mut slot.page).replace(index, text);
                self.len -= before + added - slot.page.len();
            }
            Err(index) => {
                Arc::make_mut(&mut slot.page).insert(index, text);
                make_room(&mut slot.keys);
                slot.keys.insert(index, key);
            }
        }
        self.balance(at);
        freed
    }

    /// Adds a fragment that belongs next to the slot at `at` and not into it,
    /// since it is verbatim and the slot is not, or the other way round.
    fn set_apart(&mut self, at: usize, key: K, text: Bytes) -> Bytes {
        let at = at + usize::from(key.is_verbatim());
        match self.slots.get_mut(at) {
            Some(slot) if slot.page.is_verbatim() == key.is_verbatim() => {
                Arc::make_mut(&mut slot.page).insert(0, text);
                slot.keys.insert(0, key);
                self.balance(at);
            }
            _ => self.slots.insert(at, Slot::of(key, text)),
        }
        Bytes::new()
    }

    /// Removes the fragment under `key`, if it is there. Returns what is to be
    /// freed.
    pub fn remove(&mut self, key: &K) -> Bytes {
        if let Some(noted) = &mut self.noted {
            noted.push((key.clone(), Bytes::new()));
            return Bytes::new();
        }
        let at = self.slot_of(key);
        let Some(slot) = self.slots.get_mut(at) else {
            return Bytes::new();
        };
        let Ok(index) = slot.keys.binary_search(key) else {
            return Bytes::new();
        };
        let before = slot.page.len();
        slot.keys.remove(index);
        let freed = Arc::make_mut(&mut slot.page).remove(index);
        self.len -= before - slot.page.len();
        if slot.keys.is_empty() {
            self.slots.remove(at);
        } else {
            self.balance(at);
        }
        freed
    }

    /// The slot that `key` is in or belongs into, and the index it has there or
    /// would get.
    fn find(&self, key: &K, near: Place) -> (usize, Result<usize, usize>) {
        let (at, index) = (near.slot as usize, near.index as usize);
        let known = self.slots.get(at).and_then(|slot| slot.keys.get(index));
        if known == Some(key) {
            return (at, Ok(index));
        }
        let at = self.slot_of(key);
        let index = self.slots.get(at).map(|slot| slot.keys.binary_search(key));
        (at, index.unwrap_or(Err(0)))
    }

    /// The slot that `key` is in or belongs into: the last one that begins at
    /// or before it.
    fn slot_of(&self, key: &K) -> usize {
        let after = self.slots.partition_point(|slot| slot.keys[0] <= *key);
        after.saturating_sub(1)
    }

    /// Keeps the slot's page from being too large or too small.
    fn balance(&mut self, at: usize) {
        let len = self.slots[at].page.len();
        if len > LARGEST {
            self.split(at);
        } else if len < SMALLEST {
            // A page between two large ones stays small: better that than
            // copying a large one again and again.
            let verbatim = self.slots[at].page.is_verbatim();
            let joined = |slot: &&Slot<K>| slot.page.is_verbatim() == verbatim;
            let next = self.slots.get(at + 1).filter(joined);
            let next = next.map(|slot| slot.page.len());
            let previous = at.checked_sub(1).map(|at| &self.slots[at]).filter(joined);
            let previous = previous.map(|slot| slot.page.len());
            if next.is_some_and(|next| len + next <= PAGE_SIZE) {
                self.join_with_next(at);
            } else if previous.is_some_and(|previous| len + previous <= PAGE_SIZE) {
                self.join_with_next(at - 1);
            }
        }
    }

    /// Cuts a page into two of about the same size, where it has several
    /// fragments, and goes on with what is still too large.
    fn split(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.keys.len() < 2 {
            return;
        }
        let page = Arc::make_mut(&mut slot.page);
        let half = page.len() / 2;
        let mut first = 0;
        let mut cut = 0;
        while cut < slot.keys.len() - 1 && first < half {
            first += page.fragment(cut).len();
            cut += 1;
        }
        let rest = Slot {
            keys: slot.keys.split_off(cut),
            page: Arc::new(page.split_off(cut)),
        };
        self.slots[at].keys.shrink_to_fit();
        self.slots.insert(at + 1, rest);
        for at in [at + 1, at] {
            if self.slots[at].page.len() > LARGEST {
                self.split(at);
            }
        }
    }

    fn join_with_next(&mut self, at: usize) {
        let next = self.slots.remove(at + 1);
        let slot = &mut self.slots[at];
        Arc::make_mut(&mut slot.page).append(&next.page);
        slot.keys.extend(next.keys);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Form;
    use crate::store::Snapshot;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u16, usize),
        /// Changes the numbers in a text.
        Change(u16),
        Remove(u16),
        Read,
        Compress,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![4 => 0..200_usize, 2 => 0..5_000_usize, 1 => 0..70_000_usize];
        prop_oneof![
            6 => (0..150_u16, size).prop_map(|(key, size)| Step::Set(key, size)),
            6 => (0..150_u16).prop_map(Step::Change),
            2 => (0..150_u16).prop_map(Step::Remove),
            1 => Just(Step::Read),
            1 => Just(Step::Compress),
        ]
    }

    /// Text that tells which write it is of, and compresses as real text does.
    fn text(key: u16, size: usize, number: usize) -> Bytes {
        let line = format!("series_{key}{{write=\"{number}\"}} {size}\n");
        Bytes::from(line.repeat(size.div_ceil(line.len())).into_bytes()[..size].to_vec())
    }

    /// The same text with longer or shorter numbers in it.
    fn changed(text: &Bytes, number: usize) -> Bytes {
        let text = std::str::from_utf8(text).unwrap();
        Bytes::from(match number % 3 {
            0 => text.replacen("write=\"", &format!("write=\"{number}"), 3),
            1 => text.replacen(char::is_numeric, "", 5),
            _ => text.replacen(char::is_numeric, "7", 5),
        })
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(bytes);
        decoder.read_to_end(&mut text).expect("one gzip member");
        assert!(
            decoder.into_inner().is_empty(),
            "nothing follows the member"
        );
        text
    }

    /// Keys from here on are of verbatim text.
    const VERBATIM: u32 = 120;

    impl RopeKey for u32 {
        fn is_verbatim(&self) -> bool {
            *self >= VERBATIM
        }
    }

    impl RopeKey for u16 {
        fn is_verbatim(&self) -> bool {
            u32::from(*self) >= VERBATIM
        }
    }

    fn check<K: RopeKey + Clone>(rope: &Rope<K>) {
        for slot in &rope.slots {
            assert!(!slot.keys.is_empty());
            let verbatim = slot.page.is_verbatim();
            assert!(slot.keys.iter().all(|key| key.is_verbatim() == verbatim));
            let single = slot.keys.len() == 1;
            assert!(single || slot.page.len() <= LARGEST, "{}", slot.page.len());
        }
        for pair in rope.slots.windows(2) {
            assert!(pair[0].keys.last() < pair[1].keys.first());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Whatever is written, removed and read in whatever order, the output
        /// is that of a plain sorted map, and snapshots taken on the way stay
        /// as they were.
        #[test]
        fn the_output_is_that_of_a_sorted_map(steps in vec(any_step(), 0..120)) {
            let mut rope = Rope::default();
            let mut map = BTreeMap::new();
            let mut taken = Vec::new();
            let mut places: BTreeMap<u16, Place> = BTreeMap::new();
            let bundles = Arc::default();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Set(key, size) => {
                        let text = text(key, size, number);
                        // Where it was before others moved it.
                        let place = places.entry(key).or_default();
                        rope.set_near(key, text.clone(), place);
                        if text.is_empty() {
                            map.remove(&key);
                        } else {
                            map.insert(key, text);
                        }
                    }
                    Step::Change(key) => {
                        let place = places.entry(key).or_default();
                        let new = map.get(&key).map(|text| changed(text, number));
                        let freed = rope.change_near(&key, place, |before| {
                            assert_eq!(map[&key], before);
                            new.as_deref()
                        });
                        prop_assert_eq!(freed.is_some(), new.is_some());
                        if let Some(text) = new {
                            map.insert(key, text);
                        }
                    }
                    Step::Remove(key) => {
                        rope.remove(&key);
                        map.remove(&key);
                    }
                    step => {
                        let snapshot = Snapshot::new(rope.pages(), rope.len(), Arc::clone(&bundles));
                        let expected = map.values().flatten().copied().collect::<Vec<u8>>();
                        if matches!(step, Step::Compress) {
                            prop_assert_eq!(&gunzip(&snapshot.gzip().concat()), &expected);
                        } else {
                            prop_assert_eq!(&snapshot.text(), &expected);
                        }
                        taken.push((snapshot, expected));
                    }
                }
                check(&rope);
            }
            prop_assert_eq!(rope.len(), map.values().map(Bytes::len).sum::<usize>());
            for (key, text) in &map {
                prop_assert_eq!(rope.get(key), Some(text.clone()));
            }
            for (snapshot, expected) in taken {
                prop_assert_eq!(snapshot.len(), expected.len());
                prop_assert_eq!(&gunzip(&snapshot.gzip().concat()), &expected);
                prop_assert_eq!(&snapshot.text(), &expected);
            }
        }
    }

    #[test]
    fn one_small_change_makes_one_page_stale() {
        let mut rope = Rope::default();
        for key in 0..100_u32 {
            rope.set(key, Bytes::from(vec![b'a'; 4000]));
        }
        for page in rope.pages() {
            page.packed(Form::Normal);
        }
        rope.set(50, Bytes::from(vec![b'b'; 4000]));
        let stale = rope
            .pages()
            .iter()
            .filter(|page| !page.is_packed(Form::Normal))
            .count();
        assert_eq!(stale, 1);
    }

    #[test]
    fn text_is_held_once() {
        let mut rope = Rope::default();
        for key in 0..100_u32 {
            rope.set(key, Bytes::from(vec![b'a'; 1000]));
        }
        // After joining, a fragment lies inside its page's text.
        let pages = rope.pages();
        for page in &pages {
            page.text(Form::Normal);
        }
        let fragment = rope.get(&50).unwrap();
        let inside = pages.iter().any(|page| {
            let range = page.text(Form::Normal).as_ptr_range();
            range.contains(&fragment.as_ptr())
        });
        assert!(inside);
    }
}
