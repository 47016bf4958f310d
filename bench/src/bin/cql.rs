//! Writes raw values to Cassandra or ScyllaDB: rows a second by the proxy's sink, and by the driver
//! alone with the same table, requests and concurrency. Both run in turn against one server.
//!
//! ```text
//! cargo build --release -p exporter-proxy -p bench
//! target/release/cql --server 127.0.0.1:9042
//! ```
//!
//! The keyspace `bench` is created, and removed at the end. The proxy is started from the
//! directory of this program; its time begins with the first message over a socket, and ends when
//! the server has acknowledged the last row.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use tokio::runtime::Runtime;

use bench::client::{Body, Client};
use bench::figures::median;
use bench::proxy::{self, Proxy};

/// The same limits as in the sink.
const MAX_ROWS: usize = 100;
const IN_FLIGHT: usize = 256;
const BATCH_ITEMS: usize = 20_000;

/// The time of the first value, in seconds since 1970, and how long a round may take.
const START: i64 = 1_769_860_800;
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Parser)]
#[command(about = "Writes rows by the proxy and by the driver alone, and prints the rates.")]
struct Arguments {
    /// A node, host:port
    #[arg(long)]
    server: String,
    /// Rows of one round
    #[arg(long, default_value_t = 200_000)]
    count: usize,
    /// Series that they belong to; with as many as rows, no two rows share a request
    #[arg(long, default_value_t = 500)]
    series: usize,
    /// Rounds of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The proxy to start [default: the one in this program's directory]
    #[arg(long)]
    proxy: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.series > 0 && arguments.rounds > 0,
        "nothing to do"
    );
    let program = match &arguments.proxy {
        Some(program) => program.clone(),
        None => proxy::beside_this_program()?,
    };
    let runtime = Runtime::new()?;
    let session = runtime.block_on(SessionBuilder::new().known_node(&arguments.server).build())?;
    let run = |statement: &str| -> Result<()> {
        runtime.block_on(session.query_unpaged(statement, ()))?;
        Ok(())
    };
    run("DROP KEYSPACE IF EXISTS bench")?;
    run(
        "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
    )?;
    for table in ["proxy", "driver"] {
        run(&format!(
            "CREATE TABLE bench.{table} (name text, labels frozen<map<text, text>>, \
             timestamp timestamp, value double, PRIMARY KEY ((name, labels), timestamp))"
        ))?;
    }
    let insert = session
        .prepare("INSERT INTO bench.driver (name, labels, timestamp, value) VALUES (?, ?, ?, ?)");
    let mut insert = runtime.block_on(insert)?;
    insert.set_is_idempotent(true);
    insert.set_consistency(Consistency::LocalQuorum);

    let rows: Vec<Row> = (0..arguments.count)
        .map(|number| Row::new(number, arguments.series))
        .collect();
    let messages = messages(&rows);
    let mut sink = ByProxy::start(&program, &arguments.server)?;
    let (mut by_proxy, mut by_driver) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        // The order alternates.
        for is_proxy in [round % 2 == 0, round % 2 == 1] {
            let start = Instant::now();
            let (name, rates) = match is_proxy {
                true => {
                    sink.write(&messages, rows.len())?;
                    ("proxy", &mut by_proxy)
                }
                false => {
                    runtime.block_on(write(&session, &insert, &rows))?;
                    ("driver", &mut by_driver)
                }
            };
            let rate = rows.len() as f64 / start.elapsed().as_secs_f64();
            println!("round {round} {name}_rows_per_second {rate:.0}");
            rates.push(rate);
            if round == 1 {
                let found = runtime.block_on(count(&session, name))?;
                ensure!(found == rows.len(), "bench.{name} has {found} rows");
            }
            run(&format!("TRUNCATE bench.{name}"))?;
        }
    }
    let (by_proxy, by_driver) = (median(by_proxy), median(by_driver));
    println!("proxy_rows_per_second {by_proxy:.0}");
    println!("driver_rows_per_second {by_driver:.0}");
    println!("proxy_to_driver {:.3}", by_proxy / by_driver);
    drop(sink);
    run("DROP KEYSPACE bench")?;
    Ok(())
}

