use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::clock::Now;
use crate::exposition::{CanonicalOptions, InputFormat, TimestampPolicy, canonicalize_as};
use crate::exposition::{Content, Text};
use crate::exposition::{Escaping, Families, OutputFormat, TextLimits};
use crate::peer::Origin;
use crate::registry;
use crate::store::inspect::inspection::{InspectionReport, InspectionRules, KEPT_FOR};
use crate::store::limits::StoreLimits;
use crate::store::sections::findings::Findings;
use crate::store::sections::holder::Holder;
use crate::store::sections::inspection_queue::InspectionQueue;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};

fn store_of(bytes: usize) -> Store {
    let limits = StoreLimits {
        apps: 100,
        groups: 100,
        bytes,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false).with_rules(InspectionRules {
        limits: TextLimits::default(),
        reserved: Some("exporter_proxy_"),
    })
}

fn store() -> Store {
    store_of(1 << 20)
}

fn app(name: &str) -> SectionId {
    SectionId::new(name, Producer::App)
}

fn replace(store: &Store, id: SectionId, content: Content) {
    let write = Write::one(Change::Replace {
        id,
        content,
        origin: Origin::default(),
        lifetime: None,
    });
    store.apply(write, Now::read()).unwrap();
}

fn push(store: &Store, name: &str, text: &str) {
    replace(store, app(name), Content::Verbatim(Text::new(text)));
}

fn group(store: &Store, name: &str, text: &str) {
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: store.hasher(),
    };
    let families = canonicalize_as(text, InputFormat::Text, &options).unwrap();
    let id = SectionId::new(name, Producer::Group);
    replace(store, id, Content::Families(families));
}

fn remove(store: &Store, id: SectionId) {
    let write = Write::one(Change::Remove {
        id,
        unless_since: None,
    });
    store.apply(write, Now::read()).unwrap();
}

fn inspect(store: &Store) -> InspectionReport {
    store.begin_inspection(Now::read());
    while store.inspect_some(1, Now::read()) {}
    store.take_inspection_report()
}

fn findings(store: &Store, name: &str) -> Option<Arc<Findings>> {
    store.section_of(&app(name)).unwrap().findings
}

fn conflicts(store: &Store, name: &str) -> Vec<String> {
    let findings = findings(store, name);
    let conflicts = findings.iter().flat_map(|it| &it.conflicts);
    conflicts.map(ToString::to_string).collect()
}

fn families_text(store: &Store) -> String {
    let snapshot = store.families_snapshot(false, Now::read());
    let text = String::from_utf8(snapshot.text()).unwrap();
    let mut unpacked = String::new();
    let packed = snapshot.gzip().concat();
    let mut decoder = flate2::bufread::GzDecoder::new(&packed[..]);
    decoder.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    text
}

#[test]
fn a_text_that_readers_reject_is_suspect_until_replaced() {
    let store = store();
    push(&store, "a", "# TYPE m gauge\nm 1\nm{x=\"1\" 2\n");
    push(&store, "b", "b 1\n");
    assert_eq!(
        findings(&store, "a"),
        None,
        "a push does not wait for the inspection"
    );
    let report = inspect(&store);
    assert_eq!((report.fine, report.suspect.len()), (1, 1));
    assert!(report.suspect[0].2, "it is new");
    let found = findings(&store, "a").unwrap();
    let suspect = found.suspect.as_ref().unwrap();
    assert_eq!(suspect.line(), Some(3));
    assert!(
        suspect.to_string().starts_with("line 3, column "),
        "{suspect}"
    );
    assert_eq!(store.inspection_totals().suspects, 1);

    // Another suspect text is not reported as new, and the same text is not inspected
    // again.
    push(&store, "a", "m{x=\"1\" 3\n");
    assert!(!inspect(&store).suspect[0].2);
    push(&store, "a", "m{x=\"1\" 3\n");
    assert!(inspect(&store).suspect.is_empty());
    assert!(findings(&store, "a").is_some());

    push(&store, "a", "m 3\n");
    assert_eq!(inspect(&store).fine, 1);
    assert_eq!(findings(&store, "a"), None);
    assert_eq!(store.inspection_totals().suspects, 0);
}

