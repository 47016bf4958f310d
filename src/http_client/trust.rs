//! Decides which server certificates are trusted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::tls::ClientTls;

/// Builds the TLS configuration of a client. It trusts the system's certificates and those
/// of `ca`, a PEM text; with `any`, every certificate. `tls` has the client's own
/// certificate, and the name that the server's certificate must have.
///
/// # Errors
///
/// `ca` or `tls` is not valid.
pub fn config(any: bool, ca: Option<&[u8]>, tls: &ClientTls) -> Result<ClientConfig, String> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?;
    let builder = match verifier(any, ca, provider)? {
        Some(verifier) => {
            let verifier = match tls.name() {
                Some(name) => Arc::new(FixedName { verifier, name }),
                None => verifier,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    match &tls.client {
        Some(own) => {
            let (chain, key) = own.parse()?;
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|problem| problem.to_string())
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Returns the verifier of server certificates; `None` if none can be verified.
fn verifier(
    any: bool,
    ca: Option<&[u8]>,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, String> {
    if any {
        return Ok(Some(Arc::new(AnyCertificate(provider))));
    }
    let own = match ca {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| format!("ca_file: {problem}"))?,
        None => Vec::new(),
    };
    match Verifier::new_with_extra_roots(own, provider) {
        Ok(verifier) => Ok(Some(Arc::new(verifier))),
        // Some systems have no certificates, and servers without TLS need none.
        Err(problem) => {
            log::info!(
                "cannot read the certificates of this system ({problem}): https URLs need a ca_file"
            );
            Ok(None)
        }
    }
}

/// Verifies certificates against a fixed name instead of the host of the URL.
#[derive(Debug)]
struct FixedName {
    verifier: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for FixedName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = &self.name;
        self.verifier
            .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts every certificate, for `allow_invalid_certs`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
