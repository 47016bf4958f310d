//! The compressor of pages beside `zlib-rs` (through `flate2`, level 1) and `fdeflate`, on the
//! pages of several stores, one after the other. In each round every compressor has its turn. Times
//! are processor times.

use std::fmt::Write as _;
use std::hint::black_box;

use bench::figures::{cpu_time, median};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use exporter_proxy::clock::Now;
use exporter_proxy::exposition::{Content, Text};
use exporter_proxy::peer::Origin;
use exporter_proxy::store::{Change, Deflate, Producer, SectionId, Store, StoreLimits, Write};

const ROUNDS: usize = 31;

/// Compresses each page by itself; returns the size of the result.
type Compressor<'c> = Box<dyn FnMut(&[Bytes]) -> usize + 'c>;

/// Makes the text of an app.
type Make = fn(usize) -> String;

/// Prints a Markdown table: the median time for all pages, and the ratio to the proxy's own.
pub fn compare() {
    println!(
        "| Pages | Text, MB | `Deflate`, ms | `zlib-rs` | `fdeflate` | best of both by ours | Sizes, MB |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    );
    let kinds: [(&str, Make); 4] = [
        ("counters, 1,000 apps of 100 series", counters),
        ("histograms, 1,000 apps of 10 histograms", histograms),
        ("gauges with random values and labels", gauges),
        ("a Go program's own metrics, 1,000 times", runtime),
    ];
    for (what, make) in kinds {
        let pages = pages(make);
        row(what, &pages);
    }
}

fn row(what: &str, pages: &[Bytes]) {
    let mut own = Deflate::new();
    let mut zlib = Compress::new(Compression::fast(), false);
    let mut block = Vec::with_capacity(1 << 20);
    let mut compressors: [Compressor<'_>; 3] = [
        Box::new(|pages| pages.iter().map(|page| own.compress(page).len()).sum()),
        Box::new(|pages| {
            let pages = pages.iter().map(|page| {
                zlib.reset();
                block.clear();
                zlib.compress_vec(page, &mut block, FlushCompress::Sync)
                    .expect("memory is written to");
                assert_eq!(zlib.total_in(), page.len() as u64, "the block has room");
                block.len()
            });
            pages.sum()
        }),
        Box::new(|pages| {
            let pages = pages.iter().map(|page| {
                let mut compressor =
                    fdeflate::Compressor::new(Vec::new()).expect("memory is written to");
                compressor.write_data(page).expect("memory is written to");
                let block = compressor.finish().expect("memory is written to");
                black_box(block).len()
            });
            pages.sum()
        }),
    ];
    let mut times = [const { Vec::new() }; 3];
    let mut sizes = [0; 3];
    for _ in 0..ROUNDS {
        for ((compress, times), size) in compressors.iter_mut().zip(&mut times).zip(&mut sizes) {
            let begun = cpu_time().expect("Linux counts it");
            *size = black_box(compress(black_box(pages)));
            times.push((cpu_time().expect("Linux counts it") - begun) * 1e3);
        }
    }
    let [own, zlib, fdeflate] = times.map(median);
    let text: usize = pages.iter().map(Bytes::len).sum();
    let sizes = sizes.map(|size| format!("{:.2}", size as f64 / 1e6));
    println!(
        "| {what} | {:.1} | {own:.2} | {zlib:.2} | {fdeflate:.2} | {:.2} x | {} |",
        text as f64 / 1e6,
        zlib.min(fdeflate) / own,
        sizes.join(", ")
    );
}

/// The pages of a store with the texts of 1,000 apps.
fn pages(make: Make) -> Vec<Bytes> {
    let limits = StoreLimits {
        apps: usize::MAX,
        groups: usize::MAX,
        bytes: usize::MAX,
        registry: exporter_proxy::registry::RegistryLimits::default(),
    };
    let store = Store::new(limits, false);
    for app in 0..1_000 {
        let change = Change::Replace {
            id: SectionId::new(&format!("app_{app:05}"), Producer::App),
            content: Content::Verbatim(Text::new(&make(app))),
            origin: Origin::default(),
            lifetime: None,
        };
        store
            .apply(Write::one(change), Now::read())
            .expect("there is no limit");
    }
    store.snapshot().texts().collect()
}

/// A pseudorandom number from two others.
fn scrambled(a: usize, b: usize) -> usize {
    let mixed = (a * 7919 + b).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32
}

fn counters(app: usize) -> String {
    let mut text = String::from("# TYPE load_requests_total counter\n");
    for series in 0..100 {
        let value = 1_000_000 + scrambled(app, series) % 1_000_003;
        let _ = writeln!(
            text,
            "load_requests_total{{app=\"load_{app:05}\",code=\"200\",handler=\"/api/v1/items\",series=\"{series:04}\"}} {value}"
        );
    }
    text
}

fn histograms(app: usize) -> String {
    const BOUNDS: [&str; 12] = [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
    ];
    let mut text = String::from("# TYPE request_duration_seconds histogram\n");
    for path in 0..10 {
        let labels = format!("app=\"app_{app:05}\",method=\"GET\",path=\"/v1/{path}\"");
        let mut count = 0;
        for (number, bound) in BOUNDS.iter().enumerate() {
            count += scrambled(app * 100 + path, number) % 5_000;
            let _ = writeln!(
                text,
                "request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}"
            );
        }
        let sum = count as f64 * 0.1234 + 0.001 * path as f64;
        let _ = writeln!(
            text,
            "request_duration_seconds_sum{{{labels}}} {sum}\nrequest_duration_seconds_count{{{labels}}} {count}"
        );
    }
    text
}

fn gauges(app: usize) -> String {
    let mut text = String::from("# TYPE disk_usage_ratio gauge\n");
    for series in 0..100 {
        let random = scrambled(app, series);
        let value = random as f64 / f64::from(u32::MAX);
        let _ = writeln!(
            text,
            "disk_usage_ratio{{device=\"{random:08x}\",host=\"h{}\",mount=\"/data/{}\"}} {value}",
            random % 997,
            random % 31
        );
    }
    text
}

/// Many families of few series, with their heads.
fn runtime(app: usize) -> String {
    const FAMILIES: [(&str, &str, &str); 12] = [
        (
            "go_gc_duration_seconds_total",
            "counter",
            "Time in garbage collection.",
        ),
        (
            "go_goroutines",
            "gauge",
            "Number of goroutines that currently exist.",
        ),
        (
            "go_memstats_alloc_bytes",
            "gauge",
            "Number of bytes allocated and still in use.",
        ),
        (
            "go_memstats_alloc_bytes_total",
            "counter",
            "Total number of bytes allocated, even if freed.",
        ),
        (
            "go_memstats_heap_idle_bytes",
            "gauge",
            "Number of heap bytes waiting to be used.",
        ),
        (
            "go_memstats_heap_objects",
            "gauge",
            "Number of allocated objects.",
        ),
        (
            "go_memstats_mallocs_total",
            "counter",
            "Total number of mallocs.",
        ),
        ("go_threads", "gauge", "Number of OS threads created."),
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
        ),
    ];
    let mut text = String::new();
    for (number, (name, kind, help)) in FAMILIES.iter().enumerate() {
        let value = scrambled(app, number) as f64 / 64.0;
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{app=\"app_{app:05}\"}} {value}"
        );
    }
    text
}
