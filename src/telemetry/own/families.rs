//! The families of the own metrics, while they are collected.

use crate::exposition::{FamilyBuilder, FamilyText, Kind};

/// The families of the own metrics, in order.
#[derive(Debug, Default)]
pub struct OwnFamilies {
    built: Vec<FamilyText>,
    /// The family that samples are added to. It is built as soon as the next one begins: a
    /// builder takes more memory than its family, and there are many samples.
    current: Option<FamilyBuilder>,
}

impl OwnFamilies {
    /// Begins a family. A family without samples is left out.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut FamilyBuilder {
        self.build_current();
        self.current.insert(FamilyBuilder::new(name, kind, help))
    }

    /// All families with samples. An invalid family would break the whole scrape, so
    /// it is logged and left out.
    pub fn into_texts(mut self) -> Vec<FamilyText> {
        self.build_current();
        self.built
    }

    fn build_current(&mut self) {
        let Some(family) = self.current.take().filter(|family| !family.is_empty()) else {
            return;
        };
        match family.build_unhashed() {
            Ok(text) => self.built.push(text),
            Err(problem) => log::error!("own metrics are incomplete: {problem}"),
        }
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
