use proptest::prelude::*;

use super::*;
use crate::exposition::Kind;
use crate::registry::{self, Batch, Change};
use crate::store::StoreLimits;

fn store() -> Store {
    let limits = StoreLimits {
        apps: 1,
        groups: 1,
        bytes: 64 << 20,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

fn update(family: &str, labels: &[(&str, &str)]) -> Update {
    Update {
        family: Arc::from(family),
        kind: Kind::Counter,
        help: None,
        labels: LabelText::from_plain(labels.iter().copied()).unwrap(),
        ttl: None,
        change: Change::Add(1.0),
    }
}

fn add(store: &Store, updates: Vec<Update>) {
    let batch = Batch {
        updates,
        ..Batch::default()
    };
    store.operate(batch, Now::read()).unwrap();
}

fn matching(text: &str) -> SeriesSelection {
    SeriesSelection::Matching(Selectors::for_series(&[text.to_owned()]).unwrap())
}

fn text(store: &Store) -> String {
    String::from_utf8(store.snapshot().text()).unwrap()
}

#[test]
fn series_are_removed_by_their_unescaped_labels() {
    let labels = [("path", "a\\b\"c\n"), ("job", "x")];
    for selection in [
        matching("hits{path=\"a\\\\b\\\"c\\n\"}"),
        matching("{__name__=\"hits\",job=\"x\",zone=\"\"}"),
        SeriesSelection::Labels(Group::from_labels_path("job/x", false).unwrap()),
    ] {
        let store = store();
        add(
            &store,
            vec![
                update("hits", &labels),
                update("hits", &[("job", "y")]),
                update("my.hits", &[("job", "z")]),
            ],
        );
        let before = text(&store);
        let dry = remove_series(&store, &selection, true, Now::read()).unwrap();
        assert_eq!((dry.count, text(&store)), (1, before), "{selection:?}");
        let removed = remove_series(&store, &selection, false, Now::read()).unwrap();
        assert_eq!(removed.count, 1, "{selection:?}");
        assert_eq!(removed.listed, dry.listed);
        let listed = &removed.listed[0];
        assert_eq!(
            (&*listed["__name__"], &*listed["path"]),
            ("hits", labels[0].1)
        );
        assert!(!text(&store).contains("path="), "{selection:?}");
        assert_eq!(store.aggregated_totals().series, 2);
        let again = remove_series(&store, &selection, false, Now::read()).unwrap();
        assert_eq!(again.count, 0);
    }
}

#[test]
fn a_family_without_series_is_removed_and_can_change_its_kind() {
    let store = store();
    add(
        &store,
        vec![update("hits", &[]), update("my.hits", &[("a", "1")])],
    );
    remove_series(&store, &matching("{\"my.hits\"}"), false, Now::read()).unwrap();
    assert_eq!(text(&store), "# TYPE hits counter\nhits 1\n");
    remove_series(&store, &SeriesSelection::All, false, Now::read()).unwrap();
    assert_eq!(
        (text(&store), store.aggregated_totals().bytes),
        (String::new(), 0)
    );
    let mut gauge = update("hits", &[]);
    gauge.kind = Kind::Gauge;
    add(&store, vec![gauge]);
}

#[test]
fn many_series_are_removed_in_batches_and_some_are_listed() {
    const MANY: usize = 40_000;
    let store = store();
    let numbers: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    add(
        &store,
        numbers.iter().map(|it| update("m", &[("n", it)])).collect(),
    );
    let selection = matching("m{n=~\".*[13579]\"}");
    let removed = remove_series(&store, &selection, false, Now::read()).unwrap();
    assert_eq!(
        (removed.count, removed.listed.len()),
        (MANY / 2, MAX_LISTED)
    );
    assert_eq!(store.aggregated_totals().series, MANY / 2);
    assert_eq!(text(&store).lines().count(), 1 + MANY / 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Exactly the matching series are removed.
    #[test]
    fn only_matching_series_are_removed(
        series in proptest::collection::btree_set((0..4_u8, 0..300_u16, any::<bool>()), 0..600),
        family in 0..4_u8,
        odd in any::<bool>(),
    ) {
        let store = store();
        let update_of = |(family, number, odd): &(u8, u16, bool)| {
            update(&format!("f{family}"), &[("n", &number.to_string()), ("odd", &odd.to_string())])
        };
        add(&store, series.iter().map(update_of).collect());
        let selection = matching(&format!("f{family}{{odd=\"{odd}\"}}"));
        let (removed_series, kept): (Vec<_>, Vec<_>) =
            series.iter().partition(|it| it.0 == family && it.2 == odd);
        let removed = remove_series(&store, &selection, false, Now::read()).unwrap();
        prop_assert_eq!(removed.count, removed_series.len());
        prop_assert_eq!(store.aggregated_totals().series, kept.len());
        for it in &kept {
            let update = update_of(it);
            prop_assert!(store.has_series(&update.family, update.labels.as_str()));
        }
        for it in &removed_series {
            let update = update_of(it);
            prop_assert!(!store.has_series(&update.family, update.labels.as_str()));
        }
    }
}
