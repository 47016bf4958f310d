use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::clock::Now;
use crate::exposition::{
    CanonicalOptions, Content, Escaping, FamilyText, Kind, LabelText, NativeHistogram,
    OutputFormat, Text, TextLimits, TimestampPolicy, canonicalize,
};
use crate::peer::{Origin, Peer};
use crate::record::Record;
use crate::registry::{Batch, BoundsPolicy, Change as Op, RegistryLimits, Update};
use crate::store::inspect::inspection::InspectionRules;
use crate::store::limits::StoreLimits;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::store::Store;
use crate::store::write::change::{Change, OtherFamilies, Write};

mod properties;
mod restored;

const LIMITS: StoreLimits = StoreLimits {
    apps: 100,
    groups: 100,
    bytes: 1 << 24,
    registry: RegistryLimits {
        families: 100,
        series: 10_000,
        series_per_family: 10_000,
        label_bytes: 1000,
        bounds: 100,
    },
};

/// What storage has.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// An empty store that tracks its changes.
fn store() -> Store {
    let store = Store::new(LIMITS, true).with_rules(InspectionRules {
        limits: TextLimits::default(),
        reserved: Some("exporter_proxy_"),
    });
    store.track_changes();
    store
}

fn start() -> Now {
    Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        tick: Now::read().tick,
    }
}

/// Applies the store's changes to `records`, as storage does.
fn take(store: &Store, now: Now, records: &mut Records) {
    let changes = store.take_changes(now);
    if changes.is_full() {
        records.clear();
    }
    let expected = changes.len();
    let mut count = 0;
    for Record { key, value } in changes {
        count += 1;
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }
    assert_eq!(count, expected);
}

/// All of a store's state.
fn everything(store: &Store, now: Now) -> Records {
    store.note_everything();
    let mut records = Records::new();
    let changes = store.take_changes(now);
    assert!(changes.is_full());
    for Record { key, value } in changes {
        let before = records.insert(key, value.expect("it exists"));
        assert!(before.is_none(), "each key comes once");
    }
    records
}

/// The records without the clock, which depends on when they were taken.
fn timeless(records: &Records) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for (key, value) in records {
        let stored = Stored::decode(&RecordKey::decode(key).unwrap(), value).unwrap();
        if !matches!(stored, Stored::Clock(_)) {
            let key = String::from_utf8(key.clone()).unwrap();
            shown.insert(key, format!("{stored:?}"));
        }
    }
    shown
}

fn records(records: &Records) -> impl Iterator<Item = Record> {
    let records = records.iter();
    records.map(|(key, value)| Record::set(key.clone(), value.clone()))
}

/// A new store with these records.
fn restored(records: &Records, now: Now) -> (Store, Restored) {
    let store = store();
    let restored = store.restore(self::records(records), now);
    (store, restored.unwrap())
}

/// Everything that a store exposes and counts, as far as storage keeps it.
fn seen(store: &Store, now: Now) -> String {
    let mut out = String::new();
    let snapshot = store.snapshot_with_natives();
    let formats = [
        OutputFormat::Canonical,
        OutputFormat::OpenMetrics(Escaping::AllowUtf8),
        OutputFormat::Text(Escaping::Dots),
    ];
    for format in formats {
        let text = snapshot.clone().in_format(format).text();
        out.push_str(&String::from_utf8(text).unwrap());
    }
    if snapshot.is_merged() {
        let messages = store.messages(&snapshot, Escaping::Underscores);
        let _ = writeln!(out, "{:?}", messages.text());
    }
    for (id, section) in store.sections(None, usize::MAX) {
        let age = section.updated.map(|updated| now.since(updated));
        let wall = section.updated.map(|updated| updated.wall);
        let problem = section
            .problem
            .as_ref()
            .map(|problem| (&problem.reason, problem.at.wall, now.since(problem.at)));
        let families: Vec<_> = section.families().collect();
        let _ = writeln!(
            out,
            "{id} {:?} {} {} {age:?} {wall:?} {problem:?} {:?} {families:?} {:?} {}",
            section.state,
            section.bytes,
            section.weight,
            section.expires(now),
            section.origin,
            section.series(),
        );
        for family in store.families_of(&id, None, usize::MAX) {
            let _ = writeln!(out, "{family:?}");
        }
    }
    let _ = writeln!(out, "{:?} {:?}", store.totals(), store.aggregated_totals());
    store.registry().assert_consistent();
    out
}

fn parsed(store: &Store, text: &str) -> Vec<FamilyText> {
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: store.hasher(),
    };
    canonicalize(text, &options).unwrap_or_default()
}

fn origin(number: u8) -> Origin {
    Origin {
        user: None,
        source: Arc::from(format!("listener {}", number % 3)),
        peer: match number % 3 {
            0 => Peer::Unknown,
            1 => Peer::Tcp(([127, 0, 0, 1], 1000 + u16::from(number)).into()),
            _ => Peer::Unix {
                pid: Some(7),
                uid: number.into(),
            },
        },
    }
}

fn replace(id: SectionId, content: Content, lifetime: Option<Duration>) -> Write {
    Write::one(Change::Replace {
        id,
        content,
        origin: origin(1),
        lifetime,
    })
}

fn update(family: &str, kind: Kind, label: &str, change: Op) -> Update {
    Update {
        family: Arc::from(family),
        kind,
        help: None,
        labels: LabelText::from_plain([("l", label)]).unwrap(),
        ttl: None,
        change,
    }
}

fn batch(updates: Vec<Update>) -> Batch {
    Batch {
        updates,
        bounds_policy: BoundsPolicy::Union,
        ..Batch::default()
    }
}
