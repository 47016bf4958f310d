//! Sections: what each producer exposes, and its state.
//!
//! | Module | What it holds |
//! | --- | --- |
//! | [`section_id`], [`section`] | one section: its identity, its state |
//! | [`table`] | all sections, with the page list and the family index |
//! | [`key`] | the order of fragments in the output |
//! | [`natives`] | native histograms, which text cannot show |
//! | [`deadlines`] | which sections are withdrawn, and when |
//! | [`inspection_queue`], [`findings`] | verbatim texts to inspect, and what was found |
//! | [`listing`], [`state_counts`] | queries of all sections: pages of them, sums |
//! | [`failures`] | the last failures of sections, for people |
//! | [`shares`] | what each sender holds |
//! | [`holder`] | who else exposes a family, for messages |

pub mod deadlines;
pub mod failures;
pub mod findings;
pub mod holder;
pub mod inspection_queue;
pub mod key;
pub mod listing;
pub mod natives;
pub mod notes;
pub mod section;
pub mod section_id;
pub mod shares;
pub mod state_counts;
pub mod table;
