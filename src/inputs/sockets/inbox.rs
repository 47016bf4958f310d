//! Cuts a connection's bytes into messages. Does no I/O and reads no clock.

use std::sync::Arc;

use super::config::Format;
use super::{Message, MessageError, capnp, json};
use crate::net::{HANDSHAKE_RECORD, MemoryBudget, is_client_hello};
use crate::reason::Reason;
use crate::telemetry::WireFormat;

/// The limits of one connection.
#[derive(Debug, Clone)]
pub struct InboxLimits {
    /// The limit on bytes of one message.
    pub max_payload: usize,
    /// The limit on apps of one message.
    pub max_apps: usize,
    /// The limit on bytes of a message that is decoded immediately. [`Inbox::take_large`]
    /// returns larger ones instead.
    pub max_inline: usize,
    /// Memory for incomplete messages, shared by all connections.
    pub budget: Arc<MemoryBudget>,
}

/// A complete message for the caller to decode. Its bytes count against the budget until it
/// is dropped.
#[derive(Debug)]
pub struct LargeMessage {
    bytes: Vec<u8>,
    is_capnp: bool,
    limits: InboxLimits,
}

impl LargeMessage {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Decodes the message.
    pub fn decode(&self) -> Result<Message, MessageError> {
        decode(&self.bytes, self.is_capnp, &self.limits)
    }
}

impl Drop for LargeMessage {
    fn drop(&mut self) {
        self.limits.budget.release(self.bytes.len());
    }
}

fn decode(message: &[u8], is_capnp: bool, limits: &InboxLimits) -> Result<Message, MessageError> {
    if is_capnp {
        capnp::decode(message)
    } else {
        json::decode(message, limits.max_apps)
    }
}

/// Cuts the bytes of one connection into messages.
///
/// A message that one read completes is decoded in place. Only the beginning of an
/// incomplete message is buffered, so a connection between messages holds no memory.
#[derive(Debug)]
pub struct Inbox {
    limits: InboxLimits,
    framing: Framing,
    /// Whether the first bytes of the connection have been looked at.
    has_begun: bool,
    /// The received part of an incomplete message, counted in the budget.
    buffer: Vec<u8>,
    /// The number of bytes since the beginning of the current message.
    pending: usize,
    /// The number of messages stored so far.
    messages: u64,
    /// The length of the large message at the start of the buffer.
    large: Option<usize>,
}

/// The framing of the connection.
#[derive(Debug)]
enum Framing {
    /// The first bytes have not arrived yet.
    Undetected,
    Json(json::Framer),
    Capnp,
}

/// The next step of an inbox after a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Continue with the next message.
    Message,
    /// Stop, and keep the remaining bytes.
    Stop,
}

/// The kind of the next bytes.
enum Frame {
    /// White space of this length, which is skipped.
    Blank(usize),
    /// A complete message of this length.
    Message(usize),
    /// The beginning of a message.
    Incomplete,
}

impl Inbox {
    /// An empty inbox for one connection.
    pub fn new(format: Format, limits: InboxLimits) -> Self {
        let framing = match format {
            Format::Auto => Framing::Undetected,
            Format::Json => Framing::Json(json::Framer::default()),
            Format::Capnp => Framing::Capnp,
        };
        Inbox {
            limits,
            framing,
            has_begun: false,
            buffer: Vec::new(),
            pending: 0,
            messages: 0,
            large: None,
        }
    }

    /// Changes the limits for future bytes. The budget must stay the same.
    pub fn set_limits(&mut self, limits: InboxLimits) {
        self.limits = limits;
    }

