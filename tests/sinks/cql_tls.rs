//! Raw values to Cassandra over TLS.

use std::fs;

use tempfile::tempdir;

use crate::cassandra::Cassandra;
use crate::cql::{alone, failure, items, sink};
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::{messages, proxy, send};

#[test]
#[ignore = "needs Cassandra: scripts/test --sinks"]
fn tls_verifies_both_sides() {
    let _alone = alone();
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority = Authority::new(dir.path(), "ca");
    let other = Authority::new(dir.path(), "other");
    let node = authority.issue("node");
    let named = authority.issue_for("named", &["db.internal"], |_| {});
    let client = authority.issue("client");
    let read = |file: &std::path::Path| fs::read_to_string(file).unwrap();
    for (pair, extra) in [(&node, ""), (&named, ", server_name = \"db.internal\"")] {
        let keys = path("keys.pem");
        fs::write(&keys, format!("{}{}", read(&pair.key), read(&pair.cert))).unwrap();
        let server = Cassandra::start(&format!(
            "client_encryption_options:\n  enabled: true\n  optional: false\n  \
             require_client_auth: true\n  ssl_context_factory:\n    \
             class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n  \
             keystore: {}\n  truststore: {}\n",
            keys.display(),
            authority.ca.display()
        ));
        let tls = |ca: &Authority, more: &str| {
            let ca = ca.ca.display();
            sink(
                &server.address,
                &format!("create = true\ntls = {{ ca_file = \"{ca}\"{extra}{more} }}\n"),
            )
        };
        let with_client = format!(", {}", client.settings());
        if extra.is_empty() {
            for (settings, expected) in [
                (sink(&server.address, ""), "does the server want TLS"),
                (tls(&authority, ""), "ertificate"),
                (tls(&other, &with_client), "certificate"),
            ] {
                let (proxy, operations) = proxy(&settings);
                assert_eq!(send(&operations, &messages("raw", "shop", 0..1)), "");
                failure(&proxy, expected);
            }
        }
        let (proxy, operations) = proxy(&tls(&authority, &with_client));
        assert_eq!(send(&operations, &messages("raw", "shop", 0..100)), "");
        eventually(|| items(&proxy, "ok"), |sent| *sent == Some(100.0));
    }
}
