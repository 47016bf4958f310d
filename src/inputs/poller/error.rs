//! Explains in one short line why a poll failed.

use std::time::Duration;

use super::body::{BodyLimit, MAX_RECEIVED};
use super::direct::DirectError;
use crate::coding::CodingError;
use crate::http_client::{CredentialError, explain, explain_http, explain_io};
use crate::ingest::Rejection;
use crate::reason::Reason;
use crate::telemetry::clip;

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct ScrapeError {
    /// The reason: for the log, for metrics, and as the state of the target.
    pub reason: Reason,
    /// The explanation, cut if it is long.
    pub message: String,
    /// Whether the message may quote the response.
    pub quotes: bool,
}

impl ScrapeError {
    /// An error whose message does not quote the response.
    pub fn new(reason: Reason, message: &str) -> Self {
        ScrapeError {
            reason,
            message: clip(message),
            quotes: false,
        }
    }

    /// Adds a prefix that says where the error happened.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        ScrapeError {
            message: clip(&format!("{place}: {}", self.message)),
            ..self
        }
    }

    /// The poll took longer than its timeout.
    pub fn timed_out(limit: Duration) -> Self {
        let message = format!(
            "no complete response within {limit:?} (poll_external.client_timeout, or the timeout of the target)"
        );
        ScrapeError::new(Reason::Timeout, &message)
    }

    /// The response exceeds the limit on bytes, which is the target's own if `is_own`.
    pub fn too_large(limit: usize, is_own: bool) -> Self {
        let setting = match is_own {
            true => "body_size_limit of the target",
            false => "poll_external.max_body",
        };
        let message = format!("the response exceeds the limit of {limit} bytes ({setting})");
        ScrapeError::new(Reason::TooLarge, &message)
    }

    /// The response exceeds a limit; see [`ScrapeError::too_large`].
    pub fn beyond(exceeded: BodyLimit, limit: usize, is_own: bool) -> Self {
        match exceeded {
            BodyLimit::Own => ScrapeError::too_large(limit, is_own),
            BodyLimit::All => {
                let message = format!(
                    "the responses of all targets that are being received would take more than \
                     {} MiB",
                    MAX_RECEIVED >> 20
                );
                ScrapeError::new(Reason::NoBuffer, &message)
            }
        }
    }

    /// The response cannot be decompressed.
    pub fn undecodable(problem: &CodingError, limit: usize, is_own: bool) -> Self {
        match problem {
            CodingError::TooLarge { .. } => ScrapeError::too_large(limit, is_own),
            other => ScrapeError::new(Reason::from(other), &other.to_string()),
        }
    }

    /// The request to `address` failed, or the response is incomplete.
    pub fn request(problem: &reqwest::Error, address: &str) -> Self {
        let (reason, what) = explain(problem);
        ScrapeError::new(reason, &format!("{address}: {what}"))
    }

    /// Like [`ScrapeError::request`], for a direct request. `limit` is that of the response.
    pub fn direct(problem: &DirectError, address: &str, limit: usize, is_own: bool) -> Self {
        let (reason, what) = match problem {
            DirectError::TooLarge(exceeded) => {
                return ScrapeError::beyond(*exceeded, limit, is_own);
            }
            DirectError::Connect(problem) => (Reason::Connect, explain_io(problem)),
            DirectError::Request(problem) | DirectError::Body(problem) => {
                (Reason::Protocol, explain_http(problem))
            }
            DirectError::Url => (Reason::BadSetting, "the URL cannot be requested".to_owned()),
        };
        ScrapeError::new(reason, &format!("{address}: {what}"))
    }
}

impl From<Rejection> for ScrapeError {
    fn from(rejection: Rejection) -> Self {
        ScrapeError {
            reason: rejection.reason,
            quotes: rejection.reason.quotes(),
            message: rejection.message,
        }
    }
}

impl From<CredentialError> for ScrapeError {
    fn from(error: CredentialError) -> Self {
        ScrapeError::new(Reason::BadSetting, &error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_beyond_a_limit_names_the_limit() {
        for (exceeded, is_own, expected) in [
            (
                BodyLimit::Own,
                true,
                "too_large: the response exceeds the limit of 9 bytes (body_size_limit of the target)",
            ),
            (
                BodyLimit::Own,
                false,
                "too_large: the response exceeds the limit of 9 bytes (poll_external.max_body)",
            ),
            (
                BodyLimit::All,
                true,
                "no_buffer: the responses of all targets that are being received would take more than 512 MiB",
            ),
        ] {
            let error = ScrapeError::beyond(exceeded, 9, is_own);
            assert_eq!(error.to_string(), expected);
        }
    }
}
