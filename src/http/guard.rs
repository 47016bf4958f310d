//! Host and origin checks. They protect the proxy from web pages in the browser of someone
//! on the same machine or network.
//!
//! - A page of another site can send requests that write (cross-site request forgery).
//!   The browser adds `Origin` or `Sec-Fetch-Site`, which pages cannot forge.
//! - A page can make its own host name resolve to this machine (DNS rebinding). The browser
//!   then takes the proxy for the same origin, but `Host` still has that name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

use super::cors;
use crate::ingest::Rejection;
use crate::reason::Reason;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The values of `Host` that a listener accepts.
#[derive(Debug, Clone)]
pub enum Hosts {
    /// Any name: the listener is a Unix socket or not on the loopback interface.
    Any,
    /// IP addresses, `localhost` and these names (`push.allowed_hosts`).
    Loopback(Vec<String>),
}

impl Hosts {
    /// The accepted hosts of a listener at `address`, which is `None` for a Unix socket.
    pub fn of(address: Option<IpAddr>, allowed: &[String]) -> Self {
        match address {
            Some(address)
                if address.to_canonical().is_loopback()
                    && !allowed.iter().any(|name| name == "*") =>
            {
                Hosts::Loopback(allowed.to_vec())
            }
            _ => Hosts::Any,
        }
    }

    fn accepts(&self, host: &str) -> bool {
        let Hosts::Loopback(allowed) = self else {
            return true;
        };
        let Some(name) = name_of(host) else {
            return false;
        };
        name.parse::<Ipv4Addr>().is_ok()
            || bracketed(name).is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
            || name.eq_ignore_ascii_case("localhost")
            || allowed
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name) || it.eq_ignore_ascii_case(host))
    }
}

/// Checks the host and the origin of a request. Pages of `origins` may write. A request
/// with a read-only method counts as a write if its route writes (`writes`).
///
/// # Errors
///
/// `Host` is missing, malformed or not accepted, or a page of another origin writes.
pub fn check(
    hosts: &Hosts,
    origins: &[String],
    head: &Parts,
    writes: bool,
) -> Result<(), Rejection> {
    let host = host(head)?;
    if let Some(host) = host
        && !hosts.accepts(host)
    {
        let message = format!(
            "the host {host:?} is not allowed: use localhost or an IP address, or list the name in \
             push.allowed_hosts"
        );
        return Err(Rejection::new(Reason::ForbiddenHost, &message));
    }
    match head.method {
        Method::GET | Method::HEAD | Method::OPTIONS if !writes => Ok(()),
        _ => check_origin(origins, host, &head.headers),
    }
}

/// The host that the request names. HTTP/1.1 requires exactly one `Host`.
fn host(head: &Parts) -> Result<Option<&str>, Rejection> {
    let malformed = |message| Err(Rejection::new(Reason::Malformed, message));
    let authority = head.uri.authority().map(Authority::as_str);
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return malformed("the request has two Host headers"),
        (None, None) if head.version == Version::HTTP_10 => None,
        // RFC 9113, section 8.3.1: `:authority` replaces `Host`.
        (None, None) if head.version == Version::HTTP_2 && authority.is_some() => None,
        (None, None) => return malformed("the request has no Host header"),
        (Some(host), None) => match host.to_str() {
            Ok(host) if host.is_empty() || name_of(host).is_some() => Some(host),
            _ => {
                return malformed("the Host header is not a name or address with an optional port");
            }
        },
    };
    // RFC 9112, section 3.2.2: the authority of an absolute URI replaces `Host`.
    Ok(authority.or(host))
}

