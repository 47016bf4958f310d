//! The web configuration of Prometheus' exporter-toolkit, in YAML:
//! <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::net::tls::TlsSettings;
use crate::settings::value::duration_of;
use crate::yaml::YamlProblem;

/// The accepted costs of password hashes. At 16, a check takes several seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// The limit on the size of a file, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Headers that the file can add to replies, as in exporter-toolkit, with their accepted
/// values; an empty list accepts any value.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// A web configuration that was read and checked.
#[derive(Debug)]
pub struct WebFile {
    /// Users, each with the bcrypt hash of the password.
    pub users: BTreeMap<String, Arc<str>>,
    /// TLS of the HTTP listeners without a table of their own. Its paths are as in the file.
    pub tls: Option<TlsSettings>,
    /// Whether TLS listeners speak HTTP/2.
    pub http2: bool,
    /// Headers added to each reply.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The limit on all requests together.
    pub rate_limit: Option<RequestRate>,
}

/// A limit on all HTTP requests together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    /// The time that one request adds.
    pub interval: Duration,
    /// The number of requests that may come at once.
    pub burst: u32,
}

impl Default for WebFile {
    fn default() -> Self {
        WebFile {
            users: BTreeMap::new(),
            tls: None,
            http2: true,
            headers: Vec::new(),
            rate_limit: None,
        }
    }
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    tls_server_config: Option<Spanned<TlsSettings>>,
    http_server_config: Option<HttpServer>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<Spanned<WrittenRate>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenRate {
    interval: String,
    burst: u32,
}

impl WrittenRate {
    /// Returns the limit; `None` if it is off.
    fn settle(&self) -> Result<Option<RequestRate>, String> {
        let interval = match &*self.interval {
            "" | "0" => Duration::ZERO,
            text => duration_of(text).ok_or_else(|| {
                format!("rate_limit.interval must be a duration such as \"1s\", not {text:?}")
            })?,
        };
        match (interval.is_zero(), self.burst) {
            (true, _) => Ok(None),
            (false, 0) => {
                Err("rate_limit.burst must be at least 1, or no request passes".to_owned())
            }
            (false, burst) => Ok(Some(RequestRate { interval, burst })),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, Spanned<Option<String>>>>,
}

impl WebFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// All errors in it. After an error in the YAML itself, there is only that one.
    pub fn parse(text: &str) -> Result<Self, Vec<YamlProblem>> {
        let written: Written = match text.trim().is_empty() {
            true => Written::default(),
            false => {
                serde_saphyr::from_str(text).map_err(|error| vec![YamlProblem::from(&error)])?
            }
        };
        let mut problems = Vec::new();
        let mut file = WebFile::default();
        // As in exporter-toolkit, an empty section counts as missing.
        let empty = TlsSettings::default();
        if let Some(tls) = written.tls_server_config
            && tls.value != empty
        {
            if let Err(problem) = tls.value.check() {
                let message = format!("tls_server_config {problem}");
                problems.push(YamlProblem::at(&tls.referenced, &message));
            }
            file.tls = Some(tls.value);
        }
        for (user, hash) in written.basic_auth_users.unwrap_or_default() {
            match check_hash(&hash.value) {
                Ok(()) => {
                    file.users.insert(user, Arc::from(hash.value));
                }
                Err(problem) => {
                    let message = format!("the password of user {user:?} {problem}");
                    problems.push(YamlProblem::at(&hash.referenced, &message));
                }
            }
        }
        let http = written.http_server_config.unwrap_or_default();
        file.http2 = http.http2.unwrap_or(true);
        for (name, value) in http.headers.unwrap_or_default() {
            match header(&name, value.value.as_deref().unwrap_or_default()) {
                Ok(header) => file.headers.extend(header),
                Err(problem) => problems.push(YamlProblem::at(&value.referenced, &problem)),
            }
        }
        if let Some(rate) = written.rate_limit {
            match rate.value.settle() {
                Ok(limit) => file.rate_limit = limit,
                Err(problem) => problems.push(YamlProblem::at(&rate.referenced, &problem)),
            }
        }
        match problems.is_empty() {
            true => Ok(file),
            false => Err(problems),
        }
    }
}

/// Checks that a password is a bcrypt hash.
fn check_hash(hash: &str) -> Result<(), String> {
    let Ok(parts) = HashParts::from_str(hash) else {
        return Err(
            "is not a bcrypt hash such as $2b$10$...; make one with `exporter-proxy hash-password` \
             or `htpasswd -nB`"
                .to_owned(),
        );
    };
    match COSTS.contains(&parts.get_cost()) {
        true => Ok(()),
        false => Err(format!(
            "has the bcrypt cost {}; it must be from {} to {}, since each check takes time that \
             doubles with the cost",
            parts.get_cost(),
            COSTS.start(),
            COSTS.end()
        )),
    }
}

/// Parses a header for replies; `None` if its value is blank.
fn header(name: &str, value: &str) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let known = HEADERS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((known, values)) = known else {
        let known: Vec<&str> = HEADERS.iter().map(|(known, _)| *known).collect();
        return Err(format!(
            "the header {name:?} cannot be set; those that can are {}",
            known.join(", ")
        ));
    };
    if value.is_empty() {
        return Ok(None);
    }
    if !values.is_empty() && !values.contains(&value) {
        return Err(format!(
            "the header {known} must be {}, not {value:?}",
            values.join(" or ")
        ));
    }
    let name = HeaderName::from_str(known).map_err(|problem| problem.to_string())?;
    let value = HeaderValue::from_str(value).map_err(|_| {
        format!("the value of the header {known} has characters that are not allowed")
    })?;
    Ok(Some((name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of `secret` at cost 4.
    const HASH: &str = "$2b$04$......................nTUbyiq7YmrvsPvRpPX/I4zLTgrmiGy";

    fn problems(text: &str) -> Vec<(Option<(usize, usize)>, String)> {
        let problems = WebFile::parse(text).unwrap_err();
        problems.into_iter().map(|it| (it.at, it.message)).collect()
    }

    #[test]
    fn users_and_headers_are_read() {
        let text = format!(
            "basic_auth_users:\n  alice: {HASH}\n  bob: '{HASH}'\n\
             http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    \
             Strict-Transport-Security:\n"
        );
        let file = WebFile::parse(&text).unwrap();
        assert_eq!(file.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(&*file.users["bob"], HASH);
        assert_eq!(file.headers.len(), 1, "{:?}", file.headers);
        assert_eq!(file.headers[0].0, "x-frame-options");
        for empty in ["", "\n", "basic_auth_users:\n", "http_server_config:\n"] {
            assert!(WebFile::parse(empty).unwrap().users.is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn errors_have_a_position_and_quote_no_password() {
        let found = problems(
            "basic_auth_users:\n  alice: hunter2\n  bob: $2b$30$......................nTUbyiq7YmrvsPvRpPX/I4zLTgrmiGy\n",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, Some((2, 10)));
        assert!(
            found[0].1.contains("\"alice\" is not a bcrypt hash"),
            "{found:?}"
        );
        assert!(!found[0].1.contains("hunter2"), "{found:?}");
        assert!(found[1].1.contains("cost 30"), "{found:?}");
        let found = problems(
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n    X-Other: x\n",
        );
        assert!(
            found[0].1.contains("must be deny or sameorigin"),
            "{found:?}"
        );
        assert!(
            found[1].1.contains("\"X-Other\" cannot be set"),
            "{found:?}"
        );
    }

    #[test]
    fn tls_is_read_and_checked() {
        let text = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  min_version: TLS13\n\
                    http_server_config:\n  http2: false\n";
        let file = WebFile::parse(text).unwrap();
        let tls = file.tls.unwrap();
        assert_eq!((tls.cert_file, file.http2), ("a.crt".into(), false));
        let found = problems("tls_server_config:\n  cert_file: a.crt\n");
        assert!(
            found[0].1.contains("tls_server_config needs `key_file`"),
            "{found:?}"
        );
        let found = problems("tls_server_config:\n  cert_files: a.crt\n");
        assert!(found[0].1.contains("cert_files"), "{found:?}");
        for empty in ["tls_server_config:\n", "tls_server_config: {}\n"] {
            let file = WebFile::parse(empty).unwrap();
            assert!(file.tls.is_none() && file.http2, "{empty}");
        }
    }

    #[test]
    fn a_rate_of_requests_is_read() {
        let rate = |text: &str| WebFile::parse(text).unwrap().rate_limit;
        let expected = RequestRate {
            interval: Duration::from_millis(100),
            burst: 20,
        };
        let text = "rate_limit:\n  interval: \"100ms\"\n  burst: 20\n";
        assert_eq!(rate(text), Some(expected));
        for off in [
            "rate_limit:\n",
            "rate_limit:\n  interval: 0\n  burst: 3\n",
            "rate_limit:\n  burst: 3\n",
        ] {
            assert_eq!(rate(off), None, "{off}");
        }
        let found = problems("rate_limit:\n  interval: 1s\n");
        assert!(found[0].1.contains("burst must be at least 1"), "{found:?}");
        let found = problems("rate_limit:\n  interval: soon\n  burst: 1\n");
        assert!(found[0].1.contains("interval must be"), "{found:?}");
    }

    #[test]
    fn inline_certificates_are_read_and_keys_are_not_shown() {
        let inline = "tls_server_config:\n  cert: |\n    CERT\n  key: |\n    K3Y\n  client_ca: CA\n  \
                      client_auth_type: RequireAndVerifyClientCert\n";
        let tls = WebFile::parse(inline).unwrap().tls.unwrap();
        assert_eq!(tls.cert.as_deref(), Some("CERT\n"));
        assert_eq!(tls.key.as_ref().unwrap().reveal(), "K3Y\n");
        assert!(!format!("{tls:?}").contains("K3Y"));
        let both = format!("{inline}  cert_file: a.crt\n");
        let found = problems(&both);
        assert!(
            found[0].1.contains("both `cert` and `cert_file`"),
            "{found:?}"
        );
    }

    #[test]
    fn unknown_keys_are_errors() {
        for text in [
            "basic_auth_user: {}\n",
            "rate_limit:\n  bursts: 1\n",
            "http_server_config:\n  http3: true\n",
            "basic_auth_users: [a\n",
            "basic_auth_users:\n  a: x\n  a: y\n",
            "a\n",
        ] {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].0.is_some(), "{text}: {found:?}");
            assert!(!found[0].1.contains('\n'), "{text}: {found:?}");
        }
    }
}
