//! The settings of the server that a sink sends to.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use url::Url;

use crate::http_client::{CaFile, ClientTls, Credentials, ProxyUrl, proxy_url, tls};
use crate::redact::redact_url;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{boolean, positive_duration, text, write_duration};

/// Where and how a sink sends its requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpSettings {
    /// The URL.
    pub url: ServerUrl,
    /// Time for a whole request: connection, request and answer.
    #[serde(serialize_with = "write_duration")]
    pub timeout: Duration,
    /// The HTTP proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are used.
    pub proxy_from_environment: bool,
    /// Credentials and further headers.
    #[serde(flatten)]
    pub credentials: Credentials,
    /// Certificates of the proxy and of the server.
    #[serde(skip_serializing_if = "ServerTls::is_empty")]
    pub tls: ServerTls,
}

/// The `tls` table of a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    /// Authorities to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<CaFile>,
    /// Whether every certificate is accepted.
    pub insecure_skip_verify: bool,
    /// The certificate of the proxy, and the name of the server.
    #[serde(flatten)]
    pub client: ClientTls,
}

impl ServerTls {
    fn is_empty(&self) -> bool {
        *self == ServerTls::default()
    }
}

/// An `http://` or `https://` URL. Secrets in it are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(pub Url);

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(30);

impl HttpSettings {
    /// Takes the settings of the server out of the table of a sink. `None` without a
    /// valid `url`, which is reported.
    pub fn take(table: &mut Table<'_>) -> Option<Self> {
        let proxy_place = table.place("proxy_url");
        let url = table.take_required("url", server_url);
        let timeout = table.take("timeout", TIMEOUT, positive_duration);
        let proxy_url = table.take_option("proxy_url", proxy_url);
        let proxy_from_environment = table.take("proxy_from_environment", false, boolean);
        let credentials = Credentials::take(table);
        let tls_place = table.place("tls");
        let (client, trust) = tls::take(table);
        // An HTTP proxy can have TLS where the server has none.
        let may_proxy_use_tls = proxy_from_environment
            || proxy_url
                .as_ref()
                .is_some_and(|proxy| proxy.0.scheme() == "https");
        if let (Some(place), Some(url)) = (tls_place, &url)
            && url.0.scheme() == "http"
            && !may_proxy_use_tls
        {
            let name = table.name();
            let problem = format!(
                "`{name}.tls` has no effect with an http:// URL; change `{name}.url` to https://, \
                 or remove `tls`"
            );
            table.fault(place, problem);
        }
        if let Some(place) = proxy_place.filter(|_| proxy_from_environment) {
            let name = table.name();
            let problem = format!(
                "`{name}.proxy_url` and `{name}.proxy_from_environment` exclude each other; set \
                 one of them"
            );
            table.fault(place, problem);
        }
        Some(HttpSettings {
            url: url?,
            timeout,
            proxy_url,
            proxy_from_environment,
            credentials,
            tls: ServerTls {
                ca_file: trust.ca_file,
                insecure_skip_verify: trust.insecure_skip_verify.unwrap_or(false),
                client,
            },
        })
    }
}

fn server_url(node: &Node) -> Result<ServerUrl, String> {
    let url = Url::parse(&text(node)?).map_err(|problem| format!("is not a URL: {problem}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(ServerUrl(url)),
        scheme => Err(format!(
            "must start with http:// or https://, not {scheme}:"
        )),
    }
}
