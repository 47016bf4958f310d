//! `GET /api/v1/metrics`: all groups with their metrics, in the JSON of Pushgateway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value as Json;
use serde_json::{Map, json};

use super::groups::GroupScan;
use crate::clock::Now;
use crate::exposition::protobuf::native_buckets;
use crate::exposition::{
    Families, InputFormat, Kind, Labels, Metric, MetricValue, Metrics, ParsedLine, Parser,
    TextLimits, number_text, unescape, unescape_help,
};
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::ingest::Group;
use crate::store::{Section, SectionId, ShownFamily, Store};
use crate::telemetry::dates;

/// The approximate text in one chunk of the list, in bytes. Its JSON is several times as
/// large.
const CHUNK_TEXT: usize = 64 << 10;

/// The limit on groups in one chunk.
const MAX_CHUNK_GROUPS: usize = 100;

/// Keys of a group's object that no family of the same name may replace.
const KEYS: [&str; 3] = ["expires_at", "labels", "last_push_successful"];

/// Lists the groups in order of their keys. The list is generated while it is sent: each
/// family is consistent, but families can be from different moments.
pub async fn list(store: &Arc<Store>, request: &Request) -> Reply {
    let chunks = Box::new(GroupList::new(Arc::clone(store)));
    let short = store.totals().groups <= MAX_CHUNK_GROUPS;
    reply::list(&request.server.pools.lists, short, true, chunks).await
}

struct GroupList {
    store: Arc<Store>,
    now: Now,
    scan: GroupScan,
    /// Whether the start of the document is written.
    begun: bool,
    groups: usize,
    group: Option<OpenGroup>,
    ended: bool,
}

/// A group that is being written.
struct OpenGroup {
    id: SectionId,
    /// The family that was read last.
    after: Option<Arc<str>>,
    families: VecDeque<ShownFamily>,
    family: Option<OpenFamily>,
}

/// A family that is being written, some of its metrics at a time.
struct OpenFamily {
    family: ShownFamily,
    /// Positions of its native histograms, by their labels.
    natives: HashMap<Box<str>, usize>,
    /// Whether its metrics have several samples each.
    composed: bool,
    /// The number of bytes of its samples that are written.
    at: usize,
}

impl GroupList {
    fn new(store: Arc<Store>) -> Self {
        GroupList {
            scan: GroupScan::new(Arc::clone(&store), None),
            store,
            now: Now::read(),
            begun: false,
            groups: 0,
            group: None,
            ended: false,
        }
    }

    /// Begins the next group. Returns false after the last one.
    fn begin(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((id, group, section)) = self.scan.next() else {
            return false;
        };
        out.extend_from_slice(if self.groups > 0 { b",{" } else { b"{" });
        self.groups += 1;
        self.write_facts(out, &group, &section);
        self.group = Some(OpenGroup {
            id,
            after: None,
            families: VecDeque::new(),
            family: None,
        });
        true
    }

    /// Writes the members of a group that are not families.
    fn write_facts(&self, out: &mut Vec<u8>, group: &Group, section: &Section) {
        let [expires_at, labels, successful] = KEYS;
        let failed = section.problem.as_ref().map(|problem| problem.at.tick);
        let succeeded = section.updated.map(|at| at.tick);
        let mut facts = json!({
            labels: group.labels(),
            successful: failed <= succeeded,
        });
        if let Some(at) = section.expires(self.now) {
            facts[expires_at] = json!(dates::rfc3339(at));
        }
        let facts = facts.to_string();
        // The families follow in the same object.
        out.extend_from_slice(&facts.as_bytes()[1..facts.len() - 1]);
    }

    /// Writes more of a group, and returns it unless it is complete. `text` is the text
    /// that still fits in the chunk, in bytes.
    fn write_more(
        &self,
        mut group: OpenGroup,
        out: &mut Vec<u8>,
        text: &mut usize,
    ) -> Option<OpenGroup> {
        while *text > 0 {
            if let Some(family) = group.family.take() {
                group.family = family.write_more(out, text);
                continue;
            }
            if group.families.is_empty() {
                let after = group.after.as_deref();
                let families = self.store.families_of(&group.id, after, CHUNK_TEXT);
                group.after = families.last().map(|family| Arc::clone(&family.name));
                group.families = families.into();
            }
            let Some(family) = group.families.pop_front() else {
                out.push(b'}');
                return None;
            };
            *text = text.saturating_sub(family.head.len() + 1);
            group.family = OpenFamily::begin(family, out);
        }
        Some(group)
    }
}

impl Iterator for GroupList {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            out.extend_from_slice(br#"{"status":"success","data":["#);
        }
        let mut text = CHUNK_TEXT;
        let most_groups = self.groups + MAX_CHUNK_GROUPS;
        while text > 0 && self.groups < most_groups {
            if let Some(group) = self.group.take() {
                self.group = self.write_more(group, &mut out, &mut text);
            } else if !self.begin(&mut out) {
                self.ended = true;
                out.extend_from_slice(b"]}\n");
                break;
            }
        }
        Some(Bytes::from(out))
    }
}

