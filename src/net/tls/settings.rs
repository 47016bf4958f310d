//! The settings of TLS, with the keys and values of `tls_server_config` in the web
//! configuration of Prometheus' exporter-toolkit.

use std::path::{Path, PathBuf};

use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::source::Source;
use crate::settings::document::{Node, Place};
use crate::settings::reader::Table;
use crate::settings::value::{Secret, boolean, choice, text};

/// A `tls` table, or the `tls_server_config` of a web configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The certificate chain itself, instead of its file. Only in a web configuration.
    #[serde(skip_serializing)]
    pub cert: Option<String>,
    /// The private key itself.
    #[serde(skip_serializing)]
    pub key: Option<Secret>,
    /// The authorities for clients themselves.
    #[serde(skip_serializing)]
    pub client_ca: Option<String>,
    /// The certificate chain of the server, in PEM, its own certificate first.
    pub cert_file: PathBuf,
    /// The private key of the certificate, in PEM.
    pub key_file: PathBuf,
    /// Whether clients present a certificate.
    pub client_auth_type: ClientAuth,
    /// The authorities that sign the certificates of clients, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Subject alternative names, of which a client's certificate must have one: DNS names,
    /// addresses, e-mail addresses and URIs. Empty allows every name.
    pub client_allowed_sans: Vec<String>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version.
    pub max_version: TlsVersion,
    /// The cipher suites of TLS 1.2, by preference; empty for all. Those of TLS 1.3 are not
    /// configurable.
    pub cipher_suites: Vec<CipherSuite>,
    /// Whether the order of `cipher_suites` wins over that of the client.
    pub prefer_server_cipher_suites: bool,
    /// The groups of the key exchange, by preference; empty for all.
    pub curve_preferences: Vec<Curve>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings {
            cert: None,
            key: None,
            client_ca: None,
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_auth_type: ClientAuth::NoClientCert,
            client_ca_file: None,
            client_allowed_sans: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

/// The policy for client certificates, with the names of Go's `crypto/tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// It is not requested.
    NoClientCert,
    /// It is requested, and not verified.
    RequestClientCert,
    /// It is required, and not verified.
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    /// It is requested, and verified if the client has one.
    VerifyClientCertIfGiven,
    /// It is required and verified.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    const NAMES: [(&'static str, ClientAuth); 5] = [
        ("NoClientCert", ClientAuth::NoClientCert),
        ("RequestClientCert", ClientAuth::RequestClientCert),
        ("RequireAnyClientCert", ClientAuth::RequireAnyClientCert),
        (
            "VerifyClientCertIfGiven",
            ClientAuth::VerifyClientCertIfGiven,
        ),
        (
            "RequireAndVerifyClientCert",
            ClientAuth::RequireAndVerifyClientCert,
        ),
    ];

    /// Whether certificates are verified, so that the names in them can be trusted.
    pub fn verifies(self) -> bool {
        matches!(
            self,
            ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert
        )
    }

    /// Whether a client without a certificate is rejected.
    pub fn is_required(self) -> bool {
        matches!(
            self,
            ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert
        )
    }
}

/// A version of TLS. Versions before 1.2 are broken and not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLS12")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLS13")]
    Tls13,
}

impl TlsVersion {
    const NAMES: [(&'static str, TlsVersion); 2] =
        [("TLS12", TlsVersion::Tls12), ("TLS13", TlsVersion::Tls13)];

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            TlsVersion::Tls12 => &version::TLS12,
            TlsVersion::Tls13 => &version::TLS13,
        }
    }
}

/// A cipher suite, by its IANA name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CipherSuite(&'static str);

impl CipherSuite {
    const ALL: [(&'static str, SupportedCipherSuite); 9] = [
        (
            "TLS_AES_128_GCM_SHA256",
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ),
        (
            "TLS_AES_256_GCM_SHA384",
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ),
        (
            "TLS_CHACHA20_POLY1305_SHA256",
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ];

    fn supported(self) -> Option<SupportedCipherSuite> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == self.0);
        found.map(|(_, suite)| suite)
    }
}

impl TryFrom<String> for CipherSuite {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        named(&Self::ALL, &written).map(CipherSuite)
    }
}

impl<'de> Deserialize<'de> for CipherSuite {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .try_into()
            .map_err(de::Error::custom)
    }
}

/// A group of the key exchange, with its name in Go's `crypto/tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Curve(&'static str);

impl Curve {
    const ALL: [(&'static str, &'static dyn SupportedKxGroup); 3] = [
        ("X25519", kx_group::X25519),
        ("CurveP256", kx_group::SECP256R1),
        ("CurveP384", kx_group::SECP384R1),
    ];

