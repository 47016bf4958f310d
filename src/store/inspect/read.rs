//! Reads one verbatim text, and finds what is wrong with it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::exposition::{
    CanonicalOptions, FamilyText, InputFormat, Kind, Text, TimestampPolicy, aliases,
    canonicalize_as, plain_name,
};
use crate::store::families::index::FamilyIndex;
use crate::store::families::member::weight_of;
use crate::store::families::names::{NameClash, name_clash};
use crate::store::inspect::inspection::Inspection;
use crate::store::sections::findings::{Clash, Conflict, Findings, Suspect};
use crate::store::sections::holder::Holder;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::store::Store;

impl Inspection {
    /// The families of a text that do not clash with those of others, and the findings.
    pub(in crate::store) fn read(
        &self,
        store: &Store,
        id: &SectionId,
        text: &[u8],
        old: Option<&Section>,
    ) -> (Vec<FamilyText>, Findings) {
        let suspect = |suspect| Findings {
            suspect: Some(suspect),
            conflicts: Vec::new(),
        };
        let options = CanonicalOptions {
            limits: self.rules.limits,
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: &self.hasher,
        };
        // Texts are UTF-8. They are exposed as text 0.0.4, so they are read as that.
        let text = std::str::from_utf8(text).unwrap_or_default();
        let mut families = match canonicalize_as(text, InputFormat::Text, &options) {
            Ok(families) => families,
            Err(fault) => return (Vec::new(), suspect(Suspect::Text(fault))),
        };
        let limit = store.limits().bytes;
        let coming: usize = match self.asked {
            Some(_) => families.iter().map(weight_of).sum(),
            None => families
                .iter()
                .map(|it| weight_of(it) - it.samples.len())
                .sum(),
        };
        let freed = old.map_or(0, |old| old.weight);
        if self.families.weight + coming - freed > limit {
            return (Vec::new(), suspect(Suspect::NoMemory { limit }));
        }
        let mut findings = Findings::default();
        if let Some(reserved) = self.rules.reserved {
            families.retain(|family| {
                let taken = plain_name(&family.name).starts_with(reserved);
                if taken && findings.suspect.is_none() {
                    findings.suspect = Some(Suspect::Reserved {
                        line: family.line,
                        family: Arc::clone(&family.name),
                    });
                }
                !taken
            });
        }
        findings.conflicts = self.leave_out(id, &mut families, old);
        for family in &mut families {
            findings.conflicts.extend(store.outer_conflict(family));
            if self.asked.is_none() {
                family.samples = Text::default();
            }
        }
        (families, findings)
    }

    /// Removes the families that clash with those of other texts, and returns the
    /// conflicts.
    fn leave_out(
        &self,
        id: &SectionId,
        families: &mut Vec<FamilyText>,
        old: Option<&Section>,
    ) -> Vec<Conflict> {
        let index = &self.families.families;
        if families
            .iter()
            .all(|family| is_as_before(family, old, index))
        {
            return Vec::new();
        }
        let mut conflicts = Vec::new();
        let mut claims: HashMap<String, (Arc<str>, Kind)> = HashMap::new();
        families.retain(|family| {
            let found = self.clash(family, old, &claims);
            let Some((clash, with)) = found else {
                let names = aliases(&family.name).into_iter();
                for name in names.chain([plain_name(&family.name).into_owned()]) {
                    claims.insert(name, (Arc::clone(&family.name), family.kind));
                }
                return true;
            };
            let with = with.or_else(|| {
                let held = match &clash {
                    Clash::Name { other } => other,
                    _ => &family.name,
                };
                self.holding(held, id)
            });
            conflicts.push(Conflict {
                family: Arc::clone(&family.name),
                clash,
                // Without another section, it clashes with a family of its own text.
                with: Holder::Section(with.unwrap_or_else(|| id.clone())),
            });
            false
        });
        conflicts
    }

