//! Writes.

mod apply;
pub mod change;
pub mod changeset;
mod check;
mod expose;
mod families;
pub mod large;
pub mod size;
mod store;
