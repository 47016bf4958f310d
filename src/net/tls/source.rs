//! The source of a certificate or key: a file, or text in the settings.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use super::error::TlsError;

/// The limit on the size of a file, in bytes. A device or a log named by mistake could
/// otherwise fill the memory.
const MAX_FILE: u64 = 4 << 20;

/// A source of PEM text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    /// The key of the setting.
    key: &'static str,
    place: Place<'s>,
}

#[derive(Clone, Copy)]
enum Place<'s> {
    File(&'s Path),
    Inline(&'s str),
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File(path) => path.fmt(f),
            // The text may be a private key.
            Place::Inline(_) => f.write_str("***"),
        }
    }
}

impl<'s> Source<'s> {
    /// A file that a setting names.
    pub fn file(key: &'static str, path: &'s Path) -> Self {
        let place = Place::File(path);
        Source { key, place }
    }

    /// The text of a setting itself.
    pub fn inline(key: &'static str, text: &'s str) -> Self {
        let place = Place::Inline(text);
        Source { key, place }
    }

    /// Reads the text.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&self) -> Result<Cow<'s, [u8]>, TlsError> {
        let path = match self.place {
            Place::Inline(text) => return Ok(Cow::Borrowed(text.as_bytes())),
            Place::File(path) => path,
        };
        let failed = |problem| TlsError::Unreadable {
            key: self.key,
            path: path.to_owned(),
            problem,
        };
        let found = fs::metadata(path).map_err(failed)?;
        if !found.is_file() {
            return Err(self.unusable("is not a regular file"));
        }
        if found.len() > MAX_FILE {
            let problem = format!("has {} bytes; the limit is {MAX_FILE}", found.len());
            return Err(self.unusable(&problem));
        }
        fs::read(path).map(Cow::Owned).map_err(failed)
    }

    /// The error for unsuitable content.
    pub fn unusable(&self, problem: &str) -> TlsError {
        TlsError::Content {
            place: self.to_string(),
            problem: problem.to_owned(),
        }
    }
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place {
            Place::File(path) => write!(f, "{} {}", self.key, path.display()),
            Place::Inline(_) => f.write_str(self.key),
        }
    }
}
