//! Measures how long a large write delays others. A text of many families or series is written to
//! a store that holds 9 MB, while one thread takes snapshots and another pushes a small group,
//! both continuously.
//!
//! `cargo bench -p bench --bench large_writes` prints Markdown.

use std::fmt::Write as _;
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use exporter_proxy::clock::Now;
use exporter_proxy::exposition::{
    CanonicalOptions, Content, FamilyText, TextLimits, TimestampPolicy, canonicalize,
};
use exporter_proxy::peer::Origin;
use exporter_proxy::registry;
use exporter_proxy::store::{
    Change, OtherFamilies, Producer, SectionId, Store, StoreLimits, Write,
};

fn main() {
    if !bench::is_measuring() {
        return;
    }
    println!(
        "| Text | Step | apply, ms | longest snapshot beside it | longest small push | scrape after, gzip |\n\
         | --- | --- | ---: | ---: | ---: | ---: |"
    );
    for (what, families, series) in [
        ("50,000 families", 50_000, 1),
        ("1,000 families of 1,000 series", 1_000, 1_000),
        ("1 family of 1,000,000 series", 1, 1_000_000),
        ("500,000 families", 500_000, 1),
        ("900,000 families", 900_000, 1),
    ] {
        run(what, families, series);
    }
}

fn run(what: &str, families: usize, series: usize) {
    let store = held();
    let hash = store.hasher().clone();
    for (step, name, value) in [
        ("new", "m", 1),
        ("the same again", "m", 2),
        ("others instead", "n", 3),
    ] {
        let read = texts(&text(name, families, series, value), &hash);
        let (took, snapshot, push) = beside(&store, || apply(&store, "large", read));
        let start = Instant::now();
        std::hint::black_box(store.snapshot().gzip());
        let scrape = start.elapsed();
        row(what, step, [took, snapshot, push, scrape]);
    }
    let remove = Change::Remove {
        id: SectionId::new("large", Producer::App),
        unless_since: None,
    };
    let (took, snapshot, push) = beside(&store, || {
        store.apply(Write::one(remove), Now::read()).expect("taken");
    });
    row(what, "removal", [took, snapshot, push, Duration::ZERO]);
}

fn row(what: &str, step: &str, times: [Duration; 4]) {
    let [took, snapshot, push, scrape] = times.map(|time| time.as_secs_f64() * 1e3);
    println!("| {what} | {step} | {took:.1} | {snapshot:.1} | {push:.1} | {scrape:.1} |");
}

/// A store that holds 1,000 apps of 100 series in merged mode.
fn held() -> Store {
    let limits = StoreLimits {
        apps: usize::MAX,
        groups: usize::MAX,
        bytes: usize::MAX,
        registry: registry::RegistryLimits::default(),
    };
    let store = Store::new(limits, true);
    let hash = store.hasher().clone();
    for app in 0..1_000 {
        let mut text = String::from("# TYPE load_requests_total counter\n");
        for series in 0..100 {
            let _ = writeln!(
                text,
                "load_requests_total{{app=\"load_{app:05}\",code=\"200\",handler=\"/api/v1/items\",series=\"{series:04}\"}} {series}"
            );
        }
        apply(&store, &format!("load_{app:05}"), texts(&text, &hash));
    }
    std::hint::black_box(store.snapshot().gzip());
    store
}

fn text(name: &str, families: usize, series: usize, value: usize) -> String {
    let mut text = String::new();
    for family in 0..families {
        for number in 0..series {
            let _ = match series {
                1 => writeln!(text, "{name}{family} {value}"),
                _ => writeln!(text, "{name}{family}{{n=\"{number}\"}} {value}"),
            };
        }
    }
    text
}

fn texts(text: &str, hash: &RandomState) -> Vec<FamilyText> {
    let normal = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash,
    };
    canonicalize(text, &normal).expect("it is text")
}

fn apply(store: &Store, app: &str, families: Vec<FamilyText>) {
    let change = Change::Replace {
        id: SectionId::new(app, Producer::App),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: None,
    };
    store.apply(Write::one(change), Now::read()).expect("taken");
}

/// The duration of `work`, and of the longest snapshot and small push during it.
fn beside(store: &Store, work: impl FnOnce()) -> (Duration, Duration, Duration) {
    let done = AtomicBool::new(false);
    let hash = store.hasher().clone();
    std::thread::scope(|scope| {
        let snapshots = scope.spawn(|| longest(&done, || drop(store.snapshot())));
        let pushes = scope.spawn(|| {
            longest(&done, || {
                let families = texts("# TYPE small gauge\nsmall 1\n", &hash);
                let change = Change::Update {
                    id: SectionId::new("small", Producer::Group),
                    families,
                    defaults: Vec::new(),
                    others: OtherFamilies::Drop,
                    origin: Origin::default(),
                    lifetime: None,
                    problem: None,
                };
                store.apply(Write::one(change), Now::read()).expect("taken");
            })
        });
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        work();
        let took = start.elapsed();
        done.store(true, Ordering::Relaxed);
        (
            took,
            snapshots.join().expect("done"),
            pushes.join().expect("done"),
        )
    })
}

fn longest(done: &AtomicBool, work: impl Fn()) -> Duration {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        work();
        longest = longest.max(start.elapsed());
        // Without a pause, the two threads would starve the third.
        std::thread::sleep(Duration::from_micros(200));
    }
    longest
}
