//! Starts the proxy on free ports of the loopback, and ends it by its process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Where a proxy listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub tcp: String,
    pub unix: PathBuf,
    pub http: String,
    /// Where pushes over HTTP are taken.
    pub push: String,
}

/// A proxy that was started here, and is ended with this value.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    pub addresses: Addresses,
    /// Holds the configuration and the socket.
    _dir: TempDir,
}

impl Proxy {
    /// Starts `program` with `more` tables in its configuration. Fails with
    /// the program's own words where it refuses them.
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

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log tells which ports were chosen.
    fn read_addresses(&mut self, mut log: impl BufRead + Send + 'static) -> Result<()> {
        let mut said = String::new();
        let mut line = String::new();
        while log.read_line(&mut line)? > 0 {
            if let Some((_, url)) = line.split_once("serving http://") {
                self.addresses.http = url.trim().trim_end_matches("/metrics").to_owned();
            } else if let Some((_, url)) = line.split_once("accepting pushes on http://") {
                self.addresses.push = url.trim().trim_end_matches("/metrics").to_owned();
            } else if let Some((_, address)) = line.split_once("receiving on TCP socket ") {
                self.addresses.tcp = address.trim().to_owned();
            } else if line.contains("] ready") {
                // The rest of the log is read so that writing it never waits.
                thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok(());
            }
            said.push_str(&line);
            line.clear();
        }
        bail!("the proxy did not start: {}", said.trim())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
