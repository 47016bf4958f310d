mod decoded;
mod natives;
mod properties;
mod settings;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use super::batches::BatchLimits;
use super::collector::Collector;
use super::outs::STALE;
use super::*;
use crate::clock::Now;
use crate::exposition::{
    CanonicalOptions, Content, Text, TextLimits, TimestampPolicy, canonicalize,
};
use crate::outputs::sinks::QueueConfig;
use crate::peer::Origin;
use crate::registry::RegistryLimits;
use crate::settings::document;
use crate::settings::reader::{Faults, Table};
use crate::store::{Change, Producer, SectionId, Store, StoreLimits, Write};
use decoded::{MetricMetadata, Sent, decode_v1, decode_v2};

/// The settings in TOML, or the first error.
fn parse(text: &str) -> Result<(Settings, QueueConfig), String> {
    let mut errors = Vec::new();
    let text = format!("[sink.to]\nurl = \"http://receiver/write\"\n{text}");
    let entries = document::parse_toml("test", &text, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    let faults = Faults::default();
    let mut read_settings = None;
    Table::root(entries, &faults).take_named_tables("sink", |_, table| {
        read_settings = read(table);
        Some(())
    });
    let (errors, _) = faults.into_inner();
    match errors.first() {
        Some(error) => Err(error.to_string()),
        None => Ok(read_settings.unwrap()),
    }
}

/// The contents of an item; checks that its counts agree.
fn decode(item: &WriteItem) -> (Vec<Sent>, Vec<MetricMetadata>) {
    let (sent, metadata) = match item.protocol() {
        Protocol::V1 => decode_v1(&item.body()),
        Protocol::V2 => (decode_v2(&item.body()), Vec::new()),
    };
    let sum = |count: fn(&Sent) -> usize| sent.iter().map(count).sum::<usize>() as u32;
    assert_eq!(item.counts().samples, sum(|it| it.samples.len()));
    assert_eq!(item.counts().histograms, sum(|it| it.histograms.len()));
    assert_eq!(item.counts().exemplars, sum(|it| it.exemplars.len()));
    (sent, metadata)
}

/// A store, and a collector whose requests are kept.
struct Bench {
    store: Arc<Store>,
    collector: Collector,
    sent: Arc<Mutex<Vec<WriteItem>>>,
    /// Whether the queue has no room.
    full: Arc<AtomicBool>,
    /// The time in milliseconds since 1970.
    time: u64,
}

impl Bench {
    fn new(text: &str) -> Self {
        let (settings, queue) = parse(text).unwrap();
        let limits = StoreLimits {
            apps: 1000,
            groups: 1000,
            bytes: 64 << 20,
            registry: RegistryLimits::default(),
        };
        let store = Arc::new(Store::new(limits, false));
        let (sent, full) = (
            Arc::<Mutex<Vec<WriteItem>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (to, is_full) = (Arc::clone(&sent), Arc::clone(&full));
        let push = Box::new(move |item| {
            if is_full.load(Ordering::Relaxed) {
                return false;
            }
            to.lock().unwrap_or_else(PoisonError::into_inner).push(item);
            true
        });
        let limits = BatchLimits {
            samples: queue.batch_items,
            bytes: queue.batch_bytes,
        };
        let source = Source {
            store: Arc::clone(&store),
            own_metrics: None,
        };
        let stats = Arc::new(SinkStats::new("to", "remote_write", 1 << 20, ""));
        let fallen_back = Arc::new(AtomicBool::new(false));
        let collector = Collector::new(settings, limits, source, stats, fallen_back, push);
        Bench {
            store,
            collector: collector.unwrap(),
            sent,
            full,
            time: 1_000_000,
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: UNIX_EPOCH + Duration::from_millis(self.time),
            tick: Instant::now(),
        }
    }

    /// Sets what an app exposes: families, or nothing to remove it.
    fn set(&self, app: &str, text: &str) {
        let options = CanonicalOptions {
            limits: TextLimits::default(),
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: &RandomState::new(),
        };
        let families = canonicalize(text, &options).unwrap();
        self.replace(app, Content::Families(families));
    }

    fn replace(&self, app: &str, content: Content) {
        let id = SectionId::new(app, Producer::App);
        let origin = Origin::default();
        let change = Change::Replace {
            id,
            content,
            origin,
            lifetime: None,
        };
        self.store.apply(Write::one(change), self.now()).unwrap();
    }

    /// Collects some milliseconds later, and returns the requests.
    fn collect_items(&mut self, after: u64) -> Vec<WriteItem> {
        self.time += after;
        let now = self.now();
        self.collector.collect(now);
        self.take()
    }

    fn take(&self) -> Vec<WriteItem> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn collect(&mut self, after: u64) -> Vec<Sent> {
        let items = self.collect_items(after);
        items.iter().flat_map(|item| decode(item).0).collect()
    }

    /// The samples of a collection as text, sorted: `series value @time`, with the time since
    /// the start in milliseconds, and `stale` for a marker.
    fn samples(&mut self, after: u64) -> Vec<String> {
        let sent = self.collect(after);
        samples(&sent)
    }

    fn metadata(&mut self, after: u64) -> Vec<MetricMetadata> {
        let items = self.collect_items(after);
        items.iter().flat_map(|item| decode(item).1).collect()
    }
}

fn samples(sent: &[Sent]) -> Vec<String> {
    let mut texts: Vec<String> = sent
        .iter()
        .flat_map(|sent| {
            sent.samples.iter().map(|sample| {
                let time = sample.timestamp - 1_000_000;
                match sample.value.to_bits() {
                    STALE => format!("{} stale @{time}", sent.series),
                    _ => format!("{} {} @{time}", sent.series, sample.value),
                }
            })
        })
        .collect();
    texts.sort();
    texts
}

const BOTH: [&str; 2] = ["protocol = \"1.0\"\n", "protocol = \"2.0\"\n"];

#[test]
fn all_series_are_sent_with_the_time_of_the_collection_or_their_own() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.set(
            "a",
            "# TYPE c counter\nc{z=\"1\",b=\"x\\\"\\\\\\n{} é\"} 3\nc 0\n# TYPE g gauge\ng NaN\ng{a=\"i\"} +Inf\n\
             g{a=\"j\"} -Inf\ng{a=\"n\"} -0.25\ng{a=\"t\"} 123456789.123456789 1000007\n",
        );
        let expected = [
            "c 0 @5",
            "c{b=\"x\"\\\n{} é\",z=\"1\"} 3 @5",
            "g NaN @5",
            "g{a=\"i\"} inf @5",
            "g{a=\"j\"} -inf @5",
            "g{a=\"n\"} -0.25 @5",
            "g{a=\"t\"} 123456789.12345679 @7",
        ];
        assert_eq!(bench.samples(5), expected, "{protocol}");
        // Unchanged values are sent again, except those with their own times.
        let again: Vec<String> = expected[..6]
            .iter()
            .map(|it| it.replace("@5", "@20"))
            .collect();
        assert_eq!(bench.samples(15), again);
    }
}

