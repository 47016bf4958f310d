//! Sets many fragments at once.
//!
//! The new pages are made beside the page list, while others read and write it, and are put in all
//! at once.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::pages::page::Page;
use crate::store::pages::page_list::{
    FragmentKey, LARGEST, PAGE_SIZE, PageEntry, PageList, SMALLEST,
};

/// Pages that are copied from the list under one lock.
const PAGES_AT_ONCE: usize = 16;

/// Maximum number of small pages that are joined with their neighbours when a splice is put in.
const MOST_BALANCED: usize = 64;

/// New pages for ranges of the page list, in order.
#[derive(Debug)]
pub struct Splice<K> {
    replacements: Vec<Replacement<K>>,
}

/// Neighbouring pages and those that replace them.
#[derive(Debug)]
struct Replacement<K> {
    /// The pages that are replaced. While they are referenced here, a writer
    /// changes copies of them.
    old: Vec<Arc<Page>>,
    /// The new pages; `None` if nothing changes.
    new: Option<Vec<PageEntry<K>>>,
    /// The changes. They are made one by one if the old pages are no longer there.
    changes: Vec<(K, Bytes)>,
}

/// Neighbouring pages of the list, copied under its lock.
#[derive(Debug)]
pub struct PageRange<K> {
    entries: Vec<(Vec<K>, Arc<Page>)>,
    /// The number of changes that fall into the range.
    changes: usize,
}

/// What a splice has replaced. The caller drops it after it has released its lock.
#[derive(Debug)]
pub struct Replaced<K> {
    _slots: Vec<PageEntry<K>>,
    _replacements: Vec<Replacement<K>>,
    _texts: Vec<Bytes>,
}

impl<K: FragmentKey + Clone> PageList<K> {
    /// A page list that only notes the changes that are made to it.
    pub fn noting() -> Self {
        PageList {
            noted: Some(Vec::new()),
            ..PageList::default()
        }
    }

    /// The noted changes in the order of their keys, the last one of each key.
    pub fn into_noted(self) -> Vec<(K, Bytes)> {
        let mut changes = self.noted.unwrap_or_default();
        // The sort is stable, so that the last of several is the last here.
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes.reverse();
        changes.dedup_by(|later, first| later.0 == first.0);
        changes.reverse();
        changes
    }

    /// The pages that the first of `changes` fall into, and the number of these
    /// changes. `changes` are in order.
    pub fn range(&self, changes: &[(K, Bytes)]) -> PageRange<K> {
        let mut range = PageRange {
            entries: Vec::new(),
            changes: 0,
        };
        let Some((first, _)) = changes.first() else {
            return range;
        };
        let start = self.entry_of(first);
        for at in start..(start + PAGES_AT_ONCE).min(self.entries.len()) {
            let entry = &self.entries[at];
            let rest = &changes[range.changes..];
            let inside = match self.entries.get(at + 1) {
                Some(next) => rest.partition_point(|(key, _)| *key < next.keys[0]),
                None => rest.len(),
            };
            if inside == 0 {
                return range;
            }
            range
                .entries
                .push((entry.keys.clone(), Arc::clone(&entry.page)));
            range.changes += inside;
        }
        if self.entries.is_empty() {
            range.changes = changes.len();
        }
        range
    }

    /// Puts the new pages in. Costs a little for each page of the list, and for each
    /// change to a range that others changed meanwhile.
    pub fn splice(&mut self, splice: Splice<K>) -> Replaced<K> {
        let mut texts = Vec::new();
        let (replacements, late): (Vec<_>, Vec<_>) = splice
            .replacements
            .into_iter()
            .map(|replacement| (self.place_of(&replacement), replacement))
            .partition(|(place, _)| place.is_some());
        let added = |replacement: &Replacement<K>| replacement.new.as_ref().map_or(0, Vec::len);
        let added: usize = replacements
            .iter()
            .map(|(_, replacement)| added(replacement))
            .sum();
        let mut before = std::mem::take(&mut self.entries).into_iter();
        let mut entries = Vec::with_capacity(before.len() + added);
        let mut replaced = Vec::new();
        let mut done = Vec::with_capacity(replacements.len());
        let mut small = Vec::new();
        let mut at = 0;
        for (place, mut replacement) in replacements {
            let Some(mut new) = replacement.new.take() else {
                done.push(replacement);
                continue;
            };
            let place = place.unwrap_or(at);
            entries.extend(before.by_ref().take(place - at));
            for entry in before.by_ref().take(replacement.old.len()) {
                self.len -= entry.page.len();
                replaced.push(entry);
            }
            at = place + replacement.old.len();
            self.len += new.iter().map(|entry| entry.page.len()).sum::<usize>();
            entries.append(&mut new);
            if entries
                .last()
                .is_some_and(|last| last.page.len() < SMALLEST)
            {
                small.push(entries.len() - 1);
            }
            done.push(replacement);
        }
        entries.extend(before);
        self.entries = entries;
        // From the end, so that earlier indices stay valid.
        for at in small.into_iter().rev().take(MOST_BALANCED) {
            if at < self.entries.len() {
                self.balance(at);
            }
        }
        for (_, mut replacement) in late {
            for (key, text) in replacement.changes.drain(..) {
                texts.push(self.set(key, text));
            }
            done.push(replacement);
        }
        Replaced {
            _slots: replaced,
            _replacements: done,
            _texts: texts,
        }
    }

