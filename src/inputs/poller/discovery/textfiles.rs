//! `textfile`: files with metrics in directories, each of which is a target.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::Look;
use super::files::{MAX_FILES, matching};
use super::found::{Findings, FoundReader, found_in};
use crate::inputs::poller::config::discovery::{FilePattern, Textfile};
use crate::inputs::poller::error::ScrapeError;
use crate::reason::Reason;
use crate::settings::pattern::Pattern;

/// The pattern for file names.
const PATTERN: &str = "*.prom";

/// The directories of a discovery, as last listed.
#[derive(Debug)]
pub struct Textfiles {
    name: String,
    config: Arc<Textfile>,
    paths: Option<Vec<PathBuf>>,
    /// Why the last look could not list them.
    problem: Option<String>,
}

impl Textfiles {
    pub fn new(name: &str, config: &Arc<Textfile>) -> Self {
        Textfiles {
            name: name.to_owned(),
            config: Arc::clone(config),
            paths: None,
            problem: None,
        }
    }

    /// Lists the directories.
    pub async fn look(&mut self) -> Look {
        let config = Arc::clone(&self.config);
        // Directories on a network can be slow.
        let paths = spawn_blocking(move || paths(&config)).await;
        let paths = paths.unwrap_or_else(|error| Err(format!("they cannot be listed: {error}")));
        match paths {
            Err(problem) if self.problem.as_ref() == Some(&problem) => Look::default(),
            Err(problem) => {
                let error = ScrapeError::new(Reason::BadSetting, &problem);
                self.problem = Some(problem);
                Look::failed(error)
            }
            Ok(paths) => {
                let was_failing = self.problem.take().is_some();
                let is_changed = self.paths.as_ref() != Some(&paths);
                let look = Look {
                    findings: is_changed.then(|| self.findings(&paths)),
                    result: (is_changed || was_failing).then_some(Ok(())),
                };
                self.paths = Some(paths);
                look
            }
        }
    }

    fn findings(&self, paths: &[PathBuf]) -> Findings {
        let reader = FoundReader::new(&self.config.targets);
        let mut findings = Findings::default();
        for path in paths {
            let found_in = found_in(&self.name, path.parent().unwrap_or(path).display());
            findings.add(reader.file(path.clone(), &found_in).map(Some));
        }
        findings
    }
}

/// The files in all directories, sorted.
fn paths(config: &Textfile) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for directory in &config.directories {
        let pattern = FilePattern {
            directory: match directory.trim_end_matches('/') {
                "" => "/".to_owned(),
                trimmed => trimmed.to_owned(),
            },
            name: Pattern::new(PATTERN),
        };
        let found = matching(&pattern).map_err(|problem| format!("{directory}: {problem}"))?;
        paths.extend(found);
        if paths.len() > MAX_FILES {
            return Err(format!("{directory}: more than {MAX_FILES} files"));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::config::settle;

    #[tokio::test]
    async fn a_file_whose_name_is_not_utf_8_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        for name in [&b"a.prom"[..], b"\xff.prom", b"b.txt"] {
            std::fs::write(directory.path().join(OsStr::from_bytes(name)), "m 1\n").unwrap();
        }
        let config = format!(
            "[poll_external]\ntextfile = [{{ directories = [{:?}] }}]\n",
            directory.path()
        );
        let config = settle("test", &config, []).unwrap().0;
        let discovery = &config.poll_external.discoveries.textfile[0];
        let look = Textfiles::new("textfile", discovery).look().await;
        let findings = look.findings.unwrap();
        assert_eq!((findings.found.len(), findings.rejected), (1, 1));
        let problem = &findings.rejections[0];
        assert!(
            problem.ends_with("/\u{fffd}.prom: its name is not UTF-8"),
            "{problem}"
        );
    }
}
