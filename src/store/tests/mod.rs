use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Now;
use crate::exposition::{Content, Escaping, FamilyText, Kind, OpenMetricsHead, OutputFormat, Text};
use crate::peer::Origin;
use crate::registry;
use crate::store::limits::StoreLimits;
use crate::store::rejection::Rejection;
use crate::store::sections::listing::StoreTotals;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};

mod names;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn replace(name: &str, producer: Producer, text: &str, lifetime: Option<Duration>) -> Change {
    Change::Replace {
        id: SectionId::new(name, producer),
        content: Content::Verbatim(Text::new(text)),
        origin: Origin::default(),
        lifetime,
    }
}

fn push(store: &Store, name: &str, text: &str, now: Now) {
    store
        .apply(Write::one(replace(name, Producer::App, text, None)), now)
        .unwrap();
}

fn fail(store: &Store, name: &str, producer: Producer, keep: Duration, now: Now) {
    let change = Change::Fail {
        id: SectionId::new(name, producer),
        origin: Origin::default(),
        problem: "it broke".to_owned(),
        keep: Some(keep),
    };
    store.apply(Write::one(change), now).unwrap();
}

fn text(store: &Store) -> String {
    let snapshot = store.snapshot();
    let text = String::from_utf8(snapshot.text()).unwrap();
    assert_eq!(text.len(), snapshot.len());
    text
}

