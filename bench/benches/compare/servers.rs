//! The compared programs: finds them, starts them on free ports of the loopback, loads them and
//! stops them.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::data::Given;
use bench::client::{Body, Client};
use bench::figures::resident_bytes;
use bench::payload::capnp_message;
use bench::proxy::Proxy;

/// Timeout for a server to start or stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time for Pushgateway to work through its queue: without checks, it answers before it stores a
/// push.
const QUEUE: Duration = Duration::from_millis(50);

/// A program and its Debian package.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
    version: &'static str,
}

pub const NGINX: Tool = Tool {
    program: "nginx",
    package: "nginx-light",
    version: "-v",
};
pub const PUSHGATEWAY: Tool = Tool {
    program: "prometheus-pushgateway",
    package: "prometheus-pushgateway",
    version: "--version",
};
pub const PROMETHEUS: Tool = Tool {
    program: "prometheus",
    package: "prometheus",
    version: "--version",
};
pub const GZIP: Tool = Tool {
    program: "gzip",
    package: "gzip",
    version: "--version",
};

impl Tool {
    /// Path of the program. `sbin` may not be in `PATH`.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
        let places = std::env::split_paths(&path).map(|dir| dir.join(self.program));
        places.into_iter().find(|place| place.is_file())
    }

    /// First line of its version output.
    pub fn version(self) -> Option<String> {
        let output = Command::new(self.find()?).arg(self.version).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        said.lines().next().map(str::to_owned)
    }
}

/// A process that is stopped when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Process(
            command
                .spawn()
                .with_context(|| format!("starting {name}"))?,
        ))
    }

    /// Stops the process with SIGTERM and waits for its end.
    fn stop(&mut self) {
        // On SIGTERM, nginx ends its workers and Pushgateway writes its file. The standard library
        // can only kill.
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.0.id())])
            .status();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits until it answers on `path`.
    fn wait_for(&mut self, address: &str, path: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended at once: {status}");
            }
            let answer = Client::connect(address).and_then(|mut it| it.send("GET", path, &[]));
            match answer {
                Ok(200) => return Ok(()),
                answer if start.elapsed() > PATIENCE => bail!("it does not answer: {answer:?}"),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Adds the current time to every sample.
fn stamped(text: &[u8]) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut stamped = String::new();
    for line in std::str::from_utf8(text)?.lines() {
        stamped.push_str(line);
        if !line.starts_with('#') {
            let _ = write!(stamped, " {now}");
        }
        stamped.push('\n');
    }
    Ok(stamped)
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// One running program.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    /// Address of scrapes, `127.0.0.1:port`.
    pub address: String,
    /// The path to scrape.
    pub path: &'static str,
    /// Its files; removed after it has ended.
    dir: Option<TempDir>,
}

#[derive(Debug)]
enum Kind {
    Proxy(Proxy),
    Nginx(Process),
    Pushgateway(Process),
    Prometheus(Process),
}

impl Server {
    pub fn proxy(program: &Path, worker_threads: usize, more: &str) -> Result<Self> {
        let proxy = Proxy::start(program, worker_threads, more)?;
        Ok(Server {
            address: proxy.addresses.http.clone(),
            kind: Kind::Proxy(proxy),
            path: "/metrics",
            dir: None,
        })
    }

    /// Starts nginx, which serves `text` from a file and from one compressed by `gzip -6`.
    pub fn nginx(text: &[u8]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (home, files) = (dir.path(), dir.path().join("files"));
        fs::create_dir(&files)?;
        // Its workers may run as another user.
        for place in [home, &files] {
            fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(files.join("metrics"), text)?;
        let gzip = GZIP.find().context("gzip is not here")?;
        let packed = Command::new(gzip)
            .args(["-6", "--keep"])
            .arg(files.join("metrics"))
            .status()?;
        ensure!(packed.success(), "gzip failed: {packed}");

        let address = free_address()?;
        let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|it| format!("    {it}_temp_path {}/{it};\n", home.display()))
            .concat();
        let config = home.join("nginx.conf");
        fs::write(
            &config,
            format!(
                "worker_processes auto;\ndaemon off;\npid {home}/pid;\nerror_log stderr;\n\
                 events {{}}\nhttp {{\n{places}    access_log off;\n    sendfile on;\n    \
                 tcp_nopush on;\n    gzip_static on;\n    keepalive_requests 1000000;\n    \
                 default_type \"text/plain; version=0.0.4\";\n    \
                 server {{\n        listen {address};\n        root {home}/files;\n    }}\n}}\n",
                home = home.display(),
            ),
        )?;
        let program = NGINX.find().context("nginx is not here")?;
        let mut process = Process::start(Command::new(program).arg("-c").arg(config))?;
        process.wait_for(&address, "/metrics").context("nginx")?;
        Ok(Server {
            kind: Kind::Nginx(process),
            address,
            path: "/metrics",
            dir: Some(dir),
        })
    }

    /// Starts Pushgateway. With a file, it loads its groups from there and saves them there when it
    /// ends.
    pub fn pushgateway(checks: bool, file: Option<&Path>) -> Result<Self> {
        let address = free_address()?;
        let program = PUSHGATEWAY.find().context("Pushgateway is not here")?;
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address={address}"));
        let file = file.map(|file| file.display().to_string());
        command.arg(format!("--persistence.file={}", file.unwrap_or_default()));
        command.arg("--persistence.interval=1h");
        if !checks {
            command.arg("--push.disable-consistency-check");
        }
        let mut process = Process::start(&mut command)?;
        process
            .wait_for(&address, "/-/ready")
            .context("Pushgateway")?;
        Ok(Server {
            kind: Kind::Pushgateway(process),
            address,
            path: "/metrics",
            dir: None,
        })
    }

