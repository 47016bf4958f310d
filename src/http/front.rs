//! `[web]`: reverse proxies in front of the HTTP listeners. They serve them under a URL of
//! their own, and name the client of each request.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use serde::{Serialize, Serializer};

use crate::peer::Peer;
use crate::redact::redact_text;
use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::network::Network;
use crate::settings::value::text;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The limit on trusted proxies. Each request is compared with all of them.
const MAX_PROXIES: usize = 1000;

/// The settings of `[web]` about reverse proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Front {
    /// The URL at which clients reach the proxy, for links.
    #[serde(serialize_with = "write_url")]
    pub external_url: Option<ExternalUrl>,
    /// The prefix of each path, without a slash at the end: `/proxy`. Empty for none.
    pub route_prefix: String,
    /// The reverse proxies whose `X-Forwarded-For` names the client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<TrustedProxy>,
}

/// A URL without a query: `https://example.com/proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalUrl {
    /// The scheme and the host, as browsers send it in `Origin`.
    origin: String,
    /// The host with its port, as in `Host`.
    host: String,
    /// The path, without a slash at the end.
    path: String,
}

/// A reverse proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Reverse proxies in a network.
    Network(Network),
    /// Reverse proxies that connect to a Unix socket: `unix`.
    Unix,
}

/// Reads the settings from `[web]`.
pub fn read(table: &mut Table<'_>) -> Front {
    let place = table.place("trusted_proxies");
    let external_url = table.take("external_url", None, external_url);
    let written = external_url.as_ref();
    let default = written.map_or_else(String::new, |url: &ExternalUrl| url.path.clone());
    let front = Front {
        route_prefix: table.take("route_prefix", default, route_prefix),
        external_url,
        trusted_proxies: table.take_list("trusted_proxies", trusted_proxy),
    };
    let count = front.trusted_proxies.len();
    if let Some(place) = place
        && count > MAX_PROXIES
    {
        let problem =
            format!("`web.trusted_proxies` has {count} items; the limit is {MAX_PROXIES}");
        table.fault(place, problem);
    }
    front
}

fn external_url(node: &Node) -> Result<Option<ExternalUrl>, String> {
    let written = text(node)?;
    if written.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        let shown = redact_text(&written);
        format!(
            "must be a URL such as \"https://example.com/proxy\" without user and query, not {shown:?}"
        )
    };
    let uri: Uri = written.parse().map_err(|_| wrong())?;
    let scheme = uri
        .scheme_str()
        .filter(|it| matches!(*it, "http" | "https"));
    let (Some(scheme), Some(authority), None) = (scheme, uri.authority(), uri.query()) else {
        return Err(wrong());
    };
    let host = authority.as_str().to_ascii_lowercase();
    let path = path_prefix(uri.path()).ok_or_else(wrong)?;
    if host.contains('@') || written.contains('#') {
        return Err(wrong());
    }
    let origin = format!("{scheme}://{host}");
    Ok(Some(ExternalUrl { origin, host, path }))
}

fn route_prefix(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    path_prefix(&written)
        .ok_or_else(|| format!("must be a path such as \"/proxy\", or \"/\", not {written:?}"))
}

/// A path with a slash at the beginning and none at the end; empty for the root. `None` if
/// it has characters that need escaping, or segments that are empty or consist of dots.
fn path_prefix(path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Some(String::new());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
    let right = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(plain);
    path.split('/').all(right).then(|| format!("/{path}"))
}

fn trusted_proxy(node: &Node) -> Result<TrustedProxy, String> {
    match &*text(node)? {
        "unix" => Ok(TrustedProxy::Unix),
        written => Network::parse(written)
            .map(TrustedProxy::Network)
            .map_err(|problem| format!("{problem}; \"unix\" names processes at Unix sockets")),
    }
}

impl Serialize for TrustedProxy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            TrustedProxy::Network(network) => network.serialize(to),
            TrustedProxy::Unix => to.serialize_str("unix"),
        }
    }
}

fn write_url<S: Serializer>(url: &Option<ExternalUrl>, to: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => to.collect_str(&format_args!("{}{}", url.origin, url.path)),
        None => to.serialize_str(""),
    }
}

impl Front {
    /// The prefix of paths in links: that of `external_url`, or else the route prefix.
    pub fn link_prefix(&self) -> &str {
        let url = self.external_url.as_ref();
        url.map_or(&*self.route_prefix, |url| &*url.path)
    }

    /// The origin of the proxy's own pages behind the reverse proxy.
    pub fn origin(&self) -> Option<&str> {
        self.external_url.as_ref().map(|url| &*url.origin)
    }

    /// The value of `Host` that a reverse proxy passes on, if it keeps the original.
    pub fn host(&self) -> Option<&str> {
        self.external_url.as_ref().map(|url| &*url.host)
    }

