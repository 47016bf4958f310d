//! StatsD lines over real sockets: several typed values in a line, tags as clients write them,
//! sampled timers, sums that overflow, and the names of sockets as labels.

use std::net::UdpSocket;

use crate::harness::{Proxy, eventually};
use crate::operations::{Bench, bench};

/// Messages rejected for this reason on the stream socket.
fn rejected(bench: &Bench, reason: &str) -> f64 {
    bench.results("unix", reason)
}

#[test]
fn each_typed_value_of_a_line_is_a_message() {
    let bench = bench("");
    assert_eq!(bench.send(b"etsy:1|c:2|c\n"), "");
    bench.comes_to("etsy", 3.0);

    // A name has one type in Prometheus: that of its first value.
    let answer = bench.send(b"foo:200|ms:300|ms:5|c|@0.1:6|g\n");
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[0].starts_with("error: message 3: "), "{answer}");
    assert!(lines[1].starts_with("error: message 4: "), "{answer}");
    bench.comes_to("foo_sum", 0.5);
    bench.comes_to("foo_count", 2.0);
    assert_eq!(rejected(&bench, "kind_conflict"), 2.0);

    // A bad value in the middle does not affect the others.
    let answer = bench.send(b"middle:1|c:x|c:2|c|@7:3|q:4|c:5\n");
    assert_eq!(answer.lines().count(), 4, "{answer}");
    bench.comes_to("middle", 5.0);
    for (reason, times) in [
        ("bad_value", 2.0),
        ("bad_operation", 1.0),
        ("malformed", 1.0),
    ] {
        assert_eq!(rejected(&bench, reason), times, "{reason}");
    }

    // Packed values share a type, and are applied all or none.
    assert_eq!(bench.send(b"packed:1:2:3|c:4|c\n"), "");
    bench.comes_to("packed", 10.0);
    assert_eq!(bench.send(b"packed:1:x|c:7|c\n").lines().count(), 1);
    bench.comes_to("packed", 17.0);

    // The tags at the end apply to all values.
    assert_eq!(bench.send(b"tagged:1|c:2|c|@0.5|#env:prod\n"), "");
    bench.comes_to("tagged{env=\"prod\"}", 5.0);

    // One line with more values than fit into a batch.
    let line = format!("many{}\n", ":1|c".repeat(5000));
    assert_eq!(bench.send(line.as_bytes()), "");
    bench.comes_to("many", 5000.0);
}

#[test]
fn datagrams_may_hold_several_typed_values() {
    let bench = bench("");
    bench.send_udp(b"one:1|c:2|c:x|c\ntwo:5|g:+1|g");
    bench.comes_to("one", 3.0);
    bench.comes_to("two", 6.0);
    eventually(|| bench.results("udp", "bad_value"), |seen| *seen == 1.0);
}

#[test]
fn a_hash_before_each_tag_does_not_change_its_label() {
    let bench = bench("");
    let lines =
        b"foo:100|c|#tag1:bar,#tag2:baz\nfoo:1|c|#tag2:baz, tag1:bar\nbar:1|c|#color:#fff,c#:1\n";
    assert_eq!(bench.send(lines), "");
    bench.comes_to("foo{tag1=\"bar\",tag2=\"baz\"}", 101.0);
    bench.comes_to("bar{c_=\"1\",color=\"#fff\"}", 1.0);
}

#[test]
fn sampled_timers_make_whole_counts() {
    let bench = bench("");
    let buckets = || {
        let metrics = bench.proxy.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with("samp_"));
        let values = lines.filter(|line| !line.starts_with("samp_sum"));
        values
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .collect::<Vec<f64>>()
    };
    for sent in 1..=30_u32 {
        // Every third value is in a lower bucket.
        let value = if sent % 3 == 0 { 20 } else { 500 };
        assert_eq!(bench.send(format!("samp:{value}|ms|@0.3\n").as_bytes()), "");
        let expected = (f64::from(sent) / 0.3).round();
        bench.comes_to("samp_count", expected);
        let seen = buckets();
        assert!(seen.iter().all(|value| value.fract() == 0.0), "{seen:?}");
        assert!(seen[..seen.len() - 1].is_sorted(), "{seen:?}");
    }
    bench.comes_to("samp_count", 100.0);
    bench.comes_to("samp_bucket{le=\"0.025\"}", 33.0);
    let sum = bench.proxy.sample("samp_sum").unwrap();
    assert!(
        (sum - (20.0 * 0.5 + 10.0 * 0.02) / 0.3).abs() < 1e-9,
        "{sum}"
    );
}

#[test]
fn a_gauge_never_overflows() {
    let bench = bench("");
    assert_eq!(bench.send(b"gauge:+1e308|g\n"), "");
    for line in ["gauge:+1e308|g", "gauge:1e308:+1e308|g"] {
        let answer = bench.send(line.as_bytes());
        assert!(answer.contains("is +Inf, but must be finite"), "{answer}");
        bench.comes_to("gauge", 1e308);
    }
    assert_eq!(bench.send(b"gauge:-1e308|g\n"), "");
    bench.comes_to("gauge", 0.0);
    let answer = bench.send(br#"{"name":"gauge","op":"add","value":1e999}"#);
    assert!(answer.starts_with("error: "), "{answer}");
    assert_eq!(rejected(&bench, "bad_value"), 2.0);
}

#[test]
fn data_source_is_the_socket_as_the_setting_is_written() {
    let proxy = Proxy::start("[operations]\nudp = \":0\"\nsource_labels = true\n");
    let log = proxy.log();
    let (_, bound) = log.split_once("UDP socket 0.0.0.0:").unwrap();
    let port: u16 = bound.lines().next().unwrap().parse().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"c:1|c", ("127.0.0.1", port)).unwrap();
    let series = "c{data_source=\":0\",source_app=\":0\"}";
    eventually(|| proxy.sample(series), |seen| *seen == Some(1.0));
}
