//! Decides whether a caller has a role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderName, HeaderValue};

use super::caller::Caller;
use super::config::{ListenerKind, Web};
use super::passwords::{Passwords, Refusal};
use super::role::Role;
use super::rules::{FileProblem, Identity, Rules};
use super::scope::Scope;
use crate::clock;
use crate::fairness::Bucket;
use crate::live::Live;
use crate::reason::Reason;
use crate::telemetry::{Credential, ListenerName, SecurityStats};

/// The `Retry-After` of a reply when too many passwords are checked at once.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Decides who may do what.
#[derive(Debug)]
pub struct Access {
    rules: Live<Rules>,
    passwords: Passwords,
    /// All requests, if they are limited.
    requests: Bucket,
    /// The time from which the bucket counts.
    start: Instant,
    stats: Arc<SecurityStats>,
}

/// Why the rules cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Files are missing or wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Files(Vec<FileProblem>),
    /// The system has no random numbers.
    #[error("the system has no random numbers for the hashes of passwords")]
    Random,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// [`Unauthorized`](Reason::Unauthorized), [`Forbidden`](Reason::Forbidden),
    /// [`Throttled`](Reason::Throttled) or [`RateLimited`](Reason::RateLimited).
    pub reason: Reason,
    /// What is wrong, for the caller.
    pub message: String,
    /// Whether a user and a password could help.
    pub ask_password: bool,
    /// Whether a token could help.
    pub ask_token: bool,
    /// How long the caller has to wait.
    pub wait: Option<Duration>,
}

/// What a caller with a role may do.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What it may write.
    pub scope: Scope,
    /// The user that it is: a user, a token or a client certificate. For limits, not for people.
    pub user: Option<Arc<str>>,
}

