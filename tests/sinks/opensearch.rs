//! Documents to a real OpenSearch. `EXPORTER_PROXY_OPENSEARCH` names the unpacked archive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chown};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::harness::{Proxy, eventually, free_address, http_request, http_send};
use crate::{proxy, send};

/// The ordinary user for OpenSearch, which refuses to run as root.
const NOBODY: u32 = 65534;

/// The size of its heap.
const HEAP: &str = "-Xms384m -Xmx384m";

/// The number of documents, unless `EXPORTER_PROXY_SINKS_DOCUMENTS` has another one.
const DOCUMENTS: usize = 20_000;

/// OpenSearch with its own directory. Dropping it ends the process.
struct OpenSearch {
    child: Child,
    address: String,
}

/// The directory of a server: its settings and its data.
struct Home {
    dir: TempDir,
    program: PathBuf,
}

impl Home {
    fn new() -> Self {
        let archive = std::env::var_os("EXPORTER_PROXY_OPENSEARCH")
            .expect("EXPORTER_PROXY_OPENSEARCH names a directory: run scripts/test --sinks");
        let archive = PathBuf::from(archive);
        let dir = tempdir().unwrap();
        for name in ["config", "data", "logs", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        copy(&archive.join("config"), &dir.path().join("config"));
        // Otherwise Java would write its logs beside the program.
        let file = dir.path().join("config/jvm.options");
        let options = fs::read_to_string(&file).unwrap();
        let options = options.lines().filter(|line| !line.contains("logs/"));
        fs::write(&file, options.collect::<Vec<_>>().join("\n")).unwrap();
        let home = Home {
            dir,
            program: archive.join("bin/opensearch"),
        };
        if Uid::effective().is_root() {
            give(home.dir.path());
        }
        home
    }

    /// Starts the server, and waits until it answers.
    fn start(&self, address: &str) -> OpenSearch {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let (host, port) = address.split_once(':').unwrap();
        let mut command = match Uid::effective().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                    .arg(&self.program);
                command
            }
            false => Command::new(&self.program),
        };
        let settings = [
            "discovery.type=single-node".to_owned(),
            format!("network.host={host}"),
            format!("http.port={port}"),
            // The port of the cluster, which has no other member.
            format!(
                "transport.port={}",
                free_address().rsplit_once(':').unwrap().1
            ),
            "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
            format!("path.data={}", at("data")),
            format!("path.logs={}", at("logs")),
        ];
        let said = self.dir.path().join("output");
        let output = File::create(&said).unwrap();
        for setting in settings {
            command.arg(format!("-E{setting}"));
        }
        let child = command
            .env("OPENSEARCH_PATH_CONF", at("config"))
            .env("OPENSEARCH_JAVA_OPTS", HEAP)
            .env("OPENSEARCH_TMPDIR", at("tmp"))
            .env("OPENSEARCH_JAVA_HOME", java_home())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("OpenSearch starts");
        let mut server = OpenSearch {
            child,
            address: address.to_owned(),
        };
        // On a busy machine, it takes longer than the patience of the tests.
        for _ in 0..20 {
            let ended = server.child.try_wait().unwrap();
            let said = || fs::read_to_string(&said).unwrap_or_default();
            assert_eq!(ended, None, "OpenSearch ended:\n{}", said());
            if server.is_up_soon() {
                return server;
            }
        }
        panic!("OpenSearch does not answer");
    }
}

impl OpenSearch {
    /// Whether it answers within some seconds.
    fn is_up_soon(&self) -> bool {
        for _ in 0..100 {
            if std::net::TcpStream::connect(&self.address).is_ok() {
                let health = "/_cluster/health?wait_for_status=yellow&timeout=5s";
                return http_request(&self.address, "GET", health, &[]).status == 200;
            }
            thread::sleep(std::time::Duration::from_millis(100));
        }
        false
    }

    /// Stops the server as an operator does.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }

    fn search(&self, index: &str, body: &Value) -> Value {
        let refreshed = http_request(&self.address, "POST", &format!("/{index}/_refresh"), &[]);
        assert_eq!(refreshed.status, 200, "{}", refreshed.text());
        let json = [("Content-Type", "application/json")];
        let path = format!("/{index}/_search");
        let body = body.to_string();
        http_send(&self.address, "POST", &path, &json, body.as_bytes()).json()
    }

