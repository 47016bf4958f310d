//! The lines of the output and their series, kept from one round to the next, so that a round
//! costs what changed.
//!
//! An unchanged page is not read: its lines have the same series. A changed page mostly has the
//! same lines with other values. Each line is compared with the next line of the pages that are
//! gone, by the hash of its series, and takes over the series of that line. Only a line that none
//! of them has is parsed.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::outs::{Outs, Round, Target};
use crate::exposition::protobuf::RemoteHistogram;
use crate::exposition::{
    CanonicalSample, FamilyHead, NativeHistogram, needs_quotes, write_label_value, write_series,
};
use crate::store::{PageId, PageView, Snapshot};

/// A line, or a native histogram: the hash of its series as written, and the series sent for it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    target: Target,
}

/// A page of the last round.
#[derive(Debug)]
struct KnownPage {
    id: PageId,
    entries: Vec<Entry>,
    /// Lines before the first head, which belong to the family of the page before.
    continued: usize,
    /// The family of the lines before the first head.
    before: Option<Arc<FamilyHead>>,
    /// The last family that begins in the page.
    last: Option<Arc<FamilyHead>>,
    /// For each family, including the one before the first head, whether a series of it is sent.
    sent: Box<[bool]>,
    /// When a value of the page is due again.
    due: i64,
}

/// A line that the last round did not have.
#[derive(Debug)]
struct NewLine {
    /// Page and entry; none for a further point of the previous line's series.
    place: Option<(usize, usize)>,
    /// The index of its family in the page.
    family: usize,
    line: Bytes,
    value: f64,
    timestamp: Option<i64>,
    head: Option<Arc<FamilyHead>>,
}

/// All pages of the last round.
#[derive(Debug)]
pub struct Pages {
    pages: Vec<KnownPage>,
    natives: Vec<Entry>,
    /// The families that have native histograms, by their escaped names.
    native_heads: HashMap<Arc<str>, Option<Arc<FamilyHead>>>,
    /// The key of the hashes.
    seed: u64,
    /// Memory for the entries of the page being read.
    entries: Vec<Entry>,
    /// Memory for the lines of the last round.
    leftovers: Leftovers,
}

/// Lines of the last round that this round has not taken over yet, in order.
#[derive(Debug, Default)]
struct Leftovers {
    entries: Vec<Entry>,
    taken: Vec<bool>,
    next: usize,
    by_hash: Option<HashMap<u64, usize>>,
    /// Memory of changed pages, for the pages that take their places.
    memory: VecDeque<Vec<Entry>>,
}

/// The number of lines that are skipped to find the next one, before all are searched. Each
/// series that is gone takes one skip.
const LOOK_AHEAD: usize = 8;

impl Leftovers {
    /// Adds lines after the others.
    fn add(&mut self, entries: &[Entry]) {
        self.entries.extend_from_slice(entries);
        self.taken.resize(self.entries.len(), false);
    }

    /// Takes over the series of the line with this hash.
    #[inline]
    fn take(&mut self, hash: u64) -> Option<Target> {
        let ahead = self.entries[self.next..].iter().take(LOOK_AHEAD);
        let near = ahead.clone().position(|entry| entry.hash == hash);
        let at = match near {
            Some(skipped) => self.next + skipped,
            None if self.entries.is_empty() => return None,
            None => {
                let by_hash = self.by_hash.get_or_insert_with(|| {
                    let entries = self.entries.iter().enumerate().rev();
                    entries.map(|(at, entry)| (entry.hash, at)).collect()
                });
                *by_hash.get(&hash)?
            }
        };
        self.next = at + 1;
        (!std::mem::replace(&mut self.taken[at], true)).then(|| self.entries[at].target)
    }

    /// Releases the lines that this round has not taken over.
    fn release(&mut self, outs: &mut Outs) {
        let lines = self.entries.len();
        for (entry, taken) in self.entries.drain(..).zip(self.taken.drain(..)) {
            if !taken {
                outs.release(entry.target);
            }
        }
        // The next round has about as many.
        self.entries.shrink_to(2 * lines);
        self.taken.shrink_to(2 * lines);
        self.next = 0;
        self.by_hash = None;
        self.memory = VecDeque::new();
    }
}

impl Pages {
    /// No pages yet.
    pub fn new() -> Self {
        Pages {
            pages: Vec::new(),
            natives: Vec::new(),
            native_heads: HashMap::new(),
            seed: RandomState::new().hash_one(()),
            entries: Vec::new(),
            leftovers: Leftovers::default(),
        }
    }

    /// Forgets the pages, so that all are read again.
    pub fn forget(&mut self, outs: &mut Outs) {
        for page in self.pages.drain(..) {
            for entry in &page.entries {
                outs.release(entry.target);
            }
        }
        for entry in self.natives.drain(..) {
            outs.release(entry.target);
        }
    }

