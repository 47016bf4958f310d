//! Verifies certificates of clients.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::certificate;
use super::error::TlsError;
use super::files;
use super::settings::{ClientAuth, TlsSettings};

/// Builds the verifier for the settings. They must not say [`ClientAuth::NoClientCert`].
///
/// # Errors
///
/// The file of authorities is not usable.
pub fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut chain = None;
    if settings.client_auth_type.verifies()
        && let Some(source) = settings.client_ca_source()
    {
        let unusable = |problem: String| source.unusable(&problem);
        let mut roots = RootCertStore::empty();
        for certificate in files::certificates(source)? {
            roots.add(certificate).map_err(|problem| {
                unusable(format!("has a certificate that cannot be used: {problem}"))
            })?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
        let builder = match settings.client_auth_type.is_required() {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let built = builder.build();
        chain = Some(built.map_err(|problem| unusable(format!("cannot be used: {problem}")))?);
    }
    Ok(Arc::new(Verifier {
        client_auth: settings.client_auth_type,
        allowed_names: settings.client_allowed_sans.clone(),
        provider: Arc::clone(provider),
        chain,
    }))
}

/// Verifies the names of a certificate and, if the settings demand it, its chain.
#[derive(Debug)]
struct Verifier {
    client_auth: ClientAuth,
    /// Empty allows every name.
    allowed_names: Vec<String>,
    provider: Arc<CryptoProvider>,
    /// `None` if certificates are not verified.
    chain: Option<Arc<dyn ClientCertVerifier>>,
}

/// The certificate has none of the allowed names.
#[derive(Debug, thiserror::Error)]
#[error("the certificate has none of the names in client_allowed_sans")]
struct NameNotAllowed;

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let chain = self.chain.as_ref();
        chain.map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.client_auth.is_required()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.allowed_names.is_empty() {
            let identity = certificate::identity(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let mut names = identity.alternative_names.iter();
            if !names.any(|name| self.allowed_names.contains(name)) {
                let problem = CertificateError::Other(OtherError(Arc::new(NameNotAllowed)));
                return Err(Error::InvalidCertificate(problem));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    // A client must prove that it has the key, even if its certificate is not verified.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
