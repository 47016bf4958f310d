//! `file_sd`: reads lists from files, again whenever they change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::Look;
use super::found::{Findings, FoundReader, Room, found_in};
use super::lists::{self, ListFormat};
use crate::clock;
use crate::exposition::counted;
use crate::inputs::poller::config::discovery::{FilePattern, FileSd};
use crate::inputs::poller::error::ScrapeError;
use crate::inputs::poller::file;
use crate::reason::Reason;
use crate::watched::{FileState, Watched};

/// The limit on files of one discovery.
pub const MAX_FILES: usize = 1000;

/// Files are read again after this time, even if they look unchanged.
const READ_AGAIN: Duration = Duration::from_secs(300);

/// The files of a discovery, as last read.
#[derive(Debug)]
pub struct FileLists {
    /// `None` while a look is in progress.
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    name: String,
    config: Arc<FileSd>,
    max_bytes: usize,
    room: Room,
    lists: BTreeMap<PathBuf, FileList>,
    /// Why the last look could not list the files.
    problem: Option<String>,
    /// The time when all files were read.
    read: Option<Instant>,
    /// Whether targets were left out for lack of room while lists changed. There may be
    /// room now.
    is_crowded: bool,
}

/// A file.
#[derive(Debug)]
struct FileList {
    state: Watched<FileState>,
    /// Whether the last look found it. A file is gone only after two looks have missed it,
    /// so a file that is being replaced keeps its targets.
    is_there: bool,
    /// The findings of the last successful read.
    findings: Findings,
    /// Why it could not be read since then.
    problem: Option<(Reason, String)>,
}

impl FileLists {
    /// The files of a discovery, not yet read. `before` are earlier findings in the same place.
    pub fn new(
        name: &str,
        config: &Arc<FileSd>,
        max_bytes: usize,
        room: Room,
        before: &Findings,
    ) -> Self {
        let lists = before.by_list().into_iter();
        let lists = lists.map(|(path, findings)| {
            let list = FileList {
                state: Watched::new(FileState::default()),
                is_there: true,
                findings,
                problem: None,
            };
            (PathBuf::from(path), list)
        });
        FileLists {
            files: Some(Files {
                name: name.to_owned(),
                config: Arc::clone(config),
                max_bytes,
                room,
                lists: lists.collect(),
                problem: None,
                read: None,
                is_crowded: false,
            }),
        }
    }

    /// Looks at the files, and reads those that changed.
    pub async fn look(&mut self) -> Look {
        let Some(mut files) = self.files.take() else {
            return Look::default();
        };
        // Files on a network can be slow.
        let look = spawn_blocking(move || {
            let look = files.look(clock::tick());
            (files, look)
        });
        match look.await {
            Ok((files, look)) => {
                self.files = Some(files);
                look
            }
            Err(error) => {
                let message = format!("the files cannot be read: {error}");
                Look::failed(ScrapeError::new(Reason::Closed, &message))
            }
        }
    }
}

