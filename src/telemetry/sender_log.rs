//! Log lines that senders cause, with a rate limit for each kind of event.
//!
//! A burst of each kind is written, then two lines a second, which say how many
//! were suppressed. A line says what happened, where and why, and quotes nothing
//! that was sent. A second line, at `debug`, does.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::kv::{self, Key, Source, Value, VisitSource};
use log::{Level, Record};

use super::{RateLimit, rejections};
use crate::clock;
use crate::peer::Peer;
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
    /// A target began to fail, or fails for another reason.
    TargetFailure,
    /// A target answers again.
    TargetRecovery,
    /// A connection was closed or broke.
    Connection,
    /// A TLS handshake failed, or a load balancer sent no PROXY header.
    Handshake,
    /// A section was withdrawn.
    Withdrawal,
    /// Lines of a text were left out, since they cannot be read.
    SkippedLines,
    /// The inspection of a text found something.
    Finding,
    /// The program itself failed while it served a request.
    InternalError,
}

impl LogEvent {
    const ALL: [LogEvent; 15] = [
        LogEvent::MessageRejected,
        LogEvent::RequestRejected,
        LogEvent::Removal,
        LogEvent::Webhook,
        LogEvent::OperationRejected,
        LogEvent::OperationTransport,
        LogEvent::Sink,
        LogEvent::TargetFailure,
        LogEvent::TargetRecovery,
        LogEvent::Connection,
        LogEvent::Handshake,
        LogEvent::Withdrawal,
        LogEvent::SkippedLines,
        LogEvent::Finding,
        LogEvent::InternalError,
    ];

    /// The log target, by which `RUST_LOG` selects lines.
    pub const fn target(self) -> &'static str {
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
            LogEvent::TargetFailure | LogEvent::TargetRecovery => "exporter_proxy::poller",
            LogEvent::Connection | LogEvent::Handshake => "exporter_proxy::net",
            LogEvent::Withdrawal => "exporter_proxy::store",
            LogEvent::SkippedLines => "exporter_proxy::ingest",
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
            | LogEvent::TargetFailure
            | LogEvent::Handshake
            | LogEvent::SkippedLines
            | LogEvent::Finding => Level::Warn,
            LogEvent::Removal
            | LogEvent::Webhook
            | LogEvent::TargetRecovery
            | LogEvent::Withdrawal => Level::Info,
            LogEvent::Connection => Level::Debug,
            LogEvent::InternalError => Level::Error,
        }
    }

    /// The noun for a number of such lines.
    fn name(self, count: u64) -> &'static str {
        let (one, several) = match self {
            LogEvent::MessageRejected => ("rejected message", "rejected messages"),
            LogEvent::RequestRejected => ("rejected request", "rejected requests"),
            LogEvent::Removal => ("removal", "removals"),
            LogEvent::Webhook => ("webhook", "webhooks"),
            LogEvent::OperationRejected => ("rejected operation", "rejected operations"),
            LogEvent::OperationTransport => (
                "failure to receive or forward operations",
                "failures to receive or forward operations",
            ),
            LogEvent::Sink => ("failure of a sink", "failures of sinks"),
            LogEvent::TargetFailure => ("failure of a target", "failures of targets"),
            LogEvent::TargetRecovery => ("recovery of a target", "recoveries of targets"),
            LogEvent::Connection => ("closed connection", "closed connections"),
            LogEvent::Handshake => ("failed handshake", "failed handshakes"),
            LogEvent::Withdrawal => ("withdrawal", "withdrawals"),
            LogEvent::SkippedLines => (
                "text with lines that cannot be read",
                "texts with lines that cannot be read",
            ),
            LogEvent::Finding => ("finding in a text", "findings in texts"),
            LogEvent::InternalError => ("internal error", "internal errors"),
        };
        if count == 1 { one } else { several }
    }
}

/// The lines of each kind that are written at once.
const BURST: u32 = 20;

/// The time in which one line of each kind is written after the burst.
const REFILL: Duration = Duration::from_millis(500);

/// The limit of each kind. As the log, they belong to the process.
static LIMITS: [Mutex<RateLimit>; LogEvent::ALL.len()] =
    [const { Mutex::new(RateLimit::new(BURST, REFILL)) }; LogEvent::ALL.len()];

fn limit(event: LogEvent) -> MutexGuard<'static, RateLimit> {
    let limit = &LIMITS[event as usize];
    limit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The subject of a line. Its message names it, too; these are fields for programs that read the
/// log (`log.format = "json"`).
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    peer: Option<Peer>,
    subject: Option<(&'static str, &'a str)>,
    reason: Option<Reason>,
}

