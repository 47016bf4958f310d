//! Log lines that senders cause, with a rate limit for each kind of event.
//!
//! A burst of each kind is written, then two lines a second, which say how many
//! were suppressed. A line says what happened, where and why, and quotes nothing
//! that was sent. A second line, at `debug`, does.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;

use super::RateLimit;
use crate::clock;
use crate::reason::Reason;

/// The kind of event that a line reports. Each kind has a rate limit of its own, so
/// that none crowds out another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEvent {
    /// A receiver rejected a message.
    MessageRejected,
    /// An HTTP request was rejected.
    RequestRejected,
    /// A request removed something, or stopped the program.
    Removal,
    /// A webhook was accepted.
    Webhook,
    /// An operation was rejected, here or by the server it was forwarded to.
    OperationRejected,
    /// Operations could not be forwarded or read.
    OperationTransport,
    /// A sink could not send, or the other system refused items.
    Sink,
    /// A connection was closed or broke.
    Connection,
    /// A TLS handshake failed.
    Handshake,
    /// A section was withdrawn.
    Withdrawal,
    /// The inspection of a text found something.
    Finding,
    /// The program itself failed while it served a request.
    InternalError,
}

impl LogEvent {
    const ALL: [LogEvent; 12] = [
        LogEvent::MessageRejected,
        LogEvent::RequestRejected,
        LogEvent::Removal,
        LogEvent::Webhook,
        LogEvent::OperationRejected,
        LogEvent::OperationTransport,
        LogEvent::Sink,
        LogEvent::Connection,
        LogEvent::Handshake,
        LogEvent::Withdrawal,
        LogEvent::Finding,
        LogEvent::InternalError,
    ];

    /// The log target, by which `RUST_LOG` selects lines.
    fn target(self) -> &'static str {
        match self {
            LogEvent::MessageRejected => "exporter_proxy::receiver",
            LogEvent::RequestRejected | LogEvent::Removal | LogEvent::InternalError => {
                "exporter_proxy::http"
            }
            LogEvent::Webhook => "exporter_proxy::webhooks",
            LogEvent::OperationRejected | LogEvent::OperationTransport => {
                "exporter_proxy::operations"
            }
            LogEvent::Sink => "exporter_proxy::sinks",
            LogEvent::Connection | LogEvent::Handshake => "exporter_proxy::net",
            LogEvent::Withdrawal => "exporter_proxy::store",
            LogEvent::Finding => "exporter_proxy::inspector",
        }
    }

    fn level(self) -> Level {
        match self {
            LogEvent::MessageRejected
            | LogEvent::RequestRejected
            | LogEvent::OperationRejected
            | LogEvent::OperationTransport
            | LogEvent::Sink
            | LogEvent::Handshake
            | LogEvent::Finding => Level::Warn,
            LogEvent::Removal | LogEvent::Webhook | LogEvent::Withdrawal => Level::Info,
            LogEvent::Connection => Level::Debug,
            LogEvent::InternalError => Level::Error,
        }
    }

    /// The plural, for the count of suppressed lines.
    fn plural(self) -> &'static str {
        match self {
            LogEvent::MessageRejected => "rejected messages",
            LogEvent::RequestRejected => "rejected requests",
            LogEvent::Removal => "removals",
            LogEvent::Webhook => "webhooks",
            LogEvent::OperationRejected => "rejected operations",
            LogEvent::OperationTransport => "failures to receive or forward operations",
            LogEvent::Sink => "failures of sinks",
            LogEvent::Connection => "closed connections",
            LogEvent::Handshake => "failed TLS handshakes",
            LogEvent::Withdrawal => "withdrawals",
            LogEvent::Finding => "findings in texts",
            LogEvent::InternalError => "internal errors",
        }
    }
}

/// The lines of each kind that are written at once.
const BURST: u32 = 20;

/// After the burst, one line of each kind is written in this time.
const REFILL: Duration = Duration::from_millis(500);