#[test]
fn verbatim_texts_are_sent_as_families() {
    let mut bench = Bench::new("");
    bench.replace(
        "a",
        Content::Verbatim(Text::new("m{b=\"2\",a=\"1\"} 1\nother 2\n")),
    );
    bench.replace("b", Content::Verbatim(Text::new("not metrics\n")));
    bench.set("c", "c 3\n");
    assert_eq!(
        bench.samples(1),
        ["c 3 @1", "m{a=\"1\",b=\"2\"} 1 @1", "other 2 @1"]
    );
    bench.replace("a", Content::Verbatim(Text::new("other 5\n")));
    assert_eq!(
        bench.samples(1),
        ["c 3 @2", "m{a=\"1\",b=\"2\"} stale @2", "other 5 @2"]
    );
}

#[test]
fn series_are_chosen_and_their_labels_changed() {
    let settings = "match = [\"up\", \"{job=~\\\"a.*\\\",env!=\\\"x\\\"}\"]\n\
                    external_labels = { cluster = \"c1\", env = \"prod\" }\n\
                    relabel = [\n\
                    { action = \"labeldrop\", regex = \"secret\" },\n\
                    { source_labels = [\"cluster\", \"job\"], target_label = \"where\" },\n\
                    { action = \"drop\", source_labels = [\"__name__\"], regex = \"gone\" },\n\
                    { source_labels = [\"__name__\"], regex = \"old\", target_label = \"__name__\", replacement = \"new\" },\n]\n";
    for protocol in BOTH {
        let mut bench = Bench::new(&format!("{protocol}{settings}"));
        bench.set(
            "a",
            "up 1\nother 1\nm{job=\"a1\",secret=\"s\"} 2\nm{job=\"a1\",env=\"x\"} 3\nm{job=\"b\"} 4\n\
             old{job=\"a\",env=\"dev\"} 5\ngone{job=\"a\"} 6\n",
        );
        let expected = [
            "m{cluster=\"c1\",env=\"prod\",job=\"a1\",where=\"c1;a1\"} 2 @1",
            "new{cluster=\"c1\",env=\"dev\",job=\"a\",where=\"c1;a\"} 5 @1",
            "up{cluster=\"c1\",env=\"prod\",where=\"c1;\"} 1 @1",
        ];
        assert_eq!(bench.samples(1), expected);
        assert_eq!(bench.collector.stats().series(), 3);
    }
}