    /// Adds the values of a snapshot that are due to the requests.
    pub fn collect(&mut self, snapshot: &Snapshot, outs: &mut Outs, round: Round) {
        let natives = snapshot.natives().iter();
        let mut before = std::mem::take(&mut self.native_heads);
        self.native_heads = natives
            .map(|(family, _)| {
                let head = before.remove(family).flatten();
                (Arc::clone(family), head)
            })
            .collect();
        let mut leftovers = std::mem::take(&mut self.leftovers);
        let mut same = self.compare(snapshot, &mut leftovers);
        let is_first = leftovers.entries.is_empty();
        let mut new_lines = Vec::new();
        outs.enter(None);
        for view in snapshot.page_views() {
            let page = match same.remove(&view.address()) {
                Some(page) => self.keep(page, outs, round),
                None => self.read(view, outs, round, &mut leftovers, &mut new_lines),
            };
            self.pages.push(page);
            // Without old lines, there are none to release before new ones are added.
            if is_first {
                self.add_new(new_lines.drain(..), outs, round);
            }
        }
        leftovers.release(outs);
        self.leftovers = leftovers;
        self.add_new(new_lines.into_iter(), outs, round);
        outs.enter(None);
    }

    /// Splits the pages of the last round: those that are unchanged, by their addresses, and the
    /// lines of the others, which it adds to `leftovers`.
    fn compare(
        &mut self,
        snapshot: &Snapshot,
        leftovers: &mut Leftovers,
    ) -> HashMap<usize, KnownPage> {
        let mut same: HashMap<usize, Option<KnownPage>> = snapshot
            .page_views()
            .map(|view| (view.address(), None))
            .collect();
        for page in self.pages.drain(..) {
            match same.get_mut(&page.id.address()) {
                Some(place) => *place = Some(page),
                None => {
                    leftovers.add(&page.entries);
                    leftovers.memory.push_back(page.entries);
                }
            }
        }
        let same = same.into_iter();
        let same = same.filter_map(|(address, page)| Some((address, page?)));
        same.collect()
    }

    /// Updates an unchanged page.
    fn keep(&self, mut page: KnownPage, outs: &mut Outs, round: Round) -> KnownPage {
        if page.continued > 0 && page.before.as_ref() != outs.head() {
            for entry in &page.entries[..page.continued] {
                outs.describe(entry.target);
            }
            page.before = outs.head().cloned();
        }
        if round.is_reached(page.due) {
            let due = page.entries.iter();
            let due = due.map(|entry| outs.send_again(entry.target, round));
            page.due = due.min().unwrap_or(i64::MAX);
        }
        if let Some(last) = &page.last
            && outs.head() != Some(last)
        {
            outs.enter(Some(Arc::clone(last)));
        }
        page
    }

    /// Reads a new or changed page.
    fn read(
        &mut self,
        view: PageView<'_>,
        outs: &mut Outs,
        round: Round,
        leftovers: &mut Leftovers,
        new_lines: &mut Vec<NewLine>,
    ) -> KnownPage {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let mut sent = vec![false];
        let mut page = KnownPage {
            id: view.id(),
            entries: leftovers.memory.pop_front().unwrap_or_default(),
            continued: 0,
            before: outs.head().cloned(),
            last: None,
            sent: Box::default(),
            due: i64::MAX,
        };
        for piece in view.pieces() {
            let Ok(text) = std::str::from_utf8(&piece) else {
                continue;
            };
            let mut at = 0;
            while at < text.len() {
                let rest = &text[at..];
                if rest.starts_with('#') {
                    let (head, length) = match FamilyHead::read(rest) {
                        Some((head, length)) => (Some(Arc::new(head)), length),
                        None => (None, line_length(rest)),
                    };
                    at += length;
                    if let Some(head) = head {
                        self.note_head(&head);
                        outs.enter(Some(Arc::clone(&head)));
                        page.last = Some(head);
                        sent.push(false);
                    }
                    continue;
                }
                let length = line_length(rest);
                let line = rest[..length].trim_end_matches('\n');
                let range = at..at + line.len();
                at += length;
                let Some(sample) = CanonicalSample::read(line) else {
                    continue;
                };
                let hash = xxh3_64_with_seed(sample.series.as_bytes(), self.seed);
                // Points of one series at several times are on consecutive lines.
                let is_further = entries.last().is_some_and(|last| last.hash == hash);
                let target = match is_further {
                    true => entries.last().map(|last| last.target),
                    false => leftovers.take(hash),
                };
                if !is_further {
                    page.continued += usize::from(sent.len() == 1);
                    entries.push(Entry {
                        hash,
                        target: target.unwrap_or(Target::NEW),
                    });
                }
                match target.filter(|target| *target != Target::NEW) {
                    Some(target) => {
                        outs.describe(target);
                        let due = outs.send(target, sample.value, sample.timestamp, round);
                        page.due = page.due.min(due);
                        if let Some(sent) = sent.last_mut() {
                            *sent |= target.sent().is_some();
                        }
                    }
                    None => new_lines.push(NewLine {
                        place: (!is_further).then(|| (self.pages.len(), entries.len() - 1)),
                        family: sent.len() - 1,
                        line: piece.slice(range),
                        value: sample.value,
                        timestamp: sample.timestamp,
                        head: outs.head().cloned(),
                    }),
                }
            }
        }
        page.entries.clear();
        page.entries.reserve_exact(entries.len());
        page.entries.extend_from_slice(&entries);
        self.entries = entries;
        page.sent = sent.into();
        page
    }

