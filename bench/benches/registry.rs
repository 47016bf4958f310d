//! Aggregated families: updates, scrapes, memory.
//!
//! Prints medians over several rounds as Markdown. Compare the figures for many series with those
//! for few.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::figures::median;
use exporter_proxy::clock::Now;
use exporter_proxy::exposition::{Kind, LabelText};
use exporter_proxy::registry::{Batch, Change, Registry, RegistryLimits, Update};
use exporter_proxy::store::{Store, StoreLimits};

const ROUNDS: usize = 15;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("memory") {
        return measure_memory(&arguments.next().unwrap_or_default());
    }
    if !bench::is_measuring() {
        return;
    }
    println!("| What | Figure |\n| --- | --- |");
    memory("counter");
    memory("histogram");
    for living in [1_000, 100_000, 1_000_000] {
        additions(living);
    }
    for (pattern, what) in [(1, "next to one another"), (7919, "anywhere")] {
        scrape(pattern, what);
    }
    operations();
}

/// About 60 bytes of labels.
fn labels(number: usize) -> LabelText {
    let series = format!("{number:07}");
    let labels = [
        ("code", "200"),
        ("handler", "/api/v1/items"),
        ("method", "get"),
        ("series", &series),
    ];
    LabelText::from_escaped(labels).expect("each is there once")
}

fn update(family: &Arc<str>, kind: Kind, number: usize) -> Update {
    let change = match kind {
        Kind::Histogram => Change::Histogram {
            buckets: (0..11)
                .map(|bound| (f64::from(bound), f64::from(bound)))
                .collect(),
            sum: Some(1.5),
            count: Some(11.0),
        },
        _ => Change::Add(1.0),
    };
    Update {
        family: Arc::clone(family),
        kind,
        help: None,
        labels: labels(number),
        ttl: None,
        change,
    }
}

fn batch(numbers: impl Iterator<Item = usize>, kind: Kind) -> Batch {
    let family = Arc::from("load_requests_total");
    Batch {
        updates: numbers
            .map(|number| update(&family, kind, number))
            .collect(),
        ..Batch::default()
    }
}

fn limits() -> RegistryLimits {
    RegistryLimits {
        series: usize::MAX,
        series_per_family: usize::MAX,
        ..RegistryLimits::default()
    }
}

fn registry(living: usize, kind: Kind) -> Registry {
    let mut registry = Registry::new(limits(), std::hash::RandomState::new());
    for first in (0..living).step_by(1000) {
        let plan = registry
            .check(batch(first..first + 1000, kind), Instant::now())
            .expect("there is room");
        registry.commit(plan);
    }
    registry
}

/// Resident memory of this process.
fn resident() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(f64::NAN, |pages: f64| pages * 4096.0)
}

/// Measures in a separate process, since the allocator would reuse freed memory.
fn memory(kind: &str) {
    let program = std::env::current_exe().expect("it runs");
    let status = Command::new(program).args(["memory", kind]).status();
    assert!(status.expect("it ran a moment ago").success());
}

fn measure_memory(kind: &str) {
    let (kind, what, series) = match kind {
        "histogram" => (Kind::Histogram, "a histogram of 11 buckets", 100_000),
        _ => (Kind::Counter, "a counter", 1_000_000),
    };
    let before = resident();
    let registry = registry(series, kind);
    let bytes = (resident() - before) / registry.series() as f64;
    let labels = labels(0).len();
    println!("| bytes of {what} among {series}, {labels} of them labels | {bytes:.0} |");
    let counted = registry.weight() as f64 / registry.series() as f64;
    println!("| the same as it is counted, with its text and the store's index | {counted:.0} |");
}

