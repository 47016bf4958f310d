//! Turns found addresses and labels into targets, by the rules of Prometheus' service
//! discovery: into a URL, labels of samples, and settings.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::exposition::SampleLabels;
use crate::ingest::added_labels::{check, sample_labels};
use crate::inputs::poller::config::discovery::Template;
use crate::inputs::poller::config::relabel::{ADDRESS, param_labels, set_times, target_url, times};
use crate::inputs::poller::config::schedule::Schedule;
use crate::inputs::poller::config::target::{PollSettings, TargetUrl};
use crate::relabel::LabelSet;

/// The limit on rejections whose messages are kept.
const MAX_REJECTIONS: usize = 5;

/// The limit on the labels of all targets of a discovery together, in bytes.
const MAX_LABEL_BYTES: usize = 64 << 20;

/// How much a list may add to a discovery. Without this limit, a list with few bytes for each
/// target, or with many labels for all of them, could take many times its size in memory.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    targets: usize,
    label_bytes: usize,
}

/// A found target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The URL to poll.
    pub url: TargetUrl,
    /// The labels of its samples.
    pub labels: SampleLabels,
    /// How it is polled.
    pub settings: Arc<PollSettings>,
    /// The discovery and the list where it was found, for people.
    pub found_in: Arc<str>,
}

/// The findings of one update of a discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The targets, in the order of the list.
    pub found: Vec<Found>,
    /// The number of entries that rules dropped.
    pub dropped: usize,
    /// The number of targets left out because there are too many.
    pub beyond: usize,
    /// The number of invalid entries.
    pub rejected: usize,
    /// Why the first of these are invalid.
    pub rejections: Vec<String>,
}

impl Room {
    /// The room of an empty discovery, if at most `max_targets` are polled. It is for twice
    /// as many, since a target that is found twice is polled once.
    pub fn new(max_targets: usize) -> Self {
        Room {
            targets: max_targets.saturating_mul(2),
            label_bytes: MAX_LABEL_BYTES,
        }
    }

    /// Subtracts the findings of other lists.
    pub fn beside<'f>(mut self, others: impl IntoIterator<Item = &'f Findings>) -> Self {
        for found in others.into_iter().flat_map(|others| &others.found) {
            self.targets = self.targets.saturating_sub(1);
            self.label_bytes = self.label_bytes.saturating_sub(found.label_bytes());
        }
        self
    }
}

impl Found {
    fn label_bytes(&self) -> usize {
        self.labels.labels().as_str().len()
    }
}

impl Findings {
    /// Adds an entry if there is room. Otherwise the entry is not even read.
    pub fn add_within(
        &mut self,
        room: &mut Room,
        found: impl FnOnce() -> Result<Option<Found>, String>,
    ) {
        if room.targets == 0 {
            self.beyond += 1;
            return;
        }
        let found = found();
        let Ok(Some(target)) = &found else {
            return self.add(found);
        };
        match room.label_bytes.checked_sub(target.label_bytes()) {
            Some(left) => {
                room.label_bytes = left;
                room.targets -= 1;
                self.add(found);
            }
            None => {
                let limit = MAX_LABEL_BYTES >> 20;
                let problem = format!("the labels of all targets would have more than {limit} MiB");
                self.reject(format!("target {}: {problem}", target.url));
            }
        }
    }

    /// Adds an entry.
    pub fn add(&mut self, found: Result<Option<Found>, String>) {
        match found {
            Ok(Some(found)) => self.found.push(found),
            Ok(None) => self.dropped += 1,
            Err(problem) => self.reject(problem),
        }
    }

    /// The targets of each list, by the name of the list.
    pub fn by_list(&self) -> BTreeMap<&str, Findings> {
        let mut lists: BTreeMap<&str, Findings> = BTreeMap::new();
        for found in &self.found {
            let (_, list) = found.found_in.split_once(": ").unwrap_or_default();
            lists.entry(list).or_default().found.push(found.clone());
        }
        lists
    }

    /// Adds the entries of another list.
    pub fn extend(&mut self, other: &Findings) {
        self.found.extend_from_slice(&other.found);
        self.dropped += other.dropped;
        self.beyond += other.beyond;
        self.rejected += other.rejected;
        let room = MAX_REJECTIONS - self.rejections.len();
        let more = other.rejections.iter().take(room);
        self.rejections.extend(more.cloned());
    }

    /// Counts an invalid entry.
    pub fn reject(&mut self, problem: String) {
        self.rejected += 1;
        if self.rejections.len() < MAX_REJECTIONS {
            self.rejections.push(problem);
        }
    }
}

/// The place where a target was found: the discovery, and the name of the list.
pub fn found_in(discovery: &str, list: impl Display) -> Arc<str> {
    Arc::from(format!("{discovery}: {list}"))
}

