//! Reads the files that TLS settings name, and notices when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use super::settings::TlsSettings;

/// The limit on the size of a file, in bytes. A device or a log by mistake would
/// otherwise fill the memory.
const MAX_FILE: u64 = 4 << 20;

/// What a file shows of its content without being read: inode, size, and times of the
/// last changes. `None` if there is no file.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

/// The stamps of all files of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps([Stamp; 3]);

impl Stamps {
    /// The stamps of now.
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

/// Reads certificates in PEM.
///
/// # Errors
///
/// The file cannot be read, is not PEM, or has no certificate.
pub fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(content(key, path, "has no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(problem) => Err(content(key, path, &format!("is not valid PEM: {problem}"))),
    }
}

/// Reads a private key in PEM.
///
/// # Errors
///
/// The file cannot be read or has no private key.
pub fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(key, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|problem| {
        let encrypted = text.windows(9).any(|word| word == b"ENCRYPTED");
        let problem = match encrypted {
            true => "is an encrypted private key: decrypt it".to_owned(),
            false => format!("has no private key in PEM: {problem}"),
        };
        content(key, path, &problem)
    })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |problem| TlsError::Unreadable {
        key,
        path: path.to_owned(),
        problem,
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(content(key, path, "is not a regular file"));
    }
    if found.len() > MAX_FILE {
        let problem = format!("has {} bytes; the limit is {MAX_FILE}", found.len());
        return Err(content(key, path, &problem));
    }
    fs::read(path).map_err(failed)
}

fn content(key: &'static str, path: &Path, problem: &str) -> TlsError {
    TlsError::Content {
        key,
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}
