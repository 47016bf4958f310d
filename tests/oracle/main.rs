//! Compares the parser with the reference's two parsers, over a corpus and mutants of it: verdicts
//! and samples must be the same, or the difference must have a name here and a row in
//! `docs/compliance.md`.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks, wait and pass environments"
)]

mod cases;
mod protobuf;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use exporter_proxy::exposition::{
    Families, InputFormat, Labels, ParseError, ParseProblem, ParsedLine, Parser, TextLimits,
    unescape,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The number of mutants of each text.
const ROUNDS: usize = 200;

/// Deliberate differences from the reference, with the names of their rows in
/// `docs/compliance.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    LastNewline,
    LeadingBlank,
    Crlf,
    DuplicateSeries,
    NulInComment,
    IncompleteHead,
    NameFirst,
    HashWithoutBlank,
    HalfQuotedName,
    OpenMetricsEscapes,
    OpenMetricsMetadata,
    OpenMetricsBounds,
    OpenMetricsTime,
    OpenMetricsLineFeed,
    OpenMetricsReserved,
    OpenMetricsNul,
    OpenMetricsEmptyName,
}

impl Difference {
    const ALL: [Difference; 17] = [
        Difference::LastNewline,
        Difference::LeadingBlank,
        Difference::Crlf,
        Difference::DuplicateSeries,
        Difference::NulInComment,
        Difference::IncompleteHead,
        Difference::NameFirst,
        Difference::HashWithoutBlank,
        Difference::HalfQuotedName,
        Difference::OpenMetricsEscapes,
        Difference::OpenMetricsMetadata,
        Difference::OpenMetricsBounds,
        Difference::OpenMetricsTime,
        Difference::OpenMetricsLineFeed,
        Difference::OpenMetricsReserved,
        Difference::OpenMetricsNul,
        Difference::OpenMetricsEmptyName,
    ];

    fn name(self) -> &'static str {
        match self {
            Difference::LastNewline => "last-newline",
            Difference::LeadingBlank => "leading-blank",
            Difference::Crlf => "crlf",
            Difference::DuplicateSeries => "duplicate-series",
            Difference::NulInComment => "nul-in-comment",
            Difference::IncompleteHead => "incomplete-head",
            Difference::NameFirst => "name-first",
            Difference::HashWithoutBlank => "hash-without-blank",
            Difference::HalfQuotedName => "half-quoted-name",
            Difference::OpenMetricsEscapes => "openmetrics-escapes",
            Difference::OpenMetricsMetadata => "openmetrics-metadata",
            Difference::OpenMetricsBounds => "openmetrics-bounds",
            Difference::OpenMetricsTime => "openmetrics-time",
            Difference::OpenMetricsLineFeed => "openmetrics-line-feed",
            Difference::OpenMetricsReserved => "openmetrics-reserved",
            Difference::OpenMetricsNul => "openmetrics-nul",
            Difference::OpenMetricsEmptyName => "openmetrics-empty-name",
        }
    }

    /// The difference that allows the proxy to reject a text that the reference accepts.
    fn of_refusal(text: &str, format: InputFormat, error: &ParseError) -> Option<Difference> {
        let line = text.split('\n').nth(error.line - 1).unwrap_or_default();
        let open_metrics = format == InputFormat::OpenMetrics;
        Some(match &error.problem {
            ParseProblem::CarriageReturn => Difference::Crlf,
            ParseProblem::DuplicateSeries { .. } => Difference::DuplicateSeries,
            ParseProblem::SecondHelp { .. }
            | ParseProblem::SecondType { .. }
            | ParseProblem::SecondUnit { .. }
            | ParseProblem::TypeAfterSamples { .. }
                if open_metrics =>
            {
                Difference::OpenMetricsMetadata
            }
            ParseProblem::Unexpected { expected, found } if open_metrics => {
                if expected.contains("the only escapes") {
                    Difference::OpenMetricsEscapes
                } else if expected.contains("a histogram's") || expected.contains("a summary's") {
                    Difference::OpenMetricsBounds
                } else if expected.contains("a timestamp in seconds") {
                    Difference::OpenMetricsTime
                } else if expected.contains("a closing '\"'") {
                    Difference::OpenMetricsLineFeed
                } else if expected.contains("the reserved __name__") {
                    Difference::OpenMetricsReserved
                } else if line.contains('\0') {
                    Difference::OpenMetricsNul
                } else if line.starts_with("# ") && found == "\"\"" {
                    Difference::OpenMetricsEmptyName
                } else {
                    return None;
                }
            }
            ParseProblem::Unexpected { expected, found } => {
                if expected.contains("without NUL") {
                    Difference::NulInComment
                } else if expected.contains("the metric's name in quotes") {
                    Difference::NameFirst
                } else if expected.contains("a blank after the metric's name") && found == "'\"'" {
                    Difference::HalfQuotedName
                } else if ["#HELP", "#TYPE"]
                    .iter()
                    .any(|head| line.trim().starts_with(head))
                {
                    Difference::HashWithoutBlank
                } else {
                    return None;
                }
            }
            _ => return None,
        })
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    scrape: Verdict,
    expfmt: Option<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    error: String,
    samples: Option<Vec<Read>>,
}

