//! `relabel`: rules for the labels of targets, as in Prometheus' `relabel_configs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use url::Url;

use super::params::Params;
use super::schedule::Schedule;
use super::target::{PollSettings, Target, TargetUrl};
use crate::exposition::unescape;
use crate::ingest::added_labels::{self, sample_labels};
use crate::relabel::{self, LabelSet, Rules, RulesFile};
use crate::settings::duration_of;
use crate::settings::reader::Table;
use crate::settings::value::duration_text;

/// The limit on the length of a URL made from labels, in bytes.
const MAX_URL: usize = 4096;

/// The label with the host and port of a target.
pub const ADDRESS: &str = "__address__";

/// Rules for the labels of targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TargetRules {
    /// Rules from a file, which come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relabel_file: Option<RulesFile>,
    /// More rules.
    #[serde(skip_serializing_if = "Rules::is_empty")]
    pub relabel: Rules,
    /// All rules in order. Those of `[poll_external]`, for all targets, come last.
    #[serde(skip)]
    pub all: Rules,
}

impl TargetRules {
    /// Takes the rules out of a table. `more` follow them.
    pub fn take(table: &mut Table<'_>, more: &Rules) -> Self {
        TargetRules {
            relabel_file: relabel::take_file(table, "relabel_file"),
            relabel: relabel::take(table, "relabel"),
            all: Rules::NONE,
        }
        .followed_by(more)
    }

    /// These rules with `more` after them, in place of those that followed so far.
    #[must_use]
    pub fn followed_by(self, more: &Rules) -> Self {
        let own = match &self.relabel_file {
            Some(file) => file.rules.followed_by(&self.relabel),
            None => self.relabel.clone(),
        };
        TargetRules {
            all: own.followed_by(more),
            ..self
        }
    }

    /// Only the rules `more`.
    pub fn only(more: &Rules) -> Self {
        TargetRules {
            all: more.clone(),
            ..TargetRules::default()
        }
    }
}

/// Sets the labels for the interval and the timeout.
pub fn set_times(set: &mut LabelSet<'_>, interval: Schedule, timeout: Duration) {
    if let Schedule::Every(interval) = interval {
        set.set("__scrape_interval__", duration_text(interval));
    }
    set.set("__scrape_timeout__", duration_text(timeout));
}

/// The URL parameters among labels: `__param_<name>`.
pub fn param_labels<'l>(
    labels: impl Iterator<Item = (&'l str, &'l str)>,
) -> impl Iterator<Item = (&'l str, &'l str)> {
    labels.filter_map(|(name, value)| {
        let name = name.strip_prefix("__param_").filter(|it| !it.is_empty())?;
        Some((name, value))
    })
}

/// Builds a URL from the labels of a target. The path is not encoded.
///
/// # Errors
///
/// The labels do not form a valid URL.
pub fn target_url<'p>(
    scheme: &str,
    address: &str,
    path: &str,
    params: impl Iterator<Item = (&'p str, &'p str)>,
) -> Result<Url, String> {
    if !["http", "https"].contains(&scheme) {
        return Err(format!("__scheme__ must be http or https, not {scheme:?}"));
    }
    let is_host = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#@\\".contains(c);
    if address.is_empty() || !address.chars().all(is_host) {
        return Err("must be a host, with or without a port".to_owned());
    }
    let mut url = Url::parse(&format!("{scheme}://{address}"))
        .map_err(|problem| format!("must be a host, with or without a port: {problem}"))?;
    url.set_path(&path.replace('%', "%25"));
    let mut params = params.peekable();
    if params.peek().is_some() {
        url.query_pairs_mut().extend_pairs(params);
    }
    if url.as_str().len() > MAX_URL {
        return Err(format!("its URL has more than {MAX_URL} bytes"));
    }
    Ok(url)
}

/// The interval and the timeout from labels, or else from the settings.
///
/// # Errors
///
/// One of them is not a duration, or the timeout is longer than the interval.
pub fn times<'l>(
    value: impl Fn(&str) -> Option<&'l str>,
    settings: &PollSettings,
) -> Result<(Schedule, Duration), String> {
    let time = |name| match value(name) {
        None => Ok(None),
        Some(written) => match duration_of(written).filter(|time| !time.is_zero()) {
            Some(time) => Ok(Some(time)),
            None => Err(format!(
                "{name} must be a duration such as \"15s\", not {written:?}"
            )),
        },
    };
    let (interval, timeout) = (time("__scrape_interval__")?, time("__scrape_timeout__")?);
    let is_set = interval.is_some() || timeout.is_some();
    let interval = interval.map_or(settings.interval, Schedule::Every);
    let timeout = timeout.unwrap_or(settings.timeout);
    let is_same = (interval, timeout) == (settings.interval, settings.timeout);
    if let Schedule::Every(interval) = interval
        && timeout > interval
        && is_set
        && !is_same
    {
        return Err(format!(
            "its timeout of {timeout:?} is longer than its interval of {interval:?}"
        ));
    }
    Ok((interval, timeout))
}

