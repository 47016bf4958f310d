//! The settings of one target: its URL, its labels and how it is polled.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;
use url::Url;

use super::schedule::Schedule;
use crate::context::TargetSettings;
use crate::exposition::{SampleLabels, SampleLimits};
use crate::http_client::{CaFile, ClientTls, Credentials, ProxyUrl, ca_file, proxy_url, tls};
use crate::ingest::added_labels;
use crate::redact::{redact_query, redact_url};
use crate::relabel::Rules;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{
    boolean, buffer_limit, duration, integer, positive_duration, text, write_duration,
    write_size_option,
};

/// One exporter to poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The name of the target. By default it is `external_poll: host:port`, followed by
    /// the path if several targets have that host and port.
    pub name: String,
    /// The URL to poll.
    pub url: TargetUrl,
    /// Labels for its samples.
    #[serde(
        skip_serializing_if = "SampleLabels::is_empty",
        serialize_with = "added_labels::write"
    )]
    pub labels: SampleLabels,
    /// How it is polled.
    #[serde(flatten)]
    pub settings: Arc<PollSettings>,
}

impl TargetSettings for Target {
    fn describe(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn is_polled_by_scrapes(&self) -> bool {
        self.settings.interval == Schedule::Scrapes
    }
}

/// How a target is polled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PollSettings {
    /// When it is polled.
    pub interval: Schedule,
    /// The timeout of a whole poll: connection, redirects, response head and body.
    #[serde(serialize_with = "write_duration")]
    pub timeout: Duration,
    /// How long the last text stays exposed after polls begin to fail.
    #[serde(serialize_with = "write_duration")]
    pub stale_after: Duration,
    /// Whether labels of samples win over labels of the target.
    pub honor_labels: bool,
    /// The limit on bytes of a response, which replaces that of all targets.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_size_option"
    )]
    pub body_size_limit: Option<usize>,
    /// Limits on its samples.
    #[serde(flatten)]
    pub limits: Limits,
    /// How requests are sent.
    #[serde(flatten)]
    pub requests: RequestSettings,
}

/// Limits on the samples of a target, with Prometheus' names. 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The number of samples.
    pub sample_limit: usize,
    /// The number of labels of a sample.
    pub label_limit: usize,
    /// The length of a label name, in bytes.
    pub label_name_length_limit: usize,
    /// The length of a label value, in bytes.
    pub label_value_length_limit: usize,
}

/// How requests to an HTTP server are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestSettings {
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether every TLS certificate is accepted.
    pub allow_invalid_certs: bool,
    /// The HTTP proxy, which replaces that of all targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    /// Certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<CaFile>,
    /// The client certificate, and the name that the server's certificate must have.
    #[serde(skip_serializing_if = "ClientTls::is_empty")]
    pub tls: ClientTls,
    /// Secrets and additional headers.
    #[serde(flatten)]
    pub credentials: Credentials,
}

/// The URL of a target.
#[derive(Clone, PartialEq, Eq)]
pub enum TargetUrl {
    /// `http://` or `https://`.
    Http(Url),
    /// `unix:///path/to.sock:/metrics`: HTTP over a Unix socket.
    Unix {
        /// The path of the socket.
        socket: PathBuf,
        /// The path of the request.
        path: String,
    },
    /// `file:///path/to/file.prom`. Only discoveries find such targets.
    File(PathBuf),
}

impl TargetUrl {
    /// The host and port, or the path of the socket.
    pub fn authority(&self) -> String {
        match self {
            TargetUrl::Http(url) => {
                let host = url.host_str().unwrap_or_default();
                match url.port_or_known_default() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                }
            }
            TargetUrl::Unix { socket, .. } => socket.display().to_string(),
            TargetUrl::File(path) => path.display().to_string(),
        }
    }

    /// The authority followed by path and query.
    pub fn with_path(&self) -> String {
        match self {
            TargetUrl::Http(url) => {
                let query = url.query().map(redact_query);
                let query = query.map(|query| format!("?{query}"));
                format!(
                    "{}{}{}",
                    self.authority(),
                    url.path(),
                    query.unwrap_or_default()
                )
            }
            TargetUrl::Unix { path, .. } => format!("{}:{}", self.authority(), redact_path(path)),
            TargetUrl::File(_) => self.authority(),
        }
    }
}

/// The path and query with secrets redacted.
fn redact_path(path: &str) -> Cow<'_, str> {
    match path.split_once('?') {
        Some((path, query)) => Cow::Owned(format!("{path}?{}", redact_query(query))),
        None => Cow::Borrowed(path),
    }
}

/// The URL with secrets redacted.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetUrl::Http(url) => f.write_str(&redact_url(url)),
            TargetUrl::Unix { socket, path } => {
                write!(f, "unix://{}:{}", socket.display(), redact_path(path))
            }
            TargetUrl::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for TargetUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Default settings for targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// `poll_interval`.
    pub interval: Schedule,
    /// `client_timeout`.
    pub timeout: Duration,
    /// `stale_after`.
    pub stale_after: Duration,
    /// `follow_redirects`.
    pub follow_redirects: bool,
    /// `allow_invalid_certs`.
    pub allow_invalid_certs: bool,
    /// `sample_limit` and the other limits.
    pub limits: Limits,
    /// `relabel_file` and `relabel`.
    pub rules: Rules,
}

impl Defaults {
    /// The settings of a target without settings of its own.
    pub fn settings(&self) -> PollSettings {
        PollSettings {
            interval: self.interval,
            timeout: self.timeout,
            stale_after: self.stale_after,
            honor_labels: false,
            body_size_limit: None,
            limits: self.limits,
            requests: RequestSettings {
                follow_redirects: self.follow_redirects,
                allow_invalid_certs: self.allow_invalid_certs,
                proxy_url: None,
                ca_file: None,
                tls: ClientTls::default(),
                credentials: Credentials::default(),
            },
        }
    }
}

