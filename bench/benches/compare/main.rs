//! Compares the proxy with its alternatives: nginx serving the same bytes from a file, Pushgateway
//! with and without its checks, and Prometheus with federation. All run on this machine, in one
//! run, on free ports of the loopback, with the same data, and take turns with one client. Prints
//! Markdown.
//!
//! `cargo bench -p bench --bench compare`, with `-- --help` for its options;
//! `bench/README.md` explains the figures.

mod cases;
mod data;
mod gateway;
mod measure;
mod pushes;
mod report;
mod servers;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bench::proxy;
use clap::Parser;

use crate::cases::{CASES, Case, Setup};
use crate::measure::Effort;

/// Name of pushes over HTTP for `--only`.
const GATEWAY: &str = "gateway";

#[derive(Parser, Debug)]
#[command(about = "Measures the proxy beside its peers, and prints tables.")]
struct Arguments {
    /// A small run: a tenth of the apps, few rounds
    #[arg(long)]
    quick: bool,
    /// Only this case: apps, small, merged, big or gateway; can be repeated
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Rounds; in each, every server has its turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Start nothing more after this many minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Worker threads of the proxy: exporter.worker_threads
    #[arg(long, default_value_t = 2)]
    worker_threads: usize,
    /// The proxy to measure [default: built in release mode]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Passed by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!(
            "nothing is measured without --bench, which `cargo bench -p bench --bench compare` passes"
        );
        return Ok(());
    }
    let chosen =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|it| it == name);
    let cases: Vec<Case> = CASES
        .into_iter()
        .filter(|case| chosen(case.name))
        .map(|case| if arguments.quick { case.quick() } else { case })
        .collect();
    ensure!(
        !cases.is_empty() || chosen(GATEWAY),
        "--only knows {}, {GATEWAY}",
        CASES.map(|case| case.name).join(", ")
    );

    let with_gateway = chosen(GATEWAY);
    // Build before the clock starts.
    let program = match arguments.proxy {
        Some(path) => path,
        None => proxy::build()?,
    };
    let begin = Instant::now();
    let mut setup = Setup {
        program,
        worker_threads: arguments.worker_threads,
        effort: Effort {
            rounds: arguments.rounds.max(1),
            scrapes: 5,
            turn: Duration::from_millis(400),
            until: begin + Duration::from_secs_f64(60.0 * arguments.minutes),
        },
    };
    if arguments.quick {
        setup.effort.rounds = setup.effort.rounds.min(2);
        setup.effort.turn = Duration::from_millis(100);
    }

    report::head(&setup, arguments.quick);
    let mut outcomes = Vec::new();
    for case in cases {
        if setup.effort.is_over() {
            println!("\n## {}\n\nNot measured: the time is up.", case.title());
            continue;
        }
        eprintln!("{:4.0} s: {}", begin.elapsed().as_secs_f64(), case.title());
        match cases::run(case, &setup) {
            Ok(outcome) => {
                report::case(&outcome);
                outcomes.push(outcome);
            }
            Err(error) => println!("\n## {}\n\nNot measured: {error:#}.", case.title()),
        }
    }
    let mut gateway = None;
    if with_gateway {
        eprintln!("{:4.0} s: pushes over HTTP", begin.elapsed().as_secs_f64());
        match gateway::run(&setup) {
            Ok(outcome) => {
                gateway::print(&outcome);
                gateway = Some(outcome);
            }
            Err(error) => println!("\n## Pushes over HTTP\n\nNot measured: {error:#}."),
        }
    }
    verdict::print(&outcomes, gateway.as_ref());
    println!("\nThe run took {:.0} s.", begin.elapsed().as_secs_f64());
    Ok(())
}