    /// A section other than `but` that has the family. Conflicts of sections that clash with it
    /// already name it, so this rarely searches all sections.
    fn holding(&self, family: &str, but: &SectionId) -> Option<SectionId> {
        let has = |id: &SectionId| {
            let section = self.families.by_id.get(id);
            id != but && section.is_some_and(|section| section.member(family).is_some())
        };
        let blocked = self.blocked.get(family).and_then(BTreeSet::first);
        let findings = blocked.and_then(|id| self.known.get(id)?.findings.as_ref());
        let conflicts = findings.map_or(&[][..], |findings| &findings.conflicts);
        let told = conflicts
            .iter()
            .filter(|conflict| **conflict.blocker() == *family)
            .filter_map(|conflict| conflict.with.section());
        let mut all = told.chain(self.families.by_id.keys());
        all.find(|id| has(id)).cloned()
    }

    /// How a family clashes with those of other texts, or with `claims`, the families
    /// of its own text before it.
    fn clash(
        &self,
        family: &FamilyText,
        old: Option<&Section>,
        claims: &HashMap<String, (Arc<str>, Kind)>,
    ) -> Option<(Clash, Option<SectionId>)> {
        let index = &self.families.families;
        let holder = |name: &str| {
            let stays = |(held, _, sections): &(&str, Kind, usize)| {
                let own = old.is_some_and(|old| old.member(held).is_some());
                *sections > usize::from(own)
            };
            let held = index.holder(name).filter(stays);
            held.map(|(held, kind, _)| (held, kind))
                .or_else(|| claims.get(name).map(|(name, kind)| (&**name, *kind)))
        };
        if let Some(fault) = name_clash(&family.name, family.kind, holder) {
            return Some((Clash::of(&fault, family.kind), None));
        }
        let own = old.map(|old| old.serial);
        let others = family.series.iter().enumerate();
        let (place, owner) = others
            .filter_map(|(place, series)| Some((place, index.owner(*series)?)))
            .find(|(_, owner)| Some(*owner) != own)?;
        let series = family.series_text(place);
        Some((Clash::Series(series), self.serials.get(&owner).cloned()))
    }
}

impl Store {
    /// A conflict of a family with one of the other output: of a pushed group, an
    /// aggregated one, or the proxy's own.
    fn outer_conflict(&self, family: &FamilyText) -> Option<Conflict> {
        // A large write in progress has the family index, so wait for it.
        let _turn = self.turn();
        let sections = self.read();
        let families = &sections.families;
        let holder = |name: &str| {
            let held = families.holder(name);
            held.map(|(held, kind, _)| (held, kind))
        };
        let conflict = |clash| {
            let mut conflict = Conflict {
                family: Arc::clone(&family.name),
                clash,
                with: Holder::Unknown,
            };
            conflict.with = sections.holder_of(conflict.blocker(), &[]);
            conflict
        };
        if let Some(fault) = name_clash(&family.name, family.kind, holder) {
            return Some(conflict(Clash::of(&fault, family.kind)));
        }
        holder(&plain_name(&family.name))?;
        let mut series = family.series.iter();
        let place = series.position(|series| families.owner(*series).is_some())?;
        Some(conflict(Clash::Series(family.series_text(place))))
    }
}

impl Clash {
    fn of(fault: &NameClash<'_>, kind: Kind) -> Self {
        match fault {
            NameClash::Kind(held) => Clash::Kind { kind, held: *held },
            NameClash::Collision(other) => Clash::Name {
                other: Arc::from(*other),
            },
        }
    }
}

/// Whether a section already has this family with the same series and kind. Then it
/// clashes with nothing new.
fn is_as_before(family: &FamilyText, old: Option<&Section>, index: &FamilyIndex) -> bool {
    let member = old.and_then(|old| old.member(&family.name));
    let same = member.filter(|member| *member.series == *family.series);
    same.is_some_and(|_| {
        let held = index.holder(&plain_name(&family.name));
        held.is_some_and(|(_, kind, _)| kind == family.kind)
    })
}
