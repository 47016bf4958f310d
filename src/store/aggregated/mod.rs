//! Aggregated families.

pub mod operate;
pub mod pending;
mod render;
pub mod reserve;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
