//! The settings of discoveries: `file_sd`, `http_sd`, `dns_sd` and `textfile`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use super::params::Params;
use super::relabel::TargetRules;
use super::schedule::Schedule;
use super::target::{Defaults, Limits, PollSettings, RequestSettings, Target, TargetUrl, url};
use crate::exposition::SampleLabels;
use crate::ingest::added_labels;
use crate::settings::document::{Node, Place};
use crate::settings::pattern::Pattern;
use crate::settings::reader::{Item, Table};
use crate::settings::value::{choice, integer, positive_duration, text, write_duration};

/// The limit on discoveries.
const MAX_DISCOVERIES: usize = 100;

/// The discoveries, which find more targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Discoveries {
    /// Lists in files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_sd: Vec<Arc<FileSd>>,
    /// Lists on HTTP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_sd: Vec<Arc<HttpSd>>,
    /// DNS names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_sd: Vec<Arc<DnsSd>>,
    /// Directories of files with metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub textfile: Vec<Arc<Textfile>>,
}

/// One discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// Lists in files.
    File(Arc<FileSd>),
    /// A list on an HTTP server.
    Http(Arc<HttpSd>),
    /// DNS names.
    Dns(Arc<DnsSd>),
    /// Files with metrics.
    Textfile(Arc<Textfile>),
}

/// Lists of targets in files, in the format of Prometheus' `file_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSd {
    /// The files.
    pub files: Vec<FilePattern>,
    /// How found targets are polled.
    pub targets: Template,
}

/// Files, by the path of their directory and a pattern for their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePattern {
    /// The path of the directory; empty for the working directory.
    pub directory: String,
    /// The pattern for the names.
    pub name: Pattern,
}

/// A list on an HTTP server, in the format of Prometheus' `http_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpSd {
    /// The URL of the list.
    pub url: TargetUrl,
    /// The time from the start of one request to the start of the next.
    #[serde(serialize_with = "write_duration")]
    pub refresh_interval: Duration,
    /// The timeout of a whole request.
    #[serde(serialize_with = "write_duration")]
    pub timeout: Duration,
    /// How requests for the list are sent.
    #[serde(flatten)]
    pub requests: RequestSettings,
    /// How found targets are polled.
    pub targets: Template,
}

/// DNS names whose addresses are targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsSd {
    /// The names.
    pub names: Vec<String>,
    /// The type of records.
    #[serde(rename = "type")]
    pub kind: RecordType,
    /// The port of targets; that of the record for `SRV`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The time from one look-up to the next.
    #[serde(serialize_with = "write_duration")]
    pub refresh_interval: Duration,
    /// The DNS server; by default the servers of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// How found targets are polled.
    pub targets: Template,
}

/// Directories of files with metrics. Each file is a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Textfile {
    /// The directories.
    pub directories: Vec<String>,
    /// How the files are polled.
    #[serde(serialize_with = "write_file_targets")]
    pub targets: Template,
}

/// The type of a DNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Hosts with ports.
    #[serde(rename = "SRV")]
    Srv,
}

/// How found targets are polled, unless their labels say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    /// The scheme of their URLs.
    pub scheme: Scheme,
    /// The path of their URLs.
    pub metrics_path: String,
    /// Parameters of their URLs.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Labels for their samples.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Rules for their labels.
    #[serde(flatten)]
    pub rules: TargetRules,
    /// How they are polled.
    #[serde(flatten)]
    pub settings: Arc<PollSettings>,
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// The word in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Path::new(&self.directory).join(self.name.as_str());
        write!(f, "{}", path.display())
    }
}

impl Serialize for FilePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Discoveries {
    /// Takes the settings out of `[poll_external]`.
    pub fn take(table: &mut Table<'_>, defaults: &Defaults) -> Self {
        let place = ["file_sd", "http_sd", "dns_sd", "textfile"]
            .iter()
            .find_map(|key| table.place(key));
        let found = Discoveries {
            file_sd: table
                .take_items("file_sd", |item| read_file_sd(item, defaults))
                .unwrap_or_default(),
            http_sd: table.take_tables("http_sd", |table, place| {
                read_http_sd(table, place, defaults)
            }),
            dns_sd: table.take_tables("dns_sd", |table, place| read_dns_sd(table, place, defaults)),
            textfile: table
                .take_items("textfile", |item| read_textfile(item, defaults))
                .unwrap_or_default(),
        };
        let count = found.all().count();
        if let Some(place) = place.filter(|_| count > MAX_DISCOVERIES) {
            let problem = format!(
                "`poll_external` has {count} entries in `file_sd`, `http_sd`, `dns_sd` and `textfile`; \
                 the limit is {MAX_DISCOVERIES}"
            );
            table.fault(place, problem);
        }
        found
    }

