//! `[poll_external]`: the exporters to poll.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;
use url::Url;

use crate::context::TargetSettings;
use crate::http_client::{CaFile, ClientTls, Credentials, ProxyUrl, ca_file, proxy_url, tls};
use crate::redact::{redact_query, redact_url};
use crate::settings::document::{Node, Place};
use crate::settings::reader::Table;
use crate::settings::value::{
    boolean, buffer_size, duration, positive_duration, text, write_duration, write_size,
};

/// The settings of the poller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Whether targets are polled.
    pub poll_other_scrape_endpoints: bool,
    /// The limit of bytes of one response, after decompression.
    #[serde(serialize_with = "write_size")]
    pub max_body: usize,
    /// The HTTP proxy of all polls, except to hosts in `NO_PROXY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are used.
    pub proxy_from_environment: bool,
    /// All targets: first those of `other_scrape_endpoints`, then those of `targets`.
    pub targets: Vec<Arc<Target>>,
}

/// One exporter to poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The name of the target. By default it is `external_poll: host:port`, followed by
    /// the path if several targets have that host and port.
    pub name: String,
    /// The URL to poll.
    pub url: TargetUrl,
    /// From the start of one poll to the start of the next.
    #[serde(serialize_with = "write_duration")]
    pub interval: Duration,
    /// The timeout of a whole poll: connection, redirects, response head and body.
    #[serde(serialize_with = "write_duration")]
    pub timeout: Duration,
    /// How long the last text is exposed after polls begin to fail.
    #[serde(serialize_with = "write_duration")]
    pub stale_after: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether every TLS certificate is accepted.
    pub allow_invalid_certs: bool,
    /// Certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<CaFile>,
    /// The certificate of the proxy, and the name of the target.
    #[serde(skip_serializing_if = "ClientTls::is_empty")]
    pub tls: ClientTls,
    /// Secrets and more headers of requests.
    #[serde(flatten)]
    pub credentials: Credentials,
}

impl TargetSettings for Target {
    fn describe(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
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
}

impl TargetUrl {
    /// Host and port, or the path of the socket.
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
        }
    }

    /// The authority with path and query.
    fn with_path(&self) -> String {
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
        }
    }
}

/// The path and query without secrets.
fn redact_path(path: &str) -> Cow<'_, str> {
    match path.split_once('?') {
        Some((path, query)) => Cow::Owned(format!("{path}?{}", redact_query(query))),
        None => Cow::Borrowed(path),
    }
}

/// The URL without secrets.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetUrl::Http(url) => f.write_str(&redact_url(url)),
            TargetUrl::Unix { socket, path } => {
                write!(f, "unix://{}:{}", socket.display(), redact_path(path))
            }
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

/// A target as it is written, before default names are given.
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
    let defaults = Defaults {
        interval: table.take("poll_interval", Duration::from_secs(5), positive_duration),
        timeout: table.take("client_timeout", Duration::from_secs(2), positive_duration),
        stale_after: table.take("stale_after", Duration::from_secs(300), duration),
        follow_redirects: table.take("follow_redirects", true, boolean),
        allow_invalid_certs: table.take("allow_invalid_certs", false, boolean),
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

    let mut written = table.take_list("other_scrape_endpoints", |node| {
        Ok(WrittenTarget {
            name: None,
            place: node.place.clone(),
            target: defaults.target(url(node)?),
        })
    });
    written.extend(table.take_tables("targets", |table, place| {
        read_target(table, place, &defaults)
    }));
    if let Some(place) = times_place
        && defaults.timeout > defaults.interval
    {
        table.warn(
            place,
            late(
                "client_timeout",
                defaults.timeout,
                "poll_interval",
                defaults.interval,
            ),
        );
    }
    let targets = name_all(written, &table);
    table.finish();

    Config {
        poll_other_scrape_endpoints: poll,
        max_body,
        proxy_url,
        proxy_from_environment,
        targets,
    }
}

/// The settings of targets that do not have their own.
struct Defaults {
    interval: Duration,
    timeout: Duration,
    stale_after: Duration,
    follow_redirects: bool,
    allow_invalid_certs: bool,
}