    fn supported(self) -> Option<&'static dyn SupportedKxGroup> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == self.0);
        found.map(|(_, group)| group)
    }
}

impl TryFrom<String> for Curve {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        named(&Self::ALL, &written).map(Curve)
    }
}

impl<'de> Deserialize<'de> for Curve {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .try_into()
            .map_err(de::Error::custom)
    }
}

/// Finds a name in a list, or returns an error that lists all names.
fn named<T>(all: &[(&'static str, T)], written: &str) -> Result<&'static str, String> {
    let mut names = all.iter().map(|(name, _)| *name);
    names.clone().find(|name| *name == written).ok_or_else(|| {
        let list = names.by_ref().collect::<Vec<_>>().join(", ");
        format!("must be one of {list}, not {written:?}")
    })
}

impl TlsSettings {
    /// Checks that settings fit together. The error completes a sentence that begins with
    /// the name of the table.
    ///
    /// # Errors
    ///
    /// A key is missing, or keys contradict each other.
    pub fn check(&self) -> Result<(), String> {
        let asks = self.client_auth_type != ClientAuth::NoClientCert;
        let (has_cert, has_key) = (self.cert.is_some(), self.key.is_some());
        let has_file = |path: &Path| !path.as_os_str().is_empty();
        let has_ca = self.client_ca_file.is_some() || self.client_ca.is_some();
        let problem = if !has_cert && !has_file(&self.cert_file) {
            "needs `cert_file`, the certificate of the server"
        } else if !has_key && !has_file(&self.key_file) {
            "needs `key_file`, the private key of the certificate"
        } else if has_cert && has_file(&self.cert_file) {
            "has both `cert` and `cert_file`"
        } else if has_key && has_file(&self.key_file) {
            "has both `key` and `key_file`"
        } else if self.client_ca.is_some() && self.client_ca_file.is_some() {
            "has both `client_ca` and `client_ca_file`"
        } else if self.min_version > self.max_version {
            "has a `min_version` above its `max_version`"
        } else if self.client_auth_type.verifies() && !has_ca {
            "needs `client_ca_file`, by which the certificates of clients are verified"
        } else if has_ca && !asks {
            "has a `client_ca_file`, but its `client_auth_type` is \"NoClientCert\": use \
             \"RequireAndVerifyClientCert\""
        } else if !self.client_allowed_sans.is_empty() && !self.client_auth_type.is_required() {
            "has `client_allowed_sans`, which needs a `client_auth_type` that demands a \
             certificate: \"RequireAndVerifyClientCert\" or \"RequireAnyClientCert\""
        } else {
            return Ok(());
        };
        Err(problem.to_owned())
    }

    /// Resolves relative paths against `directory`.
    pub fn relative_to(&mut self, directory: &Path) {
        let files = [&mut self.cert_file, &mut self.key_file];
        for file in files.into_iter().chain(&mut self.client_ca_file) {
            if !file.as_os_str().is_empty() {
                *file = directory.join(&*file);
            }
        }
    }

    /// The source of the certificate chain.
    pub(super) fn cert_source(&self) -> Source<'_> {
        match &self.cert {
            Some(text) => Source::inline("cert", text),
            None => Source::file("cert_file", &self.cert_file),
        }
    }

    /// The source of the private key.
    pub(super) fn key_source(&self) -> Source<'_> {
        match &self.key {
            Some(text) => Source::inline("key", text.reveal()),
            None => Source::file("key_file", &self.key_file),
        }
    }

    /// The source of the authorities for clients, if there are any.
    pub(super) fn client_ca_source(&self) -> Option<Source<'_>> {
        let inline = self.client_ca.as_deref();
        let inline = inline.map(|text| Source::inline("client_ca", text));
        let file = self.client_ca_file.as_deref();
        inline.or_else(|| file.map(|path| Source::file("client_ca_file", path)))
    }

    /// The allowed versions.
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [TlsVersion::Tls13, TlsVersion::Tls12];
        let chosen = self.min_version..=self.max_version;
        let chosen = all.into_iter().filter(|version| chosen.contains(version));
        chosen.map(TlsVersion::supported).collect()
    }

    /// The cryptography provider, restricted to the chosen suites and groups.
    pub(super) fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.cipher_suites.is_empty() {
            let is_new = |suite: &SupportedCipherSuite| suite.tls13().is_some();
            provider.cipher_suites.retain(is_new);
            let suites = self.cipher_suites.iter();
            let suites = suites.filter_map(|suite| suite.supported());
            provider
                .cipher_suites
                .extend(suites.filter(|suite| !is_new(suite)));
        }
        if !self.curve_preferences.is_empty() {
            let groups = self.curve_preferences.iter();
            provider.kx_groups = groups.filter_map(|curve| curve.supported()).collect();
        }
        provider
    }
}