/// Additions to existing series, without building the batches, beside a plain map with the same
/// labels as keys.
fn additions(living: usize) {
    const AT_ONCE: usize = 500;
    let mut registry = registry(living, Kind::Counter);
    let mut map: HashMap<LabelText, f64> = (0..living).map(|n| (labels(n), 0.0)).collect();
    let mut place = 0;
    let mut next = || {
        place = (place + 7919) % living;
        place
    };
    for size in [1, 100] {
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..40 * ROUNDS {
            let numbers: Vec<usize> = (0..AT_ONCE).map(|_| next()).collect();
            let batches: Vec<Batch> = numbers
                .chunks(size)
                .map(|numbers| batch(numbers.iter().copied(), Kind::Counter))
                .collect();
            let now = Instant::now();
            ours.push(time(|| {
                for batch in batches {
                    let plan = registry.check(batch, now).expect("it is there");
                    registry.commit(plan);
                }
            }));
            let numbers: Vec<usize> = (0..AT_ONCE).map(|_| next()).collect();
            let texts: Vec<LabelText> = numbers.into_iter().map(labels).collect();
            plain.push(time(|| {
                for text in texts {
                    *map.get_mut(&text).expect("it is there") += 1.0;
                }
            }));
        }
        let [ours, plain] = [ours, plain].map(|times| median(times) * 1e9 / AT_ONCE as f64);
        println!(
            "| an addition, {living} series, batches of {size} | {ours:.0} ns ({plain:.0} ns in a plain map) |"
        );
    }
}

fn store(living: usize) -> Store {
    let limits = StoreLimits {
        apps: 1,
        groups: usize::MAX,
        bytes: usize::MAX,
        registry: limits(),
    };
    let store = Store::new(limits, false);
    for first in (0..living).step_by(1000) {
        let batch = batch(first..first + 1000, Kind::Counter);
        store.operate(batch, Now::read()).expect("there is room");
    }
    store
}

/// Scrapes of 100,000 series with 1 % changed before each.
fn scrape(step: usize, what: &str) {
    const LIVING: usize = 100_000;
    let store = store(LIVING);
    let whole = time(|| {
        store
            .snapshot()
            .texts()
            .map(|text| text.len())
            .sum::<usize>()
    });
    store.snapshot().gzip();
    let mut place = 0;
    let (mut flush, mut text, mut gzip) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut change = || {
            let numbers = (0..LIVING / 100).map(|_| {
                place = (place + step) % LIVING;
                place
            });
            let batch = batch(numbers, Kind::Counter);
            store.operate(batch, Now::read()).expect("it is there");
        };
        change();
        flush.push(time(|| store.snapshot()));
        store.snapshot().texts().for_each(drop);
        change();
        text.push(time(|| {
            let texts = store.snapshot().texts();
            texts.map(|text| text.len()).sum::<usize>()
        }));
        change();
        gzip.push(time(|| store.snapshot().gzip().len()));
    }
    let none = time(|| store.snapshot());
    println!(
        "| scrape of 100,000 series that are new, text | {} |",
        shown(whole)
    );
    println!(
        "| scrape, nothing changed: the snapshot alone | {} |",
        shown(none)
    );
    println!(
        "| scrape, 1 % changed {what}: the snapshot alone | {} |",
        shown(median(flush))
    );
    println!(
        "| scrape, 1 % changed {what}, text | {} |",
        shown(median(text))
    );
    println!(
        "| scrape, 1 % changed {what}, gzip on one core | {} |",
        shown(median(gzip))
    );
}

/// Additions through the store while another thread scrapes continuously.
fn operations() {
    let store = store(10_000);
    let run = || {
        let batches: Vec<Batch> = (0..1000)
            .map(|round| {
                batch(
                    (0..100).map(|n| (round * 100 + n) * 7919 % 10_000),
                    Kind::Counter,
                )
            })
            .collect();
        let start = Instant::now();
        for batch in batches {
            store.operate(batch, Now::read()).expect("it is there");
        }
        100_000.0 / start.elapsed().as_secs_f64()
    };
    let alone = median((0..ROUNDS).map(|_| run()).collect());
    println!("| additions a second through the store, in batches of 100 | {alone:.0} |");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let scraped = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                black_box(store.snapshot().texts().count());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let rate = median((0..ROUNDS).map(|_| run()).collect());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        rate
    });
    println!("| the same with a scrape every 10 ms | {scraped:.0} |");
}

fn shown(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.1} µs", seconds * 1e6)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}

fn time<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}
