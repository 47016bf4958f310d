//! The settings that differ between two configurations, by name.
//!
//! Targets and discoveries contain the settings of all targets. If only such a setting differs, it
//! alone is named.

use std::sync::Arc;

use super::Config;
use super::discovery::{DnsSd, FileSd, HttpSd, Template, Textfile};
use super::target::{Defaults, PollSettings, RequestSettings, Target};

impl Config {
    /// The names of the settings of targets and discoveries that differ in `new`, and of those with
    /// secrets, which are not shown.
    pub fn changes(&self, new: &Config) -> impl Iterator<Item = &'static str> {
        let (from, to) = (&self.defaults, &new.defaults);
        let (limits, new_limits) = (&from.limits, &to.limits);
        let (found, new_found) = (&self.discoveries, &new.discoveries);
        let differing = [
            ("poll_interval", from.interval != to.interval),
            ("client_timeout", from.timeout != to.timeout),
            ("stale_after", from.stale_after != to.stale_after),
            (
                "follow_redirects",
                from.follow_redirects != to.follow_redirects,
            ),
            (
                "allow_invalid_certs",
                from.allow_invalid_certs != to.allow_invalid_certs,
            ),
            (
                "sample_limit",
                limits.sample_limit != new_limits.sample_limit,
            ),
            ("label_limit", limits.label_limit != new_limits.label_limit),
            (
                "label_name_length_limit",
                limits.label_name_length_limit != new_limits.label_name_length_limit,
            ),
            (
                "label_value_length_limit",
                limits.label_value_length_limit != new_limits.label_value_length_limit,
            ),
            (
                "relabel_file",
                self.rules.relabel_file != new.rules.relabel_file,
            ),
            ("proxy_url", self.proxy_url != new.proxy_url),
            (
                "targets",
                differ(&self.targets, &new.targets, |it| Target {
                    settings: Arc::new(settings(&it.settings, from, to)),
                    ..it.clone()
                }),
            ),
            (
                "file_sd",
                differ(&found.file_sd, &new_found.file_sd, |it| FileSd {
                    targets: template(&it.targets, from, to),
                    ..it.clone()
                }),
            ),
            (
                "http_sd",
                differ(&found.http_sd, &new_found.http_sd, |it| HttpSd {
                    targets: template(&it.targets, from, to),
                    requests: requests(&it.requests, from, to),
                    ..it.clone()
                }),
            ),
            (
                "dns_sd",
                differ(&found.dns_sd, &new_found.dns_sd, |it| DnsSd {
                    targets: template(&it.targets, from, to),
                    ..it.clone()
                }),
            ),
            (
                "textfile",
                differ(&found.textfile, &new_found.textfile, |it| Textfile {
                    // Rules do not apply to files.
                    targets: Template {
                        settings: Arc::new(settings(&it.targets.settings, from, to)),
                        ..it.targets.clone()
                    },
                    ..it.clone()
                }),
            ),
        ];
        let differing = differing.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name)
    }
}

/// Whether entries differ, other than by the settings of all targets. `with_new` returns an entry
/// with the new settings.
fn differ<T: PartialEq>(before: &[Arc<T>], new: &[Arc<T>], with_new: impl Fn(&T) -> T) -> bool {
    let mut pairs = before.iter().zip(new);
    before.len() != new.len() || pairs.any(|(one, new)| one != new && with_new(one) != **new)
}

/// The template with the new settings of all targets.
fn template(of: &Template, from: &Defaults, to: &Defaults) -> Template {
    Template {
        rules: of.rules.clone().followed_by(&to.rules),
        settings: Arc::new(settings(&of.settings, from, to)),
        ..of.clone()
    }
}

/// The settings with the new ones of all targets, wherever they have those of before.
fn settings(of: &PollSettings, from: &Defaults, to: &Defaults) -> PollSettings {
    let mut settings = PollSettings {
        requests: requests(&of.requests, from, to),
        ..of.clone()
    };
    let (limits, old, new) = (&mut settings.limits, &from.limits, &to.limits);
    follow(&mut limits.sample_limit, old.sample_limit, new.sample_limit);
    follow(&mut limits.label_limit, old.label_limit, new.label_limit);
    follow(
        &mut limits.label_name_length_limit,
        old.label_name_length_limit,
        new.label_name_length_limit,
    );
    follow(
        &mut limits.label_value_length_limit,
        old.label_value_length_limit,
        new.label_value_length_limit,
    );
    follow(&mut settings.interval, from.interval, to.interval);
    follow(&mut settings.timeout, from.timeout, to.timeout);
    follow(&mut settings.stale_after, from.stale_after, to.stale_after);
    settings
}

fn requests(of: &RequestSettings, from: &Defaults, to: &Defaults) -> RequestSettings {
    let mut requests = of.clone();
    follow(
        &mut requests.follow_redirects,
        from.follow_redirects,
        to.follow_redirects,
    );
    follow(
        &mut requests.allow_invalid_certs,
        from.allow_invalid_certs,
        to.allow_invalid_certs,
    );
    requests
}

fn follow<T: Copy + PartialEq>(own: &mut T, from: T, to: T) {
    if *own == from {
        *own = to;
    }
}
