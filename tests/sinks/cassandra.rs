//! Cassandra, run from its jars: `EXPORTER_PROXY_CASSANDRA` names the folder that has them.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The time for a start: ten seconds, and minutes on a busy machine.
const START: Duration = Duration::from_secs(400);

/// Packages of the Java runtime that Cassandra needs opened.
const OPENS: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];
const EXPORTS: &[&str] = &[
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
];

/// A node. Dropping it ends the process and removes its files.
pub struct Cassandra {
    child: Option<Child>,
    dir: TempDir,
    pub address: String,
}

impl Cassandra {
    /// Starts a node, with further lines in its configuration.
    pub fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [native, storage] = free_ports();
        let folder = dir.path().display();
        let mut config = format!(
            "cluster_name: test\nnum_tokens: 1\n\
             partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
             commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\n\
             endpoint_snitch: SimpleSnitch\nauto_snapshot: false\n\
             listen_address: 127.0.0.1\nrpc_address: 127.0.0.1\n\
             native_transport_port: {native}\nstorage_port: {storage}\n\
             seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    \
             parameters:\n      - seeds: \"127.0.0.1:{storage}\"\n{more}"
        );
        for (key, path) in [
            ("commitlog_directory", "commitlog"),
            ("saved_caches_directory", "caches"),
            ("hints_directory", "hints"),
            ("cdc_raw_directory", "cdc"),
        ] {
            let _ = writeln!(config, "{key}: {folder}/{path}");
        }
        let _ = writeln!(config, "data_file_directories: [{folder}/data]");
        fs::write(dir.path().join("cassandra.yaml"), config).unwrap();
        let mut server = Cassandra {
            child: None,
            dir,
            address: format!("127.0.0.1:{native}"),
        };
        server.start_again();
        server
    }

    /// Starts the node with its existing data.
    pub fn start_again(&mut self) {
        let jars = std::env::var("EXPORTER_PROXY_CASSANDRA")
            .expect("EXPORTER_PROXY_CASSANDRA names the folder: run scripts/test --sinks");
        let dir = self.dir.path();
        let log = dir.join("log");
        let output = fs::File::create(&log).unwrap();
        let mut command = Command::new("java");
        command.args(["-Xms256m", "-Xmx512m", "-Djdk.attach.allowAttachSelf=true"]);
        for (option, packages) in [("--add-opens", OPENS), ("--add-exports", EXPORTS)] {
            for package in packages {
                command.arg(option).arg(format!("{package}=ALL-UNNAMED"));
            }
        }
        let folder = dir.display();
        let child = command
            .arg(format!("-Dcassandra.config=file://{folder}/cassandra.yaml"))
            .arg(format!("-Dcassandra.storagedir={folder}"))
            .arg(format!("-Djava.io.tmpdir={folder}"))
            .arg("-Dcassandra.skip_wait_for_gossip_to_settle=0")
            .arg("-Dcassandra.ring_delay_ms=100")
            .arg("-Dcassandra.superuser_setup_delay_ms=0")
            .arg("-Dcassandra-foreground=yes")
            .arg("-cp")
            .arg(Path::new(&jars).join("*"))
            .arg("org.apache.cassandra.service.CassandraDaemon")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        let child = self.child.insert(child);
        let start = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < START,
                "Cassandra does not start: {ended:?}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops the node as an operator does, so that it keeps all accepted data.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }

    /// A client without TLS.
    pub fn client(&self, login: Option<(&str, &str)>) -> Client {
        let runtime = Runtime::new().unwrap();
        let start = Instant::now();
        loop {
            let mut builder = SessionBuilder::new().known_node(&self.address);
            if let Some((user, password)) = login {
                builder = builder.user(user, password);
            }
            match runtime.block_on(builder.build()) {
                Ok(session) => return Client { runtime, session },
                // The first user is created after the port is open.
                Err(problem) => assert!(start.elapsed() < START, "{problem}"),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An independent reader of the rows.
pub struct Client {
    runtime: Runtime,
    session: Session,
}

impl Client {
    /// Runs a statement that returns no rows.
    pub fn run(&self, statement: &str) {
        let run = self.session.query_unpaged(statement, ());
        self.runtime.block_on(run).unwrap();
    }

    /// The rows of a query.
    pub fn rows<R>(&self, query: &str) -> Vec<R>
    where
        R: for<'a> DeserializeRow<'a, 'a>,
    {
        let found = self.runtime.block_on(self.session.query_unpaged(query, ()));
        let rows = found.unwrap().into_rows_result().unwrap();
        rows.rows::<R>().unwrap().map(Result::unwrap).collect()
    }

    /// The values in a table, in order.
    pub fn values(&self, table: &str) -> Vec<f64> {
        let rows = self.rows::<(f64,)>(&format!("SELECT value FROM {table}"));
        let mut values: Vec<f64> = rows.into_iter().map(|(value,)| value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
