//! Makes the store with its registry a stored state.

use std::sync::Arc;

use super::error::ReadError;
use super::persistent::{Changes, Layer, Persistent, StoredRecords};
use crate::clock::Now;
use crate::exposition::counted;
use crate::record::Record;
use crate::store::Store;
use crate::store::export::{Restoration, RestoreError, Restored};

/// Apps, groups and aggregated families.
#[derive(Debug)]
pub struct StoredCore(Arc<Store>);

impl StoredCore {
    /// Makes the content of `store` a stored state.
    pub fn new(store: &Arc<Store>) -> Self {
        StoredCore(Arc::clone(store))
    }
}

impl Persistent for StoredCore {
    fn prefixes(&self) -> &'static [&'static str] {
        &["section/", "family/", "part/"]
    }

    fn layer(&self) -> Layer {
        Layer::Core
    }

    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError> {
        let read_error = |problem: RestoreError| match problem {
            RestoreError::Newer { .. } => ReadError::Newer(problem.to_string()),
            other => ReadError::Damaged(other.to_string()),
        };
        self.0.track_changes();
        let mut restoration = Restoration::new(&self.0);
        let mut count = 0;
        stored.each(&mut |key, value| {
            count += 1;
            restoration
                .add(Record::set(key, value))
                .map(drop)
                .map_err(read_error)
        })?;
        let restored = restoration.finish(now).map_err(read_error)?;
        if count > 0 {
            log_restored(&restored);
        }
        Ok(count)
    }

    fn take_changes(&self, now: Now, beneath: &mut dyn FnMut()) -> Changes {
        beneath();
        let changes = self.0.take_changes(now);
        let full = match changes.is_full() {
            true => self.prefixes(),
            false => &[],
        };
        Changes {
            full: full.iter().map(|prefix| (*prefix).to_owned()).collect(),
            records: Box::new(changes),
        }
    }

    fn note_everything(&self) {
        self.0.note_everything();
    }
}

fn log_restored(restored: &Restored) {
    let Restored {
        sections,
        series,
        expired_sections,
        expired_series,
        skipped,
        skips,
        exceeded,
    } = restored;
    log::info!(
        "restored {} and {}; {} and {} expired meanwhile",
        counted(*sections, "app or group", "apps and groups"),
        counted(*series, "aggregated series", "aggregated series"),
        counted(*expired_sections, "app or group", "apps and groups"),
        counted(*expired_series, "aggregated series", "aggregated series"),
    );
    for skip in skips {
        log::warn!("not restored: {skip}");
    }
    if *skipped > skips.len() {
        log::warn!("not restored: {} more", skipped - skips.len());
    }
    for limit in exceeded {
        log::warn!("{limit}");
    }
}
