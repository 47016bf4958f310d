//! Why a poll failed, in one short line.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter::successors;
use std::time::Duration;

use crate::coding::CodingError;
use crate::ingest::Rejection;
use crate::reason::Reason;
use crate::telemetry::clip;

/// Why a poll failed.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
    /// Whether the message may quote what the target answered.
    pub quotes: bool,
}

/// What is said of a connection that ends too early.
const CUT: &str = "the connection was closed before the answer was complete";

impl Failure {
    pub fn new(reason: Reason, message: &str) -> Self {
        Failure {
            reason,
            message: clip(message),
            quotes: false,
        }
    }

    pub fn timed_out(limit: Duration) -> Self {
        let message = format!(
            "no complete answer within {limit:?} (the target's timeout, or poll_external.client_timeout)"
        );
        Failure::new(Reason::Timeout, &message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("the answer is longer than {limit} bytes (poll_external.max_body)");
        Failure::new(Reason::TooLarge, &message)
    }

    pub fn undecodable(problem: &CodingError, limit: usize) -> Self {
        match problem {
            CodingError::TooLarge { .. } => Failure::too_large(limit),
            other => Failure::new(Reason::from(other), &other.to_string()),
        }
    }

    /// What went wrong with a request to `address`, or with its answer.
    pub fn of(problem: &reqwest::Error, address: &str) -> Self {
        let (reason, what) = explain(problem);
        Failure::new(reason, &format!("{address}: {what}"))
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Failure {
            reason: rejection.reason,
            quotes: rejection.reason.quotes(),
            message: rejection.message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// An error and its causes, those that I/O errors wrap among them.
pub fn causes<'e>(
    problem: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    successors(Some(problem), |error: &&'e (dyn Error + 'static)| {
        let error: &'e (dyn Error + 'static) = *error;
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The kind of failure, and the innermost cause in words.
fn explain(problem: &reqwest::Error) -> (Reason, String) {
    let tls = causes(problem).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        let what = match tls {
            rustls::Error::InvalidMessage(_) => format!("no TLS ({tls}): is it http://?"),
            _ => tls.to_string(),
        };
        return (Reason::Tls, what);
    }
    if problem.is_connect() && is_end(problem) {
        let what = "the connection was closed during the handshake";
        return (Reason::Tls, what.to_owned());
    }
    let reason = if problem.is_timeout() {
        Reason::Timeout
    } else if is_lookup(problem) {
        Reason::Dns
    } else if problem.is_connect() {
        Reason::Connect
    } else {
        Reason::Protocol
    };
    let incomplete = causes(problem)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_incomplete_message);
    let what = match causes(problem).last() {
        _ if incomplete || is_end(problem) => CUT.to_owned(),
        Some(cause) => match cause.downcast_ref::<io::Error>() {
            Some(io) => words(io),
            None => cause.to_string(),
        },
        None => problem.to_string(),
    };
    let what = what.strip_prefix(LOOKUP).unwrap_or(&what).to_owned();
    (reason, what)
}

/// Whether a connection ended inside an answer, as far as the answer's length
/// tells, or ended without the farewell that TLS has for it.
pub fn is_end(problem: &reqwest::Error) -> bool {
    causes(problem)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}

/// What the resolver's errors begin with.
const LOOKUP: &str = "failed to lookup address information: ";

fn is_lookup(problem: &reqwest::Error) -> bool {
    problem.is_dns()
        || causes(problem)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|io| io.to_string().starts_with(LOOKUP))
}

/// An I/O error without its number.
fn words(problem: &io::Error) -> String {
    let text = match problem.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        kind if problem.raw_os_error().is_some() && kind.to_string() != "uncategorized error" => {
            kind.to_string()
        }
        _ => problem.to_string(),
    };
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_told_without_numbers() {
        for (code, told) in [
            (111, "connection refused"),
            (104, "connection reset"),
            (113, "host unreachable"),
            (2, "no such file"),
            (24, "Too many open files"),
        ] {
            assert_eq!(words(&io::Error::from_raw_os_error(code)), told);
        }
    }

    #[test]
    fn causes_inside_io_errors_are_found() {
        let inner = io::Error::other(rustls::Error::DecryptError);
        let outer = io::Error::other(inner);
        let found = causes(&outer).any(<dyn Error>::is::<rustls::Error>);
        assert!(found);
    }
}
