//! Exporters to poll, and systems to send to: HTTP servers in threads, over TCP, TLS or a Unix
//! socket, that answer as a test says and remember their requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server. Dropping it closes the listener, so that connections are refused.
pub struct Upstream {
    /// `127.0.0.1:port`.
    pub address: String,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    behaviour: Mutex<Arc<Behaviour>>,
    requests: Mutex<Vec<Request>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    ended: AtomicBool,
}

type Behaviour = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with a length of `Content-Length`.
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }
}

pub enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing more until the other side gives up.
    Hang(Vec<u8>),
}

/// An answer with status, headers and body.
pub fn reply(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    Reply::Bytes([head.as_bytes(), body].concat())
}

pub fn ok(body: &str) -> Reply {
    reply("200 OK", &[], body.as_bytes())
}

impl Upstream {
    /// Listens on TCP, on a free port.
    pub fn start(behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Upstream::at("127.0.0.1:0", behaviour)
    }

    /// Listens on TCP, at the address of an earlier server.
    pub fn at(
        address: &str,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Upstream::tcp(address, behaviour, |stream, state| state.serve(stream))
    }

    /// Listens with TLS.
    pub fn tls(
        config: Arc<ServerConfig>,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Upstream::tcp("127.0.0.1:0", behaviour, move |stream, state| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
            state.serve(StreamOwned::new(connection, stream));
        })
    }

    fn tcp(
        address: &str,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        serve: impl Fn(TcpStream, &State) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("an address").to_string();
        let serve = Arc::new(serve);
        Upstream::accepting(address, behaviour, move |state| {
            let (stream, _) = listener.accept().expect("a connection");
            let (state, serve) = (Arc::clone(state), Arc::clone(&serve));
            thread::spawn(move || serve(stream, &state));
        })
    }

    /// Listens on a Unix socket, until the test ends.
    pub fn unix(
        path: &Path,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("the path is free");
        Upstream::accepting(String::new(), behaviour, move |state| {
            let (stream, _) = listener.accept().expect("a connection");
            let state = Arc::clone(state);
            thread::spawn(move || state.serve(stream));
        })
    }

    fn accepting(
        address: String,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        accept: impl Fn(&Arc<State>) + Send + 'static,
    ) -> Self {
        let state = Arc::new(State {
            behaviour: Mutex::new(Arc::new(behaviour)),
            requests: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let state = Arc::clone(&state);
            move || {
                while !state.ended.load(Ordering::SeqCst) {
                    accept(&state);
                }
            }
        });
        Upstream {
            address,
            state,
            accepting: Some(accepting),
        }
    }

    /// Changes the answers from now on.
    pub fn change(&self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.state.behaviour.lock().expect("the behaviour") = Arc::new(behaviour);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().expect("the requests").clone()
    }

    /// The highest number of concurrent requests.
    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // The listener is closed once its thread has ended, and the thread waits for one more
        // connection.
        if TcpStream::connect(&self.address).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _ = accepting.join();
        }
    }
}

impl State {
    fn serve(&self, mut stream: impl Read + Write) {
        let mut reader = BufReader::new(&mut stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line),
            }
        }
        let Some((first, headers)) = lines.split_first() else {
            return;
        };
        let mut request = Request {
            body: Vec::new(),
            path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
            headers: headers
                .iter()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        };
        let length = request.header("content-length").unwrap_or("0");
        request.body = vec![0; length.parse().expect("a length")];
        if reader.read_exact(&mut request.body).is_err() {
            return;
        }
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        self.requests
            .lock()
            .expect("the requests")
            .push(request.clone());
        let behaviour = Arc::clone(&self.behaviour.lock().expect("the behaviour"));
        let answer = behaviour(&request);
        let (bytes, hang) = match answer {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Hang(bytes) => (bytes, true),
        };
        // Decremented before the client can see the answer; otherwise the next request might come
        // first.
        if !hang {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
        // The other side may give up before everything is sent.
        let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
        if hang {
            let _ = stream.read(&mut [0]);
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