impl Files {
    fn look(&mut self, now: Instant) -> Look {
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(problem) if self.problem.as_ref() == Some(&problem) => return Look::default(),
            Err(problem) => {
                let error = ScrapeError::new(Reason::BadSetting, &problem);
                self.problem = Some(problem);
                return Look::failed(error);
            }
        };
        let is_first = self.read.is_none();
        let mut is_read = self.problem.take().is_some() || is_first;
        let is_old = self.read.is_none_or(|read| now - read >= READ_AGAIN);
        let all = is_old || self.is_crowded;
        if all {
            self.read = Some(now);
        }
        let before = self.lists.len();
        self.lists.retain(|path, list| {
            let was_there = std::mem::replace(&mut list.is_there, paths.contains(path));
            was_there || list.is_there
        });
        let mut is_changed = self.lists.len() != before || is_first;
        for path in paths {
            let state = FileState::of(&path);
            match self.lists.get_mut(&path) {
                Some(list) => {
                    if !list.state.look(state) && !all {
                        continue;
                    }
                }
                None => {
                    let list = FileList {
                        state: Watched::new(state),
                        is_there: true,
                        findings: Findings::default(),
                        problem: None,
                    };
                    self.lists.insert(path.clone(), list);
                }
            }
            let read = self.read(&path);
            is_read = true;
            let Some(list) = self.lists.get_mut(&path) else {
                continue;
            };
            match read {
                Ok(findings) => {
                    is_changed |= findings != list.findings;
                    list.findings = findings;
                    list.problem = None;
                }
                Err(problem) => list.problem = Some(problem),
            }
        }
        self.is_crowded = is_changed && self.lists.values().any(|it| it.findings.beyond > 0);
        let findings = is_changed.then(|| {
            let mut all = Findings::default();
            self.lists
                .values()
                .for_each(|list| all.extend(&list.findings));
            all
        });
        let problem = || {
            let problems = self.lists.values().filter_map(|list| list.problem.as_ref());
            let (reason, message) = problems.clone().next()?;
            let message = match problems.count() {
                1 => message.clone(),
                count => {
                    let more = counted(count - 1, "more file", "more files");
                    format!("{message} (and {more})")
                }
            };
            Some(ScrapeError::new(*reason, &message))
        };
        Look {
            findings,
            result: (is_read || is_changed).then(|| problem().map_or(Ok(()), Err)),
        }
    }

    /// The files that match any of the patterns.
    fn paths(&self) -> Result<BTreeSet<PathBuf>, String> {
        let mut paths = BTreeSet::new();
        for pattern in &self.config.files {
            let failed = |problem: io::Error| format!("{pattern}: {problem}");
            for path in matching(pattern).map_err(failed)? {
                paths.insert(path);
            }
            if paths.len() > MAX_FILES {
                return Err(format!("{pattern}: more than {MAX_FILES} files"));
            }
        }
        Ok(paths)
    }

    fn read(&self, path: &Path) -> Result<Findings, (Reason, String)> {
        let shown = path.display();
        let unreadable = |problem: io::Error| (Reason::BadSetting, format!("{shown}: {problem}"));
        let limit = self.max_bytes;
        let Some((bytes, _)) = file::read_whole(path, limit).map_err(unreadable)? else {
            let message = format!("{shown}: more than {limit} bytes (poll_external.max_body)");
            return Err((Reason::TooLarge, message));
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| (Reason::InvalidUtf8, format!("{shown}: not UTF-8")))?;
        let extension = path.extension().unwrap_or_default();
        let format = match extension.eq_ignore_ascii_case("json") {
            true => ListFormat::Json,
            false => ListFormat::Yaml,
        };
        let reader =
            FoundReader::with_meta(&self.config.targets, "__meta_filepath", shown.to_string());
        let found_in = found_in(&self.name, &shown);
        let others = self.lists.iter().filter(|(other, _)| *other != path);
        let room = self.room.beside(others.map(|(_, list)| &list.findings));
        lists::read(&text, format, &reader, &found_in, room).map_err(|problem| {
            (
                Reason::Malformed,
                format!("{shown}: not a list of targets: {problem}"),
            )
        })
    }
}

/// The files that match a pattern; at most one more than the limit.
pub fn matching(pattern: &FilePattern) -> io::Result<Vec<PathBuf>> {
    let directory = Path::new(&pattern.directory);
    let name = pattern.name.as_str();
    if !name.contains('*') {
        let path = directory.join(name);
        return match fs::metadata(&path) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
            Err(_) => Ok(Vec::new()),
            Ok(_) => Ok(vec![path]),
        };
    }
    let listed = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(listed)? {
        let file_name = entry?.file_name();
        let matches = pattern.name.matches(&file_name.to_string_lossy());
        let path = directory.join(&file_name);
        if matches && !path.is_dir() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            break;
        }
    }
    Ok(found)
}
