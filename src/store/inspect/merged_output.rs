//! Merges two outputs of families: the first has pushed groups, aggregated families and
//! the proxy's own, the second has the families of verbatim texts.
//!
//! Both are pages whose families are ordered by name. The result is cut into cells, at
//! families with which a page of either output begins. A cell is kept while its pages
//! are the same, so a response costs what changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};

use crate::exposition::{OutputFormat, plain_name};
use crate::store::families::index::FamilyIndex;
use crate::store::families::names::{ALL_SUFFIXES, suffixes};
use crate::store::pages::page::{Page, PageHead};
use crate::store::pages::page_run::PageRuns;
use crate::store::snapshot::Snapshot;

/// The last merged output.
#[derive(Debug, Default)]
pub struct MergedOutput {
    cells: Vec<Cell>,
    page_runs: Arc<PageRuns>,
}

/// Neighbouring families.
#[derive(Debug)]
struct Cell {
    slices: Vec<Slice>,
    /// Families of verbatim texts that were left out.
    left_out: Vec<Box<str>>,
    made: Arc<Page>,
}

/// A part of a page that a cell was made of. It is weak, so that no old text is kept.
/// No other page can have its address meanwhile.
#[derive(Debug)]
struct Slice {
    page: Weak<Page>,
    from: usize,
    to: usize,
}

impl MergedOutput {
    /// Merges the pages of an output with those of verbatim texts, whose families
    /// `index` has. Also returns the number of these that are left out because they
    /// clash.
    pub fn merge(
        &mut self,
        pages: &[Arc<Page>],
        verbatim: &[Arc<Page>],
        index: &FamilyIndex,
    ) -> (Snapshot, usize) {
        let (first, second) = (Side::of(pages), Side::of(verbatim));
        let left_out = clashing(&first, index);
        let mut known: HashMap<(*const Page, usize), Cell> = HashMap::new();
        for cell in self.cells.drain(..) {
            if let Some(slice) = cell.slices.first() {
                known.insert((slice.page.as_ptr(), slice.from), cell);
            }
        }
        for range in Ranges::new(&first, &second) {
            let (own, other) = (first.slices(range.first), second.slices(range.second));
            let names = second.heads[range.second.0..range.second.1].iter();
            let names = names.map(|(_, head)| &head.name);
            let missing: Vec<Box<str>> = names
                .filter(|name| left_out.contains(&***name))
                .cloned()
                .collect();
            let begin = own.first().or(other.first());
            let key = begin.map(|(page, from, _)| (Arc::as_ptr(page), *from));
            let same = key.and_then(|key| known.remove(&key)).filter(|cell| {
                cell.left_out == missing && cell.is_of(own.iter().chain(other.iter()))
            });
            let cell = same.unwrap_or_else(|| {
                let slices = own.iter().chain(&other);
                Cell {
                    slices: slices
                        .map(|(page, from, to)| Slice {
                            page: Arc::downgrade(page),
                            from: *from,
                            to: *to,
                        })
                        .collect(),
                    made: match (own.as_slice(), other.as_slice()) {
                        (slices, []) | ([], slices) if missing.is_empty() => joined(slices),
                        _ => Arc::new(Page::of(woven((&first, &second), &range, &left_out))),
                    },
                    left_out: missing,
                }
            });
            self.cells.push(cell);
        }
        let pages: Vec<Arc<Page>> = self
            .cells
            .iter()
            .map(|cell| Arc::clone(&cell.made))
            .filter(|page| page.len() > 0)
            .collect();
        let len = pages.iter().map(|page| page.len()).sum();
        let snapshot = Snapshot::new(pages, len, Arc::clone(&self.page_runs));
        (snapshot.mark_merged(true), left_out.len())
    }
}

impl Cell {
    fn is_of<'p>(&self, slices: impl Iterator<Item = &'p SliceOf<'p>>) -> bool {
        let own = self.slices.iter();
        let own = own.map(|slice| (slice.page.as_ptr(), slice.from, slice.to));
        own.eq(slices.map(|(page, from, to)| (Arc::as_ptr(page), *from, *to)))
    }
}

/// A page, and the offsets of a part of its canonical text.
type SliceOf<'p> = (&'p Arc<Page>, usize, usize);

/// One of the two outputs: its pages, and the families that begin in them.
struct Side<'p> {
    pages: &'p [Arc<Page>],
    heads: Vec<(usize, &'p PageHead)>,
}

impl<'p> Side<'p> {
    fn of(pages: &'p [Arc<Page>]) -> Self {
        let heads = pages.iter().enumerate();
        let heads = heads.flat_map(|(place, page)| page.heads().iter().map(move |it| (place, it)));
        Side {
            pages,
            heads: heads.collect(),
        }
    }

    fn name(&self, head: usize) -> Option<&'p str> {
        self.heads.get(head).map(|(_, head)| &*head.name)
    }

    /// Whether the family is the first one that begins in its page.
    fn begins_page(&self, head: usize) -> bool {
        let page = |head: usize| self.heads.get(head).map(|(page, _)| *page);
        head == 0 || page(head) != page(head - 1)
    }

    /// The text of the families with these indices, in parts of pages.
    fn slices(&self, (from, to): (usize, usize)) -> Vec<SliceOf<'p>> {
        let place = |head: usize| match self.heads.get(head) {
            Some((page, head)) => (*page, head.at),
            None => (self.pages.len(), 0),
        };
        if from == to {
            return Vec::new();
        }
        let (begin, end) = (place(from), place(to));
        let pages = self.pages.iter().enumerate().skip(begin.0);
        pages
            .take(end.0 + 1 - begin.0)
            .map(|(at, page)| {
                let from = if at == begin.0 { begin.1 } else { 0 };
                let to = if at == end.0 { end.1 } else { page.len() };
                (page, from, to)
            })
            .filter(|(_, from, to)| from < to)
            .collect()
    }

    fn text(&self, head: usize) -> Vec<u8> {
        let slices = self.slices((head, head + 1));
        let texts = slices
            .iter()
            .map(|(page, from, to)| &page.text(OutputFormat::Canonical)[*from..*to]);
        texts.collect::<Vec<_>>().concat()
    }
}