/// A sample in a form that both sides share: its name as the first label, without a label name,
/// then its labels by name, all unescaped.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Read {
    labels: Vec<(String, String)>,
    value: String,
    timestamp: Option<i64>,
}

#[test]
fn the_parser_accepts_and_rejects_what_the_reference_does() {
    let Some(oracle) = oracle() else { return };
    let texts = texts();
    let requests = texts
        .iter()
        .map(|(format, text)| (cases::as_word(*format), text.as_bytes()));
    let answers: Vec<Answer> = ask(&oracle, &requests.collect::<Vec<_>>());
    assert_eq!(answers.len(), texts.len());

    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for ((format, text), answer) in texts.iter().zip(&answers) {
        match compare(*format, text, answer) {
            Ok(differences) => seen.extend(differences),
            Err(fault) => faults.push(format!("{format:?} {text:?}\n  {fault}")),
        }
    }
    let shown = faults.iter().take(20).map(String::as_str);
    assert!(
        faults.is_empty(),
        "{} of {} texts:\n{}",
        faults.len(),
        texts.len(),
        shown.collect::<Vec<_>>().join("\n")
    );
    let missing: Vec<_> = Difference::ALL
        .into_iter()
        .filter(|difference| !seen.contains(difference))
        .collect();
    assert!(missing.is_empty(), "differences no text shows: {missing:?}");
}

#[test]
fn every_difference_has_its_row_in_the_list_of_them() {
    let list = fs::read_to_string(root().join("docs/compliance.md")).expect("docs/compliance.md");
    for difference in Difference::ALL {
        let row = format!("| `{}` |", difference.name());
        assert!(list.contains(&row), "no row {row}");
    }
    let rows = list.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Difference::ALL.len(), "rows without a difference");
}

/// The allowed differences between the two sides, or an error for any other.
fn compare(format: InputFormat, text: &str, answer: &Answer) -> Result<Vec<Difference>, String> {
    let refusals: Vec<&str> = [Some(&answer.scrape), answer.expfmt.as_ref()]
        .into_iter()
        .flatten()
        .map(|verdict| verdict.error.as_str())
        .filter(|error| !error.is_empty())
        .collect();
    let ours = Families::parse(text, format, &TextLimits::default());
    let mut differences = Vec::new();
    match ours {
        Err(error) if refusals.is_empty() => {
            let named = Difference::of_refusal(text, format, &error);
            differences.push(named.ok_or_else(|| format!("rejected alone: {error}"))?);
        }
        Err(_) => {}
        // The text is read, but not passed through unchanged.
        Ok(families) if families.verbatim_problem().is_some() => {
            let expfmt = answer.expfmt.as_ref().map(|verdict| verdict.error.as_str());
            let taken = expfmt.is_some_and(|error| {
                error.is_empty() || error.ends_with("unexpected end of input stream")
            });
            if answer.scrape.error.is_empty() || !taken {
                return Err(format!("unfit as it is alone: {refusals:?}"));
            }
            differences.push(Difference::IncompleteHead);
        }
        Ok(_) if refusals.is_empty() => {
            let theirs = answer.scrape.samples.clone().unwrap_or_default();
            let ours = read(format, text);
            if ours.len() != theirs.len() {
                return Err(format!("{} samples, not {}", ours.len(), theirs.len()));
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                differences.extend(same(ours, theirs)?);
            }
        }
        // `expfmt` reports exactly this for a text whose last line has no line feed.
        Ok(_) if !text.ends_with('\n') && refusals.len() == 1 => {
            let said = refusals[0];
            if !said.ends_with("unexpected end of input stream") {
                return Err(format!("accepted alone: {said}"));
            }
            differences.push(Difference::LastNewline);
        }
        Ok(_) => return Err(format!("accepted alone: {refusals:?}")),
    }
    Ok(differences)
}

