//! Access rules: the settings of `[web]` with the content of the files that they name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use ring::digest;
use subtle::ConstantTimeEq as _;

use super::caller::Caller;
use super::config::{Entry, ListenerKind, Web, Who};
use super::role::Role;
use super::scope::{Bounds, Scope};
use super::web_file::{MAX_FILE, RequestRate, WebFile};
use crate::net::tls::TlsSettings;
use crate::peer::Peer;
use crate::settings::listen::SocketOwner;
use crate::settings::network::Network;
use crate::settings::pattern::Pattern;

/// The cost of the dummy hash if there are no users.
const DEFAULT_COST: u32 = 10;

/// The rules in use. They are immutable: changed files become new rules.
#[derive(Debug)]
pub struct Rules {
    /// Users of the web configuration, each with the bcrypt hash of the password.
    users: BTreeMap<String, Arc<str>>,
    /// The hash that passwords of unknown users are compared with.
    dummy: Arc<str>,
    entries: Vec<Rule>,
    /// TLS of the HTTP listeners without a table of their own.
    pub tls: Option<TlsSettings>,
    /// Whether HTTP listeners with TLS speak HTTP/2.
    pub http2: bool,
    /// Headers added to each reply.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The limit on all requests together.
    pub rate_limit: Option<RequestRate>,
}

/// An entry of `web.access`, with the content of its file.
#[derive(Debug)]
struct Rule {
    roles: Vec<Role>,
    listeners: Vec<ListenerKind>,
    bounds: Option<Arc<Bounds>>,
    who: Known,
}

/// Whom an entry applies to.
#[derive(Debug)]
enum Known {
    /// The SHA-256 digests of tokens.
    Tokens(Vec<Digest>),
    User(String),
    ClientName(Pattern),
    Networks(Vec<Network>),
    Uid(u32),
    Group {
        gid: u32,
        /// The members that the group database lists.
        members: Vec<u32>,
    },
}

/// A SHA-256 digest.
type Digest = [u8; 32];

/// A sender that has authenticated.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A user of the web configuration.
    User(String),
    /// The holder of a token, by its digest.
    Token(Digest),
}

impl Identity {
    /// A name for the accounting of limits. It reveals nothing of a token.
    pub fn name(&self) -> Arc<str> {
        match self {
            Identity::User(user) => Arc::from(format!("user {user}")),
            Identity::Token(digest) => {
                let begin = digest.first_chunk().map_or(0, |it| u64::from_be_bytes(*it));
                Arc::from(format!("token {begin:016x}"))
            }
        }
    }
}

/// An error in a file, or in a name that a setting refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The setting, such as `web.config_file` or `web.access[0]`.
    pub setting: String,
    /// The file.
    pub file: Option<PathBuf>,
    /// The line and the column in the file, from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for FileProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some((line, column)) = self.at {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{} ({})", self.message, self.setting)
    }
}

