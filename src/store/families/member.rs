//! What a section exposes of one family, and its memory.

use crate::exposition::{FamilyText, SeriesHashes};
use crate::store::families::family_name::FamilyName;
use crate::store::pages::page_list::FragmentHint;

/// What a section exposes of a family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    pub family: FamilyName,
    pub series: SeriesHashes,
    /// Bytes of its text, a head included.
    pub bytes: u32,
    /// Bytes of its native histograms.
    pub natives: u32,
    /// When it came, in milliseconds since 1970.
    pub updated_ms: u64,
    /// Where its text is, unless it was moved since.
    pub place: FragmentHint,
}

impl Member {
    /// About the memory that it takes, in bytes.
    pub fn weight(&self) -> usize {
        weight(self.bytes, self.natives, &self.family, self.series.len())
    }
}

/// About the memory that a family takes once it is stored, in bytes.
pub fn weight_of(family: &FamilyText) -> usize {
    let (bytes, natives) = sizes_of(family);
    weight(bytes, natives, &family.name, family.series.len())
}

/// Bytes of a family's text, its head included, and of its native histograms.
/// The store's pages take no more in one piece than 32 bits can say.
pub fn sizes_of(family: &FamilyText) -> (u32, u32) {
    const NATIVE: usize = 64;
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let natives = family.natives.iter();
    let natives = natives.map(|it| NATIVE + it.labels.len() + it.histogram.len());
    let text = family.samples.len() + family.head_len();
    (size(text), size(natives.sum()))
}

/// Text, native histograms, the entries of keys and fragments, and those of
/// each series.
fn weight(bytes: u32, natives: u32, name: &str, series: usize) -> usize {
    const FAMILY: usize = 256;
    const SERIES: usize = 40;
    bytes as usize + natives as usize + FAMILY + name.len() + series * SERIES
}
