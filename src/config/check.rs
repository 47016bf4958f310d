//! Checks of several settings together, and of settings against this machine: ports and
//! sockets that are used twice, missing directories, users and files.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Group, User};

use super::Config;
use crate::http::listen::{HttpListener, LIFECYCLE, PUSHES, SCRAPES};
use crate::net::tls::{self, Protocols, TlsSettings};
use crate::outputs::sinks::config::{SinkConfig, SinkSettings};
use crate::security::Rules;
use crate::security::config::Who;
use crate::settings::document::Place;
use crate::settings::listen::{Listen, SocketOwner};
use crate::settings::reader::Faults;
use crate::settings::value::Address;

/// Checks a configuration whose settings are valid one by one.
pub fn check(config: &Config, faults: &Faults) {
    let sockets = sockets(config);
    same_port(&listeners(config), faults);
    shared_tls(config, faults);
    same_socket(&sockets, faults);
    for (setting, path) in &sockets {
        if let Some(place) = faults.place(setting)
            && let Err(problem) = can_hold_socket(path)
        {
            faults.add(place, format!("`{}` {problem}", key(setting)));
        }
    }
    if !sockets.is_empty() {
        owners(config, faults);
    }
    tls_files(config, faults);
    labels_file(config, faults);
    web_files(config, faults);
    null_origin(config, faults);
    one_destination(config, faults);
    forwarding(config, faults);
    one_sink_a_name(config, faults);
    no_input(config, faults);
}

/// The addresses of the TCP listeners, each with the name of its setting.
fn listeners(config: &Config) -> Vec<(String, &Address)> {
    let mut listeners = Vec::new();
    for (setting, listener) in config.exporter.scrape_expose_endpoint.named(SCRAPES) {
        if let Listen::Tcp(address) = &listener.address {
            listeners.push((setting, address));
        }
    }
    if config.receiver.receive_on_tcp_socket {
        let address = &config.receiver.receiver_tcp_socket;
        listeners.push(("receiver.receiver_tcp_socket".to_owned(), address));
    }
    for (setting, listener) in config.push.listen.named(PUSHES) {
        if let Listen::Tcp(address) = &listener.address
            && scrape_listener(config, &listener.address).is_none()
        {
            listeners.push((setting, address));
        }
    }
    for (setting, listener) in config.lifecycle.listen.named(LIFECYCLE) {
        if let Listen::Tcp(address) = &listener.address {
            listeners.push((setting, address));
        }
    }
    if let Some(address) = &config.operations.tcp {
        listeners.push(("operations.tcp".to_owned(), address));
    }
    listeners
}

/// The scrape listener that also accepts these pushes, if there is one.
fn scrape_listener<'c>(config: &'c Config, pushes: &Listen) -> Option<&'c HttpListener> {
    let mut scrapes = config.exporter.scrape_expose_endpoint.iter();
    scrapes.find(|scrapes| scrapes.address.is_shared_with(pushes))
}

/// Reports ports that serve scrapes and pushes, and have two `tls` tables that differ.
fn shared_tls(config: &Config, faults: &Faults) {
    for (setting, pushes) in config.push.listen.named(PUSHES) {
        if let Listen::Tcp(address) = &pushes.address
            && let Some(scrapes) = scrape_listener(config, &pushes.address)
            && pushes.tls != scrapes.tls
            && let Some(place) = faults.place(&setting)
        {
            let problem = format!(
                "`{PUSHES}` and `{SCRAPES}` have {address} with different `tls`; one port has \
                 one: write the same `tls` in both"
            );
            faults.add(place, problem);
        }
    }
}

/// The paths of the Unix sockets, each with the name of its setting.
fn sockets(config: &Config) -> Vec<(String, PathBuf)> {
    let mut sockets = Vec::new();
    let receiver = &config.receiver;
    if receiver.receive_on_unix_socket {
        let path = receiver.receiver_unix_socket.chosen();
        sockets.push(("receiver.receiver_unix_socket".to_owned(), path));
    }
    for (setting, listener) in config.exporter.scrape_expose_endpoint.named(SCRAPES) {
        if let Listen::Unix(path) = &listener.address {
            sockets.push((setting, path.clone()));
        }
    }
    for (setting, listener) in config.push.listen.named(PUSHES) {
        if let Listen::Unix(path) = &listener.address
            && scrape_listener(config, &listener.address).is_none()
        {
            sockets.push((setting, path.clone()));
        }
    }
    for (setting, listener) in config.lifecycle.listen.named(LIFECYCLE) {
        if let Listen::Unix(path) = &listener.address {
            sockets.push((setting, path.clone()));
        }
    }
    for (key, paths) in [
        ("unix_sockets", &config.operations.unix_sockets),
        (
            "unix_datagram_sockets",
            &config.operations.unix_datagram_sockets,
        ),
    ] {
        for (index, path) in paths.iter().enumerate() {
            sockets.push((format!("operations.{key}[{index}]"), path.clone()));
        }
    }
    sockets
}