    /// The index of the replacement's first old page, if all of them are unchanged and no
    /// page was added behind them that a change falls into.
    fn place_of(&self, replacement: &Replacement<K>) -> Option<usize> {
        let (first, _) = replacement.changes.first()?;
        let (last, _) = replacement.changes.last()?;
        if replacement.old.is_empty() {
            return self.entries.is_empty().then_some(0);
        }
        let at = self.entry_of(first);
        let now = self.entries.get(at..at + replacement.old.len())?;
        let mut pairs = now.iter().zip(&replacement.old);
        let next = self.entries.get(at + replacement.old.len());
        let is_unchanged = pairs.all(|(entry, old)| Arc::ptr_eq(&entry.page, old))
            && next.is_none_or(|next| next.keys[0] > *last);
        is_unchanged.then_some(at)
    }
}

impl<K: FragmentKey + Clone> Splice<K> {
    /// Makes pages for `changes`, which are in order, each key once. `look` calls
    /// [`PageList::range`] with the changes that are left.
    pub fn make(
        changes: Vec<(K, Bytes)>,
        mut look: impl FnMut(&[(K, Bytes)]) -> PageRange<K>,
    ) -> Self {
        let mut replacements = Vec::new();
        let mut rest = changes.into_iter();
        while !rest.as_slice().is_empty() {
            let range = look(rest.as_slice());
            let here = rest.by_ref().take(range.changes.max(1));
            replacements.push(Replacement::of(range, here.collect()));
        }
        Splice { replacements }
    }
}

impl<K: FragmentKey + Clone> Replacement<K> {
    /// The new pages of a range. A range in which nothing changes is a replacement
    /// too, since others may change it before it is put in.
    fn of(range: PageRange<K>, changes: Vec<(K, Bytes)>) -> Self {
        let mut cut = Cut::default();
        let mut coming = changes.iter().peekable();
        let mut changed = false;
        let mut old = Vec::with_capacity(range.entries.len());
        for (keys, page) in range.entries {
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
        Replacement { old, new, changes }
    }
}

/// Cuts fragments into pages.
struct Cut<K> {
    entries: Vec<PageEntry<K>>,
    keys: Vec<K>,
    texts: Vec<Bytes>,
    len: usize,
}

impl<K> Default for Cut<K> {
    fn default() -> Self {
        Cut {
            entries: Vec::new(),
            keys: Vec::new(),
            texts: Vec::new(),
            len: 0,
        }
    }
}

impl<K: FragmentKey> Cut<K> {
    /// Adds the next fragment. Returns false for an empty text, which is no
    /// fragment.
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

    /// Whether the page that is being filled is verbatim; `None` if it is empty.
    fn is_verbatim(&self) -> Option<bool> {
        self.keys.first().map(FragmentKey::is_verbatim)
    }

    fn end_page(&mut self) {
        let is_verbatim = self.is_verbatim() == Some(true);
        self.len = 0;
        let mut keys = std::mem::take(&mut self.keys);
        keys.shrink_to_fit();
        let page = Page::of_texts(self.texts.drain(..), is_verbatim);
        self.entries.push(PageEntry {
            keys,
            page: Arc::new(page),
        });
    }

    fn finish(mut self) -> Vec<PageEntry<K>> {
        // A small rest is appended to the page before it, if both are verbatim or
        // neither is.
        let (len, is_verbatim) = (self.len, self.is_verbatim());
        let takes_it = |last: &mut PageEntry<K>| {
            last.page.len() + len <= LARGEST && Some(last.page.is_verbatim()) == is_verbatim
        };
        if len < SMALLEST
            && let Some(last) = self.entries.pop_if(takes_it)
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
        self.entries
    }
}

#[cfg(test)]
mod tests;
