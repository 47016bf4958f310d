use bytes::Bytes;

use super::*;
use crate::config::Config;
use crate::exposition::{Content, InputFormat, TimestampPolicy};
use crate::store::StoreLimits;

fn groups(change: impl FnOnce(&mut Config)) -> Groups {
    let mut config = Config::default();
    change(&mut config);
    let admission = Admission::new(
        config.exposition,
        config.push.aggregation,
        true,
        std::hash::RandomState::new(),
    );
    Groups {
        admission: Arc::new(admission),
        config: config.push.groups,
    }
}

fn store() -> Store {
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: crate::registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

fn group(path: &str) -> Group {
    Group::from_path(path, false).unwrap()
}

fn sender() -> Sender {
    Sender {
        origin: Origin::default(),
        ttl: None,
    }
}

fn text_body(bytes: &Bytes) -> Body<'_> {
    Body {
        content_type: "",
        bytes,
    }
}

struct Here {
    groups: Groups,
    store: Store,
    now: Now,
}

impl Here {
    fn new() -> Self {
        Here {
            groups: groups(|_| {}),
            store: store(),
            now: Now::read(),
        }
    }

    fn push(&self, method: Method, path: &str, text: &str) -> Result<(), Rejection> {
        let bytes = Bytes::from(text.to_owned());
        let body = text_body(&bytes);
        self.groups.push(
            &self.store,
            (method, &group(path)),
            body,
            &sender(),
            self.now,
        )
    }

