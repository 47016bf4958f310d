//! `/settings`: all settings, those that differ from their default first, each with the
//! place where it is written.

use std::collections::BTreeMap;

use hyper::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};
use toml::{Table, Value as Setting};

use super::shell::Tab;
use super::show::{count, sent};
use super::{Page, ShownInput, is_for_page};
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::settings::Places;
use crate::telemetry::clip_to;

/// The limit of items of a list that are shown.
const MAX_ITEMS: usize = 20;

/// The longest value that is shown, in bytes.
const MAX_VALUE: usize = 2000;

/// The settings in use.
#[derive(Debug, Clone, Default)]
pub struct SettingsInUse {
    settings: Vec<ShownSetting>,
    /// The inputs, for the status.
    pub(super) inputs: Vec<ShownInput>,
}

#[derive(Debug, Clone)]
struct ShownSetting {
    name: String,
    value: String,
    /// The default, if the value differs from it. Empty if the setting has no default.
    default: Option<String>,
    /// The place where it is written; `None` for a default.
    place: Option<String>,
}

impl SettingsInUse {
    /// The settings `used`, without secrets, as tables of keys, beside their `defaults`.
    pub fn new(used: Table, defaults: Table, places: &Places, inputs: Vec<ShownInput>) -> Self {
        let (mut flat, mut default) = (BTreeMap::new(), BTreeMap::new());
        flatten("", used, &mut flat);
        flatten("", defaults, &mut default);
        let settings = flat.into_iter().map(|(name, value)| ShownSetting {
            default: match default.get(&name) {
                Some(it) if *it == value => None,
                Some(it) => Some(shown(it)),
                // The setting is in a table that does not exist by default.
                None => places.of(&name).map(|_| String::new()),
            },
            value: shown(&value),
            place: places.of(&name).map(ToString::to_string),
            name,
        });
        SettingsInUse {
            settings: settings.collect(),
            inputs,
        }
    }
}

/// Collects the settings of `table` and of the tables in it, by their full names.
fn flatten(path: &str, table: Table, flat: &mut BTreeMap<String, Setting>) {
    for (key, value) in table {
        let name = match path {
            "" => key,
            path => format!("{path}.{key}"),
        };
        match value {
            Setting::Table(table) if !table.is_empty() => flatten(&name, table, flat),
            value => {
                flat.insert(name, value);
            }
        }
    }
}

/// A value as it is written in the file.
fn shown(value: &Setting) -> String {
    let text = match value {
        Setting::Array(items) if items.len() > MAX_ITEMS => {
            let first = Setting::Array(items[..MAX_ITEMS].to_vec()).to_string();
            format!("{first} and {} more", items.len() - MAX_ITEMS)
        }
        value => value.to_string(),
    };
    clip_to(MAX_VALUE, &text, " …")
}

impl Page {
    pub(super) fn settings(&self, request: &Request) -> Reply {
        let search = query::value(request.query(), "q").unwrap_or_default();
        let lower = search.to_ascii_lowercase();
        let matches = |setting: &&ShownSetting| {
            setting.name.contains(&lower) || setting.value.to_ascii_lowercase().contains(&lower)
        };
        let matching: Vec<&ShownSetting> = self.settings.settings.iter().filter(matches).collect();
        if !is_for_page(&request.head) {
            let all: Vec<Value> = matching.iter().map(|it| setting_json(it)).collect();
            return reply::json(&json!({ "settings": all }));
        }
        let (changed, others): (Vec<&ShownSetting>, Vec<&ShownSetting>) =
            matching.into_iter().partition(|it| it.default.is_some());
        let content = html! {
            div.title {
                h1 { "Settings" }
                p.summary { (count(changed.len() as u64)) " differ from the default" }
            }
            form.filters method="get" action=(self.shell.link("/settings")) role="search" {
                label.search {
                    span { "Search" }
                    input type="search" name="q" value=(search) placeholder="Setting or value" autocomplete="off" spellcheck="false";
                }
                button { "Show" }
            }
            section aria-labelledby="changed" {
                h2 #changed { "Different from the default" }
                @if changed.is_empty() { p.empty { "None." } } @else { (table(&changed, true)) }
            }
            section aria-labelledby="defaults" {
                h2 #defaults { "Unchanged from the default" }
                @if others.is_empty() { p.empty { "None." } } @else { (table(&others, false)) }
            }
        };
        self.shell.page(
            request,
            StatusCode::OK,
            (Tab::Settings, "Settings"),
            &content,
        )
    }
}

fn table(settings: &[&ShownSetting], has_default: bool) -> Markup {
    html! {
        table.lines.settings {
            thead { tr {
                th.name scope="col" { "Setting" }
                th.value scope="col" { "Value" }
                @if has_default { th.default scope="col" { "Default" } }
                th.place scope="col" { "Written in" }
            } }
            tbody {
                @for setting in settings {
                    tr {
                        td.name { code { (setting.name) } }
                        td.value { code { (sent(&setting.value)) } }
                        @if has_default {
                            td.default {
                                @match setting.default.as_deref() {
                                    None | Some("") => "–",
                                    Some(default) => code { (default) },
                                }
                            }
                        }
                        td.place { (setting.place.as_deref().unwrap_or("default")) }
                    }
                }
            }
        }
    }
}

fn setting_json(setting: &ShownSetting) -> Value {
    json!({
        "name": setting.name,
        "value": setting.value,
        "default": setting.default,
        "differs": setting.default.is_some(),
        "place": setting.place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Place;

    #[test]
    fn settings_are_compared_with_their_defaults_and_have_a_place() {
        let used = "[a]\nx = 1\ny = [1, 2]\n[a.tls]\nkey = \"k\"\nunset = 1\n[b]\nz = \"<\"\n";
        let defaults = "[a]\nx = 1\ny = []\n[b]\nz = \"\"\n";
        let place = |name: &str| {
            let place = Place::Variable(name.to_owned());
            (name.to_owned(), place)
        };
        let places = [
            place("a.x"),
            place("a.tls"),
            place("a.tls.key"),
            place("b.z[0]"),
        ];
        let places = Places::new(places.into());
        let settings = SettingsInUse::new(
            used.parse().unwrap(),
            defaults.parse().unwrap(),
            &places,
            Vec::new(),
        );
        let found: Vec<_> = settings
            .settings
            .iter()
            .map(|it| {
                let place = it.place.as_deref().unwrap_or("-");
                (
                    it.name.as_str(),
                    it.value.as_str(),
                    it.default.as_deref(),
                    place,
                )
            })
            .collect();
        let expected = [
            (
                "a.tls.key",
                "\"k\"",
                Some(""),
                "environment variable a.tls.key",
            ),
            ("a.tls.unset", "1", None, "-"),
            ("a.x", "1", None, "environment variable a.x"),
            ("a.y", "[1, 2]", Some("[]"), "-"),
            ("b.z", "\"<\"", Some("\"\""), "-"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn long_lists_are_cut() {
        let items = (0..MAX_ITEMS as i64 + 5).map(Setting::Integer).collect();
        assert!(shown(&Setting::Array(items)).ends_with("19] and 5 more"));
        let long = Setting::String("x".repeat(2 * MAX_VALUE));
        assert!(shown(&long).len() < MAX_VALUE + 8);
    }
}