impl Rules {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// All errors in the files.
    pub fn load(web: &Web) -> Result<Self, Vec<FileProblem>> {
        let mut problems = Vec::new();
        let file = match &web.config_file {
            Some(path) => load_web_file(path, &mut problems),
            None => WebFile::default(),
        };
        let mut entries = Vec::with_capacity(web.access.len());
        for (index, entry) in web.access.iter().enumerate() {
            let setting = format!("web.access[{index}]");
            match load_rule(entry, &file) {
                Ok(rule) => entries.push(rule),
                Err((path, message)) => problems.push(FileProblem {
                    setting,
                    file: path,
                    at: None,
                    message,
                }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Users usually have hashes of one cost. If costs differ, the time of a reply
        // reveals at most the cost of a user's hash.
        let costs = file
            .users
            .values()
            .filter_map(|hash| hash.get(4..6)?.parse().ok());
        let dummy = dummy_hash(costs.max().unwrap_or(DEFAULT_COST));
        Ok(Rules {
            users: file.users,
            dummy,
            entries,
            tls: file.tls,
            http2: file.http2,
            headers: file.headers,
            rate_limit: file.rate_limit,
        })
    }

    /// Whether any entry gives a role. If none does, users have it, or everyone.
    fn has_entry(&self, role: Role) -> bool {
        self.entries.iter().any(|entry| entry.roles.contains(&role))
    }

    /// The entries that give a role at a listener. Admin includes the other roles. Without an
    /// entry for admin, those who may write without bounds have it.
    fn giving(&self, role: Role, listener: ListenerKind) -> impl Iterator<Item = &Rule> {
        let follows_write = role == Role::Admin && !self.has_entry(Role::Admin);
        self.entries.iter().filter(move |entry| {
            let gives = match follows_write {
                true => entry.roles.contains(&Role::Write) && entry.bounds.is_none(),
                false => entry.roles.contains(&role) || entry.roles.contains(&Role::Admin),
            };
            gives && (entry.listeners.is_empty() || entry.listeners.contains(&listener))
        })
    }

    /// Whether no entry gives a role, so that users have it, or everyone.
    fn is_unassigned(&self, role: Role) -> bool {
        let decides = match role {
            Role::Admin if !self.has_entry(Role::Admin) => Role::Write,
            role => role,
        };
        !self.has_entry(decides)
    }

    /// Whether everyone has a role at a listener. Only HTTP can ask for a password, so users
    /// alone do not close other sockets.
    pub fn is_everyones(&self, role: Role, listener: ListenerKind) -> bool {
        self.is_unassigned(role) && (self.users.is_empty() || listener != ListenerKind::Http)
    }

    /// The scope that the connection alone gives a caller; `None` without the role.
    pub fn of_connection(&self, role: Role, caller: &Caller) -> Option<Scope> {
        scope(
            self.giving(role, caller.listener)
                .filter(|rule| rule.who.is(caller)),
        )
    }

    /// The scope that the connection and the secret give a caller; `None` without the role.
    pub fn of_identity(&self, role: Role, caller: &Caller, identity: &Identity) -> Option<Scope> {
        if matches!(identity, Identity::User(_)) && self.is_unassigned(role) {
            return Some(Scope::ALL);
        }
        let rules = self.giving(role, caller.listener);
        scope(rules.filter(|rule| rule.who.is(caller) || rule.who.has(identity)))
    }

    /// Whether users, and whether tokens, can have a role over HTTP.
    pub fn secrets(&self, role: Role) -> (bool, bool) {
        let (mut users, mut tokens) = (self.is_unassigned(role) && !self.users.is_empty(), false);
        for rule in self.giving(role, ListenerKind::Http) {
            users |= matches!(rule.who, Known::User(_));
            tokens |= matches!(rule.who, Known::Tokens(_));
        }
        (users, tokens)
    }

    /// The hash to compare the password of a user with. An unknown user gets one that
    /// matches no password.
    pub fn hash_of(&self, user: &str) -> &Arc<str> {
        self.users.get(user).unwrap_or(&self.dummy)
    }

    /// The holder of a token, if an entry lists the token.
    pub fn holder(&self, token: &[u8]) -> Option<Identity> {
        let digest = sha256(token);
        let mut found = false;
        for rule in &self.entries {
            if let Known::Tokens(tokens) = &rule.who {
                // All are compared, so that the time reveals nothing.
                for known in tokens {
                    found |= bool::from(known.ct_eq(&digest));
                }
            }
        }
        found.then_some(Identity::Token(digest))
    }
}

/// The combined scope of rules that apply; `None` if there are none.
fn scope<'r>(rules: impl Iterator<Item = &'r Rule>) -> Option<Scope> {
    let mut bounds = Vec::new();
    for rule in rules {
        match &rule.bounds {
            None => return Some(Scope::ALL),
            Some(some) => bounds.push(Arc::clone(some)),
        }
    }
    (!bounds.is_empty()).then(|| Scope::within(bounds))
}

impl Known {
    /// Whether an entry applies to a connection.
    fn is(&self, caller: &Caller) -> bool {
        match (self, caller.peer) {
            (Known::Networks(networks), peer) => peer
                .ip()
                .is_some_and(|ip| networks.iter().any(|it| it.contains(ip))),
            (Known::ClientName(pattern), _) => {
                let mut names = caller.identity.iter().flat_map(|it| it.names());
                names.any(|name| pattern.matches(name))
            }
            (Known::Uid(known), Peer::Unix { uid, .. }) => *known == uid,
            (Known::Group { gid, members }, Peer::Unix { uid, .. }) => {
                caller.gid == Some(*gid) || members.contains(&uid)
            }
            _ => false,
        }
    }

    /// Whether an entry applies to an authenticated sender.
    fn has(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Known::Tokens(tokens), Identity::Token(token)) => {
                tokens.iter().any(|known| bool::from(known.ct_eq(token)))
            }
            (Known::User(known), Identity::User(user)) => known == user,
            _ => false,
        }
    }
}

/// A bcrypt hash that matches no known password: it was not made from one.
pub(super) fn dummy_hash(cost: u32) -> Arc<str> {
    Arc::from(format!("$2b${cost:02}${}", ".".repeat(53)))
}

