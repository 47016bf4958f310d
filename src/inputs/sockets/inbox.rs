//! Cuts a connection's bytes into messages. Pure: no I/O, no clock.

use std::sync::Arc;

use super::config::Format;
use super::{Failure, Message, capnp, json};
use crate::net::MemoryBudget;
use crate::reason::Reason;
use crate::telemetry::WireFormat;

/// The bounds of one connection.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one message.
    pub max_payload: usize,
    /// Apps of one message.
    pub max_apps: usize,
    /// Bytes of a message that is decoded where it comes in. A larger one is
    /// given out by [`Inbox::take_large`].
    pub at_once: usize,
    /// Shared by all connections.
    pub budget: Arc<MemoryBudget>,
}

/// A whole message that is decoded elsewhere. Its bytes count against the
/// budget until it is dropped.
#[derive(Debug)]
pub struct Large {
    bytes: Vec<u8>,
    is_capnp: bool,
    limits: Limits,
}

impl Large {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn decode(&self) -> Result<Message, Failure> {
        decode(&self.bytes, self.is_capnp, &self.limits)
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.limits.budget.release(self.bytes.len());
    }
}

fn decode(message: &[u8], is_capnp: bool, limits: &Limits) -> Result<Message, Failure> {
    if is_capnp {
        capnp::decode(message)
    } else {
        json::decode(message, limits.max_apps)
    }
}

/// The receiving side of one connection.
///
/// Messages that lie whole in the bytes they came in are decoded there. Only
/// the beginning of an unfinished one is kept, so a connection between two
/// messages holds no memory.
#[derive(Debug)]
pub struct Inbox {
    limits: Limits,
    wire: Wire,
    /// The unfinished message as far as it is here, counted in the budget.
    kept: Vec<u8>,
    /// Bytes from the beginning of the message being looked at.
    pending: usize,
    /// Messages stored so far.
    messages: u64,
    /// The length of the large message that what is kept begins with.
    large: Option<usize>,
}

/// What the connection speaks.
#[derive(Debug)]
enum Wire {
    /// The first bytes will tell.
    Undecided,
    Json(json::Framer),
    Capnp,
}

/// What the next bytes are.
enum Next {
    /// White space, which is passed over.
    Blank(usize),
    /// A message of this length.
    Message(usize),
    /// The beginning of a message.
    Unfinished,
}

impl Inbox {
    pub fn new(format: Format, limits: Limits) -> Self {
        let wire = match format {
            Format::Auto => Wire::Undecided,
            Format::Json => Wire::Json(json::Framer::default()),
            Format::Capnp => Wire::Capnp,
        };
        Inbox {
            limits,
            wire,
            kept: Vec::new(),
            pending: 0,
            messages: 0,
            large: None,
        }
    }

