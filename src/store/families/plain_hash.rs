//! A hasher for keys that are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`PlainHasher`]s, for maps and sets of series hashes.
pub type PlainHash = BuildHasherDefault<PlainHasher>;

/// Returns its key as the hash.
#[derive(Debug, Default)]
pub struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("all keys are u64");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
