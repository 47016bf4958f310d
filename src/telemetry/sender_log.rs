//! Rate limit for log lines that senders cause: a burst of each kind is written,
//! then a few a second, which say how many lines were left out.
//!
//! A line says what happened, where and why in our words. What a sender sent is
//! only quoted in a second line, at `debug`.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::reason::Reason;

/// What a line tells of. Each kind has an allowance of its own, so that none
/// can crowd out another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A message that a receiver refuses.
    Message,
    /// A request over HTTP that is refused.
    Request,
    /// A request that removes something, or stops the program.
    Removal,
    /// A webhook that is taken.
    Webhook,
    /// An operation that is refused, here or where it was sent on to.
    Operation,
    /// Operations that cannot be sent on, or read.
    Transport,
    /// A connection that is closed or breaks.
    Connection,
    /// A section that is withdrawn.
    Withdrawal,
    /// What the inspection of a text found.
    Finding,
    /// A fault of the program's own that a request met.
    Fault,
}

impl Line {
    const ALL: [Line; 10] = [
        Line::Message,
        Line::Request,
        Line::Removal,
        Line::Webhook,
        Line::Operation,
        Line::Transport,
        Line::Connection,
        Line::Withdrawal,
        Line::Finding,
        Line::Fault,
    ];

    /// Where the line is filed, as `RUST_LOG` names it.
    fn target(self) -> &'static str {
        match self {
            Line::Message => "exporter_proxy::receiver",
            Line::Request | Line::Removal | Line::Fault => "exporter_proxy::http",
            Line::Webhook => "exporter_proxy::webhooks",
            Line::Operation | Line::Transport => "exporter_proxy::operations",
            Line::Connection => "exporter_proxy::net",
            Line::Withdrawal => "exporter_proxy::store",
            Line::Finding => "exporter_proxy::inspector",
        }
    }

    fn level(self) -> Level {
        match self {
            Line::Message | Line::Request | Line::Operation | Line::Transport | Line::Finding => {
                Level::Warn
            }
            Line::Removal | Line::Webhook | Line::Withdrawal => Level::Info,
            Line::Connection => Level::Debug,
            Line::Fault => Level::Error,
        }
    }

    /// The lines in a summary of those that were left out.
    fn words(self) -> &'static str {
        match self {
            Line::Message => "refused messages",
            Line::Request => "refused requests",
            Line::Removal => "removals",
            Line::Webhook => "webhooks",
            Line::Operation => "refused operations",
            Line::Transport => "failures of operations' sockets",
            Line::Connection => "closed connections",
            Line::Withdrawal => "withdrawals",
            Line::Finding => "findings in texts",
            Line::Fault => "faults",
        }
    }
}

/// Lines of a kind that may come at once, ...
const BURST: u32 = 20;

/// ... and how long it takes until one more may.
const REFILL: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Allowance(Mutex<State>);

#[derive(Debug)]
struct State {
    left: u32,
    /// Since when `left` is as it is; `None` before the first line.
    since: Option<Instant>,
    left_out: u64,
}

impl Allowance {
    const fn new() -> Self {
        Allowance(Mutex::new(State {
            left: BURST,
            since: None,
            left_out: 0,
        }))
    }

    /// Takes a line, and returns how many were left out before it; `None`
    /// where it is left out itself.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.has_room(now) {
            state.left_out += 1;
            return None;
        }
        state.left -= 1;
        Some(std::mem::take(&mut state.left_out))
    }

    /// How many were left out, where that may be told now or `at_once`.
    fn left_out(&self, now: Instant, at_once: bool) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left_out == 0 || !(state.has_room(now) || at_once) {
            return None;
        }
        state.left = state.left.saturating_sub(1);
        Some(std::mem::take(&mut state.left_out))
    }
}

impl State {
    fn has_room(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_millis() / REFILL.as_millis();
        if passed > 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = Some(now);
        }
        self.left > 0
    }
}

/// The log is the process's, and so is what may be written to it.
static ALLOWANCES: [Allowance; Line::ALL.len()] = [const { Allowance::new() }; Line::ALL.len()];

/// Writes a line, or counts it as left out. Returns whether it was written.
pub fn write(line: Line, message: Arguments<'_>) -> bool {
    let (target, level) = (line.target(), line.level());
    if !log::log_enabled!(target: target, level) {
        return false;
    }
    let Some(left_out) = ALLOWANCES[line as usize].take(Instant::now()) else {
        return false;
    };
    if left_out == 0 {
        log::log!(target: target, level, "{message}");
    } else {
        let words = line.words();
        log::log!(target: target, level, "{message} ({left_out} more {words} not logged)");
    }
    true
}

/// Writes that `who` was refused and why, and at `debug` what is told to the
/// sender, which may quote what it sent.
pub fn refused(line: Line, who: Arguments<'_>, reason: Reason, message: &str) {
    let told = without_excerpts(reason, message);
    if write(line, format_args!("{who} refused ({reason}): {told}")) && *told != *message {
        log::debug!(target: line.target(), "{who} refused ({reason}): {message}");
    }
}

/// Writes that something of the program's own went wrong.
pub fn fault(message: Arguments<'_>) {
    write(Line::Fault, message);
}

/// Writes how many lines were left out of each kind of which one may be
/// written again; of all kinds where it is the end.
pub fn tell_left_out(at_the_end: bool) {
    let now = Instant::now();
    for line in Line::ALL {
        if let Some(left_out) = ALLOWANCES[line as usize].left_out(now, at_the_end) {
            let (target, level) = (line.target(), line.level());
            log::log!(target: target, level, "{left_out} {} not logged", line.words());
        }
    }
}

/// A message for the log: where it may quote what was sent, its place and the
/// reason in our words.
pub fn without_excerpts(reason: Reason, message: &str) -> Cow<'_, str> {
    if !reason.quotes() {
        return Cow::Borrowed(message);
    }
    match place(message) {
        "" => Cow::Borrowed(reason.describe()),
        place => Cow::Owned(format!("{place}: {}", reason.describe())),
    }
}

/// The place with which a message begins: `group {job="x"}, line 2, column 5`.
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
    fn every_kind_has_its_own_place() {
        for (place, line) in Line::ALL.into_iter().enumerate() {
            assert_eq!(line as usize, place, "{line:?}");
        }
    }

    #[test]
    fn what_comes_too_often_is_counted_and_told_later() {
        let allowance = Allowance::new();
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(allowance.take(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(allowance.take(start), None);
        }
        assert_eq!(allowance.left_out(start, false), None);
        let later = start + REFILL;
        assert_eq!(allowance.take(later), Some(1000));
        assert_eq!(allowance.take(later), None);
        assert_eq!(allowance.left_out(later, false), None);
        assert_eq!(allowance.left_out(later + REFILL, false), Some(1));
        assert_eq!(allowance.left_out(later + REFILL, true), None);
        assert_eq!(allowance.take(later + REFILL), None);
        assert_eq!(allowance.left_out(later + REFILL, true), Some(1));
        // However long it was quiet.
        let much_later = later + REFILL * 10 * BURST;
        let taken = (0..2 * BURST).filter(|_| allowance.take(much_later).is_some());
        assert_eq!(taken.count(), BURST as usize);
    }

    #[test]
    fn a_line_quotes_nothing_that_was_sent() {
        for (reason, message, told) in [
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
            assert_eq!(without_excerpts(reason, message), told);
        }
    }
}
