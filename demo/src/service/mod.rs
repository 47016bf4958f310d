//! The service: persons over HTTP, with delays that make durations worth looking at.
//!
//! - [`routes`]: which handler answers a path.
//! - [`handlers`]: the replies.
//! - [`store`]: the persons.
//! - [`metrics`], [`process`]: the metrics.
//! - [`delays`]: the artificial delays.

mod delays;
mod handlers;
mod metrics;
mod process;
mod routes;
mod store;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use handlers::Service;

/// The limit on open connections.
const MAX_CONNECTIONS: usize = 1024;

/// The time for the head of a request, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// The time for requests in progress when the service stops: more than the longest delay.
const GRACE: Duration = Duration::from_secs(5);

/// The wait after a connection cannot be accepted, as without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The interval at which use of CPU and memory is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The options of `demo serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on; port 0 chooses a free one
    #[arg(long, default_value = "0.0.0.0:7080")]
    listen: String,
    /// Seed of the delays and of the first person, for repeatable runs
    #[arg(long)]
    seed: Option<u64>,
    /// Factor of the artificial delays of up to 2 seconds; 0 turns them off
    #[arg(long, default_value_t = 1.0, value_parser = factor)]
    delays: f64,
}

/// Parses a factor of delays.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (0.0..=100.0).contains(&factor) => Ok(factor),
        _ => Err("it must be a number from 0 to 100".to_owned()),
    }
}

/// Serves until the program is asked to stop.
///
/// # Errors
///
/// The address cannot be bound.
pub async fn main(arguments: Arguments) -> Result<()> {
    let rng = arguments.seed.map_or_else(Rng::new, Rng::with_seed);
    let service = Arc::new(Service::new(rng, arguments.delays)?);
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    eprintln!("serving http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            crate::stop_requested().await;
            stop.cancel();
        }
    });
    run(listener, service, stop).await;
    Ok(())
}

/// Serves on a bound listener until `stop`, then lets requests in progress finish.
async fn run(listener: TcpListener, service: Arc<Service>, stop: CancellationToken) {
    let sampler = tokio::spawn(sample_use(Arc::clone(&service)));
    let tasks = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (service, stop) = (Arc::clone(&service), stop.clone());
                tasks.spawn(async move {
                    serve(stream, service, stop).await;
                    drop(permit);
                });
            }
            Err(problem) => {
                eprintln!("cannot accept a connection: {problem}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    let _ = timeout(GRACE, tasks.wait()).await;
    sampler.abort();
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, service: Arc<Service>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer)
    );
    // A client that leaves is not an error of the service.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Samples the use of CPU and memory, for the first time after one interval.
async fn sample_use(service: Arc<Service>) {
    let first = tokio::time::Instant::now() + SAMPLE_INTERVAL;
    let mut ticks = interval_at(first, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.sample_use();
    }
}
