//! Plans a change: what it adds and removes, before it is checked and applied.

use crate::exposition::{Content, FamilyText};
use crate::peer::Origin;
use crate::store::families::member::{Member, weight_of};
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::write::change::{Change, OtherFamilies};

/// What a change adds to a section and removes from it. Planning costs what the change names,
/// and the other families if these are dropped.
#[derive(Debug)]
pub struct SectionChangeset<'a> {
    pub id: &'a SectionId,
    /// Families that are added or replaced.
    pub added: Vec<&'a FamilyText>,
    /// Families that are removed or replaced, as they are now.
    pub removed: Vec<&'a Member>,
    /// The section as it is now.
    pub old: Option<&'a Section>,
    /// The listener and the sender; `None` if the section is removed.
    pub origin: Option<&'a Origin>,
    /// Whether the section is removed.
    pub is_removal: bool,
    /// Memory of the added families, in bytes.
    pub added_bytes: usize,
    /// Memory of the removed families, in bytes.
    pub removed_bytes: usize,
}

impl<'a> SectionChangeset<'a> {
    /// Plans a change to the section that is `old` now. `None` if it touches no families.
    pub fn of(change: &'a Change, old: Option<&'a Section>) -> Option<Self> {
        let members = old.map_or(&[][..], |section| &section.members);
        match change {
            Change::Replace {
                id,
                content,
                origin,
                ..
            } => {
                let (added, added_bytes) = match content {
                    // The families of a verbatim text are not known.
                    Content::Verbatim(text) => (Vec::new(), text.len()),
                    Content::Families(families) => (
                        families.iter().collect(),
                        families.iter().map(weight_of).sum(),
                    ),
                };
                Some(SectionChangeset {
                    id,
                    added,
                    removed: members.iter().collect(),
                    old,
                    origin: Some(origin),
                    is_removal: false,
                    added_bytes,
                    removed_bytes: old.map_or(0, |section| section.weight),
                })
            }
            Change::Update {
                id,
                families,
                defaults,
                others,
                origin,
                ..
            } => {
                let has =
                    |family: &FamilyText| old.is_some_and(|old| old.member(&family.name).is_some());
                let missing = defaults.iter().filter(|family| !has(family));
                let mut added = Vec::with_capacity(families.len() + defaults.len());
                added.extend(families.iter().chain(missing));
                let removed: Vec<&Member> = match others {
                    OtherFamilies::Keep => families
                        .iter()
                        .filter_map(|family| old?.member(&family.name))
                        .collect(),
                    OtherFamilies::Drop => {
                        let kept = |member: &&Member| {
                            defaults.iter().any(|family| *family.name == *member.family)
                        };
                        let mut removed = Vec::with_capacity(members.len());
                        removed.extend(members.iter().filter(|member| !kept(member)));
                        removed
                    }
                };
                Some(SectionChangeset {
                    id,
                    added_bytes: added.iter().map(|family| weight_of(family)).sum(),
                    removed_bytes: removed.iter().map(|member| member.weight()).sum(),
                    added,
                    removed,
                    old,
                    origin: Some(origin),
                    is_removal: false,
                })
            }
            Change::Remove { id, unless_since } => {
                let old = old.filter(|section| section.is_removed(*unless_since));
                Some(SectionChangeset {
                    id,
                    added: Vec::new(),
                    removed: old
                        .map_or(&[][..], |section| &section.members)
                        .iter()
                        .collect(),
                    old,
                    origin: None,
                    is_removal: true,
                    added_bytes: 0,
                    removed_bytes: old.map_or(0, |section| section.weight),
                })
            }
            Change::Expect { .. } | Change::Fail { .. } => None,
        }
    }
}
