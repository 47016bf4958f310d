//! Why something failed: one word for the log, the metric label and the state.

use std::fmt;

use crate::coding::CodingError;
use crate::exposition::{self as parse, Limit, ParseError};
use crate::registry;
use crate::store::{BatchRefused, Refused, Suspect};

/// A reason for failure. The words are a fixed set, so they may be labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The bytes are not what the wire format allows.
    Malformed,
    /// Text is not UTF-8.
    InvalidUtf8,
    /// An app's name is empty, too long, or has control characters.
    BadName,
    /// A message or answer is past its size bound.
    TooLarge,
    /// A new app past the bound on apps.
    TooManyApps,
    /// A new group past the bound on groups.
    TooManyGroups,
    /// The text breaks the exposition format.
    InvalidText,
    /// The text has too many families, samples or labels, or too long ones.
    TooManySamples,
    /// All apps together would have too much text.
    TooManyBytes,
    /// A family is of another kind elsewhere.
    KindConflict,
    /// A family would stand inside another one.
    NameCollision,
    /// A series is there twice, or elsewhere already.
    DuplicateSeries,
    /// A family has a name of the proxy's own.
    ReservedName,
    /// A new living series or family past the bound on them.
    TooManySeries,
    /// A value that cannot be added to what is there.
    BadValue,
    /// An idempotency key that another push has had.
    KeyReused,
    /// A sample has a timestamp where none is taken.
    Timestamp,
    /// The labels of a group, as a path or a batch gives them, are wrong.
    BadLabels,
    /// A parameter of a request is wrong.
    BadParameter,
    /// It is not known what is to be done, or it cannot be done to this family.
    BadOperation,
    /// The buckets of a histogram make no sense, or do not fit.
    BadBuckets,
    /// It is not done here.
    Unsupported,
    /// The settings do not allow it.
    NotAllowed,
    /// There is nothing of that name.
    NotFound,
    /// What an app may do to itself is asked of a target or a group.
    NotAnApp,
    /// A page of that origin may not change anything.
    ForbiddenOrigin,
    /// A name that a server on the loopback is not called by.
    ForbiddenHost,
    /// The body has a type or a coding that is not read.
    UnsupportedMedia,
    /// All memory for unfinished messages is in use.
    NoBuffer,
    /// It did not arrive, or answer, in time.
    Timeout,
    /// The stream ended inside a message.
    Truncated,
    /// The connection broke inside a message.
    ConnectionLost,
    /// The connection was closed to make room, or by a shutdown.
    Closed,
    /// The name of a target's host could not be looked up.
    Dns,
    /// A target could not be connected to.
    Connect,
    /// TLS could not be agreed on, or the certificate is not to be trusted.
    Tls,
    /// A target answered with a status other than 200.
    Status,
    /// A target redirected too often, or to where it is not followed.
    Redirect,
    /// A file that a poll needs could not be read.
    BadSetting,
    /// A target's answer broke HTTP.
    Protocol,
}

impl Reason {
    pub const ALL: [Reason; 40] = [
        Reason::Malformed,
        Reason::InvalidUtf8,
        Reason::BadName,
        Reason::TooLarge,
        Reason::TooManyApps,
        Reason::TooManyGroups,
        Reason::InvalidText,
        Reason::TooManySamples,
        Reason::TooManyBytes,
        Reason::KindConflict,
        Reason::NameCollision,
        Reason::DuplicateSeries,
        Reason::ReservedName,
        Reason::TooManySeries,
        Reason::BadValue,
        Reason::KeyReused,
        Reason::Timestamp,
        Reason::BadLabels,
        Reason::BadParameter,
        Reason::BadOperation,
        Reason::BadBuckets,
        Reason::Unsupported,
        Reason::NotAllowed,
        Reason::NotFound,
        Reason::NotAnApp,
        Reason::ForbiddenOrigin,
        Reason::ForbiddenHost,
        Reason::UnsupportedMedia,
        Reason::NoBuffer,
        Reason::Timeout,
        Reason::Truncated,
        Reason::ConnectionLost,
        Reason::Closed,
        Reason::Dns,
        Reason::Connect,
        Reason::Tls,
        Reason::Status,
        Reason::Redirect,
        Reason::BadSetting,
        Reason::Protocol,
    ];