    /// Keeps the head of a family if it has native histograms.
    fn note_head(&mut self, head: &Arc<FamilyHead>) {
        if !self.native_heads.is_empty()
            && let Some(kept) = self.native_heads.get_mut(&*escaped(&head.name))
        {
            *kept = Some(Arc::clone(head));
        }
    }

    /// Determines the series of new lines, and sends their values.
    fn add_new(&mut self, lines: impl Iterator<Item = NewLine>, outs: &mut Outs, round: Round) {
        let current = outs.head().cloned();
        let mut target = Target::OMITTED;
        for line in lines {
            if let Some((page, entry)) = line.place {
                let Ok(text) = std::str::from_utf8(&line.line) else {
                    continue;
                };
                target = outs.resolve(text, false);
                let page = &mut self.pages[page];
                page.entries[entry].target = target;
                page.sent[line.family] |= target.sent().is_some();
                if outs.head() != line.head.as_ref() {
                    outs.enter(line.head);
                }
                outs.describe(target);
            }
            let due = outs.send(target, line.value, line.timestamp, round);
            if let Some((page, _)) = line.place {
                let page = &mut self.pages[page];
                page.due = page.due.min(due);
            }
        }
        if outs.head() != current.as_ref() {
            outs.enter(current);
        }
    }

    /// Adds native histograms that are due, and releases those that are gone.
    pub fn collect_natives(&mut self, snapshot: &Snapshot, outs: &mut Outs, round: Round) {
        let mut leftovers = Leftovers::default();
        leftovers.add(&std::mem::take(&mut self.natives));
        let mut new = Vec::new();
        for (family, natives) in snapshot.natives() {
            outs.enter(self.native_heads.get(family).cloned().flatten());
            for native in natives.iter() {
                let line = series_of(family, native);
                let hash = xxh3_64_with_seed(line.as_bytes(), self.seed);
                match leftovers.take(hash) {
                    Some(target) => {
                        self.natives.push(Entry { hash, target });
                        self.send_native(target, native, outs, round);
                    }
                    None => new.push((hash, line, outs.head().cloned(), native)),
                }
            }
        }
        leftovers.release(outs);
        for (hash, line, head, native) in new {
            if outs.head() != head.as_ref() {
                outs.enter(head);
            }
            let target = outs.resolve(&line, true);
            self.natives.push(Entry { hash, target });
            self.send_native(target, native, outs, round);
        }
        outs.enter(None);
    }

    fn send_native(&self, target: Target, native: &NativeHistogram, outs: &mut Outs, round: Round) {
        outs.describe(target);
        let hash = xxh3_64_with_seed(&native.histogram, self.seed);
        let convert = || RemoteHistogram::of(&native.histogram, native.gauge);
        outs.send_histogram(target, hash, convert, round);
    }

    /// Calls `add` with the metadata of each family of which a series is sent. The pages must be
    /// those of `snapshot`.
    pub fn each_family(&self, snapshot: &Snapshot, mut add: impl FnMut(&FamilyHead)) {
        let mut open: Option<FamilyHead> = None;
        for (view, page) in snapshot.page_views().zip(&self.pages) {
            let mut sent = page.sent.iter();
            if sent.next() == Some(&true)
                && let Some(head) = open.take()
            {
                add(&head);
            }
            for piece in view.pieces() {
                let Ok(text) = std::str::from_utf8(&piece) else {
                    continue;
                };
                let mut at = 0;
                while at < text.len() {
                    let rest = &text[at..];
                    if !rest.starts_with('#') {
                        at += memchr::memmem::find(rest.as_bytes(), b"\n#")
                            .map_or(rest.len(), |end| end + 1);
                        continue;
                    }
                    let Some((head, length)) = FamilyHead::read(rest) else {
                        at += line_length(rest);
                        continue;
                    };
                    at += length;
                    open = match sent.next() {
                        Some(true) => {
                            add(&head);
                            None
                        }
                        // The samples can be on the next page.
                        _ => Some(head),
                    };
                }
            }
        }
    }
}

/// The length of the first line in bytes, with its line feed.
#[inline]
fn line_length(text: &str) -> usize {
    memchr(b'\n', text.as_bytes()).map_or(text.len(), |end| end + 1)
}

/// The series of a native histogram as a line of canonical text.
fn series_of(family: &str, native: &NativeHistogram) -> String {
    let mut line = String::with_capacity(family.len() + native.labels.len() + 8);
    let labels = [&*native.labels, "", ""];
    write_series(&mut line, [family, ""], needs_quotes(family), labels);
    line.push_str(" 0");
    line
}

/// A name as in canonical text, without quotes.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    write_label_value(&mut escaped, name);
    escaped
}