    /// The number of documents, and the sums of their values and of the squares.
    fn totals(&self, index: &str) -> (u64, f64, f64) {
        let found = self.search(
            index,
            &json!({
                "size": 0,
                "aggs": { "values": { "extended_stats": { "field": "value" } } },
            }),
        );
        let values = &found["aggregations"]["values"];
        let number = |key: &str| values[key].as_f64().unwrap_or_default();
        let count = values["count"].as_u64().unwrap_or_default();
        (count, number("sum"), number("sum_of_squares"))
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The home directory of the Java in the path; the archive has no Java.
fn java_home() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let java = std::env::split_paths(&path).map(|dir| dir.join("java"));
    let java = java.filter_map(|java| fs::canonicalize(java).ok()).next();
    // It contains `bin/java`.
    let java = java.expect("java is in the path");
    java.ancestors().nth(2).unwrap().to_owned()
}

/// Gives a directory to the user of OpenSearch.
fn give(path: &Path) {
    let nobody = (Some(NOBODY.into()), Some(NOBODY.into()));
    chown(path, nobody.0, nobody.1).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// A sink without copies of shards, which a single server cannot have.
fn sink(address: &str, more: &str) -> (Proxy, String) {
    proxy(&format!(
        "[sinks.search]\ntype = \"opensearch\"\nurl = \"http://{address}\"\nindex = \"docs\"\n\
         batch_wait = \"100ms\"\nmax_queue = \"1GiB\"\n\
         template = {{ shards = 1, replicas = 0 }}\n{more}"
    ))
}

/// Documents with these values, each with a time.
fn documents(values: std::ops::Range<usize>) -> String {
    values
        .map(|value| {
            format!(
                "{{\"name\":\"d\",\"op\":\"index\",\"value\":{value},\
                 \"labels\":{{\"app\":\"shop\"}},\"timestamp\":\"2026-01-31T12:00:00.5Z\"}}\n"
            )
        })
        .collect()
}

/// The totals of the values 0 to `count`.
fn expected(count: usize) -> (u64, f64, f64) {
    let values = || (0..count).map(|value| value as f64);
    let squares = values().map(|value| value * value).sum();
    (count as u64, values().sum(), squares)
}

/// The server is restarted while documents arrive: all of them are stored, and none twice.
#[test]
#[ignore = "needs OpenSearch: scripts/test --sinks"]
fn documents_reach_a_server_that_is_restarted_once() {
    let count = std::env::var("EXPORTER_PROXY_SINKS_DOCUMENTS");
    let count: usize = count.map_or(DOCUMENTS, |count| count.parse().unwrap());
    let (home, address) = (Home::new(), free_address());
    let server = home.start(&address);
    let (proxy, operations) = sink(&address, "");
    let part = count / 10;
    let sent = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"search\"}";
    let mut running = Some(server);
    for number in 0..10 {
        if number == 4 {
            // Some are on their way, and the proxy does not know which were taken.
            let server = running.take().unwrap();
            server.stop();
            let up = "exporter_proxy_sink_up{sink=\"search\"}";
            assert_eq!(send(&operations, &documents(4 * part..5 * part)), "");
            eventually(|| proxy.sample(up), |up| *up == Some(0.0));
            running = Some(home.start(&address));
            continue;
        }
        let values = number * part..(number + 1) * part;
        assert_eq!(send(&operations, &documents(values)), "");
    }
    let total = (part * 10) as f64;
    while proxy.sample(sent) != Some(total) {
        // Fails if the sink does not continue.
        let before = proxy.sample(sent);
        eventually(
            || proxy.sample(sent),
            |now| *now != before || *now == Some(total),
        );
    }
    let server = running.unwrap();
    let (found, sum, squares) = server.totals("docs");
    let (wanted, exact_sum, exact_squares) = expected(part * 10);
    assert_eq!((found, sum), (wanted, exact_sum));
    assert!((squares / exact_squares - 1.0).abs() < 1e-9);
    println!("{found} documents sent with a restart in between, {found} there");
    server.stop();
}

/// A document that does not fit the types of the index is refused without the others.
#[test]
#[ignore = "needs OpenSearch: scripts/test --sinks"]
fn a_document_that_is_refused_does_not_spoil_others() {
    let (home, address) = (Home::new(), free_address());
    let server = home.start(&address);
    let (proxy, operations) = sink(&address, "");
    assert_eq!(send(&operations, &documents(0..10)), "");
    let sent = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"search\"}";
    eventually(|| proxy.sample(sent), |sent| *sent == Some(10.0));
    // By now `labels.app` is a text, and cannot have fields.
    let bad = "{\"name\":\"d\",\"op\":\"index\",\"value\":99,\"labels\":{\"app.name\":\"x\"}}\n";
    let text = [documents(10..15), bad.to_owned(), documents(15..20)].concat();
    assert_eq!(send(&operations, &text), "");
    eventually(|| proxy.sample(sent), |sent| *sent == Some(20.0));
    let refused = "exporter_proxy_sink_items_total{result=\"refused\",sink=\"search\"}";
    assert_eq!(proxy.sample(refused), Some(1.0));
    assert_eq!(server.totals("docs"), expected(20));
    let found = server.search("docs", &json!({ "query": { "term": { "value": 7 } } }));
    let document = &found["hits"]["hits"][0]["_source"];
    assert_eq!(document["timestamp"], "2026-01-31T12:00:00.500Z");
    assert_eq!(document["labels"]["app"], "shop");
    let mapping = http_request(&address, "GET", "/docs/_mapping", &[]).json();
    let types = &mapping["docs"]["mappings"]["properties"];
    assert_eq!(
        (&types["timestamp"]["type"], &types["value"]["type"]),
        (&json!("date"), &json!("double"))
    );
    server.stop();
}

/// With storage, documents wait for a server across a kill of the proxy, and are stored once.
#[test]
#[ignore = "needs OpenSearch: scripts/test --sinks"]
fn documents_are_there_once_after_the_proxy_was_killed() {
    let (home, address) = (Home::new(), free_address());
    let server = home.start(&address);
    let directory = tempdir().unwrap();
    let storage = format!("[storage]\npath = {:?}\n", directory.path().join("state"));
    let mut next = 0;
    for round in 0..4 {
        let (mut proxy, operations) = sink(&address, &storage);
        for _ in 0..=round {
            assert_eq!(send(&operations, &documents(next..next + 1000)), "");
            next += 1000;
        }
        // The push is acknowledged once they are stored. Some may already have been sent.
        let pushed = proxy.push("PUT", "/metrics/job/stored", "m 1\n");
        assert_eq!(pushed.status, 200);
        proxy.signal("KILL");
        proxy.wait();
    }
    let (proxy, _) = sink(&address, &storage);
    let waiting = "exporter_proxy_sink_queued_items{sink=\"search\"}";
    eventually(|| proxy.sample(waiting), |items| *items == Some(0.0));
    assert_eq!(server.totals("docs"), expected(next));
    server.stop();
}