    /// Whether messages of this reason may quote what was sent.
    pub fn quotes(self) -> bool {
        !matches!(
            self,
            Reason::InvalidUtf8
                | Reason::TooLarge
                | Reason::TooManyApps
                | Reason::TooManyGroups
                | Reason::TooManyBytes
                | Reason::NotAllowed
                | Reason::NotAnApp
                | Reason::ForbiddenOrigin
                | Reason::ForbiddenHost
                | Reason::NoBuffer
                | Reason::Timeout
                | Reason::Truncated
                | Reason::ConnectionLost
                | Reason::Closed
                | Reason::Connect
                | Reason::Tls
                | Reason::Status
                | Reason::Redirect
                | Reason::BadSetting
                | Reason::Protocol
        )
    }

    /// The reason in a few words, for a log that quotes nothing.
    pub fn describe(self) -> &'static str {
        match self {
            Reason::Malformed => "not in the expected format",
            Reason::InvalidUtf8 => "the text is not UTF-8",
            Reason::BadName => "a name is empty, too long or has invalid characters",
            Reason::TooLarge => "larger than the limit",
            Reason::TooManyApps => "the limit of apps is reached",
            Reason::TooManyGroups => "the limit of groups is reached",
            Reason::InvalidText => "the text breaks the exposition format",
            Reason::TooManySamples => "too many samples or labels, or labels too long",
            Reason::TooManyBytes => "the limit of bytes is reached",
            Reason::KindConflict => "a family has another kind elsewhere",
            Reason::NameCollision => "a family has a name that belongs to another one",
            Reason::DuplicateSeries => "a series is exposed twice",
            Reason::ReservedName => "a family has a name of the proxy's own",
            Reason::TooManySeries => "the limit of series is reached",
            Reason::BadValue => "the value cannot be added",
            Reason::KeyReused => "another push used this idempotency key",
            Reason::Timestamp => "a sample has a timestamp, which is not accepted here",
            Reason::BadLabels => "invalid labels",
            Reason::BadParameter => "invalid request parameter",
            Reason::BadOperation => "the operation is unknown, or impossible for this family",
            Reason::BadBuckets => "invalid buckets, or buckets that differ from the histogram's",
            Reason::Unsupported => "not supported",
            Reason::NotAllowed => "the settings do not allow this",
            Reason::NotFound => "nothing has that name",
            Reason::NotAnApp => "a target or a group cannot be removed this way",
            Reason::ForbiddenOrigin => "a page of that origin may not change anything",
            Reason::ForbiddenHost => "the server is not called by that name",
            Reason::UnsupportedMedia => "the Content-Type or Content-Encoding is not supported",
            Reason::NoBuffer => "the memory for unfinished messages is used up",
            Reason::Timeout => "timed out",
            Reason::Truncated => "ends too early",
            Reason::ConnectionLost => "the connection broke",
            Reason::Closed => "the connection was closed",
            Reason::Dns => "the host name cannot be resolved",
            Reason::Connect => "the connection was refused",
            Reason::Tls => "the TLS handshake failed",
            Reason::Status => "the status is not 200",
            Reason::Redirect => "too many redirects",
            Reason::BadSetting => "a configured file cannot be read",
            Reason::Protocol => "the answer breaks HTTP",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::BadName => "bad_name",
            Reason::TooLarge => "too_large",
            Reason::TooManyApps => "too_many_apps",
            Reason::TooManyGroups => "too_many_groups",
            Reason::InvalidText => "invalid_text",
            Reason::TooManySamples => "too_many_samples",
            Reason::TooManyBytes => "too_many_bytes",
            Reason::KindConflict => "kind_conflict",
            Reason::NameCollision => "name_collision",
            Reason::DuplicateSeries => "duplicate_series",
            Reason::ReservedName => "reserved_name",
            Reason::TooManySeries => "too_many_series",
            Reason::BadValue => "bad_value",
            Reason::KeyReused => "key_reused",
            Reason::Timestamp => "timestamp",
            Reason::BadLabels => "bad_labels",
            Reason::BadParameter => "bad_parameter",
            Reason::BadOperation => "bad_operation",
            Reason::BadBuckets => "bad_buckets",
            Reason::Unsupported => "unsupported",
            Reason::NotAllowed => "not_allowed",
            Reason::NotFound => "not_found",
            Reason::NotAnApp => "not_an_app",
            Reason::ForbiddenOrigin => "forbidden_origin",
            Reason::ForbiddenHost => "forbidden_host",
            Reason::UnsupportedMedia => "unsupported_media",
            Reason::NoBuffer => "no_buffer",
            Reason::Timeout => "timeout",
            Reason::Truncated => "truncated",
            Reason::ConnectionLost => "connection_lost",
            Reason::Closed => "closed",
            Reason::Dns => "dns",
            Reason::Connect => "connect",
            Reason::Tls => "tls",
            Reason::Status => "status",
            Reason::Redirect => "redirect",
            Reason::BadSetting => "bad_setting",
            Reason::Protocol => "protocol",
        }
    }
}