/// The samples of a valid text, in order.
fn read(format: InputFormat, text: &str) -> Vec<Read> {
    let mut parser = Parser::new(text, format);
    let mut labels = Labels::new();
    let mut read = Vec::new();
    while let Some(entry) = parser.next(&mut labels).expect("valid by the families") {
        let ParsedLine::Sample(sample) = entry else {
            continue;
        };
        let mut pairs: Vec<(String, String)> = labels
            .iter()
            .map(|label| (unescape(label.name), unescape(label.value)))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        pairs.sort();
        pairs.insert(0, (String::new(), unescape(sample.name).into_owned()));
        let value = if sample.value.is_nan() {
            "nan".to_owned()
        } else {
            sample.value.to_bits().to_string()
        };
        read.push(Read {
            labels: pairs,
            value,
            timestamp: sample.timestamp.map(|timestamp| timestamp.milliseconds),
        });
    }
    read
}

fn same(ours: &Read, theirs: &Read) -> Result<Option<Difference>, String> {
    let mut theirs = theirs.clone();
    let mut difference = None;
    let name = theirs.labels[0].1.clone();
    if name != ours.labels[0].1 && name.trim_start_matches([' ', '\t']) == ours.labels[0].1 {
        theirs.labels[0].1.clone_from(&ours.labels[0].1);
        difference = Some(Difference::LeadingBlank);
    }
    // The scrape parser normalizes the numbers in these two labels, even in samples of other
    // families, and even numbers that it accepts nowhere else.
    for (ours, theirs) in ours.labels.iter().zip(&mut theirs.labels) {
        let number = ["le", "quantile"].contains(&ours.0.as_str()) && ours.0 == theirs.0;
        let bits = |text: &str| text.replace('_', "").parse().map(f64::to_bits).ok();
        if number && bits(&ours.1).is_some() && bits(&ours.1) == bits(&theirs.1) {
            theirs.1.clone_from(&ours.1);
        }
    }
    if *ours == theirs {
        Ok(difference)
    } else {
        Err(format!("read {ours:?}, not {theirs:?}"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The corpus, the small cases, and mutants of both.
fn texts() -> Vec<(InputFormat, String)> {
    let mut texts = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/data/exposition"))
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().expect("a file").to_string_lossy();
        let format = if name.starts_with("openmetrics-") {
            InputFormat::OpenMetrics
        } else {
            InputFormat::Text
        };
        texts.push((format, fs::read_to_string(&file).expect("a text")));
    }
    texts.extend(
        cases::TEXT
            .iter()
            .map(|it| (InputFormat::Text, (*it).to_owned())),
    );
    let open_metrics = cases::OPEN_METRICS.iter();
    texts.extend(open_metrics.map(|it| (InputFormat::OpenMetrics, (*it).to_owned())));
    for number in cases::NUMBERS {
        texts.push((InputFormat::Text, format!("m {number}\n")));
        texts.push((InputFormat::OpenMetrics, format!("m {number}\n# EOF\n")));
    }
    let mutants: Vec<_> = texts
        .iter()
        .enumerate()
        .flat_map(|(seed, (format, text))| {
            let mutants = cases::mutants(text, seed as u64 * 2_654_435_761 + 97, ROUNDS);
            mutants.into_iter().map(|mutant| (*format, mutant))
        })
        .collect();
    texts.extend(mutants);
    texts
}

/// Asks the oracle. Each request is a word and its bytes.
fn ask<T: DeserializeOwned>(oracle: &Path, requests: &[(&str, &[u8])]) -> Vec<T> {
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts");
    let mut stdin = child.stdin.take().expect("its input");
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    let answers = thread::scope(|scope| {
        scope.spawn(move || {
            for (word, bytes) in requests {
                writeln!(stdin, "{word} {}", bytes.len()).expect("the oracle reads");
                stdin.write_all(bytes).expect("the oracle reads");
            }
        });
        stdout
            .lines()
            .map(|line| serde_json::from_str(&line.expect("a line")).expect("an answer"))
            .collect()
    });
    assert!(child.wait().expect("the oracle ends").success());
    answers
}

/// Builds the oracle. `None` if it cannot be built here, which is recorded.
fn oracle() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exposition-oracle");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root().join("tests/oracle"))
        .output();
    let trouble = match built {
        Ok(output) if output.status.success() => return Some(program),
        Ok(output) => String::from_utf8_lossy(&output.stderr).replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    skip(&format!("go, to build tests/oracle: {trouble}"));
    None
}

/// Records that this test could not run, for `scripts/test`.
fn skip(needs: &str) {
    let Some(notes) = std::env::var_os("EXPORTER_PROXY_TEST_SKIPS") else {
        panic!("needs go: run scripts/test ({needs})");
    };
    let mut notes = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(notes)
        .expect("the file of skips");
    writeln!(notes, "oracle: needs {needs}").expect("the file of skips");
}