fn store(apps: usize) -> Store {
    let limits = StoreLimits {
        apps,
        groups: 3,
        bytes: 1 << 20,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

/// The counts with this many apps, all of them fresh.
fn fresh_apps(count: usize) -> StateCounts {
    let mut counts = StateCounts::default();
    let id = SectionId::new("", Producer::App);
    (0..count).for_each(|_| counts.add(&id, SectionState::Fresh));
    counts
}

#[test]
fn output_is_ordered_by_name_and_the_newest_text_wins() {
    let store = store(10);
    let now = Now::read();
    push(&store, "b", "b 1", now);
    push(&store, "a", "a 1\n", now);
    push(&store, "b", "b 2", now);
    assert_eq!(text(&store), "a 1\nb 2\n");
    assert_eq!(
        store.totals(),
        StoreTotals {
            apps: 2,
            groups: 0,
            states: fresh_apps(2),
            bytes: 8,
            held: 8,
            series: 0,
        }
    );
}

#[test]
fn later_writes_do_not_change_a_snapshot() {
    let store = store(10);
    let now = Now::read();
    push(&store, "a", "a 1", now);
    let before = store.snapshot();
    push(&store, "a", "a 2", now);
    push(&store, "b", "b 1", now);
    assert_eq!(before.text(), b"a 1\n");
}

#[test]
fn an_app_and_a_target_of_one_name_are_two_sections() {
    let store = store(10);
    let now = Now::read();
    let target = replace("x", Producer::Target, "from_target 1", None);
    store.apply(Write::one(target), now).unwrap();
    push(&store, "x", "from_app 1", now);
    assert_eq!(text(&store), "from_app 1\nfrom_target 1\n");
}

#[test]
fn a_write_past_the_limit_changes_nothing() {
    let store = store(2);
    let now = Now::read();
    push(&store, "a", "a 1", now);
    let both = Write {
        changes: vec![
            replace("a", Producer::App, "a 2", None),
            replace("b", Producer::App, "b 1", None),
            replace("c", Producer::App, "c 1", None),
        ],
    };
    assert_eq!(
        store.apply(both, now),
        Err(Rejection::TooManyApps {
            section: SectionId::new("b", Producer::App),
            new: 2,
            limit: 2
        })
    );
    assert_eq!(text(&store), "a 1\n");

    // The same new name twice counts as one app, and known apps are always accepted.
    let twice = Write {
        changes: vec![
            replace("b", Producer::App, "b 1", None),
            replace("b", Producer::App, "b 2", None),
        ],
    };
    store.apply(twice, now).unwrap();
    push(&store, "a", "a 3", now);
    assert_eq!(text(&store), "a 3\nb 2\n");
}

#[test]
fn an_app_is_removed_after_its_lifetime() {
    let store = store(10);
    let start = Now::read();
    let write = |text, at| {
        let change = replace("a", Producer::App, text, Some(HOUR));
        store.apply(Write::one(change), at).unwrap();
    };
    write("a 1", start);
    push(&store, "for_ever", "f 1", start);
    write("a 2", start.after(HOUR - MINUTE));

    assert_eq!(store.expire(start.after(HOUR)), []);
    assert_eq!(text(&store), "a 2\nf 1\n");
    let due = start.after(HOUR - MINUTE + HOUR);
    assert_eq!(store.expire(due), [SectionId::new("a", Producer::App)]);
    assert_eq!(text(&store), "f 1\n");
    assert_eq!(
        store.totals(),
        StoreTotals {
            apps: 1,
            groups: 0,
            states: fresh_apps(1),
            bytes: 4,
            held: 4,
            series: 0,
        }
    );
    assert!(store.section("a").is_none());
    assert_eq!(store.expire(due.after(100 * HOUR)), []);
}

#[test]
fn a_failing_target_keeps_its_text_for_a_limited_time() {
    let store = store(10);
    let start = Now::read();
    let succeed = |at| {
        let change = replace("t", Producer::Target, "t 1", None);
        store.apply(Write::one(change), at).unwrap();
    };
    let state = || store.section("t").unwrap().1.state;

    let expect = Change::Expect {
        id: SectionId::new("t", Producer::Target),
        origin: Origin::default(),
        url: Arc::from("http://t/"),
    };
    store.apply(Write::one(expect), start).unwrap();
    assert_eq!(state(), SectionState::Waiting);
    fail(&store, "t", Producer::Target, HOUR, start);
    assert_eq!(state(), SectionState::Failing);
    succeed(start);
    assert_eq!(state(), SectionState::Fresh);

    fail(&store, "t", Producer::Target, HOUR, start.after(MINUTE));
    fail(
        &store,
        "t",
        Producer::Target,
        HOUR,
        start.after(10 * MINUTE),
    );
    assert_eq!(state(), SectionState::Stale);
    assert_eq!(store.expire(start.after(HOUR)), []);
    assert_eq!(text(&store), "t 1\n");

    assert_eq!(store.expire(start.after(HOUR + MINUTE)).len(), 1);
    assert_eq!(state(), SectionState::Withdrawn);
    assert_eq!(text(&store), "");
    fail(
        &store,
        "t",
        Producer::Target,
        HOUR,
        start.after(HOUR + 2 * MINUTE),
    );
    assert_eq!(state(), SectionState::Withdrawn);

    // It returns, and a success clears the deadline.
    succeed(start.after(2 * HOUR));
    assert_eq!(state(), SectionState::Fresh);
    fail(&store, "t", Producer::Target, HOUR, start.after(2 * HOUR));
    succeed(start.after(2 * HOUR + MINUTE));
    assert_eq!(store.expire(start.after(9 * HOUR)), []);
    assert_eq!(text(&store), "t 1\n");
    let (_, section) = store.section("t").unwrap();
    assert_eq!(section.problem.unwrap().reason, "it broke");
}

#[test]
fn a_rejected_push_adds_no_app() {
    let store = store(10);
    fail(&store, "a", Producer::App, HOUR, Now::read());
    assert!(store.section("a").is_none());
}

#[test]
fn the_queue_of_deadlines_does_not_grow_with_writes() {
    let store = store(10);
    let start = Now::read();
    for second in 0..1000 {
        let at = start.after(Duration::from_secs(second));
        let change = replace("a", Producer::App, "a 1", Some(HOUR));
        store.apply(Write::one(change), at).unwrap();
        store
            .apply(Write::one(replace("t", Producer::Target, "t 1", None)), at)
            .unwrap();
        fail(&store, "t", Producer::Target, HOUR, at);
    }
    assert_eq!(store.read().deadlines(), 2);
}

/// A family of samples `name{labels} value`, each a series of its own.
fn family(name: &str, kind: Kind, samples: &[&str]) -> FamilyText {
    let hash = |sample: &&str| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        sample.rsplit_once(' ').unwrap().0.hash(&mut hasher);
        hasher.finish()
    };
    FamilyText {
        name: name.into(),
        kind,
        help: None,
        line: 7,
        samples: Text::new(&samples.join("\n")),
        series: samples.iter().map(hash).collect::<Vec<_>>().into(),
        natives: Vec::new(),
        open: None,
    }
}

fn families(name: &str, families: Vec<FamilyText>) -> Change {
    Change::Replace {
        id: SectionId::new(name, Producer::App),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: None,
    }
}

#[test]
fn families_of_several_sections_share_one_head() {
    let store = store(10);
    let now = Now::read();
    let b = families("b", vec![family("m", Kind::Gauge, &["m{x=\"b\"} 1"])]);
    let a = families(
        "a",
        vec![
            family("n_total", Kind::Counter, &["n_total 5"]),
            family("m", Kind::Gauge, &["m{x=\"a\"} 1", "m{x=\"aa\"} 2"]),
        ],
    );
    store
        .apply(
            Write {
                changes: vec![b, a],
            },
            now,
        )
        .unwrap();
    let together = "# TYPE m gauge\nm{x=\"a\"} 1\nm{x=\"aa\"} 2\nm{x=\"b\"} 1\n\
                    # TYPE n_total counter\nn_total 5\n";
    assert_eq!(text(&store), together);
    let id = SectionId::new("a", Producer::App);
    assert_eq!(
        store.text(&id).bytes(),
        "# TYPE m gauge\nm{x=\"a\"} 1\nm{x=\"aa\"} 2\n# TYPE n_total counter\nn_total 5\n"
    );

    // The samples that a section no longer exposes are removed, and with the last ones
    // the head.
    let rest = families("a", vec![family("m", Kind::Gauge, &["m{x=\"aa\"} 3"])]);
    store.apply(Write::one(rest), now).unwrap();
    assert_eq!(
        text(&store),
        "# TYPE m gauge\nm{x=\"aa\"} 3\nm{x=\"b\"} 1\n"
    );
    for app in ["a", "b"] {
        store
            .apply(Write::one(families(app, Vec::new())), now)
            .unwrap();
    }
    assert_eq!(text(&store), "");
    assert!(!store.read().families().is_exposed("m"));
    assert_eq!(store.read().families().series(), 0);
}

#[test]
fn clashes_with_another_section_are_rejected_and_change_nothing() {
    let store = store(10);
    let now = Now::read();
    let first = vec![
        family("m", Kind::Gauge, &["m{x=\"a\"} 1"]),
        family("h", Kind::Histogram, &["h_sum 1", "h_count 1"]),
        family("s_sum", Kind::Gauge, &["s_sum 1"]),
    ];
    store.apply(Write::one(families("a", first)), now).unwrap();
    let before = text(&store);

    let refused = |bad: FamilyText| {
        let fine = family("fine", Kind::Gauge, &["fine 1"]);
        let write = Write::one(families("b", vec![fine, bad]));
        let refused = store.apply(write, now).unwrap_err();
        assert_eq!(text(&store), before);
        assert!(store.section("b").is_none());
        refused.to_string()
    };
    let kind = refused(family("m", Kind::Counter, &["m{x=\"b\"} 1"]));
    assert_eq!(
        kind,
        "app \"b\", line 7: family m is a counter here, and a gauge in app \"a\""
    );
    let duplicate = refused(family("m", Kind::Gauge, &["m 1", "m{x=\"a\"} 9"]));
    assert!(
        duplicate.contains("family at line 7: series m{x=\"a\"} is exposed"),
        "{duplicate}"
    );
    let inside = refused(family("h_sum", Kind::Gauge, &["h_sum{x=\"b\"} 1"]));
    assert!(
        inside.contains("h_sum cannot be exposed beside family h"),
        "{inside}"
    );
    let around = refused(family("s", Kind::Summary, &["s_count 1"]));
    assert!(
        around.contains("s cannot be exposed beside family s_sum"),
        "{around}"
    );

    // The changes of one write are checked against each other.
    let one = families("b", vec![family("k", Kind::Gauge, &["k 1"])]);
    let two = families("c", vec![family("k", Kind::Gauge, &["k 2"])]);
    let write = Write {
        changes: vec![one, two],
    };
    assert!(matches!(
        store.apply(write, now),
        Err(Rejection::DuplicateSeries { .. })
    ));
    assert_eq!(text(&store), before);
}

#[test]
fn a_section_may_change_families_that_only_it_exposes() {
    let store = store(10);
    let now = Now::read();
    let push =
        |app: &str, family: FamilyText| store.apply(Write::one(families(app, vec![family])), now);
    push("a", family("m", Kind::Gauge, &["m{x=\"a\"} 1"])).unwrap();
    push("a", family("m", Kind::Counter, &["m{x=\"a\"} 1"])).unwrap();
    assert_eq!(text(&store), "# TYPE m counter\nm{x=\"a\"} 1\n");
    push("b", family("m", Kind::Counter, &["m{x=\"b\"} 1"])).unwrap();
    assert!(push("a", family("m", Kind::Gauge, &["m{x=\"a\"} 1"])).is_err());

    // In one write they may, and may even exchange their series.
    let a = families("a", vec![family("m", Kind::Gauge, &["m{x=\"b\"} 1"])]);
    let b = families("b", vec![family("m", Kind::Gauge, &["m{x=\"a\"} 1"])]);
    store
        .apply(
            Write {
                changes: vec![a, b],
            },
            now,
        )
        .unwrap();
    assert_eq!(text(&store), "# TYPE m gauge\nm{x=\"b\"} 1\nm{x=\"a\"} 1\n");
    assert_eq!(store.read().families().series(), 2);
    assert!(push("c", family("m", Kind::Gauge, &["m{x=\"a\"} 1"])).is_err());
}

#[test]
fn memory_for_text_is_bounded() {
    let store = store(10);
    let now = Now::read();
    let half = "x".repeat(600 << 10);
    push(&store, "a", &half, now);
    let change = replace("b", Producer::App, &half, None);
    let refused = store.apply(Write::one(change), now).unwrap_err();
    assert!(
        matches!(refused, Rejection::TooManyBytes { .. }),
        "{refused}"
    );
    assert_eq!(store.totals().bytes, half.len() + 1);
    push(&store, "a", &half, now);
    push(&store, "b", "b 1", now);
}

#[test]
fn update_times_are_exposed_as_a_family() {
    let limits = StoreLimits {
        apps: 10,
        groups: 3,
        bytes: 1 << 20,
        registry: registry::RegistryLimits::default(),
    };
    let store = Store::new(limits, true);
    let now = Now::read();
    let lifetime = Some(HOUR);
    store
        .apply(
            Write::one(replace("a\"", Producer::App, "m 1", lifetime)),
            now,
        )
        .unwrap();
    store
        .apply(Write::one(replace("t", Producer::Target, "n 1", None)), now)
        .unwrap();
    let millis = now.unix_millis();
    let sample = format!(
        "exporter_proxy_app_last_update_timestamp_seconds{{app=\"a\\\"\"}} {}.{:03}\n",
        millis / 1000,
        millis % 1000
    );
    let out = text(&store);
    assert!(out.contains(&sample), "{out}");
    assert!(out.ends_with("\nm 1\nn 1\n"), "{out}");
    store.expire(now.after(HOUR));
    assert!(!text(&store).contains(&sample));
}

#[test]
fn the_last_text_for_a_section_in_a_write_wins() {
    let store = store(10);
    let now = Now::read();
    let other = families("c", vec![family("x", Kind::Gauge, &["x 1"])]);
    store.apply(Write::one(other), now).unwrap();
    let write = Write {
        changes: vec![
            families("a", vec![family("x", Kind::Counter, &["x 5"])]),
            families("a", vec![family("y", Kind::Gauge, &["y 1"])]),
        ],
    };
    store.apply(write, now).unwrap();
    assert_eq!(text(&store), "# TYPE x gauge\nx 1\n# TYPE y gauge\ny 1\n");
    let late = families("d", vec![family("x", Kind::Gauge, &["x 7"])]);
    assert!(store.apply(Write::one(late), now).is_err());
}

#[test]
fn names_equal_in_the_legacy_character_set_clash() {
    let store = store(10);
    let now = Now::read();
    let plain = families("a", vec![family("my_m", Kind::Gauge, &["my_m 1"])]);
    store.apply(Write::one(plain), now).unwrap();
    let dotted = families("b", vec![family("my.m", Kind::Gauge, &["{\"my.m\"} 1"])]);
    let refused = store.apply(Write::one(dotted), now).unwrap_err();
    assert!(
        matches!(refused, Rejection::NameCollision { .. }),
        "{refused}"
    );
}

#[test]
fn a_help_text_changes_with_its_only_section() {
    let store = store(10);
    let now = Now::read();
    let push = |app: &str, help: Option<&str>| {
        let mut family = family("m", Kind::Gauge, &[&format!("m{{x=\"{app}\"}} 1")]);
        family.help = help.map(str::to_owned);
        store
            .apply(Write::one(families(app, vec![family])), now)
            .unwrap();
        text(&store).lines().next().unwrap().to_owned()
    };
    assert_eq!(push("a", None), "# TYPE m gauge");
    assert_eq!(push("b", Some("first")), "# HELP m first");
    assert_eq!(push("a", Some("other")), "# HELP m first");
    store
        .apply(Write::one(families("b", Vec::new())), now)
        .unwrap();
    assert_eq!(push("a", Some("newest")), "# HELP m newest");
    assert_eq!(push("a", None), "# TYPE m gauge");
}

#[test]
fn help_texts_and_families_count_as_memory() {
    let store = store(10);
    let now = Now::read();
    let mut long = family("m", Kind::Gauge, &["m 1"]);
    long.help = Some("x".repeat(1 << 20));
    let refused = store.apply(Write::one(families("a", vec![long])), now);
    assert!(matches!(refused, Err(Rejection::TooManyBytes { .. })));
    let many = (0..5000).map(|n| family(&format!("m{n}"), Kind::Gauge, &[&format!("m{n} 1")]));
    let refused = store.apply(Write::one(families("a", many.collect())), now);
    assert!(matches!(refused, Err(Rejection::TooManyBytes { .. })));
}

#[test]
fn only_text_to_convert_counts_as_pending() {
    let store = store(2);
    let one = families("a", vec![family("a", Kind::Gauge, &["a 1"])]);
    store.apply(Write::one(one), Now::read()).unwrap();
    push(&store, "verbatim", "b 1", Now::read());
    let all = "# TYPE a gauge\na 1\nb 1\n";
    assert_eq!(store.snapshot().pending_bytes(false), 0);
    let snapshot = store.snapshot().in_format(OutputFormat::UNDERSCORES);
    assert_eq!(snapshot.pending_bytes(false), all.len() - "b 1\n".len());
    snapshot.render_some(false);
    assert_eq!(snapshot.pending_bytes(false), 0);
    assert_eq!(snapshot.text(), all.as_bytes());
}
