//! The cases: their data, their servers, and what is measured.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::data::{Data, Expected, Given, Kind};
use crate::measure::{Contestant, Effort, Measured, Memory, Who, rounds};
use crate::pushes::{self, Pushes};
use crate::servers::{GZIP, NGINX, PROMETHEUS, PUSHGATEWAY, Server};

/// Configuration of a proxy in merged mode.
const MERGED: &str = "[exposition]\nmode = \"merged\"\napp_label = \"app\"\n";

/// Memory that Prometheus needs per series, answers included, generously estimated.
const PROMETHEUS_SERIES: usize = 6_000;

/// Cases with more samples have three rounds at most; a round takes half a minute.
const MANY_SAMPLES: usize = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name for `--only`.
    pub name: &'static str,
    pub data: Data,
    /// Whether pushes are measured too.
    pub pushes: bool,
}

/// The longest case is last and has as many rounds as the time allows.
pub const CASES: [Case; 4] = [
    Case::new("apps", Kind::Own, 1_000, 100, true),
    Case::new("small", Kind::Own, 20_000, 5, false),
    Case::new("merged", Kind::Same, 1_000, 100, false),
    Case::new("big", Kind::Own, 100, 10_000, false),
];

impl Case {
    const fn new(name: &'static str, kind: Kind, apps: usize, series: usize, pushes: bool) -> Self {
        Case {
            name,
            data: Data { kind, apps, series },
            pushes,
        }
    }

    pub fn title(&self) -> String {
        let Data { kind, apps, series } = self.data;
        match kind {
            Kind::Own => format!("{apps} apps x {series} series"),
            Kind::Same => {
                format!("{apps} sections with the same families, {series} series each, merged")
            }
        }
    }

    /// The same with a tenth of the apps.
    pub fn quick(mut self) -> Self {
        self.data.apps /= 10;
        self
    }
}

/// Settings of the whole run.
#[derive(Debug)]
pub struct Setup {
    pub program: PathBuf,
    pub worker_threads: usize,
    pub effort: Effort,
}

/// Fastest of several runs over one text, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// `gzip -1` as a process, if it is installed.
    pub process: Option<f64>,
    /// `zlib-rs` at level 1, in this process.
    pub flate2: f64,
    pub flate2_size: usize,
}

/// Results of a case.
#[derive(Debug)]
pub struct Outcome {
    pub case: Case,
    /// Bytes pushed.
    pub text: usize,
    pub measured: Measured,
    pub memory: Vec<(Who, Memory)>,
    pub yardstick: Option<Yardstick>,
    pub pushes: Option<Pushes>,
    /// Missing figures, and why.
    pub notes: Vec<String>,
}

/// Runs a case. An error says why it cannot run.
pub fn run(case: Case, setup: &Setup) -> Result<Outcome> {
    let mut effort = setup.effort;
    if case.data.samples() >= MANY_SAMPLES {
        effort.rounds = effort.rounds.min(3);
    }
    let mut outcome = Outcome {
        case,
        text: case.data.size(),
        measured: Measured::default(),
        memory: Vec::new(),
        yardstick: None,
        pushes: None,
        notes: Vec::new(),
    };
    let merged = case.data.kind == Kind::Same;
    let mut contestants = Vec::new();

    // Start the proxies first: nginx serves the answer of the first one.
    let verbatim = (Who::Proxy, "", Expected::Texts);
    let modes = if merged {
        vec![(Who::Merged, MERGED, Expected::Merged), verbatim]
    } else {
        vec![verbatim]
    };
    let mut text = Vec::new();
    for (who, config, expected) in modes {
        let server = Server::proxy(&setup.program, setup.worker_threads, config)?;
        let mut contestant = load(who, server, case.data, expected)?;
        let answer = contestant.first_scrapes(&mut outcome.measured)?;
        if text.is_empty() {
            text = answer;
        }
        contestants.push(contestant);
    }

    let file = if merged {
        Expected::Merged
    } else {
        Expected::Texts
    };
    let peers = [
        (Who::Nginx, NGINX),
        (Who::Pushgateway, PUSHGATEWAY),
        (Who::PushgatewayChecked, PUSHGATEWAY),
        (Who::Prometheus, PROMETHEUS),
    ];
    for (who, tool) in peers {
        if who == Who::PushgatewayChecked && !case.pushes {
            continue;
        }
        if tool.find().is_none() {
            outcome.notes.push(format!(
                "{}: not measured, since {} is not installed.",
                who.name(),
                tool.program
            ));
            continue;
        }
        let contestant = match who {
            Who::Nginx => Server::nginx(&text)
                .and_then(|it| Contestant::new(who, it, Given::new(case.data), file)),
            Who::Pushgateway => Server::pushgateway(false, None)
                .and_then(|it| load(who, it, case.data, Expected::Samples)),
            Who::PushgatewayChecked => checked_pushgateway(case.data),
            _ => prometheus(&contestants, &text, case.data),
        };
        let scraped = contestant.and_then(|mut contestant| {
            contestant.first_scrapes(&mut outcome.measured)?;
            Ok(contestant)
        });
        match scraped {
            Ok(contestant) => contestants.push(contestant),
            Err(error) => outcome
                .notes
                .push(format!("{}: not measured: {error:#}.", who.name())),
        }
    }

    let mut gzip = GzipRuns::new(&text)?;
    rounds(&mut contestants, &mut outcome.measured, &effort, || {
        gzip.run()
    })?;
    outcome.yardstick = Some(gzip.fastest());
    if contestants.iter().any(Contestant::is_slow) {
        outcome.notes.push(
            "Servers that take more than three seconds for a scrape have two rounds, with nothing and everything changed, and one scraper."
                .to_owned(),
        );
    }
    if case.pushes && effort.is_over() {
        outcome
            .notes
            .push("Pushes: not measured, since the time is up.".to_owned());
    } else if case.pushes {
        outcome.pushes = Some(pushes::run(&mut contestants, &effort)?);
    }
    for contestant in contestants {
        outcome.memory.push((contestant.who, contestant.memory));
        if let Some(failure) = contestant.failure {
            let name = contestant.who.name();
            outcome
                .notes
                .push(format!("{name}: figures thrown away: {failure}."));
        }
    }
    Ok(outcome)
}

