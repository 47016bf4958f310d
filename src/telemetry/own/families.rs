//! The families of the own metrics, while they are collected.

use crate::exposition::{FamilyBuilder, FamilyText, Kind};

/// The families of the own metrics, in order.
#[derive(Debug, Default)]
pub struct OwnFamilies {
    families: Vec<FamilyBuilder>,
}

impl OwnFamilies {
    /// Begins a family. A family without samples is left out.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut FamilyBuilder {
        self.families.push(FamilyBuilder::new(name, kind, help));
        let last = self.families.len() - 1;
        &mut self.families[last]
    }

    /// All families with samples. An invalid family would break the whole scrape, so
    /// it is logged and left out.
    pub fn into_texts(self) -> Vec<FamilyText> {
        let families = self.families.into_iter();
        families
            .filter(|family| !family.is_empty())
            .filter_map(|family| {
                let built = family.build_unhashed();
                built
                    .inspect_err(|problem| log::error!("own metrics are incomplete: {problem}"))
                    .ok()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_invalid_families_are_left_out() {
        let mut out = OwnFamilies::default();
        out.family("a", Kind::Gauge, "help").sample(&[], 1.0);
        out.family("none", Kind::Gauge, "no samples");
        let twice = out.family("twice", Kind::Gauge, "");
        twice.sample(&[], 1.0).sample(&[], 2.0);
        let families = out.into_texts();
        assert_eq!(families.len(), 1);
        assert_eq!(families[0].samples.as_str(), "a 1\n");
    }
}
