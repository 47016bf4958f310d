//! Tests of writes that change several sections.

use std::collections::BTreeSet;

use super::*;
use crate::clock::Now;
use crate::peer::Origin;
use crate::exposition::{Content, FamilyText, Kind};
use crate::store::rejection::Rejection;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::write::change::{Change, OtherFamilies, Write};

#[test]
fn a_write_cannot_take_a_series_of_a_remaining_family() {
    let store = store();
    let now = Now::read();
    let mine = vec![gauge("m", "s", "1"), gauge("n", "s", "1")];
    let first = update("g", OtherFamilies::Keep, mine);
    store.apply(Write::one(first), now).unwrap();
    let before = text(&store);
    let both = |mine: FamilyText| Write {
        changes: vec![
            update("g", OtherFamilies::Keep, vec![mine]),
            update("o", OtherFamilies::Keep, vec![gauge("m", "s", "5")]),
        ],
    };
    let refused = store.apply(both(gauge("n", "s", "2")), now);
    assert!(
        matches!(refused, Err(Rejection::DuplicateSeries { within: None, .. })),
        "{refused:?}"
    );
    assert_eq!(text(&store), before);
    // A series that the family itself removes may be taken.
    store.apply(both(gauge("m", "t", "2")), now).unwrap();
    let shown = "# TYPE m gauge\nm{g=\"t\"} 2\nm{g=\"s\"} 5\n";
    assert!(text(&store).starts_with(shown), "{}", text(&store));
}

/// Replaces what an app exposes.
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
    let drop = |group: &str, name: &str| update(group, OtherFamilies::Drop, vec![helped(name)]);
    let z = |group: &str| format!("# TYPE z gauge\nz{{g=\"{group}\"}} 0\n");
    for (first, then, rest) in [
        (drop("g", "a_b"), vec![drop("g", "a.b")], z("g")),
        (
            replace("x", vec![helped("a_b")]),
            vec![replace("x", vec![helped("a.b")])],
            String::new(),
        ),
        // The same write removes the other one, before or after.
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
                update("g", OtherFamilies::Drop, Vec::new()),
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

/// The one series and its value, by section and family.
type Shown = BTreeMap<SectionId, BTreeMap<&'static str, (String, String)>>;

/// The output, if it is valid: every plain name belongs to one family, and every series
/// is exposed once.
fn shown(model: &Shown) -> Option<String> {
    let mut names = BTreeMap::new();
    let mut all = BTreeSet::new();
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for held in model.values() {
        for (name, (label, value)) in held {
            let plain = plain_name(name);
            if *names.entry(plain.clone()).or_insert(name) != name || !all.insert((plain, label)) {
                return None;
            }
            let text = families.entry(name).or_insert_with(|| {
                let head = FamilyText::head_of(name, Kind::Gauge, None, None);
                String::from_utf8(head.to_vec()).unwrap()
            });
            text.push_str(&format!("{} {value}\n", series(name, label)));
        }
    }
    Some(families.into_values().collect())
}

/// A section; whether other families are kept, `None` for a removal; and the pushed
/// families, labels and values.
type Pushed = (u8, Option<bool>, Vec<(u8, u8, u16)>);

fn any_batch() -> impl Strategy<Value = Vec<Pushed>> {
    let kept = prop_oneof![3 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    vec(
        (0..5_u8, kept, vec((0..4_u8, 0..3_u8, 0..2000_u16), 0..3)),
        1..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Groups and apps change together, under names that differ in characters outside
    /// the legacy set only. A write is applied if and only if every series is then
    /// exposed once and every plain name belongs to one family, and the output has the
    /// last values.
    #[test]
    fn a_batch_is_applied_if_and_only_if_the_output_stays_valid(
        batches in vec(any_batch(), 1..12),
    ) {
        const NAMES: [&str; 4] = ["a_b", "a.b", "m", "n"];
        let store = store();
        let now = Now::read();
        let mut model = Shown::new();
        for batch in batches {
            let mut then = model.clone();
            let mut ids = BTreeSet::new();
            let mut changes = Vec::new();
            for (section, keep, families) in batch {
                if !ids.insert(section) {
                    continue;
                }
                let name = format!("s{section}");
                let group = section < 3;
                let id = SectionId::new(&name, if group { Producer::Group } else { Producer::App });
                let pushed: BTreeMap<&str, (String, String)> = families
                    .into_iter()
                    .map(|(family, label, value)| {
                        (NAMES[usize::from(family)], (label.to_string(), value.to_string()))
                    })
                    .collect();
                let texts = pushed.iter().map(|(name, (label, value))| gauge(name, label, value));
                let texts: Vec<FamilyText> = texts.collect();
                let Some(keep) = keep else {
                    changes.push(Change::Remove { id: id.clone(), unless_since: None });
                    then.remove(&id);
                    continue;
                };
                let held = then.entry(id).or_default();
                if group {
                    let others = if keep { OtherFamilies::Keep } else { OtherFamilies::Drop };
                    changes.push(update(&name, others, texts));
                    held.retain(|name, _| keep || *name == "z");
                    held.entry("z").or_insert_with(|| (name, "0".to_owned()));
                } else {
                    changes.push(replace(&name, texts));
                    held.clear();
                }
                held.extend(pushed);
            }
            let expected = shown(&then);
            let told = format!("{changes:?}");
            let applied = store.apply(Write { changes }, now);
            prop_assert_eq!(applied.is_ok(), expected.is_some(), "{:?} {}", applied, told);
            if applied.is_ok() {
                model = then;
            }
            prop_assert_eq!(text(&store), shown(&model).unwrap(), "{}", told);
            let series: usize = model.values().map(BTreeMap::len).sum();
            prop_assert_eq!(store.read().families().series(), series);
        }
        let ids: Vec<SectionId> = model.into_keys().collect();
        let changes = ids.into_iter().map(|id| Change::Remove { id, unless_since: None });
        store.apply(Write { changes: changes.collect() }, now).unwrap();
        prop_assert_eq!(text(&store), "");
        prop_assert_eq!((store.totals().bytes, store.read().weight), (0, 0));
    }
}
