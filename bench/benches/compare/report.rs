//! Tables of the results.

use std::fs;
use std::process::Command;

use crate::cases::{Outcome, Setup};
use crate::measure::{Change, Coding, MANY, Who};
use crate::pushes::{Pace, PushTimes, Pushes};
use crate::servers::{GZIP, NGINX, PROMETHEUS, PUSHGATEWAY};
use bench::figures::percentile;

/// Bytes per MB.
const MB: f64 = 1e6;

/// The machine, the programs, and packages to install for missing ones.
pub fn head(setup: &Setup, quick: bool) {
    println!("# exporter-proxy and its peers\n");
    if quick {
        println!("A quick run with a tenth of the data: its figures say little.\n");
    }
    println!("| Machine | |\n| --- | --- |");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("| processor | {} x {cpus} |", or_unknown(processor()));
    println!(
        "| memory | {} |",
        or_unknown(field("/proc/meminfo", "MemTotal"))
    );
    println!(
        "| kernel | {} |",
        or_unknown(read("/proc/sys/kernel/osrelease"))
    );
    println!(
        "| load at the beginning | {} |",
        or_unknown(read("/proc/loadavg"))
    );
    let program = setup.program.display().to_string();
    let mut version = said(&program, &["--version"]).unwrap_or(program);
    if let Some(commit) = said("git", &["rev-parse", "--short", "HEAD"]) {
        version += &format!(", commit {commit}");
    }
    println!(
        "| exporter-proxy | {version}; worker_threads = {} |",
        setup.worker_threads
    );
    let mut missing = Vec::new();
    for tool in [NGINX, PUSHGATEWAY, PROMETHEUS, GZIP] {
        match tool.version() {
            Some(version) => println!("| {} | {version} |", tool.program),
            None => {
                println!("| {} | **missing** |", tool.program);
                missing.push(tool.package);
            }
        }
    }
    if !missing.is_empty() {
        println!(
            "\n**Missing, and not compared: Debian's packages {}.** Installing them may start \
             their servers; bench/README.md tells how to install them without that.",
            missing.join(", ")
        );
    }
    println!(
        "\nTimes are medians of scrapes by one client over loopback, on a connection that is kept, \
         in {} rounds in which the servers take turns. In brackets: how many times exporter-proxy's \
         time it is.",
        setup.effort.rounds
    );
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".to_owned())
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn processor() -> Option<String> {
    field("/proc/cpuinfo", "model name")
}

/// The first value under a name in a file of `name: value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// Everything of one case.
pub fn case(outcome: &Outcome) {
    println!("\n## {}", outcome.case.title());
    println!(
        "\n{} samples, {:.1} MB of text as pushed (`--only {}`).",
        outcome.case.data.samples(),
        outcome.text as f64 / MB,
        outcome.case.name
    );
    for note in &outcome.notes {
        println!("\n{note}");
    }
    scrapes(outcome);
    sizes(outcome);
    if let Some(pushes) = &outcome.pushes {
        push_tables(pushes);
    }
}

fn scrapes(outcome: &Outcome) {
    let who: Vec<Who> = outcome.memory.iter().map(|(who, _)| *who).collect();
    let Some((first, others)) = who.split_first() else {
        return;
    };
    print!("\n| Scrapers | Changed before each scrape | Coding |");
    who.iter().for_each(|who| print!(" {} |", who.name()));
    println!("\n| --- | --- | --- |{}", " ---: |".repeat(who.len()));
    let single = Change::EACH.map(|change| (change, 1));
    for (change, scrapers) in single.into_iter().chain([(Change::Nothing, MANY)]) {
        for coding in Coding::BOTH {
            let time = |who| outcome.measured.time((who, change, coding, scrapers), 0.5);
            print!("| {scrapers} | {} | {} |", change.name(), coding.name());
            let ours = time(*first);
            print!(" {} |", ours.map_or("–".to_owned(), milliseconds));
            for who in others {
                match (time(*who), ours) {
                    (Some(theirs), Some(ours)) => {
                        print!(" {} ({}) |", milliseconds(theirs), times(theirs / ours));
                    }
                    (Some(theirs), None) => print!(" {} |", milliseconds(theirs)),
                    (None, _) => print!(" – |"),
                }
            }
            println!();
        }
    }
    if let Some(gzip) = outcome.yardstick {
        println!(
            "\nPacking the same text at level 1 on one core, best of the rounds: `gzip -1` {}, \
             `zlib-rs` {} ({:.2} MB).",
            gzip.process.map_or("–".to_owned(), milliseconds),
            milliseconds(gzip.flate2),
            gzip.flate2_size as f64 / MB
        );
    }
}

fn sizes(outcome: &Outcome) {
    println!(
        "\n| | answer, identity | answer, gzip | memory after load | after a scrape of each coding | \
         at the end | of the text, after the scrapes |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (who, memory) in &outcome.memory {
        let size = |coding| {
            let size = outcome.measured.size(*who, coding);
            size.map_or("–".to_owned(), |size| {
                format!("{:.2} MB", size as f64 / MB)
            })
        };
        println!(
            "| {} | {} | {} | {:.1} MB | {:.1} MB | {:.1} MB | {:.2} x |",
            who.name(),
            size(Coding::Identity),
            size(Coding::Gzip),
            memory.loaded / MB,
            memory.scraped / MB,
            memory.end / MB,
            memory.scraped / outcome.text as f64,
        );
    }
}

fn push_tables(pushes: &Pushes) {
    println!(
        "\nPushes of one app's text by one sender, alone and while eight scrapers scrape once a second each:\n"
    );
    println!(
        "| | Way | Pace | Pushes timed | Rate alone | p50 alone | p99 alone | p50 scraped | p99 scraped | p99, scraped to alone |"
    );
    println!("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for push in &pushes.pushes {
        let at = |times: &[f64], part| microseconds(percentile(times.to_vec(), part));
        let pace = match push.pace {
            Pace::Steady => "200 a second",
            Pace::Full => "one after the other",
        };
        let rate = match push.pace {
            Pace::Steady => "–".to_owned(),
            Pace::Full => format!("{:.0}/s", rate(push)),
        };
        print!(
            "| {} | {} | {pace} | {} | {rate} | {} | {} |",
            push.who.name(),
            push.way.name(),
            push.alone.len() + push.scraped.len(),
            at(&push.alone, 0.5),
            at(&push.alone, 0.99),
        );
        if push.scraped.is_empty() {
            println!(" – | – | – |");
        } else {
            println!(
                " {} | {} | {:.2} x |",
                at(&push.scraped, 0.5),
                at(&push.scraped, 0.99),
                p99_ratio(&push.scraped, &push.alone)
            );
        }
    }
    println!(
        "\nPushgateway answers a push without checks before it is in; one with checks when it is.\n"
    );
    println!("Scrapes by one scraper, alone and while two senders push at full speed:\n");
    println!(
        "| | Coding | Scrapes timed, alone and pushed | p50 alone | p99 alone | p50 pushed | p99 pushed | p99, pushed to alone | Pushes meanwhile |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for scrape in &pushes.scrapes {
        let at = |times: &[f64], part| milliseconds(percentile(times.to_vec(), part));
        println!(
            "| {} | {} | {}, {} | {} | {} | {} | {} | {:.2} x | {:.0}/s |",
            scrape.who.name(),
            scrape.coding.name(),
            scrape.alone.len(),
            scrape.pushed.len(),
            at(&scrape.alone, 0.5),
            at(&scrape.alone, 0.99),
            at(&scrape.pushed, 0.5),
            at(&scrape.pushed, 0.99),
            p99_ratio(&scrape.pushed, &scrape.alone),
            scrape.rate
        );
    }
}

/// Pushes per second of one sender, from the times of single pushes.
fn rate(push: &PushTimes) -> f64 {
    push.alone.len() as f64 / push.alone.iter().sum::<f64>()
}

pub fn p99_ratio(times: &[f64], to: &[f64]) -> f64 {
    percentile(times.to_vec(), 0.99) / percentile(to.to_vec(), 0.99)
}

fn milliseconds(seconds: f64) -> String {
    let digits = if seconds < 0.1 { 2 } else { 0 };
    format!("{:.digits$} ms", seconds * 1e3)
}

fn microseconds(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

/// A ratio with its significant digits.
pub fn times(ratio: f64) -> String {
    let digits = match ratio {
        ratio if ratio < 10.0 => 2,
        ratio if ratio < 100.0 => 1,
        _ => 0,
    };
    format!("{ratio:.digits$} x")
}