/// The result of relabelling a configured target.
#[derive(Debug)]
pub enum RelabelledTarget {
    /// The rules keep it, changed or unchanged.
    Kept(Arc<Target>),
    /// The rules drop it.
    Dropped,
}

impl RelabelledTarget {
    /// Applies rules to a target.
    ///
    /// # Errors
    ///
    /// The remaining labels do not form a target.
    pub fn of(target: &Arc<Target>, rules: &Rules) -> Result<Self, String> {
        if rules.is_empty() {
            return Ok(RelabelledTarget::Kept(Arc::clone(target)));
        }
        let before = target_labels(target);
        let mut set = before.clone();
        if !rules.apply(&mut set) {
            return Ok(RelabelledTarget::Dropped);
        }
        if set == before {
            return Ok(RelabelledTarget::Kept(Arc::clone(target)));
        }
        let settings = &target.settings;
        let value = |name: &str| Some(set.get(name)).filter(|value| !value.is_empty());
        let (interval, timeout) = times(value, settings)?;
        let own = set.iter().filter(|(name, _)| !name.starts_with("__"));
        let own = own.map(|(name, value)| {
            added_labels::check(name, value)?;
            Ok((name.to_owned(), value.to_owned()))
        });
        let labels: Result<BTreeMap<String, String>, String> = own.collect();
        Ok(RelabelledTarget::Kept(Arc::new(Target {
            name: target.name.clone(),
            url: url_of(&target.url, &before, &set)?,
            labels: sample_labels(&labels?, settings.honor_labels)?,
            settings: match (interval, timeout) == (settings.interval, settings.timeout) {
                true => Arc::clone(settings),
                false => Arc::new(PollSettings {
                    interval,
                    timeout,
                    ..PollSettings::clone(settings)
                }),
            },
        })))
    }
}

/// The labels of a configured target before relabelling.
pub fn target_labels(target: &Target) -> LabelSet<'static> {
    let mut set = LabelSet::new();
    for label in target.labels.labels().iter() {
        let (name, value) = (unescape(label.name), unescape(label.value));
        set.set(name.into_owned(), value.into_owned());
    }
    match &target.url {
        TargetUrl::Http(url) => {
            let path = percent_decode_str(url.path()).decode_utf8_lossy();
            for (name, value) in params_of(url).first_values() {
                set.set(format!("__param_{name}"), value.to_owned());
            }
            set.set("__scheme__", url.scheme().to_owned());
            set.set("__metrics_path__", path.into_owned());
            let address = &url[url::Position::BeforeHost..url::Position::AfterPort];
            set.set(ADDRESS, address.to_owned());
        }
        TargetUrl::Unix { .. } | TargetUrl::File(_) => set.set(ADDRESS, target.url.authority()),
    }
    set_times(&mut set, target.settings.interval, target.settings.timeout);
    set.set("__meta_exporter_proxy_name", target.name.clone());
    set.sort();
    set
}

fn params_of(url: &Url) -> Params {
    let mut params = Params::default();
    for (name, value) in url.query_pairs() {
        params.add(&name, &value);
    }
    params
}

