//! Data to push, changes of it, and the answers to expect.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::bufread::GzDecoder;

use bench::payload::{FIRST_VALUE, app_text};

/// Families per section, if all sections have the same families.
const SAME_FAMILIES: usize = 10;

/// Shape of the apps' texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One family, with the app's name as a label.
    Own,
    /// Several families, the same in every app, with the same labels.
    Same,
}

/// What a correct answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The pushed texts, byte for byte.
    Texts,
    /// All samples with their values.
    Samples,
    /// All samples, one head per family, and an `app` label on each sample.
    Merged,
}

/// Number of apps, and of series per app.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub kind: Kind,
    pub apps: usize,
    pub series: usize,
}

/// State of a server: the version of each app's values.
#[derive(Clone, Debug)]
pub struct Given {
    pub data: Data,
    versions: Vec<u64>,
    /// First app of the next change, so that the changed apps vary.
    turn: usize,
}

impl Data {
    pub fn app(&self, number: usize) -> String {
        format!("load_{number:05}")
    }

    pub fn text(&self, app: usize, version: u64) -> String {
        if self.kind == Kind::Own {
            return app_text(&self.app(app), self.series, version);
        }
        let each = self.series / SAME_FAMILIES;
        let mut text = String::new();
        for family in 0..SAME_FAMILIES {
            text += &format!(
                "# HELP load_{family:02}_total Requests handled.\n# TYPE load_{family:02}_total counter\n"
            );
            for number in 0..each {
                let value = FIRST_VALUE + version + (family * each + number) as u64;
                text += &format!(
                    "load_{family:02}_total{{code=\"200\",handler=\"/api/v1/items\",series=\"{number:04}\"}} {value}\n"
                );
            }
        }
        text
    }

    pub fn size(&self) -> usize {
        (0..self.apps).map(|app| self.text(app, 0).len()).sum()
    }

    pub fn samples(&self) -> usize {
        self.apps * self.series
    }
}

impl Given {
    pub fn new(data: Data) -> Self {
        Given {
            data,
            versions: vec![0; data.apps],
            turn: 0,
        }
    }

    pub fn all(&self) -> Vec<usize> {
        (0..self.data.apps).collect()
    }

    /// Changes the values of a share of the apps, evenly spread, and returns their numbers.
    pub fn change(&mut self, part: f64) -> Vec<usize> {
        let count = (self.data.apps as f64 * part).ceil() as usize;
        if count == 0 {
            return Vec::new();
        }
        self.turn += 1;
        let changed: Vec<usize> = (0..count)
            .map(|it| (it * self.data.apps / count + self.turn) % self.data.apps)
            .collect();
        for app in &changed {
            self.versions[*app] += 1;
        }
        changed
    }

    pub fn text(&self, app: usize) -> String {
        self.data.text(app, self.versions[app])
    }

    /// All texts, ordered by app name.
    fn everything(&self) -> Vec<u8> {
        let texts = self.all().into_iter().map(|app| self.text(app));
        texts.collect::<String>().into_bytes()
    }

    /// The sum of all values.
    fn sum(&self) -> f64 {
        let series = self.data.series as u64;
        let first = series * FIRST_VALUE + series * (series - 1) / 2;
        let sums = self.versions.iter().map(|version| first + series * version);
        sums.sum::<u64>() as f64
    }

    /// Checks an answer. Where the texts themselves are not expected, it compares the sum of all
    /// values.
    pub fn check(&self, body: &[u8], gzip: bool, expected: Expected) -> Result<()> {
        let unpacked;
        let text = if gzip {
            unpacked = unpack(body)?;
            &unpacked
        } else {
            body
        };
        if expected == Expected::Texts {
            let mut apps = Vec::with_capacity(text.len());
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                if !is_own(line) {
                    apps.extend_from_slice(line);
                }
            }
            ensure!(
                apps == self.everything(),
                "the answer is not the text that was pushed"
            );
            return Ok(());
        }
        let text = std::str::from_utf8(text)?;
        if expected == Expected::Merged {
            check_merged(text)?;
        }
        let (samples, sum) = add_up(text)?;
        ensure!(
            samples == self.data.samples() && sum == self.sum(),
            "the answer has {samples} samples that make {sum}; {} were pushed, which make {}",
            self.data.samples(),
            self.sum()
        );
        Ok(())
    }
}

/// Decompresses an answer of exactly one gzip member. Many clients read only the first.
pub fn unpack(body: &[u8]) -> Result<Vec<u8>> {
    let mut rest = body;
    let mut text = Vec::new();
    GzDecoder::new(&mut rest)
        .read_to_end(&mut text)
        .context("the answer is not gzip")?;
    ensure!(
        rest.is_empty(),
        "the answer has more than one member of gzip"
    );
    Ok(text)
}

/// Whether a line is one of the proxy's own metrics.
fn is_own(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"# HELP ").unwrap_or(line);
    let line = line.strip_prefix(b"# TYPE ").unwrap_or(line);
    line.starts_with(b"exporter_proxy_")
}

fn check_merged(text: &str) -> Result<()> {
    let heads = text.lines().filter(|it| it.starts_with("# TYPE load_"));
    let heads = heads.count();
    ensure!(
        heads == SAME_FAMILIES,
        "{SAME_FAMILIES} families have {heads} heads"
    );
    let mut samples = text.lines().filter(|line| line.starts_with("load_"));
    ensure!(
        samples.all(|sample| sample.contains("app=\"load_")),
        "a sample does not tell its app"
    );
    Ok(())
}

/// The number of pushed samples in a text, and the sum of their values.
fn add_up(text: &str) -> Result<(usize, f64)> {
    let (mut samples, mut sum) = (0, 0.0);
    for line in text.lines().filter(|line| line.starts_with("load_")) {
        let (_, value) = line.rsplit_once('}').context("a sample without labels")?;
        let value = value.split_whitespace().next().context("no value")?;
        sum += value.parse::<f64>().context("a value")?;
        samples += 1;
    }
    Ok((samples, sum))
}