    /// What is exposed, the families of times aside.
    fn text(&self) -> String {
        let all = String::from_utf8(self.store.snapshot().text()).unwrap();
        let mine = |line: &&str| !PUSH_TIME_FAMILIES.iter().any(|name| line.contains(name));
        all.lines()
            .filter(mine)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn time(&self, family: &str) -> Option<f64> {
        let all = String::from_utf8(self.store.snapshot().text()).unwrap();
        let line = all
            .lines()
            .find(|line| line.starts_with(&format!("{family}{{")))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

#[test]
fn put_replaces_all_and_post_the_families_it_names() {
    let here = Here::new();
    here.push(Method::Put, "job/x", "a{z=\"1\",job=\"mine\"} 1\nb 1")
        .unwrap();
    assert_eq!(
        here.text(),
        "# TYPE a untyped\na{instance=\"\",job=\"x\",z=\"1\"} 1\n# TYPE b untyped\nb{instance=\"\",job=\"x\"} 1\n"
    );
    here.push(Method::Post, "job/x", "a 2\n").unwrap();
    assert_eq!(
        here.text(),
        "# TYPE a untyped\na{instance=\"\",job=\"x\"} 2\n# TYPE b untyped\nb{instance=\"\",job=\"x\"} 1\n"
    );
    here.push(Method::Post, "job/x", "").unwrap();
    assert_eq!(here.text().lines().count(), 4);
    here.push(Method::Put, "job/x", "c{instance=\"i\"} 3\n")
        .unwrap();
    assert_eq!(
        here.text(),
        "# TYPE c untyped\nc{instance=\"i\",job=\"x\"} 3\n"
    );
    here.push(Method::Put, "job/x", "").unwrap();
    assert_eq!(here.text(), "");
    assert_eq!(
        here.time("push_time_seconds"),
        Some(here.now.unix_seconds())
    );
    assert_eq!(here.store.totals().groups, 1);
    here.push(Method::Delete, "job/x", "not even read").unwrap();
    assert_eq!(here.store.totals().groups, 0);
    assert_eq!(here.time("push_time_seconds"), None);
    here.push(Method::Delete, "job/x", "").unwrap();
}

#[test]
fn times_are_the_groups_own_and_survive_what_is_pushed() {
    let mut here = Here::new();
    here.push(
        Method::Put,
        "job/x/instance/i",
        "push_time_seconds 5\npush_failure_time_seconds 6\nm 1\n",
    )
    .unwrap();
    let all = String::from_utf8(here.store.snapshot().text()).unwrap();
    assert!(
        all.contains("push_failure_time_seconds{instance=\"i\",job=\"x\"} 0\n"),
        "{all}"
    );
    let first = here.now;
    assert_eq!(here.time("push_time_seconds"), Some(first.unix_seconds()));

    here.now = first.after(Duration::from_secs(1));
    let fault = here
        .push(Method::Put, "job/x/instance/i", "m 1 5\n")
        .unwrap_err();
    assert!(fault.is_recorded);
    assert_eq!(here.time("push_time_seconds"), Some(first.unix_seconds()));
    assert_eq!(
        here.time("push_failure_time_seconds"),
        Some(here.now.unix_seconds())
    );
    let failed = here.now;
    here.now = failed.after(Duration::from_secs(1));
    here.push(Method::Put, "job/x/instance/i", "m 2\n").unwrap();
    assert_eq!(
        here.time("push_failure_time_seconds"),
        Some(failed.unix_seconds())
    );
    assert_eq!(
        here.time("push_time_seconds"),
        Some(here.now.unix_seconds())
    );
}

#[test]
fn what_is_not_taken_is_told_and_noted_with_the_group() {
    for (text, reason, words) in [
        (
            "m 1\nn 1 123\n",
            Reason::Timestamp,
            "group {job=\"x\"}, line 2, column 5: expected no timestamp, found 123",
        ),
        (
            "m 1\nm 1\n",
            Reason::DuplicateSeries,
            "line 2, column 1: expected each series once",
        ),
        (
            "m{job=\"a\"} 1\nm{job=\"b\"} 1\n",
            Reason::DuplicateSeries,
            "is exposed twice",
        ),
        (
            "exporter_proxy_x 1\n",
            Reason::ReservedName,
            "line 1: exporter_proxy_x is a name of the proxy's own",
        ),
        (
            "# TYPE taken counter\ntaken 1\n",
            Reason::KindConflict,
            "family taken is a counter here, and a gauge in group {job=\"y\"}",
        ),
        (
            "# TYPE taken_h gauge\ntaken_h_sum 1\n",
            Reason::NameCollision,
            "taken_h_sum cannot be exposed beside family taken_h",
        ),
        ("taken{job=\"y\"} 1\n", Reason::KindConflict, "untyped here"),
    ] {
        let here = Here::new();
        here.push(
            Method::Put,
            "job/y",
            "# TYPE taken gauge\ntaken 1\n# TYPE taken_h histogram\ntaken_h_sum 1\n",
        )
        .unwrap();
        let before = here.text();
        let fault = here.push(Method::Put, "job/x", text).unwrap_err();
        assert_eq!(fault.reason, reason, "{fault}");
        assert!(fault.message.contains(words), "{fault}");
        assert!(fault.is_recorded && fault.line.is_some(), "{fault:?}");
        assert_eq!(here.text(), before);
        let id = SectionId::new("{job=\"x\"}", Producer::Group);
        let section = here.store.section_of(&id).unwrap();
        assert!(section.updated.is_none());
        let told = format!("{reason}: {}", fault.message);
        assert_eq!(section.problem.unwrap().reason, told);
    }
}

#[test]
fn labels_that_tell_parts_apart_cannot_be_a_groups() {
    let here = Here::new();
    let summary = "# TYPE s summary\ns_sum 1\ns_count 1\n";
    let fault = here
        .push(Method::Put, "job/x/quantile/5", summary)
        .unwrap_err();
    assert_eq!((fault.reason, fault.is_recorded), (Reason::BadLabels, true));
    let histogram = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
    let fault = here.push(Method::Put, "job/x/le/5", histogram).unwrap_err();
    assert!(
        fault.message.contains("le is a label of the group"),
        "{fault}"
    );
    here.push(Method::Put, "job/x/quantile/5", histogram)
        .unwrap();
    here.push(Method::Put, "job/x/le/5", "m 1\n").unwrap();
}

#[test]
fn what_cannot_be_read_leaves_no_trace() {
    for text in [
        "m{a=\"1\",a=\"2\"} 1\n",
        "m{ 1\n",
        "# TYPE m gauge\n# TYPE m gauge\nm 1\n",
    ] {
        let here = Here::new();
        let fault = here.push(Method::Put, "job/x", text).unwrap_err();
        assert_eq!(
            (fault.reason, fault.is_recorded),
            (Reason::InvalidText, false),
            "{fault}"
        );
        assert_eq!(here.store.totals().groups, 0);
    }
    let here = Here::new();
    let bytes = Bytes::from_static(b"m 1\nn{a=\"\xff\"} 1\n");
    let fault = here
        .groups
        .push(
            &here.store,
            (Method::Put, &group("job/x")),
            text_body(&bytes),
            &sender(),
            here.now,
        )
        .unwrap_err();
    assert_eq!((fault.reason, fault.line), (Reason::InvalidUtf8, Some(2)));
}

#[test]
fn a_series_without_instance_is_that_of_an_app() {
    let here = Here::new();
    let normal = here
        .groups
        .admission
        .canonicalize(
            &EscapedLabels::of(&group("job/x")),
            ("m 1\n", InputFormat::Text),
            TimestampPolicy::Refuse,
        )
        .unwrap();
    let app = Change::Replace {
        id: SectionId::new("app", Producer::App),
        content: Content::Families(normal),
        origin: Origin::default(),
        lifetime: None,
    };
    here.store.apply(Write::one(app), here.now).unwrap();
    let fault = here.push(Method::Put, "job/x", "m 1\n").unwrap_err();
    assert_eq!(fault.reason, Reason::DuplicateSeries);
    here.push(Method::Put, "job/x/instance/i", "m 1\n").unwrap();
}

#[test]
fn bodies_are_what_their_type_says() {
    let here = Here::new();
    let families = |content_type: &str, text: &str| {
        let bytes = Bytes::from(text.to_owned());
        let body = Body {
            content_type,
            bytes: &bytes,
        };
        here.groups.admission.families(&group("job/x"), body)
    };
    let open = "# TYPE c counter\nc_total 1\n# EOF\n";
    assert_eq!(&*families("", open).unwrap()[0].name, "c_total");
    let typed = "application/openmetrics-text; version=1.0.0";
    assert_eq!(&*families(typed, open).unwrap()[0].name, "c_total");
    let without_end = "# TYPE c counter\nc_total 1\n";
    assert_eq!(&*families(typed, without_end).unwrap()[0].name, "c_total");
    assert_eq!(families(typed, "").unwrap(), []);
    for more in ["# EOF\nm 1\n", "m 1\n# EOF\n# EOF\n", "m 1\n# EOF\n\n"] {
        let fault = families(typed, more).unwrap_err();
        assert!(fault.message.contains("after \"# EOF\""), "{fault}");
        assert!(fault.message.ends_with("(read as OpenMetrics)"), "{fault}");
    }
    let comment = "# TYPE a untyped\na 1\n# EOF\n";
    let versioned = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(families(versioned, comment).unwrap().len(), 1);
    let fault = families("text/plain", comment).unwrap_err();
    assert!(
        fault.message.contains("(read as OpenMetrics, since"),
        "{fault}"
    );
    let fault = families("", "# TYPE a unknown\na 1\n").unwrap_err();
    assert!(fault.message.ends_with("(read as text 0.0.4)"), "{fault}");
    for wrong in [
        "application/vnd.google.protobuf; encoding=text",
        "application/vnd.google.protobuf; proto=other; encoding=delimited",
    ] {
        assert_eq!(
            families(wrong, "").unwrap_err().reason,
            Reason::UnsupportedMedia
        );
    }
    let delimited = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!(families(delimited, "").unwrap().len(), 0);
    assert_eq!(
        families(delimited, "m 1\n").unwrap_err().reason,
        Reason::Malformed
    );
    // A family without samples is none.
    assert_eq!(
        families("text/plain", "# TYPE m gauge\n# HELP n h\n")
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn a_check_tells_what_a_push_would_and_changes_nothing() {
    let here = Here::new();
    here.push(Method::Put, "job/y", "# TYPE m gauge\nm 1\n")
        .unwrap();
    let before = here.text();
    let check = |text: &str| {
        let bytes = Bytes::from(text.to_owned());
        here.groups
            .validate(&here.store, &group("job/x"), text_body(&bytes), here.now)
    };
    assert_eq!(
        check("# TYPE m gauge\nm{a=\"1\"} 1\nm 2\nn 1\n"),
        Ok((2, 3))
    );
    assert_eq!(check("m 1\n").unwrap_err().reason, Reason::KindConflict);
    assert_eq!(check("m{\n").unwrap_err().reason, Reason::InvalidText);
    assert_eq!(here.text(), before);
    assert_eq!(here.store.totals().groups, 1);
}

#[test]
fn labels_of_groups_keep_to_the_limits_of_samples() {
    let mut here = Here::new();
    here.groups = groups(|config| {
        config.exposition.max_labels = 2;
        config.exposition.max_label_length = 5;
    });
    for (path, words) in [
        ("job/x/a/1/b/2", "more than 2 labels"),
        ("job/123456", "more than 5 bytes"),
    ] {
        let fault = here.push(Method::Put, path, "").unwrap_err();
        assert_eq!(fault.reason, Reason::BadLabels);
        assert!(fault.message.contains(words), "{fault}");
    }
    assert_eq!(here.store.totals().groups, 0);
}

/// 1 MB of protobuf that would become 250 MB of text.
fn labels_times_buckets() -> Bytes {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }
    let value = "v".repeat(16 << 10);
    let labels = (0..62).flat_map(|n| {
        let label = [
            field(1, format!("l{n}").as_bytes()),
            field(2, value.as_bytes()),
        ];
        field(1, &label.concat())
    });
    let buckets: Vec<u8> = (0..250_u32)
        .flat_map(|at| {
            let mut bucket = vec![8, 1, 2 << 3 | 1];
            bucket.extend_from_slice(&f64::from(at).to_le_bytes());
            field(3, &bucket)
        })
        .collect();
    let metric: Vec<u8> = labels.chain(field(7, &buckets)).collect();
    let family = [field(1, b"h"), vec![3 << 3, 4], field(4, &metric)].concat();
    let delimited = field(0, &family);
    Bytes::from(delimited[1..].to_vec())
}

#[test]
fn text_that_would_be_too_long_is_refused_before_it_is_made() {
    let mut here = Here::new();
    let bytes = labels_times_buckets();
    let body = Body {
        content_type: "application/vnd.google.protobuf",
        bytes: &bytes,
    };
    let push = |here: &Here| {
        let group = group("job/x");
        let pushed = (Method::Put, &group);
        let pushed = here
            .groups
            .push(&here.store, pushed, body, &sender(), here.now);
        pushed.unwrap_err()
    };
    let group = group("job/x");
    assert!(here.groups.admission.text_size(&group, body, 1 << 20) > 250_000_000);
    let fault = push(&here);
    assert_eq!((fault.reason, fault.is_recorded), (Reason::TooLarge, false));
    for words in [
        "the push becomes at least 25",
        "the limit is 134217728 (exposition.max_text)",
    ] {
        assert!(fault.message.contains(words), "{fault}");
    }
    // What could be held at all, and not beside what is held.
    here.groups = groups(|config| config.exposition.max_text = usize::MAX);
    let fault = push(&here);
    assert_eq!(fault.reason, Reason::TooManyBytes);
    assert!(
        fault
            .message
            .contains("of 1048576 bytes are left (exposition.max_total)"),
        "{fault}"
    );
    assert_eq!(here.store.totals().groups, 0);
}

#[test]
fn labels_of_a_group_count_for_each_of_its_samples() {
    let mut here = Here::new();
    here.groups = groups(|config| config.exposition.max_text = 12_000);
    let labels = format!("job/x/long/{}", "v".repeat(100));
    let samples = |count| {
        let lines = (0..count).map(|n| format!("m{n} 1\n"));
        format!("# a comment is no sample\n\n{}", lines.collect::<String>())
    };
    here.push(Method::Put, &labels, &samples(85)).unwrap();
    let fault = here.push(Method::Put, &labels, &samples(200)).unwrap_err();
    assert_eq!(fault.reason, Reason::TooLarge);
    assert!(fault.message.contains("(exposition.max_text)"), "{fault}");
    // Where it is near, it is known once the text is read.
    let fault = here.push(Method::Put, &labels, &samples(95)).unwrap_err();
    assert_eq!(fault.reason, Reason::TooLarge);
    let words = "expected at most 12000 bytes of text with the labels added to its samples (exposition.max_text), found ";
    assert!(fault.message.contains(words), "{fault}");
}

#[test]
fn families_of_a_push_are_bounded_in_every_format() {
    let mut here = Here::new();
    here.groups = groups(|config| config.exposition.max_families = 10);
    let text = |families| {
        (0..families)
            .map(|n| format!("m{n} 1\n"))
            .collect::<String>()
    };
    here.push(Method::Put, "job/x", &text(10)).unwrap();
    for ending in ["", "# EOF\n"] {
        let text = format!("{}{ending}", text(11));
        let fault = here.push(Method::Put, "job/x", &text).unwrap_err();
        assert_eq!(
            (fault.reason, fault.line),
            (Reason::TooManySamples, Some(11))
        );
        let words = "expected at most 10 families in a text (exposition.max_families), found more";
        assert!(fault.message.contains(words), "{fault}");
    }
    // Heads alone are named too.
    let heads: String = (0..11).map(|n| format!("# TYPE m{n} gauge\n")).collect();
    let fault = here.push(Method::Put, "job/x", &heads).unwrap_err();
    assert_eq!(
        (fault.reason, fault.line),
        (Reason::TooManySamples, Some(11))
    );
}

#[test]
fn groups_of_a_batch_have_a_bound_together() {
    let mut here = Here::new();
    let batch = |here: &Here, groups: usize, text: &str| {
        let groups: Vec<String> = (0..groups)
            .map(|n| format!("{{\"labels\":{{\"job\":\"j{n}\"}},\"metrics\":\"{text}\"}}"))
            .collect();
        let json = format!("{{\"groups\":[{}]}}", groups.join(","));
        let read = here
            .groups
            .batch(&here.store, json.as_bytes(), &Origin::default(), here.now);
        read.map(|(_, groups)| groups)
    };
    here.groups = groups(|config| config.exposition.max_families = 10);
    assert_eq!(batch(&here, 4, "m0 1\\n"), Ok(4));
    let ten: String = (0..10).map(|n| format!("m{n} 1\\n")).collect();
    assert_eq!(batch(&here, 4, &ten), Ok(4));
    let fault = batch(&here, 5, &ten).unwrap_err();
    assert_eq!(fault.reason, Reason::TooManySamples);
    let words = "groups[4]: with this group the batch has more than 40 families (4 times exposition.max_families)";
    assert!(fault.message.contains(words), "{fault}");
    here.groups = groups(|config| config.exposition.max_text = 1000);
    let fault = batch(&here, 20, &ten).unwrap_err();
    assert_eq!(fault.reason, Reason::TooLarge);
    assert!(
        fault
            .message
            .contains("more than 1000 bytes of text (exposition.max_text)"),
        "{fault}"
    );
}

#[test]
fn a_batch_is_one_write_and_names_what_is_wrong() {
    let here = Here::new();
    let read = |json: &str| {
        here.groups
            .batch(&here.store, json.as_bytes(), &Origin::default(), here.now)
    };
    let (write, count) = read(
        r#"{"groups":[{"labels":{"job":"x"},"metrics":"m 1\n"},{"labels":{"job":"y"},"method":"post","metrics":"m 2","ttl":"10m"},
            {"labels":{"job":"z"},"method":"DELETE"}]}"#,
    )
    .unwrap();
    assert_eq!(count, 3);
    here.store.apply(write, here.now).unwrap();
    assert_eq!(here.store.totals().groups, 2);
    for (json, words) in [
        ("", "JSON of a batch expected"),
        (r#"{"group":[]}"#, "unknown field"),
        (
            r#"{"groups":[{"labels":{"a":"x"}}]}"#,
            "groups[0]: a group needs a label \"job\"",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"}},{"labels":{"job":"x"}}]}"#,
            "groups[1]: group {job=\"x\"} is there twice",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"},"method":"GET"}]}"#,
            "groups[0]: the method must be",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"},"ttl":"soon"}]}"#,
            "groups[0]: ttl must be",
        ),
        (
            r#"{"groups":[{"labels":{"job":"w"}},{"labels":{"job":"x"},"metrics":"m{"}]}"#,
            "groups[1]: group {job=\"x\"}, line 1, column 3",
        ),
    ] {
        let fault = read(json).unwrap_err();
        assert!(fault.message.contains(words), "{fault}");
    }
}
