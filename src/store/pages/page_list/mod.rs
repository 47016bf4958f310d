//! The output as a list of pages, in which fragments are ordered by key.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::pages::fragments::make_room;
use crate::store::pages::page::Page;

/// The target size of a page, in bytes. Small pages compress less well (16 KiB
/// instead of 64 KiB costs 3 % of size), large ones make small changes expensive,
/// since a changed page is compressed as a whole.
pub const PAGE_SIZE: usize = 16 * 1024;

/// The size in bytes past which a page is split.
pub const LARGEST: usize = 2 * PAGE_SIZE;

/// The size in bytes below which a page is joined with a neighbour.
pub const SMALLEST: usize = PAGE_SIZE / 4;

/// The key of a fragment. Fragments are in the output in the order of their keys.
pub trait FragmentKey: Ord {
    /// Whether the fragment is verbatim text. Such fragments come last and have
    /// pages of their own, which are the same in every format.
    fn is_verbatim(&self) -> bool;
}

/// Fragments by key, in pages.
#[derive(Debug)]
pub struct PageList<K> {
    pub entries: Vec<PageEntry<K>>,
    pub len: usize,
    /// In a list that only notes changes: the changes, in order. An empty text
    /// removes the fragment.
    pub noted: Option<Vec<(K, Bytes)>>,
}

/// A page and the keys of its fragments. It has at least one fragment.
#[derive(Debug)]
pub struct PageEntry<K> {
    pub keys: Vec<K>,
    pub page: Arc<Page>,
}

impl<K: FragmentKey> PageEntry<K> {
    fn of(key: K, text: Bytes) -> Self {
        let page = match key.is_verbatim() {
            true => Page::verbatim(text),
            false => Page::of(text),
        };
        PageEntry {
            keys: vec![key],
            page: Arc::new(page),
        }
    }
}

/// Where a fragment was when it was last set. It may have moved since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FragmentHint {
    entry: u32,
    index: u32,
}

/// The registry keeps hints as plain numbers.
impl From<FragmentHint> for u64 {
    fn from(hint: FragmentHint) -> u64 {
        u64::from(hint.entry) << 32 | u64::from(hint.index)
    }
}

impl From<u64> for FragmentHint {
    fn from(number: u64) -> FragmentHint {
        FragmentHint {
            entry: (number >> 32) as u32,
            index: number as u32,
        }
    }
}

impl<K> Default for PageList<K> {
    fn default() -> Self {
        PageList {
            entries: Vec::new(),
            len: 0,
            noted: None,
        }
    }
}

impl<K: FragmentKey + Clone> PageList<K> {
    /// Bytes of text.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The key of the last fragment.
    pub fn last_key(&self) -> Option<&K> {
        self.entries.last()?.keys.last()
    }

    /// The keys greater than `key`, in order.
    pub fn keys_after<'r>(&'r self, key: &'r K) -> impl Iterator<Item = &'r K> {
        let entries = self.entries.get(self.entry_of(key)..).unwrap_or_default();
        let keys = entries.iter().flat_map(|entry| &entry.keys);
        keys.skip_while(move |other| *other <= key)
    }

    /// The pages as they are now. Later writes do not change them.
    pub fn to_pages(&self) -> Vec<Arc<Page>> {
        self.entries
            .iter()
            .map(|entry| Arc::clone(&entry.page))
            .collect()
    }

    /// The fragment under `key`.
    pub fn get(&self, key: &K) -> Option<Bytes> {
        self.get_near(key, FragmentHint::default())
    }

    /// Like [`get`](Self::get), but looks at `hint` first.
    pub fn get_near(&self, key: &K, hint: FragmentHint) -> Option<Bytes> {
        let (at, found) = self.find(key, hint);
        Some(self.entries.get(at)?.page.fragment(found.ok()?))
    }