impl PollSettings {
    /// Takes the settings out of a table.
    pub fn take(table: &mut Table<'_>, defaults: &Defaults) -> Self {
        let times_place = table.place("timeout").or(table.place("interval"));
        let interval = table.take("interval", defaults.interval, Schedule::read);
        let timeout = table.take("timeout", defaults.timeout, positive_duration);
        if let Some(place) = times_place
            && let Schedule::Every(interval) = interval
            && timeout > interval
        {
            let name = table.name();
            let names = (&*format!("{name}.timeout"), &*format!("{name}.interval"));
            table.warn(place, late(names, timeout, interval));
        }
        PollSettings {
            interval,
            timeout,
            stale_after: table.take("stale_after", defaults.stale_after, duration),
            honor_labels: table.take("honor_labels", false, boolean),
            body_size_limit: table.take("body_size_limit", None, buffer_limit),
            limits: Limits::take(table, defaults.limits),
            requests: RequestSettings::take(table, defaults),
        }
    }
}

impl PollSettings {
    /// Takes the settings that apply to files out of a table.
    pub fn take_of_files(table: &mut Table<'_>, defaults: &Defaults) -> Self {
        PollSettings {
            interval: table.take("interval", defaults.interval, Schedule::read),
            stale_after: table.take("stale_after", defaults.stale_after, duration),
            honor_labels: table.take("honor_labels", false, boolean),
            body_size_limit: table.take("body_size_limit", None, buffer_limit),
            limits: Limits::take(table, defaults.limits),
            ..defaults.settings()
        }
    }
}

impl Limits {
    /// Takes the limits out of a table.
    pub fn take(table: &mut Table<'_>, defaults: Limits) -> Self {
        let mut limit = |key, default| table.take(key, default, integer(0, usize::MAX >> 1));
        Limits {
            sample_limit: limit("sample_limit", defaults.sample_limit),
            label_limit: limit("label_limit", defaults.label_limit),
            label_name_length_limit: limit(
                "label_name_length_limit",
                defaults.label_name_length_limit,
            ),
            label_value_length_limit: limit(
                "label_value_length_limit",
                defaults.label_value_length_limit,
            ),
        }
    }

    /// The limits for a text.
    pub fn of_text(&self) -> SampleLimits {
        SampleLimits {
            samples: self.sample_limit,
            labels: self.label_limit,
            label_name: self.label_name_length_limit,
            label_value: self.label_value_length_limit,
        }
    }
}

impl RequestSettings {
    /// Takes the settings out of a table.
    pub fn take(table: &mut Table<'_>, defaults: &Defaults) -> Self {
        let follow_redirects = table.take("follow_redirects", defaults.follow_redirects, boolean);
        let trust_places = ["allow_invalid_certs", "ca_file"].map(|key| table.place(key));
        let allow_invalid_certs =
            table.take("allow_invalid_certs", defaults.allow_invalid_certs, boolean);
        let proxy_url = table.take_option("proxy_url", proxy_url);
        let ca_file = table.take_option("ca_file", ca_file);
        let (tls, trust) = tls::take(table);
        let twice = [
            trust.insecure_skip_verify.is_some(),
            trust.ca_file.is_some(),
        ];
        let keys = [
            ("allow_invalid_certs", "insecure_skip_verify"),
            ("ca_file", "ca_file"),
        ];
        for (((key, other), place), twice) in keys.into_iter().zip(trust_places).zip(twice) {
            if let Some(place) = place.filter(|_| twice) {
                let name = table.name();
                let problem = format!(
                    "`{name}.{key}` and `{name}.tls.{other}` are one setting; set one of them"
                );
                table.fault(place, problem);
            }
        }
        RequestSettings {
            follow_redirects,
            allow_invalid_certs: trust.insecure_skip_verify.unwrap_or(allow_invalid_certs),
            proxy_url,
            ca_file: trust.ca_file.or(ca_file),
            tls,
            credentials: Credentials::take(table),
        }
    }
}

/// Parses the URL of a target.
pub fn url(node: &Node) -> Result<TargetUrl, String> {
    let written = text(node)?;
    if let Some(rest) = written.strip_prefix("unix://") {
        let (socket, path) = rest
            .split_once(":/")
            .ok_or("must have the form \"unix:///path/to.sock:/metrics\"")?;
        if !Path::new(socket).is_absolute() {
            return Err(format!(
                "must have an absolute path to the socket, not {socket:?}"
            ));
        }
        return Ok(TargetUrl::Unix {
            socket: PathBuf::from(socket),
            path: format!("/{path}"),
        });
    }
    let url = Url::parse(&written).map_err(|problem| format!("is not a URL: {problem}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(TargetUrl::Http(url)),
        scheme => Err(format!(
            "must start with http://, https:// or unix://, not {scheme}:"
        )),
    }
}

/// The limit on the length of a target's name, in bytes.
pub const MAX_NAME: usize = 256;

/// Parses the name of a target.
pub fn name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "must have 1 to {MAX_NAME} bytes and no control characters, not {name:?}"
        ));
    }
    Ok(name)
}

/// The warning about a timeout longer than its interval, which names both settings.
pub fn late((timeout, interval): (&str, &str), long: Duration, short: Duration) -> String {
    format!(
        "`{timeout}` ({long:?}) is longer than `{interval}` ({short:?}): a slow response delays \
         the next poll"
    )
}
