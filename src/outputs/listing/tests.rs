use std::time::Duration;

use super::*;
use crate::exposition::{Content, Text};
use crate::peer::Origin;
use crate::registry::RegistryLimits;
use crate::store::{Change, StoreLimits, Write};

/// A store with apps `app-0` to `app-9`, whose texts grow and whose ages shrink, a target
/// that fails, a stale app and a group.
fn store(start: Now) -> Store {
    let limits = StoreLimits {
        apps: 100,
        groups: 100,
        bytes: 1 << 20,
        registry: RegistryLimits::default(),
    };
    let store = Store::new(limits, false);
    let push = |id: SectionId, text: &str, at: Now| {
        let change = Change::Replace {
            id,
            content: Content::Verbatim(Text::new(text)),
            origin: Origin::default(),
            lifetime: (text.len() < 10).then_some(Duration::from_secs(60)),
        };
        store.apply(Write::one(change), at).unwrap();
    };
    for number in 0..10_usize {
        let id = SectionId::new(&format!("app-{number}"), Producer::App);
        let at = start.after(Duration::from_secs(number as u64));
        push(id, &"m 1\n".repeat(number + 1), at);
    }
    push(SectionId::new("Zebra", Producer::Group), "z 1\n", start);
    let target = SectionId::new("target", Producer::Target);
    let expect = Change::Expect {
        id: target.clone(),
        origin: Origin::default(),
        url: "http://db.example:9100/metrics".into(),
    };
    store.apply(Write::one(expect), start).unwrap();
    for id in [target, SectionId::new("app-7", Producer::App)] {
        let fail = Change::Fail {
            id,
            origin: Origin::default(),
            problem: "refused".to_owned(),
            keep: None,
        };
        store.apply(Write::one(fail), start).unwrap();
    }
    store
}

/// The names that a query chooses, and how many match.
fn chosen(store: &Store, query: &str, now: Now) -> (String, usize) {
    let chosen = Listing::of_query(query).unwrap().choose(store, now);
    let names: Vec<&str> = chosen.ids.iter().map(|id| &*id.name).collect();
    (names.join(" "), chosen.total)
}

#[test]
fn sources_are_searched_filtered_and_sorted() {
    let start = Now::read();
    let store = store(start);
    let now = start.after(Duration::from_secs(20));
    let all = "Zebra app-0 app-1 app-2 app-3 app-4 app-5 app-6 app-7 app-8 app-9 target";
    for (query, names, total) in [
        ("", all, 12),
        ("q=&kind=&state=&sort=&page=", all, 12),
        ("q=ZEB", "Zebra", 1),
        ("q=db.example", "target", 1),
        ("q=unknown", "app-", 0),
        ("kind=target", "target", 1),
        ("state=stale", "app-7", 1),
        ("state=problem", "app-7 target", 2),
        ("state=problem&sort=problems", "target app-7", 2),
        ("sort=problems&page=1", "target app-7 Zebra app-0", 12),
        ("sort=name&page=1", "Zebra app-0", 12),
        ("sort=-name", "target app-9 app-8", 12),
        ("kind=app&sort=size", "app-0 app-1 app-2", 10),
        ("kind=app&sort=-size", "app-9 app-8 app-7", 10),
        ("kind=app&sort=age", "app-9 app-8", 10),
        ("kind=app&sort=-age", "app-0 app-1", 10),
        ("sort=-age", "target Zebra app-0", 12),
        ("sort=kind", "app-0", 12),
        ("kind=app&sort=expires", "app-0 app-1 app-2", 10),
        ("page=2", "", 12),
    ] {
        let (found, count) = chosen(&store, query, now);
        match names {
            // Every source has the peer `unknown`.
            "app-" => assert_eq!(count, 12, "{query}"),
            names => {
                assert!(found.starts_with(names), "{query}: {found}");
                assert_eq!(found.is_empty(), names.is_empty(), "{query}");
                assert_eq!(count, total, "{query}");
            }
        }
    }
}

#[test]
fn pages_divide_the_list() {
    let mut kept = First::new(3);
    let id = SectionId::new("x", Producer::App);
    for (place, key) in [5, 1, 4, 1, 3, 9, 2].into_iter().enumerate() {
        kept.add(key, place, &id);
    }
    let kept = kept.kept.into_sorted_vec();
    let kept: Vec<(u64, usize)> = kept.iter().map(|it| (it.key, it.place)).collect();
    assert_eq!(kept, [(1, 1), (1, 3), (2, 6)]);

    let start = Now::read();
    let store = Store::new(
        StoreLimits {
            apps: 1000,
            groups: 1,
            bytes: 1 << 20,
            registry: RegistryLimits::default(),
        },
        false,
    );
    for number in 0..250 {
        let change = Change::Replace {
            id: SectionId::new(&format!("a{number:03}"), Producer::App),
            content: Content::Verbatim(Text::new("m 1\n")),
            origin: Origin::default(),
            lifetime: None,
        };
        store.apply(Write::one(change), start).unwrap();
    }
    for (page, first, count) in [(1, "a000", 100), (2, "a100", 100), (3, "a200", 50)] {
        let (names, total) = chosen(&store, &format!("page={page}"), start);
        assert!(names.starts_with(first), "{names}");
        assert_eq!((names.split(' ').count(), total), (count, 250));
    }
}

#[test]
fn wrong_parameters_name_what_is_known() {
    for (query, problem) in [
        (
            "kind=own",
            "kind must be one of app, target, group, not \"own\"",
        ),
        (
            "state=bad",
            "state must be one of waiting, fresh, stale, failing, withdrawn, problem, not \"bad\"",
        ),
        (
            "sort=--name",
            "sort must be one of problems, name, kind, age, size, expires, with or without a leading -, not \"--name\"",
        ),
        (
            "page=0",
            "page must be a whole number from 1 to 10000, not \"0\"",
        ),
        (
            "page=x",
            "page must be a whole number from 1 to 10000, not \"x\"",
        ),
    ] {
        assert_eq!(Listing::of_query(query), Err(problem.to_owned()));
    }
    assert!(Listing::of_query(&format!("q={}", "x".repeat(2000))).is_err());
}