/// A value of a series.
struct Row {
    labels: BTreeMap<String, String>,
    milli: i64,
    value: f64,
}

const NAME: &str = "http_request_duration_seconds";

impl Row {
    fn new(number: usize, series: usize) -> Self {
        let label = |name: &str, value: String| (name.to_owned(), value);
        Row {
            labels: BTreeMap::from([
                label("app", "shop".to_owned()),
                label("instance", format!("host-{:06}", number % series)),
                label("method", "GET".to_owned()),
            ]),
            milli: START * 1000 + (number / series) as i64,
            value: number as f64 / 8.0,
        }
    }
}

/// The rows as messages of the op `raw`.
fn messages(rows: &[Row]) -> Vec<u8> {
    let mut text = String::new();
    for row in rows {
        let date = chrono::DateTime::from_timestamp_millis(row.milli).unwrap_or_default();
        let _ = write!(
            text,
            "{{\"op\":\"raw\",\"name\":\"{NAME}\",\"value\":{},\"timestamp\":\"{}\",\"labels\":{{",
            row.value,
            date.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        );
        for (at, (name, value)) in row.labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\"{name}\":\"{value}\"");
        }
        text.push_str("}}\n");
    }
    text.into_bytes()
}

/// Writes rows with the driver alone: those of a partition together, as in the sink.
async fn write(session: &Session, insert: &PreparedStatement, rows: &[Row]) -> Result<()> {
    let requests = rows.chunks(BATCH_ITEMS).flat_map(|rows| {
        let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            let values = (NAME, &row.labels, CqlTimestamp(row.milli), row.value);
            partitions.entry(&row.labels).or_default().push(values);
        }
        let parts = partitions.into_values().flat_map(|rows| {
            let parts: Vec<Vec<_>> = rows.chunks(MAX_ROWS).map(<[_]>::to_vec).collect();
            parts
        });
        parts.collect::<Vec<_>>()
    });
    let sent = stream::iter(requests).map(|rows| async move {
        match &rows[..] {
            [row] => drop(session.execute_unpaged(insert, row).await?),
            rows => {
                let statement = BatchStatement::PreparedStatement(insert.clone());
                let statements = vec![statement; rows.len()];
                let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
                batch.set_is_idempotent(true);
                drop(session.batch(&batch, rows).await?);
            }
        }
        anyhow::Ok(())
    });
    sent.buffer_unordered(IN_FLIGHT).try_collect::<()>().await
}

/// The rows of a table.
async fn count(session: &Session, table: &str) -> Result<usize> {
    let query = format!("SELECT value FROM bench.{table}");
    let rows = session
        .query_iter(query, ())
        .await?
        .rows_stream::<(f64,)>()?;
    Ok(rows
        .try_fold(0, |count, _| async move { Ok(count + 1) })
        .await?)
}

/// The proxy with a sink for the rows.
struct ByProxy {
    proxy: Proxy,
    _dir: tempfile::TempDir,
    socket: PathBuf,
    sent: usize,
}

impl ByProxy {
    fn start(program: &std::path::Path, server: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("operations.sock");
        let more = format!(
            "[operations]\nunix_sockets = [\"{}\"]\n[sinks.raw]\ntype = \"cql\"\n\
             hosts = [\"{server}\"]\ntable = \"bench.proxy\"\nmax_queue = \"1GiB\"\n",
            socket.display()
        );
        Ok(ByProxy {
            proxy: Proxy::start(program, 2, &more)?,
            _dir: dir,
            socket,
            sent: 0,
        })
    }

    /// Sends messages, and waits until all of them are rows.
    fn write(&mut self, messages: &[u8], rows: usize) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(messages)?;
        drop(stream);
        self.sent += rows;
        let start = Instant::now();
        let mut client = Client::connect(&self.proxy.addresses.http)?;
        loop {
            client.get("/api/v1/sinks", false, Body::Keep)?;
            let list: serde_json::Value = serde_json::from_slice(client.body())?;
            let items = &list["data"][0]["items"];
            if items["ok"] == self.sent {
                return Ok(());
            }
            ensure!(start.elapsed() < LIMIT, "not all rows are written: {list}");
            sleep(Duration::from_millis(10));
        }
    }
}