    /// All discoveries, each with the name of its setting, such as `file_sd[0]`.
    pub fn all(&self) -> impl Iterator<Item = (String, Discovery)> {
        let named = |key: &'static str| move |index: usize| format!("{key}[{index}]");
        let files = self
            .file_sd
            .iter()
            .map(|it| Discovery::File(Arc::clone(it)));
        let http = self
            .http_sd
            .iter()
            .map(|it| Discovery::Http(Arc::clone(it)));
        let dns = self.dns_sd.iter().map(|it| Discovery::Dns(Arc::clone(it)));
        let textfiles = self.textfile.iter();
        let textfiles = textfiles.map(|it| Discovery::Textfile(Arc::clone(it)));
        let names = |key| (0..).map(named(key));
        names("file_sd")
            .zip(files)
            .chain(names("http_sd").zip(http))
            .chain(names("dns_sd").zip(dns))
            .chain(names("textfile").zip(textfiles))
    }
}

impl Discovery {
    /// How found targets are polled.
    pub fn template(&self) -> &Template {
        match self {
            Discovery::File(it) => &it.targets,
            Discovery::Http(it) => &it.targets,
            Discovery::Dns(it) => &it.targets,
            Discovery::Textfile(it) => &it.targets,
        }
    }

    /// The place where targets are found, for people and without secrets.
    pub fn source(&self) -> String {
        match self {
            Discovery::File(it) => {
                let files: Vec<String> = it.files.iter().map(ToString::to_string).collect();
                files.join(", ")
            }
            Discovery::Http(it) => it.url.to_string(),
            Discovery::Dns(it) => it.names.join(", "),
            Discovery::Textfile(it) => it.directories.join(", "),
        }
    }

    /// Whether both discoveries find targets in the same place. They may poll them differently.
    pub fn has_source_of(&self, other: &Discovery) -> bool {
        match (self, other) {
            (Discovery::File(one), Discovery::File(other)) => one.files == other.files,
            (Discovery::Http(one), Discovery::Http(other)) => one.url == other.url,
            (Discovery::Dns(one), Discovery::Dns(other)) => {
                (&one.names, one.kind, one.port) == (&other.names, other.kind, other.port)
            }
            (Discovery::Textfile(one), Discovery::Textfile(other)) => {
                one.directories == other.directories
            }
            _ => false,
        }
    }
}

impl HttpSd {
    /// The list as a target to poll.
    pub fn as_target(&self, name: &str) -> Target {
        Target {
            name: name.to_owned(),
            url: self.url.clone(),
            labels: SampleLabels::default(),
            settings: Arc::new(PollSettings {
                interval: Schedule::Every(self.refresh_interval),
                timeout: self.timeout,
                stale_after: Duration::ZERO,
                honor_labels: false,
                body_size_limit: None,
                limits: Limits::default(),
                requests: self.requests.clone(),
            }),
        }
    }
}

/// Reads the table `targets` of a discovery.
fn read_template(table: &mut Table<'_>, defaults: &Defaults) -> Template {
    let mut table = table.table("targets");
    let template = Template {
        scheme: table.take(
            "scheme",
            Scheme::Http,
            choice(&[("http", Scheme::Http), ("https", Scheme::Https)]),
        ),
        metrics_path: table.take("metrics_path", "/metrics".to_owned(), metrics_path),
        params: Params::take(&mut table),
        labels: added_labels::take(&mut table),
        rules: TargetRules::take(&mut table, &defaults.rules),
        settings: Arc::new(PollSettings::take(&mut table, defaults)),
    };
    table.finish();
    template
}

fn read_file_sd(item: Item<'_>, defaults: &Defaults) -> Result<Option<Arc<FileSd>>, String> {
    let (files, targets) = match item {
        Item::Value(node) => {
            let template = Template {
                scheme: Scheme::Http,
                metrics_path: "/metrics".to_owned(),
                params: Params::default(),
                labels: BTreeMap::new(),
                rules: TargetRules::only(&defaults.rules),
                settings: Arc::new(defaults.settings()),
            };
            (vec![file_pattern(&node)?], template)
        }
        Item::Table(mut table, place) => {
            let is_missing = table.place("files").is_none() || table.is_empty_list("files");
            let files = table.take_list("files", file_pattern);
            if is_missing {
                table.fault(place, format!("`{}` needs `files`", table.name()));
            }
            let template = read_template(&mut table, defaults);
            table.finish();
            (files, template)
        }
    };
    let file_sd = FileSd { files, targets };
    Ok((!file_sd.files.is_empty()).then(|| Arc::new(file_sd)))
}

fn read_http_sd(mut table: Table<'_>, place: &Place, defaults: &Defaults) -> Option<Arc<HttpSd>> {
    let url_place = table.place("url");
    let url = table.take_option("url", url);
    if url_place.is_none() {
        let problem = format!("an entry of `{}` needs a `url`", table.name());
        table.fault(place.clone(), problem);
    }
    let refresh_interval = table.take(
        "refresh_interval",
        Duration::from_secs(60),
        positive_duration,
    );
    let timeout = table.take("timeout", Duration::from_secs(10), positive_duration);
    let requests = RequestSettings::take(&mut table, defaults);
    let targets = read_template(&mut table, defaults);
    table.finish();
    Some(Arc::new(HttpSd {
        url: url?,
        refresh_interval,
        timeout,
        requests,
        targets,
    }))
}

