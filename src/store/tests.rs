use std::time::Duration;

use super::*;
use crate::exposition::Text;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn replace(name: &str, kind: Kind, text: &str, lifetime: Option<Duration>) -> Change {
    Change::Replace {
        id: SectionId::new(name, kind),
        text: Text::new(text),
        origin: Origin::default(),
        lifetime,
    }
}

fn push(store: &Store, name: &str, text: &str, now: Now) {
    store
        .apply(Write::one(replace(name, Kind::App, text, None)), now)
        .unwrap();
}

fn fail(store: &Store, name: &str, kind: Kind, keep: Duration, now: Now) {
    let change = Change::Fail {
        id: SectionId::new(name, kind),
        origin: Origin::default(),
        problem: "it broke".to_owned(),
        keep: Some(keep),
    };
    store.apply(Write::one(change), now).unwrap();
}

fn text(store: &Store) -> String {
    let snapshot = store.snapshot();
    let len = snapshot.len();
    let text = String::from_utf8(snapshot.into_pieces().concat()).unwrap();
    assert_eq!(text.len(), len);
    text
}

#[test]
fn output_is_ordered_by_name_and_newest_wins() {
    let store = Store::new(10);
    let now = Now::read();
    push(&store, "b", "b 1", now);
    push(&store, "a", "a 1\n", now);
    push(&store, "b", "b 2", now);
    assert_eq!(text(&store), "a 1\nb 2\n");
    assert_eq!(
        store.totals(),
        Totals {
            apps: 2,
            targets: 0,
            bytes: 8
        }
    );
}

#[test]
fn a_snapshot_is_not_touched_by_later_writes() {
    let store = Store::new(10);
    let now = Now::read();
    push(&store, "a", "a 1", now);
    let before = store.snapshot();
    push(&store, "a", "a 2", now);
    push(&store, "b", "b 1", now);
    assert_eq!(before.into_pieces().concat(), b"a 1\n");
}

#[test]
fn an_app_and_a_target_of_one_name_do_not_replace_each_other() {
    let store = Store::new(10);
    let now = Now::read();
    let target = replace("x", Kind::Target, "from_target 1", None);
    store.apply(Write::one(target), now).unwrap();
    push(&store, "x", "from_app 1", now);
    assert_eq!(text(&store), "from_app 1\nfrom_target 1\n");
}

#[test]
fn a_write_past_the_bound_changes_nothing() {
    let store = Store::new(2);
    let now = Now::read();
    push(&store, "a", "a 1", now);
    let both = Write {
        changes: vec![
            replace("a", Kind::App, "a 2", None),
            replace("b", Kind::App, "b 1", None),
            replace("c", Kind::App, "c 1", None),
        ],
    };
    assert_eq!(
        store.apply(both, now),
        Err(Refused::TooManyApps {
            app: "b".to_owned(),
            limit: 2
        })
    );
    assert_eq!(text(&store), "a 1\n");

    // The same new name twice is one app, and known apps are always taken.
    let twice = Write {
        changes: vec![
            replace("b", Kind::App, "b 1", None),
            replace("b", Kind::App, "b 2", None),
        ],
    };
    store.apply(twice, now).unwrap();
    push(&store, "a", "a 3", now);
    assert_eq!(text(&store), "a 3\nb 2\n");
}

#[test]
fn an_app_is_forgotten_when_its_time_is_up() {
    let store = Store::new(10);
    let start = Now::read();
    let write = |text, at| {
        let change = replace("a", Kind::App, text, Some(HOUR));
        store.apply(Write::one(change), at).unwrap();
    };
    write("a 1", start);
    push(&store, "for_ever", "f 1", start);
    write("a 2", start.after(HOUR - MINUTE));

    assert_eq!(store.expire(start.after(HOUR)), []);
    assert_eq!(text(&store), "a 2\nf 1\n");
    let due = start.after(HOUR - MINUTE + HOUR);
    assert_eq!(store.expire(due), [SectionId::new("a", Kind::App)]);
    assert_eq!(text(&store), "f 1\n");
    assert_eq!(
        store.totals(),
        Totals {
            apps: 1,
            targets: 0,
            bytes: 4
        }
    );
    assert!(store.section("a").is_none());
    assert_eq!(store.expire(due.after(100 * HOUR)), []);
}

#[test]
fn a_failing_target_keeps_its_text_for_a_while_after_the_first_failure() {
    let store = Store::new(10);
    let start = Now::read();
    let succeed = |at| {
        let change = replace("t", Kind::Target, "t 1", None);
        store.apply(Write::one(change), at).unwrap();
    };
    let state = || store.section("t").unwrap().1.state;

    fail(&store, "t", Kind::Target, HOUR, start);
    assert_eq!(state(), State::Pending);
    succeed(start);
    assert_eq!(state(), State::Fresh);

    fail(&store, "t", Kind::Target, HOUR, start.after(MINUTE));
    fail(&store, "t", Kind::Target, HOUR, start.after(10 * MINUTE));
    assert_eq!(state(), State::Stale);
    assert_eq!(store.expire(start.after(HOUR)), []);
    assert_eq!(text(&store), "t 1\n");

    assert_eq!(store.expire(start.after(HOUR + MINUTE)).len(), 1);
    assert_eq!(state(), State::Withdrawn);
    assert_eq!(text(&store), "");
    fail(
        &store,
        "t",
        Kind::Target,
        HOUR,
        start.after(HOUR + 2 * MINUTE),
    );
    assert_eq!(state(), State::Withdrawn);

    // It comes back, and a success in between takes the deadline away.
    succeed(start.after(2 * HOUR));
    assert_eq!(state(), State::Fresh);
    fail(&store, "t", Kind::Target, HOUR, start.after(2 * HOUR));
    succeed(start.after(2 * HOUR + MINUTE));
    assert_eq!(store.expire(start.after(9 * HOUR)), []);
    assert_eq!(text(&store), "t 1\n");
    let (_, section) = store.section("t").unwrap();
    assert_eq!(section.problem.unwrap().reason, "it broke");
}

#[test]
fn a_bad_push_makes_no_app() {
    let store = Store::new(10);
    fail(&store, "a", Kind::App, HOUR, Now::read());
    assert!(store.section("a").is_none());
}

#[test]
fn the_queue_of_deadlines_does_not_grow_with_writes() {
    let store = Store::new(10);
    let start = Now::read();
    for second in 0..1000 {
        let at = start.after(Duration::from_secs(second));
        let change = replace("a", Kind::App, "a 1", Some(HOUR));
        store.apply(Write::one(change), at).unwrap();
        store
            .apply(Write::one(replace("t", Kind::Target, "t 1", None)), at)
            .unwrap();
        fail(&store, "t", Kind::Target, HOUR, at);
    }
    assert_eq!(store.read().deadlines.len(), 2);
}
