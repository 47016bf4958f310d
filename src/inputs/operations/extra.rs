//! Labels that are put on every series: those of the settings, and those of a
//! file that is read again when it changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{config, labels};
use crate::exposition::counted;

/// Bytes of the file.
const LONGEST: u64 = 64 << 10;

pub type Pairs = Vec<(String, String)>;

#[derive(Debug)]
pub struct Extra {
    file: Option<PathBuf>,
    configured: BTreeMap<String, String>,
    bounds: labels::Bounds,
    now: RwLock<Arc<Pairs>>,
    /// The file as it was when it was first read.
    first: Stamp,
}

/// By what it is seen that a file has changed.
#[derive(Debug, Clone, PartialEq)]
enum Stamp {
    Missing,
    Seen {
        modified: SystemTime,
        length: u64,
        inode: u64,
    },
}

impl Extra {
    pub fn new(config: &config::Config) -> Self {
        let extra = Extra {
            file: config.extra_labels_file.clone(),
            configured: config.extra_labels.clone(),
            bounds: labels::Bounds {
                count: config.max_labels,
                length: config.max_label_length,
            },
            now: RwLock::default(),
            first: config
                .extra_labels_file
                .as_deref()
                .map_or(Stamp::Missing, stamp),
        };
        extra.set(BTreeMap::new());
        if let Some(file) = &extra.file {
            extra.load(file);
        }
        extra
    }

    /// The labels as they are now.
    pub fn labels(&self) -> Arc<Pairs> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file when it has changed, which it looks for every so often,
    /// until `stop`.
    pub async fn watch(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let mut seen = self.first.clone();
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            // A file may lie on a slow disk.
            let (extra, path, before) = (Arc::clone(&self), file.clone(), seen.clone());
            let look = tokio::task::spawn_blocking(move || {
                let now = stamp(&path);
                if now != before {
                    extra.load(&path);
                }
                now
            });
            seen = look.await.unwrap_or(Stamp::Missing);
        }
    }

    /// Reads the file. Where that fails, or it holds too much, the labels
    /// before stay.
    fn load(&self, file: &Path) {
        match read(file, self.bounds) {
            Ok(labels) => {
                let labels_read = counted(labels.len(), "label", "labels");
                log::info!("{labels_read} read from {}", file.display());
                self.set(labels);
            }
            Err(problem) => log::warn!(
                "the labels of {} (operations.extra_labels_file) cannot be read, and those before stay: {problem}",
                file.display()
            ),
        }
    }

    fn set(&self, mut labels: BTreeMap<String, String>) {
        labels.extend(self.configured.clone());
        let pairs = Arc::new(labels.into_iter().collect());
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = pairs;
    }
}

fn stamp(file: &Path) -> Stamp {
    let seen = fs::metadata(file).and_then(|metadata| {
        Ok(Stamp::Seen {
            modified: metadata.modified()?,
            length: metadata.len(),
            inode: metadata.ino(),
        })
    });
    seen.unwrap_or(Stamp::Missing)
}

fn read(file: &Path, bounds: labels::Bounds) -> io::Result<BTreeMap<String, String>> {
    let mut text = String::new();
    fs::File::open(file)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!(
            "it has more than {LONGEST} bytes"
        )));
    }
    let labels = labels::of_file(&text);
    if labels.len() > bounds.count {
        return Err(io::Error::other(
            "it has more labels than operations.max_labels",
        ));
    }
    let long = labels
        .iter()
        .find(|(name, value)| name.len().max(value.len()) > bounds.length);
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

    fn extra(file: &Path) -> Arc<Extra> {
        let mut config = Config::default().operations;
        config.extra_labels_file = Some(file.to_owned());
        config.extra_labels = BTreeMap::from([("a".to_owned(), "set".to_owned())]);
        Arc::new(Extra::new(&config))
    }

    fn shown(extra: &Extra) -> String {
        let pairs: Vec<String> = extra
            .labels()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(",")
    }

    #[test]
    fn settings_go_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("labels");
        // metrics-server waits for ever for a file that is not there.
        assert_eq!(shown(&extra(&file)), "a=set");
        fs::write(&file, "a=\"file\"\nb = 1\n").unwrap();
        assert_eq!(shown(&extra(&file)), "a=set,b=1");
    }

    #[test]
    fn what_is_too_much_is_not_taken() {
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
    async fn a_file_that_changes_is_read_again() {
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
