//! Reads the names and the lifetime of a certificate.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Any, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::peer::ClientIdentity;

/// The names in a DER certificate.
///
/// # Errors
///
/// `der` is not a certificate.
pub fn identity(der: &[u8]) -> Result<ClientIdentity, String> {
    let certificate = parse(der)?;
    let certificate = certificate.tbs_certificate();
    let mut alternative_names = Vec::new();
    let extensions = certificate.extensions().into_iter().flatten();
    for extension in extensions.filter(|it| it.extn_id == SubjectAltName::OID) {
        let names = SubjectAltName::from_der(extension.extn_value.as_bytes());
        let names = names.map_err(|problem| format!("its alternative names: {problem}"))?;
        alternative_names.extend(names.0.iter().filter_map(written));
    }
    let attributes = certificate.subject().iter();
    let mut common = attributes.filter(|it| it.oid == x509_cert::der::oid::db::rfc4519::CN);
    Ok(ClientIdentity {
        common_name: common.next().and_then(|attribute| text(&attribute.value)),
        alternative_names,
    })
}

/// The expiry of a DER certificate, in seconds since 1970.
///
/// # Errors
///
/// `der` is not a certificate.
pub fn expiry(der: &[u8]) -> Result<u64, String> {
    let certificate = parse(der)?;
    let expiry = certificate.tbs_certificate().validity().not_after;
    let since = expiry.to_system_time().duration_since(UNIX_EPOCH);
    Ok(since.map_or(0, |since| since.as_secs()))
}

fn parse(der: &[u8]) -> Result<Certificate, String> {
    Certificate::from_der(der).map_err(|problem| problem.to_string())
}

/// A name as exporter-toolkit compares it; `None` for kinds that it ignores.
fn written(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::Rfc822Name(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn text(value: &Any) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef<'_>>();
    let text = utf8.map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>();
    text.or_else(|_| printable().map(|text| text.as_str().to_owned()))
        .ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_are_read_from_a_certificate() {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "me");
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        params.subject_alt_names.extend([
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("::1".parse().unwrap()),
            SanType::Rfc822Name("me@a.example".try_into().unwrap()),
            SanType::URI("spiffe://a/b".try_into().unwrap()),
        ]);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let found = identity(certificate.der()).unwrap();
        assert_eq!(found.common_name.as_deref(), Some("me"));
        let expected = [
            "a.example",
            "10.0.0.1",
            "::1",
            "me@a.example",
            "spiffe://a/b",
        ];
        assert_eq!(found.alternative_names, expected);
        assert_eq!(found.names().collect::<Vec<_>>(), expected);
        assert_eq!(expiry(certificate.der()), Ok(1_893_542_400));
        assert!(identity(b"no certificate").is_err());
    }
}
