//! Labels to add to every series: from the settings, and from a file that is read again
//! when it changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::labels::{self, LabelLimits};
use crate::exposition::counted;

/// The limit on the size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The current labels to add.
#[derive(Debug)]
pub(super) struct ExtraLabels {
    file: Option<PathBuf>,
    configured: BTreeMap<String, String>,
    limits: LabelLimits,
    current: RwLock<Arc<Vec<(String, String)>>>,
    /// The version of the file that was read at start.
    first: FileVersion,
}

/// Metadata that tells versions of a file apart.
#[derive(Debug, Clone, PartialEq)]
enum FileVersion {
    Missing,
    Found {
        modified: SystemTime,
        length: u64,
        inode: u64,
    },
}

impl ExtraLabels {
    /// Reads the file, if one is configured and exists.
    pub(super) fn new(config: &Config) -> Self {
        let extra = ExtraLabels {
            file: config.extra_labels_file.clone(),
            configured: config.extra_labels.clone(),
            limits: limits(config),
            current: RwLock::default(),
            first: config
                .extra_labels_file
                .as_deref()
                .map_or(FileVersion::Missing, version),
        };
        extra.set(BTreeMap::new());
        if let Some(file) = &extra.file {
            extra.load(file);
        }
        extra
    }

    /// Whether these settings would give the same labels.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        self.file == config.extra_labels_file
            && self.configured == config.extra_labels
            && self.limits == limits(config)
    }

    /// The current labels to add, sorted by name.
    pub(super) fn current(&self) -> Arc<Vec<(String, String)>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks the file for changes at an interval until `stop`, and reads a changed file again.
    pub(super) async fn watch(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let mut seen = self.first.clone();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // The disk may be slow, so this runs on another thread.
            let (extra, path, before) = (Arc::clone(&self), file.clone(), seen.clone());
            let check = tokio::task::spawn_blocking(move || {
                let now = version(&path);
                if now != before {
                    extra.load(&path);
                }
                now
            });
            seen = check.await.unwrap_or(FileVersion::Missing);
        }
    }

    /// Reads the file. If that fails or a limit is exceeded, the labels stay unchanged.
    fn load(&self, file: &Path) {
        match read(file, self.limits) {
            Ok(labels) => {
                let labels_read = counted(labels.len(), "label", "labels");
                log::info!("{labels_read} read from {}", file.display());
                self.set(labels);
            }
            Err(problem) => log::warn!(
                "cannot read labels from {} (operations.extra_labels_file), keeping the current ones: {problem}",
                file.display()
            ),
        }
    }

    fn set(&self, mut labels: BTreeMap<String, String>) {
        labels.extend(self.configured.clone());
        let pairs = Arc::new(labels.into_iter().collect());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = pairs;
    }
}

fn limits(config: &Config) -> LabelLimits {
    LabelLimits {
        count: config.max_labels,
        length: config.max_label_length,
    }
}

fn version(file: &Path) -> FileVersion {
    let found = fs::metadata(file).and_then(|metadata| {
        Ok(FileVersion::Found {
            modified: metadata.modified()?,
            length: metadata.len(),
            inode: metadata.ino(),
        })
    });
    found.unwrap_or(FileVersion::Missing)
}

fn read(file: &Path, limits: LabelLimits) -> io::Result<BTreeMap<String, String>> {
    let mut text = String::new();
    fs::File::open(file)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "the file has more than {MAX_FILE} bytes"
        )));
    }
    let labels = labels::parse_label_file(&text);
    if labels.len() > limits.count {
        return Err(io::Error::other(
            "the file has more labels than operations.max_labels",
        ));
    }
    let long = labels
        .iter()
        .find(|(name, value)| name.len().max(value.len()) > limits.length);
    match long {
        Some((name, _)) => Err(io::Error::other(format!(
            "label {name:?} is longer than operations.max_label_length"
        ))),
        None => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn extra(file: &Path) -> Arc<ExtraLabels> {
        let mut config = Config::default().operations;
        config.extra_labels_file = Some(file.to_owned());
        config.extra_labels = BTreeMap::from([("a".to_owned(), "set".to_owned())]);
        Arc::new(ExtraLabels::new(&config))
    }

    fn shown(extra: &ExtraLabels) -> String {
        let pairs: Vec<String> = extra
            .current()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(",")
    }

    #[test]
    fn settings_override_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("labels");
        // metrics-server waits forever for a missing file.
        assert_eq!(shown(&extra(&file)), "a=set");
        fs::write(&file, "a=\"file\"\nb = 1\n").unwrap();
        assert_eq!(shown(&extra(&file)), "a=set,b=1");
    }

    #[test]
    fn a_file_that_exceeds_a_limit_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("labels");
        fs::write(&file, "b=1\n").unwrap();
        let extra = extra(&file);
        for bad in [
            "x".repeat(70_000),
            format!("b={}", "x".repeat(5000)),
            (0..100).map(|i| format!("l{i}=1\n")).collect(),
        ] {
            fs::write(&file, bad).unwrap();
            extra.load(&file);
            assert_eq!(shown(&extra), "a=set,b=1");
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("labels");
        let extra = extra(&file);
        let stop = CancellationToken::new();
        let every = Duration::from_millis(5);
        let watching = tokio::spawn(Arc::clone(&extra).watch(every, stop.clone()));
        for (text, labels) in [("b=1\n", "a=set,b=1"), ("b=two\n", "a=set,b=two")] {
            fs::write(&file, text).unwrap();
            while shown(&extra) != labels {
                tokio::time::sleep(every).await;
            }
        }
        stop.cancel();
        watching.await.unwrap();
    }
}
