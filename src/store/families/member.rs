//! A member: what one section exposes of one family, and the memory it takes.

use crate::exposition::{FamilyText, SeriesHashes};
use crate::store::families::family_name::FamilyName;
use crate::store::pages::page_list::FragmentHint;

/// What a section exposes of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    pub family: FamilyName,
    /// Hashes of its series.
    pub series: SeriesHashes,
    /// Bytes of its text, the head included.
    pub bytes: u32,
    /// Bytes of its native histograms.
    pub natives: u32,
    /// When it was received, in milliseconds since 1970.
    pub updated_ms: u64,
    /// Where its samples were last in the output.
    pub hint: FragmentHint,
}

impl Member {
    /// Its approximate memory, in bytes.
    pub fn weight(&self) -> usize {
        weight(self.bytes, self.natives, &self.family, self.series.len())
    }
}

/// The approximate memory of a family once it is stored, in bytes.
pub fn weight_of(family: &FamilyText) -> usize {
    let (bytes, natives) = sizes_of(family);
    weight(bytes, natives, &family.name, family.series.len())
}

/// Bytes of a family's text, its head included, and of its native histograms. Both
/// fit 32 bits, since a fragment is below 2 GiB.
pub fn sizes_of(family: &FamilyText) -> (u32, u32) {
    const NATIVE: usize = 64;
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let natives = family.natives.iter();
    let natives = natives.map(|it| NATIVE + it.labels.len() + it.histogram.len());
    let text = family.samples.len() + family.head_len();
    (size(text), size(natives.sum()))
}

/// The sum of text, native histograms, the entries for keys and fragments, and those
/// for each series.
fn weight(bytes: u32, natives: u32, name: &str, series: usize) -> usize {
    const FAMILY: usize = 256;
    const SERIES: usize = 40;
    bytes as usize + natives as usize + FAMILY + name.len() + series * SERIES
}
