//! What a change would do, worked out before anything is done.

use crate::exposition::{Content, FamilyText};
use crate::store::families::member::{Member, weight_of};
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::write::change::{Change, OtherFamilies};

/// A change of one section: what it brings, and what it takes away. It costs
/// what the change names, and where other families are dropped, those too.
#[derive(Debug)]
pub struct SectionChangeset<'a> {
    pub id: &'a SectionId,
    /// Families as they will be.
    pub coming: Vec<&'a FamilyText>,
    /// What the section exposes now and then no longer, or otherwise.
    pub leaving: Vec<&'a Member>,
    /// The section as it is now.
    pub old: Option<&'a Section>,
    /// Whether nothing is left of the section.
    pub is_removal: bool,
    /// Memory that comes, and that is given back, in bytes.
    pub weight: usize,
    pub freed: usize,
}

impl<'a> SectionChangeset<'a> {
    /// The plan of a change to the section that is `old` now. `None` where its
    /// families are not touched.
    pub fn of(change: &'a Change, old: Option<&'a Section>) -> Option<Self> {
        let members = old.map_or(&[][..], |section| &section.members);
        match change {
            Change::Replace { id, content, .. } => {
                let (coming, weight) = match content {
                    // What is in a text that is passed through is not known.
                    Content::Verbatim(text) => (Vec::new(), text.len()),
                    Content::Families(families) => (
                        families.iter().collect(),
                        families.iter().map(weight_of).sum(),
                    ),
                };
                Some(SectionChangeset {
                    id,
                    coming,
                    leaving: members.iter().collect(),
                    old,
                    is_removal: false,
                    weight,
                    freed: old.map_or(0, |section| section.weight),
                })
            }
            Change::Update {
                id,
                families,
                defaults,
                others,
                ..
            } => {
                let has =
                    |family: &FamilyText| old.is_some_and(|old| old.member(&family.name).is_some());
                let missing = defaults.iter().filter(|family| !has(family));
                let mut coming = Vec::with_capacity(families.len() + defaults.len());
                coming.extend(families.iter().chain(missing));
                let leaving: Vec<&Member> = match others {
                    OtherFamilies::Keep => families
                        .iter()
                        .filter_map(|family| old?.member(&family.name))
                        .collect(),
                    OtherFamilies::Drop => {
                        let kept = |member: &&Member| {
                            defaults.iter().any(|family| *family.name == *member.family)
                        };
                        let mut leaving = Vec::with_capacity(members.len());
                        leaving.extend(members.iter().filter(|member| !kept(member)));
                        leaving
                    }
                };
                Some(SectionChangeset {
                    id,
                    weight: coming.iter().map(|family| weight_of(family)).sum(),
                    freed: leaving.iter().map(|member| member.weight()).sum(),
                    coming,
                    leaving,
                    old,
                    is_removal: false,
                })
            }
            Change::Remove { id, unless_since } => {
                let old = old.filter(|section| section.is_removed(*unless_since));
                Some(SectionChangeset {
                    id,
                    coming: Vec::new(),
                    leaving: old
                        .map_or(&[][..], |section| &section.members)
                        .iter()
                        .collect(),
                    old,
                    is_removal: true,
                    weight: 0,
                    freed: old.map_or(0, |section| section.weight),
                })
            }
            Change::Expect { .. } | Change::Fail { .. } => None,
        }
    }
}
