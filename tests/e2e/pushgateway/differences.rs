//! Deliberate differences from Pushgateway.

use super::Part;

#[derive(Debug)]
pub struct Difference {
    /// Its row in the document. Several entries may belong to one row.
    pub name: &'static str,
    /// The cases that show the difference.
    pub cases: &'static [&'static str],
    /// The parts that differ. Each of them must differ, and no other may.
    pub parts: &'static [Part],
    /// The proxy's answers to the requests of each of these cases.
    pub statuses: &'static [u16],
    /// Samples of the proxy at the end of each of these cases.
    pub shows: &'static [(&'static str, f64)],
    pub reason: &'static str,
}

const ALL: &[Part] = &[Part::Status, Part::Page, Part::Groups];
const SHOWN: &[Part] = &[Part::Page, Part::Groups];

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "unknown-parameter",
        cases: &["query-is-no-label"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a parameter that nobody knows is a mistake, as in ?tll=10m",
    },
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
        name: "openmetrics",
        cases: &["openmetrics-exemplar", "openmetrics-info"],
        parts: ALL,
        statuses: &[200],
        shows: &[],
        reason: "what only OpenMetrics has is no fault in OpenMetrics",
    },
    Difference {
        name: "codings",
        cases: &["zstd"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "bodies may be packed with Zstandard",
    },
    Difference {
        name: "codings",
        cases: &["gzip-upper-case", "snappy"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "newer Pushgateways know Snappy, and codings in upper case; 1.5 takes \
                 the body as it is",
    },
    Difference {
        name: "codings",
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
        reason: "a body whose end is lost is rejected, even where its first lines are \
                 a text too; Pushgateway stores the half that came",
    },
    Difference {
        name: "not-utf8",
        cases: &["value-not-utf8", "base64-not-utf8"],
        parts: SHOWN,
        statuses: &[400],
        shows: &[],
        reason: "rejected without a trace; Pushgateway refuses it too, but notes the \
                 failure under these labels, and from then on answers 500 to every \
                 scrape and 400 to every push until that group is deleted",
    },
    Difference {
        name: "utf8-names",
        cases: &["quoted-name", "protobuf-wrong-label"],
        parts: ALL,
        statuses: &[200],
        shows: &[],
        reason: "names of any characters are taken, and shown as each reader can have \
                 them: as they are, or with underscores; newer Pushgateways take them too",
    },
    Difference {
        name: "utf8-names",
        cases: &["protobuf-wrong-name"],
        parts: &[Part::Page],
        statuses: &[200],
        shows: &[("a_b{a=\"1\",instance=\"\",job=\"x\"}", 1.0)],
        reason: "the same; Pushgateway 1.5 shows the name without quotes, and Prometheus \
                 loses the whole scrape",
    },
    Difference {
        name: "reserved-labels",
        cases: &["label-name-of-two-underscores"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{__a=\"n\",instance=\"\",job=\"x\"}", 1.0)],
        reason: "a label of a sample may begin with two underscores, since Prometheus \
                 takes it; of those, only __name__ means something to it",
    },
    Difference {
        name: "type-upper-case",
        cases: &["type-upper-case"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "one rule for all inputs: a text is taken where Prometheus' own parser \
                 takes it, and it wants the kind in lower case",
    },
    Difference {
        name: "redirects",
        cases: &[
            "empty-job",
            "empty-job-in-the-middle",
            "empty-value-in-the-middle",
        ],
        parts: &[Part::Status],
        statuses: &[400],
        shows: &[],
        reason: "an empty value is rejected with a reason; Pushgateway redirects to the \
                 path without it, where what follows would be of other labels, and \
                 which few clients follow",
    },
    Difference {
        name: "redirects",
        cases: &["doubled-slash"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "slashes too many before the job, as where a base address ends in one, \
                 mean one; Pushgateway redirects, and the push is lost on most clients",
    },
    Difference {
        name: "redirects",
        cases: &["dots"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{a=\"..\",b=\"1\",instance=\"\",job=\"x\"}", 1.0)],
        reason: "dots are a value as any other; Pushgateway redirects to the path without \
                 them and what is before",
    },
    Difference {
        name: "redirects",
        cases: &["GET /metrics/", "GET /api/v1/metrics/"],
        parts: &[Part::Status],
        statuses: &[200, 200],
        shows: &[],
        reason: "a slash at the end of what is read changes nothing; Pushgateway \
                 redirects to the path without it",
    },
    Difference {
        name: "empty-label",
        cases: &["duplicate-by-an-empty-label"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a label without a value is none, so the series is there twice, and \
                 Prometheus keeps one of the two by chance; Pushgateway shows both",
    },
    Difference {
        name: "empty-label",
        cases: &["same-series-by-an-empty-label"],
        parts: ALL,
        statuses: &[200, 400],
        shows: &[("m{instance=\"\",job=\"x\"}", 1.0)],
        reason: "the same, in two groups",
    },
    Difference {
        name: "empty-instance",
        cases: &["empty-instance-is-another-group"],
        parts: SHOWN,
        statuses: &[200, 400, 202],
        shows: &[],
        reason: "rejected without a trace; Pushgateway refuses it too, but notes the \
                 failure under labels that the group without the label has already, and \
                 answers 500 to every scrape from then on",
    },
    Difference {
        name: "same-bound",
        cases: &["buckets-twice"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a bucket that is there twice, as 1 and as 1.0, is a series that is there \
                 twice, and that is rejected; Pushgateway shows both",
    },
    Difference {
        name: "fractions",
        cases: &["bucket-of-a-fraction"],
        parts: SHOWN,
        statuses: &[200],
        shows: &[
            ("h_bucket{instance=\"\",job=\"x\",le=\"1\"}", 1.7),
            ("h_bucket{instance=\"\",job=\"x\",le=\"+Inf\"}", 2.0),
        ],
        reason: "counts are kept as they were pushed; Pushgateway cuts off fractions",
    },
    Difference {
        name: "histogram-count",
        cases: &["histogram-without-count"],
        parts: SHOWN,
        statuses: &[200],
        shows: &[("h_count{instance=\"\",job=\"x\"}", 3.0)],
        reason: "a missing count is that of the bucket +Inf, which counts the same; \
                 Pushgateway shows 0",
    },
    Difference {
        name: "no-parts",
        cases: &["histogram-of-no-parts"],
        parts: ALL,
        statuses: &[400],
        shows: &[],
        reason: "a histogram or summary none of whose samples is a part of one is \
                 rejected; Pushgateway drops the samples and shows zeros",
    },
    Difference {
        name: "api-infinite-bucket",
        cases: &[
            "histogram-without-inf",
            "histogram-of-sum-alone",
            "bucket-without-le",
            "protobuf-of-each-kind",
        ],
        parts: &[Part::Groups],
        statuses: &[200],
        shows: &[],
        reason: "/api/v1/metrics lists the bucket +Inf that /metrics shows; Pushgateway \
                 lists it only where it was pushed",
    },
    Difference {
        name: "api-infinite-bucket",
        cases: &["protobuf-and-text-replace-each-other"],
        parts: &[Part::Groups],
        statuses: &[200, 200, 200],
        shows: &[("m{instance=\"\",job=\"x\"}", 7.0)],
        reason: "the same",
    },
    Difference {
        name: "api-help",
        cases: &["help-differs", "help-in-one-alone"],
        parts: &[Part::Groups],
        statuses: &[200, 200],
        shows: &[],
        reason: "a family has one help, which /api/v1/metrics says for each of its \
                 groups; Pushgateway keeps one for each, and shows any of them",
    },
    Difference {
        name: "protobuf-parameters",
        cases: &["protobuf-by-another-name"],
        parts: ALL,
        statuses: &[200],
        shows: &[("m{a=\"1\",instance=\"\",job=\"x\"}", 1.5)],
        reason: "protobuf needs no parameters to be known as such; Pushgateway reads it \
                 as text then, and refuses it",
    },
    Difference {
        name: "protobuf-kind",
        cases: &["protobuf-value-of-another-kind"],
        parts: SHOWN,
        statuses: &[400],
        shows: &[],
        reason: "a message that holds no value of its kind is one that cannot be read, \
                 and leaves no trace; Pushgateway refuses it too, and notes the failure",
    },
    Difference {
        name: "protobuf-empty",
        cases: &["protobuf-without-metrics"],
        parts: &[Part::Groups],
        statuses: &[200],
        shows: &[],
        reason: "a family without samples is none; Pushgateway lists it in its API, and \
                 nowhere else",
    },
];
