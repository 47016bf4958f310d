//! Finds what a new configuration changes now, and what waits for a restart.

use std::collections::BTreeSet;

use toml::Table;

use crate::config::Config;

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
    // Secrets are not serialized, so tables with secrets are compared directly.
    let (one, other) = (&before.poll_external, &new.poll_external);
    if one.targets != other.targets {
        changed.insert("poll_external.targets".to_owned());
    }
    let (discoveries, others) = (&one.discoveries, &other.discoveries);
    for (key, differs) in [
        ("file_sd", discoveries.file_sd != others.file_sd),
        ("http_sd", discoveries.http_sd != others.http_sd),
        ("dns_sd", discoveries.dns_sd != others.dns_sd),
        ("textfile", discoveries.textfile != others.textfile),
    ] {
        if differs {
            changed.insert(format!("poll_external.{key}"));
        }
    }
    if one.proxy_url != other.proxy_url {
        changed.insert("poll_external.proxy_url".to_owned());
    }
    let (one, other) = (&before.sinks.0, &new.sinks.0);
    for name in one.keys().chain(other.keys()) {
        if one.get(name) != other.get(name) {
            changed.insert(format!("sinks.{name}"));
        }
    }
    changed
}

/// The settings by table and key, without targets, which can be many.
fn tables(config: &Config) -> Table {
    let mut config = config.clone();
    config.poll_external.targets.clear();
    config.poll_external.relabelled.clear();
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