impl<'a> About<'a> {
    /// Nothing but the message.
    pub const NOTHING: About<'static> = About {
        peer: None,
        subject: None,
        reason: None,
    };

    /// Something that `peer` sent or asked for.
    pub fn peer(peer: Peer) -> Self {
        About {
            peer: Some(peer),
            ..About::NOTHING
        }
    }

    /// The `name` of an app, a target or the like; `kind` is the word for it.
    #[must_use]
    pub fn named(self, kind: &'static str, name: &'a str) -> Self {
        About {
            subject: Some((kind, name)),
            ..self
        }
    }

    /// The reason of a failure.
    #[must_use]
    pub fn reason(self, reason: Reason) -> Self {
        About {
            reason: Some(reason),
            ..self
        }
    }
}

/// The fields of a line.
struct Fields<'a> {
    about: About<'a>,
    /// Lines of the same kind that were suppressed since the last one.
    suppressed: u64,
}

impl Source for Fields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        let About {
            peer,
            subject,
            reason,
        } = &self.about;
        if let Some(peer) = peer
            && *peer != Peer::Unknown
        {
            visitor.visit_pair(Key::from("peer"), Value::from_display(peer))?;
        }
        if let Some((kind, name)) = subject {
            visitor.visit_pair(Key::from(*kind), Value::from(*name))?;
        }
        if let Some(reason) = reason {
            visitor.visit_pair(Key::from("reason"), Value::from(reason.as_str()))?;
        }
        if self.suppressed > 0 {
            visitor.visit_pair(Key::from("suppressed"), Value::from(self.suppressed))?;
        }
        Ok(())
    }
}

/// Writes a line, or counts it as suppressed. Returns whether it was written.
pub fn write(event: LogEvent, about: About<'_>, message: Arguments<'_>) -> bool {
    let level = event.level();
    if !log::log_enabled!(target: event.target(), level) {
        return false;
    }
    let Some(suppressed) = limit(event).allow(clock::tick()) else {
        return false;
    };
    let fields = Fields { about, suppressed };
    if suppressed == 0 {
        write_line(event, level, &fields, message);
    } else {
        let name = event.name(suppressed);
        let message = format_args!("{message} ({suppressed} more {name} not logged)");
        write_line(event, level, &fields, message);
    }
    true
}

/// Writes a second line at `debug`, which quotes what was sent.
pub fn write_details(event: LogEvent, about: About<'_>, message: Arguments<'_>) {
    let fields = Fields {
        about,
        suppressed: 0,
    };
    if log::log_enabled!(target: event.target(), Level::Debug) {
        write_line(event, Level::Debug, &fields, message);
    }
}

fn write_line(event: LogEvent, level: Level, fields: &Fields<'_>, message: Arguments<'_>) {
    let record = Record::builder()
        .target(event.target())
        .level(level)
        .args(message)
        .key_values(fields)
        .build();
    log::logger().log(&record);
}

/// Writes that `what` was rejected and why. The message for the sender, which may
/// quote what it sent, is written at `debug` only.
pub fn rejected(
    event: LogEvent,
    about: About<'_>,
    what: Arguments<'_>,
    reason: Reason,
    message: &str,
) {
    let about = about.reason(reason);
    let public = without_excerpts(reason, message);
    rejections::note(what, reason, &public);
    if write(
        event,
        about,
        format_args!("{what} rejected ({reason}): {public}"),
    ) && *public != *message
    {
        let details = format_args!("{what} rejected ({reason}): {message}");
        write_details(event, about, details);
    }
}

/// Writes that the program itself failed.
pub fn internal_error(message: Arguments<'_>) {
    write(LogEvent::InternalError, About::NOTHING, message);
}

/// Writes the number of suppressed lines of each kind whose limit allows a line.
/// `force` writes those of every kind, before the program ends.
pub fn report_suppressed(force: bool) {
    let now = clock::tick();
    for event in LogEvent::ALL {
        if let Some(suppressed) = limit(event).take_suppressed(now, force) {
            let fields = Fields {
                about: About::NOTHING,
                suppressed,
            };
            let message = format_args!("{suppressed} {} not logged", event.name(suppressed));
            write_line(event, event.level(), &fields, message);
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

/// The part of a message that quotes nothing: the place that it begins with, as in
/// `group {job="x"}, line 2, column 5`, or the form that is required.
fn place(message: &str) -> &str {
    const BEGINNINGS: [&str; 8] = [
        "app ",
        "target ",
        "group ",
        "groups[",
        "the body",
        "line ",
        "message ",
        "timestamp must be ",
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
    fn one_line_is_counted_in_the_singular() {
        for (count, name) in [(1, "failure of a sink"), (2, "failures of sinks")] {
            assert_eq!(LogEvent::Sink.name(count), name);
        }
    }

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
                Reason::BadValue,
                "timestamp must be text such as \"12:00\": \"S3CR3T\" is not",
                "timestamp must be text such as \"12:00\": a value is invalid or cannot be added",
            ),
            (
                Reason::Unsupported,
                "op raw needs a sink",
                "op raw needs a sink",
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