#[test]
fn all_conflicts_name_the_holder_of_the_family() {
    let store = store();
    let told = |name: &str| findings(&store, name).map(|found| found.conflicts[0].with.clone());
    push(&store, "holder", "# TYPE k gauge\nk 1\n");
    inspect(&store);
    let names = ["b", "c", "d", "e"];
    for name in names {
        let text = format!("# TYPE k counter\nk{{of=\"{name}\"}} 1\n");
        push(&store, name, &text);
    }
    inspect(&store);
    for name in names {
        assert_eq!(told(name), Some(Holder::Section(app("holder"))), "{name}");
    }
    // Once it is free, they share it, and the first holder clashes.
    push(&store, "holder", "other 1\n");
    inspect(&store);
    push(&store, "holder", "# TYPE k gauge\nk 1\n");
    inspect(&store);
    assert!(names.into_iter().all(|name| told(name).is_none()));
    let with = told("holder");
    let is_one = |name: &&str| with == Some(Holder::Section(app(name)));
    assert!(names.iter().any(is_one), "{with:?}");
}

#[test]
fn samples_are_counted_as_of_the_last_inspection() {
    let store = store();
    let samples = |store: &Store| {
        inspect(store);
        store.inspection_totals().samples
    };
    push(&store, "a", "# HELP a h\na 1\na{x=\"1\"} 2\n");
    push(&store, "bad", "bad{\nbad 1\n");
    group(&store, "counted elsewhere", "g 1\n");
    assert_eq!(samples(&store), 4);
    push(&store, "a", "a 1\n");
    assert_eq!(samples(&store), 3);
    store.families_snapshot(false, Now::read());
    assert_eq!(samples(&store), 3, "read again");
    remove(&store, app("bad"));
    assert_eq!(samples(&store), 1);
}

#[test]
fn a_pushed_text_waits_for_inspection() {
    let store = store();
    let waiting = || store.inspection_totals().waiting;
    push(&store, "a", "a 1\n");
    push(&store, "b", "b 1\n");
    push(&store, "b", "b 2\n");
    assert_eq!(waiting(), 2);
    inspect(&store);
    assert_eq!(waiting(), 0);
    push(&store, "b", "b 3\n");
    assert_eq!(waiting(), 1);
}

#[test]
fn names_that_collide_when_escaped_are_found() {
    let store = store();
    for (name, text) in [
        ("dots", "{\"a.b\"} 1\na_dot_b 1\n"),
        ("values", "{\"c.d\"} 1\nU__c_2e_d 1\n"),
    ] {
        push(&store, name, text);
        inspect(&store);
        assert_eq!(conflicts(&store, name).len(), 1, "{name}");
    }
    let text = families_text(&store);
    assert_eq!(
        text.lines().filter(|line| line.ends_with(" 1")).count(),
        2,
        "{text}"
    );
}

#[test]
fn a_returning_app_is_inspected_again() {
    let store = store();
    push(&store, "a", "bad{\n");
    inspect(&store);
    remove(&store, app("a"));
    push(&store, "a", "bad{\n");
    inspect(&store);
    assert!(findings(&store, "a").is_some());
    remove(&store, app("a"));
    inspect(&store);
    assert_eq!(store.inspection_totals().suspects, 0);
    assert!(store.inspection().known.is_empty() && store.inspection().serials.is_empty());
}

#[test]
fn reserved_names_make_a_text_suspect() {
    let store = store();
    push(&store, "a", "m 1\nexporter_proxy_apps 5\n");
    inspect(&store);
    let found = findings(&store, "a").unwrap();
    let message = found.suspect.as_ref().unwrap().to_string();
    assert_eq!(
        message,
        "line 2: exporter_proxy_apps is reserved for the proxy's own metrics (exporter.own_metrics)"
    );
    assert!(!families_text(&store).contains("exporter_proxy_apps"));
    assert!(families_text(&store).contains("m 1\n"));
}

