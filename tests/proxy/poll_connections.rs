//! Connections to polled exporters: kept between polls, and replaced when the other side closes
//! them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::{Proxy, eventually};
use crate::support::{detail, logged, text_of};

/// A server's reaction to a request.
enum Act {
    Answer,
    /// Closes the connection without an answer.
    Close,
    /// Does not answer.
    Hang,
}

/// A server that keeps its connections. It counts connections, and the requests on each, from 1.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Server {
    /// `idle` is the time that it waits for the next request on a connection. It waits patiently
    /// for the first one.
    fn start(idle: Duration, act: impl Fn(usize, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (noted, act) = (Arc::clone(&requests), Arc::new(act));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (noted, act) = (Arc::clone(&noted), Arc::clone(&act));
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENT)).unwrap();
                thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let mut reader = BufReader::new(stream);
                    for number in 1.. {
                        loop {
                            let mut line = String::new();
                            match reader.read_line(&mut line) {
                                Ok(0) | Err(_) => return,
                                Ok(_) if line == "\r\n" => break,
                                Ok(_) => {}
                            }
                        }
                        noted.lock().unwrap().push((connection + 1, number));
                        match act(connection + 1, number) {
                            Act::Answer => {
                                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\n";
                                if writer.write_all(answer).is_err() {
                                    return;
                                }
                                writer.set_read_timeout(Some(idle)).unwrap();
                            }
                            Act::Close => return,
                            Act::Hang => {
                                let _ = reader.read(&mut [0]);
                                return;
                            }
                        }
                    }
                });
            }
        });
        Server { address, requests }
    }

    fn requests(&self) -> Vec<(usize, usize)> {
        self.requests.lock().unwrap().clone()
    }
}

const PATIENT: Duration = Duration::from_secs(60);

fn polling(server: &Server, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "[[poll_external.targets]]\nname = \"t\"\nurl = \"http://{}/\"\n{settings}\n",
        server.address
    ))
}

/// Polls of the target, by result.
fn polls(proxy: &Proxy) -> Vec<(String, f64)> {
    let metrics = proxy.metrics();
    let lines = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("exporter_proxy_polls_total{result=\"")?;
        let (result, rest) = rest.split_once('"')?;
        let (_, value) = rest.rsplit_once(' ')?;
        Some((result.to_owned(), value.parse().unwrap()))
    });
    lines.collect()
}

fn await_polls(proxy: &Proxy, count: f64) -> Vec<(String, f64)> {
    eventually(
        || polls(proxy),
        |polls| polls.iter().map(|(_, count)| count).sum::<f64>() >= count,
    )
}

#[test]
fn a_connection_is_kept_from_poll_to_poll() {
    let server = Server::start(PATIENT, |_, _| Act::Answer);
    let _proxy = polling(&server, "interval = \"20ms\"\ntimeout = \"50s\"");
    let requests = eventually(|| server.requests(), |requests| requests.len() >= 20);
    assert!(
        requests.iter().all(|(connection, _)| *connection == 1),
        "{requests:?}"
    );
}

#[test]
fn a_kept_connection_that_the_target_closes_is_replaced_within_the_same_poll() {
    // Each connection serves one request, and loses the next.
    let server = Server::start(PATIENT, |_, number| match number {
        1 => Act::Answer,
        _ => Act::Close,
    });
    let proxy = polling(&server, "interval = \"20ms\"\ntimeout = \"50s\"");
    let polls = await_polls(&proxy, 20.0);
    assert_eq!(polls.len(), 1, "every poll succeeds: {polls:?}");
    assert_eq!(text_of(&proxy, "t").as_deref(), Some("m 1\n"));
    let requests = server.requests();
    assert!(requests.contains(&(1, 2)) && requests.contains(&(2, 1)));
    assert!(!proxy.log().contains("target t ("), "{}", proxy.log());
}

#[test]
fn a_target_that_closes_idle_connections_after_just_the_interval_never_fails() {
    let idle = Duration::from_millis(50);
    let server = Server::start(idle, |_, _| Act::Answer);
    let proxy = polling(&server, "interval = \"50ms\"\ntimeout = \"50s\"");
    let polls = await_polls(&proxy, 60.0);
    assert_eq!(polls.len(), 1, "every poll succeeds: {polls:?}");
    assert!(!proxy.log().contains("target t ("), "{}", proxy.log());
}

#[test]
fn a_request_that_a_new_connection_loses_is_not_sent_again() {
    let server = Server::start(PATIENT, |_, _| Act::Close);
    // The connection is kept, and the next poll is far away.
    let proxy = polling(&server, "interval = \"59s\"");
    let problem = eventually(
        || detail(&proxy, "t").map(|it| it["last_problem"]["reason"].to_string()),
        |problem| problem.as_ref().is_some_and(|it| it.contains("closed")),
    );
    let problem = problem.unwrap();
    let reported = format!(
        "protocol: {}: the connection was closed before the response was complete",
        server.address
    );
    assert_eq!(problem, format!("{reported:?}"));
    assert_eq!(server.requests(), [(1, 1)]);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_not_sent_again() {
    let server = Server::start(PATIENT, |_, number| match number {
        1 => Act::Answer,
        _ => Act::Hang,
    });
    // The connection is kept, and the next poll on schedule is far away.
    let proxy = polling(&server, "interval = \"59s\"\ntimeout = \"4s\"");
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
    assert_eq!(proxy.get("/probe?target=t").status, 502);
    logged(&proxy, "timeout: no complete response within 4s", 1);
    assert_eq!(server.requests(), [(1, 1), (1, 2)]);
}
