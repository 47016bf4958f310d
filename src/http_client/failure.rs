//! Explains in one short line why a request failed.

use std::error::Error;
use std::io;
use std::iter::successors;

use crate::reason::Reason;

/// The message for a connection that ended too early.
const INCOMPLETE: &str = "the connection was closed before the response was complete";

/// An error and its causes, including those that are wrapped in I/O errors.
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

/// The reason for a failed request, and its innermost cause.
pub fn explain(problem: &reqwest::Error) -> (Reason, String) {
    let tls = causes(problem).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        let what = match tls {
            rustls::Error::InvalidMessage(_) => {
                format!("the server does not speak TLS ({tls}); should the URL be http://?")
            }
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
    let what = innermost(problem);
    let what = what.strip_prefix(LOOKUP).unwrap_or(&what).to_owned();
    (reason, what)
}

/// The innermost cause of an error of `hyper`.
pub fn explain_http(problem: &hyper::Error) -> String {
    innermost(problem)
}

fn innermost(problem: &(dyn Error + 'static)) -> String {
    let incomplete = causes(problem)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_incomplete_message);
    match causes(problem).last() {
        _ if incomplete || is_end(problem) => INCOMPLETE.to_owned(),
        Some(cause) => match cause.downcast_ref::<io::Error>() {
            Some(io) => text(io),
            None => cause.to_string(),
        },
        None => problem.to_string(),
    }
}

/// The innermost cause of an I/O error, in one short line.
pub fn explain_io(problem: &io::Error) -> String {
    let tls = causes(problem).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => tls.to_string(),
        None => text(problem),
    }
}

/// Whether a connection ended inside a response of known length, or without the
/// `close_notify` of TLS.
pub fn is_end(problem: &(dyn Error + 'static)) -> bool {
    causes(problem)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}

/// The prefix of the resolver's errors.
const LOOKUP: &str = "failed to lookup address information: ";

fn is_lookup(problem: &reqwest::Error) -> bool {
    problem.is_dns()
        || causes(problem)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|io| io.to_string().starts_with(LOOKUP))
}

/// The text of an I/O error without its number.
fn text(problem: &io::Error) -> String {
    let full = match problem.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        kind if problem.raw_os_error().is_some() && kind.to_string() != "uncategorized error" => {
            kind.to_string()
        }
        _ => problem.to_string(),
    };
    full.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_shown_without_numbers() {
        for (code, expected) in [
            (111, "connection refused"),
            (104, "connection reset"),
            (113, "host unreachable"),
            (2, "no such file"),
            (24, "Too many open files"),
        ] {
            assert_eq!(text(&io::Error::from_raw_os_error(code)), expected);
        }
    }

    #[test]
    fn causes_in_io_errors_are_found() {
        let inner = io::Error::other(rustls::Error::DecryptError);
        let outer = io::Error::other(inner);
        let found = causes(&outer).any(<dyn Error>::is::<rustls::Error>);
        assert!(found);
    }
}
