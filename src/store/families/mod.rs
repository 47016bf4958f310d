//! Families that sections share: their heads, their names, and who owns which series.

pub mod family_name;
pub mod index;
pub mod member;
pub mod names;
pub mod plain_hash;
pub mod series_owners;