impl Defaults {
    fn target(&self, url: TargetUrl) -> Target {
        Target {
            name: String::new(),
            url,
            interval: self.interval,
            timeout: self.timeout,
            stale_after: self.stale_after,
            follow_redirects: self.follow_redirects,
            allow_invalid_certs: self.allow_invalid_certs,
            ca_file: None,
            tls: ClientTls::default(),
            credentials: Credentials::default(),
        }
    }
}

fn read_target(mut table: Table<'_>, place: &Place, defaults: &Defaults) -> Option<WrittenTarget> {
    let url_place = table.place("url");
    let url = table.take_option("url", url);
    let name = table.take_option("name", name);
    let times_place = table.place("timeout").or(table.place("interval"));
    let interval = table.take("interval", defaults.interval, positive_duration);
    let timeout = table.take("timeout", defaults.timeout, positive_duration);
    let stale_after = table.take("stale_after", defaults.stale_after, duration);
    let follow_redirects = table.take("follow_redirects", defaults.follow_redirects, boolean);
    let trust_places = ["allow_invalid_certs", "ca_file"].map(|key| table.place(key));
    let allow_invalid_certs =
        table.take("allow_invalid_certs", defaults.allow_invalid_certs, boolean);
    let ca_file = table.take_option("ca_file", ca_file);
    let (tls, trust) = tls::take(&mut table);
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
            let problem = format!(
                "`poll_external.targets.{key}` and `poll_external.targets.tls.{other}` are one \
                 setting; set one of them"
            );
            table.fault(place, problem);
        }
    }
    let credentials = Credentials::take(&mut table);

    if url_place.is_none() {
        table.fault(
            place.clone(),
            "an entry of `poll_external.targets` needs a `url`",
        );
    }
    if let Some(place) = times_place
        && timeout > interval
    {
        table.warn(
            place,
            late("targets.timeout", timeout, "targets.interval", interval),
        );
    }
    table.finish();

    let mut target = defaults.target(url?);
    target.interval = interval;
    target.timeout = timeout;
    target.stale_after = stale_after;
    target.follow_redirects = follow_redirects;
    target.allow_invalid_certs = trust.insecure_skip_verify.unwrap_or(allow_invalid_certs);
    target.ca_file = trust.ca_file.or(ca_file);
    target.tls = tls;
    target.credentials = credentials;
    Some(WrittenTarget {
        name,
        place: place.clone(),
        target,
    })
}

/// Gives every target its name, and reports duplicate names.
fn name_all(written: Vec<WrittenTarget>, table: &Table<'_>) -> Vec<Arc<Target>> {
    let mut authorities: HashMap<String, usize> = HashMap::new();
    for one in written.iter().filter(|one| one.name.is_none()) {
        *authorities.entry(one.target.url.authority()).or_default() += 1;
    }
    let mut taken: HashMap<String, Place> = HashMap::with_capacity(written.len());
    let mut targets = Vec::with_capacity(written.len());
    for WrittenTarget {
        name,
        place,
        mut target,
    } in written
    {
        target.name = name.unwrap_or_else(|| {
            let authority = target.url.authority();
            if authorities.get(&authority) == Some(&1) {
                format!("external_poll: {authority}")
            } else {
                format!("external_poll: {}", target.url.with_path())
            }
        });
        if let Some(first) = taken.get(&target.name) {
            table.fault(
                place,
                format!(
                    "duplicate target name {:?}, first used at {first}; set another `name`",
                    target.name
                ),
            );
            continue;
        }
        taken.insert(target.name.clone(), place);
        targets.push(Arc::new(target));
    }
    targets
}

fn url(node: &Node) -> Result<TargetUrl, String> {
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

/// The maximum length of a target's name in bytes.
const MAX_NAME: usize = 256;

fn name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "must have 1 to {MAX_NAME} bytes and no control characters, not {name:?}"
        ));
    }
    Ok(name)
}

/// The warning about a timeout that is longer than its interval.
fn late(timeout: &str, long: Duration, interval: &str, short: Duration) -> String {
    format!(
        "`poll_external.{timeout}` ({long:?}) is longer than `poll_external.{interval}` ({short:?}): \
         a slow response delays the next poll"
    )
}