    /// Removes the route prefix from a request's path. Returns false if the path does not
    /// begin with it.
    pub fn enter(&self, head: &mut Parts) -> bool {
        if self.route_prefix.is_empty() {
            return true;
        }
        let whole = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let Some(rest) = whole.strip_prefix(&*self.route_prefix) else {
            return false;
        };
        let inner = match rest.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{rest}"),
            Some(b'/') => rest.to_owned(),
            Some(_) => return false,
        };
        let Ok(inner) = inner.parse() else {
            return false;
        };
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(inner);
        // Parts of a valid URI with a valid path make a valid URI.
        let uri = Uri::from_parts(parts);
        let is_valid = uri.is_ok();
        head.uri = uri.unwrap_or_default();
        is_valid
    }

    /// The client of a request. If `peer` is a trusted proxy, that is the last address in
    /// `X-Forwarded-For` that is not a trusted proxy: clients can forge any address before it.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        if !self.trusts(peer) {
            return peer;
        }
        let mut client = peer;
        let values = headers.get_all(FORWARDED_FOR).iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        for hop in hops {
            let Some(address) = address_of(hop.trim()) else {
                break;
            };
            client = Peer::Forwarded(address);
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Whether any reverse proxy is trusted to name the clients of requests.
    pub fn has_trusted_proxies(&self) -> bool {
        !self.trusted_proxies.is_empty()
    }

    fn trusts(&self, peer: Peer) -> bool {
        self.trusted_proxies
            .iter()
            .any(|trusted| match (trusted, peer) {
                (TrustedProxy::Unix, Peer::Unix { .. }) => true,
                (TrustedProxy::Network(network), peer) => {
                    peer.ip().is_some_and(|ip| network.contains(ip))
                }
                _ => false,
            })
    }
}

/// The address in an item of `X-Forwarded-For`, which may have a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bracketed = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let alone = bracketed.unwrap_or(hop).parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    alone.or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::HeaderValue;

    use super::*;

    fn front(toml: &str) -> Result<Front, String> {
        let mut errors = Vec::new();
        let entries = crate::settings::document::parse_toml("test", toml, &mut errors);
        let faults = crate::settings::reader::Faults::default();
        let front = read(&mut Table::root(entries, &faults));
        let (errors, _) = faults.into_inner();
        match errors.first() {
            None => Ok(front),
            Some(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_prefix_defaults_to_the_path_of_the_url() {
        for (toml, prefix, links, origin) in [
            ("", "", "", None),
            ("route_prefix = \"/\"", "", "", None),
            ("route_prefix = \"proxy/\"", "/proxy", "/proxy", None),
            (
                "external_url = \"https://Example.com/a/b/\"",
                "/a/b",
                "/a/b",
                Some("https://example.com"),
            ),
            (
                "external_url = \"http://x:8080/a\"\nroute_prefix = \"/\"",
                "",
                "/a",
                Some("http://x:8080"),
            ),
        ] {
            let front = front(toml).unwrap();
            assert_eq!(front.route_prefix, prefix, "{toml}");
            assert_eq!((front.link_prefix(), front.origin()), (links, origin));
        }
        for wrong in [
            "external_url = \"example.com\"",
            "external_url = \"ftp://example.com\"",
            "external_url = \"https://example.com/?a\"",
            "external_url = \"https://me@example.com/\"",
            "route_prefix = \"/a b\"",
            "route_prefix = \"/a/../b\"",
            "route_prefix = \"/a//b\"",
            "trusted_proxies = [\"localhost\"]",
            "trusted_proxies = [\"10.0.0.1/8\"]",
        ] {
            assert!(front(wrong).is_err(), "{wrong}");
        }
        let problem = front("external_url = \"https://me:s3cret@example.com/\"").unwrap_err();
        assert!(
            problem.contains("without user") && !problem.contains("s3cret"),
            "{problem}"
        );
    }

    #[test]
    fn paths_lose_the_prefix() {
        let front = front("route_prefix = \"/proxy\"").unwrap();
        for (uri, expected) in [
            ("/proxy", Some("/")),
            ("/proxy/", Some("/")),
            ("/proxy/metrics?a=1", Some("/metrics?a=1")),
            ("/proxy?a", Some("/?a")),
            ("http://x/proxy/apps", Some("http://x/apps")),
            ("/proxyx", None),
            ("/", None),
            ("/metrics", None),
        ] {
            let mut head = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
            let entered = front.enter(&mut head).then(|| head.uri.to_string());
            assert_eq!(entered.as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let front = front("trusted_proxies = [\"10.0.0.0/8\", \"unix\"]").unwrap();
        let tcp = |address: &str| Peer::Tcp(address.parse().unwrap());
        let unix = Peer::Unix { pid: None, uid: 1 };
        for (peer, values, expected) in [
            (tcp("10.0.0.1:5"), &["192.0.2.7"][..], "192.0.2.7"),
            (tcp("10.0.0.1:5"), &[], "10.0.0.1:5"),
            (
                tcp("10.0.0.1:5"),
                &["6.6.6.6, 192.0.2.7, 10.0.0.2"],
                "192.0.2.7",
            ),
            (tcp("10.0.0.1:5"), &["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
            (tcp("10.0.0.1:5"), &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (tcp("10.0.0.1:5"), &["192.0.2.7:99"], "192.0.2.7"),
            (tcp("10.0.0.1:5"), &["[2001:db8::1]:99"], "2001:db8::1"),
            (tcp("10.0.0.1:5"), &["2001:db8::1"], "2001:db8::1"),
            (tcp("10.0.0.1:5"), &["192.0.2.7, unknown"], "10.0.0.1:5"),
            (tcp("192.0.2.1:5"), &["6.6.6.6"], "192.0.2.1:5"),
            (unix, &["192.0.2.7"], "192.0.2.7"),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let client = front.client(peer, &headers);
            assert_eq!(client.to_string(), expected, "{peer} {values:?}");
        }
        let nobody = Front::default();
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("6.6.6.6"));
        let peer = tcp("10.0.0.1:5");
        assert_eq!(nobody.client(peer, &headers), peer);
    }
}
