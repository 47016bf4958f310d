//! Reads the files that TLS settings name, and notices when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use super::settings::TlsSettings;
use super::source::Source;

/// Metadata that changes with the content of a file: inode, size, and times of the last
/// changes. `None` if the file is missing.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

/// The stamps of all files of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps([Stamp; 3]);

impl Stamps {
    /// Takes the current stamps.
    pub fn take(settings: &TlsSettings) -> Self {
        let ca = settings.client_ca_file.as_deref();
        Stamps([
            stamp(&settings.cert_file),
            stamp(&settings.key_file),
            ca.and_then(stamp),
        ])
    }
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

/// Reads PEM certificates.
///
/// # Errors
///
/// The file cannot be read, is not PEM, or has no certificate.
pub fn certificates(source: Source<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = source.read()?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(source.unusable("has no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(problem) => Err(source.unusable(&format!("is not valid PEM: {problem}"))),
    }
}

/// Reads a PEM private key.
///
/// # Errors
///
/// The file cannot be read or has no private key.
pub fn private_key(source: Source<'_>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = source.read()?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|problem| {
        let encrypted = text.windows(9).any(|word| word == b"ENCRYPTED");
        let problem = match encrypted {
            true => "is an encrypted private key: decrypt it".to_owned(),
            false => format!("has no private key in PEM: {problem}"),
        };
        source.unusable(&problem)
    })
}
