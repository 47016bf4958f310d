//! Many fragments that are set at once: their pages are made beside the page_list,
//! while it is read and written as ever, and put in together.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::pages::page::Page;
use crate::store::pages::page_list::{
    FragmentKey, LARGEST, PAGE_SIZE, PageEntry, PageList, SMALLEST,
};

/// Pages that are copied from the page_list under one lock.
const PAGES_AT_ONCE: usize = 16;

/// Small pages that are joined with their neighbours when a splice is put in.
const MOST_BALANCED: usize = 64;

/// New pages for a range of the page_list each, in order.
#[derive(Debug)]
pub struct Splice<K> {
    replacements: Vec<Replacement<K>>,
}

/// Neighbouring pages, and those that take their place.
#[derive(Debug)]
struct Replacement<K> {
    /// Nobody changes a page that is held here; who has to, changes a copy.
    old: Vec<Arc<Page>>,
    /// `None` where the old pages have all of it already.
    new: Option<Vec<PageEntry<K>>>,
    /// What the new pages were made for, to be done one by one where the old
    /// ones are no longer there.
    changes: Vec<(K, Bytes)>,
}

/// A range of the page_list, as it was when it was looked at.
#[derive(Debug)]
pub struct PageRange<K> {
    entries: Vec<(Vec<K>, Arc<Page>)>,
    /// How many of the changes fall into it.
    changes: usize,
}

/// What a splice has replaced. It is freed without a lock.
#[derive(Debug)]
pub struct Replaced<K> {
    _slots: Vec<PageEntry<K>>,
    _replacements: Vec<Replacement<K>>,
    _texts: Vec<Bytes>,
}

impl<K: FragmentKey + Clone> PageList<K> {
    /// A page_list that only notes what is done to it.
    pub fn noting() -> Self {
        PageList {
            noted: Some(Vec::new()),
            ..PageList::default()
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

    /// The range of the page_list that the first of these changes are about, which
    /// are in order: some pages, the changes in which are counted.
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

    /// Puts new pages in. Costs a little for each page that there is, and for
    /// changes where others changed the same pages meanwhile.
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
        // From the end on, so that places before stay what they are.
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

    /// Where the old pages of a replacement are, if they are all there as they were.
    fn place_of(&self, replacement: &Replacement<K>) -> Option<usize> {
        let (first, _) = replacement.changes.first()?;
        if replacement.old.is_empty() {
            return self.entries.is_empty().then_some(0);
        }
        let at = self.entry_of(first);
        let now = self.entries.get(at..at + replacement.old.len())?;
        let mut pairs = now.iter().zip(&replacement.old);
        pairs
            .all(|(entry, old)| Arc::ptr_eq(&entry.page, old))
            .then_some(at)
    }
}

impl<K: FragmentKey + Clone> Splice<K> {
    /// Makes pages for changes, which are in order, each key once. `look` tells
    /// of the first of them with [`PageList::range`].
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
    /// The new pages of a range. A range in which nothing changes is a replacement too:
    /// others may change it before it is put in.
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

/// Fragments that are cut into pages.
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
        // A small rest goes to the page before it, if that is of its kind.
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
