//! The store's pages, beside the plain solution: a sorted map of texts that is joined and
//! compressed as a whole for each scrape.
//!
//! Prints medians over several rounds as Markdown. The last column is the map's time divided by the
//! pages' time, from the same run.
//!
//! `cargo bench -p bench --bench pages -- compressors` compares the compressor
//! of pages with `zlib-rs` and `fdeflate` instead.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use bench::figures::median;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use exporter_proxy::clock::Now;
use exporter_proxy::exposition::{Content, Text};
use exporter_proxy::peer::Origin;
use exporter_proxy::store::{Change, Producer, SectionId, Store, StoreLimits, Write as Push};

mod compressors;

const ROUNDS: usize = 21;

fn main() {
    if !bench::is_measuring() {
        return;
    }
    if std::env::args().nth(1).as_deref() == Some("compressors") {
        return compressors::compare();
    }
    println!("| Case | What | Pages | Plain map | Ratio |\n| --- | --- | --- | --- | --- |");
    for (apps, series) in [(1_000, 100), (20_000, 5), (100, 10_000)] {
        Bench::new(apps, series).run();
    }
}

struct Bench {
    apps: usize,
    series: usize,
    store: Store,
    map: BTreeMap<String, Bytes>,
    writes: usize,
}

impl Bench {
    fn new(apps: usize, series: usize) -> Self {
        let limits = StoreLimits {
            apps: usize::MAX,
            groups: usize::MAX,
            bytes: usize::MAX,
            registry: exporter_proxy::registry::RegistryLimits::default(),
        };
        let mut bench = Bench {
            apps,
            series,
            store: Store::new(limits, false),
            map: BTreeMap::new(),
            writes: 0,
        };
        for app in 0..apps {
            bench.push(app);
        }
        bench
    }

    /// Pushes an app's text to both, with new values each time.
    fn push(&mut self, app: usize) {
        let text = self.text(app);
        self.push_pages(app, &text);
        self.push_map(app, &text);
    }

    fn text(&mut self, app: usize) -> Text {
        self.writes += 1;
        let mut text = String::new();
        for series in 0..self.series {
            text.push_str(&format!(
                "load_requests_total{{app=\"load_{app:05}\",code=\"200\",handler=\"/api/v1/items\",series=\"{series:04}\"}} {}\n",
                1_000_000 + (self.writes * 7919 + series * 104_729) % 1_000_003
            ));
        }
        Text::new(&text)
    }

    fn push_pages(&self, app: usize, text: &Text) {
        let change = Change::Replace {
            id: SectionId::new(&format!("load_{app:05}"), Producer::App),
            content: Content::Verbatim(text.clone()),
            origin: Origin::default(),
            lifetime: None,
        };
        self.store
            .apply(Push::one(change), Now::read())
            .expect("there is no limit");
    }

    fn push_map(&mut self, app: usize, text: &Text) {
        self.map
            .insert(format!("load_{app:05}"), text.bytes().clone());
    }

    fn run(mut self) {
        // Render and compress once, so that only changes are measured.
        black_box(self.store.snapshot().gzip());
        let app = self.apps / 2;
        let text = self.text(app);
        let pages = median_call(|| self.push_pages(app, &text.clone()));
        let plain = {
            let map = &mut self.map;
            median_call(|| {
                map.insert(format!("load_{app:05}"), text.bytes().clone());
            })
        };
        self.row("push of one app", pages, plain);

        for (name, share) in [
            ("nothing", 0.0),
            ("1 %", 0.01),
            ("10 %", 0.1),
            ("everything", 1.0),
        ] {
            let changed = (self.apps as f64 * share) as usize;
            let (mut identity, mut gzip) = (Vec::new(), Vec::new());
            let (mut plain_identity, mut plain_gzip) = (Vec::new(), Vec::new());
            let rounds = if share < 1.0 { ROUNDS } else { 5 };
            for round in 0..rounds {
                for place in 0..changed {
                    self.push((round * 31 + place * self.apps / changed) % self.apps);
                }
                identity.push(time(|| {
                    self.store
                        .snapshot()
                        .texts()
                        .map(|text| text.len())
                        .sum::<usize>()
                }));
                gzip.push(time(|| self.store.snapshot().gzip().len()));
                plain_identity.push(time(|| self.joined().len()));
                plain_gzip.push(time(|| self.compressed().len()));
            }
            self.row(
                &format!("text, {name} changed"),
                median(identity),
                median(plain_identity),
            );
            self.row(
                &format!("gzip, {name} changed"),
                median(gzip),
                median(plain_gzip),
            );
        }
    }

    fn joined(&self) -> Vec<u8> {
        self.map.values().flatten().copied().collect()
    }

    fn compressed(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for text in self.map.values() {
            encoder.write_all(text).expect("writing to memory");
        }
        encoder.finish().expect("writing to memory")
    }

    fn row(&self, what: &str, pages: f64, plain: f64) {
        println!(
            "| {} x {} | {what} | {} | {} | {:.1} |",
            self.apps,
            self.series,
            shown(pages),
            shown(plain),
            plain / pages
        );
    }
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

/// Median time of one call, each measured over a hundred calls.
fn median_call(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| time(|| (0..100).for_each(|_| work())) / 100.0);
    median(rounds.collect())
}