impl From<&BatchRefused> for Reason {
    fn from(refused: &BatchRefused) -> Self {
        use registry::Refused as Registry;
        match refused {
            BatchRefused::KindConflict { .. }
            | BatchRefused::Registry(
                Registry::KindConflict { .. } | Registry::Uncountable { .. },
            ) => Reason::KindConflict,
            BatchRefused::NameCollision { .. } => Reason::NameCollision,
            BatchRefused::DuplicateSeries { .. } => Reason::DuplicateSeries,
            BatchRefused::TooManyBytes { .. } => Reason::TooManyBytes,
            BatchRefused::Registry(
                Registry::TooManyFamilies { .. }
                | Registry::TooManySeries { .. }
                | Registry::TooManySeriesOfFamily { .. },
            ) => Reason::TooManySeries,
            BatchRefused::Registry(
                Registry::ReservedLabel { .. } | Registry::LabelsTooLong { .. },
            ) => Reason::BadLabels,
            BatchRefused::Registry(Registry::Name { .. }) => Reason::BadName,
            BatchRefused::Registry(_) => Reason::BadValue,
        }
    }
}

impl From<&ParseError> for Reason {
    fn from(fault: &ParseError) -> Self {
        match fault.reason {
            parse::Reason::TooLong { .. }
            | parse::Reason::Limit {
                limit: Limit::TextBytes,
                ..
            } => Reason::TooLarge,
            parse::Reason::Limit { .. } => Reason::TooManySamples,
            parse::Reason::DuplicateSeries { .. } => Reason::DuplicateSeries,
            parse::Reason::Timestamp { .. } => Reason::Timestamp,
            _ => Reason::InvalidText,
        }
    }
}

impl From<&CodingError> for Reason {
    fn from(problem: &CodingError) -> Self {
        match problem {
            CodingError::Unknown(_) | CodingError::Several(_) => Reason::UnsupportedMedia,
            CodingError::TooLarge { .. } => Reason::TooLarge,
            CodingError::NoRoom => Reason::NoBuffer,
            CodingError::Truncated { .. } | CodingError::Corrupt { .. } => Reason::Malformed,
        }
    }
}

impl From<&Suspect> for Reason {
    fn from(suspect: &Suspect) -> Self {
        match suspect {
            Suspect::Text(fault) => Reason::from(fault),
            Suspect::Reserved { .. } => Reason::ReservedName,
            Suspect::NoMemory { .. } => Reason::TooManyBytes,
        }
    }
}

impl From<&Refused> for Reason {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::TooManyApps { .. } => Reason::TooManyApps,
            Refused::TooManyGroups { .. } => Reason::TooManyGroups,
            Refused::TooManyBytes { .. } => Reason::TooManyBytes,
            Refused::KindConflict { .. } => Reason::KindConflict,
            Refused::NameCollision { .. } => Reason::NameCollision,
            Refused::DuplicateSeries { .. } => Reason::DuplicateSeries,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_place_with_a_word_of_its_own() {
        let mut words = Vec::new();
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason}");
            assert!(!words.contains(&reason.as_str()), "{reason}");
            words.push(reason.as_str());
        }
    }
}
