//! The output as protobuf, in chunks of whole families. A chunk is kept while its pages
//! and native histograms are the same, so a scrape costs what changed.

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

/// The protobuf messages of a snapshot. They share none of its text.
#[derive(Debug, Default)]
pub struct Messages {
    chunks: Vec<Chunk>,
    /// Compressed messages of the last responses.
    page_runs: Arc<PageRuns>,
}

/// The families that begin in one page, up to the first one that begins in a later
/// page.
#[derive(Debug)]
struct Chunk {
    /// The pages that it was made of. They are weak, so that a writer need not copy a
    /// page and no old text is kept. No other page can have their addresses meanwhile.
    pages: Vec<Weak<Page>>,
    natives: Vec<Weak<Vec<NativeHistogram>>>,
    /// The messages, in pages, which are compressed once.
    made: Vec<Arc<Page>>,
}

/// Maximum number of bytes in one fragment of a page.
const MAX_PIECE: usize = 1 << 30;

impl Messages {
    /// The messages of a snapshot of families. Chunks of `before` that are still valid
    /// are reused.
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
            // The last page belongs to the chunk in part, or not at all.
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

    /// The messages as a snapshot.
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
    /// The families as protobuf, all encoded now.
    /// [`Store::messages`](crate::store::Store::messages) reuses what did not change
    /// since the last call.
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

/// The number of native histogram lists of families before the one whose head is in
/// `page` at offset `head`; all of them if there is no such page.
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

/// Encodes the text from offset `from` in the first page to `to` in the last one, or to
/// its end if `to` is 0.
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
    // Pages hold whole lines, which are UTF-8.
    let text = std::str::from_utf8(&text).unwrap_or_default();
    let made = Bytes::from(encode(text, &known, escaping));
    (0..made.len())
        .step_by(MAX_PIECE)
        .map(|at| made.slice(at..made.len().min(at + MAX_PIECE)))
        .map(|piece| Arc::new(Page::of(piece)))
        .collect()
}

#[cfg(test)]
mod tests;
