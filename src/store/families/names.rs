//! Which family names cannot stand side by side.

use crate::exposition::{Kind, aliases, plain_name};

/// Families that the store's users write for groups, whatever else is there:
/// who exposes them must expose gauges. They are never living families, which
/// could own a group's series.
const RESERVED_GAUGES: [&str; 2] = ["push_failure_time_seconds", "push_time_seconds"];

/// All suffixes of [`suffixes`].
pub const ALL_SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_gcount", "_gsum"];

/// Suffixes under which a family of several numbers exposes them: no other
/// family may have such a name.
pub(in crate::store) fn suffixes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Histogram => &["_bucket", "_count", "_sum"],
        Kind::Summary => &["_count", "_sum"],
        Kind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        _ => &[],
    }
}

/// A family that is kept for groups, by its name within the old character set.
pub(in crate::store) fn reserved(name: &str) -> Option<(&'static str, Kind)> {
    let name = RESERVED_GAUGES.iter().find(|reserved| **reserved == name)?;
    Some((name, Kind::Gauge))
}

/// Why a family cannot stand among the others.
#[derive(Debug, PartialEq)]
pub(in crate::store) enum NameClash<'n> {
    /// It is there, and of another kind.
    Kind(Kind),
    /// One of them would expose series of the other's name.
    Collision(&'n str),
}

/// `holder` tells which family has a name within the old character set.
pub(in crate::store) fn name_clash<'n>(
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
