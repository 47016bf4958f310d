//! Settings of listeners: addresses, Unix sockets, their owners and modes.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::document::{Node, Value};
use super::value::{Address, address, text};

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// The listener is off.
    Off,
    /// A TCP port.
    Tcp(Address),
    /// A Unix socket, with the owner and mode of the receiver's socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether this is the same port as `other`. Port 0 never is: each time it is bound,
    /// the system chooses another one.
    pub fn is(&self, other: &Address) -> bool {
        matches!(self, Listen::Tcp(address) if address == other && address.port != 0)
    }

    /// Whether one listener serves both: the same address with a port other than 0, or the same
    /// Unix socket.
    pub fn is_shared_with(&self, other: &Listen) -> bool {
        match other {
            Listen::Tcp(address) => self.is(address),
            Listen::Unix(_) => self == other,
            Listen::Off => false,
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Listen::Off => to.serialize_str(""),
            Listen::Tcp(address) => address.serialize(to),
            Listen::Unix(path) => to.collect_str(&format_args!("unix:{}", path.display())),
        }
    }
}

/// The path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPath {
    /// The first writable directory of a fixed list.
    Auto,
    /// A configured path.
    Path(PathBuf),
}

impl SocketPath {
    /// The path to bind. An automatic path is chosen now.
    pub fn chosen(&self) -> PathBuf {
        match self {
            SocketPath::Path(path) => path.clone(),
            SocketPath::Auto => {
                #[expect(clippy::disallowed_methods, reason = "the value `auto` means this")]
                let directory = env::var_os("XDG_RUNTIME_DIR");
                automatic_path(directory.map(PathBuf::from))
            }
        }
    }
}

const SOCKET_NAME: &str = "exporter-proxy-receiver.sock";

/// The socket in the first writable directory of `/var/run`, the user's runtime directory
/// and the temporary directory. The sample clients look for it in the same order.
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

/// The user or group that owns a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketOwner {
    /// The effective user or group of the process, written as this word.
    Current(&'static str),
    /// A name of the user or group database.
    Name(String),
    /// A numeric id.
    Id(u32),
}

/// The effective user of the process.
pub const CURRENT_USER: SocketOwner = SocketOwner::Current("current_user");
/// The effective group of the process.
pub const CURRENT_GROUP: SocketOwner = SocketOwner::Current("current_group");

impl Serialize for SocketOwner {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            SocketOwner::Current(word) => to.serialize_str(word),
            SocketOwner::Name(name) => to.serialize_str(name),
            SocketOwner::Id(id) => to.serialize_u32(*id),
        }
    }
}

/// The permission bits of a Unix socket, written in octal.
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

/// The maximum length in bytes of the path of a Unix socket: the size of `sun_path`
/// without its final NUL.
pub const LONGEST_SOCKET_PATH: usize = 107;

/// A path, or `"auto"`.
pub fn socket_path(node: &Node) -> Result<SocketPath, String> {
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

/// A name, a numeric id, or the word `current`.
pub fn owner(current: &'static str) -> impl Fn(&Node) -> Result<SocketOwner, String> {
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

/// Permission bits from 0 to `0o777`, as a number or an octal text.
pub fn socket_mode(node: &Node) -> Result<SocketMode, String> {
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

/// Like [`listen`], for a listener that cannot be off.
pub fn listen_always(node: &Node) -> Result<Listen, String> {
    match listen(node) {
        Ok(listen @ (Listen::Tcp(_) | Listen::Unix(_))) => Ok(listen),
        _ => Err(format!(
            "must be host:port such as \"0.0.0.0:6555\", or a Unix socket such as \
             \"/run/metrics.sock\", not {:?}",
            text(node)?
        )),
    }
}

/// `host:port`, the path of a Unix socket, or an empty text for no listener.
pub fn listen(node: &Node) -> Result<Listen, String> {
    let written = text(node)?;
    let path = match written.strip_prefix("unix:") {
        Some(path) => path,
        None if written.starts_with('/') => &written,
        None if written.is_empty() => return Ok(Listen::Off),
        None => {
            return address(node).map(Listen::Tcp).map_err(|_| {
                format!(
                    "must be host:port such as \"127.0.0.1:6556\", a Unix socket such as \
                     \"/run/proxy.sock\", or \"\" (off), not {written:?}"
                )
            });
        }
    };
    // `unix:///run/x` is the form of a URL.
    let path = path.strip_prefix("//").unwrap_or(path);
    match path.len() {
        0 => Err("must have the path of a Unix socket after \"unix:\"".to_owned()),
        1..=LONGEST_SOCKET_PATH => Ok(Listen::Unix(PathBuf::from(path))),
        length => Err(format!(
            "is {length} bytes long; the path of a Unix socket has at most {LONGEST_SOCKET_PATH}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::document::Place;

    #[test]
    fn the_automatic_path_is_in_a_writable_directory() {
        let path = automatic_path(None);
        assert_eq!(path.file_name().unwrap(), SOCKET_NAME);
        assert!(can_write(path.parent().unwrap()), "{}", path.display());
    }

    fn node(text: &str) -> Node {
        Node {
            value: Value::Text(text.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
    }

    #[test]
    fn a_listener_is_an_address_a_socket_or_off() {
        let tcp = |host: &str, port| Listen::Tcp(Address::new(host, port));
        let unix = |path: &str| Listen::Unix(PathBuf::from(path));
        for (written, expected) in [
            ("", Listen::Off),
            ("127.0.0.1:6556", tcp("127.0.0.1", 6556)),
            (":9091", tcp("0.0.0.0", 9091)),
            ("/run/p.sock", unix("/run/p.sock")),
            ("unix:/run/p.sock", unix("/run/p.sock")),
            ("unix:///run/p.sock", unix("/run/p.sock")),
            ("unix:p.sock", unix("p.sock")),
        ] {
            assert_eq!(listen(&node(written)), Ok(expected), "{written}");
        }
        for wrong in [
            "6556",
            "host",
            "unix:",
            "p.sock",
            &format!("/{}", "x".repeat(200)),
        ] {
            assert!(listen(&node(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(
            listen(&node("6556")).unwrap_err(),
            "must be host:port such as \"127.0.0.1:6556\", a Unix socket such as \
             \"/run/proxy.sock\", or \"\" (off), not \"6556\""
        );
    }

    #[test]
    fn equal_addresses_are_one_port() {
        let address = Address::new("0.0.0.0", 6555);
        assert!(Listen::Tcp(address.clone()).is(&address));
        assert!(!Listen::Tcp(Address::new("0.0.0.0", 6556)).is(&address));
        assert!(!Listen::Off.is(&address));
        let any = Address::new("127.0.0.1", 0);
        assert!(!Listen::Tcp(any.clone()).is(&any));
    }
}