/// Takes the `tls` table under `key`; `None` if it is missing or invalid.
pub fn take(table: &mut Table<'_>, key: &'static str) -> Option<TlsSettings> {
    let (inner, place) = table.optional_table(key)?;
    read(inner, &place)
}

/// Reads a `tls` table, which begins at `place`; `None` if it is invalid.
pub fn read(mut table: Table<'_>, place: &Place) -> Option<TlsSettings> {
    let default = TlsSettings::default();
    let settings = TlsSettings {
        cert: None,
        key: None,
        client_ca: None,
        cert_file: table.take("cert_file", PathBuf::new(), path),
        key_file: table.take("key_file", PathBuf::new(), path),
        client_auth_type: table.take(
            "client_auth_type",
            default.client_auth_type,
            choice(&ClientAuth::NAMES),
        ),
        client_ca_file: table.take_option("client_ca_file", path),
        client_allowed_sans: table.take_list("client_allowed_sans", text),
        min_version: table.take(
            "min_version",
            default.min_version,
            choice(&TlsVersion::NAMES),
        ),
        max_version: table.take(
            "max_version",
            default.max_version,
            choice(&TlsVersion::NAMES),
        ),
        cipher_suites: table.take_list("cipher_suites", |node| text(node)?.try_into()),
        prefer_server_cipher_suites: table.take("prefer_server_cipher_suites", true, boolean),
        curve_preferences: table.take_list("curve_preferences", |node| text(node)?.try_into()),
    };
    let checked = settings.check();
    if let Err(problem) = &checked {
        table.fault(place.clone(), format!("`{}` {problem}", table.name()));
    }
    table.finish();
    checked.ok().map(|()| settings)
}

fn path(node: &Node) -> Result<PathBuf, String> {
    match text(node)?.as_str() {
        "" => Err("must be the path of a file in PEM, not \"\"".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TlsSettings, String> {
        toml::from_str(text).map_err(|problem| problem.message().to_owned())
    }

    const FILES: &str = "cert_file = \"a.crt\"\nkey_file = \"a.key\"\n";

    #[test]
    fn the_keys_are_those_of_exporter_toolkit() {
        let text = format!(
            "{FILES}client_auth_type = \"RequireAndVerifyClientCert\"\nclient_ca_file = \"/ca\"\n\
             client_allowed_sans = [\"a\"]\nmin_version = \"TLS13\"\nmax_version = \"TLS13\"\n\
             cipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]\n\
             prefer_server_cipher_suites = false\ncurve_preferences = [\"CurveP256\"]\n"
        );
        let mut settings = parse(&text).unwrap();
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(
            parse(&toml::to_string(&settings).unwrap()),
            Ok(settings.clone())
        );
        settings.relative_to(Path::new("/etc"));
        assert_eq!(settings.cert_file, Path::new("/etc/a.crt"));
        assert_eq!(settings.client_ca_file.as_deref(), Some(Path::new("/ca")));
        assert_eq!(settings.versions().len(), 1);
        let provider = settings.provider();
        assert_eq!(provider.kx_groups.len(), 1);
        // Three suites of TLS 1.3, and the chosen one.
        assert_eq!(provider.cipher_suites.len(), 4);
        for (wrong, expected) in [
            ("certs = \"\"\n", "unknown field `certs`"),
            ("min_version = \"TLS10\"\n", "unknown variant `TLS10`"),
            (
                "cipher_suites = [\"RC4\"]\n",
                "must be one of TLS_AES_128_GCM_SHA256, ",
            ),
            (
                "curve_preferences = [\"P1\"]\n",
                "must be one of X25519, CurveP256, CurveP384, not",
            ),
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_rejected() {
        for (text, expected) in [
            ("", "needs `cert_file`"),
            ("cert_file = \"a\"\n", "needs `key_file`"),
            (
                "max_version = \"TLS12\"\nmin_version = \"TLS13\"\n",
                "above its `max_version`",
            ),
            (
                "client_auth_type = \"RequireAndVerifyClientCert\"\n",
                "needs `client_ca_file`",
            ),
            ("client_ca_file = \"ca\"\n", "is \"NoClientCert\""),
            ("client_allowed_sans = [\"a\"]\n", "demands a certificate"),
        ] {
            let files = if expected.contains("_file`") && !expected.contains("ca") {
                ""
            } else {
                FILES
            };
            let problem = parse(&format!("{files}{text}"))
                .unwrap()
                .check()
                .unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
