//! The settings of `[poll_external]`: which exporters to poll, and how.
//!
//! - [`target`]: the settings of one target; [`schedule`]: when to poll it; [`params`]: the
//!   parameters in its URL.
//! - [`discovery`]: the sources of more targets.
//! - [`relabel`]: rules for the labels of targets.
//! - [`changes`]: the settings that a reload changes.

mod changes;
pub mod discovery;
pub mod params;
pub mod relabel;
pub mod schedule;
pub mod target;

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use self::discovery::Discoveries;
use self::params::Params;
use self::relabel::{RelabelledTarget, TargetRules};
use self::schedule::Schedule;
use self::target::{Defaults, Limits, PollSettings, Target, late, name, url};
use crate::exposition::SampleLabels;
use crate::http_client::{ProxyUrl, proxy_url};
use crate::ingest::added_labels;
use crate::relabel::Rules;
use crate::settings::document::Place;
use crate::settings::reader::Table;
use crate::settings::value::{
    boolean, buffer_size, duration, integer, positive_duration, write_size,
};

/// The settings of the poller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Whether targets are polled.
    pub poll_other_scrape_endpoints: bool,
    /// The limit on bytes of one response, after decompression.
    #[serde(serialize_with = "write_size")]
    pub max_body: usize,
    /// The HTTP proxy for all polls, except to hosts in `NO_PROXY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are used.
    pub proxy_from_environment: bool,
    /// The limit on targets, including discovered ones.
    pub max_targets: usize,
    /// All targets: those of `other_scrape_endpoints`, then those of `targets`.
    pub targets: Vec<Arc<Target>>,
    /// The targets after relabelling, without dropped ones.
    #[serde(skip)]
    pub relabelled: Vec<Arc<Target>>,
    /// Rules for the labels of all targets.
    #[serde(flatten)]
    pub rules: TargetRules,
    /// The discoveries, which find more targets.
    #[serde(flatten)]
    pub discoveries: Discoveries,
    /// The settings of all targets, which are part of `targets` and `discoveries`.
    #[serde(skip)]
    pub defaults: Defaults,
}

/// A target as written, before default names are assigned.
struct WrittenTarget {
    name: Option<String>,
    place: Place,
    target: Target,
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Config {
    let poll = table.take("poll_other_scrape_endpoints", true, boolean);
    let times_place = table
        .place("client_timeout")
        .or(table.place("poll_interval"));
    let rules = TargetRules::take(&mut table, &Rules::NONE);
    let defaults = Defaults {
        rules: rules.all.clone(),
        interval: table.take(
            "poll_interval",
            Schedule::Every(Duration::from_secs(5)),
            Schedule::read,
        ),
        timeout: table.take("client_timeout", Duration::from_secs(2), positive_duration),
        stale_after: table.take("stale_after", Duration::from_secs(300), duration),
        follow_redirects: table.take("follow_redirects", true, boolean),
        allow_invalid_certs: table.take("allow_invalid_certs", false, boolean),
        limits: Limits::take(&mut table, Limits::default()),
    };
    let max_body = table.take("max_body", 16 << 20, buffer_size);
    let proxy_place = table.place("proxy_url");
    let proxy_url = table.take_option("proxy_url", proxy_url);
    let proxy_from_environment = table.take("proxy_from_environment", false, boolean);
    if let Some(place) = proxy_place.filter(|_| proxy_from_environment) {
        table.fault(
            place,
            "`poll_external.proxy_url` and `poll_external.proxy_from_environment` exclude each \
             other; set one of them",
        );
    }

    let max_targets = table.take("max_targets", 20_000, integer(1, 1_000_000));
    let targets_place = table
        .place("targets")
        .or(table.place("other_scrape_endpoints"));
    let mut shared = SharedSettings::new(&defaults);
    let mut written = table.take_list("other_scrape_endpoints", |node| {
        Ok(WrittenTarget {
            name: None,
            place: node.place.clone(),
            target: Target {
                name: String::new(),
                url: url(node)?,
                labels: SampleLabels::default(),
                settings: Arc::clone(&shared.plain),
            },
        })
    });
    written.extend(table.take_tables("targets", |table, place| {
        read_target(table, place, &defaults, &mut shared)
    }));
    if let Some(place) = times_place
        && let Schedule::Every(interval) = defaults.interval
        && defaults.timeout > interval
    {
        table.warn(
            place,
            late(
                (
                    "poll_external.client_timeout",
                    "poll_external.poll_interval",
                ),
                defaults.timeout,
                interval,
            ),
        );
    }
    let (targets, relabelled) = name_all(written, &rules.all, &table);
    if let Some(place) = targets_place
        && targets.len() > max_targets
    {
        let count = targets.len();
        table.fault(
            place,
            format!("{count} targets are configured; `poll_external.max_targets` is {max_targets}"),
        );
    }
    let discoveries = Discoveries::take(&mut table, &defaults);
    table.finish();

    Config {
        poll_other_scrape_endpoints: poll,
        max_body,
        proxy_url,
        proxy_from_environment,
        max_targets,
        targets,
        relabelled,
        rules,
        discoveries,
        defaults,
    }
}

/// Shares settings that many targets have in common, so that they are in memory once.
struct SharedSettings {
    /// Those of targets without settings of their own.
    plain: Arc<PollSettings>,
    /// Those of the last target, which often equal those of the next.
    last: Arc<PollSettings>,
}

impl SharedSettings {
    fn new(defaults: &Defaults) -> Self {
        let plain = Arc::new(defaults.settings());
        let last = Arc::clone(&plain);
        SharedSettings { plain, last }
    }

