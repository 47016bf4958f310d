//! Sections.

pub mod deadlines;
pub mod findings;
pub mod holder;
pub mod inspection_queue;
pub mod key;
pub mod listing;
pub mod natives;
pub mod section;
pub mod section_id;
pub mod table;