    /// Takes the bytes that came, and gives each message that is whole to
    /// `store`, with its length, up to one that is large: that is to be taken,
    /// and no bytes at all are fed then to go on behind it. After a failure the inbox is of no more use:
    /// where the next message would begin cannot be known.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut store: impl FnMut(Message, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.kept.is_empty() {
            let used = self.consume(bytes, &mut store)?;
            return self.keep(&bytes[used..]);
        }
        self.keep(bytes)?;
        let kept = std::mem::take(&mut self.kept);
        let used = self.consume(&kept, &mut store);
        self.kept = kept;
        let used = used?;
        if used == self.kept.len() {
            self.forget();
        } else if used > 0 {
            let rest = self.kept[used..].to_vec();
            self.forget();
            self.keep(&rest)?;
        }
        Ok(())
    }

    /// The large message that is next, whole. Once it is stored, that is to be
    /// noted with [`Inbox::note_stored`].
    pub fn take_large(&mut self) -> Option<Large> {
        let length = self.large.take()?;
        self.pending = length;
        let rest = self.kept.split_off(length);
        Some(Large {
            bytes: std::mem::replace(&mut self.kept, rest),
            is_capnp: matches!(self.wire, Wire::Capnp),
            limits: self.limits.clone(),
        })
    }

    /// Notes that the message that was taken last is stored.
    pub fn note_stored(&mut self) {
        self.messages += 1;
        self.pending = 0;
    }

    /// Bytes that are kept of an unfinished message.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether a message has begun and not ended.
    pub fn is_midway(&self) -> bool {
        match (&self.wire, self.kept.first()) {
            (_, None) => false,
            // White space alone begins nothing.
            (Wire::Undecided, Some(byte)) => !is_blank(*byte),
            _ => true,
        }
    }

    /// Bytes that are here from the beginning of the message that is not
    /// stored: unfinished, or refused.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// The failure of a stream that ends here, if it ends inside a message.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if !self.is_midway() {
            return Ok(());
        }
        let failure = match self.wire {
            Wire::Capnp => Failure::new(
                Reason::Truncated,
                format!("the stream ended {} bytes into a message", self.kept.len()),
            ),
            _ => json::unfinished(&self.kept),
        };
        self.forget();
        Err(failure)
    }

    pub fn format(&self) -> WireFormat {
        match self.wire {
            Wire::Undecided => WireFormat::Unknown,
            Wire::Json(_) => WireFormat::Json,
            Wire::Capnp => WireFormat::Capnp,
        }
    }

    /// Messages that were stored.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Consumes what is whole, and returns how many bytes that was.
    fn consume(
        &mut self,
        bytes: &[u8],
        store: &mut impl FnMut(Message, usize) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            self.pending = rest.len();
            match self.next(rest)? {
                Next::Blank(length) => {
                    at += length;
                    self.pending = 0;
                }
                Next::Unfinished => break,
                Next::Message(length) if length > self.limits.at_once => {
                    self.large = Some(length);
                    break;
                }
                Next::Message(length) => {
                    let is_capnp = matches!(self.wire, Wire::Capnp);
                    let message = decode(&rest[..length], is_capnp, &self.limits)?;
                    store(message, length)?;
                    self.messages += 1;
                    at += length;
                    self.pending = 0;
                }
            }
        }
        Ok(at)
    }

    fn next(&mut self, bytes: &[u8]) -> Result<Next, Failure> {
        if let Wire::Undecided = self.wire {
            match recognise(bytes)? {
                Some(wire) => self.wire = wire,
                None => return Ok(Next::Unfinished),
            }
        }
        let longest = self.limits.max_payload;
        match &mut self.wire {
            Wire::Json(framer) => {
                let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
                if blank > 0 {
                    return Ok(Next::Blank(blank));
                }
                match framer.scan(bytes) {
                    json::Scan::Faulty(0) => Err(stray(bytes)),
                    json::Scan::Faulty(at) => Err(json::fault(&bytes[..=at])),
                    json::Scan::Ends(length) if length <= longest => Ok(Next::Message(length)),
                    json::Scan::Unfinished if bytes.len() <= longest => Ok(Next::Unfinished),
                    _ => Err(Failure::new(
                        Reason::TooLarge,
                        format!("a document may have {longest} bytes (receiver.max_payload)"),
                    )),
                }
            }
            _ => match capnp::frame(bytes, longest)? {
                Some(length) if length <= bytes.len() => Ok(Next::Message(length)),
                _ => Ok(Next::Unfinished),
            },
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.limits.budget.take(bytes.len(), self.kept.len()) {
            return Err(Failure::new(
                Reason::NoBuffer,
                "too much is being received at once (receiver.max_buffered); try again later",
            ));
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    /// Gives the memory of the unfinished message back.
    fn forget(&mut self) {
        self.limits.budget.release(self.kept.len());
        self.kept = Vec::new();
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Tells the format from a connection's first bytes; `None` where there are
/// too few of them.
///
/// A JSON document begins with `{` or white space. A Cap'n Proto message
/// begins with its number of segments, below 512, as four little-endian bytes:
/// its second byte is 0 or 1, which JSON text cannot have.
fn recognise(bytes: &[u8]) -> Result<Option<Wire>, Failure> {
    let json = bytes[0] == b'{' || is_blank(bytes[0]);
    match bytes.get(1) {
        None => Ok(None),
        Some(0 | 1) => Ok(Some(Wire::Capnp)),
        Some(_) if json => Ok(Some(Wire::Json(json::Framer::default()))),
        Some(_) => Err(stray(bytes)),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The failure of bytes that begin neither a document nor a message.
fn stray(bytes: &[u8]) -> Failure {
    const HTTP: [&[u8]; 5] = [b"GET ", b"PUT ", b"POST", b"HEAD", b"OPTI"];
    const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];
    let hint = if HTTP.iter().any(|method| bytes.starts_with(method)) {
        " (this is not an HTTP port: see exporter.scrape_expose_endpoint)".to_owned()
    } else if bytes.starts_with(BYTE_ORDER_MARK) {
        " (leave out the byte order mark)".to_owned()
    } else {
        format!(", not {}", json::shown(bytes[0]))
    };
    Failure::new(
        Reason::Malformed,
        format!("expected `{{`, the beginning of an object of app names{hint}"),
    )
    .at(1, 1)
}