    /// Starts Prometheus and waits until it has scraped `samples` samples of a text from nginx. It
    /// then scrapes no more and shows them for an hour.
    ///
    /// The text has timestamps: without them, Prometheus would end series whose target is scraped
    /// so rarely.
    pub fn prometheus(nginx: &Server, text: &[u8], samples: usize) -> Result<Self> {
        let files = nginx.dir.as_ref().context("nginx has no files")?;
        fs::write(files.path().join("files/stamped"), stamped(text)?)?;
        let source = &nginx.address;
        // A large text takes seconds to parse.
        let interval = if samples > 300_000 { "15s" } else { "2s" };
        let dir = tempfile::tempdir()?;
        let address = free_address()?;
        let config = dir.path().join("prometheus.yml");
        let write = |interval: &str, timeout: &str| {
            fs::write(
                &config,
                format!(
                    "scrape_configs:\n- job_name: load\n  scrape_interval: {interval}\n  \
                     scrape_timeout: {timeout}\n  metrics_path: /stamped\n  honor_labels: true\n  static_configs:\n  \
                     - targets: [\"{source}\"]\n"
                ),
            )
        };
        write(interval, interval)?;
        let program = PROMETHEUS.find().context("Prometheus is not here")?;
        let mut process = Process::start(
            Command::new(program)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}/data", dir.path().display()))
                .arg(format!("--web.listen-address={address}"))
                .args(["--web.enable-lifecycle", "--query.lookback-delta=1h"]),
        )?;
        process
            .wait_for(&address, "/-/ready")
            .context("Prometheus")?;

        let mut client = Client::connect(&address)?;
        let query = "/api/v1/query?query=scrape_samples_scraped";
        let start = Instant::now();
        loop {
            ensure!(
                start.elapsed() < 2 * PATIENCE,
                "Prometheus has not scraped {samples} samples"
            );
            client.get(query, false, Body::Keep)?;
            let answer: serde_json::Value = serde_json::from_slice(client.body())?;
            let scraped = answer["data"]["result"][0]["value"][1].as_str();
            let scraped: usize = scraped.and_then(|it| it.parse().ok()).unwrap_or(0);
            if scraped >= samples {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        write("1h", "1m")?;
        let status = client.send("POST", "/-/reload", &[])?;
        ensure!(status == 200, "Prometheus does not reload: {status}");
        Ok(Server {
            kind: Kind::Prometheus(process),
            address,
            path: "/federate?match%5B%5D=%7B__name__%3D~%22.%2B%22%7D",
            dir: Some(dir),
        })
    }

    pub fn unix_socket(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Proxy(proxy) => Some(&proxy.addresses.unix),
            _ => None,
        }
    }

    pub fn tcp_receiver(&self) -> Option<&str> {
        match &self.kind {
            Kind::Proxy(proxy) => Some(&proxy.addresses.tcp),
            _ => None,
        }
    }

    /// Pushes the texts of some apps and waits until all are stored.
    pub fn push(&self, given: &Given, apps: &[usize]) -> Result<()> {
        match &self.kind {
            _ if apps.is_empty() => Ok(()),
            Kind::Proxy(proxy) => {
                let mut stream = UnixStream::connect(&proxy.addresses.unix)?;
                for app in apps {
                    let message = capnp_message(&given.data.app(*app), &given.text(*app));
                    stream.write_all(&message)?;
                }
                stream.shutdown(Shutdown::Write)?;
                read_nothing(stream)
            }
            Kind::Pushgateway(_) => {
                let mut client = Client::connect(&self.address)?;
                for app in apps {
                    put(&mut client, &given.data.app(*app), &given.text(*app))?;
                }
                thread::sleep(QUEUE);
                Ok(())
            }
            Kind::Nginx(_) | Kind::Prometheus(_) => bail!("it takes no pushes"),
        }
    }

    /// Resident memory of all its processes, in bytes.
    pub fn resident(&self) -> Result<f64> {
        let pid = match &self.kind {
            Kind::Proxy(proxy) => proxy.pid(),
            Kind::Nginx(process) | Kind::Pushgateway(process) | Kind::Prometheus(process) => {
                process.0.id()
            }
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|it| it.parse().ok());
        let mut sum = resident_bytes(pid)?;
        for child in children {
            sum += resident_bytes(child)?;
        }
        Ok(sum)
    }
}

/// Replaces a group of Pushgateway.
pub fn put(client: &mut Client, app: &str, text: &str) -> Result<()> {
    let status = client.send("PUT", &format!("/metrics/job/{app}"), text.as_bytes())?;
    // 202 without checks, 200 with them.
    ensure!(matches!(status, 200 | 202), "a PUT was answered {status}");
    Ok(())
}

/// One push of a short-lived sender: on its own connection, until the proxy has closed it.
pub fn push_alone_unix(socket: &Path, document: &[u8]) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(document)?;
    stream.shutdown(Shutdown::Write)?;
    read_nothing(stream)
}

/// Like [`push_alone_unix`], over TCP.
pub fn push_alone_tcp(address: &str, document: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(document)?;
    stream.shutdown(Shutdown::Write)?;
    read_nothing(stream)
}

/// Waits until the proxy has stored everything: it then closes, and answers only if something is
/// wrong.
fn read_nothing(mut stream: impl Read) -> Result<()> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.is_empty(), "the proxy answered: {answer}");
    Ok(())
}
