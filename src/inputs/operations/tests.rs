mod known_lines;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::batcher::Batcher;
use super::config;
use super::extra_labels::ExtraLabels;
use super::framing::Framer;
use super::processor::{Processor, Source, Target};
use super::rejection::Rejection;
use super::sets::Sets;
use crate::clock::Now;
use crate::config::Config;
use crate::reason::Reason;
use crate::registry;
use crate::store::{Store, StoreLimits};
use crate::telemetry::{OperationStats, Transport};

/// A socket for operations, and the store that they change.
struct Bench {
    processor: Processor,
    store: Arc<Store>,
    source: Source,
    quit: CancellationToken,
}

const LIMITS: registry::RegistryLimits = registry::RegistryLimits {
    families: 20,
    series: 100,
    series_per_family: 50,
    label_bytes: 1000,
    bounds: 200,
};

fn bench(transport: Transport, change: impl FnOnce(&mut config::Config)) -> Bench {
    let mut config = Config::default().operations;
    change(&mut config);
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: LIMITS,
    };
    let store = Arc::new(Store::new(limits, false));
    let quit = CancellationToken::new();
    let target = Target::Store(Arc::clone(&store));
    let stats = Arc::<OperationStats>::default();
    // Counts of transports that are not in use are not shown.
    stats.use_transport(transport);
    Bench {
        processor: Processor::new(
            &config,
            true,
            (target, Arc::new(Sets::of(&config))),
            &Arc::new(ExtraLabels::new(&config)),
            &stats,
            quit.clone(),
        ),
        source: Source::new(&config, transport, "/run/app-one.sock", "there".to_owned()),
        store,
        quit,
    }
}

impl Bench {
    /// Processes bytes that were read at once. Returns the number and reason of each rejection.
    fn process(&self, text: &[u8]) -> Vec<(u64, Reason)> {
        let mut rejected = Vec::new();
        let on_rejection = |number, rejection: &Rejection| {
            assert!(!rejection.message.is_empty() && rejection.message.len() < 500);
            rejected.push((number, rejection.reason));
        };
        let (source, length) = (&self.source, text.len());
        let mut batcher = Batcher::new(&self.processor, source, length, 1, on_rejection);
        let mut framer = Framer::new(self.processor.config.max_message);
        framer.feed(text, true, |frame| batcher.add(frame));
        batcher.end();
        rejected
    }