/// Turns addresses and labels into targets.
#[derive(Debug)]
pub struct FoundReader<'t> {
    template: &'t Template,
    /// Settings of targets whose labels set an interval or timeout, shared among them.
    others: RefCell<HashMap<(Schedule, Duration), Arc<PollSettings>>>,
    /// A label that rules see on all targets: where they were found.
    meta: Option<(&'static str, String)>,
}

impl<'t> FoundReader<'t> {
    /// A reader for targets that are polled by `template`, unless their labels say otherwise.
    pub fn new(template: &'t Template) -> Self {
        FoundReader {
            template,
            others: RefCell::default(),
            meta: None,
        }
    }

    /// Like [`new`](Self::new), with an additional label that rules see.
    pub fn with_meta(template: &'t Template, name: &'static str, value: String) -> Self {
        FoundReader {
            meta: Some((name, value)),
            ..FoundReader::new(template)
        }
    }

    /// Reads the target of an entry; `None` if the rules drop it.
    ///
    /// # Errors
    ///
    /// The entry is invalid.
    pub fn found(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        found_in: &Arc<str>,
    ) -> Result<Option<Found>, String> {
        let rules = &self.template.rules.all;
        let found = || {
            if rules.is_empty() {
                let base = self.template.labels.clone();
                return self.read(address, (base, labels), found_in).map(Some);
            }
            let mut set = found_labels(self.template, address, labels);
            if let Some((name, value)) = &self.meta {
                set.set(*name, value.clone());
            }
            if !rules.apply(&mut set) {
                return Ok(None);
            }
            let address = set.get(ADDRESS).to_owned();
            let pairs = set.iter();
            let labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let base = BTreeMap::new();
            self.read(&address, (base, &labels.collect()), found_in)
                .map(Some)
        };
        found().map_err(|problem: String| format!("target {address:?}: {problem}"))
    }

    /// Reads the labels of an entry, which override those of `base`.
    fn read(
        &self,
        address: &str,
        (base, labels): (BTreeMap<String, String>, &BTreeMap<String, String>),
        found_in: &Arc<str>,
    ) -> Result<Found, String> {
        let url = self.url(address, labels)?;
        let settings = self.settings(labels)?;
        let labels = self.labels(address, (base, labels), settings.honor_labels)?;
        Ok(Found {
            url,
            labels,
            settings,
            found_in: Arc::clone(found_in),
        })
    }

    /// Returns the target for a file with metrics.
    ///
    /// # Errors
    ///
    /// The path is not UTF-8, or there are too many labels.
    pub fn file(&self, path: PathBuf, found_in: &Arc<str>) -> Result<Found, String> {
        if path.to_str().is_none() {
            return Err(format!("{}: its name is not UTF-8", path.display()));
        }
        let settings = Arc::clone(&self.template.settings);
        Ok(Found {
            url: TargetUrl::File(path),
            labels: sample_labels(&self.template.labels, settings.honor_labels)?,
            settings,
            found_in: Arc::clone(found_in),
        })
    }

    fn url(&self, address: &str, labels: &BTreeMap<String, String>) -> Result<TargetUrl, String> {
        let scheme = value(labels, "__scheme__").unwrap_or(self.template.scheme.as_str());
        let path = value(labels, "__metrics_path__").unwrap_or(&self.template.metrics_path);
        let mut params = Cow::Borrowed(&self.template.params);
        for (name, value) in param_labels(labels.iter().map(|(name, value)| (&**name, &**value))) {
            params.to_mut().set(name, value);
        }
        target_url(scheme, address, path, params.pairs()).map(TargetUrl::Http)
    }

    fn settings(&self, labels: &BTreeMap<String, String>) -> Result<Arc<PollSettings>, String> {
        let settings = &self.template.settings;
        let times = times(|name| value(labels, name), settings)?;
        if times == (settings.interval, settings.timeout) {
            return Ok(Arc::clone(settings));
        }
        let mut others = self.others.borrow_mut();
        let shared = others.entry(times).or_insert_with(|| {
            Arc::new(PollSettings {
                interval: times.0,
                timeout: times.1,
                ..PollSettings::clone(settings)
            })
        });
        Ok(Arc::clone(shared))
    }

    /// The labels of samples: those that do not begin with two underscores, and `instance`,
    /// which is the address by default.
    fn labels(
        &self,
        address: &str,
        (mut all, labels): (BTreeMap<String, String>, &BTreeMap<String, String>),
        honor: bool,
    ) -> Result<SampleLabels, String> {
        let own = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        for (name, value) in own {
            check(name, value)?;
            all.insert(name.clone(), value.clone());
        }
        let instance = all.entry("instance".to_owned()).or_default();
        if instance.is_empty() {
            address.clone_into(instance);
            check("instance", instance)?;
        }
        sample_labels(&all, honor)
    }
}

