//! `[receiver]`: the sockets that apps push to, and the bounds on what they push.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::document::{Node, Value};
use super::reader::Table;
use super::value::{
    Address, address, boolean, buffer_size, choice, duration, integer, positive_duration, size,
    text, write_duration, write_duration_option, write_size,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receiver {
    /// What senders send. One setting for both sockets.
    pub format: Format,
    pub receive_on_unix_socket: bool,
    pub receiver_unix_socket: SocketPath,
    pub unix_socket_user: SocketOwner,
    pub unix_socket_group: SocketOwner,
    pub unix_socket_mode: SocketMode,
    pub receive_on_tcp_socket: bool,
    pub receiver_tcp_socket: Address,
    /// Bytes of one message, as sent.
    #[serde(serialize_with = "write_size")]
    pub max_payload: usize,
    /// Bytes of unfinished messages, of all connections together.
    #[serde(serialize_with = "write_size")]
    pub max_buffered: usize,
    /// Bytes of an app's name.
    pub max_app_name: usize,
    /// Apps known at once.
    pub max_apps: usize,
    /// For a message to arrive whole, once its first byte is here; zero is for
    /// ever. The original waits for ever.
    #[serde(serialize_with = "write_duration")]
    pub message_timeout: Duration,
    /// For a connection to send nothing at all; zero is for ever. The original
    /// waits for ever, and its senders pause as long as they like.
    #[serde(serialize_with = "write_duration")]
    pub idle_timeout: Duration,
    /// For an app to be kept after it was last heard from; for ever where it
    /// is not given.
    #[serde(
        serialize_with = "write_duration_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub app_ttl: Option<Duration>,
}

/// The wire format of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The first bytes of each connection tell.
    Auto,
    Capnp,
    Json,
}

/// Where the Unix socket is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPath {
    /// The first place of a short list that can be written to.
    Auto,
    Path(PathBuf),
}

impl SocketPath {
    /// The path itself, chosen now where it is automatic.
    pub fn chosen(&self) -> PathBuf {
        match self {
            SocketPath::Path(path) => path.clone(),
            SocketPath::Auto => automatic_path(env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)),
        }
    }
}

const SOCKET_NAME: &str = "exporter-proxy-receiver.sock";

/// The first of `/var/run`, the user's runtime directory and the temporary
/// directory that a socket can be made in. The sample clients look for it in
/// the same places in the same order.
fn automatic_path(runtime_dir: Option<PathBuf>) -> PathBuf {
    [Some(PathBuf::from("/var/run")), runtime_dir]
        .into_iter()
        .flatten()
        .find(|dir| can_write(dir))
        .unwrap_or_else(env::temp_dir)
        .join(SOCKET_NAME)
}

fn can_write(dir: &Path) -> bool {
    use nix::unistd::{AccessFlags, eaccess};
    dir.is_dir() && eaccess(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

impl Serialize for SocketPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            SocketPath::Auto => to.serialize_str("auto"),
            SocketPath::Path(path) => to.collect_str(&path.display()),
        }
    }
}

/// A user or a group that owns the Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketOwner {
    /// The effective one of the process, written as this word.
    Current(&'static str),
    Name(String),
    Id(u32),
}

const CURRENT_USER: SocketOwner = SocketOwner::Current("current_user");
const CURRENT_GROUP: SocketOwner = SocketOwner::Current("current_group");

impl Serialize for SocketOwner {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            SocketOwner::Current(word) => to.serialize_str(word),
            SocketOwner::Name(name) => to.serialize_str(name),
            SocketOwner::Id(id) => to.serialize_u32(*id),
        }
    }
}

/// Permission bits of the Unix socket, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The longest path a Unix socket can have: `sun_path` less its final NUL.
pub(super) const LONGEST_SOCKET_PATH: usize = 107;

pub fn read(mut table: Table<'_>) -> Receiver {
    let receiver = Receiver {
        format: table.take(
            "format",
            Format::Auto,
            choice(&[
                ("auto", Format::Auto),
                ("capnp", Format::Capnp),
                ("json", Format::Json),
            ]),
        ),
        receive_on_unix_socket: table.take("receive_on_unix_socket", true, boolean),
        receiver_unix_socket: table.take("receiver_unix_socket", SocketPath::Auto, socket_path),
        unix_socket_user: table.take("unix_socket_user", CURRENT_USER, owner("current_user")),
        unix_socket_group: table.take("unix_socket_group", CURRENT_GROUP, owner("current_group")),
        unix_socket_mode: table.take("unix_socket_mode", SocketMode(0o660), socket_mode),
        receive_on_tcp_socket: table.take("receive_on_tcp_socket", true, boolean),
        receiver_tcp_socket: table.take(
            "receiver_tcp_socket",
            Address::new("127.0.0.1", 6554),
            address,
        ),
        max_payload: table.take("max_payload", 16 << 20, buffer_size),
        max_buffered: table.take("max_buffered", 256 << 20, size),
        max_app_name: table.take("max_app_name", 256, integer(1, 4096)),
        max_apps: table.take("max_apps", 100_000, integer(1, 100_000_000)),
        message_timeout: table.take("message_timeout", Duration::from_secs(3600), duration),
        idle_timeout: table.take("idle_timeout", Duration::ZERO, duration),
        app_ttl: table.take_option("app_ttl", positive_duration),
    };
    table.finish();
    receiver
}

fn socket_path(node: &Node) -> Result<SocketPath, String> {
    match text(node)?.as_str() {
        "" => Err("must be a path or \"auto\", not \"\"".to_owned()),
        "auto" => Ok(SocketPath::Auto),
        path if path.len() > LONGEST_SOCKET_PATH => Err(format!(
            "is {} bytes long; the path of a Unix socket has at most {LONGEST_SOCKET_PATH}",
            path.len()
        )),
        path => Ok(SocketPath::Path(PathBuf::from(path))),
    }
}

fn owner(current: &'static str) -> impl Fn(&Node) -> Result<SocketOwner, String> {
    move |node| {
        if let Value::Integer(id) = &node.value {
            return u32::try_from(*id)
                .map(SocketOwner::Id)
                .map_err(|_| format!("must be a name or an id from 0 to {}, not {id}", u32::MAX));
        }
        match text(node)?.as_str() {
            "" => Err(format!("must be a name, an id or {current:?}, not \"\"")),
            name if name == current => Ok(SocketOwner::Current(current)),
            name => Ok(name
                .parse()
                .map_or_else(|_| SocketOwner::Name(name.to_owned()), SocketOwner::Id)),
        }
    }
}

fn socket_mode(node: &Node) -> Result<SocketMode, String> {
    let bits = match &node.value {
        Value::Integer(bits) => u32::try_from(*bits).ok(),
        Value::Text(text) | Value::Variable(text) => {
            let octal = text.strip_prefix("0o").unwrap_or(text);
            u32::from_str_radix(octal, 8).ok()
        }
        _ => None,
    };
    bits.filter(|bits| *bits <= 0o777)
        .map(SocketMode)
        .ok_or_else(|| {
            format!(
                "must be permission bits from 0 to 0o777, such as \"0660\", not {}",
                node.value.describe()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automatic_path_is_in_a_directory_that_can_be_written() {
        let path = automatic_path(None);
        assert_eq!(path.file_name().unwrap(), SOCKET_NAME);
        assert!(can_write(path.parent().unwrap()), "{}", path.display());
    }
}
