//! The HTTP client for all servers: blocking, on a kept-alive connection, with reused buffers.

use std::fmt::{self, Debug};
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Bytes per read, for an answer of unknown length or one that is not kept.
const WINDOW: usize = 256 * 1024;

/// Read timeout. The slowest answer takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do with the bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Keep them in [`Client::body`].
    Keep,
    /// Only count them, so that many clients need no memory.
    Count,
}

/// The head of an answer, and the length of its body as sent.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Whether `Content-Encoding` is gzip.
    pub gzip: bool,
    /// Bytes of the body.
    pub length: usize,
}

/// A connection, with or without TLS.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A client with one connection.
pub struct Client {
    address: String,
    /// The TLS configuration, for servers over TLS.
    tls: Option<Arc<ClientConfig>>,
    stream: Box<dyn Stream>,
    window: Box<[u8]>,
    /// The part of the window that has been read and not used yet.
    from: usize,
    to: usize,
    request: Vec<u8>,
    body: Vec<u8>,
    length: usize,
}

impl Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Client");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `host:port`.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection.
    pub fn connect(address: &str) -> Result<Self> {
        Self::open(address, None)
    }

    /// Connects to `localhost` at an address, over TLS.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection.
    pub fn connect_tls(address: &str, tls: Arc<ClientConfig>) -> Result<Self> {
        Self::open(address, Some(tls))
    }

    fn open(address: &str, tls: Option<Arc<ClientConfig>>) -> Result<Self> {
        Ok(Client {
            address: address.to_owned(),
            stream: open(address, tls.as_ref())?,
            tls,
            window: vec![0; WINDOW].into_boxed_slice(),
            from: 0,
            to: 0,
            request: Vec::new(),
            body: Vec::new(),
            length: 0,
        })
    }

    /// Opens a new connection with the same buffers. Servers close connections that were idle while
    /// others were measured.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection.
    pub fn reconnect(&mut self) -> Result<()> {
        self.stream = open(&self.address, self.tls.as_ref())?;
        (self.from, self.to) = (0, 0);
        Ok(())
    }

    /// Body of the last answer that was kept.
    pub fn body(&self) -> &[u8] {
        &self.body[..self.length]
    }

    /// Requests a path in the coding.
    ///
    /// # Errors
    ///
    /// If the answer is not 200, comes in another coding, or not at all.
    pub fn get(&mut self, path: &str, gzip: bool, body: Body) -> Result<Answer> {
        let accept = if gzip { "gzip" } else { "identity" };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: {accept}\r\n\r\n",
            self.address
        );
        let answer = self.exchange(head.as_bytes(), &[], body)?;
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        ensure!(
            answer.gzip == gzip,
            "{path} came in the other coding than {accept}"
        );
        Ok(answer)
    }

    /// Sends a body and returns the status of the answer.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<u16> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        Ok(self.exchange(head.as_bytes(), body, Body::Keep)?.status)
    }

    fn exchange(&mut self, head: &[u8], content: &[u8], body: Body) -> Result<Answer> {
        self.request.clear();
        self.request.extend_from_slice(head);
        self.request.extend_from_slice(content);
        self.stream.write_all(&self.request)?;

        let head = self.read_head()?;
        self.length = 0;
        let length = match head.length {
            Some(length) => self.take(length, body)?,
            None if head.chunked => self.take_chunks(body)?,
            None => bail!("the answer has neither a length nor chunks"),
        };
        Ok(Answer {
            status: head.status,
            gzip: head.gzip,
            length,
        })
    }

    fn read_head(&mut self) -> Result<Head> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.extend(self.line()?);
        }
        Head::parse(std::str::from_utf8(&text)?)
    }

    /// Reads one line, including its end. Only heads have lines.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            if self.from == self.to {
                self.fill()?;
            }
            let byte = self.window[self.from];
            self.from += 1;
            line.push(byte);
            if byte == b'\n' {
                return Ok(line);
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        let read = self.stream.read(&mut self.window)?;
        ensure!(read > 0, "the connection was closed within an answer");
        (self.from, self.to) = (0, read);
        Ok(())
    }

    /// Reads the next `length` bytes of the body.
    fn take(&mut self, length: usize, body: Body) -> Result<usize> {
        let here = length.min(self.to - self.from);
        if body == Body::Keep {
            let end = self.length + length;
            if self.body.len() < end {
                self.body.resize(end, 0);
            }
            let window = &self.window[self.from..self.from + here];
            self.body[self.length..self.length + here].copy_from_slice(window);
            self.length += here;
            self.from += here;
            // Read a small rest together with what follows.
            while end - self.length > 0 && end - self.length < WINDOW {
                self.fill()?;
                let here = (end - self.length).min(self.to);
                self.body[self.length..self.length + here].copy_from_slice(&self.window[..here]);
                self.length += here;
                self.from = here;
            }
            self.stream.read_exact(&mut self.body[self.length..end])?;
            self.length = end;
        } else {
            self.from += here;
            let mut rest = length - here;
            while rest > 0 {
                self.fill()?;
                self.from = rest.min(self.to);
                rest -= self.from;
            }
        }
        Ok(length)
    }

    fn take_chunks(&mut self, body: Body) -> Result<usize> {
        let mut length = 0;
        loop {
            let line = self.line()?;
            let size = std::str::from_utf8(&line)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).context("a chunk's size")?;
            if size == 0 {
                while self.line()? != b"\r\n" {}
                return Ok(length);
            }
            length += self.take(size, body)?;
            ensure!(self.line()? == b"\r\n", "a chunk does not end");
        }
    }
}

fn open(address: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let connection = ClientConnection::new(tls.clone(), "localhost".try_into()?)?;
    let stream = Buffered(BufReader::with_capacity(WINDOW, stream));
    Ok(Box::new(StreamOwned::new(connection, stream)))
}

/// A connection that reads many TLS records at once: `rustls` asks for 4 KB each time, and what a
/// scrape over TLS costs would mostly be its system calls.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    gzip: bool,
}

impl Head {
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status.split(' ').nth(1).context("no status line")?;
        let mut head = Head {
            status: status.parse().context("a status")?,
            length: None,
            chunked: false,
            gzip: false,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = Some(value.parse().context("a length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("content-encoding") {
                head.gzip = value.eq_ignore_ascii_case("gzip");
            }
        }
        if matches!(head.status, 202 | 204) && !head.chunked {
            head.length.get_or_insert(0);
        }
        Ok(head)
    }
}
