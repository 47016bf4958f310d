//! Builds the configuration of a server from settings and their files.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::NoServerSessionStorage;

use super::certificate;
use super::client_auth;
use super::error::TlsError;
use super::files;
use super::settings::{ClientAuth, TlsSettings};
use crate::clock;
use crate::telemetry::dates::utc;

/// The protocols that a server offers by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, and HTTP/2 if `http2`.
    Http {
        /// Whether HTTP/2 is offered.
        http2: bool,
    },
    /// A protocol without an ALPN name.
    Other,
}

impl Protocols {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Protocols::Http { http2: true } => &[b"h2", b"http/1.1"],
            Protocols::Http { http2: false } => &[b"http/1.1"],
            Protocols::Other => &[],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The parts of a server for handshakes.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The certificate, key and rules.
    pub config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub expiry: u64,
}

impl Loaded {
    /// A warning if the certificate of these settings has expired.
    pub fn warning(&self, settings: &TlsSettings) -> Option<String> {
        let expiry = UNIX_EPOCH + Duration::from_secs(self.expiry);
        (expiry < clock::wall()).then(|| {
            let (source, expiry) = (settings.cert_source(), utc(expiry));
            format!("{source} has a certificate that expired at {expiry}: clients reject it")
        })
    }
}

/// Reads the files of the settings and builds the configuration of a server.
///
/// # Errors
///
/// A file is not usable, or the settings do not match.
pub fn load(settings: &TlsSettings, protocols: Protocols) -> Result<Loaded, TlsError> {
    settings.check().map_err(TlsError::Settings)?;
    let unusable = |problem: rustls::Error| TlsError::Unusable(problem.to_string());
    let chain = files::certificates(settings.cert_source())?;
    let expiry = certificate::expiry(&chain[0]).map_err(|problem| {
        let problem = format!("has a malformed certificate: {problem}");
        settings.cert_source().unusable(&problem)
    })?;
    let key = files::private_key(settings.key_source())?;
    let provider = Arc::new(settings.provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&settings.versions())
        .map_err(unusable)?;
    let asks = settings.client_auth_type != ClientAuth::NoClientCert;
    let builder = match asks {
        true => builder.with_client_cert_verifier(client_auth::verifier(settings, &provider)?),
        false => builder.with_no_client_auth(),
    };
    let built = builder.with_single_cert(chain, key);
    let mut config = built.map_err(|problem| {
        TlsError::Unusable(format!(
            "{} and {} cannot be used together: {problem}",
            settings.cert_source(),
            settings.key_source()
        ))
    })?;
    config.alpn_protocols = protocols.names();
    config.ignore_client_order =
        settings.prefer_server_cipher_suites && !settings.cipher_suites.is_empty();
    if asks {
        // A resumed session would not be verified again after its certificate expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Ticketer::new().map_err(unusable)?;
        config.send_tls13_tickets = 1;
    }
    Ok(Loaded {
        config: Arc::new(config),
        expiry,
    })
}
