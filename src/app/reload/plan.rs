//! Finds what a new configuration changes now, and what waits for a restart.

use std::collections::BTreeSet;

use toml::Table;

use crate::config::Config;
use crate::inputs::poller::config::discovery::Discoveries;

/// A setting that takes effect at the next start only.
struct RestartSetting {
    name: &'static str,
    differs: fn(&Config, &Config) -> bool,
    /// Copies the value from the first to the second configuration.
    keep: fn(&Config, &mut Config),
}

/// The settings at these paths in the configuration. The name of a setting leaves out the field of
/// a flattened table.
macro_rules! restart_settings {
    ($($name:literal: $($field:ident).+,)+) => {
        [$(RestartSetting {
            name: $name,
            differs: |one, other| one.$($field).+ != other.$($field).+,
            keep: |from, to| to.$($field).+.clone_from(&from.$($field).+),
        }),+]
    };
}

/// All settings that take effect only at the next start. All others take effect on reload.
const RESTART: [RestartSetting; 10] = restart_settings![
    "exporter.worker_threads": exporter.worker_threads,
    "exporter.own_metrics": exporter.own_metrics,
    "exporter.app_metrics": exporter.app_metrics,
    "receiver.unix_socket_user": receiver.unix_socket_user,
    "receiver.unix_socket_group": receiver.unix_socket_group,
    "receiver.unix_socket_mode": receiver.unix_socket_mode,
    "exposition.mode": exposition.mode,
    "profiling": profiling,
    "storage.path": storage.path,
    "storage.sync": storage.sync,
];

/// The names of the settings that take effect only at the next start.
pub fn restart_settings() -> impl Iterator<Item = &'static str> {
    RESTART.iter().map(|setting| setting.name)
}

/// What a new configuration changes.
#[derive(Debug)]
pub struct Plan {
    /// The configuration to use from now on: the new one, except that settings which need a restart
    /// keep their values.
    pub config: Config,
    /// The names of the settings that change now, such as `push.max_groups`.
    pub changed: BTreeSet<String>,
    /// The names of the settings that change at the next start.
    pub restart: Vec<&'static str>,
}

impl Plan {
    /// Compares a new configuration with that in use.
    pub fn new(before: &Config, mut new: Config) -> Self {
        let mut restart = Vec::new();
        for setting in &RESTART {
            if (setting.differs)(before, &new) {
                restart.push(setting.name);
                (setting.keep)(before, &mut new);
            }
        }
        Plan {
            changed: changed(before, &new),
            restart,
            config: new,
        }
    }
}

/// The names of the settings that differ.
fn changed(before: &Config, new: &Config) -> BTreeSet<String> {
    let mut changed = BTreeSet::new();
    let (one, other) = (tables(before), tables(new));
    for (name, table) in one.iter().chain(&other) {
        let keys = table.as_table().into_iter().flat_map(Table::keys);
        for key in keys {
            let value = |tables: &Table| tables.get(name)?.get(key).cloned();
            if value(&one) != value(&other) {
                changed.insert(format!("{name}.{key}"));
            }
        }
    }
    let polls = before.poll_external.changes(&new.poll_external);
    changed.extend(polls.map(|key| format!("poll_external.{key}")));
    // The content of files is not serialized.
    let mappings = [before, new].map(|config| &config.operations.statsd_mapping);
    for (name, differs) in [
        ("operations.statsd_mapping", mappings[0] != mappings[1]),
        ("shape", before.shape != new.shape),
    ] {
        if differs {
            changed.insert(name.to_owned());
        }
    }
    // Nor are secrets.
    let (one, other) = (&before.sinks.0, &new.sinks.0);
    for name in one.keys().chain(other.keys()) {
        if one.get(name) != other.get(name) {
            changed.insert(format!("sinks.{name}"));
        }
    }
    changed
}