/// The name or address in a host, without port and trailing dot; `None` if it is malformed.
fn name_of(host: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = match host.strip_prefix('[') {
        Some(inner) => {
            let (_, port) = inner.split_once(']')?;
            (&host[..host.len() - port.len()], port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=[]:".contains(c);
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// The address in `[...]`.
fn bracketed(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.strip_suffix(']')
}

/// Rejects a request that writes from a page of another origin.
fn check_origin(
    origins: &[String],
    host: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Rejection> {
    let forbidden = |message: &str| Err(Rejection::new(Reason::ForbiddenOrigin, message));
    let mut listed = false;
    for origin in headers.get_all(ORIGIN) {
        let text = origin.to_str().unwrap_or("?");
        if cors::is_listed(origins, origin) {
            listed = true;
        } else if !host.is_some_and(|host| is_origin_of(text, host)) {
            return forbidden(&format!(
                "pages of the origin {text:?} are not allowed to write; list the origin in \
                 push.cors_origins"
            ));
        }
    }
    // Old browsers send some requests without `Origin`.
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let other = site.is_some_and(|site| {
        site.eq_ignore_ascii_case(b"cross-site") || site.eq_ignore_ascii_case(b"same-site")
    });
    if other && !listed && !origins.iter().any(|origin| origin == "*") {
        return forbidden(
            "pages of other sites are not allowed to write; list their origin in \
             push.cors_origins",
        );
    }
    Ok(())
}

/// Whether an origin is that of this server. The scheme is ignored, since a reverse proxy
/// may add TLS.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let own = [("http://", ":80"), ("https://", ":443")];
    own.into_iter().any(|(scheme, port)| {
        let authority = origin
            .split_at_checked(scheme.len())
            .filter(|(start, _)| start.eq_ignore_ascii_case(scheme));
        let without_port = |text| str::strip_suffix(text, port).unwrap_or(text).to_owned();
        authority.is_some_and(|(_, authority)| {
            without_port(authority).eq_ignore_ascii_case(&without_port(host))
        })
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/metrics/job/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn reason(hosts: &Hosts, origins: &[&str], method: &str, headers: &[(&str, &str)]) -> String {
        let origins: Vec<String> = origins.iter().map(|&it| it.to_owned()).collect();
        let checked = check(hosts, &origins, &head(method, headers), false);
        checked.map_or_else(
            |rejection| rejection.reason.to_string(),
            |()| "fine".to_owned(),
        )
    }

    #[test]
    fn a_loopback_listener_accepts_addresses_localhost_and_listed_names() {
        let allowed = ["metrics.corp".to_owned(), "other:8080".to_owned()];
        let hosts = Hosts::of(Some(LOOPBACK), &allowed);
        for (host, expected) in [
            ("127.0.0.1:6556", "fine"),
            ("127.0.0.1", "fine"),
            ("10.1.2.3:80", "fine"),
            ("[::1]:6556", "fine"),
            ("LocalHost:6556", "fine"),
            ("localhost.", "fine"),
            ("metrics.corp", "fine"),
            ("Metrics.corp:9091", "fine"),
            ("other:8080", "fine"),
            ("other:8081", "forbidden_host"),
            ("evil.example:6556", "forbidden_host"),
            ("localhost.evil.example", "forbidden_host"),
            ("127.0.0.1.evil.example", "forbidden_host"),
            ("2130706433", "forbidden_host"),
            ("", "forbidden_host"),
            ("a b", "malformed"),
            ("me@localhost", "malformed"),
            ("localhost:x", "malformed"),
            ("[::1", "malformed"),
        ] {
            for method in ["GET", "PUT"] {
                assert_eq!(
                    reason(&hosts, &[], method, &[("host", host)]),
                    expected,
                    "{host}"
                );
            }
        }
        for hosts in [
            Hosts::of(None, &[]),
            Hosts::of(Some("10.1.2.3".parse().unwrap()), &[]),
            Hosts::of(Some(LOOPBACK), &["*".to_owned()]),
        ] {
            let called = [("host", "evil.example")];
            assert_eq!(reason(&hosts, &[], "PUT", &called), "fine", "{hosts:?}");
        }
        let mapped = Some("::ffff:127.0.0.1".parse().unwrap());
        assert!(matches!(Hosts::of(mapped, &[]), Hosts::Loopback(_)));
    }

    #[test]
    fn a_request_needs_exactly_one_host() {
        assert_eq!(reason(&Hosts::Any, &[], "GET", &[]), "malformed");
        let two = [("host", "a"), ("host", "a")];
        assert_eq!(reason(&Hosts::Any, &[], "GET", &two), "malformed");
        let mut new = head("GET", &[]);
        new.version = Version::HTTP_2;
        let hosts = Hosts::of(Some(LOOPBACK), &[]);
        assert!(check(&hosts, &[], &new, false).is_err());
        new.uri = "https://localhost/metrics".parse().unwrap();
        assert_eq!(check(&hosts, &[], &new, false), Ok(()));
        new.uri = "https://evil.example/metrics".parse().unwrap();
        let rejected = check(&hosts, &[], &new, false).unwrap_err();
        assert_eq!(rejected.reason, Reason::ForbiddenHost);
        let mut old = head("GET", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(
            check(&Hosts::of(Some(LOOPBACK), &[]), &[], &old, false),
            Ok(())
        );
    }

    #[test]
    fn only_pages_of_listed_origins_and_of_the_server_can_write() {
        const MINE: &str = "https://app.example";
        let h = ("host", "127.0.0.1:6556");
        for (origins, headers, expected) in [
            (&[][..], &[][..], "fine"),
            (
                &[],
                &[("origin", "https://evil.example")],
                "forbidden_origin",
            ),
            (&[], &[("origin", "null")], "forbidden_origin"),
            (
                &[],
                &[("origin", "http://127.0.0.1:6555")],
                "forbidden_origin",
            ),
            (&[], &[("origin", "http://127.0.0.1:6556")], "fine"),
            (&[], &[("origin", "https://127.0.0.1:6556")], "fine"),
            (
                &[],
                &[("origin", "ftp://127.0.0.1:6556")],
                "forbidden_origin",
            ),
            (&[], &[("sec-fetch-site", "cross-site")], "forbidden_origin"),
            (&[], &[("sec-fetch-site", "Same-Site")], "forbidden_origin"),
            (&[], &[("sec-fetch-site", "same-origin")], "fine"),
            (&[], &[("sec-fetch-site", "none")], "fine"),
            (
                &[],
                &[
                    ("origin", "http://127.0.0.1:6556"),
                    ("sec-fetch-site", "cross-site"),
                ],
                "forbidden_origin",
            ),
            (
                &[MINE],
                &[("origin", MINE), ("sec-fetch-site", "cross-site")],
                "fine",
            ),
            (&[MINE], &[("origin", "HTTPS://App.example")], "fine"),
            (
                &[MINE],
                &[("origin", "https://app.example:444")],
                "forbidden_origin",
            ),
            (
                &[MINE],
                &[("sec-fetch-site", "cross-site")],
                "forbidden_origin",
            ),
            (
                &[MINE],
                &[("origin", MINE), ("origin", "https://evil.example")],
                "forbidden_origin",
            ),
            (
                &["*"],
                &[("origin", "null"), ("sec-fetch-site", "cross-site")],
                "fine",
            ),
            (&["*"], &[("sec-fetch-site", "cross-site")], "fine"),
        ] {
            let headers: Vec<_> = headers.iter().copied().chain([h]).collect();
            for method in ["PUT", "POST", "DELETE", "PATCH", "BREW"] {
                let found = reason(&Hosts::Any, origins, method, &headers);
                assert_eq!(found, expected, "{method} {headers:?} {origins:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(reason(&Hosts::Any, origins, method, &headers), "fine");
            }
        }
        let default_port = [("host", "localhost"), ("origin", "http://localhost:80")];
        assert_eq!(reason(&Hosts::Any, &[], "PUT", &default_port), "fine");
    }
}