    fn share(&mut self, settings: PollSettings) -> Arc<PollSettings> {
        if settings == *self.plain {
            return Arc::clone(&self.plain);
        }
        if settings != *self.last {
            self.last = Arc::new(settings);
        }
        Arc::clone(&self.last)
    }
}

fn read_target(
    mut table: Table<'_>,
    place: &Place,
    defaults: &Defaults,
    shared: &mut SharedSettings,
) -> Option<WrittenTarget> {
    let url_place = table.place("url");
    let url = table.take_option("url", url);
    let name = table.take_option("name", name);
    let mut labels = SampleLabels::default();
    let mut settings = Arc::clone(&shared.plain);
    let mut params = Params::default();
    // Of thousands of targets, most have only a URL and a name.
    if !table.is_empty() {
        params = Params::take(&mut table);
        let own = PollSettings::take(&mut table, defaults);
        let written = added_labels::take(&mut table);
        // `take` has already checked the labels.
        labels = added_labels::sample_labels(&written, own.honor_labels).unwrap_or_default();
        settings = shared.share(own);
    }
    if url_place.is_none() {
        table.fault(
            place.clone(),
            "an entry of `poll_external.targets` needs a `url`",
        );
    }
    table.finish();

    Some(WrittenTarget {
        name,
        place: place.clone(),
        target: Target {
            name: String::new(),
            url: params.add_to(url?),
            labels,
            settings,
        },
    })
}

/// Names every target, and reports duplicate names. Returns the targets before and after
/// relabelling.
fn name_all(
    mut written: Vec<WrittenTarget>,
    rules: &Rules,
    table: &Table<'_>,
) -> (Vec<Arc<Target>>, Vec<Arc<Target>>) {
    let mut authorities: HashMap<String, usize> = HashMap::new();
    for one in written.iter().filter(|one| one.name.is_none()) {
        *authorities.entry(one.target.url.authority()).or_default() += 1;
    }
    for WrittenTarget { name, target, .. } in &mut written {
        target.name = name.take().unwrap_or_else(|| {
            let authority = target.url.authority();
            if authorities.get(&authority) == Some(&1) {
                format!("external_poll: {authority}")
            } else {
                format!("external_poll: {}", target.url.with_path())
            }
        });
    }
    let mut taken: HashMap<&str, &Place> = HashMap::with_capacity(written.len());
    for WrittenTarget { place, target, .. } in &written {
        let name = &*target.name;
        let first = *taken.entry(name).or_insert(place);
        if !ptr::eq(first, place) {
            let problem = format!(
                "duplicate target name {name:?}, first used at {first}; set another `name`"
            );
            table.fault(place.clone(), problem);
        }
    }
    let mut targets = Vec::with_capacity(written.len());
    let mut relabelled = Vec::with_capacity(written.len());
    for WrittenTarget { place, target, .. } in written {
        let target = Arc::new(target);
        match RelabelledTarget::of(&target, rules) {
            Ok(RelabelledTarget::Kept(target)) => relabelled.push(target),
            Ok(RelabelledTarget::Dropped) => {}
            Err(problem) => {
                let name = &target.name;
                let message = format!("target {name:?} after `poll_external.relabel`: {problem}");
                table.fault(place, message);
            }
        }
        targets.push(target);
    }
    (targets, relabelled)
}
