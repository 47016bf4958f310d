//! Keys of fragments, in the order of the output.

use crate::store::families::family_name::FamilyName;
use crate::store::pages::page_list::FragmentKey;
use crate::store::sections::section_id::SectionId;

/// The key of a fragment. The output has families by name, each with its head before
/// its samples, and then verbatim texts by section.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputKey {
    Family(FamilyName, FamilyPart),
    Verbatim(SectionId),
}

/// A part of a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FamilyPart {
    /// The `HELP` and `TYPE` lines.
    Head,
    /// The samples of one section.
    Samples(SectionId),
    /// The block of this number of an aggregated family's series.
    Block(u32),
}

impl FragmentKey for OutputKey {
    fn is_verbatim(&self) -> bool {
        matches!(self, OutputKey::Verbatim(_))
    }
}

/// The key of a section's samples of a family.
pub fn samples_key(family: &FamilyName, id: &SectionId) -> OutputKey {
    OutputKey::Family(family.clone(), FamilyPart::Samples(id.clone()))
}