/// The URL after relabelling. If the rules do not change its labels, it stays exactly as written.
fn url_of(url: &TargetUrl, before: &LabelSet<'_>, set: &LabelSet<'_>) -> Result<TargetUrl, String> {
    let is_part = |name: &str| {
        ["__scheme__", "__metrics_path__", ADDRESS].contains(&name) || name.starts_with("__param_")
    };
    let parts = |set: &LabelSet<'_>| -> BTreeMap<String, String> {
        let parts = set.iter().filter(|(name, _)| is_part(name));
        let owned = parts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.collect()
    };
    if parts(before) == parts(set) {
        return Ok(url.clone());
    }
    let TargetUrl::Http(written) = url else {
        return Err("the address of a Unix socket cannot be changed".to_owned());
    };
    let mut params = params_of(written);
    for (name, value) in param_labels(set.iter()) {
        params.set(name, value);
    }
    let or = |name: &str| match set.get(name) {
        "" => before.get(name).to_owned(),
        value => value.to_owned(),
    };
    let (scheme, path) = (or("__scheme__"), or("__metrics_path__"));
    let mut new = target_url(&scheme, set.get(ADDRESS), &path, params.pairs())?;
    let shown = |()| "user info cannot be set".to_owned();
    new.set_username(written.username()).map_err(shown)?;
    new.set_password(written.password()).map_err(shown)?;
    Ok(TargetUrl::Http(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    /// Applies rules in YAML to a target with these settings.
    fn relabelled(target: &str, rules: &str) -> Result<Option<Arc<Target>>, String> {
        let config = format!("[[poll_external.targets]]\n{target}\n");
        let config = settle("test", &config, []).unwrap().0;
        let rules = Rules::parse_yaml(rules).unwrap();
        let target = &config.poll_external.targets[0];
        RelabelledTarget::of(target, &rules).map(|relabelled| match relabelled {
            RelabelledTarget::Kept(target) => Some(target),
            RelabelledTarget::Dropped => None,
        })
    }

    const DB: &str = "name = \"db\"\nurl = \"http://me:pw@db:9187/a%20b?module=x&module=y&z=1\"\n\
                      labels = { env = \"prod\", zone = \"a\" }\ninterval = \"30s\"";

    #[test]
    fn labels_of_configured_targets_are_found_and_changed() {
        for (rules, url, labels) in [
            (
                "- {source_labels: [__address__], regex: '([^:]+):.*', target_label: host}\n\
                 - {source_labels: [__meta_exporter_proxy_name], target_label: instance}\n\
                 - {action: labeldrop, regex: zone}\n",
                "http://me:pw@db:9187/a%20b?module=x&module=y&z=1",
                "env=\"prod\",host=\"db\",instance=\"db\"",
            ),
            (
                "- {target_label: __param_module, replacement: 'w&'}\n\
                 - {source_labels: [__address__], target_label: __param_target}\n\
                 - {target_label: __address__, replacement: 'proxy:1'}\n\
                 - {target_label: __scheme__, replacement: https}\n\
                 - {target_label: __metrics_path__, replacement: /p%}\n",
                "https://me:pw@proxy:1/p%25?module=w%26&module=y&target=db%3A9187&z=1",
                "env=\"prod\",zone=\"a\"",
            ),
            (
                "- {source_labels: [__scrape_interval__, __scrape_timeout__, __metrics_path__], target_label: all}\n\
                 - {source_labels: [__scheme__, __param_module, __param_z], target_label: more}\n",
                "http://me:pw@db:9187/a%20b?module=x&module=y&z=1",
                "all=\"30s;2s;/a b\",env=\"prod\",more=\"http;x;1\",zone=\"a\"",
            ),
        ] {
            let target = relabelled(DB, rules).unwrap().unwrap();
            let TargetUrl::Http(found) = &target.url else {
                panic!("{rules}");
            };
            assert_eq!(found.as_str(), url, "{rules}");
            assert_eq!(target.labels.labels().as_str(), labels, "{rules}");
        }
    }

    #[test]
    fn rules_drop_configured_targets_and_set_their_times() {
        let drop = "- {action: drop, source_labels: [env], regex: prod}\n";
        assert!(relabelled(DB, drop).unwrap().is_none());
        let keep = "- {action: keep, source_labels: [env], regex: prod}\n";
        assert!(relabelled(DB, keep).unwrap().is_some());
        let times = "- {target_label: __scrape_interval__, replacement: 1m}\n\
                     - {target_label: __scrape_timeout__, replacement: 3s}\n";
        let settings = &relabelled(DB, times).unwrap().unwrap().settings;
        let seconds = Duration::from_secs;
        assert_eq!(settings.interval, Schedule::Every(seconds(60)));
        assert_eq!(settings.timeout, seconds(3));
        for (target, rule, problem) in [
            (
                DB,
                "{target_label: __address__, replacement: ''}",
                "must be a host",
            ),
            (
                DB,
                "{target_label: __address__, replacement: a/b}",
                "must be a host",
            ),
            (
                DB,
                "{target_label: __scheme__, replacement: ftp}",
                "__scheme__ must be http or https",
            ),
            (
                DB,
                "{target_label: __scrape_interval__, replacement: 1s}",
                "timeout of 2s is longer",
            ),
            (
                DB,
                "{target_label: le, replacement: x}",
                "cannot get a label \"le\"",
            ),
            (
                DB,
                "{target_label: a.b, replacement: x}",
                "is not a label name",
            ),
            (
                "url = \"unix:///run/a.sock:/metrics\"",
                "{target_label: __address__, replacement: h}",
                "of a Unix socket cannot be changed",
            ),
        ] {
            let error = relabelled(target, &format!("- {rule}")).unwrap_err();
            assert!(error.contains(problem), "{rule}: {error}");
        }
        // Rules may change labels of samples there, too.
        let rule = "- {source_labels: [__address__], target_label: socket}";
        let unix = relabelled("url = \"unix:///run/a.sock:/metrics\"", rule)
            .unwrap()
            .unwrap();
        assert_eq!(unix.labels.labels().as_str(), "socket=\"/run/a.sock\"");
    }
}
