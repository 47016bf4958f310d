//! A hasher for keys that are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// For keys that are spread already: hashes of series.
pub type PlainHash = BuildHasherDefault<PlainHasher>;

#[derive(Debug, Default)]
pub struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are keys");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