impl OpenFamily {
    /// Writes the start of a family, as a further member of the group's object. `None` if
    /// its name is one of [`KEYS`].
    fn begin(family: ShownFamily, out: &mut Vec<u8>) -> Option<Self> {
        let name = unescape(&family.name);
        if KEYS.contains(&&*name) {
            return None;
        }
        let head = std::str::from_utf8(&family.head).unwrap_or_default();
        let (mut kind, mut help) = (Kind::Untyped, None);
        let mut parser = Parser::new(head, InputFormat::Text);
        let mut none = Labels::new();
        // Stored heads are valid.
        while let Ok(Some(entry)) = parser.next(&mut none) {
            match entry {
                ParsedLine::Type { kind: found, .. } => kind = found,
                ParsedLine::Help { help: text, .. } => help = Some(text),
                _ => {}
            }
        }
        let natives = family.natives.iter().flat_map(|natives| natives.iter());
        let of_gauges = natives.clone().any(|native| native.gauge);
        let natives = natives.enumerate();
        let natives = natives.map(|(place, native)| (native.labels.clone(), place));
        let natives = natives.collect();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(family.updated_ms);
        let mut facts = json!({
            "time_stamp": dates::rfc3339(at),
            "type": match of_gauges {
                true => "GAUGE_HISTOGRAM".to_owned(),
                false => kind.as_str().to_ascii_uppercase(),
            },
        });
        if let Some(help) = help.filter(|help: &&str| !help.is_empty()) {
            facts["help"] = json!(unescape_help(help, InputFormat::Text));
        }
        let facts = facts.to_string();
        out.extend_from_slice(format!(",{}:", json!(name)).as_bytes());
        out.extend_from_slice(&facts.as_bytes()[..facts.len() - 1]);
        out.extend_from_slice(b",\"metrics\":[");
        let composed = matches!(kind, Kind::Histogram | Kind::Summary);
        Some(OpenFamily {
            family,
            natives,
            composed,
            at: 0,
        })
    }

    /// Writes some metrics, and returns the family unless it is complete.
    fn write_more(mut self, out: &mut Vec<u8>, text: &mut usize) -> Option<Self> {
        let first = self.at == 0;
        let end = self.end_of_some(*text);
        *text = text.saturating_sub(end - self.at);
        let lines = [&self.family.head[..], &self.family.samples[self.at..end]].concat();
        let lines = std::str::from_utf8(&lines).unwrap_or_default();
        if let Ok(families) = Families::parse(lines, InputFormat::Text, &TextLimits::default())
            && let Some(family) = families.iter().next()
        {
            for (place, metric) in Metrics::of(&family).metrics.iter().enumerate() {
                out.extend_from_slice(if first && place == 0 { b"" } else { b"," });
                let mut shown = shown(metric);
                if let Some(buckets) = self.native_buckets(metric) {
                    shown["buckets"] = buckets;
                }
                serde_json::to_writer(&mut *out, &shown).expect("a JSON value can be written");
            }
        }
        self.at = end;
        if end < self.family.samples.len() {
            return Some(self);
        }
        out.extend_from_slice(b"]}");
        None
    }

    /// The buckets of a native histogram, in the JSON of Prometheus' API.
    fn native_buckets(&self, metric: &Metric<'_>) -> Option<Json> {
        if self.natives.is_empty() {
            return None;
        }
        let place = self.natives.get(&*metric.labels_text())?;
        let native = self.family.natives.as_ref()?.get(*place)?;
        let buckets = native_buckets(&native.histogram)?;
        let shown = buckets.iter().map(|bucket| {
            let (lower, upper) = (number_text(bucket.lower), number_text(bucket.upper));
            json!([bucket.bounds as u8, lower, upper, bucket.count])
        });
        Some(shown.collect())
    }

    /// The end of the metrics in the next `bytes` bytes, approximately. It does not divide
    /// a metric: of several samples, the count is the last.
    fn end_of_some(&self, bytes: usize) -> usize {
        let samples = &self.family.samples;
        let mut at = self.at;
        for line in samples[self.at..].split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            if at - self.at >= bytes && (!self.composed || self.is_count(line)) {
                break;
            }
        }
        at
    }

    fn is_count(&self, line: &[u8]) -> bool {
        let line = std::str::from_utf8(line).unwrap_or_default();
        let entry = Parser::new(line, InputFormat::Text).next(&mut Labels::new());
        let Ok(Some(ParsedLine::Sample(sample))) = entry else {
            return false;
        };
        let part = sample.name.strip_prefix(&*self.family.name);
        part == Some("_count")
    }
}

fn shown(metric: &Metric<'_>) -> Json {
    let mut out = Map::new();
    let labels: Map<String, Json> = metric
        .labels
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    out.insert("labels".to_owned(), Json::Object(labels));
    let mut put = |key: &str, value: Json| out.insert(key.to_owned(), value);
    let text = |value: f64| Json::String(number_text(value));
    let by_number = |pairs: &[(f64, f64)]| {
        let pairs = pairs
            .iter()
            .map(|(at, value)| (number_text(*at), text(*value)));
        Json::Object(pairs.collect())
    };
    match &metric.value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            put("value", text(*value));
        }
        MetricValue::Histogram {
            buckets,
            sum,
            count,
        } => {
            put("buckets", by_number(buckets));
            put("count", text(count.unwrap_or_default()));
            put("sum", text(sum.unwrap_or_default()));
        }
        MetricValue::Summary {
            quantiles,
            sum,
            count,
        } => {
            put("quantiles", by_number(quantiles));
            put("count", text(count.unwrap_or_default()));
            put("sum", text(sum.unwrap_or_default()));
        }
    }
    Json::Object(out)
}
