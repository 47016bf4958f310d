//! The cost of storage, TLS and dead sinks: two proxies take turns, one with the feature and one without. Prints Markdown.
//!
//! `cargo bench -p bench --bench overhead`, with `-- --help` for its options.

mod rewriting;
mod sinks;
mod storage;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::Result;
use bench::client::Client;
use bench::figures::median;
use bench::payload::app_text;
use bench::proxy;
use clap::{Parser, ValueEnum};

/// Series of a group, whose text has 9.3 KB.
const SERIES: usize = 100;

#[derive(Parser, Debug)]
#[command(about = "Measures what storage, TLS and dead sinks cost, and prints tables.")]
struct Arguments {
    /// Only this part; can be repeated
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Rounds; in each, both proxies have a turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The proxy to measure [default: built in release mode]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Passed by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Pushes, operations and scrapes, with and without storage
    Storage,
    /// Size on disk while everything is rewritten many times
    Rewriting,
    /// Scrapes over TLS and without
    Tls,
    /// Pushes and scrapes while all sinks are dead
    Sinks,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("nothing is measured without --bench, which `cargo bench` passes");
        return Ok(());
    }
    let program = match arguments.proxy {
        Some(program) => program,
        None => proxy::build()?,
    };
    for part in Part::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(part) {
            match part {
                Part::Storage => storage::measure(&program, arguments.rounds)?,
                Part::Rewriting => rewriting::measure(&program)?,
                Part::Tls => tls::measure(&program, arguments.rounds)?,
                Part::Sinks => sinks::measure(&program, arguments.rounds)?,
            }
        }
    }
    Ok(())
}

/// Directories for storage are here, since the machine's temporary directory may be in memory.
fn directory_on_disk() -> Result<tempfile::TempDir> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    Ok(tempfile::tempdir_in(place)?)
}

/// The configuration of a proxy that keeps its state in a directory.
fn stored_in(directory: &Path) -> String {
    format!("[storage]\npath = {directory:?}\n")
}

/// The path of a group, and its text, whose values depend on the version.
fn group(number: usize, version: u64) -> (String, String) {
    let name = format!("group{number:05}");
    let text = app_text(&name, SERIES, version);
    (format!("/metrics/job/{name}"), text)
}

fn put(client: &mut Client, (path, text): &(String, String)) -> Result<()> {
    let status = client.send("PUT", path, text.as_bytes())?;
    anyhow::ensure!(status == 200, "{path} answered {status}");
    Ok(())
}

/// Values with and without a feature, one each round.
#[derive(Debug, Default)]
struct Pair {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Pair {
    fn add(&mut self, with: bool, value: f64) {
        let values = if with {
            &mut self.with
        } else {
            &mut self.without
        };
        values.push(value);
    }

    /// A row of a table: both medians, and the median of the factors of the rounds.
    fn print(&self, what: &str, unit: &str) {
        let factors = self
            .with
            .iter()
            .zip(&self.without)
            .map(|(with, without)| with / without);
        let factor = median(factors.collect());
        let [without, with] = [&self.without, &self.with].map(|values| median(values.clone()));
        println!(
            "| {what} | {} | {} | {factor:.2} × |",
            shown(without, unit),
            shown(with, unit)
        );
    }
}

fn shown(value: f64, unit: &str) -> String {
    if value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.2} {unit}")
    }
}
