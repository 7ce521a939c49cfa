//! How the two real clients read a reply, written after their sources and not after ours.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Why a client would reject a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// istio-agent wants at least two elements; ztunnel wants one and then a root.
    #[error("the reply has {0} elements")]
    TooShort(usize),
    /// An item where a certificate must be is none.
    #[error("element {0} has no certificate where one must be")]
    NotCertificate(usize),
    /// A certificate of the last element does not parse.
    #[error("a root does not parse")]
    BadRoot,
    /// The leaf's identity is not the one that was asked for.
    #[error("the leaf's identity is {found:?}, not {asked}")]
    WrongIdentity {
        /// First URI SAN of the leaf.
        found: Option<String>,
        /// What was asked for.
        asked: String,
    },
}

/// What istio-agent hands to Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstioAgentView {
    /// `certificate_chain`: every element joined, the root included.
    pub certificate_chain: String,
    /// `trusted_ca`: the last element as it is.
    pub root: String,
    /// From the first PEM block of the chain, seconds since 1970.
    pub expires_at: i64,
}

/// What ztunnel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZtunnelView {
    /// First item of the first element.
    pub leaf: Vec<u8>,
    /// First item of each middle element; further items there are dropped without a word.
    pub intermediates: Vec<Vec<u8>>,
    /// Every item of the last element.
    pub roots: Vec<Vec<u8>>,
}

/// istio-agent: `security/pkg/nodeagent/cache/secretcache.go`.
///
/// # Errors
/// [`Rejection`].
pub fn istio_agent(reply: &[String]) -> Result<IstioAgentView, Rejection> {
    let (Some(leaf), Some(root)) = (reply.first(), reply.last()) else { return Err(Rejection::TooShort(0)) };
    if reply.len() <= 1 {
        return Err(Rejection::TooShort(reply.len()));
    }
    let leaf = first_certificate(0, leaf)?;
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| Rejection::NotCertificate(0))?;
    Ok(IstioAgentView {
        certificate_chain: reply.concat(),
        root: root.clone(),
        expires_at: parsed.validity().not_after.timestamp(),
    })
}

/// ztunnel in shared mode: `src/identity/caclient.rs` and `src/tls/certificate.rs`.
///
/// # Errors
/// [`Rejection`].
pub fn ztunnel(reply: &[String], asked: &str) -> Result<ZtunnelView, Rejection> {
    let [first, middle @ .., last] = reply else { return Err(Rejection::TooShort(reply.len())) };
    let leaf = first_certificate(0, first)?;
    let intermediates =
        middle.iter().enumerate().map(|(at, text)| first_certificate(at + 1, text)).collect::<Result<Vec<_>, _>>()?;
    let mut roots = Vec::new();
    for item in <(SectionKind, Vec<u8>)>::pem_slice_iter(last.as_bytes()) {
        match item {
            Ok((SectionKind::Certificate, der)) => {
                X509Certificate::from_der(&der).map_err(|_| Rejection::BadRoot)?;
                roots.push(der);
            }
            _ => return Err(Rejection::NotCertificate(reply.len() - 1)),
        }
    }
    if roots.is_empty() {
        return Err(Rejection::NotCertificate(reply.len() - 1));
    }
    let found = first_uri(&leaf);
    if found.as_deref() != Some(asked) {
        return Err(Rejection::WrongIdentity { found, asked: asked.to_owned() });
    }
    Ok(ZtunnelView { leaf, intermediates, roots })
}

fn first_certificate(at: usize, text: &str) -> Result<Vec<u8>, Rejection> {
    match <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).next() {
        Some(Ok((SectionKind::Certificate, der))) => Ok(der),
        _ => Err(Rejection::NotCertificate(at)),
    }
}

fn first_uri(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

/// How often a text holds a PEM certificate.
#[must_use]
pub fn certificates_in(text: &str) -> usize {
    CertificateDer::pem_slice_iter(text.as_bytes()).filter(Result::is_ok).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    const ID: &str = "spiffe://td/ns/a/sa/b";

    fn certificate(uri: &str) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn good_replies_are_read_and_each_bad_one_is_rejected() {
        let (leaf, other) = (certificate(ID), certificate("spiffe://td/ns/a/sa/c"));
        let two_roots = format!("{other}{other}");
        let reply = vec![leaf.clone(), other.clone(), two_roots.clone()];
        let view = ztunnel(&reply, ID).unwrap();
        assert_eq!((view.intermediates.len(), view.roots.len()), (1, 2));
        let view = istio_agent(&reply).unwrap();
        assert_eq!((certificates_in(&view.certificate_chain), view.root), (4, two_roots.clone()));

        assert_eq!(istio_agent(std::slice::from_ref(&leaf)), Err(Rejection::TooShort(1)));
        assert_eq!(ztunnel(std::slice::from_ref(&leaf), ID), Err(Rejection::TooShort(1)));
        assert_eq!(ztunnel(&["x".into(), other.clone()], ID), Err(Rejection::NotCertificate(0)));
        assert_eq!(ztunnel(&[leaf.clone(), String::new()], ID), Err(Rejection::NotCertificate(1)));
        let key = KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(ztunnel(&[leaf, format!("{other}{key}")], ID), Err(Rejection::NotCertificate(1)));
        assert!(matches!(ztunnel(&[other, two_roots], ID), Err(Rejection::WrongIdentity { .. })));
    }
}
