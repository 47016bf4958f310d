//! The store's state as records: how long they take to make and to read, and how much memory the
//! store takes afterwards.
//!
//! `cargo bench -p bench --bench restore` prints Markdown. The store is restored in a separate
//! process, since the allocator would reuse freed memory.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::figures::resident_bytes;
use exporter_proxy::clock::Now;
use exporter_proxy::exposition::{
    CanonicalOptions, Content, Kind, LabelText, TextLimits, TimestampPolicy, canonicalize,
};
use exporter_proxy::peer::Origin;
use exporter_proxy::record::Record;
use exporter_proxy::registry::{self, Batch, RegistryLimits, Update};
use exporter_proxy::store::{Change, Producer, SectionId, Store, StoreLimits, Write};

const GROUPS: usize = 100_000;
const FAMILIES: usize = 10;
const SERIES_PER_FAMILY: usize = 100_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("restore") {
        let path = arguments.next().context("restore needs a path")?;
        return restore(Path::new(&path));
    }
    if !bench::is_measuring() {
        return Ok(());
    }
    println!("| 100,000 groups and 1,000,000 aggregated series | Figure |\n| --- | ---: |");
    let store = store();
    store.track_changes();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("records");
    fill(&store, &path)?;
    for group in (0..GROUPS).step_by(100) {
        push(&store, group, 2);
    }
    changed(&store, "take a hundredth of the groups");
    for family in 0..FAMILIES {
        operate(&store, family, (0..SERIES_PER_FAMILY).step_by(100));
    }
    changed(&store, "take a hundredth of the series");
    drop(store);
    let program = std::env::current_exe()?;
    let status = Command::new(program).arg("restore").arg(&path).status()?;
    ensure!(status.success(), "it cannot be restored");
    Ok(())
}

/// Fills the store and writes all of its records to a file.
fn fill(store: &Store, path: &Path) -> Result<()> {
    for group in 0..GROUPS {
        push(store, group, 1);
    }
    for family in 0..FAMILIES {
        for first in (0..SERIES_PER_FAMILY).step_by(1000) {
            operate(store, family, first..first + 1000);
        }
    }
    black_box(store.snapshot().text());
    memory("memory before")?;
    let start = Instant::now();
    let changes = store.take_changes(Now::read());
    row("take everything: copies", start.elapsed());
    let (mut count, mut bytes) = (0, 0);
    let mut file = BufWriter::new(File::create(path)?);
    let mut encoding = Duration::ZERO;
    let mut changes = changes.into_iter();
    loop {
        let start = Instant::now();
        let next = changes.next();
        encoding += start.elapsed();
        let Some(record) = next else { break };
        count += 1;
        bytes += record.size();
        for part in [&record.key, &record.value.unwrap_or_default()] {
            file.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
            file.write_all(part)?;
        }
    }
    file.flush()?;
    row("take everything: encoding", encoding);
    println!("| {count} records | {:.1} MB |", bytes as f64 / 1e6);
    Ok(())
}

/// Restores a store from a file.
fn restore(path: &Path) -> Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut next = || -> Option<Vec<u8>> {
        let mut len = [0; 4];
        file.read_exact(&mut len).ok()?;
        let mut part = vec![0; u32::from_le_bytes(len) as usize];
        file.read_exact(&mut part).ok()?;
        Some(part)
    };
    let store = store();
    store.track_changes();
    let records = std::iter::from_fn(|| Some(Record::set(next()?, next()?)));
    let start = Instant::now();
    let restored = store.restore(records, Now::read())?;
    row("restore, with reading the file", start.elapsed());
    ensure!(restored.sections == GROUPS && restored.series == FAMILIES * SERIES_PER_FAMILY);
    memory("memory after")?;
    let start = Instant::now();
    black_box(store.snapshot().text());
    row("first scrape", start.elapsed());
    memory("memory after that")
}

fn changed(store: &Store, what: &str) {
    let start = Instant::now();
    let changes = store.take_changes(Now::read());
    let copies = start.elapsed();
    row(&format!("{what}: copies"), copies);
    let records = black_box(changes.count());
    row(
        &format!("{what}: encoding {records} records"),
        start.elapsed() - copies,
    );
}

fn row(what: &str, took: Duration) {
    println!("| {what} | {:.1} ms |", took.as_secs_f64() * 1e3);
}

fn memory(what: &str) -> Result<()> {
    let bytes = resident_bytes(std::process::id())?;
    println!("| {what} | {:.0} MB |", bytes / 1e6);
    Ok(())
}

fn store() -> Store {
    let limits = StoreLimits {
        apps: usize::MAX,
        groups: usize::MAX,
        bytes: usize::MAX,
        registry: RegistryLimits::default(),
    };
    Store::new(limits, true)
}

/// Pushes a group of two families and the two times that a push adds.
fn push(store: &Store, group: usize, value: usize) {
    let labels = format!("instance=\"host-{group:06}\",job=\"nightly_backup\"");
    let mut text = String::new();
    for (name, help) in [
        ("backup_duration_seconds", "How long the last backup took."),
        ("backup_size_bytes", "The size of the last backup."),
        ("push_failure_time_seconds", "Last failed push."),
        ("push_time_seconds", "Last successful push."),
    ] {
        text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} {value}\n");
    }
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: store.hasher(),
    };
    let families = canonicalize(&text, &options).expect("it is well-formed");
    let write = Write::one(Change::Replace {
        id: SectionId::new(&labels, Producer::Group),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: Some(Duration::from_secs(86_400)),
    });
    store.apply(write, Now::read()).expect("there is room");
}

fn operate(store: &Store, family: usize, series: impl Iterator<Item = usize>) {
    let name: Arc<str> = Arc::from(format!("load_{family}_requests_total"));
    let updates = series.map(|number| {
        let series = format!("{number:07}");
        let labels = [
            ("code", "200"),
            ("handler", "/api/v1/items"),
            ("method", "get"),
            ("series", &*series),
        ];
        Update {
            family: Arc::clone(&name),
            kind: Kind::Counter,
            help: None,
            labels: LabelText::from_escaped(labels).expect("each is there once"),
            ttl: None,
            change: registry::Change::Add(1.5),
        }
    });
    let batch = Batch {
        updates: updates.collect(),
        ..Batch::default()
    };
    store.operate(batch, Now::read()).expect("there is room");
}
