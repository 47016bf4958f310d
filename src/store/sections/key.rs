//! Where a fragment is in the output.

use crate::store::families::family_name::FamilyName;
use crate::store::pages::page_list::FragmentKey;
use crate::store::sections::section_id::SectionId;

/// Where a fragment stands in the output: families by name first, each with
/// its head before its samples, then verbatim texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputKey {
    Family(FamilyName, FamilyPart),
    Verbatim(SectionId),
}

/// A part of a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FamilyPart {
    Head,
    Samples(SectionId),
    /// Some series of a living family, in a block of that number.
    Block(u32),
}

impl FragmentKey for OutputKey {
    fn is_verbatim(&self) -> bool {
        matches!(self, OutputKey::Verbatim(_))
    }
}

pub(in crate::store) fn samples_key(family: &FamilyName, id: &SectionId) -> OutputKey {
    OutputKey::Family(family.clone(), FamilyPart::Samples(id.clone()))
}