    /// Replaces the fragment under `key` by the result of `change`, mostly in place. `hint` is
    /// tried first to find it, and updated. Returns memory for the caller to free, or `None` if
    /// there is no such fragment or `change` returns no text.
    pub fn change_near<'t>(
        &mut self,
        key: &K,
        hint: &mut FragmentHint,
        change: impl FnOnce(&[u8]) -> Option<&'t [u8]>,
    ) -> Option<Bytes> {
        let (at, found) = self.find(key, *hint);
        let (entry, index) = (self.entries.get_mut(at)?, found.ok()?);
        let before = entry.page.len();
        let text = entry.page.with_text(index, change);
        let text = text.filter(|text| !text.is_empty())?;
        *hint = FragmentHint {
            entry: at as u32,
            index: index as u32,
        };
        // An unchanged text leaves the page joined and compressed.
        if entry.page.has(index, text) {
            return Some(Bytes::new());
        }
        let freed = Arc::make_mut(&mut entry.page).rewrite(index, text);
        self.len = self.len + entry.page.len() - before;
        self.balance(at);
        Some(freed)
    }

    /// Sets the fragment under `key`. An empty text removes it. Returns memory for
    /// the caller to free, after it has released its lock.
    pub fn set(&mut self, key: K, text: Bytes) -> Bytes {
        self.set_near(key, text, &mut FragmentHint::default())
    }

    /// Like [`set`](Self::set), but tries `hint` first to find the fragment, and
    /// updates it. Finding a fragment by its key takes far longer than setting it.
    pub fn set_near(&mut self, key: K, text: Bytes, hint: &mut FragmentHint) -> Bytes {
        if let Some(noted) = &mut self.noted {
            noted.push((key, text));
            return Bytes::new();
        }
        if text.is_empty() {
            return self.remove(&key);
        }
        self.len += text.len();
        let (at, found) = self.find(&key, *hint);
        let Some(entry) = self.entries.get_mut(at) else {
            self.entries.push(PageEntry::of(key, text));
            return Bytes::new();
        };
        if found.is_err() && entry.page.is_verbatim() != key.is_verbatim() {
            return self.set_apart(at, key, text);
        }
        let (Ok(index) | Err(index)) = found;
        *hint = FragmentHint {
            entry: at as u32,
            index: index as u32,
        };
        let before = entry.page.len();
        let mut freed = Bytes::new();
        match found {
            // An unchanged text leaves the page joined and compressed.
            Ok(index) if entry.page.has(index, &text) => {
                self.len -= text.len();
                return text;
            }
            Ok(index) => {
                let added = text.len();
                freed = Arc::make_mut(&mut entry.page).replace(index, text);
                self.len -= before + added - entry.page.len();
            }
            Err(index) => {
                Arc::make_mut(&mut entry.page).insert(index, text);
                make_room(&mut entry.keys);
                entry.keys.insert(index, key);
            }
        }
        self.balance(at);
        freed
    }

    /// Adds a fragment next to the entry at `at`, because one of them is verbatim
    /// and the other is not.
    fn set_apart(&mut self, at: usize, key: K, text: Bytes) -> Bytes {
        let at = at + usize::from(key.is_verbatim());
        match self.entries.get_mut(at) {
            Some(entry) if entry.page.is_verbatim() == key.is_verbatim() => {
                Arc::make_mut(&mut entry.page).insert(0, text);
                entry.keys.insert(0, key);
                self.balance(at);
            }
            _ => self.entries.insert(at, PageEntry::of(key, text)),
        }
        Bytes::new()
    }

    /// Removes the fragment under `key`, if there is one. Returns memory for the
    /// caller to free.
    pub fn remove(&mut self, key: &K) -> Bytes {
        if let Some(noted) = &mut self.noted {
            noted.push((key.clone(), Bytes::new()));
            return Bytes::new();
        }
        let at = self.entry_of(key);
        let Some(entry) = self.entries.get_mut(at) else {
            return Bytes::new();
        };
        let Ok(index) = entry.keys.binary_search(key) else {
            return Bytes::new();
        };
        let before = entry.page.len();
        entry.keys.remove(index);
        let freed = Arc::make_mut(&mut entry.page).remove(index);
        self.len -= before - entry.page.len();
        if entry.keys.is_empty() {
            self.entries.remove(at);
        } else {
            self.balance(at);
        }
        freed
    }

    /// The entry that `key` is in or belongs into, and its index there: `Ok` if it
    /// is there, `Err` with the index to insert it at otherwise.
    fn find(&self, key: &K, near: FragmentHint) -> (usize, Result<usize, usize>) {
        let (at, index) = (near.entry as usize, near.index as usize);
        let known = self.entries.get(at).and_then(|entry| entry.keys.get(index));
        if known == Some(key) {
            return (at, Ok(index));
        }
        let at = self.entry_of(key);
        let index = self
            .entries
            .get(at)
            .map(|entry| entry.keys.binary_search(key));
        (at, index.unwrap_or(Err(0)))
    }

    /// The entry that `key` is in or belongs into: the last one whose first key is
    /// not greater.
    pub fn entry_of(&self, key: &K) -> usize {
        let after = self.entries.partition_point(|entry| entry.keys[0] <= *key);
        after.saturating_sub(1)
    }

    /// Splits the entry's page if it is too large, or joins it with a neighbour if
    /// it is too small.
    pub fn balance(&mut self, at: usize) {
        let len = self.entries[at].page.len();
        if len > LARGEST {
            self.split(at);
        } else if len < SMALLEST {
            // A page between two large ones stays small, which costs less than
            // copying a large one again and again.
            let verbatim = self.entries[at].page.is_verbatim();
            let joined = |entry: &&PageEntry<K>| entry.page.is_verbatim() == verbatim;
            let next = self.entries.get(at + 1).filter(joined);
            let next = next.map(|entry| entry.page.len());
            let previous = at.checked_sub(1).map(|at| &self.entries[at]).filter(joined);
            let previous = previous.map(|entry| entry.page.len());
            if next.is_some_and(|next| len + next <= PAGE_SIZE) {
                self.join_with_next(at);
            } else if previous.is_some_and(|previous| len + previous <= PAGE_SIZE) {
                self.join_with_next(at - 1);
            }
        }
    }

    /// Splits a page of several fragments into two of about the same size, and
    /// those again while they are too large.
    fn split(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if entry.keys.len() < 2 {
            return;
        }
        let page = Arc::make_mut(&mut entry.page);
        let half = page.len() / 2;
        let mut first = 0;
        let mut cut = 0;
        while cut < entry.keys.len() - 1 && first < half {
            first += page.fragment(cut).len();
            cut += 1;
        }
        let rest = PageEntry {
            keys: entry.keys.split_off(cut),
            page: Arc::new(page.split_off(cut)),
        };
        self.entries[at].keys.shrink_to_fit();
        self.entries.insert(at + 1, rest);
        for at in [at + 1, at] {
            if self.entries[at].page.len() > LARGEST {
                self.split(at);
            }
        }
    }

    fn join_with_next(&mut self, at: usize) {
        let next = self.entries.remove(at + 1);
        let entry = &mut self.entries[at];
        Arc::make_mut(&mut entry.page).append(&next.page);
        entry.keys.extend(next.keys);
    }
}

#[cfg(test)]
mod tests;
