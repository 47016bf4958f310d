//! What a change of the registry takes and lets go, for those who see to it
//! that every name and series is there once.

use std::sync::Arc;

use crate::exposition::Kind;

/// Names, series and memory, before and after.
#[derive(Debug, Default, PartialEq)]
pub struct Claims {
    /// Families that are new.
    pub joined: Vec<Head>,
    /// Families that live and whose heads change: a help or a type has come.
    pub changed: Vec<Head>,
    /// Families that are gone.
    pub left: Vec<Arc<str>>,
    /// Hashes of the lines of new series, and of known ones that are shown in
    /// other lines from now on; with each the series it is of, see
    /// [`Plan::series_text`](super::Plan::series_text).
    pub claimed: Vec<(u64, u32)>,
    /// Hashes of lines that are gone. A hash may be in both lists.
    pub released: Vec<u64>,
    /// Bytes that are taken, about, and bytes that are given back.
    pub added: usize,
    pub freed: usize,
}

/// What stands at the head of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub family: Arc<str>,
    pub kind: Kind,
    /// Escaped.
    pub help: Option<Arc<str>>,
}

impl Claims {
    /// Whether only values have changed.
    pub fn is_empty(&self) -> bool {
        *self == Claims::default()
    }
}
