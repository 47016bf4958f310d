//! The settings of `[web]` about users and roles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::role::Role;
use crate::settings::document::{Node, Place, Value};
use crate::settings::listen::{SocketOwner, owner};
use crate::settings::network::Network;
use crate::settings::pattern::{Pattern, pattern};
use crate::settings::reader::Table;
use crate::settings::value::{choice, list, text};

/// The limit on entries. Each request is compared with all of them.
const MAX_ENTRIES: usize = 1000;

/// The settings of `[web]` about users and roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Web {
    /// The web configuration in the format of Prometheus' exporter-toolkit.
    #[serde(serialize_with = "write_path")]
    pub config_file: Option<PathBuf>,
    /// The entries that give roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<Entry>,
}

/// An entry of `[[web.access]]`: one way to have roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The roles that it gives.
    #[serde(rename = "role", serialize_with = "write_roles")]
    pub roles: Vec<Role>,
    /// Who gets them.
    #[serde(flatten)]
    pub who: Who,
    /// The listeners where they apply; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerKind>,
    /// Patterns of the apps that it may write; see [`Bounds`](super::Bounds::apps).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<Pattern>,
    /// Patterns of the labels of what it may write; see
    /// [`Bounds`](super::Bounds::labels).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Pattern>,
}

impl Entry {
    /// Whether it may write only some apps or series.
    pub fn is_bound(&self) -> bool {
        !self.apps.is_empty() || !self.labels.is_empty()
    }
}

/// Whom an entry applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Requests with a bearer token from this file. It has one token on each line.
    TokenFile(PathBuf),
    /// A user of the web configuration.
    User(String),
    /// Clients with a certificate that was verified and has a name that matches: a
    /// subject alternative name, or the common name of a certificate without any.
    ClientName(Pattern),
    /// Clients in these networks.
    AllowFrom(Vec<Network>),
    /// Processes of a user, on Unix sockets.
    UnixUser(SocketOwner),
    /// Processes of a group's members, on Unix sockets.
    UnixGroup(SocketOwner),
}

/// A kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// The listeners for scrapes and pushes over HTTP.
    Http,
    /// The sockets that apps send to (`[receiver]`).
    Receiver,
    /// The sockets for operations (`[operations]`).
    Operations,
}

