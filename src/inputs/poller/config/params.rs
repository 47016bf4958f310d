//! Parameters of the URLs of targets.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use url::form_urlencoded;

use super::target::TargetUrl;
use crate::redact::{REDACTED, is_secret_parameter};
use crate::settings::document::{Node, Value};
use crate::settings::reader::Table;
use crate::settings::value::text;

/// Parameters by name, as in Prometheus' `params`: each has at least one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, Vec<String>>);

impl Params {
    /// Takes the table `params`.
    pub fn take(table: &mut Table<'_>) -> Self {
        let values = table.take_values("params", values).into_iter();
        Params(values.map(|(name, values, _)| (name, values)).collect())
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the first value of a parameter, like the label `__param_<name>` in Prometheus.
    pub fn set(&mut self, name: &str, value: &str) {
        let values = self.0.entry(name.to_owned()).or_default();
        match values.first_mut() {
            Some(first) => value.clone_into(first),
            None => values.push(value.to_owned()),
        }
    }

    /// Names and values, sorted by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.0.iter();
        named.flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value)))
    }

    /// Adds a value.
    pub fn add(&mut self, name: &str, value: &str) {
        let values = self.0.entry(name.to_owned()).or_default();
        values.push(value.to_owned());
    }

    /// Names, each with its first value.
    pub fn first_values(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.0.iter();
        named.filter_map(|(name, values)| Some((&**name, &**values.first()?)))
    }

    /// Appends the parameters to those that the URL already has.
    pub fn add_to(&self, url: TargetUrl) -> TargetUrl {
        if self.is_empty() {
            return url;
        }
        match url {
            TargetUrl::Http(mut url) => {
                url.query_pairs_mut().extend_pairs(self.pairs());
                TargetUrl::Http(url)
            }
            TargetUrl::Unix { socket, path } => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.extend_pairs(self.pairs());
                let sign = if path.contains('?') { '&' } else { '?' };
                let path = format!("{path}{sign}{}", query.finish());
                TargetUrl::Unix { socket, path }
            }
            file @ TargetUrl::File(_) => file,
        }
    }
}

/// Values of secret parameters are redacted, as in URLs.
impl Serialize for Params {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            let shown: Vec<&str> = match is_secret_parameter(name) {
                true => vec![REDACTED; values.len()],
                false => values.iter().map(String::as_str).collect(),
            };
            map.serialize_entry(name, &shown)?;
        }
        map.end()
    }
}

/// Parses a string, or a list of strings.
fn values(node: &Node) -> Result<Vec<String>, String> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            Err("must have a value; leave the parameter out".to_owned())
        }
        Value::List(items) => items.iter().map(text).collect(),
        _ => Ok(vec![text(node)?]),
    }
}
