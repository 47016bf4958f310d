//! Writes: how the sections are changed.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`change`] | a write, as callers make it |
//! | [`writes`] | the store's methods: apply, check, expire |
//! | [`size`] | which writes are large |
//! | [`changeset`] | plans a change |
//! | [`check`], [`shares`], [`families`] | check limits, shares of memory, names and series |
//! | [`apply`], [`expose`] | apply a change to the sections, their families and the output |
//! | [`large`] | applies a large write without blocking readers |

mod apply;
pub mod change;
pub mod changeset;
mod check;
mod expose;
mod families;
pub mod large;
mod shares;
pub mod size;
mod writes;
