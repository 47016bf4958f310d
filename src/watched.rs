//! Notices that files have changed, by looking at their metadata again and again. So changes
//! behind links and on network file systems are seen too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// What a file looks like from outside: if it is the same, so is the text. Without a file,
/// it is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileState(Option<(u64, u64, u64, SystemTime)>);

impl FileState {
    /// The state of a file, or of the one that a symbolic link names.
    pub fn of(path: &Path) -> Self {
        let state = || {
            let metadata = fs::metadata(path).ok()?;
            let modified = metadata.modified().ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.len(), modified))
        };
        FileState(state())
    }
}

/// What was seen of some files. A change counts once two looks in a row see the same, so that
/// a file that is being written is left alone.
#[derive(Debug)]
pub struct Watched<S> {
    /// What is in use.
    used: S,
    /// What the last look saw.
    seen: S,
}

impl<S: Clone + PartialEq> Watched<S> {
    /// Files that are in use as they are.
    pub fn new(used: S) -> Self {
        Watched {
            seen: used.clone(),
            used,
        }
    }

    /// Looks at the files. Returns whether they have changed and are to be read.
    pub fn look(&mut self, now: S) -> bool {
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.take()
    }

    /// Takes what was seen as what is in use. Returns whether it differs from that before.
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
