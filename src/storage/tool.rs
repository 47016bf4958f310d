//! `exporter-proxy storage`: checks, exports and imports a directory that no other process uses.
//!
//! An export is JSON lines, one for each record: `{"key":"…","value":{…}}`, or
//! `{"key":"…","base64":"…"}` for values that JSON cannot express. The last line is the number
//! of records, `{"records":…}`; without it, the export is incomplete. An import reads the same
//! format. The [`ReadableForm`] of a state converts records that are not the store's.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{Engine, IMPORTING, LocalEngine};
use super::error::{DiskProblem, OpenError, ReadError, WriteError};
use super::readable::ReadableForm;
use super::setup::starts;
use crate::exposition::counted;
use crate::json;
use crate::record::Record;
use crate::store::export::{RecordKey, Stored};

/// Records are imported in batches of about this many bytes.
const IMPORTED_AT_ONCE: usize = 4 << 20;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The directory cannot be written.
    #[error(
        "{}: the directory cannot be written ({problem}), and the engine opens only files that it \
         can repair: copy the directory, and name the copy with --directory", .directory.display()
    )]
    ReadOnly {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        problem: io::Error,
    },
    /// A record cannot be read.
    #[error("the stored state is damaged")]
    Read(#[from] ReadError),
    /// A record cannot be written.
    #[error("the records cannot be stored")]
    Write(#[from] WriteError),
    /// Standard input or output failed.
    #[error("standard input or output failed")]
    Io(#[from] io::Error),
    /// A line of the input is not a record.
    #[error("line {line}: {problem}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The input ends without the line that gives the number of records.
    #[error(
        "the export is not complete: it ends after {0} records, without a last line such as \
         {{\"records\":{0}}}"
    )]
    Cut(usize),
    /// The directory to import into already has records.
    #[error("{} has records already: import into a new or an empty directory", .0.display())]
    NotEmpty(PathBuf),
}

impl ToolError {
    /// The exit code of the program, from `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            ToolError::Open(problem) => problem.exit_code(),
            ToolError::Read(_) | ToolError::Line { .. } | ToolError::Cut(_) => 65, // EX_DATAERR
            ToolError::Write(_) | ToolError::Io(_) => 74,                          // EX_IOERR
            ToolError::NotEmpty(_) | ToolError::ReadOnly { .. } => 73,             // EX_CANTCREAT
        }
    }
}

impl From<OpenError> for ToolError {
    fn from(problem: OpenError) -> Self {
        match problem {
            OpenError::Unusable { directory, problem }
                if DiskProblem::of(&problem) == DiskProblem::ReadOnly =>
            {
                ToolError::ReadOnly { directory, problem }
            }
            other => ToolError::Open(other),
        }
    }
}

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// The last line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastLine {
    records: usize,
}

/// Reads every record, and writes the number of records of each kind to `out`.
///
/// # Errors
///
/// The directory cannot be opened, or a record cannot be read.
pub fn check(directory: &Path, out: &mut dyn Write) -> Result<(), ToolError> {
    let engine = LocalEngine::open_existing(directory)?;
    starts(&engine)?;
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    engine.each(b"", &mut |key, value| {
        let text = String::from_utf8_lossy(&key);
        if let Some(key) = RecordKey::decode(text.as_bytes()) {
            Stored::decode(&key, &value)
                .map_err(|problem| ReadError::Damaged(format!("record {text:?}: {problem}")))?;
        }
        let kind = text.split('/').next().unwrap_or_default();
        let (count, bytes) = kinds.entry(kind.to_owned()).or_default();
        *count += 1;
        *bytes += key.len() + value.len();
        Ok(())
    })?;
    for (kind, (count, bytes)) in &kinds {
        let records = counted(*count, "record", "records");
        writeln!(out, "{kind}: {records}, {bytes} bytes")?;
    }
    writeln!(out, "{}: ok", directory.display())?;
    Ok(())
}

