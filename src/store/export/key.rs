//! Keys of records.

use std::sync::Arc;

use crate::store::sections::section_id::{Producer, SectionId};

/// The replica that owns the aggregated series. There is only one so far.
const REPLICA: &str = "0";

/// What a record describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// The registry's time.
    Clock,
    /// The head of a family that sections or the registry expose.
    Head(Arc<str>),
    /// A section.
    Section(SectionId),
    /// An aggregated family.
    Aggregated(Arc<str>),
    /// A block of an aggregated family, by its number.
    Block(Arc<str>, u32),
}

/// Why a key was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// It is not a key of the store.
    Foreign,
    /// It begins like a key of the store, but is not valid.
    Invalid,
}

impl RecordKey {
    /// The key as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            RecordKey::Clock => format!("part/{REPLICA}/clock"),
            RecordKey::Head(family) => format!("family/{family}"),
            RecordKey::Section(id) => format!("section/{}/{}", id.producer.as_str(), id.name),
            RecordKey::Aggregated(family) => format!("part/{REPLICA}/{family}/head"),
            RecordKey::Block(family, number) => format!("part/{REPLICA}/{family}/{number:08x}"),
        };
        text.into_bytes()
    }

    /// Decodes a key. `None` if it is not a key of the store.
    pub fn decode(key: &[u8]) -> Option<Self> {
        Self::read(key).ok()
    }

    /// Like [`decode`](Self::decode), but distinguishes foreign keys from invalid ones.
    pub(super) fn read(key: &[u8]) -> Result<Self, KeyError> {
        let key = std::str::from_utf8(key).map_err(|_| KeyError::Foreign)?;
        let (kind, rest) = key.split_once('/').ok_or(KeyError::Foreign)?;
        match kind {
            "family" => Some(RecordKey::Head(Arc::from(rest))),
            "section" => section(rest),
            "part" => part(rest),
            _ => return Err(KeyError::Foreign),
        }
        .ok_or(KeyError::Invalid)
    }
}

fn section(rest: &str) -> Option<RecordKey> {
    let (producer, name) = rest.split_once('/')?;
    let kept = [Producer::App, Producer::Group];
    let producer = kept.into_iter().find(|it| it.as_str() == producer)?;
    Some(RecordKey::Section(SectionId::new(name, producer)))
}

fn part(rest: &str) -> Option<RecordKey> {
    let rest = rest.strip_prefix(REPLICA)?.strip_prefix('/')?;
    let Some((family, part)) = rest.rsplit_once('/') else {
        return (rest == "clock").then_some(RecordKey::Clock);
    };
    let family = Arc::from(family);
    if part == "head" {
        return Some(RecordKey::Aggregated(family));
    }
    let is_number = part.len() == 8 && part.bytes().all(|it| it.is_ascii_hexdigit());
    let number = u32::from_str_radix(part, 16).ok().filter(|_| is_number)?;
    Some(RecordKey::Block(family, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_any_name_are_read_back() {
        for name in [
            "m",
            "a/b",
            "head",
            "clock",
            "a/head",
            "a/00000001",
            "é \"x\"",
            "",
        ] {
            let family: Arc<str> = Arc::from(name);
            let keys = [
                RecordKey::Clock,
                RecordKey::Head(Arc::clone(&family)),
                RecordKey::Section(SectionId::new(name, Producer::App)),
                RecordKey::Section(SectionId::new(name, Producer::Group)),
                RecordKey::Aggregated(Arc::clone(&family)),
                RecordKey::Block(family, 0xa1),
            ];
            for key in keys {
                assert_eq!(RecordKey::decode(&key.encode()), Some(key));
            }
        }
    }

    #[test]
    fn foreign_keys_are_told_from_invalid_ones() {
        for key in ["", "meta", "key/a", "set/a/b", "hook/1"] {
            assert_eq!(
                RecordKey::read(key.as_bytes()),
                Err(KeyError::Foreign),
                "{key}"
            );
        }
        assert_eq!(RecordKey::read(b"\xff/a"), Err(KeyError::Foreign));
        for key in [
            "section/target/a",
            "section/app",
            "part/1/m/head",
            "part/0/m/1",
            "part/0/x",
        ] {
            assert_eq!(
                RecordKey::read(key.as_bytes()),
                Err(KeyError::Invalid),
                "{key}"
            );
        }
    }
}
