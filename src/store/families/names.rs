//! Family names that clash: two families would expose series of one name.
//!
//! Names are compared as readers of the legacy character set see them: escaped with
//! underscores, and under each name of [`aliases`].

use crate::exposition::{Kind, aliases, plain_name};

/// Gauges that are added to each pushed group. A producer that exposes one must
/// expose a gauge. They are never aggregated families, which could own a group's
/// series.
const RESERVED_GAUGES: [&str; 2] = ["push_failure_time_seconds", "push_time_seconds"];

/// All suffixes that [`suffixes`] returns for any kind.
pub const ALL_SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_gcount", "_gsum"];

/// The suffixes under which a family of this kind exposes series. No other family may
/// have such a name.
pub fn suffixes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Histogram => &["_bucket", "_count", "_sum"],
        Kind::Summary => &["_count", "_sum"],
        Kind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        _ => &[],
    }
}

/// The reserved family of this plain name, if there is one.
pub fn reserved(name: &str) -> Option<(&'static str, Kind)> {
    let name = RESERVED_GAUGES.iter().find(|reserved| **reserved == name)?;
    Some((name, Kind::Gauge))
}

/// Why a family cannot be exposed beside the others.
#[derive(Debug, PartialEq)]
pub enum NameClash<'n> {
    /// The family exists with another kind.
    Kind(Kind),
    /// This family and the other one would expose series of the same name.
    Collision(&'n str),
}

/// How a family clashes with others. `holder` returns the full name and the kind of
/// the family that has a plain name.
pub fn name_clash<'n>(
    family: &str,
    kind: Kind,
    holder: impl Fn(&str) -> Option<(&'n str, Kind)>,
) -> Option<NameClash<'n>> {
    let name = plain_name(family);
    if let Some((held, held_kind)) = holder(&name) {
        if held != family {
            return Some(NameClash::Collision(held));
        }
        if held_kind != kind {
            return Some(NameClash::Kind(held_kind));
        }
    }
    let other = |name: &str| holder(name).filter(|(held, _)| *held != family);
    let aliases = aliases(family);
    for name in aliases.iter().map(String::as_str).chain([&*name]) {
        if let Some((held, _)) = other(name) {
            return Some(NameClash::Collision(held));
        }
        for suffix in suffixes(kind) {
            if let Some((held, _)) = holder(&format!("{name}{suffix}")) {
                return Some(NameClash::Collision(held));
            }
        }
        for suffix in ALL_SUFFIXES {
            let base = name.strip_suffix(suffix).and_then(&holder);
            if let Some((held, _)) = base.filter(|(_, kind)| suffixes(*kind).contains(&suffix)) {
                return Some(NameClash::Collision(held));
            }
        }
    }
    None
}
