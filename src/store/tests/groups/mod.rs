//! Tests of groups, sections that are updated family by family.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::Now;
use crate::exposition::{Content, FamilyText, Kind, plain_name};
use crate::peer::Origin;
use crate::exposition::Text;
use crate::store::limits::StoreLimits;
use crate::store::store::Store;
use crate::store::rejection::Rejection;
use crate::store::sections::section::SectionState;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::write::change::{Change, OtherFamilies, Write};
use crate::registry;

const HOUR: Duration = Duration::from_secs(3600);

fn store() -> Store {
    let limits = StoreLimits {
        apps: 10,
        groups: 3,
        bytes: 1 << 20,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

fn text(store: &Store) -> String {
    String::from_utf8(store.snapshot().text()).unwrap()
}

fn id(name: &str) -> SectionId {
    SectionId::new(name, Producer::Group)
}

/// A series as in a text.
fn series(name: &str, group: &str) -> String {
    match name.contains('.') {
        true => format!("{{\"{name}\",g=\"{group}\"}}"),
        false => format!("{name}{{g=\"{group}\"}}"),
    }
}

/// A family of the group's one series.
fn family(name: &str, kind: Kind, group: &str, value: &str) -> FamilyText {
    let series = series(name, group);
    let mut hasher = DefaultHasher::new();
    (plain_name(name), group).hash(&mut hasher);
    FamilyText {
        name: name.into(),
        kind,
        help: None,
        line: 3,
        samples: Text::new(&format!("{series} {value}")),
        series: vec![hasher.finish()].into(),
        natives: Vec::new(),
        open: None,
    }
}

fn gauge(name: &str, group: &str, value: &str) -> FamilyText {
    family(name, Kind::Gauge, group, value)
}

fn update(group: &str, others: OtherFamilies, families: Vec<FamilyText>) -> Change {
    Change::Update {
        id: id(group),
        families,
        defaults: vec![gauge("z", group, "0")],
        others,
        origin: Origin::default(),
        lifetime: Some(HOUR),
        problem: None,
    }
}

fn remove(group: &str) -> Change {
    Change::Remove {
        id: id(group),
        unless_since: None,
    }
}

#[test]
fn an_update_replaces_its_families_and_keeps_existing_defaults() {
    let store = store();
    let now = Now::read();
    let apply = |change| store.apply(Write::one(change), now).unwrap();
    apply(update(
        "g",
        OtherFamilies::Keep,
        vec![gauge("a", "g", "1"), gauge("b", "g", "1")],
    ));
    let first = "# TYPE a gauge\na{g=\"g\"} 1\n# TYPE b gauge\nb{g=\"g\"} 1\n# TYPE z gauge\nz{g=\"g\"} 0\n";
    assert_eq!(text(&store), first);
    // The only section that exposes a family may change its kind.
    apply(update(
        "g",
        OtherFamilies::Keep,
        vec![family("b", Kind::Counter, "g", "2"), gauge("z", "g", "7")],
    ));
    assert_eq!(
        text(&store),
        "# TYPE a gauge\na{g=\"g\"} 1\n# TYPE b counter\nb{g=\"g\"} 2\n# TYPE z gauge\nz{g=\"g\"} 7\n"
    );
    apply(update("g", OtherFamilies::Drop, vec![gauge("c", "g", "3")]));
    assert_eq!(
        text(&store),
        "# TYPE c gauge\nc{g=\"g\"} 3\n# TYPE z gauge\nz{g=\"g\"} 7\n"
    );
    let section = store.section_of(&id("g")).unwrap();
    assert_eq!(section.bytes, text(&store).len());
    assert_eq!(section.series(), 2);
    let names: Vec<&str> = section.families().map(|(name, _)| name).collect();
    assert_eq!(names, ["c", "z"]);
    apply(remove("g"));
    apply(remove("g"));
    assert_eq!(text(&store), "");
    assert_eq!((store.totals().groups, store.totals().bytes), (0, 0));
}

#[test]
fn an_update_is_checked_against_all_remaining_families() {
    let store = store();
    let now = Now::read();
    let apply = |change| store.apply(Write::one(change), now);
    let histogram = || family("h", Kind::Histogram, "g", "1");
    apply(update(
        "g",
        OtherFamilies::Keep,
        vec![histogram(), gauge("a", "g", "1")],
    ))
    .unwrap();
    apply(update("o", OtherFamilies::Keep, vec![gauge("a", "o", "1")])).unwrap();
    let before = text(&store);
    for (others, families, words) in [
        (
            OtherFamilies::Keep,
            vec![gauge("h_count", "g", "1")],
            "cannot be exposed beside family h",
        ),
        (
            OtherFamilies::Keep,
            vec![family("a", Kind::Counter, "g", "1")],
            "a counter here, and a gauge in group o",
        ),
        (
            OtherFamilies::Drop,
            vec![family("a", Kind::Counter, "g", "1")],
            "a counter here, and a gauge in group o",
        ),
        (
            OtherFamilies::Keep,
            vec![gauge("a", "o", "1")],
            "is exposed elsewhere already",
        ),
        (
            OtherFamilies::Keep,
            vec![family("z", Kind::Counter, "g", "1")],
            "a counter here, and a gauge in group o",
        ),
        (
            OtherFamilies::Keep,
            vec![family("push_time_seconds", Kind::Counter, "g", "1")],
            "a counter here",
        ),
        (
            OtherFamilies::Keep,
            vec![gauge("push.time.seconds", "g", "1")],
            "cannot be exposed beside family push_time_seconds",
        ),
    ] {
        let refused = apply(update("g", others, families))
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(refused.contains("group g"), "{refused}");
        assert_eq!(text(&store), before);
    }
    // Once the histogram is removed, its name is free.
    apply(update("g", OtherFamilies::Drop, vec![gauge("h_count", "g", "1")])).unwrap();
    assert!(!text(&store).contains("histogram"));
}

#[test]
fn groups_are_limited_listed_in_order_and_expire() {
    let store = store();
    let start = Now::read();
    let push = |group: &str, at| {
        let change = update(group, OtherFamilies::Keep, vec![gauge("a", group, "1")]);
        store.apply(Write::one(change), at)
    };
    for group in ["b", "c", "a"] {
        push(group, start).unwrap();
    }
    let refused = push("d", start).unwrap_err();
    assert!(
        matches!(refused, Rejection::TooManyGroups { limit: 3, .. }),
        "{refused}"
    );
    let two = ["d", "e"].map(|group| {
        update(group, OtherFamilies::Keep, vec![gauge("a", group, "1")])
    });
    let write = Write {
        changes: two.into(),
    };
    assert_eq!(
        store.apply(write, start).unwrap_err().to_string(),
        "cannot add group d and 1 more together: with them the limit of 3 groups is exceeded \
         (push.max_groups)"
    );
    let exchange = Write {
        changes: vec![
            remove("b"),
            update("d", OtherFamilies::Keep, vec![gauge("a", "d", "1")]),
        ],
    };
    store.apply(exchange, start).unwrap();
    let names = |after, limit| -> Vec<String> {
        let groups = store.groups(after, limit);
        groups.iter().map(|(id, _)| id.name.to_string()).collect()
    };
    assert_eq!(names(None, 2), ["a", "c"]);
    assert_eq!(names(Some("a"), 9), ["c", "d"]);
    assert_eq!(names(Some("b"), 9), ["c", "d"]);
    assert_eq!(names(Some("d"), 9), [] as [&str; 0]);

    push("a", start.after(HOUR / 2)).unwrap();
    let gone = store.expire(start.after(HOUR));
    assert_eq!(gone.len(), 2);
    assert_eq!(names(None, 9), ["a"]);
    let section = store.section_of(&id("a")).unwrap();
    let later = start.after(HOUR);
    assert_eq!(
        section.expires(later),
        Some(start.after(HOUR + HOUR / 2).wall)
    );
    // A removal with `unless_since` keeps a section that was updated since.
    let idle = |since: Now| Change::Remove {
        id: id("a"),
        unless_since: Some(since.tick),
    };
    store
        .apply(Write::one(idle(start.after(HOUR / 2))), later)
        .unwrap();
    assert_eq!(names(None, 9), ["a"]);
    store.apply(Write::one(idle(later)), later).unwrap();
    assert_eq!(store.totals().groups, 0);
    assert_eq!(text(&store), "");
}

#[test]
fn an_update_that_reports_a_failure_keeps_time_and_lifetime() {
    let store = store();
    let start = Now::read();
    let failed = |group: &str, at| {
        let mut change = update(group, OtherFamilies::Keep, vec![gauge("f", group, "9")]);
        if let Change::Update { problem, .. } = &mut change {
            *problem = Some("it was bad".to_owned());
        }
        store.apply(Write::one(change), at).unwrap();
        store.section_of(&id(group)).unwrap()
    };
    let push = update("g", OtherFamilies::Keep, vec![gauge("a", "g", "1")]);
    store.apply(Write::one(push), start).unwrap();
    let section = failed("g", start.after(HOUR / 2));
    assert_eq!(section.updated.unwrap().tick, start.tick);
    assert_eq!(section.problem.unwrap().reason, "it was bad");
    assert_eq!(section.state, SectionState::Stale);
    assert!(text(&store).contains("f{g=\"g\"} 9\n"));
    assert_eq!(store.expire(start.after(HOUR)).len(), 1);

    let new = failed("n", start);
    assert!(new.updated.is_none());
    assert_eq!(new.state, SectionState::Failing);
    assert_eq!(store.expire(start.after(HOUR)).len(), 1);
}

#[derive(Debug, Clone)]
struct Step {
    group: u8,
    families: Vec<(u8, u16)>,
    others: Option<OtherFamilies>,
}

fn any_step() -> impl Strategy<Value = Step> {
    let others = prop_oneof![
        4 => Just(Some(OtherFamilies::Keep)),
        2 => Just(Some(OtherFamilies::Drop)),
        1 => Just(None),
    ];
    (0..3_u8, vec((0..6_u8, 0..2000_u16), 0..4), others).prop_map(|(group, families, others)| {
        Step {
            group,
            families,
            others,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// After any pushes and removals, the output and the sums equal those of a map of
    /// maps.
    #[test]
    fn groups_are_exposed_like_a_map_of_maps(steps in vec(any_step(), 0..40)) {
        let store = store();
        let now = Now::read();
        let mut model: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for step in steps {
            let group = format!("g{}", step.group);
            let Some(others) = step.others else {
                store.apply(Write::one(remove(&group)), now).unwrap();
                model.remove(&group);
                continue;
            };
            let pushed: BTreeMap<String, String> = step
                .families
                .iter()
                .map(|(name, value)| (format!("f{name}"), value.to_string()))
                .collect();
            let families = pushed.iter().map(|(name, value)| gauge(name, &group, value));
            store.apply(Write::one(update(&group, others, families.collect())), now).unwrap();
            let held = model.entry(group).or_default();
            if others == OtherFamilies::Drop {
                held.retain(|name, _| name == "z");
            }
            held.extend(pushed);
            held.entry("z".to_owned()).or_insert_with(|| "0".to_owned());
        }
        let mut families: BTreeMap<&str, String> = BTreeMap::new();
        for (group, held) in &model {
            for (name, value) in held {
                let text = families.entry(name).or_insert_with(|| format!("# TYPE {name} gauge\n"));
                text.push_str(&format!("{name}{{g=\"{group}\"}} {value}\n"));
            }
        }
        prop_assert_eq!(text(&store), families.into_values().collect::<String>());
        let groups = store.groups(None, 99);
        prop_assert_eq!(groups.len(), model.len());
        let mut sum = 0;
        for (id, section) in groups {
            prop_assert_eq!(section.bytes, store.text(&id).len());
            prop_assert_eq!(section.series(), model[&*id.name].len());
            sum += section.bytes;
        }
        prop_assert_eq!(store.totals().bytes, sum);
        let series: usize = model.values().map(BTreeMap::len).sum();
        prop_assert_eq!(store.read().families().series(), series);
    }
}

#[test]
fn removed_groups_leave_nothing_behind() {
    let store = store();
    let start = Now::read();
    for round in 0..5000 {
        let at = start.after(Duration::from_millis(round));
        let push = update("g", OtherFamilies::Drop, vec![gauge("a", "g", "1")]);
        store.apply(Write::one(push), at).unwrap();
        store.apply(Write::one(remove("g")), at).unwrap();
    }
    assert!(store.read().deadlines() < 2000);
    // Stale deadlines of removed groups do not end a new one.
    let late = start.after(HOUR / 2);
    let push = update("g", OtherFamilies::Drop, vec![gauge("a", "g", "1")]);
    store.apply(Write::one(push), late).unwrap();
    assert_eq!(store.expire(start.after(HOUR + HOUR / 4)), []);
    assert_eq!(store.expire(late.after(HOUR)).len(), 1);
    assert_eq!(store.read().deadlines(), 0);
}

#[test]
fn a_check_changes_nothing() {
    let store = store();
    let now = Now::read();
    let fine = || Write::one(update("g", OtherFamilies::Drop, vec![gauge("a", "g", "1")]));
    store.check(fine()).unwrap();
    assert_eq!(text(&store), "");
    let app = Change::Replace {
        id: SectionId::new("app", Producer::App),
        content: Content::Families(vec![gauge("a", "g", "5")]),
        origin: Origin::default(),
        lifetime: None,
    };
    store.apply(Write::one(app), now).unwrap();
    assert!(matches!(
        store.check(fine()),
        Err(Rejection::DuplicateSeries { .. })
    ));
}

mod batches;