    /// The exposed samples, without `HELP` and `TYPE`.
    fn samples(&self) -> Vec<String> {
        let text = String::from_utf8(self.store.snapshot().text()).unwrap();
        let lines = text.lines();
        lines
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn values_are_kept() {
    let bench = bench(Transport::Unix, |_| {});
    let rejected = bench.process(
        br#"{"name":"c","op":"inc","value":2,"labels":{"b":"1","a":"2"}}
            {"name":"c","op":"inc","value":3,"labels":{"a":"2","b":"1"}}
            [{"name":"g","op":"set","value":5},{"name":"g","op":"add","value":-1.5}]
            {"name":"h","op":"obs","value":3,"buckets":2}
            {"name":"gone","op":"set","value":1}{"name":"gone","op":"del"}
            s.c:1|c|@0.5
            s.s:x|s
            s.s:y|s
            s.s:x|s"#,
    );
    assert_eq!(rejected, []);
    assert_eq!(
        bench.samples(),
        [
            "c{a=\"2\",b=\"1\"} 5",
            "g 3.5",
            "h_bucket{le=\"0\"} 0",
            "h_bucket{le=\"10\"} 1",
            "h_bucket{le=\"+Inf\"} 1",
            "h_sum 3",
            "h_count 1",
            "s_c 2",
            "s_s 2",
        ]
    );
}

#[test]
fn a_family_takes_any_label_sets() {
    let bench = bench(Transport::Unix, |_| {});
    let rejected = bench.process(b"c:1|c\nc:2|c|#a:1\nc:3|c|#b:1\nc:4|c|#a:1,b:1\n");
    assert_eq!(rejected, []);
    assert_eq!(bench.samples().len(), 4);
}

#[test]
fn one_bad_message_does_not_affect_the_others() {
    let bench = bench(Transport::Unix, |_| {});
    let rejected = bench.process(
        b"c:1|c\nc:1|g\nc:1|c\n{\"name\":\"c\",\"op\":\"inc\",\"value\":-1}\nc:1|c\nc:1:x|c\nc:1|c",
    );
    assert_eq!(
        rejected,
        [
            (2, Reason::KindConflict),
            (4, Reason::BadValue),
            (6, Reason::BadValue)
        ]
    );
    assert_eq!(bench.samples(), ["c 4"]);
}

#[test]
fn a_line_of_packed_values_is_applied_whole_or_not_at_all() {
    let bench = bench(Transport::Unix, |_| {});
    let most = format!("h:1:{:?}|h", f64::MAX);
    assert_eq!(bench.process(most.as_bytes()), []);
    let rejected = bench.process(format!("h:1:{:?}|h\nok:1|c", f64::MAX).as_bytes());
    assert_eq!(rejected, [(1, Reason::BadValue)], "the sum is infinite");
    let samples = bench.samples();
    assert!(samples.contains(&"h_count 2".to_owned()), "{samples:?}");
    assert!(samples.contains(&"ok 1".to_owned()), "{samples:?}");
}

#[test]
fn limits_hold() {
    let bench = bench(Transport::Unix, |_| {});
    let lines: String = (0..60).map(|i| format!("c:1|c|#i:{i}\n")).collect();
    let rejected = bench.process(lines.as_bytes());
    assert_eq!(rejected.len(), 10);
    assert_eq!(rejected[0], (51, Reason::TooManySeries));
    assert_eq!(
        bench.process(b"c:1|c|#i:7"),
        [],
        "existing series are still updated"
    );
    let families: String = (0..30).map(|i| format!("f{i}:1|c\n")).collect();
    assert_eq!(bench.process(families.as_bytes()).len(), 11);
    let long = format!("{{\"name\":\"{}\",\"op\":\"inc\"}}", "x".repeat(5000));
    assert_eq!(bench.process(long.as_bytes()), [(1, Reason::BadName)]);
}

#[test]
fn labels_of_the_settings_are_added() {
    let bench = bench(Transport::Unix, |config| {
        config.extra_labels.insert("site".into(), "x".into());
        config.source_labels = true;
    });
    bench.process(b"a:1|c|#site:own,data_source:own\n");
    bench
        .process(br#"{"name":"b","op":"inc","hops":1,"labels":{"site":"far","source_app":"far"}}"#);
    assert_eq!(
        bench.samples(),
        [
            "a{data_source=\"/run/app-one.sock\",site=\"x\",source_app=\"app-one\"} 1",
            "b{data_source=\"/run/app-one.sock\",site=\"far\",source_app=\"far\"} 0",
        ],
        "a forwarded message keeps the labels it was given"
    );
}

#[test]
fn the_program_is_stopped_only_from_unix_sockets_and_if_allowed() {
    for (transport, allowed, stopped) in [
        (Transport::Unix, true, true),
        (Transport::UnixDatagram, true, true),
        (Transport::Unix, false, false),
        (Transport::Tcp, true, false),
        (Transport::Udp, true, false),
    ] {
        let bench = bench(transport, |config| config.allow_shutdown = allowed);
        let rejected = bench.process(b"a:1|c\n{\"op\":\"shutdown\"}\na:1|c\n");
        let expected: &[_] = if stopped {
            &[]
        } else {
            &[(2, Reason::NotAllowed)]
        };
        assert_eq!(rejected, expected);
        assert_eq!(bench.quit.is_cancelled(), stopped);
        assert_eq!(bench.samples(), ["a 2"]);
    }
}

#[test]
fn a_set_expires_with_its_series() {
    let ttl = Duration::from_secs(5);
    let bench = bench(Transport::Unix, |config| config.ttl = ttl);
    bench.process(b"s:x|s\ns:y|s\n");
    assert_eq!(bench.samples(), ["s 2"]);
    let later = Now::read().after(2 * ttl);
    assert_eq!(bench.store.expire_series(later), 1);
    bench.processor.sets.expire(later);
    bench.process(b"s:x|s\n{\"name\":\"s\",\"op\":\"del\"}\n");
    assert_eq!(bench.samples(), [""; 0]);
    bench.process(b"s:y|s\n");
    assert_eq!(bench.samples(), ["s 1"]);
}

/// Each of these crashes metrics-server, or makes it lose later messages.
#[test]
fn no_message_crashes_the_program() {
    let bench = bench(Transport::Unix, |_| {});
    let causes: &[&[u8]] = &[
        br#"{"name":"a","op":"inc","value":-1}"#,
        br#"{"name":"a","op":"obs","bucket_factor":0.5}"#,
        br#"{"name":"a","op":"obs","bucket_factor":1}"#,
        br#"{"name":"a","op":"obs","buckets":-5}"#,
        br#"{"name":"a","op":"obs","bucket_min":5,"bucket_max":1}"#,
        br#"{"name":"a","op":"obs","bucket_width":-5}"#,
        br#"{"name":"a","op":"obs","bucket_custom":[3,1]}"#,
        br#"{"name":"a","op":"obs","bucket_custom":[1,1]}"#,
        br#"{"name":"a","op":"obs","labels":{"le":"5"}}"#,
        br#"{"name":"a","op":"index"}"#,
        br#"{"name":"a","op":"raw","value":1}"#,
        br#"{"name":"a","op":"event"}"#,
        br#"{"name":"a","op":"inc","value":"1"}"#,
        br#"{"name":"a","op":"obs","buckets":10.5}"#,
        br#"{"name":"a b","op":"inc","value":1}"#,
        br#"{"name":"a","op":"inc","value":1"#,
    ];
    for cause in causes {
        assert_eq!(bench.process(cause).len(), 1, "{}", cause.escape_ascii());
    }
    assert_eq!(bench.samples(), [""; 0]);
    let labels_null = br#"{"name":"a","op":"inc","value":1,"labels":null}"#;
    assert_eq!(bench.process(labels_null), []);
    let braces = br#"{"name":"a","op":"inc","value":1,"labels":{"x":"{"}}"#;
    assert_eq!(bench.process(braces), []);
    // The same family with other label names, and with another kind.
    assert_eq!(bench.process(b"a:1|c|#y:1\na:1|g").len(), 1);
    assert_eq!(bench.samples(), ["a 1", "a{x=\"{\"} 1", "a{y=\"1\"} 1"]);
}

/// A xorshift generator, which gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

const SEEDS: [&[u8]; 8] = [
    br#"{"name":"a","labels":{"x":"1","y":"\u00e9"},"op":"inc","help":"H","value":1.5}"#,
    br#"{"name":"h","op":"obs","value":-3e2,"buckets":4,"bucket_width":2,"bucket_start":-1}"#,
    br#"{"name":"h","op":"obs","value":7,"bucket_min":1,"bucket_max":9,"bucket_custom":[1,2]}"#,
    br#"[{"name":"g","op":"set","value":1},{"name":"g","op":"add"},{"name":"g","op":"del"}]"#,
    b"{\n \"name\": \"p\",\n \"labels\": {\"k\": \"}{\"},\n \"op\": \"shutdown\"\n}\n",
    b"web.hits:1:2|c|@0.25|#env:prod,host:a\nload:+0.5|g\n",
    b"t:250|ms|@0.5\nh:1|d|#x\nu:alice|s\n",
    b"{\"name\":\"a\",\"op\":\"index\"}{\"name\":\"a\",\"op\":\"raw\"}",
];

/// Fills `bytes` with messages that may be valid, cut, or damaged.
fn mutated(random: &mut Random, bytes: &mut Vec<u8>) {
    const ODD: &[u8] = b"{}[]\":,\\\n\r\0|#@+-eE.019\xff\xc3 ";
    bytes.clear();
    for _ in 0..=random.below(3) {
        bytes.extend_from_slice(SEEDS[random.below(SEEDS.len())]);
    }
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, ODD[random.below(ODD.len())]),
            2 if at < bytes.len() => bytes[at] = ODD[random.below(ODD.len())],
            3 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}

/// Sends random and mutated messages over one connection, and checks that all
/// limits hold.
fn hold_against(messages: usize, seed: u64) {
    let bench = bench(Transport::Unix, |config| {
        config.max_message = 2000;
        config.max_set_values = 50;
    });
    let mut random = Random(seed);
    let mut framer = Framer::new(2000);
    let (mut buffer, mut message) = (Vec::new(), Vec::new());
    let mut number = 1;
    for _ in 0..messages {
        mutated(&mut random, &mut message);
        buffer.extend_from_slice(&message);
        let (source, length) = (&bench.source, buffer.len());
        let mut batcher = Batcher::new(&bench.processor, source, length, number, |_, _| {});
        let used = framer.feed(&buffer, false, |frame| batcher.add(frame));
        number = batcher.end();
        buffer.drain(..used);
        assert!(buffer.len() <= 2000 + message.len(), "{}", buffer.len());
    }
    let held = bench.store.aggregated_totals();
    assert!(held.families <= LIMITS.families && held.series <= LIMITS.series);
    assert!(number as usize > messages / 2, "{number} messages");
    assert!(!bench.samples().is_empty());
}

#[test]
fn random_and_mutated_messages_do_no_harm() {
    hold_against(100_000, 0x9E37_79B9_7F4A_7C15);
}

#[test]
#[ignore = "takes minutes: scripts/test --slow"]
fn ten_million_random_and_mutated_messages_do_no_harm() {
    hold_against(10_000_000, 0xD1B5_4A32_D192_ED03);
}
