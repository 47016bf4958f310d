//! Extends the proxy by an input over HTTP and a sink. Each is a folder with its
//! configuration, and a line in a list below.
//!
//! ```sh
//! cargo run --example extend
//! ```
//!
//! The program sends heartbeats to itself and checks that they are on `/metrics` and
//! that the sink delivered them. It exits with 1 if they are not.

mod heartbeat;
mod lines;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use exporter_proxy::app::{App, Extensions};
use exporter_proxy::config;
use exporter_proxy::context::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Settings as in `config.toml`. Port 0 lets the system choose a free port.
const SETTINGS: &str = r#"
[exporter]
scrape_expose_endpoint = "127.0.0.1:0"

[push]
listen = "127.0.0.1:0"

[receiver]
receive_on_tcp_socket = false
receive_on_unix_socket = false
"#;

/// The lists of parts.
fn extensions(context: &Context, heartbeat: heartbeat::Config, lines: lines::Config) -> Extensions {
    let sink = lines::start(lines, context);
    let notify = Arc::new(move |line: String| sink.push(vec![line]).is_ok());
    Extensions {
        routes: heartbeat::Heartbeats::new(heartbeat, notify, context).routes(),
        ..Extensions::default()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (config, _warnings) = config::settle("built-in settings", SETTINGS, [])?;
    let receiver = TcpListener::bind("127.0.0.1:0").await?;
    let heartbeat = heartbeat::Config {
        family: "heartbeats_total".to_owned(),
    };
    let lines = lines::Config {
        address: receiver.local_addr()?.to_string(),
        max_queue: 1 << 20,
    };

    let app = App::bind_with(config, |context| extensions(context, heartbeat, lines)).await?;
    let scrapes = app.scrape_address();
    let pushes = app.push_address().context("pushes are off")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let proxy = tokio::spawn(app.run(async move {
        let _ = stopped.await;
    }));

    for _ in 0..2 {
        let answer = exchange(&pushes, "POST", "/heartbeat/nightly%20backup").await?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "heartbeat: {answer}");
    }
    let answer = exchange(&pushes, "PUT", "/heartbeat/nightly").await?;
    ensure!(
        answer.starts_with("HTTP/1.1 405"),
        "another method: {answer}"
    );
    let answer = exchange(&pushes, "POST", "/heartbeat/nightly?x=1").await?;
    ensure!(
        answer.starts_with("HTTP/1.1 400"),
        "unknown parameter: {answer}"
    );

    let page = exchange(&scrapes, "GET", "/metrics").await?;
    let sample = r#"heartbeats_total{job="nightly backup"} 2"#;
    ensure!(page.lines().any(|line| line == sample), "scrape: {page}");
    println!("{sample}");

    let (connection, _) = receiver.accept().await?;
    let mut delivered = BufReader::new(connection).lines();
    for _ in 0..2 {
        let line = delivered.next_line().await?;
        ensure!(line.as_deref() == Some("nightly backup"), "sink: {line:?}");
    }
    println!("the sink delivered both");

    let _ = stop.send(());
    proxy.await?;
    Ok(())
}

/// Sends a request without a body, and returns the response.
async fn exchange(address: &str, method: &str, target: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    Ok(response)
}