/// The name of a setting without the index of an item. Messages show the index by the
/// item's line and column.
fn key(setting: &str) -> &str {
    setting.split('[').next().unwrap_or(setting)
}

/// Reports each listener that uses the same port as an earlier one.
fn same_port(listeners: &[(String, &Address)], faults: &Faults) {
    for (at, (setting, address)) in listeners.iter().enumerate() {
        let other = listeners[..at]
            .iter()
            .find(|(_, other)| overlap(address, other));
        let Some((other_setting, other)) = other else {
            continue;
        };
        let Some((place, here, there)) = written(faults, setting, other_setting) else {
            continue;
        };
        let (mine, theirs) = match here == setting {
            true => (*address, *other),
            false => (*other, *address),
        };
        let (here, there) = (key(here), key(there));
        let shared = [PUSHES, SCRAPES];
        let advice = if here != there && shared.contains(&here) && shared.contains(&there) {
            "choose another port, or set both to the same address to serve both on one port"
        } else {
            "choose another port"
        };
        faults.add(
            place,
            format!("`{here}` = {mine} uses the same port as `{there}` = {theirs}; {advice}"),
        );
    }
}

/// The first of two settings that is not a default: its place, its name, and the name of
/// the other setting.
fn written<'s>(faults: &Faults, one: &'s str, other: &'s str) -> Option<(Place, &'s str, &'s str)> {
    let found = |here: &'s str, there: &'s str| Some((faults.place(here)?, here, there));
    found(one, other).or_else(|| found(other, one))
}

/// Whether two addresses cannot be bound together. An unspecified address uses the port
/// on all addresses; `[::]` includes those of IPv4.
fn overlap(one: &Address, other: &Address) -> bool {
    // Port 0 is a different free port each time.
    if one.port != other.port || one.port == 0 {
        return false;
    }
    match (ip(one), ip(other)) {
        (Some(one), Some(other)) => {
            let takes = |one: IpAddr, other: IpAddr| {
                one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
            };
            one == other || takes(one, other) || takes(other, one)
        }
        (None, None) => one.host().eq_ignore_ascii_case(other.host()),
        // Names are resolved only when they are bound.
        (Some(ip), None) | (None, Some(ip)) => ip.is_unspecified(),
    }
}

/// The IP address of a host; `None` for a name other than `localhost`.
fn ip(address: &Address) -> Option<IpAddr> {
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse().ok()
}

/// Reports each Unix socket with the same path as an earlier one.
fn same_socket(sockets: &[(String, PathBuf)], faults: &Faults) {
    let real: Vec<PathBuf> = sockets.iter().map(|(_, path)| real(path)).collect();
    for (at, (setting, path)) in sockets.iter().enumerate() {
        let Some(before) = real[..at].iter().position(|other| *other == real[at]) else {
            continue;
        };
        let other = &sockets[before].0;
        if let Some((place, here, there)) = written(faults, setting, other) {
            let problem = format!(
                "`{}` = {} is the same Unix socket as `{}`; choose another path",
                key(here),
                path.display(),
                key(there)
            );
            faults.add(place, problem);
        }
    }
}

