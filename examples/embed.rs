//! Embeds the proxy in a program: configures it, binds it to free ports, pushes to it, scrapes it
//! and stops it.
//!
//! ```sh
//! cargo run --example embed
//! ```

use anyhow::{Context, Result, ensure};
use exporter_proxy::app::App;
use exporter_proxy::config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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

#[tokio::main]
async fn main() -> Result<()> {
    let (config, warnings) = config::settle("built-in settings", SETTINGS, [])?;
    for warning in warnings {
        eprintln!("{warning}");
    }

    // Binding fails here if a port is taken. Nothing is served yet.
    let app = App::bind(config).await?;
    let scrapes = app.scrape_address();
    let pushes = app.push_address().context("pushes are off")?;

    // The proxy serves until this future is ready.
    let (stop, stopped) = oneshot::channel::<()>();
    let proxy = tokio::spawn(app.run(async move {
        let _ = stopped.await;
    }));

    let text = "# TYPE jobs_done_total counter\njobs_done_total{queue=\"mail\"} 3\n";
    let answer = exchange(&pushes, "PUT", "/metrics/job/mailer/instance/a", text).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "push: {answer}");

    let page = exchange(&scrapes, "GET", "/metrics", "").await?;
    let sample = page
        .lines()
        .find(|line| line.starts_with("jobs_done_total"))
        .with_context(|| format!("scrape: {page}"))?;
    println!("{sample}");
    assert_eq!(
        sample,
        r#"jobs_done_total{instance="a",job="mailer",queue="mail"} 3"#
    );

    // `run` returns once requests in flight have finished.
    drop(stop);
    proxy.await?;
    ensure!(
        TcpStream::connect(&scrapes).await.is_err(),
        "{scrapes} is still served"
    );
    println!("stopped");
    Ok(())
}

/// Sends one HTTP request and returns the whole answer, head included.
async fn exchange(address: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
