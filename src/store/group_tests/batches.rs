//! Changes of several sections that are applied together.

use super::*;

#[test]
fn a_write_takes_no_series_of_a_family_that_stays() {
    let store = store();
    let now = Now::read();
    let mine = vec![gauge("m", "s", "1"), gauge("n", "s", "1")];
    let first = update("g", Others::Keep, mine);
    store.apply(Write::one(first), now).unwrap();
    let before = text(&store);
    let both = |mine: FamilyText| Write {
        changes: vec![
            update("g", Others::Keep, vec![mine]),
            update("o", Others::Keep, vec![gauge("m", "s", "5")]),
        ],
    };
    let refused = store.apply(both(gauge("n", "s", "2")), now);
    assert!(
        matches!(refused, Err(Refused::DuplicateSeries { twice: false, .. })),
        "{refused:?}"
    );
    assert_eq!(text(&store), before);
    // One that the family itself lets go is free.
    store.apply(both(gauge("m", "t", "2")), now).unwrap();
    let shown = "# TYPE m gauge\nm{g=\"t\"} 2\nm{g=\"s\"} 5\n";
    assert!(text(&store).starts_with(shown), "{}", text(&store));
}
