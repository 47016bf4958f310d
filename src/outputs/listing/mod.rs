//! The apps, targets and groups that a list shows, and their order: search, filters, sorting and
//! pages, as parameters of a URL. The list for browsers, the table and the JSON share them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use crate::clock::Now;
use crate::http::query;
use crate::outputs::kind;
use crate::store::{Producer, Section, SectionId, SectionState, Store};

/// The parameters of a list.
pub const PARAMETERS: &str = "wide format q kind state sort page";

/// The number of sources on a page.
pub const PAGE: usize = 100;

/// The limit of the page number. Choosing a page takes the memory of all pages before it.
const MAX_PAGE: usize = 10_000;

/// The limit of a search text, in bytes.
const MAX_SEARCH: usize = 1024;

/// The kinds of producers that are listed.
pub const KINDS: [Producer; 3] = [Producer::App, Producer::Target, Producer::Group];

/// The contents of a list, and their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Part of the name, the URL, the address of the sender or that of the listener.
    /// Case does not matter in ASCII letters. Empty for all.
    pub search: String,
    /// Only this kind.
    pub kind: Option<Producer>,
    /// Only this state.
    pub state: Option<StateFilter>,
    /// The order; by name if `None`.
    pub sort: Option<Sort>,
    /// Whether the order is reversed.
    pub is_descending: bool,
    /// The page, from 1; all sources if `None`.
    pub page: Option<usize>,
}

/// A filter by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// This state.
    Is(SectionState),
    /// All sources that need attention.
    Problem,
}

impl StateFilter {
    /// The word in the URL.
    pub fn as_str(self) -> &'static str {
        match self {
            StateFilter::Is(state) => state.as_str(),
            StateFilter::Problem => "problem",
        }
    }

    fn parse(word: &str) -> Result<Self, String> {
        let states = SectionState::ALL.into_iter().map(StateFilter::Is);
        let mut all = states.chain([StateFilter::Problem]);
        all.clone().find(|it| it.as_str() == word).ok_or_else(|| {
            let words: Vec<&str> = all.by_ref().map(StateFilter::as_str).collect();
            format!("state must be one of {}, not {word:?}", words.join(", "))
        })
    }
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By need for attention, the worst first.
    Problems,
    /// By name.
    Name,
    /// By kind.
    Kind,
    /// By the time since the last update, the shortest first.
    Age,
    /// By bytes of text.
    Size,
    /// By the time of expiry, the nearest first. Sources that do not expire are last.
    Expires,
}

impl Sort {
    /// All orders.
    pub const ALL: [Sort; 6] = [
        Sort::Problems,
        Sort::Name,
        Sort::Kind,
        Sort::Age,
        Sort::Size,
        Sort::Expires,
    ];

    /// The word in the URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Problems => "problems",
            Sort::Name => "name",
            Sort::Kind => "kind",
            Sort::Age => "age",
            Sort::Size => "size",
            Sort::Expires => "expires",
        }
    }

    /// Parses an order; a leading `-` reverses it.
    fn parse(text: &str) -> Result<(Self, bool), String> {
        let (word, is_descending) = match text.strip_prefix('-') {
            Some(word) => (word, true),
            None => (text, false),
        };
        let found = Sort::ALL.into_iter().find(|it| it.as_str() == word);
        found.map(|sort| (sort, is_descending)).ok_or_else(|| {
            let words = Sort::ALL.map(Sort::as_str).join(", ");
            format!("sort must be one of {words}, with or without a leading -, not {text:?}")
        })
    }
}

/// How much attention a source needs, the greatest need first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// It exposes nothing, because every attempt fails.
    Failing,
    /// It exposes an older text, because the last attempt failed.
    Stale,
    /// Its text is exposed, and something is wrong with it.
    Suspect,
    /// Nothing is known yet.
    Waiting,
    /// It needs none.
    None,
}

impl Attention {
    /// The attention that a source needs.
    pub fn of(section: &Section) -> Self {
        match section.state {
            SectionState::Failing | SectionState::Withdrawn => Attention::Failing,
            SectionState::Stale => Attention::Stale,
            _ if section.findings.is_some() => Attention::Suspect,
            SectionState::Waiting => Attention::Waiting,
            SectionState::Fresh => Attention::None,
        }
    }

    /// Whether the source has a problem.
    pub fn is_problem(self) -> bool {
        self < Attention::Waiting
    }
}

/// The sources that were chosen.
#[derive(Debug)]
pub struct Chosen {
    /// The ids on the page, in order.
    pub ids: Vec<SectionId>,
    /// The number of all sources that match.
    pub total: usize,
}

