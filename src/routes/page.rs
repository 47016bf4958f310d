//! Content of the browser pages about inputs and the configuration, which outputs cannot import.

use std::sync::Arc;

use toml::{Table, Value};

use super::Stateful;
use crate::config::Config;
use crate::context::Context;
use crate::inputs::webhooks::{Webhooks, names};
use crate::outputs::page::{Page, ReadWebhooks, SettingsInUse, Shell, ShownInput, ShownWebhook};
use crate::telemetry::ListenerName;

/// The pages for a configuration.
pub(super) fn page(config: &Config, context: &Context, stateful: &Stateful) -> Arc<Page> {
    let front = &config.web.front;
    let is_secure = front.origin().is_some_and(|it| it.starts_with("https:"));
    let shell = Shell::new(front.link_prefix(), is_secure);
    let used = table_of(config);
    let inputs = inputs(&used, config);
    let settings = SettingsInUse::new(used, table_of(&Config::default()), &config.places, inputs);
    let webhooks = read_webhooks(&stateful.webhooks);
    Page::new(shell, settings, webhooks, &stateful.token_key, context)
}

/// The settings by table and key, with secrets redacted. Targets are listed by name only:
/// there may be many, and each has a page with its settings.
fn table_of(config: &Config) -> Table {
    let mut config = config.clone();
    let targets = std::mem::take(&mut config.poll_external.targets);
    let names = targets
        .iter()
        .map(|target| Value::String(target.name.clone()));
    let names = Value::Array(names.collect());
    let mut table = Table::try_from(&config).unwrap_or_default();
    if let Some(Value::Table(polls)) = table.get_mut("poll_external") {
        polls.insert("targets".to_owned(), names);
    }
    table
}

fn read_webhooks(webhooks: &Arc<Webhooks>) -> ReadWebhooks {
    let webhooks = Arc::clone(webhooks);
    Arc::new(move |query| {
        let found = webhooks.matching(query)?;
        let shown = found.iter().map(|webhook| ShownWebhook {
            at: webhook.at,
            kind: webhook.notification.kind.as_str(),
            receiver: webhook.notification.receiver.clone(),
            status: webhook.notification.status.as_str(),
            alerts: names(&webhook.notification),
            peer: webhook.peer.to_string(),
            bytes: webhook.bytes,
            body: webhook.body.clone(),
        });
        Ok(shown.collect())
    })
}

/// The inputs with their configured addresses, in the order of the documentation.
fn inputs(settings: &Table, config: &Config) -> Vec<ShownInput> {
    let receiver = &config.receiver;
    let is_on = |setting: &str| match setting {
        "receiver.receiver_tcp_socket" => receiver.receive_on_tcp_socket,
        "receiver.receiver_unix_socket" => receiver.receive_on_unix_socket,
        _ => true,
    };
    let inputs = [
        (
            "Scrapes",
            "exporter.scrape_expose_endpoint",
            Some(ListenerName::Http),
        ),
        ("Pushes over HTTP", "push.listen", Some(ListenerName::Push)),
        (
            "Apps over TCP",
            "receiver.receiver_tcp_socket",
            Some(ListenerName::Tcp),
        ),
        (
            "Apps over Unix socket",
            "receiver.receiver_unix_socket",
            Some(ListenerName::Unix),
        ),
        ("Operations over UDP", "operations.udp", None),
        (
            "Operations over TCP",
            "operations.tcp",
            Some(ListenerName::OperationsTcp),
        ),
        (
            "Operations over Unix sockets",
            "operations.unix_sockets",
            Some(ListenerName::OperationsUnix),
        ),
        (
            "Operations over Unix datagrams",
            "operations.unix_datagram_sockets",
            None,
        ),
        (
            "Health checks",
            "lifecycle.listen",
            Some(ListenerName::Lifecycle),
        ),
    ];
    let shown = |(title, setting, listener): (&'static str, &'static str, _)| ShownInput {
        title,
        setting,
        addresses: match is_on(setting) {
            true => addresses(settings, setting),
            false => Vec::new(),
        },
        listener,
    };
    inputs.into_iter().map(shown).collect()
}

/// The addresses of a setting: a string, a table with an address, or a list of these.
fn addresses(settings: &Table, setting: &str) -> Vec<String> {
    fn of(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::String(text) => vec![text.clone()],
            Value::Table(table) => table.get("address").map(of).unwrap_or_default(),
            Value::Array(items) => items.iter().flat_map(of).collect(),
            _ => Vec::new(),
        }
    }
    let value = setting.split_once('.');
    let value = value.and_then(|(table, key)| settings.get(table)?.get(key));
    value.map(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    #[test]
    fn inputs_have_the_addresses_of_their_settings() {
        let text = "[push]\nlisten = [\"127.0.0.1:1\", \"/run/p.sock\"]\n\
                    [receiver]\nreceive_on_tcp_socket = false\n\
                    [operations]\nudp = \"127.0.0.1:2\"\n";
        let config = settle("test", text, []).unwrap().0;
        let inputs = inputs(&table_of(&config), &config);
        let addresses = |setting: &str| {
            let input = inputs.iter().find(|it| it.setting == setting);
            input.unwrap().addresses.join(" ")
        };
        assert_eq!(addresses("push.listen"), "127.0.0.1:1 unix:/run/p.sock");
        assert_eq!(addresses("exporter.scrape_expose_endpoint"), "0.0.0.0:6555");
        assert_eq!(addresses("receiver.receiver_tcp_socket"), "");
        assert_eq!(addresses("operations.udp"), "127.0.0.1:2");
        assert_eq!(addresses("operations.tcp"), "");
    }
}
