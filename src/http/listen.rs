//! The settings of HTTP listeners: one address, or a list of addresses with or without TLS.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::net::tls::{TlsSettings, settings};
use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::listen::Listen;
use crate::settings::reader::Item;

/// The setting of listeners for scrapes.
pub const SCRAPES: &str = "exporter.scrape_expose_endpoint";

/// The setting of listeners for pushes.
pub const PUSHES: &str = "push.listen";

/// The setting of listeners for health checks and own metrics.
pub const LIFECYCLE: &str = "lifecycle.listen";

/// An HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpListener {
    /// Where it is bound.
    pub address: Listen,
    /// Its TLS; `None` for plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// The listeners of one setting, none of which is [`Listen::Off`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpListeners(Vec<HttpListener>);

impl HttpListeners {
    /// One listener without TLS; none if it is off.
    pub fn one(address: Listen) -> Self {
        let listener = HttpListener { address, tls: None };
        HttpListeners(match listener.address {
            Listen::Off => Vec::new(),
            _ => vec![listener],
        })
    }

    /// The listeners, each with the name of its setting: `push.listen`, or
    /// `push.listen[1]` if there are several.
    pub fn named<'s>(
        &'s self,
        setting: &'s str,
    ) -> impl Iterator<Item = (String, &'s HttpListener)> + Clone {
        let several = self.0.len() > 1;
        let listeners = self.0.iter().enumerate();
        listeners.map(move |(index, listener)| match several {
            true => (format!("{setting}[{index}]"), listener),
            false => (setting.to_owned(), listener),
        })
    }

    /// The listeners.
    pub fn iter(&self) -> impl Iterator<Item = &HttpListener> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for HttpListeners {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => to.serialize_str(""),
            [HttpListener { address, tls: None }] => address.serialize(to),
            listeners => {
                let mut items = to.serialize_seq(Some(listeners.len()))?;
                for listener in listeners {
                    match listener {
                        HttpListener { address, tls: None } => items.serialize_element(address)?,
                        listener => items.serialize_element(listener)?,
                    }
                }
                items.end()
            }
        }
    }
}

/// Takes the listeners under `key`: a value that `parse` reads, a table with `address` and
/// `tls`, or a list of these.
pub fn take(
    table: &mut Table<'_>,
    key: &'static str,
    default: Listen,
    parse: impl Fn(&Node) -> Result<Listen, String>,
) -> HttpListeners {
    let taken = table.take_items(key, |item| match item {
        Item::Value(node) => parse(&node).map(|address| Some(HttpListener { address, tls: None })),
        Item::Table(mut table, place) => {
            let has_address = table.place("address").is_some();
            let tls_place = table.place("tls");
            let address = table.take_option("address", &parse);
            let tls = settings::take(&mut table, "tls");
            if !has_address {
                table.fault(place, format!("`{}` needs an `address`", table.name()));
            } else if let Some(place) = tls_place
                && matches!(address, Some(Listen::Unix(_) | Listen::Off))
            {
                let problem = format!("`{}.tls` needs an address with a port", table.name());
                table.fault(place, problem);
            }
            table.finish();
            Ok(address.map(|address| HttpListener { address, tls }))
        }
    });
    let Some(mut listeners) = taken else {
        return HttpListeners::one(default);
    };
    listeners.retain(|listener| listener.address != Listen::Off);
    HttpListeners(listeners)
}
