//! Removing aggregated series, whatever input they came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Group;
use super::selector::Selectors;
use crate::clock::Now;
use crate::exposition::{LabelText, label_pairs, unescape};
use crate::registry::{BlockSeries, Update};
use crate::store::{BatchRejection, Store};

/// Blocks that are looked through under one lock; a block has 32 series.
const BLOCKS_AT_ONCE: usize = 256;

/// Series that are removed under one lock.
const SERIES_AT_ONCE: usize = 512;

/// Removed series that are listed; all are counted.
const MOST_LISTED: usize = 1000;

/// The name that selectors know the family's name by.
const NAME: &str = "__name__";

/// Which series are meant.
#[derive(Debug)]
pub enum Meant {
    All,
    /// Those that have all these labels.
    Labels(Group),
    Matching(Selectors),
}

impl Meant {
    fn is(&self, series: &Labels<'_>) -> bool {
        match self {
            Meant::All => true,
            Meant::Labels(group) => {
                let mut labels = group.labels().iter();
                labels.all(|(name, value)| series.value(name) == *value)
            }
            Meant::Matching(selectors) => selectors.match_values(|name| series.value(name)),
        }
    }
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    pub count: usize,
    /// The labels of the first ones, the name among them.
    pub listed: Vec<BTreeMap<String, String>>,
    /// It was not gone on with, since patterns took too long.
    pub stopped: bool,
}

/// Removes series, some at a time so that others go on between; with `dry_run`
/// it only tells which. Costs a look at all series, away from any lock, and the
/// removal of those that are meant.
pub fn remove_series(
    store: &Store,
    meant: &Meant,
    dry_run: bool,
    now: Now,
) -> Result<Removed, BatchRejection> {
    let mut removed = Removed::default();
    let mut from = Some((0, 0));
    while let Some(at) = from {
        let (some, next) = store.series_from(at, BLOCKS_AT_ONCE);
        from = next;
        let mut found: Vec<Labels<'_>> = some
            .iter()
            .flat_map(labels_of)
            .filter(|series| meant.is(series))
            .collect();
        if !dry_run {
            for series in found.chunks_mut(SERIES_AT_ONCE) {
                let deletions = series.iter().map(Labels::deletion).collect();
                removed.count += store.delete(deletions, now)?;
            }
        } else {
            removed.count += found.len();
        }
        let room = MOST_LISTED - removed.listed.len();
        removed
            .listed
            .extend(found.iter().take(room).map(Labels::shown));
        if let Meant::Matching(selectors) = meant
            && selectors.are_spent()
        {
            removed.stopped = true;
            break;
        }
    }
    Ok(removed)
}

/// The labels of a series, as they are written.
#[derive(Debug)]
struct Labels<'s> {
    family: &'s Arc<str>,
    labels: &'s str,
}

fn labels_of(some: &BlockSeries) -> impl Iterator<Item = Labels<'_>> {
    let family = &some.family;
    some.labels().map(move |labels| Labels { family, labels })
}

impl<'s> Labels<'s> {
    /// What a label means; one that is not there is empty.
    fn value(&self, name: &str) -> Cow<'s, str> {
        if name == NAME {
            return unescape(self.family);
        }
        let mut labels = label_pairs(self.labels);
        let found = labels.find(|label| unescape(label.name) == name);
        found.map_or(Cow::Borrowed(""), |label| unescape(label.value))
    }

    fn shown(&self) -> BTreeMap<String, String> {
        let meant = |text| unescape(text).into_owned();
        let name = (NAME.to_owned(), meant(self.family));
        let labels = label_pairs(self.labels).map(|it| (meant(it.name), meant(it.value)));
        labels.chain([name]).collect()
    }

    fn deletion(&self) -> Update {
        let pairs = label_pairs(self.labels).map(|label| (label.name, label.value));
        // They are of a series, so nothing is wrong with them.
        let labels = LabelText::from_escaped(pairs).unwrap_or_default();
        Update::deletion(Arc::clone(self.family), labels)
    }
}

#[cfg(test)]
mod tests;
