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

/// What an app exposes is now this.
fn replace(app: &str, families: Vec<FamilyText>) -> Change {
    Change::Replace {
        id: SectionId::new(app, Producer::App),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: None,
    }
}

#[test]
fn a_family_may_be_renamed_to_one_of_the_same_plain_name() {
    let now = Now::read();
    let helped = |name: &str| FamilyText {
        help: Some(format!("of {name}")),
        ..gauge(name, "s", "1")
    };
    let drop = |group: &str, name: &str| update(group, Others::Drop, vec![helped(name)]);
    let z = |group: &str| format!("# TYPE z gauge\nz{{g=\"{group}\"}} 0\n");
    for (first, then, rest) in [
        (drop("g", "a_b"), vec![drop("g", "a.b")], z("g")),
        (
            replace("x", vec![helped("a_b")]),
            vec![replace("x", vec![helped("a.b")])],
            String::new(),
        ),
        // The other one leaves with the same write, before or after.
        (
            drop("g", "a_b"),
            vec![drop("o", "a.b"), remove("g")],
            z("o"),
        ),
        (
            drop("g", "a_b"),
            vec![remove("g"), drop("o", "a.b")],
            z("o"),
        ),
        (
            replace("x", vec![helped("a_b")]),
            vec![drop("o", "a.b"), replace("x", Vec::new())],
            z("o"),
        ),
        (
            drop("g", "a_b"),
            vec![
                replace("x", vec![helped("a.b")]),
                update("g", Others::Drop, Vec::new()),
            ],
            z("g"),
        ),
    ] {
        let store = store();
        store.apply(Write::one(first), now).unwrap();
        let write = Write { changes: then };
        let shown = format!("{write:?}");
        store.apply(write, now).unwrap();
        let head = "# HELP \"a.b\" of a.b\n# TYPE \"a.b\" gauge\n";
        let expected = format!("{head}{{\"a.b\",g=\"s\"}} 1\n{rest}");
        assert_eq!(text(&store), expected, "{shown}");
        let series = 1 + usize::from(!rest.is_empty());
        assert_eq!(store.read().families().series(), series, "{shown}");
    }
}
