//! Checks passwords against bcrypt hashes. A check takes tens of milliseconds, so checks
//! run off the serving threads, a few at a time, and correct passwords are remembered.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::attempts::Attempts;
use crate::clock;
use crate::peer::Peer;
use crate::telemetry::SecurityStats;

/// The limit on concurrent checks.
const CONCURRENT_CHECKS: usize = 2;

/// The limit on requests that wait for a check. Further ones are rejected at once.
const MAX_WAITING: usize = 1024;

/// The limit on remembered passwords.
const MAX_REMEMBERED: usize = 10_000;

/// Why a password is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The user is unknown, or the password is wrong.
    Wrong,
    /// The address has failed too often, and must wait this long.
    Throttled(Duration),
    /// Too many requests wait for a check.
    Busy,
}

/// The cost of new hashes. A check takes about 50 ms.
const COST: u32 = 10;

/// The longest password that bcrypt uses, in bytes. It ignores further bytes.
const MAX_PASSWORD: usize = 72;

/// Why a password cannot be hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It is empty.
    #[error("the password is empty: write it to standard input, as one line")]
    Empty,
    /// It is longer than bcrypt uses.
    #[error("the password has {0} bytes; bcrypt takes at most {MAX_PASSWORD}")]
    TooLong(usize),
    /// bcrypt ends a password at a zero byte.
    #[error("the password has a zero byte, at which bcrypt would end it")]
    Zero,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// bcrypt fails.
    #[error("the password cannot be hashed: {0}")]
    Bcrypt(String),
}

/// Returns the bcrypt hash of a password, with a random salt.
///
/// # Errors
///
/// The password is empty, too long or has a zero byte.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    match password.len() {
        0 => return Err(HashError::Empty),
        length if length > MAX_PASSWORD => return Err(HashError::TooLong(length)),
        _ if password.contains('\0') => return Err(HashError::Zero),
        _ => {}
    }
    let mut salt = [0; 16];
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| HashError::Random)?;
    let hash = bcrypt::hash_with_salt(password, COST, salt);
    let hash = hash.map_err(|problem| HashError::Bcrypt(problem.to_string()))?;
    Ok(hash.format_for_version(bcrypt::Version::TwoB))
}

/// Checks passwords.
pub struct Passwords {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

/// The part that checks on other threads use.
struct Shared {
    /// A key of this process. Remembered hashes are of no use without it.
    key: hmac::Key,
    remembered: Mutex<Remembered>,
    attempts: Attempts,
    stats: Arc<SecurityStats>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

/// Keyed hashes of correct passwords, in two generations. When the newer one reaches half
/// of the limit, the older one is forgotten and the newer one takes its place.
#[derive(Default)]
struct Remembered {
    newer: HashSet<Tag>,
    older: HashSet<Tag>,
}

/// A keyed hash of a user, a password and the hash that the password was compared with. A
/// sender cannot choose it, so the time of a look-up reveals nothing about passwords.
type Tag = [u8; 32];

impl Remembered {
    fn contains(&mut self, tag: &Tag) -> bool {
        if self.newer.contains(tag) {
            return true;
        }
        let found = self.older.remove(tag);
        if found {
            self.insert(*tag);
        }
        found
    }

    fn insert(&mut self, tag: Tag) {
        if self.newer.len() >= MAX_REMEMBERED / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(tag);
    }
}

impl Shared {
    fn is_remembered(&self, tag: &Tag) -> bool {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.contains(tag)
    }

    fn remember(&self, tag: Tag) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.insert(tag);
    }

