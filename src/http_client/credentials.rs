//! Credentials of requests to other systems: a user, a bearer token, or headers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::files::secret_file;
use crate::settings::Secret;
use crate::settings::document::{Node, Place, Value};
use crate::settings::reader::Table;
use crate::settings::value::text;

/// The limit on files that are read at the same time. A pipe without a writer, or a network
/// file system that does not answer, blocks one of the runtime's 512 threads for blocking work.
static READERS: Semaphore = Semaphore::const_new(64);

/// Secrets and additional headers of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// The file with a bearer token. It is read for every request, since tokens are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// User and password of HTTP basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Additional request headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Request headers whose values are in files. They are read for every request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header_files: BTreeMap<String, PathBuf>,
}

/// User and password of HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password, unless there is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file with the password. It is read for every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

impl BasicAuth {
    /// Reads the table at `place` with `username`, and `password` or `password_file`.
    pub fn read(mut table: Table<'_>, place: Place) -> Option<Self> {
        let written = |key| table.place(key).is_some();
        let has_username = written("username");
        let has_password = written("password");
        let has_file = written("password_file");
        let username = table.take_option("username", text);
        let password = table.take_option("password", text);
        let file_place = table.place("password_file");
        let password_file = table.take_option("password_file", secret_file("password"));
        if let Some(place) = file_place.filter(|_| has_password) {
            let problem = format!(
                "`{}` has both `password` and `password_file`; set one of them",
                table.name()
            );
            table.fault(place, problem);
        }
        let missing = match () {
            () if !has_username => Some("`username`"),
            () if !has_password && !has_file => Some("`password` or `password_file`"),
            () => None,
        };
        if let Some(missing) = missing {
            let problem = format!("`{}` needs a {missing}", table.name());
            table.fault(place, problem);
        }
        table.finish();
        Some(BasicAuth {
            username: username?,
            password: password.map(Secret::new),
            password_file,
        })
    }

    /// Returns the password. A file is read anew; `setting` names it in errors.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn password(&self, setting: &'static str) -> Result<String, CredentialError> {
        match &self.password_file {
            Some(file) => secret(setting, file).await,
            None => {
                let password = self.password.as_ref();
                Ok(password.map_or("", Secret::reveal).to_owned())
            }
        }
    }
}

/// An unusable file with a secret.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {}: {problem}", file.display())]
pub struct CredentialError {
    setting: &'static str,
    file: PathBuf,
    problem: String,
}

impl Credentials {
    /// Takes `bearer_token_file`, `basic_auth`, `headers` and `header_files` out of a table.
    pub fn take(table: &mut Table<'_>) -> Self {
        let name = table.name().to_owned();
        let token_place = table.place("bearer_token_file");
        let bearer_token_file = table.take_option("bearer_token_file", secret_file("token"));
        let basic_auth_place = table.place("basic_auth");
        let basic_auth = table
            .optional_table("basic_auth")
            .and_then(|(table, place)| BasicAuth::read(table, place));
        let headers = read_headers(table);
        let header_files = read_header_files(table, &headers);
        if let (Some(token), Some(_)) = (token_place, basic_auth_place) {
            let problem = format!(
                "`{name}.bearer_token_file` and `{name}.basic_auth` exclude each other; set one \
                 of them"
            );
            table.fault(token, problem);
        }
        Credentials {
            bearer_token_file,
            basic_auth,
            headers,
            header_files,
        }
    }

    /// Returns the headers of a request. Files are read anew.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or its content is not valid in a header.
    pub async fn headers(&self) -> Result<HeaderMap, CredentialError> {
        let mut headers = HeaderMap::new();
        if let Some(auth) = &self.basic_auth {
            let password = auth.password("basic_auth.password_file").await?;
            let pair = STANDARD.encode(format!("{}:{password}", auth.username));
            // Base64 is valid in a header.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {pair}")) {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        for (name, value) in &self.headers {
            // They were checked when the settings were read.
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value.reveal());
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        if let Some(file) = &self.bearer_token_file {
            const SETTING: &str = "bearer_token_file";
            let value = format!("Bearer {}", secret(SETTING, file).await?);
            headers.insert(AUTHORIZATION, header_value(SETTING, file, &value)?);
        }
        for (name, file) in &self.header_files {
            const SETTING: &str = "header_files";
            let value = secret(SETTING, file).await?;
            let value = header_value(SETTING, file, &value)?;
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }
}

/// Reads the secret from the file that a setting names.
async fn secret(setting: &'static str, file: &Path) -> Result<String, CredentialError> {
    let failed = |problem: String| CredentialError {
        setting,
        file: file.to_owned(),
        problem,
    };
    let path = file.to_owned();
    let reader = READERS.acquire().await;
    let read = move || {
        let _reader = reader;
        std::fs::read_to_string(path)
    };
    let secret = spawn_blocking(read)
        .await
        .map_err(|problem| failed(problem.to_string()))?
        .map_err(|problem| failed(problem.to_string()))?;
    Ok(secret.trim().to_owned())
}

fn header_value(
    setting: &'static str,
    file: &Path,
    value: &str,
) -> Result<HeaderValue, CredentialError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| CredentialError {
        setting,
        file: file.to_owned(),
        problem: "its content is not valid in an HTTP header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the files with values of headers. They must be readable, and no header may be set twice.
fn read_header_files(
    table: &mut Table<'_>,
    headers: &BTreeMap<String, Secret>,
) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for (name, file, place) in table.take_texts("header_files") {
        let node = Node {
            value: Value::Text(file),
            place,
        };
        let has = |other: &String| other.eq_ignore_ascii_case(&name);
        let read = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            Err(format!("must have HTTP header names, not {name:?}"))
        } else if headers.keys().any(has) {
            Err(format!("has {name:?}, which is also in `headers`"))
        } else {
            secret_file("value")(&node)
        };
        match read {
            Ok(file) => drop(files.insert(name, file)),
            Err(problem) => {
                let problem = format!("`{}.header_files` {problem}", table.name());
                table.fault(node.place, problem);
            }
        }
    }
    files
}

fn read_headers(table: &mut Table<'_>) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    for (name, value, place) in table.take_texts("headers") {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let problem = format!(
                "`{}.headers` must have HTTP header names, not {name:?}",
                table.name()
            );
            table.fault(place, problem);
        } else if HeaderValue::from_str(&value).is_err() {
            let problem = format!(
                "`{}.headers` {name:?} has a value with characters that HTTP does not allow",
                table.name()
            );
            table.fault(place, problem);
        } else {
            headers.insert(name, Secret::new(value));
        }
    }
    headers
}