/// Pushes the texts of all apps to a server.
fn load(who: Who, server: Server, data: Data, expected: Expected) -> Result<Contestant> {
    let given = Given::new(data);
    server.push(&given, &given.all())?;
    Contestant::new(who, server, given, expected)
}

/// Starts a Pushgateway with checks. Loading it would take minutes, since each push looks at all
/// groups, so it starts from the file that an instance without checks has written.
fn checked_pushgateway(data: Data) -> Result<Contestant> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("groups");
    let given = Given::new(data);
    let unchecked = Server::pushgateway(false, Some(&file))?;
    unchecked.push(&given, &given.all())?;
    drop(unchecked);
    let server = Server::pushgateway(true, Some(&file))?;
    Contestant::new(Who::PushgatewayChecked, server, given, Expected::Samples)
}

fn prometheus(others: &[Contestant], text: &[u8], data: Data) -> Result<Contestant> {
    let nginx = others.iter().find(|it| it.who == Who::Nginx);
    let nginx = nginx.context("nginx is what it would scrape")?;
    let needed = data.samples() * PROMETHEUS_SERIES;
    let free = available_memory().unwrap_or(0);
    ensure!(
        free > needed,
        "it may need {} MB of memory, and {} MB are free",
        needed / 1_000_000,
        free / 1_000_000
    );
    let server = Server::prometheus(&nginx.server, text, data.samples())?;
    Contestant::new(Who::Prometheus, server, Given::new(data), Expected::Samples)
}

fn available_memory() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// `gzip -1`, run once per round over a text.
struct GzipRuns {
    file: tempfile::NamedTempFile,
    text: Vec<u8>,
    process: Option<Duration>,
    flate2: Duration,
    flate2_size: usize,
}

impl GzipRuns {
    fn new(text: &[u8]) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), text)?;
        Ok(GzipRuns {
            file,
            text: text.to_vec(),
            process: None,
            flate2: Duration::MAX,
            flate2_size: 0,
        })
    }

    fn run(&mut self) -> Result<()> {
        if let Some(gzip) = GZIP.find() {
            let start = Instant::now();
            let status = Command::new(gzip)
                .args(["-1", "--stdout"])
                .arg(self.file.path())
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "gzip failed: {status}");
            let time = start.elapsed();
            self.process = Some(self.process.map_or(time, |best| best.min(time)));
        }
        let start = Instant::now();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::Write::write_all(&mut encoder, &self.text)?;
        self.flate2_size = encoder.finish()?.len();
        self.flate2 = self.flate2.min(start.elapsed());
        Ok(())
    }

    fn fastest(&self) -> Yardstick {
        Yardstick {
            process: self.process.map(|it| it.as_secs_f64()),
            flate2: self.flate2.as_secs_f64(),
            flate2_size: self.flate2_size,
        }
    }
}
