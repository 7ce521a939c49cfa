//! A key of this process's own for a certificate of the CA's, with the request that backends sign which make leaves themselves.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use signet_core::csr::ProvenKey;
use signet_core::identity::SpiffeId;

/// Proves that `key` is ours by a request for exactly these names.
///
/// # Errors
/// Why there is no such request, in words.
pub(crate) fn proven(key: &KeyPair, id: &SpiffeId, dns: &[String], ips: &[IpAddr]) -> Result<ProvenKey, String> {
    let no_name = |name: &str| format!("{name:?} is no name for a certificate");
    let uri = id.as_str().try_into().map(SanType::URI).map_err(|_| no_name(id.as_str()))?;
    let dns = dns.iter().map(|name| name.as_str().try_into().map(SanType::DnsName).map_err(|_| no_name(name)));
    let names = std::iter::once(Ok(uri)).chain(dns).chain(ips.iter().map(|ip| Ok(SanType::IpAddress(*ip))));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.collect::<Result<_, String>>()?;
    let request = params.serialize_request(key).map_err(|error| format!("making a request: {error}"))?;
    let request = signet_core::csr::CertificateRequest::parse_der(request.der()).map_err(|error| error.to_string())?;
    Ok(request.into_key())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use signet_core::csr::CertificateRequest;

    #[test]
    fn the_request_asks_for_these_names_and_for_nothing_else() {
        let id = SpiffeId::parse("spiffe://cluster.local/signet/ca").unwrap();
        let key = KeyPair::generate().unwrap();
        let proven = proven(&key, &id, &["ca.example".to_owned()], &["127.0.0.1".parse().unwrap()]).unwrap();
        let again = CertificateRequest::parse_der(proven.request().unwrap()).unwrap();
        assert_eq!(again.names().uris, [id.as_str()]);
        assert_eq!(again.names().others, ["DNS name \"ca.example\"", "IP address 127.0.0.1"]);
        assert_eq!(again.key().spki_der(), proven.spki_der());
        assert!(super::proven(&key, &id, &["ä".to_owned()], &[]).unwrap_err().contains("is no name"));
    }
}
