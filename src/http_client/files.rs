//! Reads files that settings name: certificates, keys and secrets.

use std::fmt;
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;
use serde::{Serialize, Serializer};

use crate::settings::document::Node;
use crate::settings::value::text;

/// Certificates to trust in addition to those of the system.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The PEM text of the file.
    pub pem: Vec<u8>,
}

impl fmt::Debug for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Serialize for CaFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.path.display())
    }
}

/// A file in PEM. Its content can be secret and is not shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PemFile {
    /// The path of the file.
    pub path: PathBuf,
    /// Its text.
    pub pem: Vec<u8>,
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Serialize for PemFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.path.display())
    }
}

/// Reads a PEM file without checking its content.
pub fn pem_file(node: &Node) -> Result<PemFile, String> {
    let path = path(node)?;
    let pem = std::fs::read(&path).map_err(|problem| unreadable(&path, &problem))?;
    Ok(PemFile { path, pem })
}

/// Reads a PEM file with certificates.
pub fn ca_file(node: &Node) -> Result<CaFile, String> {
    let path = path(node)?;
    let pem = std::fs::read(&path).map_err(|problem| unreadable(&path, &problem))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(CaFile { path, pem }),
        _ => Err(format!("{} contains no PEM certificate", path.display())),
    }
}

/// The path of a file with the value of an HTTP header, such as a token. The file must be
/// readable now, and is read again for every request.
pub fn secret_file(what: &'static str) -> impl Fn(&Node) -> Result<PathBuf, String> {
    move |node| {
        let path = path(node)?;
        let found = std::fs::metadata(&path).map_err(|problem| unreadable(&path, &problem))?;
        if !found.is_file() {
            // Reading a pipe could block for ever, and would consume the secret.
            return Ok(path);
        }
        let secret =
            std::fs::read_to_string(&path).map_err(|problem| unreadable(&path, &problem))?;
        let secret = secret.trim();
        if secret.is_empty() || HeaderValue::from_bytes(secret.as_bytes()).is_err() {
            return Err(format!(
                "{} must contain a {what} that is valid in an HTTP header",
                path.display()
            ));
        }
        Ok(path)
    }
}

fn unreadable(path: &Path, problem: &std::io::Error) -> String {
    format!("{} cannot be read: {problem}", path.display())
}

fn path(node: &Node) -> Result<PathBuf, String> {
    text(node).map(PathBuf::from)
}
