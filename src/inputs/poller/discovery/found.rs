//! A found target: its address and labels become a URL, labels of samples and settings, by
//! the rules of Prometheus' service discovery.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::exposition::SampleLabels;
use crate::inputs::poller::config::discovery::Template;
use crate::inputs::poller::config::schedule::Schedule;
use crate::inputs::poller::config::target::{PollSettings, TargetUrl, check_label, sample_labels};
use crate::settings::duration_of;

/// The longest URL of a found target, in bytes.
const MAX_URL: usize = 4096;

/// The most rejections whose messages are kept.
const MAX_REJECTIONS: usize = 5;

/// A found target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The URL to poll.
    pub url: TargetUrl,
    /// The labels of its samples.
    pub labels: SampleLabels,
    /// How it is polled.
    pub settings: Arc<PollSettings>,
    /// The discovery and the list, for people.
    pub found_in: Arc<str>,
}

/// What an update of a discovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The targets, in the order of the list.
    pub found: Vec<Found>,
    /// The number of entries that are wrong.
    pub rejected: usize,
    /// Why, for the first of these.
    pub rejections: Vec<String>,
}

impl Findings {
    /// Adds an entry.
    pub fn add(&mut self, found: Result<Found, String>) {
        match found {
            Ok(found) => self.found.push(found),
            Err(problem) => self.reject(problem),
        }
    }

    /// Adds the entries of another list.
    pub fn extend(&mut self, other: &Findings) {
        self.found.extend_from_slice(&other.found);
        self.rejected += other.rejected;
        let room = MAX_REJECTIONS - self.rejections.len();
        let more = other.rejections.iter().take(room);
        self.rejections.extend(more.cloned());
    }

    /// Counts an entry that is wrong.
    pub fn reject(&mut self, problem: String) {
        self.rejected += 1;
        if self.rejections.len() < MAX_REJECTIONS {
            self.rejections.push(problem);
        }
    }
}

/// Makes found targets of addresses and labels.
#[derive(Debug)]
pub struct FoundReader<'t> {
    template: &'t Template,
    /// Settings of targets with an interval or timeout of their own, which they share.
    others: RefCell<HashMap<(Schedule, Duration), Arc<PollSettings>>>,
}

impl<'t> FoundReader<'t> {
    /// A reader for targets that are polled as `template` says, unless their labels say
    /// otherwise.
    pub fn new(template: &'t Template) -> Self {
        FoundReader {
            template,
            others: RefCell::default(),
        }
    }

    /// The target of an entry.
    ///
    /// # Errors
    ///
    /// What is wrong with the entry.
    pub fn found(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        found_in: &Arc<str>,
    ) -> Result<Found, String> {
        let found = || {
            let url = self.url(address, labels)?;
            let settings = self.settings(labels)?;
            let labels = self.labels(address, labels, settings.honor_labels)?;
            Ok(Found {
                url,
                labels,
                settings,
                found_in: Arc::clone(found_in),
            })
        };
        found().map_err(|problem: String| format!("target {address:?}: {problem}"))
    }

    /// The target of a file with metrics.
    ///
    /// # Errors
    ///
    /// There are too many labels.
    pub fn file(&self, path: PathBuf, found_in: &Arc<str>) -> Result<Found, String> {
        let settings = Arc::clone(&self.template.settings);
        Ok(Found {
            url: TargetUrl::File(path),
            labels: sample_labels(&self.template.labels, settings.honor_labels)?,
            settings,
            found_in: Arc::clone(found_in),
        })
    }

    fn url(&self, address: &str, labels: &BTreeMap<String, String>) -> Result<TargetUrl, String> {
        let scheme = match value(labels, "__scheme__") {
            None => self.template.scheme.as_str(),
            Some(scheme @ ("http" | "https")) => scheme,
            Some(other) => return Err(format!("__scheme__ must be http or https, not {other:?}")),
        };
        let is_host = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#@\\".contains(c);
        if address.is_empty() || !address.chars().all(is_host) {
            return Err("must be a host, with or without a port".to_owned());
        }
        let mut url = Url::parse(&format!("{scheme}://{address}"))
            .map_err(|problem| format!("must be a host, with or without a port: {problem}"))?;
        let path = value(labels, "__metrics_path__").unwrap_or(&self.template.metrics_path);
        // The label has the path itself, not encoded.
        url.set_path(&path.replace('%', "%25"));
        let mut params = Cow::Borrowed(&self.template.params);
        for (name, value) in labels {
            if let Some(name) = name.strip_prefix("__param_").filter(|it| !it.is_empty()) {
                params.to_mut().set(name, value);
            }
        }
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params.pairs());
        }
        if url.as_str().len() > MAX_URL {
            return Err(format!("its URL has more than {MAX_URL} bytes"));
        }
        Ok(TargetUrl::Http(url))
    }

    fn settings(&self, labels: &BTreeMap<String, String>) -> Result<Arc<PollSettings>, String> {
        let time = |name| match value(labels, name) {
            None => Ok(None),
            Some(written) => match duration_of(written).filter(|time| !time.is_zero()) {
                Some(time) => Ok(Some(time)),
                None => Err(format!(
                    "{name} must be a duration such as \"15s\", not {written:?}"
                )),
            },
        };
        let settings = &self.template.settings;
        let (interval, timeout) = (time("__scrape_interval__")?, time("__scrape_timeout__")?);
        if interval.is_none() && timeout.is_none() {
            return Ok(Arc::clone(settings));
        }
        let times = (
            interval.map_or(settings.interval, Schedule::Every),
            timeout.unwrap_or(settings.timeout),
        );
        if let Schedule::Every(interval) = times.0
            && times.1 > interval
        {
            return Err(format!(
                "its timeout of {:?} is longer than its interval of {interval:?}",
                times.1
            ));
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
    /// which is the address unless there is one.
    fn labels(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        honor: bool,
    ) -> Result<SampleLabels, String> {
        let mut all = self.template.labels.clone();
        let own = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        for (name, value) in own {
            check_label(name, value)?;
            all.insert(name.clone(), value.clone());
        }
        let instance = all.entry("instance".to_owned()).or_default();
        if instance.is_empty() {
            address.clone_into(instance);
            check_label("instance", instance)?;
        }
        sample_labels(&all, honor)
    }
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
        FoundReader::new(template).found(address, &labels.collect(), &Arc::from("here"))
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
    fn intervals_come_from_labels_and_are_shared() {
        let template = template("interval = \"30s\", timeout = \"3s\"");
        let reader = FoundReader::new(&template);
        let of = |interval: &str| {
            let labels = BTreeMap::from([("__scrape_interval__".to_owned(), interval.to_owned())]);
            reader.found("h", &labels, &Arc::from("")).unwrap().settings
        };
        assert!(Arc::ptr_eq(&of(""), &template.settings));
        let minute = of("1m");
        assert!(Arc::ptr_eq(&minute, &of("60s")));
        let seconds = |settings: &PollSettings| (settings.interval, settings.timeout.as_secs());
        let every = Schedule::Every(Duration::from_secs(60));
        assert_eq!(seconds(&minute), (every, 3));
    }

    #[test]
    fn wrong_entries_say_what_is_wrong() {
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
}
