//! `[poll_external]`: the exporters to poll.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use url::Url;

use super::files::{CaFile, ca_file, secret_file};
use super::target_tls::{self, TargetTls};
use crate::redact::{redact_query, redact_url};
use crate::settings::document::{Node, Place, Value};
use crate::settings::reader::Table;
use crate::settings::value::{
    Secret, boolean, buffer_size, duration, positive_duration, text, write_duration, write_size,
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
    /// The file of a bearer token. It is read for every poll, since tokens are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// The certificate of the proxy, and the name of the target.
    #[serde(skip_serializing_if = "TargetTls::is_empty")]
    pub tls: TargetTls,
    /// User and password of HTTP basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// More request headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Request headers whose values are in files. They are read for every poll.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header_files: BTreeMap<String, PathBuf>,
}

/// User and password of HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password; empty if there is a file.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    /// The file of the password. It is read for every poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// An `http://` or `https://` URL, which can contain a user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub Url);

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl Serialize for ProxyUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&redact_url(&self.0))
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
            bearer_token_file: None,
            tls: TargetTls::default(),
            basic_auth: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
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
    let (tls, trust) = target_tls::take(&mut table);
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
    let token_place = table.place("bearer_token_file");
    let bearer_token_file = table.take_option("bearer_token_file", secret_file("token"));
    let basic_auth_place = table.place("basic_auth");
    let basic_auth = basic_auth_place
        .is_some()
        .then(|| read_basic_auth(table.table("basic_auth")))
        .flatten();
    let headers = read_headers(&mut table);
    let header_files = read_header_files(&mut table, &headers);

    if url_place.is_none() {
        table.fault(
            place.clone(),
            "an entry of `poll_external.targets` needs a `url`",
        );
    }
    if let (Some(token), Some(_)) = (token_place, basic_auth_place) {
        table.fault(
            token,
            "`poll_external.targets.bearer_token_file` and `poll_external.targets.basic_auth` exclude \
             each other; set one of them",
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
    target.bearer_token_file = bearer_token_file;
    target.basic_auth = basic_auth;
    target.headers = headers;
    target.header_files = header_files;
    Some(WrittenTarget {
        name,
        place: place.clone(),
        target,
    })
}

fn read_basic_auth(mut table: Table<'_>) -> Option<BasicAuth> {
    let username = table.take_option("username", text);
    let has_password = table.place("password").is_some();
    let password = table.take("password", String::new(), text);
    let file_place = table.place("password_file");
    let password_file = table.take_option("password_file", secret_file("password"));
    if let Some(place) = file_place.filter(|_| has_password) {
        let problem = "`poll_external.targets.basic_auth` has both `password` and \
                       `password_file`; set one of them";
        table.fault(place, problem);
    }
    table.finish();
    Some(BasicAuth {
        username: username?,
        password: Secret::new(password),
        password_file,
    })
}

/// Reads the files of headers. They must be readable, and no header may be given twice.
fn read_header_files(
    table: &mut Table<'_>,
    headers: &BTreeMap<String, Secret>,
) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for (name, file, place) in table.take_texts("header_files") {
        let node = Node {
            value: Value::Text(file),
            place,
        };
        let has = |other: &String| other.eq_ignore_ascii_case(&name);
        let read = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            Err(format!("must have HTTP header names, not {name:?}"))
        } else if headers.keys().any(has) {
            Err(format!("has {name:?}, which is in `headers`, too"))
        } else {
            secret_file("value")(&node)
        };
        match read {
            Ok(file) => drop(files.insert(name, file)),
            Err(problem) => {
                let problem = format!("`poll_external.targets.header_files` {problem}");
                table.fault(node.place, problem);
            }
        }
    }
    files
}

fn read_headers(table: &mut Table<'_>) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    for (name, value, place) in table.take_texts("headers") {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            table.fault(
                place,
                format!(
                    "`poll_external.targets.headers` must have HTTP header names, not {name:?}"
                ),
            );
        } else if HeaderValue::from_str(&value).is_err() {
            table.fault(
                place,
                format!(
                    "`poll_external.targets.headers` {name:?} has a value with characters that \
                     HTTP does not allow"
                ),
            );
        } else {
            headers.insert(name, Secret::new(value));
        }
    }
    headers
}

/// Gives every target its name, and reports duplicate names.
fn name_all(written: Vec<WrittenTarget>, table: &Table<'_>) -> Vec<Arc<Target>> {
    let mut authorities: BTreeMap<String, usize> = BTreeMap::new();
    for one in written.iter().filter(|one| one.name.is_none()) {
        *authorities.entry(one.target.url.authority()).or_default() += 1;
    }
    let mut taken: BTreeMap<String, Place> = BTreeMap::new();
    let mut targets = Vec::new();
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

fn proxy_url(node: &Node) -> Result<ProxyUrl, String> {
    let url = Url::parse(&text(node)?).map_err(|problem| format!("is not a URL: {problem}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(ProxyUrl(url)),
        scheme => Err(format!(
            "must start with http:// or https://, not {scheme}:"
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