/// The limit of each kind. The log belongs to the process, and so do its limits.
static LIMITS: [Mutex<RateLimit>; LogEvent::ALL.len()] =
    [const { Mutex::new(RateLimit::new(BURST, REFILL)) }; LogEvent::ALL.len()];

fn limit(event: LogEvent) -> MutexGuard<'static, RateLimit> {
    let limit = &LIMITS[event as usize];
    limit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line, or counts it as suppressed. Returns whether it was written.
pub fn write(event: LogEvent, message: Arguments<'_>) -> bool {
    let (target, level) = (event.target(), event.level());
    if !log::log_enabled!(target: target, level) {
        return false;
    }
    let Some(suppressed) = limit(event).allow(clock::tick()) else {
        return false;
    };
    if suppressed == 0 {
        log::log!(target: target, level, "{message}");
    } else {
        let plural = event.plural();
        log::log!(target: target, level, "{message} ({suppressed} more {plural} not logged)");
    }
    true
}

/// Writes that `what` was rejected and why. The message for the sender, which may
/// quote what it sent, is written at `debug` only.
pub fn rejected(event: LogEvent, what: Arguments<'_>, reason: Reason, message: &str) {
    let public = without_excerpts(reason, message);
    if write(event, format_args!("{what} rejected ({reason}): {public}")) && *public != *message {
        log::debug!(target: event.target(), "{what} rejected ({reason}): {message}");
    }
}

/// Writes that the program itself failed.
pub fn internal_error(message: Arguments<'_>) {
    write(LogEvent::InternalError, message);
}

/// Writes the number of suppressed lines of each kind whose limit allows a line.
/// `force` writes those of every kind, before the program ends.
pub fn report_suppressed(force: bool) {
    let now = clock::tick();
    for event in LogEvent::ALL {
        if let Some(suppressed) = limit(event).take_suppressed(now, force) {
            let (target, level) = (event.target(), event.level());
            log::log!(target: target, level, "{suppressed} {} not logged", event.plural());
        }
    }
}

/// The message without quotes of what was sent: if the reason's messages can quote
/// it, only its place and the description of the reason are kept.
pub fn without_excerpts(reason: Reason, message: &str) -> Cow<'_, str> {
    if !reason.quotes() {
        return Cow::Borrowed(message);
    }
    match place(message) {
        "" => Cow::Borrowed(reason.describe()),
        place => Cow::Owned(format!("{place}: {}", reason.describe())),
    }
}

/// The place that a message begins with: `group {job="x"}, line 2, column 5`.
fn place(message: &str) -> &str {
    const BEGINNINGS: [&str; 7] = [
        "app ", "target ", "group ", "groups[", "the body", "line ", "message ",
    ];
    if !BEGINNINGS.iter().any(|begin| message.starts_with(begin)) {
        return "";
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in message.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted && message[at..].starts_with(": ") => return &message[..at],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_index_their_own_limit() {
        for (index, event) in LogEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, index, "{event:?}");
        }
    }

    #[test]
    fn lines_quote_nothing_that_was_sent() {
        for (reason, message, expected) in [
            (
                Reason::InvalidText,
                "group {job=\"a: b\"}, line 2, column 5: expected '=', found \"S3CR3T\"",
                "group {job=\"a: b\"}, line 2, column 5: the text breaks the exposition format",
            ),
            (
                Reason::DuplicateSeries,
                "app \"a\\\": \", line 2: series m{x=\"S3CR3T\"} is exposed twice",
                "app \"a\\\": \", line 2: a series is exposed twice",
            ),
            (
                Reason::BadParameter,
                "ttl must be a number, not \"S3CR3T\"",
                "invalid request parameter",
            ),
            (
                Reason::TooLarge,
                "the body has more than 5 bytes (push.max_body)",
                "the body has more than 5 bytes (push.max_body)",
            ),
        ] {
            assert_eq!(without_excerpts(reason, message), expected);
        }
    }
}
