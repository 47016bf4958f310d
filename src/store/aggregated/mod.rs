//! Aggregated families in the store: how the registry and the sections share one
//! output.
//!
//! The registry knows only its own families. Before a batch is committed, its
//! reservation is checked against the family index that all sections share, and entered
//! there, so neither side can take what the other has.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`operate`] | batches: check, reserve, commit; expiry |
//! | [`reserve`] | checks a reservation and enters it |
//! | [`render`] | renders changed blocks into the output when a snapshot is taken |
//! | [`pending`] | blocks on their way from the registry to the output |

pub mod operate;
pub mod pending;
mod render;
pub mod reserve;

#[cfg(test)]
mod tests;
