//! The output as protobuf, made in chunks of whole families. A chunk is kept
//! while the pages and the native histograms that it was made of are the same,
//! so a scrape costs what changed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::exposition::protobuf::{NativeHistograms, encode};
use crate::exposition::{
    Escaping, InputFormat, Labels, NativeHistogram, OutputFormat, ParsedLine, Parser,
};
use crate::store::pages::page::Page;
use crate::store::pages::page_run::PageRuns;
use crate::store::sections::natives::FamilyNatives;
use crate::store::snapshot::Snapshot;

/// What was made of a snapshot. It holds none of the snapshot's text.
#[derive(Debug, Default)]
pub struct Messages {
    chunks: Vec<Chunk>,
    /// Where they lie together when they are compressed.
    page_runs: Arc<PageRuns>,
}

/// The families that begin in one page, up to the first that begins in a
/// later one.
#[derive(Debug)]
struct Chunk {
    /// What it was made of. Weak, so that a writer need not copy a page, nor
    /// old text stay; nothing else can come to lie in their places meanwhile.
    pages: Vec<Weak<Page>>,
    natives: Vec<Weak<Vec<NativeHistogram>>>,
    /// The messages. In pages, which are compressed once.
    made: Vec<Arc<Page>>,
}

/// A page holds no more in one piece.
const LONGEST_PIECE: usize = 1 << 30;

impl Messages {
    /// Makes the messages of a snapshot of families, with what of `before` is
    /// still the same.
    pub fn of(snapshot: &Snapshot, escaping: Escaping, before: &Messages) -> Messages {
        let known: HashMap<*const Page, &Chunk> = before
            .chunks
            .iter()
            .filter_map(|chunk| Some((chunk.pages.first()?.as_ptr(), chunk)))
            .collect();
        let pages = snapshot.pages();
        let heads: Vec<(usize, usize)> = pages
            .iter()
            .enumerate()
            .filter_map(|(place, page)| Some((place, page.first_head()?)))
            .collect();
        let mut natives = snapshot.natives();
        let chunks = heads.iter().enumerate().map(|(index, (first, from))| {
            // The last page is only a part of the chunk, or none.
            let (last, to) = heads.get(index + 1).copied().unwrap_or((pages.len(), 0));
            let own = &pages[*first..last + usize::from(to > 0)];
            let after = natives_before(natives, pages.get(last), to);
            let (own_natives, rest) = natives.split_at(after);
            natives = rest;
            let same = known
                .get(&Arc::as_ptr(&own[0]))
                .filter(|chunk| chunk.is_of(own, own_natives));
            let made = match same {
                Some(chunk) => chunk.made.clone(),
                None => make(own, *from, to, own_natives, escaping),
            };
            Chunk {
                pages: own.iter().map(Arc::downgrade).collect(),
                natives: own_natives
                    .iter()
                    .map(|(_, natives)| Arc::downgrade(natives))
                    .collect(),
                made,
            }
        });
        Messages {
            chunks: chunks.collect(),
            page_runs: Arc::clone(&before.page_runs),
        }
    }

    /// The messages, shown like text.
    pub fn snapshot(&self) -> Snapshot {
        let pages: Vec<Arc<Page>> = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.made.iter().cloned())
            .collect();
        let len = pages.iter().map(|page| page.len()).sum();
        Snapshot::new(pages, len, Arc::clone(&self.page_runs))
    }
}

impl Snapshot {
    /// Families as protobuf, all made now. [`Store::messages`](super::Store)
    /// keeps what it makes of the whole output.
    #[must_use]
    pub fn in_messages(&self, escaping: Escaping) -> Self {
        Messages::of(self, escaping, &Messages::default()).snapshot()
    }
}

impl Chunk {
    fn is_of(&self, pages: &[Arc<Page>], natives: &[FamilyNatives]) -> bool {
        let mut now = pages.iter().map(Arc::as_ptr);
        let mut natives_now = natives.iter().map(|(_, natives)| Arc::as_ptr(natives));
        self.pages.len() == pages.len()
            && self.natives.len() == natives.len()
            && self
                .pages
                .iter()
                .all(|page| now.next() == Some(page.as_ptr()))
            && self
                .natives
                .iter()
                .all(|natives| natives_now.next() == Some(natives.as_ptr()))
    }
}

/// How many of the natives are of families before the one whose head stands in
/// `page` at `head`; all of them where there is no such page.
fn natives_before(natives: &[FamilyNatives], page: Option<&Arc<Page>>, head: usize) -> usize {
    let Some(page) = page.filter(|_| !natives.is_empty()) else {
        return natives.len();
    };
    let text = page.text(OutputFormat::Canonical);
    let text = std::str::from_utf8(&text[head..]).unwrap_or_default();
    match Parser::new(text, InputFormat::Text).next(&mut Labels::new()) {
        Ok(Some(ParsedLine::Help { name, .. } | ParsedLine::Type { name, .. })) => {
            natives.partition_point(|(family, _)| **family < *name)
        }
        _ => natives.len(),
    }
}

/// The messages of the text from `from` in the first page on, up to `to` in
/// the last, or up to its end where that is 0.
fn make(
    pages: &[Arc<Page>],
    from: usize,
    to: usize,
    natives: &[FamilyNatives],
    escaping: Escaping,
) -> Vec<Arc<Page>> {
    let mut text = Vec::with_capacity(pages.iter().map(|page| page.len()).sum());
    for (place, page) in pages.iter().enumerate() {
        let whole = page.text(OutputFormat::Canonical);
        let start = if place == 0 { from } else { 0 };
        let cut = to > 0 && place == pages.len() - 1;
        let end = if cut { to } else { whole.len() };
        text.extend_from_slice(&whole[start..end]);
    }
    let mut known = NativeHistograms::default();
    for (family, natives) in natives {
        known.add(family, natives);
    }
    // Whole texts are UTF-8, and pages hold whole lines.
    let text = std::str::from_utf8(&text).unwrap_or_default();
    let made = Bytes::from(encode(text, &known, escaping));
    (0..made.len())
        .step_by(LONGEST_PIECE)
        .map(|at| made.slice(at..made.len().min(at + LONGEST_PIECE)))
        .map(|piece| Arc::new(Page::of(piece)))
        .collect()
}

#[cfg(test)]
mod tests;
