//! The `tls` table of a server that requests go to: the client certificate, and how the
//! certificate of the server is verified.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use serde::Serialize;

use super::files::{CaFile, PemFile, ca_file, pem_file};
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{boolean, text};

/// The part of the table that concerns handshakes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ClientTls {
    /// The certificate and key that the proxy presents.
    #[serde(flatten)]
    pub client: Option<ClientCertificate>,
    /// The name that the server's certificate must have, instead of the host of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A certificate and its key, as read from their files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub cert_file: PemFile,
    /// The private key.
    pub key_file: PemFile,
}

impl ClientCertificate {
    /// Parses the certificate chain and the key.
    ///
    /// # Errors
    ///
    /// The files are not PEM, or do not belong together.
    pub fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let shown = |file: &PemFile| file.path.display().to_string();
        let chain = CertificateDer::pem_slice_iter(&self.cert_file.pem)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| format!("{} contains no PEM certificate", shown(&self.cert_file)))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_file.pem)
            .map_err(|_| format!("{} contains no PEM private key", shown(&self.key_file)))?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider()).map_err(
            |problem| {
                format!(
                    "{} and {} cannot be used together: {problem}",
                    shown(&self.cert_file),
                    shown(&self.key_file)
                )
            },
        )?;
        Ok((chain, key))
    }
}

/// The trust settings of a `tls` table. A target may also set them outside of the table.
#[derive(Debug, Default)]
pub struct Trust {
    /// Certificates to trust.
    pub ca_file: Option<CaFile>,
    /// Whether every certificate is accepted.
    pub insecure_skip_verify: Option<bool>,
}

/// Takes the `tls` table out of `parent`, if it has one.
pub fn take(parent: &mut Table<'_>) -> (ClientTls, Trust) {
    let Some((mut table, place)) = parent.optional_table("tls") else {
        return Default::default();
    };
    let written = ["cert_file", "key_file"].map(|key| table.place(key).is_some());
    let files = (
        table.take_option("cert_file", pem_file),
        table.take_option("key_file", pem_file),
    );
    let client = match files {
        (Some(cert_file), Some(key_file)) => {
            let client = ClientCertificate {
                cert_file,
                key_file,
            };
            match client.parse() {
                Ok(_) => Some(client),
                Err(problem) => {
                    table.fault(place, format!("`{}`: {problem}", table.name()));
                    None
                }
            }
        }
        _ if written[0] != written[1] => {
            let problem = format!("`{}` needs both `cert_file` and `key_file`", table.name());
            table.fault(place, problem);
            None
        }
        _ => None,
    };
    let tls = ClientTls {
        client,
        server_name: table.take_option("server_name", server_name),
    };
    let trust = Trust {
        ca_file: table.take_option("ca_file", ca_file),
        insecure_skip_verify: table.take_option("insecure_skip_verify", boolean),
    };
    table.finish();
    (tls, trust)
}

fn server_name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err(format!(
            "must be a host name such as \"db.internal\", or an address, not {name:?}"
        )),
    }
}

impl ClientTls {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == ClientTls::default()
    }

    /// The name to verify, if it is set.
    pub fn name(&self) -> Option<ServerName<'static>> {
        let name = self.server_name.clone()?;
        ServerName::try_from(name).ok()
    }
}
