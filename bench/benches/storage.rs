//! Engines for storage doing the proxy's work: sections that are rewritten whole, blocks of
//! aggregated series of which some change each second, and pushes that are acknowledged one by
//! one. Each engine runs in a separate process, so that its memory can be measured.
//!
//! `cargo bench -p bench --bench storage [-- ENGINE]`, with `proxy` for the engine with the
//! proxy's settings and `redb` for the other one.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use exporter_proxy::record::Record;
use exporter_proxy::storage::{Engine, LocalEngine};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ENGINES: [&str; 2] = ["proxy", "redb"];

/// The size of a section in bytes, and how often all are written.
const SECTIONS: usize = 20_000;
const SECTION_BYTES: usize = 10_000;
const ROUNDS: usize = 4;

/// Sections that are written at once.
const AT_ONCE: usize = 1000;

/// Blocks of 32 series, how many series change a second, and for how many seconds.
const BLOCKS: usize = 3125;
const SERIES_OF_A_BLOCK: usize = 32;
const CHANGES: usize = 1000;
const SECONDS: usize = 600;

/// Pushes that are acknowledged one by one.
const PUSHES: usize = 1000;

fn main() -> Result<()> {
    if !bench::is_measuring() {
        return Ok(());
    }
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    match arguments.next() {
        Some(engine) => run(&engine),
        None => {
            for engine in ENGINES {
                let status = Command::new(std::env::current_exe()?)
                    .args([engine, "--bench"])
                    .status()?;
                assert!(status.success(), "{engine} failed");
            }
            Ok(())
        }
    }
}

/// A storage to measure.
trait Subject {
    fn write(&mut self, records: &[Record], sync: bool) -> Result<()>;
    /// The number of records and the bytes of their values, read one by one.
    fn read_all(&self) -> Result<(usize, usize)>;
}

impl Subject for LocalEngine {
    fn write(&mut self, records: &[Record], sync: bool) -> Result<()> {
        Engine::write(self, records)?;
        if sync {
            self.sync()?;
        }
        Ok(())
    }

    fn read_all(&self) -> Result<(usize, usize)> {
        let (mut count, mut bytes) = (0, 0);
        self.each(b"", &mut |_, value| {
            count += 1;
            bytes += value.len();
            Ok(())
        })?;
        Ok((count, bytes))
    }
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// Each write is synced: unsynced data would be lost when the process ends.
struct Redb(Database);

impl Subject for Redb {
    fn write(&mut self, records: &[Record], _sync: bool) -> Result<()> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for Record { key, value } in records {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        write.commit()?;
        Ok(())
    }

    fn read_all(&self) -> Result<(usize, usize)> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let (mut count, mut bytes) = (0, 0);
        for record in table.iter()? {
            count += 1;
            bytes += record?.1.value().len();
        }
        Ok((count, bytes))
    }
}

fn open(engine: &str, directory: &Path) -> Result<Box<dyn Subject>> {
    const CACHE: usize = 16 << 20;
    Ok(match engine {
        "proxy" => Box::new(LocalEngine::open(&directory.join("state"))?),
        "redb" => {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE);
            Box::new(Redb(builder.create(directory.join("state"))?))
        }
        other => return Err(format!("no engine is called {other:?}").into()),
    })
}

fn run(engine: &str) -> Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = directory.path();
    let mut noise = Noise(88_172_645_463_325_252);
    let mut subject = open(engine, path)?;

    for round in 0..ROUNDS {
        let (start, before) = (Instant::now(), written()?);
        for first in (0..SECTIONS).step_by(AT_ONCE) {
            let sections = first..first + AT_ONCE;
            let records: Vec<Record> = sections.map(|it| section(it, &mut noise)).collect();
            subject.write(&records, true)?;
        }
        let rate = SECTIONS as f64 / start.elapsed().as_secs_f64();
        println!(
            "{engine}: sections, round {round}: {rate:.0} a second, {} MB written, {} MB on disk",
            megabytes(written()? - before),
            megabytes(on_disk(path)?)
        );
    }

    let all: Vec<Record> = (0..BLOCKS).map(|it| block(it, &mut noise)).collect();
    subject.write(&all, true)?;
    let (mut spent, before) = (Duration::ZERO, written()?);
    for _ in 0..SECONDS {
        let changed: BTreeSet<usize> = (0..CHANGES).map(|_| noise.below(BLOCKS)).collect();
        let records: Vec<Record> = changed.iter().map(|it| block(*it, &mut noise)).collect();
        let start = Instant::now();
        subject.write(&records, true)?;
        spent += start.elapsed();
    }
    println!(
        "{engine}: blocks: {:.1?} for the changes of a second, {} KB written, {} MB on disk",
        spent / u32::try_from(SECONDS)?,
        (written()? - before) / (SECONDS as u64) / 1000,
        megabytes(on_disk(path)?)
    );

    for sync in [false, true] {
        let mut times = Vec::with_capacity(PUSHES);
        for number in 0..PUSHES {
            let record = [section(number, &mut noise)];
            let start = Instant::now();
            subject.write(&record, sync)?;
            times.push(start.elapsed());
        }
        times.sort();
        let total: Duration = times.iter().sum();
        println!(
            "{engine}: one push at a time, sync {sync}: {:.0} a second, p50 {:.1?}, p99 {:.1?}",
            PUSHES as f64 / total.as_secs_f64(),
            times[PUSHES / 2],
            times[PUSHES * 99 / 100]
        );
    }

    println!("{engine}: {} MB resident", resident()? / 1000);
    drop(subject);
    let start = Instant::now();
    let subject = open(engine, path)?;
    let opened = start.elapsed();
    let (count, bytes) = subject.read_all()?;
    println!(
        "{engine}: opened in {opened:.1?}, {count} records of {} MB read in {:.1?}; {} MB on disk",
        megabytes(bytes as u64),
        start.elapsed(),
        megabytes(on_disk(path)?)
    );
    Ok(())
}

fn section(number: usize, noise: &mut Noise) -> Record {
    let mut text = String::with_capacity(SECTION_BYTES + 100);
    let mut item = 0;
    while text.len() < SECTION_BYTES {
        let value = noise.below(1_000_000);
        text.push_str(&format!(
            "requests_total{{method=\"get\",path=\"/api/v1/items/{item}\"}} {value}\n"
        ));
        item += 1;
    }
    text.truncate(SECTION_BYTES);
    Record::set(format!("section/group/job={number:06}"), text)
}

fn block(number: usize, noise: &mut Noise) -> Record {
    let mut value = Vec::new();
    for series in 0..SERIES_OF_A_BLOCK {
        let labels = format!("instance=\"10.0.{number}.{series}\",job=\"worker\"");
        value.extend_from_slice(labels.as_bytes());
        value.extend_from_slice(&(noise.below(1_000_000) as f64).to_le_bytes());
    }
    Record::set(format!("part/0/family/{number:08x}"), value)
}

/// Pseudorandom numbers, the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Bytes that this process has sent to the disk.
fn written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let mut lines = io.lines();
    let bytes = lines.find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(bytes.ok_or("no write_bytes")?.parse()?)
}

/// Resident memory in kilobytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let size = size.ok_or("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(size.parse()?)
}

fn on_disk(path: &Path) -> Result<u64> {
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Ok(found.blocks() * 512);
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += on_disk(&entry?.path()).unwrap_or_default();
    }
    Ok(bytes)
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}
