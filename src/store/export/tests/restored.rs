use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn app(name: &str) -> SectionId {
    SectionId::new(name, Producer::App)
}

fn group(name: &str) -> SectionId {
    SectionId::new(name, Producer::Group)
}

fn push(store: &Store, id: SectionId, text: &str, lifetime: Option<Duration>, now: Now) {
    let families = Content::Families(parsed(store, text));
    store.apply(replace(id, families, lifetime), now).unwrap();
}

fn add(family: &str, label: &str, ttl: Option<Duration>) -> Batch {
    let mut added = update(family, Kind::Counter, label, Op::Add(1.0));
    added.ttl = ttl;
    batch(vec![added])
}

fn text(store: &Store) -> String {
    let text = String::from_utf8(store.snapshot().text()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    let lines = lines.filter(|line| !line.starts_with("exporter_proxy_app_last_update"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn keys(records: &Records) -> Vec<String> {
    let keys = records.keys();
    keys.map(|key| String::from_utf8_lossy(key).into_owned())
        .collect()
}

#[test]
fn nothing_is_noted_unless_changes_are_tracked() {
    let store = Store::new(LIMITS, true);
    let now = start();
    push(&store, app("a"), "m 1\n", None, now);
    store.operate(add("c", "1", None), now).unwrap();
    assert_eq!(store.take_changes(now).len(), 0);
    store.note_everything();
    assert_eq!(store.take_changes(now).len(), 0);
    // Earlier state counts as changed.
    store.track_changes();
    let changes = store.take_changes(now);
    assert!(changes.is_full());
    assert_eq!(changes.len(), 6);
    let changes = store.take_changes(now);
    assert_eq!((changes.is_full(), changes.len()), (false, 0));
}

#[test]
fn targets_and_own_metrics_are_not_kept() {
    let store = store();
    let now = start();
    let target = SectionId::new("t", Producer::Target);
    push(&store, target.clone(), "t 1\n", None, now);
    push(&store, SectionId::own(), "exporter_proxy_up 1\n", None, now);
    let mut kept = Records::new();
    take(&store, now, &mut kept);
    assert_eq!(keys(&kept), Vec::<String>::new());
    assert_eq!(everything(&store, now), kept);
    // A family is kept as long as an app or a group has it.
    push(&store, app("a"), "t{a=\"b\"} 1\n", None, now);
    take(&store, now, &mut kept);
    assert_eq!(keys(&kept), ["family/t", "section/app/a"]);
    push(&store, app("a"), "", None, now);
    take(&store, now, &mut kept);
    assert_eq!(keys(&kept), ["section/app/a"]);
}

#[test]
fn a_lifetime_continues_while_the_program_does_not_run() {
    let store = store();
    let now = start();
    push(&store, app("a"), "a 1\n", Some(10 * SECOND), now);
    push(&store, app("b"), "b 1\n", Some(20 * SECOND), now);
    let mut ops = add("c", "1", Some(10 * SECOND));
    ops.updates.extend(add("c", "2", Some(20 * SECOND)).updates);
    ops.updates.extend(add("d", "1", Some(10 * SECOND)).updates);
    store.operate(ops, now).unwrap();
    let mut kept = Records::new();
    take(&store, now, &mut kept);

    let later = now.after(15 * SECOND);
    let (other, restored) = restored(&kept, later);
    assert_eq!(text(&other), "b 1\nc{l=\"2\"} 1\n");
    let expired = (restored.expired_sections, restored.expired_series);
    assert_eq!(
        (restored.sections, restored.series, expired),
        (1, 1, (1, 2))
    );
    // The only changes to store are removals.
    let changes: Vec<Record> = other.take_changes(later).collect();
    let names: Vec<String> = changes
        .iter()
        .map(|record| {
            let key = String::from_utf8_lossy(&record.key);
            let gone = if record.value.is_none() { "-" } else { "+" };
            format!("{gone}{key}")
        })
        .collect();
    let expected = [
        "+part/0/clock",
        "-family/a",
        "-family/d",
        "-section/app/a",
        "-part/0/d/head",
        "+part/0/c/00000000",
        "-part/0/d/00000000",
    ];
    assert_eq!(names, expected);
    let end = now.after(20 * SECOND);
    assert_eq!(other.expire(end), [app("b")]);
    assert_eq!(other.expire_series(end), 1);
    assert_eq!(text(&other), "");
}

#[test]
fn setting_back_the_wall_clock_makes_no_lifetime_longer() {
    let store = store();
    let now = start();
    push(&store, app("a"), "a 1\n", Some(10 * SECOND), now);
    store
        .operate(add("c", "1", Some(10 * SECOND)), now)
        .unwrap();
    let mut kept = Records::new();
    take(&store, now.after(3 * SECOND), &mut kept);
    let back = Now {
        wall: SystemTime::UNIX_EPOCH + SECOND,
        tick: now.tick,
    };
    let (other, restored) = restored(&kept, back);
    assert_eq!((restored.sections, restored.series), (1, 1));
    assert_eq!(other.expire_series(back.after(6 * SECOND)), 0);
    assert_eq!(other.expire_series(back.after(7 * SECOND)), 1);
    assert!(other.expire(back.after(9 * SECOND)).is_empty());
    assert_eq!(other.expire(back.after(10 * SECOND)).len(), 1);
}

#[test]
fn lowered_limits_reject_only_what_comes_later() {
    let now = start();
    let source = store();
    for name in ["a", "b", "c"] {
        push(
            &source,
            group(name),
            &format!("m{{g=\"{name}\"}} 1\n"),
            None,
            now,
        );
        source.operate(add("c", name, None), now).unwrap();
    }
    let kept = everything(&source, now);
    let limits = StoreLimits {
        groups: 2,
        registry: RegistryLimits {
            series: 2,
            ..LIMITS.registry
        },
        ..LIMITS
    };
    let store = Store::new(limits, true);
    let restored = store.restore(records(&kept), now).unwrap();
    assert_eq!((restored.sections, restored.series), (3, 3));
    let [groups, series] = &restored.exceeded[..] else {
        panic!("{:?}", restored.exceeded);
    };
    assert_eq!(
        groups,
        "3 groups are stored, and the limit is 2 (push.max_groups): new ones are rejected until \
         there are fewer"
    );
    assert!(series.contains("push.max_series"), "{series}");
    assert_eq!(seen(&store, now), seen(&source, now));
    let new = Content::Families(parsed(&store, "m{g=\"d\"} 1\n"));
    assert!(store.apply(replace(group("d"), new, None), now).is_err());
    assert!(store.operate(add("c", "d", None), now).is_err());
    push(&store, group("a"), "m{g=\"a\"} 2\n", None, now);
    store.operate(add("c", "a", None), now).unwrap();
}

#[test]
fn families_with_names_that_are_reserved_now_are_left_out() {
    let now = start();
    let source = Store::new(LIMITS, false);
    source.track_changes();
    push(&source, group("a"), "m 1\nexporter_proxy_a 1\n", None, now);
    source
        .operate(add("exporter_proxy_b", "1", None), now)
        .unwrap();
    source.operate(add("b", "1", None), now).unwrap();
    let mut kept = Records::new();
    take(&source, now, &mut kept);
    let (store, restored) = restored(&kept, now);
    assert_eq!(text(&store), "b{l=\"1\"} 1\nm 1\n");
    assert_eq!(
        restored.skips,
        [
            "group a: family exporter_proxy_a has a reserved name",
            "family exporter_proxy_b has a reserved name"
        ]
    );
    assert_eq!(
        (restored.skipped, restored.sections, restored.series),
        (2, 1, 1)
    );
    take(&store, now, &mut kept);
    assert_eq!(timeless(&kept), timeless(&everything(&store, now)));
}

#[test]
fn sections_and_families_that_clash_are_left_out() {
    let now = start();
    let (one, two) = (store(), store());
    push(&one, group("a"), "m{x=\"1\"} 1\n", None, now);
    push(&two, group("b"), "m{x=\"1\"} 1\n", None, now);
    two.operate(add("m_x", "1", None), now).unwrap();
    push(&one, group("c"), "m_x 1\n", None, now);
    let mut kept = everything(&one, now);
    kept.append(&mut everything(&two, now));
    let (store, restored) = restored(&kept, now);
    assert_eq!(text(&store), "m{x=\"1\"} 1\nm_x 1\n");
    assert_eq!(
        restored.skips,
        [
            "group b: series m{x=\"1\"} is exposed elsewhere already",
            "family m_x is a counter here, and untyped elsewhere"
        ]
    );
    take(&store, now, &mut kept);
    assert_eq!(timeless(&kept), timeless(&everything(&store, now)));
}

#[test]
fn records_that_cannot_be_restored_are_errors() {
    let now = start();
    let source = store();
    push(&source, app("a"), "m 1\n", None, now);
    source.operate(add("c", "1", None), now).unwrap();
    let kept = everything(&source, now);
    let changed = |change: &dyn Fn(&mut Records)| {
        let mut kept = kept.clone();
        change(&mut kept);
        let restored = store().restore(records(&kept), now);
        restored.map_err(|error| error.to_string())
    };
    let with = |key: &str, value: &[u8]| {
        let (key, value) = (key.as_bytes().to_vec(), value.to_vec());
        changed(&|kept| drop(kept.insert(key.clone(), value.clone())))
    };
    let without = |key: &str| changed(&|kept| drop(kept.remove(key.as_bytes())));
    assert_eq!(
        with("section/app/a", &[2]).unwrap_err(),
        "record \"section/app/a\": it has format 2, and this program reads formats up to 1: use \
         a newer program"
    );
    let damaged = with("section/app/a", &[1, 9]).unwrap_err();
    assert!(
        damaged.starts_with("record \"section/app/a\": it is damaged: "),
        "{damaged}"
    );
    assert_eq!(
        with("section/other/a", &[1]).unwrap_err(),
        "record \"section/other/a\": its key is not one that this program writes"
    );
    let missing = |key: &str| format!("there are aggregated series, but record {key:?} is missing");
    assert_eq!(
        without("part/0/clock").unwrap_err(),
        missing("part/0/clock")
    );
    assert_eq!(
        without("part/0/c/head").unwrap_err(),
        missing("part/0/c/head")
    );
    let block = kept[&b"part/0/c/00000000"[..]].clone();
    assert_eq!(
        with("part/0/c/00000007", &block).unwrap_err(),
        "series c{l=\"1\"} is stored twice"
    );
    let number = with("part/0/c/0fffffff", &block).unwrap_err();
    assert!(number.contains("push.max_series_per_family"), "{number}");
    assert!(source.restore(records(&kept), now) == Err(RestoreError::NotEmpty));
    // Records of others, and removals, are ignored. A missing head costs the help.
    assert!(with("meta", b"x").is_ok() && without("family/m").is_ok());
    let removal = [Record::removed("section/app/a")];
    assert_eq!(store().restore(removal, now).unwrap().sections, 0);
}

#[test]
fn records_that_could_not_be_written_are_returned_again() {
    let store = store();
    let now = start();
    push(&store, app("a"), "m 1\n", None, now);
    store.operate(add("c", "1", None), now).unwrap();
    let lost: Vec<Record> = store.take_changes(now).collect();
    store.operate(add("c", "1", None), now).unwrap();
    let remove = Change::Remove {
        id: app("a"),
        unless_since: None,
    };
    store.apply(Write::one(remove), now).unwrap();
    let keys = lost.iter().map(|record| &*record.key);
    store.note_again(keys.chain([&b"meta"[..]]));
    let mut kept = Records::new();
    take(&store, now, &mut kept);
    assert_eq!(kept, everything(&store, now));
}

#[test]
fn values_are_the_same_as_json() {
    let store = store();
    let now = start();
    push(
        &store,
        app("a"),
        "# HELP m \"h\"\n# TYPE m gauge\nm{x=\"é\\n\"} NaN\n",
        None,
        now,
    );
    let set = update("g", Kind::Gauge, "1", Op::Set(f64::NEG_INFINITY));
    store.operate(batch(vec![set]), now).unwrap();
    let kept = everything(&store, now);
    assert_eq!(kept.len(), 6);
    for (key, value) in &kept {
        let key = RecordKey::decode(key).unwrap();
        let stored = Stored::decode(&key, value).unwrap();
        let json = serde_json::to_string(&stored).unwrap();
        let back: Stored<'_> = serde_json::from_str(&json).unwrap();
        assert!(back.fits(&key));
        assert_eq!(&back.encode(), value, "{json}");
    }
}

/// The changes that are taken while others write, and a last time, make all records.
#[test]
fn changes_are_taken_while_others_write() {
    let store = store();
    let now = start();
    let over = AtomicBool::new(false);
    let mut kept = Records::new();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..300 {
                        let id = group(&format!("{writer}-{}", round % 17));
                        let text =
                            format!("m{}{{w=\"{writer}-{}\"}} {round}\n", round % 5, round % 17);
                        match round % 7 {
                            0 => {
                                let remove = Change::Remove {
                                    id,
                                    unless_since: None,
                                };
                                store.apply(Write::one(remove), now).unwrap();
                            }
                            1 => {
                                let families = Content::Families(parsed(store, &text));
                                let _turn = store.turn();
                                store.apply_large(replace(id, families, None), now).unwrap();
                            }
                            _ => push(store, id, &text, None, now),
                        }
                        let label = format!("{writer}-{}", round % 90);
                        let change = match round % 4 {
                            0 => Op::Delete,
                            _ => Op::Add(1.0),
                        };
                        let changed = update("ops", Kind::Counter, &label, change);
                        store.operate(batch(vec![changed]), now).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                take(&store, now, &mut kept);
                // At any moment they are those of one state of the store.
                let (_, restored) = restored(&kept, now);
                assert_eq!(restored.skipped, 0, "{:?}", restored.skips);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    take(&store, now, &mut kept);
    assert_eq!(timeless(&kept), timeless(&everything(&store, now)));
    let (other, _) = restored(&kept, now);
    assert_eq!(seen(&other, now), seen(&store, now));
}
