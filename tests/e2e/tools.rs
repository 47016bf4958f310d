//! Programs that a machine may lack, and servers that are started for a test.

use std::fs::OpenOptions;
use std::io::{PipeReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::harness::eventually;
use crate::harness::printed::PrintedLines;

/// The variable that names the file of skipped tests, which `scripts/test` reads.
const SKIPS: &str = "EXPORTER_PROXY_TEST_SKIPS";

/// A tool that a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    Alertmanager,
    Capnp,
    Curl,
    /// Node, with etsy's StatsD among the packages of `tests/clients/node`.
    EtsyStatsd,
    Go,
    /// A JDK, which runs a source file directly.
    Java,
    Netcat,
    Node,
    NodeExporter,
    Openssl,
    Php,
    /// PHP with its extension `sockets`.
    PhpSockets,
    /// Node, with the packages of `tests/clients/node`.
    PromClient,
    Prometheus,
    /// Python of the virtual environment, with prometheus_client.
    PrometheusClient,
    Promtool,
    /// The program of `tests/clients/go`.
    PushClient,
    Pushgateway,
    /// Python of the virtual environment, with pycapnp.
    Pycapnp,
    Python,
    Socat,
    /// A program that passes sockets as systemd does.
    SocketActivate,
    /// Python of the virtual environment, with the packages statsd and datadog.
    StatsdClients,
    Zcat,
}

/// The Prometheus of another version than the system's, if one is named.
fn current_prometheus() -> Option<PathBuf> {
    std::env::var_os("EXPORTER_PROXY_PROMETHEUS").map(PathBuf::from)
}

/// Whether [`Tool::Prometheus`] is of version 3; that of Debian is of version 2.
pub fn prometheus_is_current() -> bool {
    current_prometheus().is_some()
}

impl Tool {
    /// The program. Only those of the virtual environment have a fixed path.
    pub fn program(self) -> PathBuf {
        match self {
            Tool::Alertmanager => "prometheus-alertmanager".into(),
            Tool::Capnp => "capnp".into(),
            Tool::Curl => "curl".into(),
            Tool::Go => "go".into(),
            Tool::Java => "java".into(),
            Tool::Netcat => "nc".into(),
            Tool::EtsyStatsd | Tool::Node | Tool::PromClient => "node".into(),
            Tool::NodeExporter => "prometheus-node-exporter".into(),
            Tool::Openssl => "openssl".into(),
            Tool::Php | Tool::PhpSockets => "php".into(),
            Tool::Prometheus => current_prometheus().unwrap_or_else(|| "prometheus".into()),
            Tool::Promtool => "promtool".into(),
            Tool::PushClient => Path::new(env!("CARGO_TARGET_TMPDIR")).join("push-client"),
            Tool::Pushgateway => "prometheus-pushgateway".into(),
            Tool::Pycapnp | Tool::PrometheusClient | Tool::StatsdClients => {
                root().join(".venv/bin/python")
            }
            Tool::Python => "python3".into(),
            Tool::Socat => "socat".into(),
            Tool::SocketActivate => "systemd-socket-activate".into(),
            Tool::Zcat => "zcat".into(),
        }
    }

    fn is_here(self) -> bool {
        let mut probe = Command::new(self.program());
        match self {
            Tool::PushClient => return push_client_is_built(),
            Tool::EtsyStatsd => probe
                .args(["-e", "require.resolve('statsd/stats.js')"])
                .current_dir(root().join("tests/clients/node")),
            Tool::Go | Tool::Openssl => probe.arg("version"),
            Tool::Java => probe.args(["--describe-module", "jdk.compiler"]),
            Tool::Netcat => probe.arg("-h"),
            Tool::PhpSockets => probe.args(["-r", "socket_strerror(0);"]),
            Tool::PromClient => probe
                .args(["-e", "require('prom-client')"])
                .current_dir(root().join("tests/clients/node")),
            Tool::PrometheusClient => probe.args(["-c", "import prometheus_client"]),
            Tool::Pycapnp => probe.args(["-c", "import capnp"]),
            Tool::Socat => probe.arg("-V"),
            Tool::StatsdClients => probe.args(["-c", "import datadog, statsd"]),
            _ => probe.arg("--version"),
        };
        let Ok(output) = probe.stdin(Stdio::null()).output() else {
            return false;
        };
        match self {
            // The other netcat lacks -U, and its -q differs.
            Tool::Netcat => String::from_utf8_lossy(&output.stderr).contains("OpenBSD"),
            _ => output.status.success(),
        }
    }

