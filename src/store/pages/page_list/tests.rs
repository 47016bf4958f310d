use std::collections::BTreeMap;
use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::exposition::OutputFormat;
use crate::store::pages::page_list::{FragmentHint, FragmentKey, PageList};
use crate::store::snapshot::Snapshot;

#[derive(Debug, Clone)]
enum Step {
    Set(u16, usize),
    /// Changes the numbers in a text.
    Change(u16),
    Remove(u16),
    Read,
    Compress,
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..200_usize, 2 => 0..5_000_usize, 1 => 0..70_000_usize];
    prop_oneof![
        6 => (0..150_u16, size).prop_map(|(key, size)| Step::Set(key, size)),
        6 => (0..150_u16).prop_map(Step::Change),
        2 => (0..150_u16).prop_map(Step::Remove),
        1 => Just(Step::Read),
        1 => Just(Step::Compress),
    ]
}

/// Text that has the number of its write, and compresses like a real one.
fn text(key: u16, size: usize, number: usize) -> Bytes {
    let line = format!("series_{key}{{write=\"{number}\"}} {size}\n");
    Bytes::from(line.repeat(size.div_ceil(line.len())).into_bytes()[..size].to_vec())
}

/// The text with longer or shorter numbers.
fn changed(text: &Bytes, number: usize) -> Bytes {
    let text = std::str::from_utf8(text).unwrap();
    Bytes::from(match number % 3 {
        0 => text.replacen("write=\"", &format!("write=\"{number}"), 3),
        1 => text.replacen(char::is_numeric, "", 5),
        _ => text.replacen(char::is_numeric, "7", 5),
    })
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    decoder.read_to_end(&mut text).expect("one gzip member");
    assert!(
        decoder.into_inner().is_empty(),
        "nothing follows the member"
    );
    text
}

/// The first key of verbatim text.
const VERBATIM: u32 = 120;

impl FragmentKey for u32 {
    fn is_verbatim(&self) -> bool {
        *self >= VERBATIM
    }
}

impl FragmentKey for u16 {
    fn is_verbatim(&self) -> bool {
        u32::from(*self) >= VERBATIM
    }
}

fn check<K: FragmentKey + Clone>(page_list: &PageList<K>) {
    for entry in &page_list.entries {
        assert!(!entry.keys.is_empty());
        let verbatim = entry.page.is_verbatim();
        assert!(entry.keys.iter().all(|key| key.is_verbatim() == verbatim));
        let single = entry.keys.len() == 1;
        assert!(
            single || entry.page.len() <= LARGEST,
            "{}",
            entry.page.len()
        );
    }
    for pair in page_list.entries.windows(2) {
        assert!(pair[0].keys.last() < pair[1].keys.first());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// After any writes and removals, the output equals a sorted map, and snapshots
    /// taken before do not change.
    #[test]
    fn the_output_equals_a_sorted_map(steps in vec(any_step(), 0..120)) {
        let mut page_list = PageList::default();
        let mut map = BTreeMap::new();
        let mut taken = Vec::new();
        let mut places: BTreeMap<u16, FragmentHint> = BTreeMap::new();
        let bundles = Arc::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(key, size) => {
                    let text = text(key, size, number);
                    // A hint that may be outdated.
                    let place = places.entry(key).or_default();
                    page_list.set_near(key, text.clone(), place);
                    if text.is_empty() {
                        map.remove(&key);
                    } else {
                        map.insert(key, text);
                    }
                }
                Step::Change(key) => {
                    let place = places.entry(key).or_default();
                    let new = map.get(&key).map(|text| changed(text, number));
                    let freed = page_list.change_near(&key, place, |before| {
                        assert_eq!(map[&key], before);
                        new.as_deref()
                    });
                    prop_assert_eq!(freed.is_some(), new.is_some());
                    if let Some(text) = new {
                        map.insert(key, text);
                    }
                }
                Step::Remove(key) => {
                    page_list.remove(&key);
                    map.remove(&key);
                }
                step => {
                    let snapshot = Snapshot::new(page_list.to_pages(), page_list.len(), Arc::clone(&bundles));
                    let expected = map.values().flatten().copied().collect::<Vec<u8>>();
                    if matches!(step, Step::Compress) {
                        prop_assert_eq!(&gunzip(&snapshot.gzip().concat()), &expected);
                    } else {
                        prop_assert_eq!(&snapshot.text(), &expected);
                    }
                    taken.push((snapshot, expected));
                }
            }
            check(&page_list);
        }
        prop_assert_eq!(page_list.len(), map.values().map(Bytes::len).sum::<usize>());
        for (key, text) in &map {
            prop_assert_eq!(page_list.get(key), Some(text.clone()));
        }
        for (snapshot, expected) in taken {
            prop_assert_eq!(snapshot.len(), expected.len());
            prop_assert_eq!(&gunzip(&snapshot.gzip().concat()), &expected);
            prop_assert_eq!(&snapshot.text(), &expected);
        }
    }
}

#[test]
fn one_small_change_makes_one_page_stale() {
    let mut page_list = PageList::default();
    for key in 0..100_u32 {
        page_list.set(key, Bytes::from(vec![b'a'; 4000]));
    }
    for page in page_list.to_pages() {
        page.compressed(OutputFormat::Canonical);
    }
    page_list.set(50, Bytes::from(vec![b'b'; 4000]));
    let stale = page_list
        .to_pages()
        .iter()
        .filter(|page| !page.is_compressed(OutputFormat::Canonical))
        .count();
    assert_eq!(stale, 1);
}

#[test]
fn text_is_held_once() {
    let mut page_list = PageList::default();
    for key in 0..100_u32 {
        page_list.set(key, Bytes::from(vec![b'a'; 1000]));
    }
    // After joining, a fragment is a slice of its page's text.
    let pages = page_list.to_pages();
    for page in &pages {
        page.text(OutputFormat::Canonical);
    }
    let fragment = page_list.get(&50).unwrap();
    let inside = pages.iter().any(|page| {
        let range = page.text(OutputFormat::Canonical).as_ptr_range();
        range.contains(&fragment.as_ptr())
    });
    assert!(inside);
}