/// The labels of a found target before relabelling: those of its entry, and defaults from
/// the settings.
pub fn found_labels(
    template: &Template,
    address: &str,
    labels: &BTreeMap<String, String>,
) -> LabelSet<'static> {
    let mut set = LabelSet::new();
    for (name, value) in &template.labels {
        set.set(name.clone(), value.clone());
    }
    for (name, value) in template.params.first_values() {
        set.set(format!("__param_{name}"), value.to_owned());
    }
    set.set("__scheme__", template.scheme.as_str());
    set.set("__metrics_path__", template.metrics_path.clone());
    let settings = &template.settings;
    set_times(&mut set, settings.interval, settings.timeout);
    for (name, value) in labels {
        // As in Prometheus, an empty value in the entry leaves the default.
        if !(name.starts_with("__") && value.is_empty()) {
            set.set(name.clone(), value.clone());
        }
    }
    set.set(ADDRESS, address.to_owned());
    set
}

/// The value of a label; `None` if it is empty, as in Prometheus.
fn value<'l>(labels: &'l BTreeMap<String, String>, name: &str) -> Option<&'l str> {
    let value = labels.get(name)?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::poller::discovery::tests::template;

    fn found(template: &Template, address: &str, labels: &[(&str, &str)]) -> Result<Found, String> {
        let pairs = labels.iter().copied();
        let labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let reader = FoundReader::new(template);
        let found = reader.found(address, &labels.collect(), &Arc::from("here"));
        found.map(|found| found.expect("no rule drops it"))
    }

    #[test]
    fn labels_make_the_url_and_the_labels_of_samples() {
        let plain = template("");
        let secure = template(
            "scheme = \"https\", metrics_path = \"/m\", labels = { env = \"t\", z = \"1\" }",
        );
        for (template, address, labels, url, samples) in [
            (&plain, "h", &[][..], "http://h/metrics", "instance=\"h\""),
            (
                &plain,
                "[::1]:9100",
                &[],
                "http://[::1]:9100/metrics",
                "instance=\"[::1]:9100\"",
            ),
            (
                &plain,
                "h:1",
                &[
                    ("__scheme__", "https"),
                    ("__metrics_path__", "/a b/%"),
                    ("__param_target", "x&y"),
                    ("__param_module", "if_mib"),
                    ("__meta_zone", "a"),
                    ("__address__", "ignored:1"),
                    ("job", "snmp"),
                    ("empty", ""),
                ],
                "https://h:1/a%20b/%25?module=if_mib&target=x%26y",
                "instance=\"h:1\",job=\"snmp\"",
            ),
            (
                &secure,
                "h:1",
                &[("instance", "db"), ("env", "p"), ("__metrics_path__", "")],
                "https://h:1/m",
                "env=\"p\",instance=\"db\",z=\"1\"",
            ),
            (
                &secure,
                "h",
                &[("__scheme__", "http"), ("instance", "")],
                "http://h/m",
                "env=\"t\",instance=\"h\",z=\"1\"",
            ),
        ] {
            let found = found(template, address, labels).unwrap();
            assert_eq!(found.url.to_string(), url);
            assert_eq!(found.labels.labels().as_str(), samples, "{url}");
            assert_eq!(&*found.found_in, "here");
        }
    }

    #[test]
    fn rules_find_all_labels_and_decide_what_is_polled() {
        let template = template(
            "interval = \"30s\", params = { module = [\"a\", \"b\"] }, labels = { env = \"t\", z = \"1\" }, relabel = [\
             { action = \"drop\", source_labels = [\"__meta_zone\"], regex = \"off\" },\
             { source_labels = [\"__address__\"], target_label = \"__param_target\" },\
             { source_labels = [\"__param_target\"], target_label = \"instance\" },\
             { source_labels = [\"__scheme__\", \"__metrics_path__\", \"__param_module\", \"__scrape_interval__\", \"__scrape_timeout__\"], target_label = \"all\" },\
             { target_label = \"__address__\", replacement = \"snmp:9116\" },\
             { action = \"labeldrop\", regex = \"z|__param_module\" }]",
        );
        let reader = FoundReader::with_meta(&template, "__meta_filepath", "a.json".to_owned());
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let labels = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            reader.found("switch:1", &labels.collect(), &Arc::from(""))
        };
        assert_eq!(of(&[("__meta_zone", "off")]), Ok(None));
        let target = of(&[("env", ""), ("__metrics_path__", "/snmp")])
            .unwrap()
            .unwrap();
        assert_eq!(
            target.url.to_string(),
            "http://snmp:9116/snmp?module=a&module=b&target=switch%3A1"
        );
        assert_eq!(
            target.labels.labels().as_str(),
            "all=\"http;/snmp;a;30s;2s\",instance=\"switch:1\""
        );
        assert!(Arc::ptr_eq(&target.settings, &template.settings));
    }

    #[test]
    fn intervals_come_from_labels_and_are_shared() {
        let template = template("interval = \"30s\", timeout = \"3s\"");
        let reader = FoundReader::new(&template);
        let of = |interval: &str| {
            let labels = BTreeMap::from([("__scrape_interval__".to_owned(), interval.to_owned())]);
            let found = reader.found("h", &labels, &Arc::from("")).unwrap();
            found.unwrap().settings
        };
        assert!(Arc::ptr_eq(&of(""), &template.settings));
        let minute = of("1m");
        assert!(Arc::ptr_eq(&minute, &of("60s")));
        let seconds = |settings: &PollSettings| (settings.interval, settings.timeout.as_secs());
        let every = Schedule::Every(Duration::from_secs(60));
        assert_eq!(seconds(&minute), (every, 3));
    }

    #[test]
    fn invalid_entries_are_rejected_with_a_reason() {
        let template = template("");
        let many: Vec<String> = (0..65).map(|number| format!("l{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (&**name, "x")).collect();
        let long = "x".repeat(5000);
        for (address, labels, problem) in [
            ("", &[][..], "must be a host"),
            ("http://h:1", &[], "must be a host"),
            ("h:1/metrics", &[], "must be a host"),
            ("me@h:1", &[], "must be a host"),
            ("h h", &[], "must be a host"),
            ("h:port", &[], "must be a host"),
            (
                "h",
                &[("__scheme__", "ftp")],
                "__scheme__ must be http or https",
            ),
            ("h", &[("a b", "x")], "\"a b\" is not a label name"),
            ("h", &[("le", "x")], "cannot get a label \"le\""),
            ("h", &[("a", &long)], "more than 1024 bytes"),
            ("h", &[("__param_a", &long)], "more than 4096 bytes"),
            ("h", &many, "more than 64 labels"),
            (
                "h",
                &[("__scrape_interval__", "soon")],
                "__scrape_interval__ must be a duration",
            ),
            (
                "h",
                &[("__scrape_interval__", "1s")],
                "timeout of 2s is longer",
            ),
        ] {
            let error = found(&template, address, labels).unwrap_err();
            assert!(
                error.starts_with(&format!("target {address:?}: ")),
                "{error}"
            );
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn targets_and_labels_are_limited() {
        let template = template("");
        let target = |address: &str| {
            let labels = BTreeMap::from([("a".to_owned(), "x".repeat(1000))]);
            FoundReader::new(&template).found(address, &labels, &Arc::from("here"))
        };
        // The length of: a="x...",instance="h:1"
        let bytes = 1000 + "a=\"\",instance=\"h:1\"".len();
        let mut room = Room {
            targets: 3,
            label_bytes: 2 * bytes + 1,
        };
        let mut findings = Findings::default();
        for address in ["h:1", "h x", "h:2", "h:3"] {
            findings.add_within(&mut room, || target(address));
        }
        assert_eq!((findings.found.len(), findings.rejected), (2, 2));
        assert_eq!(
            findings.rejections[1],
            "target http://h:3/metrics: the labels of all targets would have more than 64 MiB"
        );
        assert_eq!((room.targets, room.label_bytes), (1, 1));
        let beside = Room::new(2).beside([&findings]);
        assert_eq!(
            (beside.targets, beside.label_bytes),
            (2, MAX_LABEL_BYTES - 2 * bytes)
        );

        let mut room = Room::new(1);
        let mut findings = Findings::default();
        for address in ["h:1", "h x", "h:2", "h:3", "h x"] {
            findings.add_within(&mut room, || target(address));
        }
        let counts = (findings.found.len(), findings.beyond, findings.rejected);
        assert_eq!(counts, (2, 2, 1));
        findings.extend(&findings.clone());
        assert_eq!((findings.found.len(), findings.beyond), (4, 4));
    }

    #[test]
    fn only_the_first_rejections_are_kept() {
        let mut findings = Findings::default();
        (0..4).for_each(|number| findings.reject(number.to_string()));
        let mut all = findings.clone();
        all.extend(&findings);
        assert_eq!(
            (all.rejected, all.rejections.join("")),
            (8, "01230".to_owned())
        );
    }

    #[test]
    fn findings_of_several_lists_can_be_told_apart() {
        let template = template("");
        let reader = FoundReader::new(&template);
        let mut all = Findings::default();
        for (address, list) in [("a", "/x: y"), ("b", "/z"), ("c", "/x: y")] {
            let found_in = found_in("file_sd[0]", list);
            all.add(reader.found(address, &BTreeMap::new(), &found_in));
        }
        let lists = all.by_list().into_iter();
        let lists = lists.map(|(list, it)| (list, it.found.len()));
        assert_eq!(lists.collect::<Vec<_>>(), [("/x: y", 2), ("/z", 1)]);
    }
}
