//! The HTTP proxy that requests go through.

use std::fmt;

use reqwest::{ClientBuilder, NoProxy, Proxy};
use serde::{Serialize, Serializer};
use url::Url;

use crate::redact::redact_url;
use crate::settings::document::Node;
use crate::settings::value::text;

/// An `http://` or `https://` URL, which can contain a user and a password.
#[derive(Clone, PartialEq, Eq, Hash)]
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

/// Reads the URL of a proxy.
///
/// # Errors
///
/// A description of what the setting must be, which completes a sentence.
pub fn proxy_url(node: &Node) -> Result<ProxyUrl, String> {
    let url = Url::parse(&text(node)?).map_err(|problem| format!("is not a URL: {problem}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(ProxyUrl(url)),
        scheme => Err(format!(
            "must start with http:// or https://, not {scheme}:"
        )),
    }
}

/// The HTTP proxy of a client.
#[derive(Debug)]
pub enum ProxyChoice {
    /// None: requests go directly to their server.
    None,
    /// The proxy of the settings.
    Configured(Box<Proxy>),
    /// The proxies that environment variables name.
    Environment,
}

impl ProxyChoice {
    /// The proxy at `url`, or else those of the environment if `from_environment`. Hosts in
    /// `NO_PROXY` are excluded.
    ///
    /// # Errors
    ///
    /// The URL cannot be used.
    pub fn new(url: Option<&ProxyUrl>, from_environment: bool) -> Result<Self, String> {
        // reqwest applies `*` to all names, but not to addresses.
        #[expect(clippy::disallowed_methods, reason = "all clients honour these")]
        let exclusions = ["NO_PROXY", "no_proxy"].map(std::env::var);
        let exclusions = exclusions.into_iter().find_map(Result::ok);
        let all_excluded = exclusions
            .as_deref()
            .is_some_and(|hosts| hosts.split(',').any(|host| host.trim() == "*"));
        match url {
            _ if all_excluded => Ok(ProxyChoice::None),
            None if from_environment => Ok(ProxyChoice::Environment),
            None => Ok(ProxyChoice::None),
            Some(url) => {
                let proxy = Proxy::all(url.0.clone())
                    .map_err(|problem| format!("proxy_url: {}", problem.without_url()))?;
                let exclusions = exclusions.as_deref().and_then(NoProxy::from_string);
                Ok(ProxyChoice::Configured(Box::new(
                    proxy.no_proxy(exclusions),
                )))
            }
        }
    }

    /// Whether requests can go through a proxy.
    pub fn may_be_used(&self) -> bool {
        !matches!(self, ProxyChoice::None)
    }

    /// Makes a client use the proxy.
    pub fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match self {
            ProxyChoice::None => builder.no_proxy(),
            ProxyChoice::Configured(proxy) => builder.proxy(Proxy::clone(proxy)),
            ProxyChoice::Environment => builder,
        }
    }
}
