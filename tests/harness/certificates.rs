//! Certificates for tests, and clients that use them.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::PATIENCE;

/// An authority that signs certificates. Everything is a file in one directory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    /// The certificate of the authority.
    pub ca: PathBuf,
}

/// The files of a certificate.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// The first two keys of a `tls` table.
    pub fn settings(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("cert_file = \"{cert}\", key_file = \"{key}\"")
    }
}

impl Authority {
    /// A new authority whose certificate is `NAME.crt` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let ca = dir.join(format!("{name}.crt"));
        fs::write(&ca, issuer.pem()).unwrap();
        Authority {
            issuer,
            dir: dir.to_owned(),
            ca,
        }
    }

    /// A certificate for the loopback, in `FILE.crt` and `FILE.key`.
    pub fn issue(&self, file: &str) -> Pair {
        self.issue_for(file, &["localhost", "127.0.0.1"], |_| {})
    }

    /// A certificate for the host of an address.
    pub fn issue_for_address(&self, file: &str, address: &str) -> Pair {
        let (host, _) = address.rsplit_once(':').unwrap();
        self.issue_for(file, &[host], |_| {})
    }

    /// A certificate for names and addresses; `change` can adjust its parameters.
    pub fn issue_for(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.dir.join(format!("{file}.crt")),
            key: self.dir.join(format!("{file}.key")),
        };
        fs::write(&pair.cert, cert.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// A client that trusts this authority and presents a certificate, if it has one.
    pub fn client(&self, own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&self.ca).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
                let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

/// A connection with TLS.
pub type TlsConnection = StreamOwned<ClientConnection, TcpStream>;

/// Connects, and performs the handshake.
pub fn connect(config: &ClientConfig, address: &str) -> io::Result<TlsConnection> {
    handshake(config, TcpStream::connect(address)?)
}

/// Performs the handshake on a connection.
pub fn handshake(config: &ClientConfig, mut stream: TcpStream) -> io::Result<TlsConnection> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = "localhost".try_into().unwrap();
    let mut session = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Sends bytes, ends this side, and returns the answer.
pub fn exchange(config: &ClientConfig, address: &str, bytes: &[u8]) -> io::Result<String> {
    exchange_on(connect(config, address)?, bytes)
}

/// Like [`exchange`], on a connection after its handshake.
pub fn exchange_on(mut stream: TlsConnection, bytes: &[u8]) -> io::Result<String> {
    stream.write_all(bytes)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
