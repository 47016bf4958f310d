//! Reasons for failure. One value serves as the word in the log, the label of the
//! metric and the state that lists show.

use std::fmt;

/// Defines [`Reason`]: each line gives the variant, its word, its description, and
/// whether messages quote the sender's input.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal $description:literal $quotes:literal;)+) => {
        /// Why a message, request or poll failed. The set is fixed, so a reason can be
        /// the value of a metric's label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, in order of their discriminants.
            pub const ALL: [Reason; [$($word),+].len()] = [$(Reason::$name),+];

            /// The word for logs and metric labels.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $word,)+
                }
            }

            /// A description in a few words, for a log that quotes nothing.
            pub fn describe(self) -> &'static str {
                match self {
                    $(Reason::$name => $description,)+
                }
            }

            /// Whether messages with this reason can quote the sender's input.
            pub fn quotes(self) -> bool {
                match self {
                    $(Reason::$name => $quotes,)+
                }
            }
        }
    };
}

reasons! {
    /// The bytes do not follow the wire format.
    Malformed "malformed" "not in the expected format" true;
    /// The text is not UTF-8.
    InvalidUtf8 "invalid_utf8" "the text is not UTF-8" false;
    /// The name of an app is empty, too long or has control characters.
    BadName "bad_name" "a name is empty, too long or has invalid characters" true;
    /// A message or response exceeds its size limit.
    TooLarge "too_large" "larger than the limit" false;
    /// A new app would exceed the limit of apps.
    TooManyApps "too_many_apps" "the limit of apps is reached" false;
    /// A new group would exceed the limit of groups.
    TooManyGroups "too_many_groups" "the limit of groups is reached" false;
    /// Relabelling leaves a series without a valid name.
    BadSeries "bad_series" "relabelling leaves a series without a valid name" true;
    /// The text breaks the exposition format.
    InvalidText "invalid_text" "the text breaks the exposition format" true;
    /// The text has too many families, samples or labels, or labels that are too long.
    TooManySamples "too_many_samples" "too many samples or labels, or labels too long" true;
    /// All text together would exceed the memory limit.
    TooManyBytes "too_many_bytes" "the limit of bytes is reached" false;
    /// Another sender exposes the family with another type.
    KindConflict "kind_conflict" "a family has another kind elsewhere" true;
    /// The name of the family is that of a series of another family.
    NameCollision "name_collision" "a family has a name that belongs to another one" true;
    /// A series occurs twice in the text, or another sender exposes it.
    DuplicateSeries "duplicate_series" "a series is exposed twice" true;
    /// The family has a name of the proxy's own metrics.
    ReservedName "reserved_name" "a family has a name of the proxy's own" true;
    /// A new aggregated family or series would exceed the limit.
    TooManySeries "too_many_series" "the limit of series is reached" true;
    /// A value is invalid, or cannot be added to the aggregated one.
    BadValue "bad_value" "a value is invalid or cannot be added" true;
    /// A different push used the same idempotency key.
    KeyReused "key_reused" "another push used this idempotency key" true;
    /// A sample has a timestamp where timestamps are not accepted.
    Timestamp "timestamp" "a sample has a timestamp, which is not accepted here" true;
    /// The labels of a group are invalid.
    BadLabels "bad_labels" "invalid labels" true;
    /// A parameter of the request is invalid.
    BadParameter "bad_parameter" "invalid request parameter" true;
    /// The operation is unknown or does not apply to the family.
    BadOperation "bad_operation" "the operation is unknown, or impossible for this family" true;
    /// The buckets of a histogram are invalid or differ from those it has.
    BadBuckets "bad_buckets" "invalid buckets, or buckets that differ from the histogram's" true;
    /// The request asks for something that is not supported. Messages name what is.
    Unsupported "unsupported" "not supported" false;
    /// The settings do not allow the request.
    NotAllowed "not_allowed" "the settings do not allow this" false;
    /// Nothing has the given name.
    NotFound "not_found" "nothing has that name" true;
    /// The request applies to apps, and names a target or a group.
    NotAnApp "not_an_app" "a target or a group cannot be removed this way" false;
    /// A web page of another origin must not change anything.
    ForbiddenOrigin "forbidden_origin" "pages of this origin must not change anything" false;
    /// The `Host` header does not name this server.
    ForbiddenHost "forbidden_host" "the Host header does not name this server" false;
    /// The request has no credentials, or wrong ones.
    Unauthorized "unauthorized" "no credentials, or wrong ones" false;
    /// The sender does not have the role, or may not write this app or series.
    Forbidden "forbidden" "the sender may not do this (web.access)" true;
    /// The sender has to wait after too many failed attempts.
    Throttled "throttled" "too many failed attempts" false;
    /// The sender exceeds its rate of messages or bytes.
    RateLimited "rate_limited" "the sender exceeds its rate" false;
    /// The sender would hold more memory than its share.
    ShareExceeded "share_exceeded" "the sender's share of memory is used up" false;
    /// The media type or content coding of the body is not supported.
    UnsupportedMedia "unsupported_media" "the Content-Type or Content-Encoding is not supported" true;
    /// All memory for unfinished messages is in use, or the queue of a sink is full.
    NoBuffer "no_buffer" "no memory or no room in a queue is left" false;
    /// The message or response did not arrive in time.
    Timeout "timeout" "timed out" false;
    /// The stream ended inside a message.
    Truncated "truncated" "ends too early" false;
    /// The connection broke inside a message.
    ConnectionLost "connection_lost" "the connection broke" false;
    /// The proxy closed the connection: to make room, or at shutdown.
    Closed "closed" "the connection was closed" false;
    /// The host name of a target cannot be resolved.
    Dns "dns" "the host name cannot be resolved" true;
    /// A connection to a target cannot be established.
    Connect "connect" "the connection cannot be established" false;
    /// The TLS handshake with a target failed.
    Tls "tls" "the TLS handshake failed" false;
    /// A target answered with a status other than 200.
    Status "status" "the status is not 200" false;
    /// A target redirected too often, or to an address that is not followed.
    Redirect "redirect" "too many redirects, or one that is not followed" false;
    /// A file that a poll needs cannot be read, or a URL cannot be requested.
    BadSetting "bad_setting" "a setting or its file cannot be used" false;
    /// The response of a target breaks HTTP.
    Protocol "protocol" "the answer breaks HTTP" false;
    /// The system that a sink sends to refused an item permanently.
    Refused "refused" "the other system refused it" true;
    /// The change cannot be stored, and must be before it is acknowledged.
    NotStored "not_stored" "the change cannot be stored" false;
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
    fn every_reason_has_a_word_of_its_own() {
        let mut words = Vec::new();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
            assert!(!words.contains(&reason.as_str()), "{reason}");
            words.push(reason.as_str());
        }
    }
}
