//! Scrapes over TLS and without.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bench::client::{Body, Client};
use bench::figures::{median, wait_for_quiet};
use bench::payload::{app_text, capnp_message};
use bench::proxy::Proxy;
use rustls::crypto::ring;
use rustls::{CipherSuite, ClientConfig, RootCertStore, SupportedCipherSuite};

use crate::{Pair, SERIES};

/// 9.3 MB of text.
const APPS: usize = 1_000;
/// Apps that change before a scrape: 1 %.
const CHANGED: usize = APPS / 100;
const SCRAPES: usize = 40;

pub fn measure(program: &Path, rounds: usize) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let file = |name: &str| directory.path().join(name);
    fs::write(file("server.crt"), certificate.cert.pem())?;
    fs::write(file("server.key"), certificate.signing_key.serialize_pem())?;
    fs::write(
        file("web.yml"),
        "tls_server_config: { cert_file: server.crt, key_file: server.key }\n",
    )?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone())?;
    // In the order of Prometheus, and so of Go: 128 bits first.
    let mut provider = ring::default_provider();
    let is_128_bit =
        |suite: &SupportedCipherSuite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .sort_by_key(|suite| !is_128_bit(suite));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);

    let more = format!("[web]\nconfig_file = {:?}\n", file("web.yml"));
    let plain = Proxy::start(program, 2, "")?;
    let secure = Proxy::start(program, 2, &more)?;
    for proxy in [&plain, &secure] {
        (0..APPS).try_for_each(|app| push(proxy, app, 0))?;
    }
    let mut version = 0;
    // Text and gzip, without a change and with.
    let kinds = [(false, 0), (false, CHANGED), (true, 0), (true, CHANGED)];
    let mut pairs = [(); 4].map(|()| Pair::default());
    for _ in 0..rounds {
        for (pair, (gzip, changed)) in pairs.iter_mut().zip(kinds) {
            for (with, proxy) in [(false, &plain), (true, &secure)] {
                let address = &proxy.addresses.http;
                let mut client = match with {
                    true => Client::connect_tls(address, config.clone())?,
                    false => Client::connect(address)?,
                };
                wait_for_quiet()?;
                let mut times = Vec::new();
                for scrape in 0..SCRAPES {
                    version += 1;
                    let apps = (0..changed).map(|at| (scrape + at * (APPS / CHANGED)) % APPS);
                    for app in apps {
                        push(proxy, app, version)?;
                    }
                    let start = Instant::now();
                    client.get("/metrics", gzip, Body::Keep)?;
                    times.push(start.elapsed().as_secs_f64());
                }
                pair.add(with, median(times) * 1e3);
            }
        }
    }
    println!("\n| Scrape of 9.3 MB | plain | TLS | factor |\n| --- | ---: | ---: | ---: |");
    for (pair, (gzip, changed)) in pairs.iter().zip(kinds) {
        let format = if gzip { "gzip" } else { "text" };
        pair.print(&format!("{format}, {changed} of {APPS} apps changed"), "ms");
    }
    Ok(())
}

/// Pushes one version of an app's text.
fn push(proxy: &Proxy, app: usize, version: u64) -> Result<()> {
    let app = format!("app{app:04}");
    let mut stream = UnixStream::connect(&proxy.addresses.unix)?;
    stream.write_all(&capnp_message(&app, &app_text(&app, SERIES, version)))?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