/// Writes all records as JSON lines, in the order of their keys.
///
/// # Errors
///
/// The directory cannot be opened, a record cannot be read, or `out` fails.
pub fn export(
    directory: &Path,
    forms: &[ReadableForm],
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let engine = LocalEngine::open_existing(directory)?;
    let mut written = Ok(());
    let mut records = 0;
    engine.each(b"", &mut |key, value| {
        if written.is_ok() {
            records += 1;
            written = write_line(out, &line_of(&key, &value, forms)?);
        }
        Ok(())
    })?;
    written?;
    write_line(out, &LastLine { records })?;
    out.flush()?;
    Ok(())
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Reads JSON lines as [`export`] writes them, and stores them in a new directory or one
/// without records. Returns their number.
///
/// # Errors
///
/// The directory cannot be opened or has records, a line is not a record, or the last line
/// is missing. A directory that received only a part of the records cannot be opened from
/// then on.
pub fn import(
    directory: &Path,
    forms: &[ReadableForm],
    input: &mut dyn BufRead,
) -> Result<usize, ToolError> {
    let mut engine = LocalEngine::open(directory)?;
    let mut is_empty = true;
    engine.each(b"", &mut |key, _| {
        is_empty &= key.starts_with(b"meta/");
        Ok(())
    })?;
    if !is_empty {
        return Err(ToolError::NotEmpty(directory.to_owned()));
    }
    let (mut count, mut bytes) = (0, 0);
    let mut records = Vec::new();
    let mut keys = HashSet::new();
    let mut last = None;
    for (index, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |problem: String| ToolError::Line {
            line: index + 1,
            problem,
        };
        if last.is_some() {
            return Err(wrong(
                "there are lines after the number of records".to_owned(),
            ));
        }
        if let Ok(LastLine { records }) = serde_json::from_str(&line) {
            if records != count {
                let problem =
                    format!("the export had {records} records, but the input has {count}");
                return Err(wrong(problem));
            }
            last = Some(records);
            continue;
        }
        let record = record_of(&line, forms).map_err(wrong)?;
        if !keys.insert(record.key.clone()) {
            let key = String::from_utf8_lossy(&record.key);
            return Err(wrong(format!("key {key:?} is already in an earlier line")));
        }
        bytes += record.size();
        count += 1;
        records.push(record);
        if bytes >= IMPORTED_AT_ONCE {
            records.push(Record::set(IMPORTING, []));
            engine.write(&records)?;
            records.clear();
            bytes = 0;
        }
    }
    last.ok_or(ToolError::Cut(count))?;
    records.push(Record::removed(IMPORTING));
    engine.write(&records)?;
    engine.sync()?;
    Ok(count)
}

fn line_of(key: &[u8], value: &[u8], forms: &[ReadableForm]) -> Result<Line, ReadError> {
    let text = str::from_utf8(key).map_err(|_| ReadError::of_key(key))?;
    let mut line = Line {
        key: text.to_owned(),
        value: None,
        base64: None,
    };
    if let Some(key) = RecordKey::decode(key) {
        let stored = Stored::decode(&key, value)
            .map_err(|problem| ReadError::Damaged(format!("record {text:?}: {problem}")))?;
        let json = serde_json::to_value(&stored).ok();
        // JSON has no infinite numbers: records with any are exported as stored bytes.
        line.value = json.filter(|json| encoded(json).is_ok_and(|it| it == value));
    } else if let Some(form) = form_of(text, forms) {
        let json = (form.to_json)(value);
        let is_same = |json: &Value| (form.from_json)(json.clone()).is_ok_and(|it| it == value);
        line.value = json.filter(is_same);
    }
    if line.value.is_none() {
        line.base64 = Some(STANDARD.encode(value));
    }
    Ok(line)
}

/// The form of the state that owns a key.
fn form_of<'f>(key: &str, forms: &'f [ReadableForm]) -> Option<&'f ReadableForm> {
    forms.iter().find(|form| key.starts_with(form.prefix))
}

/// Encodes a value given as JSON.
fn encoded(json: &Value) -> Result<Vec<u8>, String> {
    // Records borrow strings, which a JSON value cannot provide.
    let text = json.to_string();
    let stored: Stored<'_> = serde_json::from_str(&text).map_err(|it| it.to_string())?;
    Ok(stored.encode())
}

pub(super) fn record_of(line: &str, forms: &[ReadableForm]) -> Result<Record, String> {
    let parsed = serde_json::from_str(line);
    let Line { key, value, base64 } = parsed.map_err(|problem| {
        // The caller adds the line number.
        let (cause, column) = (json::cause(&problem), problem.column());
        format!("not a record of an export: {cause}, at column {column}")
    })?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let value = match (value, base64) {
        (Some(json), None) => {
            if let Some(of_store) = RecordKey::decode(key.as_bytes()) {
                let value = encoded(&json)?;
                Stored::decode(&of_store, &value).map_err(|it| it.to_string())?;
                value
            } else {
                let form = form_of(&key, forms);
                let form = form.ok_or("a record with this key has base64, and no value")?;
                (form.from_json)(json)?
            }
        }
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|it| it.to_string())?,
        _ => return Err("a record has either a value or base64".to_owned()),
    };
    Ok(Record::set(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_has_to_be_copied() {
        let unusable = |kind: io::ErrorKind| {
            ToolError::from(OpenError::Unusable {
                directory: PathBuf::from("/backup"),
                problem: kind.into(),
            })
        };
        for kind in [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::PermissionDenied,
        ] {
            let problem = unusable(kind);
            let expected = format!(
                "/backup: the directory cannot be written ({kind}), and the engine opens only files \
                 that it can repair: copy the directory, and name the copy with --directory"
            );
            assert_eq!((problem.to_string(), problem.exit_code()), (expected, 73));
        }
        let other = unusable(io::ErrorKind::StorageFull);
        assert!(matches!(other, ToolError::Open(_)), "{other}");
    }
}
