//! `demo`: a small web service with metrics to learn from, its load, and senders for the inputs
//! of exporter-proxy. `scripts/demo` starts them together with the proxy.
//!
//! - [`service`]: the service, which keeps persons in memory.
//! - [`load`]: five scenarios of requests to it.
//! - [`send`]: programs that send to the proxy, one for each input.
//! - [`client`]: the HTTP client of load and senders.
//! - [`people`]: the names and addresses that the service and the load choose from.

mod client;
mod load;
mod people;
mod send;
mod service;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A web service to learn metrics with, and its load.
#[derive(Parser)]
#[command(name = "demo", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve persons over HTTP, with metrics at /metrics
    Serve(service::Arguments),
    /// Send requests to the service, in five scenarios
    Load(load::Arguments),
    /// Send changing metrics to exporter-proxy, to each input whose address is given
    Send(send::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => service::main(arguments).await,
        Command::Load(arguments) => load::main(arguments).await,
        Command::Send(arguments) => send::main(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns when the program is asked to stop, by Ctrl-C or SIGTERM.
async fn stop_requested() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
