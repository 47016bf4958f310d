//! `scripts/demo`, and the questions of `docs/learning.md`, sent to the real Prometheus that
//! `scripts/demo` starts.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::printed::PrintedLines;
use crate::harness::{eventually, http_request};
use crate::tools::{Tool, here, root, run};

const DOCUMENT: &str = include_str!("../../docs/learning.md");

/// The time for the metrics to settle, after everything has started.
const SETTLING: Duration = Duration::from_secs(240);

/// The time for everything to end.
const ENDING: Duration = Duration::from_secs(30);

/// A query with the answer that the document promises.
#[derive(Debug)]
struct Question {
    query: &'static str,
    low: f64,
    high: f64,
    /// Labels of the answer, such as `path="/person"`.
    labels: Vec<&'static str>,
}

/// All questions, in the order of the document.
fn questions() -> Vec<Question> {
    let mut blocks = DOCUMENT.split("<!-- answer: ");
    blocks.next();
    let questions = blocks.map(|block| {
        let (answer, rest) = block.split_once(" -->\n```promql\n").expect("a query");
        let (query, _) = rest.split_once("```\n").expect("a query ends");
        let mut parts = answer.split(", ");
        let bounds = parts.next().and_then(|bounds| bounds.split_once(" to "));
        let (low, high) = bounds.expect("two bounds");
        Question {
            query,
            low: low.parse().expect("a number"),
            high: high.parse().expect("a number"),
            labels: parts.collect(),
        }
    });
    questions.collect()
}

impl Question {
    /// The difference between the answer of Prometheus and the document, if there is one.
    fn problem(&self, prometheus: &str) -> Option<String> {
        let encoded: String = self
            .query
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = http_request(prometheus, "GET", &path, &[]).json();
        let problem = |what: &str| Some(format!("{what}: {} {answer}", self.query));
        let result = answer["data"]["result"].as_array().map(Vec::as_slice);
        let Some([series]) = result else {
            return problem("not one series");
        };
        let value = series["value"][1]
            .as_str()
            .and_then(|it| it.parse::<f64>().ok());
        if !value.is_some_and(|value| (self.low..=self.high).contains(&value)) {
            return problem(&format!("not {} to {}", self.low, self.high));
        }
        for label in &self.labels {
            let (name, value) = label.split_once('=').expect("a label");
            if series["metric"][name] != value.trim_matches('"') {
                return problem(label);
            }
        }
        None
    }
}

/// A running `scripts/demo`. Dropping it ends the script, which ends everything it started.
struct Demo(Child);

impl Demo {
    /// Sends SIGTERM, and returns the exit code; none if the script does not end.
    /// SIGINT might do nothing: shells start background programs with SIGINT ignored, and a script
    /// cannot change that.
    fn stop(&mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        run(Command::new("kill").arg(&pid));
        let start = Instant::now();
        loop {
            if let Some(ended) = self.0.try_wait().expect("the script is ours") {
                return ended.code();
            }
            if start.elapsed() > ENDING {
                let _ = self.0.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
    }
}

/// The address after `name` in the script's output.
fn address(printed: &str, name: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with(name));
    let url = line.and_then(|line| line[name.len()..].split_whitespace().next());
    let url = url.unwrap_or_else(|| panic!("{name} in {printed}"));
    let rest = url.strip_prefix("http://").expect("a URL");
    rest.split('/').next().expect("an address").to_owned()
}

#[test]
fn prometheus_answers_the_questions_as_the_document_does() {
    if !here(&[Tool::Prometheus, Tool::Curl]) {
        return;
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_exporter-proxy"));
    let programs = programs.parent().expect("a directory of programs");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "demo"]);
    if programs.ends_with("release") {
        build.arg("--release");
    }
    run(build.current_dir(root()));

    let mut child = Command::new(root().join("scripts/demo"))
        .args(["--free-ports", "--seed", "1", "--programs"])
        .arg(programs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the script starts");
    let printed = PrintedLines::read(child.stdout.take().expect("stdout is piped"));
    let mut problems = child.stderr.take().expect("stderr is piped");
    let mut demo = Demo(child);
    let start = Instant::now();
    while !printed.text().contains("every number moves in Prometheus") {
        if demo.0.try_wait().is_ok_and(|ended| ended.is_some()) {
            let mut text = String::new();
            let _ = problems.read_to_string(&mut text);
            panic!("the script ended: {text}");
        }
        assert!(start.elapsed() < SETTLING, "{}", printed.text());
        thread::sleep(Duration::from_millis(100));
    }
    let printed = printed.text();
    let prometheus = address(&printed, "Prometheus ");

    let mut open = questions();
    assert_eq!(open.len(), 10);
    let start = Instant::now();
    // Each must be answered once: a short stall of the machine changes some answers for half a
    // minute.
    while !open.is_empty() {
        let mut wrong = Vec::new();
        open.retain(|question| {
            let problem = question.problem(&prometheus);
            wrong.extend(problem.clone());
            problem.is_some()
        });
        assert!(start.elapsed() < SETTLING, "{wrong:#?}");
        thread::sleep(Duration::from_millis(500));
    }

    // Every target of the demo is reachable until the stop, and none after it.
    eventually(
        || http_request(&prometheus, "GET", "/api/v1/query?query=up", &[]).json(),
        |up| up["data"]["result"][0]["value"][1] == "1",
    );
    assert_eq!(demo.stop(), Some(143));
    for name in ["service ", "all metrics ", "pushed groups ", "Prometheus "] {
        let address = address(&printed, name);
        assert!(
            TcpStream::connect(&address).is_err(),
            "{name} still answers"
        );
    }
}
