//! Starts the proxy on free ports of the loopback, and kills it when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// Builds the proxy in release mode and returns its path.
///
/// # Errors
///
/// If the build fails. Cargo's own messages go to stderr.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release"])
        .args(["--package", "exporter-proxy", "--bin", "exporter-proxy"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("running cargo build")?;
    ensure!(status.success(), "building the proxy failed");
    beside_this_program()
}

/// Path of the proxy in the target directory of the running program.
///
/// # Errors
///
/// If the proxy is not there.
pub fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // Benchmarks are in `release/deps`, load generators in `release`.
    let dir = this
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps"))
        .context("this program is in no directory")?;
    let program = dir.join("exporter-proxy");
    ensure!(
        program.exists(),
        "{} is not built: run `cargo build --release` first",
        program.display()
    );
    Ok(program)
}

/// Addresses that a proxy listens on.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// TCP receiver, as `host:port`.
    pub tcp: String,
    /// Unix receiver.
    pub unix: PathBuf,
    /// Listener for scrapes, as `host:port`.
    pub http: String,
    /// Listener for pushes over HTTP, as `host:port`.
    pub push: String,
}

/// A proxy started by [`Proxy::start`]; dropping it kills the process.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Addresses it listens on.
    pub addresses: Addresses,
    /// Holds the configuration and the socket.
    _dir: TempDir,
}

impl Proxy {
    /// Starts `program` with `more` tables in its configuration.
    ///
    /// # Errors
    ///
    /// If it does not become ready; the error quotes its log.
    pub fn start(program: &Path, worker_threads: usize, more: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let unix = dir.path().join("receiver.sock");
        let config = dir.path().join("config.toml");
        fs::write(
            &config,
            format!(
                "[exporter]\nworker_threads = {worker_threads}\nscrape_expose_endpoint = \"127.0.0.1:0\"\n\
                 [receiver]\nreceiver_tcp_socket = \"127.0.0.1:0\"\nreceiver_unix_socket = \"{}\"\n{more}",
                unix.display()
            ),
        )?;
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .env("RUST_LOG", "info")
            .env("EXPORTER_PROXY_PUSH_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut proxy = Proxy {
            child,
            addresses: Addresses {
                tcp: String::new(),
                unix,
                http: String::new(),
                push: String::new(),
            },
            _dir: dir,
        };
        proxy.read_addresses(BufReader::new(stderr))?;
        Ok(proxy)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the chosen ports from the log.
    fn read_addresses(&mut self, mut log: impl BufRead + Send + 'static) -> Result<()> {
        let mut said = String::new();
        let mut line = String::new();
        while log.read_line(&mut line)? > 0 {
            if let Some((_, url)) = line.split_once("serving http") {
                self.addresses.http = host_and_port(url);
            } else if let Some((_, url)) = line.split_once("accepting pushes on http") {
                self.addresses.push = host_and_port(url);
            } else if let Some((_, address)) = line.split_once("receiving on TCP socket ") {
                self.addresses.tcp = address.trim().to_owned();
            } else if line.contains("] ready") {
                // Drain the rest of the log, so that the proxy never blocks on writing it.
                thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok(());
            }
            said.push_str(&line);
            line.clear();
        }
        bail!("the proxy did not start: {}", said.trim())
    }
}

/// `host:port` of what follows `http` in a URL.
fn host_and_port(url: &str) -> String {
    let address = url.trim_start_matches('s').trim_start_matches("://");
    address.trim().trim_end_matches("/metrics").to_owned()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