#[test]
fn conflicts_are_reported_and_resolved_when_the_other_family_goes() {
    let store = store();
    push(
        &store,
        "a",
        "up 1\nsame{n=\"1\"} 1\n# TYPE k gauge\nk{a=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
    );
    push(
        &store,
        "b",
        "up 2\nsame{n=\"2\"} 1\n# TYPE k counter\nk{b=\"1\"} 1\n# TYPE h_count gauge\nh_count{b=\"1\"} 3\n",
    );
    let report = inspect(&store);
    assert_eq!(report.conflicts.len(), 3);
    assert_eq!(conflicts(&store, "a"), Vec::<String>::new());
    let expected = [
        "family up: up is exposed in app \"a\" too",
        "family k has the kind counter here, and gauge in app \"a\"",
        "family h_count shares names of series with h in app \"a\"",
    ];
    assert_eq!(conflicts(&store, "b"), expected);
    assert_eq!(store.inspection_totals().conflicts, 3);
    // Without a conflict, samples of both share one head.
    let text = families_text(&store);
    assert!(
        text.contains("# TYPE same untyped\nsame{n=\"1\"} 1\nsame{n=\"2\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("up 1\n") && !text.contains("up 2\n") && !text.contains("h_count{b"));

    // The text of `b` is unchanged, and is inspected again.
    push(&store, "a", "up{x=\"1\"} 1\n");
    inspect(&store);
    assert_eq!(conflicts(&store, "b"), Vec::<String>::new());
    assert_eq!(store.inspection_totals().conflicts, 0);
    let text = families_text(&store);
    for line in [
        "up{x=\"1\"} 1\n",
        "up 2\n",
        "h_count{b=\"1\"} 3\n",
        "# TYPE k counter\n",
    ] {
        assert!(text.contains(line), "{line} {text}");
    }
    remove(&store, app("a"));
    assert!(!families_text(&store).contains("up{x"));
}

#[test]
fn texts_clash_with_groups_whose_families_stay() {
    let store = store();
    group(
        &store,
        "g",
        "# TYPE up gauge\nup 1\n# TYPE k gauge\nk 1\n# TYPE s summary\ns_sum{g=\"1\"} 1\n",
    );
    push(
        &store,
        "a",
        "# TYPE up gauge\nup 2\nup{a=\"1\"} 3\n# TYPE k counter\nk{a=\"1\"} 1\n# TYPE s_sum gauge\ns_sum 4\n",
    );
    inspect(&store);
    let found = conflicts(&store, "a");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "family up: up is exposed in group g too");
    assert_eq!(
        families_text(&store),
        "# TYPE k gauge\nk 1\n# TYPE s summary\ns_sum{g=\"1\"} 1\n# TYPE up gauge\nup 1\nup{a=\"1\"} 3\n"
    );
    // A group may be pushed after the text was inspected.
    group(&store, "g", "# TYPE x gauge\nx 1\n");
    assert!(families_text(&store).contains("s_sum 4\n"));
    group(&store, "g", "# TYPE s summary\ns_sum{g=\"1\"} 1\n");
    assert!(!families_text(&store).contains("s_sum 4\n"));
}

#[test]
fn samples_are_kept_while_readers_ask_for_families() {
    let store = store();
    push(&store, "a", &"m 1\n".replace('m', &"m".repeat(500)));
    inspect(&store);
    let bytes = || store.inspection_totals().bytes;
    let without = bytes();
    assert!(
        store.inspection().families.page_list.len() < 600,
        "a head alone"
    );
    assert!(families_text(&store).ends_with("m 1\n"));
    assert!(bytes() > without);
    let mut later = Now::read();
    later.tick += KEPT_FOR + Duration::from_secs(1);
    store.begin_inspection(later);
    while store.inspect_some(1, later) {}
    assert_eq!(bytes(), without);
    assert!(families_text(&store).ends_with("m 1\n"));
}

#[test]
fn inspections_past_the_memory_limit_are_reported() {
    let store = store_of(2000);
    push(&store, "a", "a 1\n");
    for n in 0..10 {
        push(&store, &format!("b{n}"), &format!("b{n} 1\n"));
    }
    inspect(&store);
    let marked = (0..10)
        .filter(|n| findings(&store, &format!("b{n}")).is_some())
        .count();
    assert!(marked > 0 && marked < 10, "{marked}");
    assert!(store.inspection().families.weight <= 2000);
}

#[test]
fn all_sections_are_inspected_after_a_queue_overflow() {
    let mut queue = InspectionQueue::default();
    assert!(queue.is_empty());
    for n in 0..=256 * 1024 {
        queue.note(&app(&n.to_string()), &mut Section::default());
    }
    assert!(!queue.is_empty());
    assert_eq!(queue.take(), None);
    assert!(queue.is_empty());
    let mut section = Section::default();
    queue.note(&app("a"), &mut section);
    queue.note(&app("a"), &mut section);
    queue.note(&SectionId::own(), &mut Section::default());
    assert_eq!(queue.take(), Some(vec![app("a")]));
}

#[derive(Debug, Clone)]
enum Step {
    /// An app's text: its families, and the number of samples in each.
    Push(u8, Vec<(u8, u8)>),
    Group(u8, Vec<(u8, u8)>),
    Remove(bool, u8),
    Read,
}

fn any_step() -> impl Strategy<Value = Step> {
    let families = || {
        vec(
            (0..40_u8, prop_oneof![9 => 1..4_u8, 1 => 200..250_u8]),
            0..8,
        )
    };
    prop_oneof![
        6 => (0..5_u8, families()).prop_map(|(app, families)| Step::Push(app, families)),
        3 => (0..3_u8, families()).prop_map(|(group, families)| Step::Group(group, families)),
        1 => (any::<bool>(), 0..3_u8).prop_map(|(group, n)| Step::Remove(group, n)),
        4 => Just(Step::Read),
    ]
}

/// The samples of each family, by name.
type Lines = BTreeMap<String, String>;

fn lines(owner: &str, families: &[(u8, u8)], write: usize) -> Lines {
    let families: BTreeMap<u8, u8> = families.iter().copied().collect();
    let families = families.into_iter().map(|(family, samples)| {
        let name = format!("family_{family:02}");
        let samples = (0..samples).map(|n| {
            format!(
                "{name}{{long=\"{}\",of=\"{owner}\",z=\"{n:03}\"}} {write}\n",
                "x".repeat(100)
            )
        });
        (name.clone(), samples.collect())
    });
    families.collect()
}

fn shown(sections: &[&BTreeMap<String, Lines>]) -> String {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for lines in sections.iter().flat_map(|sections| sections.values()) {
        for (name, samples) in lines {
            let family = families
                .entry(name)
                .or_insert_with(|| format!("# TYPE {name} gauge\n"));
            family.push_str(samples);
        }
    }
    families.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The merged output equals a plain map, and unchanged parts are not made again.
    #[test]
    fn texts_and_groups_merge_like_maps(steps in vec(any_step(), 1..30)) {
        let store = store_of(1 << 30);
        let (mut apps, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for (write, step) in steps.into_iter().chain([Step::Read]).enumerate() {
            let text_of = |lines: &Lines| {
                let families = lines.iter();
                let families = families.map(|(name, lines)| format!("# TYPE {name} gauge\n{lines}"));
                families.collect::<String>()
            };
            match step {
                Step::Push(n, families) => {
                    let name = format!("app{n}");
                    let lines = lines(&name, &families, write);
                    push(&store, &name, &text_of(&lines));
                    apps.insert(name, lines);
                }
                Step::Group(n, families) => {
                    let name = format!("group{n}");
                    let lines = lines(&name, &families, write);
                    group(&store, &name, &text_of(&lines));
                    groups.insert(name, lines);
                }
                Step::Remove(true, n) => {
                    remove(&store, SectionId::new(&format!("group{n}"), Producer::Group));
                    groups.remove(&format!("group{n}"));
                }
                Step::Remove(false, n) => {
                    remove(&store, app(&format!("app{n}")));
                    apps.remove(&format!("app{n}"));
                }
                Step::Read => {
                    let expected = shown(&[&groups, &apps]);
                    let text = families_text(&store);
                    prop_assert_eq!(&text, &expected);
                    prop_assert_eq!(store.inspection_totals().conflicts, 0);
                    let first = store.families_snapshot(false, Now::read());
                    let second = store.families_snapshot(false, Now::read());
                    prop_assert!(first.pages().iter().zip(second.pages()).all(|(a, b)| Arc::ptr_eq(a, b)));
                    let open = OutputFormat::OpenMetrics(Escaping::Underscores);
                    let open = String::from_utf8(first.in_format(open).text()).unwrap();
                    prop_assert!(Families::parse(&open, InputFormat::OpenMetrics, &TextLimits::default()).is_ok());
                }
            }
        }
    }
}

/// Texts over few names, of any kinds, some of them invalid.
fn any_text() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        Just("gauge"),
        Just("counter"),
        Just("summary"),
        Just("untyped")
    ];
    let name = prop_oneof![
        Just("a"),
        Just("a_sum"),
        Just("b"),
        Just("b_count"),
        Just("b")
    ];
    let family = (name, kind, 0..3_u8).prop_map(|(name, kind, label)| {
        let suffix = if kind == "summary" { "_sum" } else { "" };
        format!("# TYPE {name} {kind}\n{name}{suffix}{{l=\"{label}\"}} 1\n")
    });
    vec(
        prop_oneof![20 => family.boxed(), 1 => Just("bad{\n".to_owned()).boxed()],
        0..4,
    )
    .prop_map(|families| families.concat())
}

proptest! {
    /// With any conflicts, the merged output is valid and has everything that groups
    /// expose.
    #[test]
    fn a_merged_output_is_valid_with_any_clash(
        texts in vec((0..4_u8, any_text(), any::<bool>()), 1..12),
    ) {
        let store = store();
        for (n, text, to_group) in texts {
            let valid = Families::parse(&text, InputFormat::Text, &TextLimits::default()).is_ok();
            if to_group && valid {
                let options = CanonicalOptions {
                    limits: TextLimits::default(),
                    added: &[],
                    timestamps: TimestampPolicy::Keep,
                    hash: store.hasher(),
                };
                let families = canonicalize_as(&text, InputFormat::Text, &options).unwrap();
                let id = SectionId::new(&format!("g{n}"), Producer::Group);
                let write = Write::one(Change::Replace {
                    id,
                    content: Content::Families(families),
                    origin: Origin::default(),
                    lifetime: None,
                });
                // Groups that clash with each other are rejected.
                let _ = store.apply(write, Now::read());
            } else {
                push(&store, &format!("a{n}"), &text);
            }
            if n == 0 {
                inspect(&store);
            }
            let merged = families_text(&store);
            let parsed = Families::parse(&merged, InputFormat::Text, &TextLimits::default());
            prop_assert!(parsed.is_ok(), "{merged}\n{parsed:?}");
            let whole = String::from_utf8(store.snapshot().text()).unwrap();
            let end = whole.len() - (0..4).map(|n| store.text(&app(&format!("a{n}"))).len()).sum::<usize>();
            for line in whole[..end].lines() {
                prop_assert!(merged.lines().any(|it| it == line), "{line} is missing in {merged}");
            }
        }
    }
}
