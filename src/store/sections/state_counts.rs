//! How many sections are in each state.

use crate::store::sections::section::SectionState;
use crate::store::sections::section_id::{Producer, SectionId};

/// The number of sections by producer and state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts([[usize; SectionState::ALL.len()]; PRODUCERS]);

/// The number of kinds of producers.
const PRODUCERS: usize = 4;

/// The producers whose sections are listed.
const LISTED: [Producer; 3] = [Producer::App, Producer::Target, Producer::Group];

impl StateCounts {
    /// The states and how many sections of a producer are in each.
    pub fn of(&self, producer: Producer) -> impl Iterator<Item = (SectionState, usize)> {
        SectionState::ALL.into_iter().zip(self.0[producer as usize])
    }

    /// The number of a producer's sections.
    pub fn total(&self, producer: Producer) -> usize {
        self.0[producer as usize].iter().sum()
    }

    /// The number of apps, targets and groups.
    pub fn all(&self) -> usize {
        LISTED.iter().map(|it| self.total(*it)).sum()
    }

    pub(in crate::store) fn add(&mut self, id: &SectionId, state: SectionState) {
        self.0[id.producer as usize][state as usize] += 1;
    }

    pub(in crate::store) fn remove(&mut self, id: &SectionId, state: SectionState) {
        self.0[id.producer as usize][state as usize] -= 1;
    }
}