    fn tag(&self, user: &str, password: &[u8], hash: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // A length before each part keeps the parts separate.
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl Passwords {
    /// Creates a checker that remembers no passwords yet.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(stats: Arc<SecurityStats>) -> Result<Self, ring::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Passwords {
            shared: Arc::new(Shared {
                key,
                remembered: Mutex::default(),
                attempts: Attempts::default(),
                stats,
            }),
            turns: Arc::new(Semaphore::new(CONCURRENT_CHECKS)),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// The failures of all addresses.
    pub fn attempts(&self) -> &Attempts {
        &self.shared.attempts
    }

    /// Checks the password of a user. For an unknown user, `hash` is one that matches no
    /// password, so that the reply takes as long as for a known user.
    ///
    /// # Errors
    ///
    /// Why the password is not accepted. A wrong one counts as a failure of `peer`.
    pub async fn check(
        &self,
        peer: Peer,
        user: &str,
        password: &[u8],
        hash: &Arc<str>,
    ) -> Result<(), Refusal> {
        let shared = &self.shared;
        let throttled = || {
            let checked = shared.attempts.check(peer, clock::tick());
            checked.map_err(Refusal::Throttled)
        };
        // Throttle before anything depends on the password: past the limit of failures,
        // right and wrong passwords get the same reply.
        throttled()?;
        let tag = shared.tag(user, password, hash);
        if shared.is_remembered(&tag) {
            return Ok(());
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Refusal::Busy);
        };
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // Meanwhile, another request may have had the same password, or failures.
        throttled()?;
        if shared.is_remembered(&tag) {
            return Ok(());
        }
        let (password, hash) = (password.to_owned(), Arc::clone(hash));
        let shared = Arc::clone(shared);
        // The result is recorded on that thread, since the client may have gone.
        let check = spawn_blocking(move || {
            let _turn = turn;
            shared.stats.password_checks.add(1);
            let right = bcrypt::verify(password, &hash).unwrap_or(false);
            match right {
                true => shared.remember(tag),
                false => shared.attempts.fail(peer, clock::tick()),
            }
            right
        });
        match check.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Refusal::Wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of `secret` and a hash that matches no password, both at cost 4.
    fn hashes() -> [Arc<str>; 2] {
        let right = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
        [right.to_string().into(), super::super::rules::dummy_hash(4)]
    }

    fn passwords() -> (Passwords, Arc<SecurityStats>) {
        let stats = Arc::new(SecurityStats::default());
        (Passwords::new(Arc::clone(&stats)).unwrap(), stats)
    }

    const PEER: Peer = Peer::Unix { pid: None, uid: 1 };

    #[tokio::test]
    async fn right_passwords_are_remembered_and_unknown_users_cost_the_same() {
        let [right, dummy] = hashes();
        let (passwords, stats) = passwords();
        let checks = || stats.password_checks.value();
        for _ in 0..3 {
            let checked = passwords.check(PEER, "alice", b"secret", &right).await;
            assert_eq!((checked, checks()), (Ok(()), 1));
        }
        let wrong = passwords.check(PEER, "alice", b"wrong", &right).await;
        assert_eq!((wrong, checks()), (Err(Refusal::Wrong), 2));
        let unknown = passwords.check(PEER, "eve", b"secret", &dummy).await;
        assert_eq!((unknown, checks()), (Err(Refusal::Wrong), 3));
        // If the hash changes, the password is checked again.
        let other = bcrypt::hash_with_salt("new", 4, [7; 16]).unwrap();
        let other = Arc::from(other.to_string());
        let changed = passwords.check(PEER, "alice", b"secret", &other).await;
        assert_eq!((changed, checks()), (Err(Refusal::Wrong), 4));
    }

    #[tokio::test]
    async fn past_the_limit_of_failures_nothing_is_checked() {
        let [right, _] = hashes();
        let (passwords, stats) = passwords();
        let check = |password| passwords.check(PEER, "alice", password, &right);
        assert_eq!(check(b"secret").await, Ok(()));
        while check(b"wrong").await == Err(Refusal::Wrong) {}
        let checks = stats.password_checks.value();
        assert!((21..30).contains(&checks), "{checks}");
        assert!(matches!(check(b"secret").await, Err(Refusal::Throttled(_))));
        assert_eq!(stats.password_checks.value(), checks);
    }

    #[tokio::test]
    async fn requests_with_the_same_password_share_a_check() {
        let [right, _] = hashes();
        let (passwords, stats) = passwords();
        let check = || passwords.check(PEER, "alice", b"secret", &right);
        let all = [check(), check(), check(), check(), check(), check()];
        for checked in futures_of(all).await {
            assert_eq!(checked, Ok(()));
        }
        let checks = stats.password_checks.value();
        assert!(checks <= CONCURRENT_CHECKS as u64, "{checks}");
    }

    /// Runs all futures concurrently.
    async fn futures_of<F: Future, const N: usize>(all: [F; N]) -> Vec<F::Output> {
        let mut all = all.map(Box::pin);
        let mut done: [Option<F::Output>; N] = [const { None }; N];
        std::future::poll_fn(|cx| {
            for (future, done) in all.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
                {
                    *done = Some(output);
                }
            }
            match done.iter().all(Option::is_some) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        done.into_iter().flatten().collect()
    }

    #[test]
    fn passwords_are_hashed_with_a_random_salt() {
        let (one, other) = (
            hash_password("secret").unwrap(),
            hash_password("secret").unwrap(),
        );
        assert_ne!(one, other);
        assert!(one.starts_with("$2b$10$"), "{one}");
        assert!(bcrypt::verify("secret", &one).unwrap());
        assert_eq!(hash_password(""), Err(HashError::Empty));
        assert_eq!(hash_password(&"x".repeat(73)), Err(HashError::TooLong(73)));
        assert!(hash_password(&"x".repeat(72)).is_ok());
        assert_eq!(hash_password("a\0b"), Err(HashError::Zero));
    }

    #[test]
    fn remembered_passwords_are_bounded() {
        let mut remembered = Remembered::default();
        let tag = |index: usize| {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&index.to_le_bytes());
            tag
        };
        for index in 0..3 * MAX_REMEMBERED {
            remembered.insert(tag(index));
            // A password in use stays remembered.
            assert!(remembered.contains(&tag(0)), "{index}");
        }
        let held = remembered.newer.len() + remembered.older.len();
        assert!(held <= MAX_REMEMBERED, "{held}");
        assert!(!remembered.contains(&tag(1)));
    }
}
