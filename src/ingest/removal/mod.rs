//! Removal of aggregated series, whichever input they came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Group;
use super::selector::Selectors;
use crate::clock::Now;
use crate::exposition::{LabelText, label_pairs, unescape};
use crate::registry::{BlockSeries, Update};
use crate::store::{BatchRejection, Store};

/// The number of blocks that are read under one lock. A block has 32 series.
const BLOCKS_PER_READ: usize = 256;

/// The number of series that are removed under one lock.
const SERIES_PER_WRITE: usize = 512;

/// Maximum number of removed series that are listed. All are counted.
const MAX_LISTED: usize = 1000;

/// The label by which selectors match the name of the family.
const NAME_LABEL: &str = "__name__";

/// The series to remove.
#[derive(Debug)]
pub enum SeriesSelection {
    /// All aggregated series.
    All,
    /// The series that have all labels of the group.
    Labels(Group),
    /// The series that one of the selectors matches.
    Matching(Selectors),
}

impl SeriesSelection {
    fn contains(&self, series: &SeriesLabels<'_>) -> bool {
        match self {
            SeriesSelection::All => true,
            SeriesSelection::Labels(group) => {
                let mut labels = group.labels().iter();
                labels.all(|(name, value)| series.value(name) == *value)
            }
            SeriesSelection::Matching(selectors) => {
                selectors.match_values(|name| series.value(name))
            }
        }
    }
}

/// The result of a removal.
#[derive(Debug, Default)]
pub struct Removal {
    /// The number of removed series.
    pub count: usize,
    /// The labels of the first removed series, including `__name__`.
    pub listed: Vec<BTreeMap<String, String>>,
    /// Whether the removal ended early because regular expressions took too long.
    pub is_incomplete: bool,
}

/// Removes the selected series, or only lists them with `dry_run`. Reads all
/// aggregated series outside of the lock and removes the selected ones in batches, so
/// that writes proceed in between.
///
/// # Errors
///
/// The store rejects a batch. Batches before it stay removed.
pub fn remove_series(
    store: &Store,
    selection: &SeriesSelection,
    dry_run: bool,
    now: Now,
) -> Result<Removal, BatchRejection> {
    let mut removal = Removal::default();
    let mut position = Some((0, 0));
    while let Some(start) = position {
        let (blocks, next) = store.series_from(start, BLOCKS_PER_READ);
        position = next;
        let mut selected: Vec<SeriesLabels<'_>> = blocks
            .iter()
            .flat_map(series_of)
            .filter(|series| selection.contains(series))
            .collect();
        if !dry_run {
            for series in selected.chunks_mut(SERIES_PER_WRITE) {
                let deletions = series.iter().map(SeriesLabels::deletion).collect();
                removal.count += store.delete(deletions, now)?;
            }
        } else {
            removal.count += selected.len();
        }
        let unlisted = MAX_LISTED - removal.listed.len();
        removal
            .listed
            .extend(selected.iter().take(unlisted).map(SeriesLabels::unescaped));
        if let SeriesSelection::Matching(selectors) = selection
            && selectors.are_out_of_time()
        {
            removal.is_incomplete = true;
            break;
        }
    }
    Ok(removal)
}

/// The family and the labels of a series, escaped.
#[derive(Debug)]
struct SeriesLabels<'s> {
    family: &'s Arc<str>,
    labels: &'s str,
}

fn series_of(block: &BlockSeries) -> impl Iterator<Item = SeriesLabels<'_>> {
    let family = &block.family;
    block
        .labels()
        .map(move |labels| SeriesLabels { family, labels })
}

impl<'s> SeriesLabels<'s> {
    /// The unescaped value of a label; empty if the series does not have it.
    fn value(&self, name: &str) -> Cow<'s, str> {
        if name == NAME_LABEL {
            return unescape(self.family);
        }
        let mut labels = label_pairs(self.labels);
        let found = labels.find(|label| unescape(label.name) == name);
        found.map_or(Cow::Borrowed(""), |label| unescape(label.value))
    }

    /// All labels, unescaped, including `__name__`.
    fn unescaped(&self) -> BTreeMap<String, String> {
        let unescaped = |text| unescape(text).into_owned();
        let name = (NAME_LABEL.to_owned(), unescaped(self.family));
        let labels = label_pairs(self.labels).map(|it| (unescaped(it.name), unescaped(it.value)));
        labels.chain([name]).collect()
    }

    fn deletion(&self) -> Update {
        let pairs = label_pairs(self.labels).map(|label| (label.name, label.value));
        // The labels come from a series, so they are valid.
        let labels = LabelText::from_escaped(pairs).unwrap_or_default();
        Update::deletion(Arc::clone(self.family), labels)
    }
}

#[cfg(test)]
mod tests;