#[test]
fn a_series_that_goes_is_marked_once() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.set("a", "m{a=\"1\"} 1\nm{a=\"2\"} 2\nm{a=\"t\"} 2 1000001\n");
        bench.set("b", "n 1\n");
        bench.samples(1);
        bench.set("a", "m{a=\"2\"} 2\n");
        // A series whose samples have their own times gets no marker.
        assert_eq!(
            bench.samples(1),
            ["m{a=\"1\"} stale @2", "m{a=\"2\"} 2 @2", "n 1 @2"]
        );
        assert_eq!(bench.samples(1), ["m{a=\"2\"} 2 @3", "n 1 @3"]);
        bench.set("a", "m{a=\"1\"} 1\n");
        assert_eq!(
            bench.samples(1),
            ["m{a=\"1\"} 1 @4", "m{a=\"2\"} stale @4", "n 1 @4"]
        );
        bench.set("a", "");
        assert_eq!(bench.samples(1), ["m{a=\"1\"} stale @5", "n 1 @5"]);
        bench.time += 1;
        let now = bench.now();
        bench.collector.end(now);
        let sent: Vec<Sent> = bench.take().iter().flat_map(|it| decode(it).0).collect();
        assert_eq!(samples(&sent), ["n stale @6"]);
    }
}

#[test]
fn values_that_stay_the_same_are_sent_less_often() {
    let mut bench = Bench::new("interval = \"10s\"\nresend_unchanged = \"30s\"\n");
    bench.set("a", "a 1\n# TYPE b gauge\nb{x=\"1\"} 1\nb{x=\"2\"} 2\n");
    assert_eq!(bench.samples(0).len(), 3);
    assert_eq!(bench.samples(10_000), Vec::<String>::new());
    bench.set("a", "a 1\n# TYPE b gauge\nb{x=\"1\"} 1\nb{x=\"2\"} 3\n");
    assert_eq!(bench.samples(10_000), ["b{x=\"2\"} 3 @20000"]);
    // Slightly early is early enough.
    assert_eq!(bench.samples(9_990), ["a 1 @29990", "b{x=\"1\"} 1 @29990"]);
    assert_eq!(bench.samples(10_000), Vec::<String>::new());
    assert_eq!(bench.samples(10_000), ["b{x=\"2\"} 3 @49990"]);
    // A marker does not wait, and a series that comes back is new.
    bench.set("a", "a 1\n");
    assert_eq!(
        bench.samples(4000),
        ["b{x=\"1\"} stale @53990", "b{x=\"2\"} stale @53990"]
    );
    bench.set("a", "a 1\n# TYPE b gauge\nb{x=\"2\"} 3\n");
    assert_eq!(bench.samples(6000), ["a 1 @59990", "b{x=\"2\"} 3 @59990"]);
}

