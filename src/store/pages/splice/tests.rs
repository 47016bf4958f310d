use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::store::pages::page::Page;
use crate::store::pages::page_list::PageList;
use crate::store::pages::splice::Splice;

fn text(key: u32, size: usize, write: usize) -> Bytes {
    let line = format!("series_{key}{{write=\"{write}\"}} {size}\n");
    Bytes::from(line.repeat(size.div_ceil(line.len())).into_bytes()[..size].to_vec())
}

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0_usize), 8 => 1..300_usize, 2 => 0..5_000_usize, 1 => 0..70_000_usize]
}

fn whole(page_list: &PageList<u32>) -> Vec<u8> {
    let pages = page_list.to_pages();
    let pieces = pages
        .iter()
        .flat_map(|page| page.pieces(crate::exposition::OutputFormat::Canonical));
    pieces.flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// For any splice, and any changes made while its pages are built, the list equals
    /// a sorted map in which the splice came last.
    #[test]
    fn a_splice_has_the_effect_of_single_changes(
        rounds in vec((btree_map(0..240_u32, any_size(), 0..200), vec((0..240_u32, any_size()), 0..4)), 1..5)
    ) {
        let mut page_list: PageList<u32> = PageList::default();
        let mut map = BTreeMap::new();
        for (write, (together, meanwhile)) in rounds.into_iter().enumerate() {
            let changes: Vec<(u32, Bytes)> = together
                .iter()
                .map(|(key, size)| (*key, text(*key, *size, write)))
                .collect();
            let splice = Splice::make(changes.clone(), |rest| page_list.range(rest));
            for (key, size) in meanwhile {
                let text = text(key, size, write + 100);
                page_list.set(key, text.clone());
                map.insert(key, text);
            }
            drop(page_list.splice(splice));
            map.extend(changes);
            map.retain(|_, text: &mut Bytes| !text.is_empty());
            let expected: Vec<u8> = map.values().flatten().copied().collect();
            prop_assert_eq!(page_list.len(), expected.len());
            prop_assert_eq!(&whole(&page_list), &expected);
            for (key, text) in &map {
                prop_assert_eq!(page_list.get(key), Some(text.clone()));
            }
            for entry in &page_list.entries {
                prop_assert_eq!(entry.keys.len(), entry.page.count());
                let verbatim = entry.page.is_verbatim();
                prop_assert!(entry.keys.iter().all(|key| key.is_verbatim() == verbatim));
                let single = entry.keys.len() == 1;
                prop_assert!(single || entry.page.len() <= LARGEST, "{}", entry.page.len());
            }
        }
    }
}

#[test]
fn a_splice_removes_a_fragment_added_meanwhile() {
    let mut page_list = PageList::default();
    for key in 0..20 {
        page_list.set(key, text(key, 1000, 0));
    }
    page_list.set(7, Bytes::new());
    let before = page_list.len();
    let splice = Splice::make(vec![(7, Bytes::new())], |rest| page_list.range(rest));
    page_list.set(7, text(7, 1000, 1));
    drop(page_list.splice(splice));
    assert_eq!((page_list.get(&7), page_list.len()), (None, before));
}

#[test]
fn a_splice_keeps_unchanged_pages() {
    let mut page_list = PageList::default();
    let all = |write| {
        (0..500_u32)
            .map(move |key| (key, text(key, 1000, write)))
            .collect::<Vec<_>>()
    };
    let splice = Splice::make(all(1), |rest| page_list.range(rest));
    drop(page_list.splice(splice));
    let before = page_list.to_pages();
    assert!(before.len() > 25);
    let mut some = all(1);
    some[250] = (250, text(250, 1000, 2));
    let splice = Splice::make(some, |rest| page_list.range(rest));
    drop(page_list.splice(splice));
    let after = page_list.to_pages();
    let same = |page: &&Arc<Page>| after.iter().any(|other| Arc::ptr_eq(other, page));
    assert!(before.iter().filter(same).count() >= before.len() - PAGES_AT_ONCE);
}
