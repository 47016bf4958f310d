use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Now;
use crate::exposition::protobuf::{DecodeLimits, decode};
use crate::exposition::{Content, FamilyText, Kind, Text};
use crate::peer::Origin;
use crate::registry;
use crate::store::limits::StoreLimits;
use crate::store::pages::page::Page;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};

fn store() -> Store {
    let limits = StoreLimits {
        apps: 1000,
        groups: 1000,
        bytes: 1 << 30,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

/// A histogram family of one sender with `count` series, native if `native`.
fn family(name: &str, app: u8, count: usize, value: u64, native: bool) -> FamilyText {
    let mut samples = String::new();
    let mut natives = Vec::new();
    for n in 0..count {
        let labels = format!("app=\"{app}\",n=\"{n}\"");
        samples += &format!(
            "{name}_bucket{{{labels},le=\"+Inf\"}} {value}\n{name}_sum{{{labels}}} 0\n{name}_count{{{labels}}} {value}\n"
        );
        if native {
            // The count, a zero threshold of 1, and all observations in the zero
            // bucket.
            let mut histogram = vec![8, value as u8, 0x31];
            histogram.extend_from_slice(&1.0_f64.to_le_bytes());
            histogram.extend_from_slice(&[0x38, value as u8]);
            natives.push(NativeHistogram {
                labels: labels.into(),
                histogram: Bytes::from(histogram),
                gauge: false,
            });
        }
    }
    FamilyText {
        name: name.into(),
        kind: Kind::Histogram,
        help: Some(format!("About {name}.")),
        line: 1,
        samples: Text::new(&samples),
        series: Default::default(),
        natives,
        open: None,
    }
}

fn push(store: &Store, app: u8, families: Vec<FamilyText>) {
    let change = Change::Replace {
        id: SectionId::new(&app.to_string(), Producer::App),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: Some(Duration::from_secs(60)),
    };
    store
        .apply(Write::one(change), Now::read())
        .expect("it fits");
}

/// The encoding of the whole text in one go.
fn expected(store: &Store) -> Vec<u8> {
    let snapshot = store.snapshot_with_natives();
    let mut natives = NativeHistograms::default();
    for (family, of_family) in snapshot.natives() {
        natives.add(family, of_family);
    }
    let text = String::from_utf8(snapshot.text()).expect("text");
    encode(&text, &natives, Escaping::AllowUtf8)
}

fn shown(store: &Store) -> Vec<u8> {
    let snapshot = store.snapshot_with_natives();
    store.messages(&snapshot, Escaping::AllowUtf8).text()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After any writes, the chunks together equal the encoding of the whole.
    #[test]
    fn chunks_equal_the_encoding_of_the_whole_text(
        writes in proptest::collection::vec(
            (0..4_u8, proptest::collection::btree_map("[a-f]", (0..120_usize, 1..100_u64, any::<bool>()), 0..4)),
            1..12,
        ),
    ) {
        let store = store();
        for (app, families) in writes {
            let families = families
                .into_iter()
                .filter(|(_, (count, ..))| *count > 0)
                .map(|(name, (count, value, native))| family(&name, app, count, value, native));
            push(&store, app, families.collect());
            prop_assert_eq!(shown(&store), expected(&store));
        }
        let whole = store.snapshot_with_natives();
        prop_assert_eq!(whole.in_messages(Escaping::AllowUtf8).text(), expected(&store));
    }
}

#[test]
fn a_small_change_keeps_the_other_chunks() {
    let store = store();
    let names: Vec<String> = (0..100).map(|n| format!("f{n:03}")).collect();
    let all = |value| {
        let families = names.iter().enumerate();
        families
            .map(move |(n, name)| family(name, 0, 40, if n == 50 { value } else { 1 }, n % 2 == 0))
    };
    let made = |store: &Store| {
        let snapshot = store.snapshot_with_natives();
        let shown = store.messages(&snapshot, Escaping::AllowUtf8);
        shown.pages().to_vec()
    };
    push(&store, 0, all(1).collect());
    let first = made(&store);
    assert!(first.len() > 10, "{} chunks", first.len());
    let same = |a: &[Arc<Page>], b: &[Arc<Page>]| {
        a.len()
            - a.iter()
                .filter(|page| b.iter().any(|other| Arc::ptr_eq(page, other)))
                .count()
    };
    assert_eq!(same(&first, &made(&store)), 0, "nothing was written");
    push(&store, 1, vec![family("f010", 1, 1, 1, false)]);
    let second = made(&store);
    // A page can belong to two chunks.
    assert!(
        (1..=2).contains(&same(&second, &first)),
        "{}",
        same(&second, &first)
    );
    // Unchanged texts keep their pages. Native histograms are always new.
    push(&store, 1, vec![family("f010", 1, 1, 1, true)]);
    let third = made(&store);
    assert!(
        (1..=2).contains(&same(&third, &second)),
        "{}",
        same(&third, &second)
    );
    assert_eq!(shown(&store), expected(&store));
}

#[test]
fn native_histograms_go_with_their_section_and_are_counted() {
    let store = store();
    push(
        &store,
        1,
        vec![family("h", 1, 2, 7, true), family("i", 1, 1, 7, true)],
    );
    push(&store, 2, vec![family("h", 2, 1, 7, true)]);
    let count = || -> Vec<(String, usize)> {
        let natives = store.natives();
        let pairs = natives
            .iter()
            .map(|(family, natives)| (family.to_string(), natives.len()));
        pairs.collect()
    };
    assert_eq!(
        count(),
        [
            ("h".to_owned(), 2),
            ("h".to_owned(), 1),
            ("i".to_owned(), 1)
        ]
    );
    let limits = DecodeLimits {
        families: 10,
        text: 1 << 20,
    };
    let decoded = decode(&shown(&store), &limits).expect("it is sound");
    assert_eq!(decoded.natives.len(), 4);
    let text = String::from_utf8(store.snapshot().text()).expect("text");
    assert_eq!(
        decoded.text.matches("\nh_count{").count(),
        text.matches("\nh_count{").count()
    );

    push(&store, 1, vec![family("h", 1, 2, 7, false)]);
    assert_eq!(count(), [("h".to_owned(), 1)]);
    let with = weight(&store);
    push(&store, 2, vec![family("h", 2, 1, 7, false)]);
    assert_eq!(count(), []);
    assert!(weight(&store) + 64 < with);
    push(&store, 2, vec![family("h", 2, 1, 7, true)]);
    store.expire(Now::read().after(Duration::from_secs(61)));
    assert_eq!(count(), []);
    assert_eq!(shown(&store), b"");
}

fn weight(store: &Store) -> usize {
    let sections = store.sections(None, usize::MAX);
    sections.iter().map(|(_, section)| section.weight).sum()
}

#[test]
fn a_store_with_verbatim_text_is_not_merged() {
    let store = store();
    assert!(store.snapshot().is_merged());
    push(&store, 1, vec![family("h", 1, 1, 7, false)]);
    assert!(store.snapshot().is_merged());
    let verbatim = |text| Change::Replace {
        id: SectionId::new("v", Producer::App),
        content: Content::Verbatim(Text::new(text)),
        origin: Origin::default(),
        lifetime: None,
    };
    for (text, merged) in [("m 1\n", false), ("", true)] {
        let write = Write::one(verbatim(text));
        store.apply(write, Now::read()).expect("it fits");
        assert_eq!(store.snapshot().is_merged(), merged, "{text:?}");
    }
}
