//! The settings of `[receiver]`: the sockets that apps send to, and the limits on messages.

use std::time::Duration;

use serde::Serialize;

use crate::net::tls::{self, TlsSettings};
use crate::settings::Table;
use crate::settings::listen::{
    CURRENT_GROUP, CURRENT_USER, SocketMode, SocketOwner, SocketPath, owner, socket_mode,
    socket_path,
};
use crate::settings::network::Network;
use crate::settings::value::{
    Address, address, boolean, buffer_size, choice, duration, integer, positive_duration, size,
    text, write_duration, write_duration_option, write_size,
};

/// The settings of the receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The wire format, for both sockets.
    pub format: Format,
    /// Whether the Unix socket is served.
    pub receive_on_unix_socket: bool,
    /// The path of the Unix socket.
    pub receiver_unix_socket: SocketPath,
    /// The owner of Unix sockets.
    pub unix_socket_user: SocketOwner,
    /// The group of Unix sockets.
    pub unix_socket_group: SocketOwner,
    /// The permissions of Unix sockets.
    pub unix_socket_mode: SocketMode,
    /// Whether the TCP port is served.
    pub receive_on_tcp_socket: bool,
    /// The address of the TCP port.
    pub receiver_tcp_socket: Address,
    /// The limit on bytes of one message, as sent.
    #[serde(serialize_with = "write_size")]
    pub max_payload: usize,
    /// The limit on bytes of all incomplete messages together.
    #[serde(serialize_with = "write_size")]
    pub max_buffered: usize,
    /// The limit on bytes of an app's name.
    pub max_app_name: usize,
    /// The limit on apps.
    pub max_apps: usize,
    /// The time limit from the first to the last byte of a message; zero for no limit. The
    /// original has no limit.
    #[serde(serialize_with = "write_duration")]
    pub message_timeout: Duration,
    /// The time limit for silence between messages; zero for no limit. The original has no
    /// limit, and its senders pause as long as they like.
    #[serde(serialize_with = "write_duration")]
    pub idle_timeout: Duration,
    /// How long an app is kept after its last message; `None` for no limit.
    #[serde(
        serialize_with = "write_duration_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub app_ttl: Option<Duration>,
    /// The load balancers whose connections to the TCP port begin with a PROXY protocol header.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<Network>,
    /// TLS of the TCP port; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// The wire format of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Detected from the first bytes of each connection.
    Auto,
    /// Cap'n Proto.
    Capnp,
    /// JSON.
    Json,
}

/// The limit on networks of load balancers. Each connection is compared with all of them.
const MAX_BALANCERS: usize = 1000;

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Config {
    let tls_place = table.place("tls");
    let balancers_place = table.place("proxy_protocol");
    let receiver = Config {
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
        proxy_protocol: table.take_list("proxy_protocol", |node| Network::parse(&text(node)?)),
        tls: tls::settings::take(&mut table, "tls"),
    };
    if let Some(place) = tls_place
        && receiver.tls.is_some()
        && !receiver.receive_on_tcp_socket
    {
        let problem =
            "`receiver.tls` has no effect: `receiver.receive_on_tcp_socket` is false; enable it";
        table.fault(place, problem);
    }
    let count = receiver.proxy_protocol.len();
    if let Some(place) = balancers_place
        && count > MAX_BALANCERS
    {
        let problem =
            format!("`receiver.proxy_protocol` has {count} networks; the limit is {MAX_BALANCERS}");
        table.fault(place, problem);
    }
    table.finish();
    receiver
}