#[test]
fn requests_are_cut_by_samples_and_by_bytes() {
    let text: String = (0..1000).map(|n| format!("m{{n=\"{n}\"}} 1\n")).collect();
    for protocol in BOTH {
        let mut bench = Bench::new(&format!("{protocol}batch_items = 300\nmetadata = false\n"));
        bench.set("a", &text);
        let items = bench.collect_items(1);
        let counts: Vec<u32> = items.iter().map(|item| item.counts().samples).collect();
        assert_eq!(counts, [300, 300, 300, 100]);
        let mut bench = Bench::new(&format!(
            "{protocol}batch_bytes = \"4KiB\"\nmetadata = false\n"
        ));
        bench.set("a", &text);
        let items = bench.collect_items(1);
        assert!(items.len() > 5, "{}", items.len());
        for item in &items {
            let body = snap::raw::Decoder::new()
                .decompress_vec(&item.body())
                .unwrap();
            // The last series may exceed it.
            assert!(body.len() < 4096 + 100, "{}", body.len());
        }
        let sent: Vec<Sent> = items.iter().flat_map(|it| decode(it).0).collect();
        assert_eq!(samples(&sent).len(), 1000);
    }
}

#[test]
fn what_finds_no_room_is_sent_the_next_time() {
    let mut bench = Bench::new("resend_unchanged = \"60s\"\n");
    bench.set("a", "a 1\nb 2\nc 3\n");
    bench.samples(1);
    bench.set("a", "a 1\nb 5\n");
    bench.full.store(true, Ordering::Relaxed);
    assert_eq!(bench.samples(1), Vec::<String>::new());
    assert_eq!(bench.samples(1), Vec::<String>::new());
    bench.full.store(false, Ordering::Relaxed);
    assert_eq!(bench.samples(1), ["a 1 @4", "b 5 @4", "c stale @4"]);
    assert_eq!(bench.samples(1), Vec::<String>::new());
    assert_eq!(bench.collector.stats().series(), 2);
}

#[test]
fn a_clock_that_is_set_back_gives_no_older_times() {
    let mut bench = Bench::new("");
    bench.set("a", "a 1\n");
    assert_eq!(bench.samples(100), ["a 1 @100"]);
    bench.time -= 50;
    assert_eq!(bench.samples(0), ["a 1 @101"]);
}

#[test]
fn points_at_several_times_are_sent_in_order_and_once() {
    let mut bench = Bench::new("");
    bench.set("a", "m 1 1000001\nm 2 1000002\nn 1\n");
    assert_eq!(bench.samples(5), ["m 1 @1", "m 2 @2", "n 1 @5"]);
    bench.set("a", "m 1 1000001\nm 2 1000002\nm 3 1000003\nn 1\n");
    assert_eq!(bench.samples(5), ["m 3 @3", "n 1 @10"]);
}

#[test]
fn of_series_with_the_same_labels_one_is_sent() {
    for protocol in BOTH {
        let settings = "relabel = [{ action = \"labeldrop\", regex = \"id\" }]\n";
        let mut bench = Bench::new(&format!("{protocol}{settings}"));
        bench.set("a", "m{id=\"1\"} 1\nm{id=\"2\"} 2\n");
        assert_eq!(bench.samples(1), ["m 1 @1"]);
        assert_eq!(bench.samples(1), ["m 1 @2"]);
        assert_eq!(bench.collector.stats().repeated_series.value(), 1);
        // Another line takes over the series, without a marker in between.
        bench.set("a", "m{id=\"3\"} 3\n");
        assert_eq!(bench.samples(1), ["m 3 @3"]);
        bench.set("a", "m{id=\"3\"} 3\nm{id=\"4\"} 4\n");
        bench.samples(1);
        bench.set("a", "m{id=\"4\"} 4\n");
        assert_eq!(bench.samples(1), Vec::<String>::new());
        assert_eq!(bench.samples(1), ["m 4 @6"]);
        bench.set("a", "");
        assert_eq!(bench.samples(1), ["m stale @7"]);
    }
}

#[test]
fn series_without_a_name_are_counted() {
    let mut bench = Bench::new("relabel = [{ target_label = \"__name__\", replacement = \"\" }]\n");
    bench.set("a", "m 1\n");
    assert_eq!(bench.samples(1), Vec::<String>::new());
    assert_eq!(bench.collector.stats().nameless_series.value(), 1);
}

const DESCRIBED: &str = "# HELP c Counts \\\\ things.\n# TYPE c counter\nc 1\n# TYPE h histogram\n\
     h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# TYPE s summary\ns_sum 1\ns_count 1\nu 1\n";

