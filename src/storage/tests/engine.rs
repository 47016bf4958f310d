use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::record::Record;
use crate::storage::engine::{Engine, LocalEngine};
use crate::storage::error::OpenError;

fn contents(engine: &LocalEngine, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |key: Vec<u8>, value| {
        let key = String::from_utf8(key).unwrap();
        if !key.starts_with("meta/") {
            found.push((key, value));
        }
        Ok(())
    };
    engine.each(prefix.as_bytes(), &mut visit).unwrap();
    found
}

#[test]
fn records_are_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/state");
    let mut engine = LocalEngine::open(&path).unwrap();
    let large = vec![b'x'; 100_000];
    let long_key = format!("b/{}", "k".repeat(100_000));
    let other_long_key = format!("b/{}o", "k".repeat(99_999));
    engine
        .write(&[
            Record::set("a/1", "one"),
            Record::set("a/2", "two"),
            Record::set("b/large", large.clone()),
            Record::set(long_key.clone(), "three"),
            Record::set(other_long_key.clone(), "four"),
        ])
        .unwrap();
    engine
        .write(&[Record::removed("a/1"), Record::removed("none")])
        .unwrap();
    drop(engine);
    let mut engine = LocalEngine::open(&path).unwrap();
    assert_eq!(
        contents(&engine, "a/"),
        [("a/2".to_owned(), b"two".to_vec())]
    );
    let b = contents(&engine, "b/");
    assert_eq!(b.len(), 3);
    assert!(b.contains(&("b/large".to_owned(), large)));
    assert!(b.contains(&(long_key.clone(), b"three".to_vec())));
    assert!(b.contains(&(other_long_key, b"four".to_vec())));
    engine.write(&[Record::removed(long_key)]).unwrap();
    engine.recover().unwrap();
    assert_eq!(contents(&engine, "b/").len(), 2);
    assert!(engine.size() > 0);
}

#[test]
fn a_second_opener_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let engine = LocalEngine::open(directory.path()).unwrap();
    let problem = LocalEngine::open(directory.path()).unwrap_err();
    assert!(matches!(problem, OpenError::Locked(_)), "{problem}");
    drop(engine);
    LocalEngine::open(directory.path()).unwrap();
}

#[test]
fn directories_of_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let problem = LocalEngine::open(path).unwrap_err();
    assert!(matches!(problem, OpenError::Foreign(_)), "{problem}");
    fs::remove_file(path.join("notes.txt")).unwrap();
    for marker in [
        "",
        "something else\n",
        "exporter-proxy\n",
        "exporter-proxy\nformat x\n",
    ] {
        fs::write(path.join("exporter-proxy"), marker).unwrap();
        let problem = LocalEngine::open(path).unwrap_err();
        assert!(
            matches!(problem, OpenError::Foreign(_)),
            "{marker:?}: {problem}"
        );
    }
    let left: Vec<_> = fs::read_dir(path).unwrap().collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_newer_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(LocalEngine::open(path).unwrap());
    fs::write(path.join("exporter-proxy"), "exporter-proxy\nformat 2\n").unwrap();
    let problem = LocalEngine::open(path).unwrap_err();
    assert!(matches!(problem, OpenError::Newer { .. }), "{problem}");
    let text = problem.to_string();
    assert!(
        text.contains("format 2") && text.contains("up to 1"),
        "{text}"
    );
}

#[test]
fn an_interrupted_first_start_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join("exporter-proxy.new"), "expor").unwrap();
    drop(LocalEngine::open(path).unwrap());
    fs::rename(path.join("data"), path.join("data.new")).unwrap();
    drop(LocalEngine::open(path).unwrap());
    assert!(path.join("data").exists() && !path.join("data.new").exists());
}

#[test]
fn a_directory_that_does_not_exist_is_not_made_to_be_read() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("none"), directory.path().to_owned()] {
        let problem = LocalEngine::open_existing(&path).unwrap_err();
        assert!(matches!(problem, OpenError::Unusable { .. }), "{problem}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The journal of the engine.
fn journal(path: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(path.join("data")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut journals = files.filter(|file| file.extension().is_some_and(|it| it == "jnl"));
    journals.next().unwrap()
}

#[test]
fn a_torn_end_of_the_journal_is_cut_off_wherever_it_tears() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole");
    let mut engine = LocalEngine::open(&path).unwrap();
    engine.write(&[Record::set("a", "kept")]).unwrap();
    drop(engine);
    // Reopening cuts the preallocated rest off.
    drop(LocalEngine::open(&path).unwrap());
    let before = fs::metadata(journal(&path)).unwrap().len();
    let mut engine = LocalEngine::open(&path).unwrap();
    engine
        .write(&[
            Record::set("b", vec![b'y'; 10_000]),
            Record::set("c", "torn"),
        ])
        .unwrap();
    drop(engine);
    drop(LocalEngine::open(&path).unwrap());
    let after = fs::metadata(journal(&path)).unwrap().len();
    assert!(after > before);
    let step = usize::try_from((after - before) / 37 + 1).unwrap();
    for (number, length) in (before..after).step_by(step).enumerate() {
        for padded in [false, true] {
            let copy = directory.path().join(format!("{number}-{padded}"));
            copy_all(&path, &copy);
            let file = OpenOptions::new().write(true).open(journal(&copy)).unwrap();
            file.set_len(length).unwrap();
            if padded {
                file.set_len(after + 5000).unwrap();
            }
            let engine = LocalEngine::open(&copy).unwrap();
            let kept = contents(&engine, "");
            assert_eq!(
                kept,
                [("a".to_owned(), b"kept".to_vec())],
                "{length} {padded}"
            );
        }
    }
}

#[test]
fn damaged_files_are_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let whole = path.join("whole");
    drop(LocalEngine::open(&whole).unwrap());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("keyspaces", |data| {
            fs::remove_dir_all(data.join("keyspaces")).unwrap();
        }),
        ("no-version", |data| {
            fs::remove_file(data.join("version")).unwrap();
        }),
        ("version", |data| {
            fs::write(data.join("version"), "?").unwrap();
        }),
        ("journal", |data| {
            fs::write(data.join("0.jnl"), "?").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let copy = path.join(name);
        copy_all(&whole, &copy);
        damage(&copy.join("data"));
        let problem = LocalEngine::open(&copy).unwrap_err();
        assert!(
            matches!(problem, OpenError::Damaged { .. }),
            "{name}: {problem:?}"
        );
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}