/// The credentials that a request presents.
enum Shown<'h> {
    Basic(&'h str),
    Bearer(&'h str),
    Other,
}

impl Access {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// A file is missing or wrong.
    pub fn new(web: &Web, stats: &Arc<SecurityStats>) -> Result<Self, AccessError> {
        let rules = Rules::load(web).map_err(AccessError::Files)?;
        let passwords = Passwords::new(Arc::clone(stats)).map_err(|_| AccessError::Random)?;
        Ok(Access {
            rules: Live::new(rules),
            passwords,
            requests: Bucket::default(),
            start: clock::tick(),
            stats: Arc::clone(stats),
        })
    }

    /// Replaces the rules. Each request is checked against the current ones. The caller
    /// must check for [open listeners](Access::warn_if_open) again.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.set(rules);
        self.stats.clear_open();
        self.note_files(true);
    }

    /// Records in the own metrics whether the rules match the current content of their files.
    pub fn note_files(&self, are_in_use: bool) {
        self.stats
            .file_is_stale
            .store(!are_in_use, Ordering::Relaxed);
    }

    /// The current rules.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load()
    }

    /// Headers to add to each reply over HTTP.
    pub fn add_headers(&self, mut add: impl FnMut(HeaderName, HeaderValue)) {
        for (name, value) in &self.rules().headers {
            add(name.clone(), value.clone());
        }
    }

    /// Whether everyone who reaches a listener can write there.
    pub fn is_open(&self, listener: ListenerKind) -> bool {
        self.rules().is_everyones(Role::Write, listener)
    }

    /// Warns in the log and by a metric if everyone on the network can write to a listener.
    /// `address` is that of a TCP or UDP listener; `name` is `None` for operations over
    /// UDP; `setting` is the setting of the address.
    pub fn warn_if_open(
        &self,
        listener: ListenerKind,
        name: Option<ListenerName>,
        address: Option<SocketAddr>,
        setting: &str,
    ) {
        let Some(address) = address else { return };
        if address.ip().to_canonical().is_loopback() || !self.is_open(listener) {
            return;
        }
        self.stats.set_open(name);
        log::warn!(
            "anyone who reaches {address} can write metrics there ({setting}): bind it to the \
             loopback, or give the role \"write\" to those who need it ([[web.access]])"
        );
    }

    /// Counts a request against the limit on all requests, if the web configuration has one.
    ///
    /// # Errors
    ///
    /// The limit is exceeded.
    pub fn count_request(&self, now: Instant) -> Result<(), Denial> {
        let Some(limit) = self.rules().rate_limit else {
            return Ok(());
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.start));
        // The last request of a burst may overdraw the bucket.
        let burst = limit.interval.saturating_mul(limit.burst - 1);
        if let Some(wait) = self.requests.wait(burst, now) {
            return Err(Denial {
                reason: Reason::RateLimited,
                ..throttled("too many requests (rate_limit in web.config_file)", wait)
            });
        }
        self.requests.take_time(nanos(limit.interval), now);
        Ok(())
    }

    /// Decides whether a caller has a role, by its connection and the `Authorization`
    /// header of its request. The grant says what it may write.
    ///
    /// # Errors
    ///
    /// The caller does not have the role. This is counted.
    pub async fn authorize(
        &self,
        role: Role,
        caller: &Caller,
        authorization: Option<&HeaderValue>,
    ) -> Result<Grant, Denial> {
        let rules = self.rules();
        let by_caller = |scope| Grant {
            scope,
            user: caller.user(),
        };
        if rules.is_everyones(role, caller.listener) {
            return Ok(by_caller(Scope::ALL));
        }
        let by_connection = rules.of_connection(role, caller);
        let shown = match authorization {
            Some(value) if by_connection.as_ref().is_none_or(Scope::is_bound) => shown(value),
            // A secret would add nothing.
            _ => {
                let scope = self.without_secret(&rules, role, by_connection);
                return scope.map(by_caller);
            }
        };
        let credential = match shown {
            Shown::Basic(_) => Credential::Password,
            Shown::Bearer(_) => Credential::Token,
            Shown::Other => Credential::None,
        };
        let decided = match self.identify(&rules, caller, &shown).await {
            Ok(identity) => rules
                .of_identity(role, caller, &identity)
                .map(|scope| Grant {
                    scope,
                    user: Some(identity.name()),
                })
                .ok_or_else(|| forbidden(role)),
            Err(Refusal::Wrong) => Err(unauthorized(
                &rules,
                role,
                match shown {
                    Shown::Basic(_) => "the user or the password is wrong",
                    Shown::Bearer(_) => "the token is wrong",
                    Shown::Other => {
                        "the Authorization header has neither a user and a password (Basic) nor a token (Bearer)"
                    }
                },
            )),
            Err(Refusal::Throttled(wait)) => Err(throttled(
                "too many failed attempts from this address",
                wait,
            )),
            Err(Refusal::Busy) => {
                let problem = "too many passwords are being checked";
                Err(throttled(problem, BUSY_WAIT))
            }
        };
        let result = decided.as_ref().map(|_| ()).map_err(|denial| denial.reason);
        self.stats.count(credential, result);
        decided
    }

    /// Decides for a caller that presents no secret.
    fn without_secret(
        &self,
        rules: &Rules,
        role: Role,
        by_connection: Option<Scope>,
    ) -> Result<Scope, Denial> {
        if let Some(scope) = by_connection {
            self.stats.count(Credential::Connection, Ok(()));
            return Ok(scope);
        }
        let denial = match rules.secrets(role) {
            (false, false) => forbidden(role),
            _ => {
                let problem = format!(
                    "this needs the role {role}, and the request has no credentials",
                    role = role.as_str()
                );
                unauthorized(rules, role, &problem)
            }
        };
        self.stats.count(Credential::None, Err(denial.reason));
        Err(denial)
    }

    /// Identifies the holder of the secret that a request presents.
    async fn identify(
        &self,
        rules: &Rules,
        caller: &Caller,
        shown: &Shown<'_>,
    ) -> Result<Identity, Refusal> {
        let attempts = self.passwords.attempts();
        let checked = attempts.check(caller.peer, clock::tick());
        checked.map_err(Refusal::Throttled)?;
        let identity = match shown {
            Shown::Bearer(token) => rules.holder(token.as_bytes()),
            Shown::Basic(encoded) => {
                let decoded = STANDARD.decode(encoded).unwrap_or_default();
                let colon = decoded.iter().position(|byte| *byte == b':');
                let user = colon.and_then(|at| std::str::from_utf8(&decoded[..at]).ok());
                match (user, colon) {
                    (Some(user), Some(at)) => {
                        let (password, hash) = (&decoded[at + 1..], rules.hash_of(user));
                        self.passwords
                            .check(caller.peer, user, password, hash)
                            .await?;
                        return Ok(Identity::User(user.to_owned()));
                    }
                    _ => None,
                }
            }
            Shown::Other => return Err(Refusal::Wrong),
        };
        identity.ok_or_else(|| {
            attempts.fail(caller.peer, clock::tick());
            Refusal::Wrong
        })
    }

    /// Decides whether a caller has a role at a socket other than HTTP, by its connection alone.
    ///
    /// # Errors
    ///
    /// The caller does not have the role. This is counted.
    pub fn authorize_connection(&self, role: Role, caller: &Caller) -> Result<Scope, Denial> {
        let rules = self.rules();
        if rules.is_everyones(role, caller.listener) {
            return Ok(Scope::ALL);
        }
        let decided = rules
            .of_connection(role, caller)
            .ok_or_else(|| forbidden(role));
        let result = decided.as_ref().map(|_| ()).map_err(|denial| denial.reason);
        self.stats.count(Credential::Connection, result);
        decided
    }

    /// Whether a caller has a role at a socket other than HTTP. Nothing is counted.
    pub fn has_role(&self, role: Role, caller: &Caller) -> bool {
        let rules = self.rules();
        rules.is_everyones(role, caller.listener) || rules.of_connection(role, caller).is_some()
    }
}

/// Splits an `Authorization` header into its scheme and secret.
fn shown(value: &HeaderValue) -> Shown<'_> {
    let Ok(text) = value.to_str() else {
        return Shown::Other;
    };
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => Shown::Basic(rest.trim()),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Shown::Bearer(rest.trim()),
        _ => Shown::Other,
    }
}

impl Denial {
    /// The denial for a sender that is bound to apps or labels, at a route whose changes
    /// have neither.
    pub fn out_of_bounds() -> Self {
        Denial {
            message: "a sender that is bound to apps or labels cannot use this (web.access)"
                .to_owned(),
            ..forbidden(Role::Write)
        }
    }
}

fn unauthorized(rules: &Rules, role: Role, message: &str) -> Denial {
    let (ask_password, ask_token) = rules.secrets(role);
    Denial {
        reason: Reason::Unauthorized,
        message: message.to_owned(),
        ask_password,
        ask_token,
        wait: None,
    }
}

fn forbidden(role: Role) -> Denial {
    Denial {
        reason: Reason::Forbidden,
        message: format!(
            "this needs the role {}, which this sender does not have (web.access)",
            role.as_str()
        ),
        ask_password: false,
        ask_token: false,
        wait: None,
    }
}

fn throttled(problem: &str, wait: Duration) -> Denial {
    let seconds = clock::whole_seconds(wait);
    Denial {
        reason: Reason::Throttled,
        message: format!("{problem}: try again in {seconds} s"),
        ask_password: false,
        ask_token: false,
        wait: Some(wait),
    }
}