#[test]
fn protocol_1_describes_families_each_minute() {
    let mut bench = Bench::new("match = [\"{__name__!=\\\"c\\\"}\"]\n");
    bench.set("a", DESCRIBED);
    let described = |bench: &mut Bench, after| -> BTreeMap<String, (i32, String)> {
        let metadata = bench.metadata(after);
        metadata
            .into_iter()
            .map(|it| (it.name, (it.kind, it.help)))
            .collect()
    };
    let kinds = |named: BTreeMap<String, (i32, String)>| -> Vec<(String, i32)> {
        named
            .into_iter()
            .map(|(name, (kind, _))| (name, kind))
            .collect()
    };
    let expected = [
        ("h".to_owned(), 3),
        ("s".to_owned(), 5),
        ("u".to_owned(), 0),
    ];
    assert_eq!(kinds(described(&mut bench, 1)), expected);
    assert_eq!(kinds(described(&mut bench, 30_000)), []);
    assert_eq!(kinds(described(&mut bench, 30_000)), expected);
    let mut all = Bench::new("");
    all.set("a", DESCRIBED);
    let named = described(&mut all, 1);
    assert_eq!(named["c"], (1, "Counts \\ things.".to_owned()));
    let mut none = Bench::new("metadata = false\n");
    none.set("a", DESCRIBED);
    assert_eq!(none.metadata(1), []);
}

#[test]
fn protocol_2_describes_each_series() {
    let mut bench = Bench::new("protocol = \"2.0\"\n");
    bench.set("a", DESCRIBED);
    bench.set(
        "b",
        "# TYPE t_seconds gauge\n# UNIT t_seconds seconds\nt_seconds 1\n# TYPE s_set stateset\ns_set{s_set=\"x\"} 1\n# EOF\n",
    );
    let metadata = |bench: &mut Bench| -> BTreeMap<String, (i32, String, String)> {
        let sent = bench.collect(1).into_iter();
        sent.filter_map(|it| Some((it.series, it.metadata?)))
            .collect()
    };
    let described = metadata(&mut bench);
    let text = str::to_owned;
    assert_eq!(described["c"], (1, text("Counts \\ things."), text("")));
    assert_eq!(described["h_bucket{le=\"+Inf\"}"].0, 3);
    assert_eq!(described["s_count"].0, 5);
    assert_eq!(described.get("u"), None);
    assert_eq!(described["t_seconds"], (2, text(""), text("seconds")));
    assert_eq!(described["s_set{s_set=\"x\"}"].0, 7);
    bench.set("a", "# HELP c Other.\n# TYPE c gauge\nc 1\n");
    assert_eq!(metadata(&mut bench)["c"], (2, text("Other."), text("")));
    // Strings that no series uses any more are dropped.
    bench.set("a", "");
    bench.set("b", "");
    bench.collect(1);
    assert_eq!(bench.collector.outs().symbols(), 1);
    let mut none = Bench::new("protocol = \"2.0\"\nmetadata = false\n");
    none.set("a", DESCRIBED);
    assert_eq!(metadata(&mut none), BTreeMap::new());
}

#[test]
fn requests_of_protocol_2_become_ones_of_1() {
    let mut one = Bench::new("metadata = false\n");
    let mut two = Bench::new("protocol = \"2.0\"\n");
    for bench in [&one, &two] {
        bench.set("a", DESCRIBED);
        bench.set("b", "m{a=\"é\",b=\"\\\\\"} 1\n");
    }
    let items = two.collect_items(1);
    let converted: Vec<WriteItem> = items.iter().filter_map(|it| it.to_v1(false)).collect();
    assert!(converted.iter().all(|item| item.protocol() == Protocol::V1));
    let sent: Vec<Sent> = converted.iter().flat_map(|it| decode(it).0).collect();
    assert_eq!(samples(&sent), one.samples(1));
    // From then on, the collector makes requests of 1.0, and knows its series.
    two.collector.fall_back();
    for bench in [&one, &two] {
        bench.set("a", "c 2\n");
    }
    let items = two.collect_items(1);
    assert!(items.iter().all(|item| item.protocol() == Protocol::V1));
    let sent: Vec<Sent> = items.iter().flat_map(|it| decode(it).0).collect();
    assert_eq!(samples(&sent), one.samples(1));
    assert!(samples(&sent).contains(&"u stale @2".to_owned()));
}