/// The families of both sides that are in one cell.
struct Range {
    first: (usize, usize),
    second: (usize, usize),
}

/// Cuts two sides into ranges. Families of one name are in one range.
struct Ranges<'a, 'p> {
    sides: [&'a Side<'p>; 2],
    at: [usize; 2],
}

impl<'a, 'p> Ranges<'a, 'p> {
    fn new(first: &'a Side<'p>, second: &'a Side<'p>) -> Self {
        Ranges {
            sides: [first, second],
            at: [0, 0],
        }
    }

    /// Which sides have the next family.
    fn next_family(&self) -> Option<[bool; 2]> {
        let [first, second] = [0, 1].map(|side| self.sides[side].name(self.at[side]));
        match (first, second) {
            (None, None) => None,
            (Some(_), None) => Some([true, false]),
            (None, Some(_)) => Some([false, true]),
            (Some(first), Some(second)) => Some([first <= second, second <= first]),
        }
    }
}

impl Iterator for Ranges<'_, '_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let begin = self.at;
        let mut next = self.next_family()?;
        loop {
            for side in [0, 1] {
                self.at[side] += usize::from(next[side]);
            }
            let Some(after) = self.next_family() else {
                break;
            };
            let begins = |side: usize| after[side] && self.sides[side].begins_page(self.at[side]);
            if begins(0) || begins(1) {
                break;
            }
            next = after;
        }
        Some(Range {
            first: (begin[0], self.at[0]),
            second: (begin[1], self.at[1]),
        })
    }
}

/// Families of verbatim texts that clash with those of the other side. Families of the
/// same name and kind do not clash; they are merged.
fn clashing<'i>(side: &Side<'_>, index: &'i FamilyIndex) -> HashSet<&'i str> {
    let mut clashing = HashSet::new();
    for (_, head) in &side.heads {
        let name = plain_name(&head.name);
        if let Some((held, kind, _)) = index.holder(&name)
            && (*held != *head.name || kind != head.kind)
        {
            clashing.insert(held);
        }
        for suffix in suffixes(head.kind) {
            if let Some((held, ..)) = index.holder(&format!("{name}{suffix}")) {
                clashing.insert(held);
            }
        }
        for suffix in ALL_SUFFIXES {
            let base = name
                .strip_suffix(suffix)
                .and_then(|name| index.holder(name));
            if let Some((held, ..)) = base.filter(|(_, kind, _)| suffixes(*kind).contains(&suffix))
            {
                clashing.insert(held);
            }
        }
    }
    clashing
}

/// The parts as one page. A whole page is shared.
fn joined(slices: &[SliceOf<'_>]) -> Arc<Page> {
    match slices {
        [(page, from, to)] if *from == 0 && *to == page.len() => Arc::clone(page),
        [(page, from, to)] => Arc::new(Page::of(
            page.text(OutputFormat::Canonical).slice(*from..*to),
        )),
        slices => {
            let size = slices.iter().map(|(_, from, to)| to - from).sum();
            let mut text = BytesMut::with_capacity(size);
            for (page, from, to) in slices {
                text.extend_from_slice(&page.text(OutputFormat::Canonical)[*from..*to]);
            }
            Arc::new(Page::of(text.freeze()))
        }
    }
}

/// The families of both sides in the order of their names, each once. A series of both
/// is shown as the first side has it.
fn woven(
    (first, second): (&Side<'_>, &Side<'_>),
    range: &Range,
    left_out: &HashSet<&str>,
) -> Bytes {
    let mut out = Vec::new();
    let mut walk = Ranges {
        sides: [first, second],
        at: [range.first.0, range.second.0],
    };
    while walk.at != [range.first.1, range.second.1] {
        let Some(next) = walk.next_family() else {
            break;
        };
        let own = if next[0] {
            first.text(walk.at[0])
        } else {
            Vec::new()
        };
        out.extend_from_slice(&own);
        let passed = second.name(walk.at[1]).filter(|_| next[1]);
        if passed.is_some_and(|name| !left_out.contains(name)) {
            let text = second.text(walk.at[1]);
            if own.is_empty() {
                out.extend_from_slice(&text);
            } else {
                extend(&mut out, &own, &text);
            }
        }
        for side in [0, 1] {
            walk.at[side] += usize::from(next[side]);
        }
    }
    Bytes::from(out)
}

/// Adds the samples of a family whose head and first samples are `own`.
fn extend(out: &mut Vec<u8>, own: &[u8], text: &[u8]) {
    let lines = |text| <[u8]>::split_inclusive(text, |byte: &u8| *byte == b'\n');
    let known: HashSet<&[u8]> = lines(own).map(series).collect();
    for line in lines(text) {
        if !line.starts_with(b"#") && !known.contains(series(line)) {
            out.extend_from_slice(line);
        }
    }
}

/// The name and labels of a line of canonical text.
fn series(line: &[u8]) -> &[u8] {
    let end = memchr::memrchr(b'}', line).or_else(|| memchr::memchr(b' ', line));
    &line[..end.unwrap_or(line.len())]
}
