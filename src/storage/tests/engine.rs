use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::record::Record;
use crate::storage::engine::{Engine, LocalEngine, Recovered};
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
    assert_eq!(engine.recover().unwrap(), Recovered::Records);
    assert_eq!(contents(&engine, "b/").len(), 2);
    assert!(engine.size() > 0);
}

#[test]
fn a_removed_directory_is_noticed_and_created_again() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let mut engine = LocalEngine::open(&path).unwrap();
    engine.write(&[Record::set("a", "one")]).unwrap();
    engine.sync().unwrap();
    fs::remove_dir_all(&path).unwrap();
    // The engine still has its files open.
    engine.write(&[Record::set("b", "two")]).unwrap();
    let problem = engine.sync().unwrap_err();
    assert_eq!(problem.message, "the directory was removed or replaced");
    assert_eq!(engine.recover().unwrap(), Recovered::Nothing);
    engine.write(&[Record::set("c", "three")]).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let mut engine = LocalEngine::open(&path).unwrap();
    assert_eq!(contents(&engine, ""), [("c".to_owned(), b"three".to_vec())]);

    // The same, but only the engine's files are removed.
    fs::remove_dir_all(path.join("data")).unwrap();
    assert!(engine.sync().is_err());
    assert_eq!(engine.recover().unwrap(), Recovered::Nothing);
    engine.write(&[Record::set("e", "five")]).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let mut engine = LocalEngine::open(&path).unwrap();
    assert_eq!(contents(&engine, ""), [("e".to_owned(), b"five".to_vec())]);

    // Files of somebody else are left alone.
    let (away, other) = (parent.path().join("away"), path.join("notes"));
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(&other, "mine").unwrap();
    engine.write(&[Record::set("d", "four")]).unwrap();
    assert!(engine.sync().is_err());
    for _ in 0..2 {
        let problem = engine.recover().unwrap_err().message;
        assert!(problem.contains("restart to use it"), "{problem}");
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    // The original directory returns.
    fs::remove_dir_all(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    assert_eq!(engine.recover().unwrap(), Recovered::Records);
    engine.sync().unwrap();
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
fn an_interrupted_first_start_is_repeated() {
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

/// The length of the journal without the reserved space at its end.
fn used(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn cut(journal: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(journal).unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn a_torn_end_of_the_journal_is_cut_off_wherever_it_tears() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole");
    let mut engine = LocalEngine::open(&path).unwrap();
    engine.write(&[Record::set("a", "kept")]).unwrap();
    engine.sync().unwrap();
    let before = used(&journal(&path));
    // This write is not synced, so a loss of power can tear it.
    engine
        .write(&[
            Record::set("b", vec![b'y'; 10_000]),
            Record::set("c", "torn"),
        ])
        .unwrap();
    drop(engine);
    let after = used(&journal(&path));
    assert!(after > before);
    cut(&journal(&path), after);
    let step = usize::try_from((after - before) / 37 + 1).unwrap();
    for (number, length) in (before..after).step_by(step).enumerate() {
        for padded in [false, true] {
            let copy = directory.path().join(format!("{number}-{padded}"));
            copy_all(&path, &copy);
            cut(&journal(&copy), length);
            if padded {
                cut(&journal(&copy), after + 5000);
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
fn a_journal_that_lost_synced_writes_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut engine = LocalEngine::open(&path).unwrap();
    for number in 0..20 {
        let key = format!("key/{number:02}");
        engine.write(&[Record::set(key, "value")]).unwrap();
        engine.sync().unwrap();
    }
    drop(engine);
    let file = journal(&path);
    let used = used(&file) as usize;
    // Keep only some of the reserved space.
    cut(&file, used as u64 + 1000);
    let good = fs::read(&file).unwrap();
    type Damage = fn(&mut Vec<u8>, usize);
    let damages: [Damage; 3] = [
        |bytes, place| bytes.truncate(place),
        |bytes, place| bytes[place] ^= 0x55,
        |bytes, place| bytes[place..].fill(0),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for place in [used / 3, used / 2, used - 10] {
            let mut bad = good.clone();
            damage(&mut bad, place);
            fs::write(&file, &bad).unwrap();
            match LocalEngine::open(&path) {
                Err(OpenError::Damaged { .. }) => {}
                // The engine does not need every byte.
                Ok(engine) => assert_eq!(contents(&engine, "key/").len(), 20),
                Err(problem) => panic!("{number} at {place}: {problem}"),
            }
            assert!(fs::read(&file).unwrap() == bad, "{number} at {place}");
        }
    }
    // Now remove the newest journal.
    fs::remove_file(&file).unwrap();
    let problem = LocalEngine::open(&path).unwrap_err();
    assert!(matches!(problem, OpenError::Damaged { .. }), "{problem}");
    assert!(!file.exists());

    fs::write(&file, &good).unwrap();
    let engine = LocalEngine::open(&path).unwrap();
    assert_eq!(contents(&engine, "key/").len(), 20);
}

#[test]
fn a_directory_without_writes_stays_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut engine = LocalEngine::open(path).unwrap();
    engine.write(&[Record::set("a", "1")]).unwrap();
    drop(engine);
    let before = files(path);
    let engine = LocalEngine::open(path).unwrap();
    assert!(path.join("data.before").exists());
    drop(engine);
    assert_eq!(files(path), before);
    // After the first write, the kept original files are gone.
    let mut engine = LocalEngine::open(path).unwrap();
    engine.write(&[Record::set("a", "2")]).unwrap();
    assert!(!path.join("data.before").exists());
    drop(engine);
    let engine = LocalEngine::open(path).unwrap();
    assert_eq!(contents(&engine, "a"), [("a".to_owned(), b"2".to_vec())]);
}

#[test]
fn an_interrupted_restoration_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut engine = LocalEngine::open(path).unwrap();
    engine.write(&[Record::set("a", "1")]).unwrap();
    drop(engine);
    fs::create_dir(path.join("data.opened")).unwrap();
    fs::rename(path.join("data"), path.join("data.before")).unwrap();
    let engine = LocalEngine::open(path).unwrap();
    assert_eq!(contents(&engine, "a").len(), 1);
    assert!(!path.join("data.opened").exists());
    drop(engine);
    // Files kept by an interrupted start are obsolete: the engine's own are newer.
    fs::create_dir(path.join("data.before")).unwrap();
    let engine = LocalEngine::open(path).unwrap();
    assert_eq!(contents(&engine, "a").len(), 1);
}

/// All files with their contents.
fn files(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false => found.push((entry.clone(), fs::read(entry).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn damaged_files_are_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let whole = path.join("whole");
    drop(LocalEngine::open(&whole).unwrap());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("current", |data| {
            fs::remove_file(data.join("keyspaces/1/current")).unwrap();
        }),
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
        let before = files(&copy);
        let problem = LocalEngine::open(&copy).unwrap_err();
        assert!(
            matches!(problem, OpenError::Damaged { .. }),
            "{name}: {problem:?}"
        );
        assert!(files(&copy) == before, "{name}");
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