impl ListenerKind {
    const NAMES: [(&'static str, ListenerKind); 3] = [
        ("http", ListenerKind::Http),
        ("receiver", ListenerKind::Receiver),
        ("operations", ListenerKind::Operations),
    ];
}

/// Reads the settings from `[web]`.
pub fn read(table: &mut Table<'_>) -> Web {
    let place = table.place("access");
    let web = Web {
        config_file: table.take("config_file", None, path),
        access: table.take_tables("access", entry),
    };
    if let Some(place) = place
        && web.access.len() > MAX_ENTRIES
    {
        let count = web.access.len();
        table.fault(
            place,
            format!("`web.access` has {count} entries; the limit is {MAX_ENTRIES}"),
        );
    }
    web
}

/// Reads an entry. If it has errors, they are reported and the entry is left out.
fn entry(mut table: Table<'_>, place: &Place) -> Option<Entry> {
    let has_role = table.place("role").is_some();
    let roles = table.take_option("role", roles);
    let mut whos: Vec<Who> = Vec::new();
    let mut written = Vec::new();
    let keys = [
        "token_file",
        "user",
        "client_name",
        "allow_from",
        "unix_user",
        "unix_group",
    ];
    for key in keys {
        written.extend(table.place(key).map(|_| key));
    }
    whos.extend(
        table
            .take_option("token_file", not_empty)
            .map(|path| Who::TokenFile(path.into())),
    );
    whos.extend(table.take_option("user", not_empty).map(Who::User));
    whos.extend(
        table
            .take_option("client_name", pattern)
            .map(Who::ClientName),
    );
    whos.extend(
        table
            .take_option("allow_from", networks)
            .map(Who::AllowFrom),
    );
    whos.extend(
        table
            .take_option("unix_user", owner("current_user"))
            .map(Who::UnixUser),
    );
    whos.extend(
        table
            .take_option("unix_group", owner("current_group"))
            .map(Who::UnixGroup),
    );
    // An empty list looks like a restriction, and would not be one.
    for key in ["listeners", "apps"] {
        if table.is_empty_list(key)
            && let Some(place) = table.place(key)
        {
            table.fault(place, format!("`web.access.{key}` must not be empty"));
        }
    }
    let listeners = table.take_list("listeners", choice(&ListenerKind::NAMES));
    let apps_place = table.place("apps").or_else(|| table.place("labels"));
    let apps = table.take_list("apps", pattern);
    let labels = table
        .take_option("labels", label_patterns)
        .unwrap_or_default();
    if !has_role {
        table.fault(
            place.clone(),
            "`web.access` needs a `role`: \"read\", \"write\" or \"admin\"",
        );
    }
    if written.len() != 1 {
        let found = match written.len() {
            0 => "has none of them".to_owned(),
            _ => format!("has {}", written.join(" and ")),
        };
        let problem = format!(
            "`web.access` needs exactly one of {}; this entry {found}",
            keys.join(", ")
        );
        table.fault(place.clone(), problem);
    }
    if let Some(place) = apps_place
        && let Some(roles) = &roles
        && (!roles.contains(&Role::Write) || roles.contains(&Role::Admin))
    {
        table.fault(
            place,
            "`apps` and `labels` bind what the role \"write\" may change; this entry must have that \
             role, and not \"admin\"",
        );
    }
    let takes_secrets = listeners.is_empty() || listeners.contains(&ListenerKind::Http);
    if let Some(Who::TokenFile(_) | Who::User(_)) = whos.last()
        && !takes_secrets
    {
        table.fault(
            place.clone(),
            "`web.access`: only HTTP carries tokens and passwords, and `listeners` of this entry \
             leaves \"http\" out",
        );
    }
    table.finish();
    Some(Entry {
        roles: roles?,
        who: whos.pop()?,
        listeners,
        apps,
        labels,
    })
}

/// A role, or a list of roles.
fn roles(node: &Node) -> Result<Vec<Role>, String> {
    let role = choice(&[
        ("read", Role::Read),
        ("write", Role::Write),
        ("admin", Role::Admin),
    ]);
    match &node.value {
        Value::List(items) if items.is_empty() => Err("must not be empty".to_owned()),
        Value::List(items) => items.iter().map(role).collect(),
        _ => role(node).map(|role| vec![role]),
    }
}

/// A path; `None` for an empty string.
fn path(node: &Node) -> Result<Option<PathBuf>, String> {
    let path = text(node)?;
    Ok((!path.is_empty()).then(|| PathBuf::from(path)))
}

fn not_empty(node: &Node) -> Result<String, String> {
    match text(node)? {
        text if text.is_empty() => Err("must not be empty".to_owned()),
        text => Ok(text),
    }
}

/// A network, or a list of networks.
fn networks(node: &Node) -> Result<Vec<Network>, String> {
    let network = |node: &Node| Network::parse(&text(node)?);
    match &node.value {
        Value::List(items) if items.is_empty() => Err("must not be empty".to_owned()),
        Value::List(_) => list(node.clone())?.iter().map(network).collect(),
        _ => Ok(vec![network(node)?]),
    }
}

/// Names of labels, each with the pattern of its value.
fn label_patterns(node: &Node) -> Result<BTreeMap<String, Pattern>, String> {
    let Value::Table(entries) = &node.value else {
        let found = node.value.sort();
        return Err(format!(
            "must be a table such as {{ job = \"backup\" }}, not {found}"
        ));
    };
    if entries.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let entries = entries.iter().map(|(name, entry)| {
        let pattern = pattern(&entry.node).map_err(|problem| format!("{name}: {problem}"))?;
        Ok((name.clone(), pattern))
    });
    entries.collect()
}

/// Serializes one role as a string, and several as a list.
fn write_roles<S: Serializer>(roles: &[Role], to: S) -> Result<S::Ok, S::Error> {
    match roles {
        [role] => role.serialize(to),
        roles => roles.serialize(to),
    }
}

/// Serializes a path, and `None` as an empty string.
fn write_path<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path.serialize(to),
        None => to.serialize_str(""),
    }
}
