//! Notices changed files by checking their metadata periodically. This also sees changes behind
//! links and on network file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// Metadata of a file. While it is the same, so is the text. `None` if there is no file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileState(Option<(u64, u64, u64, SystemTime)>);

impl FileState {
    /// The state of a file. Symbolic links are followed.
    pub fn of(path: &Path) -> Self {
        let state = || {
            let metadata = fs::metadata(path).ok()?;
            let modified = metadata.modified().ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.len(), modified))
        };
        FileState(state())
    }
}

/// The last states of some files. A change counts once two looks in a row see the same state, so
/// that a file that is being written is left alone.
#[derive(Debug)]
pub struct Watched<S> {
    /// The state in use.
    used: S,
    /// The state that the last look saw.
    seen: S,
}

impl<S: Clone + PartialEq> Watched<S> {
    /// Starts with the state that is in use.
    pub fn new(used: S) -> Self {
        Watched {
            seen: used.clone(),
            used,
        }
    }

    /// Compares with the current state. Returns whether the files changed and should be read.
    pub fn look(&mut self, now: S) -> bool {
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.take()
    }

    /// Takes the seen state into use. Returns whether it differs from the one before.
    fn take(&mut self) -> bool {
        let is_new = self.seen != self.used;
        self.used.clone_from(&self.seen);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_is_complete() {
        let mut file = Watched::new(1);
        let looks = [1, 2, 3, 3, 3, 4, 3, 3, 4, 4, 4].map(|now| file.look(now));
        let read = [3, 9];
        for (at, found) in looks.into_iter().enumerate() {
            assert_eq!(found, read.contains(&at), "look {at}");
        }
    }
}