fn read_dns_sd(mut table: Table<'_>, place: &Place, defaults: &Defaults) -> Option<Arc<DnsSd>> {
    let is_missing = table.place("names").is_none() || table.is_empty_list("names");
    let names = table.take_list("names", dns_name);
    if is_missing {
        let problem = format!("an entry of `{}` needs `names`", table.name());
        table.fault(place.clone(), problem);
    }
    const KINDS: &[(&str, RecordType)] = &[
        ("SRV", RecordType::Srv),
        ("A", RecordType::A),
        ("AAAA", RecordType::Aaaa),
    ];
    let kind = table.take("type", RecordType::Srv, choice(KINDS));
    let port = table.take_option("port", integer(1, usize::from(u16::MAX)));
    let port = port.and_then(|port| u16::try_from(port).ok());
    if port.is_none() && kind != RecordType::Srv {
        let problem = format!(
            "an entry of `{}` of type \"A\" or \"AAAA\" needs a `port`",
            table.name()
        );
        table.fault(place.clone(), problem);
    }
    let dns_sd = DnsSd {
        names,
        kind,
        port,
        refresh_interval: table.take(
            "refresh_interval",
            Duration::from_secs(30),
            positive_duration,
        ),
        server: table.take_option("server", server),
        targets: read_template(&mut table, defaults),
    };
    table.finish();
    (!dns_sd.names.is_empty()).then(|| Arc::new(dns_sd))
}

fn read_textfile(item: Item<'_>, defaults: &Defaults) -> Result<Option<Arc<Textfile>>, String> {
    let template = |labels, settings| Template {
        scheme: Scheme::Http,
        metrics_path: String::new(),
        params: Params::default(),
        labels,
        rules: TargetRules::default(),
        settings: Arc::new(settings),
    };
    let (directories, targets) = match item {
        Item::Value(node) => {
            let targets = template(BTreeMap::new(), defaults.settings());
            (vec![directory(&node)?], targets)
        }
        Item::Table(mut table, place) => {
            let is_missing =
                table.place("directories").is_none() || table.is_empty_list("directories");
            let directories = table.take_list("directories", directory);
            if is_missing {
                table.fault(place, format!("`{}` needs `directories`", table.name()));
            }
            let mut targets = table.table("targets");
            let labels = added_labels::take(&mut targets);
            let settings = PollSettings::take_of_files(&mut targets, defaults);
            targets.finish();
            table.finish();
            (directories, template(labels, settings))
        }
    };
    let textfile = Textfile {
        directories,
        targets,
    };
    Ok((!textfile.directories.is_empty()).then(|| Arc::new(textfile)))
}

/// Serializes the settings that apply to files.
fn write_file_targets<S: Serializer>(targets: &Template, to: S) -> Result<S::Ok, S::Error> {
    const KEYS: [&str; 9] = [
        "interval",
        "stale_after",
        "honor_labels",
        "body_size_limit",
        "sample_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "labels",
    ];
    let mut written = serde_json::to_value(targets).map_err(S::Error::custom)?;
    if let Some(written) = written.as_object_mut() {
        written.retain(|key, _| KEYS.contains(&key.as_str()));
    }
    written.serialize(to)
}

fn directory(node: &Node) -> Result<String, String> {
    let path = text(node)?;
    match path.is_empty() {
        false => Ok(path),
        true => Err("must be the path of a directory".to_owned()),
    }
}

/// Parses the path of files with lists. As in Prometheus, only the file name may contain a star.
fn file_pattern(node: &Node) -> Result<FilePattern, String> {
    let written = text(node)?;
    let (directory, name) = match written.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => ("", &*written),
    };
    let (stem, extension) = name.rsplit_once('.').unwrap_or_default();
    let is_known = ["json", "yml", "yaml"].contains(&&*extension.to_ascii_lowercase());
    if stem.is_empty() || !is_known || directory.contains('*') {
        return Err(format!(
            "must be the path of .json, .yml or .yaml files with stars in the name only, such as \
             \"targets/*.json\", not {written:?}"
        ));
    }
    Ok(FilePattern {
        directory: directory.to_owned(),
        name: Pattern::new(name),
    })
}

fn metrics_path(node: &Node) -> Result<String, String> {
    let path = text(node)?;
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(format!("must be a path such as \"/metrics\", not {path:?}")),
    }
}

/// Parses a DNS name of at most 253 characters, with at most 63 in each of its labels.
fn dns_name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
    let labels = name.strip_suffix('.').unwrap_or(&name);
    match labels.len() <= 253 && labels.split('.').all(is_label) {
        true => Ok(name),
        false => Err(format!(
            "must be a DNS name such as \"_metrics._tcp.example.com\", not {name:?}"
        )),
    }
}

fn server(node: &Node) -> Result<SocketAddr, String> {
    let written = text(node)?;
    written.parse().map_err(|_| {
        format!(
            "must be the address and port of a DNS server such as \"10.0.0.2:53\", not {written:?}"
        )
    })
}
