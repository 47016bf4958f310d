//! Senders for the inputs of exporter-proxy. Each stands for a program that sends in its own way;
//! [`messages`] has their messages.

mod messages;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use hyper::Method;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::client::Client;
use messages::{Round, Shop};

/// The time to send one message and to read the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;

/// The options of `demo send`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Unix socket of the receiver, for Cap'n Proto
    #[arg(long, value_name = "PATH")]
    capnp: Option<PathBuf>,
    /// TCP address of the receiver, for JSON
    #[arg(long, value_name = "HOST:PORT")]
    json: Option<String>,
    /// URL for pushes, replaced and aggregated ones
    #[arg(long, value_name = "URL")]
    push: Option<String>,
    /// UDP address of operations, for StatsD
    #[arg(long, value_name = "HOST:PORT")]
    statsd: Option<String>,
    /// TCP address of operations, for JSON messages
    #[arg(long, value_name = "HOST:PORT")]
    operations: Option<String>,
    /// Milliseconds between two rounds
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Seed of the values, for repeatable runs
    #[arg(long)]
    seed: Option<u64>,
}

/// Sends a round of messages at each interval, until the program is asked to stop. An input that
/// fails is reported once until it works again, and delays the others by at most [`TIMEOUT`].
///
/// # Errors
///
/// No address is given.
pub async fn main(arguments: Arguments) -> Result<()> {
    let client = Client::new(TIMEOUT);
    let mut inputs = inputs(&arguments);
    ensure!(!inputs.is_empty(), "name at least one input; see --help");
    let rng = arguments.seed.map_or_else(Rng::new, Rng::with_seed);
    let mut shop = Shop::new(rng);
    let send = async {
        let mut ticks = interval(Duration::from_millis(arguments.every));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let round = shop.next_round(now.unwrap_or_default().as_secs_f64());
            for (input, works) in &mut inputs {
                let sent = timeout(TIMEOUT, input.send(&client, &round)).await;
                let result = sent.unwrap_or_else(|_| bail!("no answer within {TIMEOUT:?}"));
                if let Err(problem) = &result
                    && *works
                {
                    eprintln!("cannot send to {input:?}: {problem:#}");
                }
                *works = result.is_ok();
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = crate::stop_requested() => {}
    }
    Ok(())
}

/// The address and the protocol of one program of the shop.
#[derive(Debug)]
enum Input {
    CapnProto(PathBuf),
    Json(String),
    Push(String),
    Aggregate(String),
    StatsD(String),
    Operations(String),
}

/// The inputs whose addresses are given, each with whether it works.
fn inputs(arguments: &Arguments) -> Vec<(Input, bool)> {
    let push = arguments.push.as_deref();
    let push = push.map(|url| url.trim_end_matches('/').to_owned());
    let inputs = [
        arguments.capnp.clone().map(Input::CapnProto),
        arguments.json.clone().map(Input::Json),
        push.clone().map(Input::Push),
        push.map(Input::Aggregate),
        arguments.statsd.clone().map(Input::StatsD),
        arguments.operations.clone().map(Input::Operations),
    ];
    inputs
        .into_iter()
        .flatten()
        .map(|input| (input, true))
        .collect()
}

impl Input {
    /// Sends the message of one program.
    async fn send(&self, client: &Client, round: &Round) -> Result<()> {
        match self {
            Input::CapnProto(path) => {
                let stream = UnixStream::connect(path).await?;
                stream_to(stream, &round.warehouse).await
            }
            Input::Json(address) => {
                let stream = TcpStream::connect(address).await?;
                stream_to(stream, &round.post_office).await
            }
            Input::Push(url) => {
                let url = format!("{url}/metrics/job/report");
                push(client, Method::PUT, &url, &round.report).await
            }
            Input::Aggregate(url) => {
                let url = format!("{url}/metrics?mode=aggregate");
                push(client, Method::POST, &url, &round.checkout).await
            }
            Input::StatsD(address) => {
                let socket = UdpSocket::bind("0.0.0.0:0").await?;
                socket.send_to(round.pages.as_bytes(), address).await?;
                Ok(())
            }
            Input::Operations(address) => {
                let stream = TcpStream::connect(address).await?;
                stream_to(stream, round.logins.as_bytes()).await
            }
        }
    }
}

/// Sends a message, closes this side, and reads the answer, which is empty if the message was
/// accepted.
async fn stream_to(mut stream: impl AsyncRead + AsyncWrite + Unpin, message: &[u8]) -> Result<()> {
    stream.write_all(message).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    ensure!(answer.is_empty(), "the answer is {:?}", answer.trim_end());
    Ok(())
}

/// Pushes a text.
async fn push(client: &Client, method: Method, url: &str, text: &str) -> Result<()> {
    let body = ("text/plain; version=0.0.4", text.as_bytes().to_vec());
    let (status, reply) = client.send(method, url, Some(body)).await?;
    let reply = String::from_utf8_lossy(&reply);
    ensure!(
        status.is_success(),
        "the reply is {status}: {}",
        reply.trim_end()
    );
    Ok(())
}
