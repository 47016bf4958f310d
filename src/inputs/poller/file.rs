//! One poll of a file with metrics, by the rules of node_exporter's textfile collector.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tokio::task::spawn_blocking;

use super::error::ScrapeError;
use crate::exposition::Text;
use crate::reason::Reason;

/// Reads a file of at most `max_body` bytes: its text, and when it was modified, in seconds since
/// 1970. A file on a network can take long, so it is read on a thread for blocking work.
pub async fn read(path: &Path, max_body: usize, is_own: bool) -> Result<(Text, f64), ScrapeError> {
    let path = PathBuf::from(path);
    let read = spawn_blocking(move || read_now(&path, max_body, is_own));
    read.await.unwrap_or_else(|error| {
        let message = format!("the file cannot be read: {error}");
        Err(ScrapeError::new(Reason::Closed, &message))
    })
}

fn read_now(path: &Path, max_body: usize, is_own: bool) -> Result<(Text, f64), ScrapeError> {
    let failed = |problem: io::Error| {
        ScrapeError::new(
            Reason::BadSetting,
            &format!("{}: {problem}", path.display()),
        )
    };
    let file = File::open(path).map_err(failed)?;
    let modified = file
        .metadata()
        .and_then(|it| it.modified())
        .map_err(failed)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_body).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > max_body {
        return Err(ScrapeError::too_large(max_body, is_own));
    }
    let text = std::str::from_utf8(&bytes).map_err(|problem| {
        let message = format!("the file is not UTF-8 at byte {}", problem.valid_up_to());
        ScrapeError::new(Reason::InvalidUtf8, &message)
    })?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((Text::new(text), modified.as_secs_f64()))
}
