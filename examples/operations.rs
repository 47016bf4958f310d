//! Sends operations to a proxy as fast as it takes them, and says how fast
//! that was.
//!
//! ```text
//! cargo run --release --example operations -- unix:/run/ops.sock 5000000 10000
//! cargo run --release --example operations -- udp:127.0.0.1:9999 1000000 10000 statsd 100000
//! ```
//!
//! Arguments: where to, how many, of how many series, `json` or `statsd`, how
//! many a second at most (0: as many as go).

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Operations that go into one write on a stream.
const AT_ONCE: usize = 100;

enum To {
    Stream(Box<dyn Write>),
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |place: usize, default: &str| {
        let given = arguments.get(place).map(String::as_str);
        given.unwrap_or(default).to_owned()
    };
    let number = |place: usize, default: usize| {
        let given = arguments.get(place).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let address = text(0, "unix:/tmp/operations.sock");
    let (count, series) = (number(1, 1_000_000), number(2, 10_000).max(1));
    let json = text(3, "json") == "json";
    let rate = number(4, 0);
    let (kind, rest) = address.split_once(':').unwrap_or(("unix", &address));
    let mut to = match kind {
        "tcp" => To::Stream(Box::new(TcpStream::connect(rest)?)),
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(rest)?;
            To::Udp(socket)
        }
        "unixgram" => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(rest)?;
            To::Unix(socket)
        }
        _ => To::Stream(Box::new(UnixStream::connect(rest)?)),
    };
    let messages: Vec<Vec<u8>> = (0..series).map(|i| message(i, json)).collect();
    let begun = Instant::now();
    let mut buffer = Vec::new();
    let mut sent = 0;
    while sent < count {
        if rate > 0 && sent % AT_ONCE == 0 {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            sleep(due.saturating_sub(begun.elapsed()));
        }
        match &mut to {
            To::Stream(stream) => {
                buffer.clear();
                let now = AT_ONCE.min(count - sent);
                for i in sent..sent + now {
                    buffer.extend_from_slice(&messages[i % series]);
                }
                stream.write_all(&buffer)?;
                sent += now;
            }
            To::Udp(socket) => {
                socket.send(&messages[sent % series])?;
                sent += 1;
            }
            To::Unix(socket) => {
                socket.send(&messages[sent % series])?;
                sent += 1;
            }
        }
    }
    let took = begun.elapsed();
    let rate = sent as f64 / took.as_secs_f64();
    println!("{sent} operations in {took:.2?}: {rate:.0} a second");
    Ok(())
}

fn message(series: usize, json: bool) -> Vec<u8> {
    let (host, path) = (series / 100, series % 100);
    if json {
        format!(
            "{{\"name\":\"requests_total\",\"op\":\"inc\",\"value\":1,\
             \"labels\":{{\"host\":\"host-{host}\",\"path\":\"/p/{path}\"}}}}\n"
        )
    } else {
        format!("requests.total:1|c|#host:host-{host},path:/p/{path}\n")
    }
    .into_bytes()
}