    fn describe(self) -> String {
        match self {
            Tool::Java => "java with its compiler".to_owned(),
            Tool::Netcat => "nc (the one of OpenBSD)".to_owned(),
            Tool::PhpSockets => "php with its extension sockets".to_owned(),
            Tool::EtsyStatsd | Tool::PromClient => {
                "node with the packages of tests/clients/node".to_owned()
            }
            Tool::PrometheusClient => "prometheus_client in .venv".to_owned(),
            Tool::PushClient => "go, to build tests/clients/go".to_owned(),
            Tool::Pycapnp => "pycapnp in .venv".to_owned(),
            Tool::StatsdClients => "statsd and datadog in .venv".to_owned(),
            _ => self.program().display().to_string(),
        }
    }
}

/// Whether the test can run. If it lacks a tool, it is recorded as skipped; if nobody would read
/// the record, it fails.
#[must_use]
pub fn here(tools: &[Tool]) -> bool {
    let lacking: Vec<String> = tools
        .iter()
        .filter(|tool| !tool.is_here())
        .map(|tool| tool.describe())
        .collect();
    if lacking.is_empty() {
        return true;
    }
    let lacking = lacking.join(" and ");
    let Some(notes) = std::env::var_os(SKIPS) else {
        panic!("needs {lacking}: run scripts/test");
    };
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // One write of one line in append mode, since tests run concurrently.
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(notes)
        .and_then(|mut file| file.write_all(format!("{test} needs {lacking}\n").as_bytes()))
        .expect("the skip is noted");
    false
}

/// Builds the job in Go, once per run.
fn push_client_is_built() -> bool {
    static BUILT: OnceLock<bool> = OnceLock::new();
    *BUILT.get_or_init(|| {
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(Tool::PushClient.program())
            .arg(".")
            .current_dir(root().join("tests/clients/go"))
            .stdin(Stdio::null())
            .output();
        let trouble = match built {
            Ok(output) if output.status.success() => return true,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("tests/clients/go is not built: {trouble}");
        false
    })
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the sample clients.
pub fn sample(name: &str) -> PathBuf {
    root().join("python_test_clients").join(name)
}

/// A command that runs a tool in the repository, without input and without an HTTP proxy.
pub fn command(tool: Tool) -> Command {
    command_of(&tool.program())
}

pub fn command_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(root())
        // Keeps Python from writing files beside the sample clients.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

/// The output of a successful command.
#[derive(Debug)]
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, which must be successful.
#[track_caller]
pub fn run(command: &mut Command) -> Printed {
    printed(command.output().expect("the command starts"))
}

/// Like [`run`], for a command that reads `input`.
#[track_caller]
pub fn run_with(command: &mut Command, input: &[u8]) -> Printed {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("the command reads"));
        printed(child.wait_with_output().expect("the command ends"))
    })
}

#[track_caller]
fn printed(output: Output) -> Printed {
    let printed = Printed {
        stdout: String::from_utf8(output.stdout).expect("text on stdout"),
        stderr: String::from_utf8(output.stderr).expect("text on stderr"),
    };
    assert!(
        output.status.success(),
        "{}:\n{}{}",
        output.status,
        printed.stdout,
        printed.stderr
    );
    printed
}

/// A server on a port that it chooses. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
    log: PrintedLines<PipeReader>,
    /// Its files, which are removed when it has ended.
    files: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts a server that was told to use port 0. `address` finds the chosen address in its log,
    /// which is on stdout or stderr.
    pub fn start(command: &mut Command, address: impl Fn(&str) -> Option<String>) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = command
            .stdout(writer.try_clone().expect("a second end"))
            .stderr(writer)
            .spawn()
            .expect("the server starts");
        // The command holds the writing ends; they must be closed, so that the log ends with the
        // server.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server {
            child,
            address: String::new(),
            log: PrintedLines::read(reader),
            files: None,
        };
        let found = eventually(
            || (address(&server.log()), server.log()),
            |(found, _)| found.is_some(),
        );
        server.address = found.0.unwrap_or_default();
        server
    }

    /// Keeps a directory for as long as the server runs.
    pub fn keeping(mut self, files: tempfile::TempDir) -> Self {
        self.files = Some(files);
        self
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {}\n{}---", self.address, self.log());
        }
        self.kill();
    }
}

/// `127.0.0.1:port` after the last `Listening on`, as Prometheus and its
/// exporters log it.
pub fn logged_address(log: &str) -> Option<String> {
    let (_, line) = log.rsplit_once("Listening on\"")?;
    // The line may be incomplete.
    let (line, _) = line.split_once('\n')?;
    // In newer programs, the name of a component comes before it.
    let (_, address) = line.split_once(" address=")?;
    address.split_whitespace().next().map(str::to_owned)
}