    /// Takes received bytes, and passes each complete message to `store` with its length.
    /// It stops at a large message: the caller takes that with [`Inbox::take_large`], and
    /// continues by feeding no bytes. It also stops where `store` says so, and the caller
    /// continues in the same way.
    ///
    /// # Errors
    ///
    /// The bytes are not a message, a limit is exceeded, or `store` failed. The inbox is
    /// then unusable, since the beginning of the next message is unknown.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut store: impl FnMut(Message, usize) -> Result<Next, MessageError>,
    ) -> Result<(), MessageError> {
        if self.buffer.is_empty() {
            let used = self.consume(bytes, &mut store)?;
            return self.buffer(&bytes[used..]);
        }
        self.buffer(bytes)?;
        let buffered = std::mem::take(&mut self.buffer);
        let used = self.consume(&buffered, &mut store);
        self.buffer = buffered;
        let used = used?;
        if used == self.buffer.len() {
            self.clear();
        } else if used > 0 {
            let rest = self.buffer[used..].to_vec();
            self.clear();
            self.buffer(&rest)?;
        }
        Ok(())
    }

    /// Takes the large message that is next, if there is one. The caller must call
    /// [`Inbox::note_stored`] once it is stored.
    pub fn take_large(&mut self) -> Option<LargeMessage> {
        let length = self.large.take()?;
        self.pending = length;
        let rest = self.buffer.split_off(length);
        Some(LargeMessage {
            bytes: std::mem::replace(&mut self.buffer, rest),
            is_capnp: matches!(self.framing, Framing::Capnp),
            limits: self.limits.clone(),
        })
    }

    /// Records that the large message is stored.
    pub fn note_stored(&mut self) {
        self.messages += 1;
        self.pending = 0;
    }

    /// The number of buffered bytes of an incomplete message.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a message has begun and is incomplete.
    pub fn is_midway(&self) -> bool {
        match (&self.framing, self.buffer.first()) {
            (_, None) => false,
            // White space is not the beginning of a message.
            (Framing::Undetected, Some(byte)) => !is_blank(*byte),
            _ => true,
        }
    }

    /// The number of bytes since the beginning of the message that is incomplete or was rejected.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// The stream ends within a message.
    pub fn finish(&mut self) -> Result<(), MessageError> {
        if !self.is_midway() {
            return Ok(());
        }
        let error = match self.framing {
            Framing::Capnp => MessageError::new(
                Reason::Truncated,
                format!(
                    "the stream ended {} bytes into a message",
                    self.buffer.len()
                ),
            ),
            _ => json::incomplete(&self.buffer),
        };
        self.clear();
        Err(error)
    }

    /// The wire format, if it has been detected.
    pub fn format(&self) -> WireFormat {
        match self.framing {
            Framing::Undetected => WireFormat::Unknown,
            Framing::Json(_) => WireFormat::Json,
            Framing::Capnp => WireFormat::Capnp,
        }
    }

    /// The number of stored messages.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Consumes all complete messages, and returns the number of consumed bytes.
    fn consume(
        &mut self,
        bytes: &[u8],
        store: &mut impl FnMut(Message, usize) -> Result<Next, MessageError>,
    ) -> Result<usize, MessageError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            self.pending = rest.len();
            match self.next_frame(rest)? {
                Frame::Blank(length) => {
                    at += length;
                    self.pending = 0;
                }
                Frame::Incomplete => break,
                Frame::Message(length) if length > self.limits.max_inline => {
                    self.large = Some(length);
                    break;
                }
                Frame::Message(length) => {
                    let is_capnp = matches!(self.framing, Framing::Capnp);
                    let message = decode(&rest[..length], is_capnp, &self.limits)?;
                    let next = store(message, length)?;
                    self.messages += 1;
                    at += length;
                    self.pending = 0;
                    if next == Next::Stop {
                        break;
                    }
                }
            }
        }
        Ok(at)
    }

    fn next_frame(&mut self, bytes: &[u8]) -> Result<Frame, MessageError> {
        if !self.has_begun {
            match bytes {
                // A handshake shows in its second byte.
                [HANDSHAKE_RECORD] => return Ok(Frame::Incomplete),
                _ if is_client_hello(bytes) => {
                    let message = "the client sends TLS, and this port has none (receiver.tls)";
                    return Err(MessageError::new(Reason::Tls, message));
                }
                _ => self.has_begun = true,
            }
        }
        if let Framing::Undetected = self.framing {
            match detect(bytes)? {
                Some(framing) => self.framing = framing,
                None => return Ok(Frame::Incomplete),
            }
        }
        let longest = self.limits.max_payload;
        match &mut self.framing {
            Framing::Json(framer) => {
                let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
                if blank > 0 {
                    return Ok(Frame::Blank(blank));
                }
                match framer.scan(bytes) {
                    json::Scan::Invalid(0) => Err(unrecognized(bytes)),
                    json::Scan::Invalid(at) => Err(json::invalid(&bytes[..=at])),
                    json::Scan::Ends(length) if length <= longest => Ok(Frame::Message(length)),
                    json::Scan::Incomplete if bytes.len() <= longest => Ok(Frame::Incomplete),
                    _ => Err(MessageError::new(
                        Reason::TooLarge,
                        format!(
                            "the document exceeds the limit of {longest} bytes (receiver.max_payload)"
                        ),
                    )),
                }
            }
            _ => match capnp::frame(bytes, longest)? {
                Some(length) if length <= bytes.len() => Ok(Frame::Message(length)),
                _ => Ok(Frame::Incomplete),
            },
        }
    }

    fn buffer(&mut self, bytes: &[u8]) -> Result<(), MessageError> {
        if !self.limits.budget.take(bytes.len(), self.buffer.len()) {
            return Err(MessageError::new(
                Reason::NoBuffer,
                "all memory for incomplete messages is in use (receiver.max_buffered); try again later",
            ));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Releases the memory of an incomplete message.
    fn clear(&mut self) {
        self.limits.budget.release(self.buffer.len());
        self.buffer = Vec::new();
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Detects the framing from the first two bytes of a connection; `None` if there are fewer.
///
/// A JSON document begins with `{` or white space. A Cap'n Proto message begins with its
/// number of segments minus one, in four little-endian bytes. That is below 512, so the
/// second byte is 0 or 1, which JSON cannot have there.
fn detect(bytes: &[u8]) -> Result<Option<Framing>, MessageError> {
    let json = bytes[0] == b'{' || is_blank(bytes[0]);
    match bytes.get(1) {
        None => Ok(None),
        Some(0 | 1) => Ok(Some(Framing::Capnp)),
        Some(_) if json => Ok(Some(Framing::Json(json::Framer::default()))),
        Some(_) => Err(unrecognized(bytes)),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The error for bytes that begin neither a document nor a message.
fn unrecognized(bytes: &[u8]) -> MessageError {
    const HTTP_READS: [&[u8]; 2] = [b"GET ", b"HEAD"];
    const HTTP_WRITES: [&[u8]; 4] = [b"PUT ", b"POST", b"DELE", b"OPTI"];
    const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];
    let begins_with = |methods: &[&[u8]]| methods.iter().any(|it| bytes.starts_with(it));
    let hint = if begins_with(&HTTP_READS) {
        " (this is not an HTTP port: read metrics at exporter.scrape_expose_endpoint)".to_owned()
    } else if begins_with(&HTTP_WRITES) {
        " (this is not an HTTP port: push over HTTP to push.listen)".to_owned()
    } else if bytes.starts_with(BYTE_ORDER_MARK) {
        " (leave out the byte order mark)".to_owned()
    } else {
        format!(", not {}", json::shown(bytes[0]))
    };
    MessageError::new(
        Reason::Malformed,
        format!("expected `{{`, the beginning of an object of app names{hint}"),
    )
    .at(1, 1)
}
