use super::*;
use crate::clock::Now;
use crate::exposition::{Kind, LabelText};
use crate::registry::{self, Batch, Change, Update};
use crate::store::aggregated::pending::PendingBlocks;
use crate::store::limits::StoreLimits;
use crate::store::store::Store;

fn store() -> Store {
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

fn change(store: &Store, family: &str, n: usize, change: Change) {
    let n = n.to_string();
    let update = Update {
        family: Arc::from(family),
        kind: Kind::Gauge,
        help: None,
        labels: LabelText::from_plain([("n", &*n)]).unwrap(),
        ttl: None,
        change,
    };
    let batch = Batch {
        updates: vec![update],
        ..Batch::default()
    };
    store.operate(batch, Now::read()).unwrap();
}

fn text(store: &Store) -> String {
    let text = String::from_utf8(store.snapshot().text()).unwrap();
    let flush = store.rendering.lock().unwrap();
    assert!(flush.taken.is_empty() && flush.gone.is_empty());
    text
}

/// A store with two families of several blocks, after a first snapshot.
fn shown() -> Store {
    let store = store();
    for family in ["a", "b"] {
        for n in 0..100 {
            change(&store, family, n, Change::Set(1.0));
        }
    }
    text(&store);
    store
}

#[test]
fn blocks_of_an_interrupted_snapshot_come_with_the_next() {
    let store = shown();
    change(&store, "a", 50, Change::Set(2.0));
    for n in 32..64 {
        change(&store, "b", n, Change::Delete);
    }
    // A snapshot is interrupted here.
    let changed = store.registry().take_dirty();
    assert_eq!((changed.blocks.len(), changed.removed.len()), (1, 1));
    *store.rendering.lock().unwrap() = PendingBlocks {
        taken: changed.blocks.iter().map(|block| block.id).collect(),
        gone: changed.removed,
    };
    change(&store, "a", 51, Change::Set(3.0));
    // These fill free places, and then those of the removed block.
    for n in 32..62 {
        change(&store, "b", n, Change::Set(4.0));
    }
    let out = text(&store);
    for line in ["a{n=\"50\"} 2\n", "a{n=\"51\"} 3\n", "b{n=\"61\"} 4\n"] {
        assert!(out.contains(line), "{out}");
    }
    assert_eq!(out.lines().count(), 2 + 200 - 2);
}

#[test]
fn a_block_whose_text_was_changed_is_rendered_whole() {
    let store = shown();
    let before = text(&store);
    let family = Arc::from("a");
    let keys = [0, 1].map(|number| NameCache::of(&store.read().families).key(&family, number));
    store.write().page_list.remove(&keys[0]);
    let other = Bytes::from_static(b"a 1\n");
    store.write().page_list.set(keys[1].clone(), other);
    change(&store, "a", 7, Change::Set(2.0));
    change(&store, "a", 50, Change::Set(2.0));
    let after = text(&store);
    let expected = before.replace("a{n=\"7\"} 1\n", "a{n=\"7\"} 2\n");
    let expected = expected.replace("a{n=\"50\"} 1\n", "a{n=\"50\"} 2\n");
    assert_eq!(after, expected);
}

/// Changes may arrive between two rounds. Here they always do.
#[test]
fn a_later_round_continues_from_the_one_before() {
    let store = shown();
    let mut work = BlockRenderer::default();
    let steps = [("a", 1), ("a", 2), ("new", 1), ("a", 3), ("new", 2)];
    for (family, n) in steps {
        change(&store, family, n, Change::Set(2.0));
        if family == "new" {
            change(&store, "b", 10 + n, Change::Set(2.0));
        }
        let changed = store.registry().take_dirty();
        store.set_all(changed, &mut work);
    }
    change(&store, "new", 1, Change::Set(3.0));
    let changed = store.registry().take_dirty();
    let whole = changed.blocks[0].render(&mut RenderBuffers::default());
    assert_eq!(whole, None, "it is made from its last text");
    store.set_all(changed, &mut work);
    assert!(work.lost.is_empty());
    let out = text(&store);
    let changed = |line: &&str| !line.ends_with(" 1") && !line.starts_with('#');
    let changed: Vec<&str> = out.lines().filter(changed).collect();
    let expected = [
        "a{n=\"1\"} 2",
        "a{n=\"2\"} 2",
        "a{n=\"3\"} 2",
        "b{n=\"11\"} 2",
        "b{n=\"12\"} 2",
        "new{n=\"1\"} 3",
        "new{n=\"2\"} 2",
    ];
    assert_eq!(changed, expected);
}

#[test]
fn blocks_are_found_after_others_moved_them() {
    let store = shown();
    for round in 0..3 {
        // Families that sort before move the others.
        for n in 0..300 {
            change(&store, &format!("0{round}"), n, Change::Set(1.0));
        }
        change(&store, "b", 99, Change::Set(f64::from(round) + 2.0));
        let out = text(&store);
        assert!(out.ends_with(&format!("b{{n=\"99\"}} {}\n", round + 2)));
    }
}