/// The settings by table and key, without targets, which can be many, and discoveries.
fn tables(config: &Config) -> Table {
    let mut config = config.clone();
    config.poll_external.targets.clear();
    config.poll_external.relabelled.clear();
    config.poll_external.discoveries = Discoveries::default();
    Table::try_from(config).expect("settings are plain tables of text, numbers and lists")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    fn config(text: &str) -> Config {
        settle("test", text, []).unwrap().0
    }

    fn plan(before: &str, new: &str) -> Plan {
        Plan::new(&config(before), config(new))
    }

    #[test]
    fn changes_are_named_by_their_settings() {
        let same = plan("", "[push]\nmax_groups = 100000\n");
        assert!(same.changed.is_empty() && same.restart.is_empty());
        let new = "[push]\nmax_groups = 7\nmax_body = \"1MiB\"\n[receiver]\napp_ttl = 5\n\
                   [[push.rules]]\nmatch = \"a\"\npolicy = \"max\"\n";
        let expected = [
            "push.max_body",
            "push.max_groups",
            "push.rules",
            "receiver.app_ttl",
        ];
        assert!(plan("", new).changed.iter().eq(expected));
        assert!(plan(new, "").changed.iter().eq(expected));
    }

    #[test]
    fn secrets_are_compared_though_they_are_not_shown() {
        let target = |password: &str| {
            format!(
                "[[poll_external.targets]]\nurl = \"http://a/\"\n\
                 basic_auth = {{ username = \"me\", password = \"{password}\" }}\n"
            )
        };
        let changed = plan(&target("one"), &target("two")).changed;
        assert!(changed.iter().eq(["poll_external.targets"]));
        let list = |token: &str| {
            format!("[poll_external]\nhttp_sd = [{{ url = \"http://a/?token={token}\" }}]\n")
        };
        let changed = plan(&list("one"), &list("two")).changed;
        assert!(changed.iter().eq(["poll_external.http_sd"]));
        let proxy = |user: &str| format!("[poll_external]\nproxy_url = \"http://{user}:x@p/\"\n");
        let changed = plan(&proxy("one"), &proxy("two")).changed;
        assert!(changed.iter().eq(["poll_external.proxy_url"]));
    }

    #[test]
    fn changed_files_are_named_by_their_settings() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (rules, mapping) = (path("rules"), path("mapping"));
        let text = format!(
            "[operations]\nstatsd_mapping = {mapping:?}\n[poll_external]\nrelabel_file = {rules:?}\n\
             [[shape]]\nmetric_relabel_file = {rules:?}\n"
        );
        let write = |rule: &str, metric: &str| {
            std::fs::write(&rules, format!("- {rule}\n")).unwrap();
            let mapping_text = format!("mappings: [{{match: a, name: {metric}}}]\n");
            std::fs::write(&mapping, mapping_text).unwrap();
            config(&text)
        };
        let before = write("{action: labeldrop, regex: a}", "b");
        let same = write("{action: labeldrop, regex: a}", "b");
        assert!(Plan::new(&before, same).changed.is_empty());
        let new = write("{action: labeldrop, regex: b}", "c");
        let expected = [
            "operations.statsd_mapping",
            "poll_external.relabel_file",
            "shape",
        ];
        assert!(Plan::new(&before, new).changed.iter().eq(expected));
    }

    #[test]
    fn settings_of_all_targets_are_named_and_not_the_targets() {
        let config = |settings: &str, target: &str| {
            format!(
                "[poll_external]\n{settings}file_sd = [\"a.json\"]\n\
                 http_sd = [{{ url = \"http://b/\", targets = {{ interval = \"9s\" }} }}]\n\
                 dns_sd = [{{ names = [\"c\"], type = \"SRV\" }}]\ntextfile = [\"/d\"]\n\
                 other_scrape_endpoints = [\"http://e/\"]\n\
                 [[poll_external.targets]]\nurl = \"http://f/\"\n{target}"
            )
        };
        let before = config("", "interval = \"5s\"\n");
        for (key, value) in [
            ("poll_interval", "\"20s\""),
            ("client_timeout", "\"1s\""),
            ("stale_after", "\"1s\""),
            ("follow_redirects", "false"),
            ("allow_invalid_certs", "true"),
            ("sample_limit", "1"),
            ("label_limit", "2"),
            ("label_name_length_limit", "3"),
            ("label_value_length_limit", "4"),
            ("relabel", "[{ action = \"labeldrop\", regex = \"a\" }]"),
        ] {
            let name = format!("poll_external.{key}");
            let line = format!("{key} = {value}\n");
            let new = config(&line, "interval = \"5s\"\n");
            assert!(plan(&before, &new).changed.iter().eq([&name]), "{key}");
            assert!(plan(&new, &before).changed.iter().eq([&name]), "{key}");
            let new = config(&line, "interval = \"6s\"\n");
            let both = BTreeSet::from([name, "poll_external.targets".to_owned()]);
            assert_eq!(plan(&before, &new).changed, both, "{key}");
        }
    }

    #[test]
    fn settings_that_need_a_restart_stay_as_they_are() {
        let new = "[exposition]\nmode = \"merged\"\nmax_samples = 5\n\
                   [storage]\npath = \"/elsewhere\"\n[exporter]\nworker_threads = 9\n";
        let plan = plan("", new);
        assert_eq!(
            plan.restart,
            ["exporter.worker_threads", "exposition.mode", "storage.path"]
        );
        assert!(plan.changed.iter().eq(["exposition.max_samples"]));
        let mut expected = config("");
        expected.exposition.max_samples = 5;
        assert_eq!(plan.config, expected);
    }
}