fn sha256(bytes: &[u8]) -> Digest {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut copy = [0; 32];
    copy.copy_from_slice(digest.as_ref());
    copy
}

fn load_web_file(path: &Path, problems: &mut Vec<FileProblem>) -> WebFile {
    let problem = |at, message| FileProblem {
        setting: "web.config_file".to_owned(),
        file: Some(path.to_owned()),
        at,
        message,
    };
    let text = match read(path) {
        Ok(text) => text,
        Err(message) => {
            problems.push(problem(None, message));
            return WebFile::default();
        }
    };
    let mut file = WebFile::parse(&text).unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|it| problem(it.at, it.message)));
        WebFile::default()
    });
    // As with exporter-toolkit, its paths are relative to the file.
    if let (Some(tls), Some(directory)) = (&mut file.tls, path.parent()) {
        tls.relative_to(directory);
    }
    file
}

/// Resolves whom an entry applies to. An error carries the file that it is in.
fn load_rule(entry: &Entry, file: &WebFile) -> Result<Rule, (Option<PathBuf>, String)> {
    let plain = |message| (None, message);
    let who = match &entry.who {
        Who::TokenFile(path) => {
            let in_file = |message| (Some(path.clone()), message);
            let text = read(path).map_err(in_file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let tokens: Vec<Digest> = lines.map(|line| sha256(line.as_bytes())).collect();
            if tokens.is_empty() {
                return Err(in_file("the file has no token".to_owned()));
            }
            Known::Tokens(tokens)
        }
        Who::User(user) if file.users.contains_key(user) => Known::User(user.clone()),
        Who::User(user) => {
            return Err(plain(format!(
                "basic_auth_users in web.config_file has no user {user:?}"
            )));
        }
        Who::ClientName(name) => Known::ClientName(name.clone()),
        Who::AllowFrom(networks) => Known::Networks(networks.clone()),
        Who::UnixUser(user) => Known::Uid(uid(user).map_err(plain)?),
        Who::UnixGroup(group) => group_of(group).map_err(plain)?,
    };
    Ok(Rule {
        roles: entry.roles.clone(),
        listeners: entry.listeners.clone(),
        bounds: entry.is_bound().then(|| {
            Arc::new(Bounds {
                apps: entry.apps.clone(),
                labels: entry.labels.clone(),
            })
        }),
        who,
    })
}

fn uid(user: &SocketOwner) -> Result<u32, String> {
    match user {
        SocketOwner::Current(_) => Ok(geteuid().as_raw()),
        SocketOwner::Id(id) => Ok(*id),
        SocketOwner::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            Ok(None) => Err(format!("this machine has no user {name:?}")),
            Err(problem) => Err(format!("user {name:?} cannot be looked up: {problem}")),
        },
    }
}

fn group_of(group: &SocketOwner) -> Result<Known, String> {
    let found = match group {
        SocketOwner::Current(_) => Group::from_gid(getegid()),
        SocketOwner::Id(id) => Group::from_gid(Gid::from_raw(*id)),
        SocketOwner::Name(name) => match Group::from_name(name) {
            Ok(None) => return Err(format!("this machine has no group {name:?}")),
            found => found,
        },
    };
    let gid = match group {
        SocketOwner::Current(_) => getegid().as_raw(),
        SocketOwner::Id(id) => *id,
        SocketOwner::Name(_) => 0,
    };
    match found {
        Ok(Some(group)) => {
            let uids = group
                .mem
                .iter()
                .filter_map(|name| User::from_name(name).ok()?);
            Ok(Known::Group {
                gid: group.gid.as_raw(),
                members: uids.map(|user| Uid::as_raw(user.uid)).collect(),
            })
        }
        // A numeric group needs no entry in the database.
        Ok(None) => Ok(Known::Group {
            gid,
            members: Vec::new(),
        }),
        Err(problem) => Err(format!("the group cannot be looked up: {problem}")),
    }
}

/// Reads a file of limited size.
fn read(path: &Path) -> Result<String, String> {
    let unreadable = |problem: std::io::Error| format!("the file cannot be read: {problem}");
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let length = file
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    match length as u64 > MAX_FILE {
        true => Err(format!("the file has more than {MAX_FILE} bytes")),
        false => Ok(text),
    }
}

/// All files that the settings name, so that changes to them are noticed.
pub fn named_files(web: &Web) -> Vec<PathBuf> {
    let tokens = web.access.iter().filter_map(|entry| match &entry.who {
        Who::TokenFile(path) => Some(path),
        _ => None,
    });
    web.config_file.iter().chain(tokens).cloned().collect()
}
