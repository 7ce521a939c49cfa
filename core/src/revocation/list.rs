//! Signed revocation lists.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateRevocationListDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::ListIssuers;
use crate::authority::AuthorityId;
use crate::digest::hex;
use crate::unknown_fields::Unknown;

/// A signed revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// Who signed it.
    pub issuer: AuthorityId,
    /// The list, DER in base64.
    #[serde(serialize_with = "crl_out", deserialize_with = "crl_in")]
    pub der: CertificateRevocationListDer<'static>,
    /// When a newer one should have been made, seconds since 1970.
    pub next_update: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl RevocationList {
    /// How many bytes these lists take in a message, as PEM.
    #[must_use]
    pub fn message_bytes(lists: &[Self]) -> usize {
        const FRAME: usize = "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n".len();
        let one = |list: &Self| {
            let body = list.der.len().div_ceil(3).saturating_mul(4);
            body.saturating_add(body.div_ceil(64)).saturating_add(FRAME)
        };
        lists.iter().map(one).fold(0, usize::saturating_add)
    }

    /// When it begins to be valid, if it can be read.
    #[must_use]
    pub fn begins(&self) -> Option<OffsetDateTime> {
        let (_, parsed) = CertificateRevocationList::from_der(&self.der).ok()?;
        Some(parsed.last_update().to_datetime())
    }

    /// Whether any certificate is on it.
    #[must_use]
    pub fn revokes_something(&self) -> bool {
        let parsed = CertificateRevocationList::from_der(&self.der);
        parsed.is_ok_and(|(_, parsed)| parsed.iter_revoked_certificates().next().is_some())
    }

    /// Whether the certificate with this serial number, hexadecimal as it is recorded, is on it.
    #[must_use]
    pub fn revokes(&self, serial: &str) -> bool {
        let serial = serial.trim_start_matches('0');
        self.serials().iter().any(|one| one == serial)
    }

    /// The serial numbers on it, hexadecimal without zeros in front; none when it cannot be read.
    #[must_use]
    pub fn serials(&self) -> Vec<String> {
        let of = |entry: &RevokedCertificate<'_>| hex(entry.raw_serial()).trim_start_matches('0').to_owned();
        let parsed = CertificateRevocationList::from_der(&self.der);
        parsed.map_or_else(|_| Vec::new(), |(_, parsed)| parsed.iter_revoked_certificates().map(of).collect())
    }

    /// Whether its issuer has made it after `other`, as every process says that has read both.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let order = |list: &Self| {
            let (_, parsed) = CertificateRevocationList::from_der(&list.der).ok()?;
            Some((parsed.last_update().timestamp(), parsed.crl_number().cloned()))
        };
        self.der != other.der && (order(self), &self.der[..]) > (order(other), &other.der[..])
    }
}

/// What is given by whoever runs the CA, when that is somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenLists<'a> {
    /// There is nobody else, or it is not known what they say: the lists in use go on.
    Unknown,
    /// There are no lists, which says that nothing is revoked.
    NothingRevoked,
    /// These lists.
    Lists(&'a [RevocationList]),
    /// These lists, whenever something is revoked: here, or by one of them.
    OnDemand(&'a [RevocationList]),
}

impl<'a> GivenLists<'a> {
    /// The lists, if any are given.
    #[must_use]
    pub fn all(self) -> &'a [RevocationList] {
        match self {
            Self::Lists(lists) | Self::OnDemand(lists) => lists,
            Self::Unknown | Self::NothingRevoked => &[],
        }
    }

    /// The list of this issuer.
    #[must_use]
    pub fn list_of(self, issuer: &AuthorityId) -> Option<&'a RevocationList> {
        self.all().iter().find(|list| list.issuer == *issuer)
    }

    /// Those of them that are used, if lists are: a mount has issuers that are none of ours.
    pub fn used(self, issuers: &ListIssuers) -> impl Iterator<Item = &'a RevocationList> {
        let is_used = move |list: &&RevocationList| match self {
            Self::OnDemand(_) => issuers.required().contains(&list.issuer),
            Self::Lists(_) | Self::Unknown | Self::NothingRevoked => true,
        };
        self.all().iter().filter(is_used)
    }

    /// Whether they are a reason to have lists.
    #[must_use]
    pub fn says_revoked(self, issuers: &ListIssuers) -> bool {
        match self {
            Self::Unknown | Self::NothingRevoked => false,
            Self::Lists(lists) => !lists.is_empty(),
            Self::OnDemand(_) => self.used(issuers).any(RevocationList::revokes_something),
        }
    }
}

fn crl_out<S: Serializer>(der: &CertificateRevocationListDer<'static>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(der))
}

fn crl_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CertificateRevocationListDer<'static>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(CertificateRevocationListDer::from).map_err(serde::de::Error::custom)
}
