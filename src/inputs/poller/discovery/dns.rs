//! `dns_sd`: finds targets at the addresses of DNS names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType as WireType};
use tokio::task::JoinSet;

use super::Look;
use super::found::{Findings, FoundReader, found_in};
use crate::inputs::poller::config::discovery::{DnsSd, RecordType};
use crate::inputs::poller::error::ScrapeError;
use crate::reason::Reason;

/// The timeout of one request to a server, and the number of attempts.
const REQUEST: (Duration, usize) = (Duration::from_secs(5), 2);

/// The names of a discovery, with the results of the last look-up.
#[derive(Debug)]
pub struct DnsNames {
    config: Arc<DnsSd>,
    name: String,
    /// The last findings for each name.
    found: BTreeMap<String, Findings>,
    /// Whether every name has been looked up.
    is_looked_up: bool,
}

impl DnsNames {
    /// The names of a discovery, not yet looked up. `before` are earlier findings in the
    /// same place.
    pub fn new(name: &str, config: &Arc<DnsSd>, before: &Findings) -> Self {
        let lists = before.by_list().into_iter();
        DnsNames {
            config: Arc::clone(config),
            name: name.to_owned(),
            found: lists.map(|(name, it)| (name.to_owned(), it)).collect(),
            is_looked_up: false,
        }
    }

    /// The time from one look-up to the next.
    pub fn interval(&self) -> Duration {
        self.config.refresh_interval
    }

    /// Looks up all names. A name whose look-up fails keeps its targets; a name that does
    /// not exist has none.
    pub async fn look(&mut self) -> Look {
        // The system's servers may have changed.
        let resolver = match resolver(self.config.server) {
            Ok(resolver) => Arc::new(resolver),
            Err(problem) => return Look::failed(ScrapeError::new(Reason::Dns, &problem)),
        };
        let kind = self.config.kind;
        let mut lookups = JoinSet::new();
        for name in &self.config.names {
            let (name, resolver) = (name.clone(), Arc::clone(&resolver));
            lookups.spawn(async move {
                let addresses = addresses(&resolver, &name, kind).await;
                (name, addresses)
            });
        }
        let mut is_changed = !std::mem::replace(&mut self.is_looked_up, true);
        let mut result = Ok(());
        while let Some(looked_up) = lookups.join_next().await {
            match looked_up {
                Ok((name, Ok(addresses))) => {
                    let findings = self.findings(&name, &addresses);
                    is_changed |= self.found.get(&name) != Some(&findings);
                    self.found.insert(name, findings);
                }
                Ok((name, Err(problem))) => {
                    result = Err(ScrapeError::new(Reason::Dns, &format!("{name}: {problem}")));
                }
                Err(error) => {
                    let message = format!("a name cannot be looked up: {error}");
                    result = Err(ScrapeError::new(Reason::Closed, &message));
                }
            }
        }
        let findings = is_changed.then(|| {
            let mut all = Findings::default();
            self.found.values().for_each(|found| all.extend(found));
            all
        });
        Look {
            findings,
            result: Some(result),
        }
    }

    /// The targets at the addresses of a name.
    fn findings(&self, name: &str, addresses: &[Address]) -> Findings {
        let reader = FoundReader::new(&self.config.targets);
        let found_in = found_in(&self.name, name);
        let mut findings = Findings::default();
        for address in addresses {
            let meta = meta_labels(name, address);
            let found = match (address, self.config.port) {
                (Address::Service(host, port), _) => Ok(format!("{host}:{port}")),
                (Address::Ip(ip), Some(port)) => Ok(SocketAddr::new(*ip, port).to_string()),
                (Address::Ip(ip), None) => Err(format!("{ip} has no port")),
            };
            findings.add(found.and_then(|it| reader.found(&it, &meta, &found_in)));
        }
        findings
    }
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Address {
    Ip(IpAddr),
    /// A host and its port.
    Service(String, u16),
}

/// The labels for rules, as in Prometheus.
fn meta_labels(name: &str, address: &Address) -> BTreeMap<String, String> {
    let label = |key: &str, value: String| (format!("__meta_dns_{key}"), value);
    let mut labels = BTreeMap::from([label("name", name.to_owned())]);
    if let Address::Service(host, port) = address {
        labels.extend([
            label("srv_record_target", format!("{host}.")),
            label("srv_record_port", port.to_string()),
        ]);
    }
    labels
}

/// The addresses of a name, sorted, since servers rotate them. A name that does not exist
/// has none.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Vec<Address>, String> {
    let wire = match kind {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Srv => WireType::SRV,
    };
    let lookup = match resolver.lookup(name, wire).await {
        Ok(lookup) => lookup,
        Err(problem) if problem.is_no_records_found() => return Ok(Vec::new()),
        Err(problem) => return Err(problem.to_string()),
    };
    let records = lookup.answers().iter();
    let addresses = records.filter_map(|record| match &record.data {
        RData::A(ip) => Some(Address::Ip(IpAddr::V4(ip.0))),
        RData::AAAA(ip) => Some(Address::Ip(IpAddr::V6(ip.0))),
        RData::SRV(service) => {
            let host = service.target.to_ascii();
            let host = host.strip_suffix('.').unwrap_or(&host);
            Some(Address::Service(host.to_owned(), service.port))
        }
        // Other records, such as that of an alias.
        _ => None,
    });
    let mut addresses: Vec<Address> = addresses.collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// A resolver that asks `server`, or the system's servers, and caches nothing.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio().map_err(|problem| problem.to_string())?,
        Some(server) => {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = REQUEST;
    options.cache_size = 0;
    builder.build().map_err(|problem| problem.to_string())
}
