//! Errors of the driver: their meaning for rows, and their wording.

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};

use crate::http_client::explain_io;
use crate::telemetry::clip_to;

/// Limit on the shown text of the server, in bytes.
const SHOWN: usize = 300;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The same request can succeed later.
    Later {
        /// What happened. It quotes nothing that was sent.
        message: String,
        /// Whether a new connection to the cluster can help.
        reconnect: bool,
    },
    /// The server does not take these rows, or the table has changed.
    Refused {
        /// What happened. It quotes nothing that was sent.
        message: String,
        /// The answer of the server, which may quote what was sent.
        answer: String,
    },
}

/// Judges the failure of a request with rows.
pub fn of_request(error: &ExecutionError) -> Failure {
    let later = |message: String, reconnect| Failure::Later { message, reconnect };
    match error {
        ExecutionError::BadQuery(problem) => Failure::Refused {
            message: "a value cannot be encoded".to_owned(),
            answer: clip_to(SHOWN, &problem.to_string(), "…"),
        },
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(problem, answer)) => {
            match problem {
                DbError::Invalid
                | DbError::SyntaxError
                | DbError::ConfigError
                | DbError::FunctionFailure { .. } => Failure::Refused {
                    message: format!("the server answered: {problem}"),
                    answer: clip_to(SHOWN, answer, "…"),
                },
                _ => later(format!("the server answered: {problem}"), false),
            }
        }
        ExecutionError::LastAttemptError(
            problem @ (RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)),
        ) => Failure::Refused {
            message: "a value cannot be encoded".to_owned(),
            answer: clip_to(SHOWN, &problem.to_string(), "…"),
        },
        ExecutionError::ConnectionPoolError(problem) => later(of_pool(problem), true),
        ExecutionError::RequestTimeout(timeout) => {
            later(format!("no answer within {timeout:?}"), false)
        }
        ExecutionError::PrepareError(problem) => later(of_prepare(problem), true),
        other => later(clip_to(SHOWN, &other.to_string(), "…"), true),
    }
}

/// Why one of the proxy's own statements failed, in the words of the server.
pub fn of_statement(error: &ExecutionError) -> String {
    match error {
        ExecutionError::LastAttemptError(problem) => of_attempt(problem),
        ExecutionError::ConnectionPoolError(problem) => of_pool(problem),
        ExecutionError::PrepareError(problem) => of_prepare(problem),
        other => clip_to(SHOWN, &other.to_string(), "…"),
    }
}

/// Why a statement cannot be prepared.
pub fn of_prepare(error: &PrepareError) -> String {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        PrepareError::ConnectionPoolError(problem) => of_pool(problem),
        other => clip_to(SHOWN, &other.to_string(), "…"),
    }
}

/// Why there is no connection to the cluster.
pub fn of_session(error: &NewSessionError) -> String {
    match error {
        NewSessionError::FailedToResolveAnyHostname(hosts) => {
            format!("no host name can be resolved: {}", hosts.join(", "))
        }
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(problem)) => {
            of_pool(problem)
        }
        other => clip_to(SHOWN, &other.to_string(), "…"),
    }
}

fn of_attempt(error: &RequestAttemptError) -> String {
    match error {
        RequestAttemptError::DbError(problem, answer) => {
            format!("{problem}: {}", clip_to(SHOWN, answer, "…"))
        }
        other => clip_to(SHOWN, &other.to_string(), "…"),
    }
}

fn of_pool(error: &ConnectionPoolError) -> String {
    match error {
        ConnectionPoolError::Broken {
            last_connection_error,
        } => of_connection(last_connection_error),
        other => other.to_string(),
    }
}

fn of_connection(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectTimeout => "the connection timed out".to_owned(),
        ConnectionError::IoError(problem) => explain_io(problem),
        ConnectionError::ConnectionSetupRequestError(problem) => match problem.get_error() {
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                "the server wants a login, and `login` is not set".to_owned()
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, answer) => {
                format!("the login is refused: {}", clip_to(SHOWN, answer, "…"))
            }
            ConnectionSetupRequestErrorKind::BrokenConnection(_) => {
                "the connection was closed during the handshake; does the server want TLS, or a \
                 certificate of the proxy?"
                    .to_owned()
            }
            other => clip_to(SHOWN, &other.to_string(), "…"),
        },
        other => clip_to(SHOWN, &other.to_string(), "…"),
    }
}
