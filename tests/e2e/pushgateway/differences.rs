//! Where the proxy decides otherwise than Pushgateway does, on purpose.

use super::Part;

#[derive(Debug)]
pub struct Difference {
    pub name: &'static str,
    /// The cases that show it.
    pub cases: &'static [&'static str],
    /// Where it shows. Each of them has to differ, and nothing else may.
    pub parts: &'static [Part],
    /// What the proxy answers to the requests of each of these cases.
    pub statuses: &'static [u16],
    /// What the proxy shows at the end of each of these cases.
    pub shows: &'static [(&'static str, f64)],
    pub reason: &'static str,
}

const ALL: &[Part] = &[Part::Status, Part::Page, Part::Groups];
const SHOWN: &[Part] = &[Part::Page, Part::Groups];

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "last-newline",
        cases: &["no-last-newline"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "a body whose last line has no line feed is whole: one is added",
    },
    Difference {
        name: "encoded-slash",
        cases: &["encoded-slash-in-job", "encoded-slash-in-value"],
        parts: ALL,
        statuses: &[200],
        shows: &[],
        reason: "a path is split before it is unescaped, so %2F belongs to a value, \
                 as those who write it mean it",
    },
    Difference {
        name: "openmetrics",
        cases: &["openmetrics"],
        parts: SHOWN,
        statuses: &[200],
        shows: &[("jobs_total{instance=\"\",job=\"x\"}", 3.0)],
        reason: "a body that says it is OpenMetrics is read as OpenMetrics, \
                 not as text 0.0.4",
    },
    Difference {
        name: "openmetrics-taken",
        cases: &["openmetrics-exemplar", "openmetrics-info"],
        parts: ALL,
        statuses: &[200],
        shows: &[],
        reason: "what only OpenMetrics has is no fault in OpenMetrics",
    },
    Difference {
        name: "zstd",
        cases: &["zstd"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "bodies may be packed with Zstandard",
    },
    Difference {
        name: "newer-codings",
        cases: &["gzip-upper-case", "snappy"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "newer Pushgateways know Snappy, and codings in upper case; 1.5 takes \
                 the body as it is",
    },
    Difference {
        name: "newer-codings-wrong",
        cases: &["snappy-wrong"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "newer Pushgateways refuse what says it is Snappy and is not",
    },
    Difference {
        name: "gzip-cut",
        cases: &["gzip-cut"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a body whose end is lost is refused, even where its first lines are \
                 a text too; Pushgateway stores the half that came",
    },
    Difference {
        name: "not-utf8",
        cases: &["value-not-utf8", "base64-not-utf8"],
        parts: SHOWN,
        statuses: &[400],
        shows: &[],
        reason: "refused without a trace; Pushgateway refuses it too, but notes the \
                 failure under these labels, and from then on answers 500 to every \
                 scrape and 400 to every push until that group is deleted",
    },
    Difference {
        name: "protobuf-wrong-name",
        cases: &["protobuf-wrong-name"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a name that no text can hold is refused; Pushgateway shows it, and \
                 Prometheus then loses the whole scrape",
    },
];