impl Listing {
    /// Reads the parameters `q`, `kind`, `state`, `sort` and `page`. A parameter without a value
    /// counts as absent, since forms send those that are not filled in.
    ///
    /// # Errors
    ///
    /// A value is wrong.
    pub fn of_query(text: &str) -> Result<Self, String> {
        let value = |name| query::value(text, name).filter(|value| !value.is_empty());
        let mut listing = Listing {
            search: value("q").unwrap_or_default().to_ascii_lowercase(),
            ..Listing::default()
        };
        if listing.search.len() > MAX_SEARCH {
            return Err(format!("q has more than {MAX_SEARCH} bytes"));
        }
        if value("kind").is_some() {
            listing.kind = kind::of_query(text, &KINDS)?;
        }
        if let Some(word) = value("state") {
            listing.state = Some(StateFilter::parse(&word)?);
        }
        if let Some(order) = value("sort") {
            let (sort, is_descending) = Sort::parse(&order)?;
            (listing.sort, listing.is_descending) = (Some(sort), is_descending);
        }
        if let Some(page) = value("page") {
            let number = page.parse().ok();
            let number = number.filter(|page| (1..=MAX_PAGE).contains(page));
            listing.page = Some(number.ok_or_else(|| {
                format!("page must be a whole number from 1 to {MAX_PAGE}, not {page:?}")
            })?);
        }
        Ok(listing)
    }

    /// Whether the list is all sources by name.
    pub fn is_all(&self) -> bool {
        *self == Listing::default()
    }

    /// Chooses the sources of the list from all. Takes some microseconds for each hundred of them.
    pub fn choose(&self, store: &Store, now: Now) -> Chosen {
        let page = self.page.unwrap_or(usize::MAX);
        let mut first = First::new(page.saturating_mul(PAGE));
        let mut total = 0;
        let mut buffer = String::new();
        store.visit(|id, section| {
            if self.shows(id, section, &mut buffer) {
                first.add(self.key(total, id, section, now), total, id);
                total += 1;
            }
        });
        let skipped = (page - 1).saturating_mul(PAGE);
        let skipped = self.page.map_or(0, |_| skipped);
        let ids = first.into_sorted().skip(skipped).collect();
        Chosen { ids, total }
    }

    fn shows(&self, id: &SectionId, section: &Section, buffer: &mut String) -> bool {
        self.kind.is_none_or(|kind| kind == id.producer)
            && match self.state {
                None => true,
                Some(StateFilter::Is(state)) => state == section.state,
                Some(StateFilter::Problem) => Attention::of(section).is_problem(),
            }
            && self.finds(id, section, buffer)
    }

    /// Whether the name or an address of the source contains the search text.
    fn finds(&self, id: &SectionId, section: &Section, buffer: &mut String) -> bool {
        if self.search.is_empty() {
            return true;
        }
        let search = &self.search;
        let url = section.url.as_deref().unwrap_or_default();
        let texts = [&*id.name, url, &*section.origin.source];
        if texts.iter().any(|text| contains(text, search)) {
            return true;
        }
        buffer.clear();
        let written = write!(buffer, "{}", section.origin.peer);
        written.is_ok() && contains(buffer, search)
    }

    /// The key by which the list is sorted, ascending.
    fn key(&self, place: usize, id: &SectionId, section: &Section, now: Now) -> u64 {
        let key = match self.sort.unwrap_or(Sort::Name) {
            // Places are in the order of names.
            Sort::Name => place as u64,
            Sort::Problems => Attention::of(section) as u64,
            Sort::Kind => id.producer as u64,
            Sort::Age => section.updated.map_or(u64::MAX, |at| {
                u64::try_from(now.since(at).as_nanos()).unwrap_or(u64::MAX)
            }),
            Sort::Size => section.bytes as u64,
            Sort::Expires => section.expires(now).map_or(u64::MAX, |at| {
                let left = at.duration_since(now.wall).unwrap_or_default();
                u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
            }),
        };
        match self.is_descending {
            true => u64::MAX - key,
            false => key,
        }
    }
}

/// Keeps the first of many sources, without the memory of all.
struct First {
    limit: usize,
    /// The largest is on top.
    kept: BinaryHeap<Entry>,
}

struct Entry {
    key: u64,
    /// The place among all sources, by name. No two are equal.
    place: usize,
    id: SectionId,
}

impl First {
    fn new(limit: usize) -> Self {
        First {
            limit,
            kept: BinaryHeap::new(),
        }
    }

    fn add(&mut self, key: u64, place: usize, id: &SectionId) {
        if self.kept.len() >= self.limit {
            let largest = self.kept.peek();
            if largest.is_none_or(|it| (it.key, it.place) <= (key, place)) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(Entry {
            key,
            place,
            id: id.clone(),
        });
    }

    fn into_sorted(self) -> impl Iterator<Item = SectionId> {
        self.kept.into_sorted_vec().into_iter().map(|it| it.id)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.key, self.place).cmp(&(other.key, other.place))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// Whether a text contains `part`, which is in lower case; ASCII case is ignored.
fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let mut windows = text.windows(part.len());
    windows.any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests;