/// The path with symbolic links in its directory resolved: `/var/run` is often a link to
/// `/run`.
fn real(path: &Path) -> PathBuf {
    match (directory(path).canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Checks that a socket can be created at a path.
fn can_hold_socket(path: &Path) -> Result<(), String> {
    let directory = directory(path);
    if !directory.is_dir() {
        return Err(format!(
            "is {}, but {} is not a directory; create it or choose another path",
            path.display(),
            directory.display()
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(format!(
            "is {}, an existing file that is not a socket; remove it or choose another path",
            path.display()
        )),
        _ => Ok(()),
    }
}

/// Reports owners of sockets that do not exist on this machine.
fn owners(config: &Config, faults: &Faults) {
    let unknown_user = |name: &str| matches!(User::from_name(name), Ok(None));
    let unknown_group = |name: &str| matches!(Group::from_name(name), Ok(None));
    let receiver = &config.receiver;
    let user = ("user", &receiver.unix_socket_user);
    let group = ("group", &receiver.unix_socket_group);
    for (kind, owner) in [user, group] {
        let SocketOwner::Name(name) = owner else {
            continue;
        };
        let unknown = match kind {
            "user" => unknown_user(name),
            _ => unknown_group(name),
        };
        let setting = format!("receiver.unix_socket_{kind}");
        if unknown && let Some(place) = faults.place(&setting) {
            faults.add(
                place,
                format!("`{setting}` is {name:?}, but this machine has no such {kind}"),
            );
        }
    }
}

/// Reports `tls` tables whose files cannot be used.
fn tls_files(config: &Config, faults: &Faults) {
    let tables = [
        ("receiver.tls", &config.receiver.tls),
        ("operations.tls", &config.operations.tls),
    ];
    let tables = tables.map(|(setting, tls)| (setting.to_owned(), tls));
    let scrapes = config.exporter.scrape_expose_endpoint.named(SCRAPES);
    let pushes = config.push.listen.named(PUSHES);
    let lifecycle = config.lifecycle.listen.named(LIFECYCLE);
    let http = scrapes.chain(pushes).chain(lifecycle);
    let http = http.map(|(setting, listener)| (setting, &listener.tls));
    for (setting, settings) in tables.into_iter().chain(http) {
        if let Some(settings) = settings
            && let Some(place) = faults.place(&setting)
        {
            let what = format!("`{}`", key(&setting));
            tls_table(&what, settings, place, faults);
        }
    }
}

/// Reports a `tls` table whose files cannot be used, and warns about an expired certificate.
fn tls_table(what: &str, settings: &TlsSettings, place: Place, faults: &Faults) {
    match tls::load(settings, Protocols::Other) {
        Err(problem) => faults.add(place, format!("{what}: {problem}")),
        Ok(loaded) => {
            if let Some(warning) = loaded.warning(settings) {
                faults.warn(place, format!("{what}: {warning}"));
            }
        }
    }
}

/// Warns about a file of labels that cannot be read. It is not an error: the file is read
/// again when it changes.
fn labels_file(config: &Config, faults: &Faults) {
    const SETTING: &str = "operations.extra_labels_file";
    if let Some(file) = &config.operations.extra_labels_file
        && let Err(problem) = fs::File::open(file)
        && let Some(place) = faults.place(SETTING)
    {
        faults.warn(
            place,
            format!(
                "`{SETTING}` {} cannot be read ({problem}); its labels are missing until it is readable",
                file.display()
            ),
        );
    }
}

/// Reports files of `tls_server_config` that cannot be used, and warns about names of
/// certificates that no listener verifies.
fn web_tls(config: &Config, rules: &Rules, faults: &Faults) {
    if let Some(tls) = &rules.tls
        && let Some(place) = faults.place("web.config_file")
    {
        tls_table("`web.config_file`: tls_server_config", tls, place, faults);
    }
    let http = config.exporter.scrape_expose_endpoint.iter();
    let http = http.chain(config.push.listen.iter());
    let http = http.chain(config.lifecycle.listen.iter()).map(|it| &it.tls);
    let sockets = [&config.receiver.tls, &config.operations.tls, &rules.tls];
    let mut all = http.chain(sockets).flatten();
    if all.any(|tls| tls.client_auth_type.verifies()) {
        return;
    }
    for (index, entry) in config.web.security.access.iter().enumerate() {
        if matches!(entry.who, Who::ClientName(_))
            && let Some(place) = faults.place(&format!("web.access[{index}]"))
        {
            faults.warn(
                place,
                "`web.access.client_name` matches nobody: no listener has TLS that verifies \
                 certificates (client_auth_type = \"RequireAndVerifyClientCert\")",
            );
        }
    }
}

/// Reports what is wrong in the files of `[web]`, at its place in the file.
fn web_files(config: &Config, faults: &Faults) {
    let problems = match Rules::load(&config.web.security) {
        Ok(rules) => {
            web_tls(config, &rules, faults);
            return;
        }
        Err(problems) => problems,
    };
    for problem in problems {
        let in_file = problem.file.as_ref().zip(problem.at);
        let place = in_file.map(|(file, (line, column))| Place::File {
            name: Arc::from(file.display().to_string()),
            line,
            column,
        });
        let (setting, message) = (&problem.setting, &problem.message);
        if let Some(place) = place {
            faults.add(place, format!("{message} (`{setting}`)"));
        } else if let Some(place) = faults.place(setting) {
            let file = problem.file.map(|file| format!(" {}", file.display()));
            let file = file.unwrap_or_default();
            faults.add(place, format!("`{}`{file}: {message}", key(setting)));
        }
    }
}

/// Warns about the origin `null`, which every site can have its pages send.
fn null_origin(config: &Config, faults: &Faults) {
    const SETTING: &str = "push.cors_origins";
    let origins = &config.push.requests.cors_origins;
    if origins.iter().any(|origin| origin == "null")
        && let Some(place) = faults.place(SETTING)
    {
        faults.warn(
            place,
            format!(
                "`{SETTING}` has \"null\", the origin of local files and of sandboxed frames, which \
                 every page can have: it allows as much as \"*\""
            ),
        );
    }
}

/// Reports a sink with the same name as that of `[profiling]`.
fn one_sink_a_name(config: &Config, faults: &Faults) {
    const NAME: &str = "profiling";
    if config.profiling.is_some()
        && config.sinks.0.contains_key(NAME)
        && let Some(place) = faults.place(&format!("sinks.{NAME}"))
    {
        let problem =
            format!("`sinks.{NAME}` has the name of the sink of `[{NAME}]`; give it another one");
        faults.add(place, problem);
    }
}

/// Reports operations that would be forwarded to several destinations, or to this program.
fn one_destination(config: &Config, faults: &Faults) {
    let mut first = faults
        .place("operations.forward_to")
        .filter(|_| config.operations.forward_to.is_some());
    if let (Some(_), Some(place)) = (&first, faults.place("sinks.operations")) {
        let problem = "`sinks.operations`: `operations.forward_to` makes a sink of this name; give \
                       this one another name";
        faults.add(place, problem.to_owned());
    }
    for (name, sink) in &config.sinks.0 {
        let SinkSettings::Operations(settings) = &sink.settings else {
            continue;
        };
        let Some(place) = faults.place(&format!("sinks.{name}")) else {
            continue;
        };
        if config
            .operations
            .own_socket(&settings.destination)
            .is_some()
        {
            let problem = format!(
                "`sinks.{name}.url` = {} is this program's own socket for operations; forward to \
                 another address",
                settings.destination
            );
            faults.add(place.clone(), problem);
        }
        if let Some(first) = &first {
            let problem = format!(
                "`sinks.{name}`: operations are forwarded to one destination, and {first} has \
                 another; remove one"
            );
            faults.add(place, problem);
        } else {
            first = Some(place);
        }
    }
}

/// Reports settings of forwarding that have no effect.
fn forwarding(config: &Config, faults: &Faults) {
    // A destination that was rejected is missing, too.
    if faults.error_count() > 0 {
        return;
    }
    let is_operations = |sink: &SinkConfig| matches!(sink.settings, SinkSettings::Operations(_));
    let operations = &config.operations;
    if operations.forward_to.is_some() {
        return;
    }
    let no_effect = |key: &str, why: &str| {
        let setting = format!("operations.{key}");
        if let Some(place) = faults.place(&setting) {
            faults.add(place, format!("`{setting}` has no effect: {why}"));
        }
    };
    let mut sinks = config.sinks.0.iter();
    if let Some((name, _)) = sinks.find(|(_, sink)| is_operations(sink)) {
        if operations.forward_queue != Config::default().operations.forward_queue {
            let why = format!("`sinks.{name}.max_queue` limits the queue");
            no_effect("forward_queue", &why);
        }
        return;
    }
    let why = "operations are not forwarded; set `operations.forward_to`, or add a sink with type \
               = \"operations\"";
    if operations.forward_keep {
        no_effect("forward_keep", why);
    }
    if operations.forward_raw {
        no_effect("forward_raw", why);
    }
}

/// Warns if every input is disabled.
fn no_input(config: &Config, faults: &Faults) {
    let receives = config.receiver.receive_on_tcp_socket || config.receiver.receive_on_unix_socket;
    let poll = &config.poll_external;
    let has_targets = !poll.targets.is_empty() || poll.discoveries.all().next().is_some();
    let polls = poll.poll_other_scrape_endpoints && has_targets;
    if receives || polls || config.operations.is_on() || !config.push.listen.is_empty() {
        return;
    }
    // The receivers are enabled by default, so this setting has a place.
    if let Some(place) = faults.place("receiver.receive_on_tcp_socket") {
        faults.warn(
            place,
            "no input is enabled: both receivers, `push.listen`, `operations` and polling are \
             off; enable at least one",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_overlaps_all_addresses_of_its_port() {
        let address = |text: &str| {
            let (host, port) = text.rsplit_once(':').unwrap();
            Address::new(host, port.parse().unwrap())
        };
        for (one, other) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "example.org:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("::1:1", "[::1]:1"),
            ("localhost:1", "127.0.0.1:1"),
            ("a.example:1", "A.example:1"),
        ] {
            let (one, other) = (address(one), address(other));
            assert!(
                overlap(&one, &other) && overlap(&other, &one),
                "{one} {other}"
            );
        }
        for (one, other) in [
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("0.0.0.0:1", "0.0.0.0:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:1", "[::1]:1"),
            ("a.example:1", "b.example:1"),
            ("a.example:1", "127.0.0.1:1"),
        ] {
            let (one, other) = (address(one), address(other));
            assert!(
                !overlap(&one, &other) && !overlap(&other, &one),
                "{one} {other}"
            );
        }
    }
}
