//! Certificates that are to be revoked where they were certified, since the key that signs the list is there: the wish is kept
//! until somebody has carried it out.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use super::{RevocationList, Revocations, Revoked};
use crate::authority::AuthorityId;
use crate::unknown_fields::Unknown;

/// A certificate that whoever has certified it is to revoke. There is an entry for it, too: here it counts as revoked at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedElsewhere {
    /// Serial number, as in the entry.
    pub serial: String,
    /// Who issued it.
    pub issuer: AuthorityId,
    /// Whether it is a leaf. There may be many of these, so that storage keeps the certificate
    /// ([`SignedLeafStore`](crate::seams::signed_leaves::SignedLeafStore)), and not the journal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaf: bool,
    /// The certificate of a CA, DER in base64; nothing once that is done.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "der_out", deserialize_with = "der_in")]
    pub certificate: Option<CertificateDer<'static>>,
    /// When it was done, seconds since 1970; 0 while it is not.
    #[serde(default)]
    pub done_at: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl RevokedElsewhere {
    /// Which one it is, for people.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { serial, issuer, .. } = self;
        if self.leaf { format!("{serial} (leaf of {issuer})") } else { format!("{serial} (root {issuer})") }
    }
}

/// So many are named before the rest is counted.
const NAMED: usize = 5;

/// The names of these, for people.
#[must_use]
pub fn named(all: &[&RevokedElsewhere]) -> String {
    let names: Vec<String> = all.iter().take(NAMED).map(|one| one.name()).collect();
    match all.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}

impl Revocations {
    /// Notes that whoever has certified this CA is to revoke it, unless that is noted already.
    pub fn ask_elsewhere(&mut self, serial: &str, issuer: &AuthorityId, certificate: CertificateDer<'static>) {
        self.ask(serial, issuer, Some(certificate));
    }

    /// Notes that the backend which has signed this leaf is to revoke it, unless that is noted already.
    pub fn ask_for_leaf(&mut self, serial: &str, issuer: &AuthorityId) {
        self.ask(serial, issuer, None);
    }

    fn ask(&mut self, serial: &str, issuer: &AuthorityId, certificate: Option<CertificateDer<'static>>) {
        if self.is_elsewhere(serial, issuer) {
            return;
        }
        self.elsewhere.push(RevokedElsewhere {
            serial: serial.to_owned(),
            issuer: issuer.clone(),
            leaf: certificate.is_none(),
            certificate,
            done_at: 0,
            unknown: Unknown::default(),
        });
    }

    /// Notes at `now` that it has.
    pub fn done_elsewhere(&mut self, serial: &str, issuer: &AuthorityId, now: OffsetDateTime) {
        for one in self.elsewhere.iter_mut().filter(|one| one.serial == serial && one.issuer == *issuer) {
            (one.certificate, one.done_at) = (None, now.unix_timestamp().max(1));
        }
    }

    /// Whether whoever has certified it is to revoke that certificate, or has.
    #[must_use]
    pub fn is_elsewhere(&self, serial: &str, issuer: &AuthorityId) -> bool {
        self.elsewhere.iter().any(|one| one.serial == serial && one.issuer == *issuer)
    }

    /// Those that nobody has revoked elsewhere yet.
    pub fn awaited(&self) -> impl Iterator<Item = &RevokedElsewhere> {
        self.elsewhere.iter().filter(|one| one.done_at == 0)
    }

    /// Whether the certificate of this entry is among those.
    #[must_use]
    pub fn awaits(&self, entry: &Revoked) -> bool {
        self.awaited().any(|one| one.serial == entry.serial && one.issuer == entry.issuer)
    }

    /// The leaves among those.
    #[must_use]
    pub fn awaited_leaves(&self) -> usize {
        self.awaited().filter(|one| one.leaf).count()
    }

    /// Those that are revoked, though no list in use says so: that of the root, or of a CA between.
    #[must_use]
    pub fn unlisted(&self) -> Vec<&RevokedElsewhere> {
        let done: Vec<_> = self.elsewhere.iter().filter(|one| one.done_at != 0).collect();
        if done.is_empty() || self.lists.is_empty() {
            return Vec::new();
        }
        let listed: HashSet<String> = self.lists.iter().flat_map(RevocationList::serials).collect();
        done.into_iter().filter(|one| !listed.contains(one.serial.trim_start_matches('0'))).collect()
    }

    /// What an operator should know of them; `trouble` is why the last try has failed here.
    #[must_use]
    pub fn elsewhere_alert(&self, trouble: Option<&str>) -> Option<String> {
        let awaited: Vec<_> = self.awaited().collect();
        if !awaited.is_empty() {
            let why = trouble.map_or_else(
                || "that is done by a replica whose authority.backend is the one that has certified them".to_owned(),
                |trouble| format!("it is tried again until it is done: {trouble}"),
            );
            return Some(format!("revoked here, and not yet where they were certified: {}; {why}", named(&awaited)));
        }
        let unlisted = self.unlisted();
        (!unlisted.is_empty()).then(|| {
            format!(
                "revoked where they were certified, and not on the list of there yet: {}; with Vault, the next one has them: \
                 `crl/rotate` of the mount makes it at once, unless its config/crl says disable=true",
                named(&unlisted)
            )
        })
    }

    /// Forgets those that have no entry any more.
    pub(crate) fn forget_elsewhere(&mut self) {
        if self.elsewhere.is_empty() {
            return;
        }
        let entries: HashSet<_> = self.entries.iter().map(|entry| (&entry.serial, &entry.issuer)).collect();
        self.elsewhere.retain(|one| entries.contains(&(&one.serial, &one.issuer)));
    }
}

fn der_out<S: Serializer>(der: &Option<CertificateDer<'static>>, serializer: S) -> Result<S::Ok, S::Error> {
    der.as_ref().map(|der| STANDARD.encode(der)).serialize(serializer)
}

fn der_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CertificateDer<'static>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let der = text.map(|text| STANDARD.decode(text)).transpose().map_err(serde::de::Error::custom)?;
    Ok(der.map(CertificateDer::from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::{RevocationList, RevocationReason, Revoked};
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    fn id(name: &str) -> AuthorityId {
        AuthorityId::new(b"", name.as_bytes())
    }

    /// Revoked here, and to be revoked elsewhere.
    fn asked() -> Revocations {
        let mut asked = Revocations::default();
        for serial in ["ab", "cd"] {
            asked.add(Revoked {
                serial: serial.to_owned(),
                issuer: id("root"),
                reason: RevocationReason::CaCompromise,
                at: NOW.unix_timestamp(),
                not_after: NOW.unix_timestamp() + 60,
                unknown: Unknown::default(),
            });
            asked.ask_elsewhere(serial, &id("root"), vec![1, 2].into());
        }
        asked
    }

    #[test]
    fn a_wish_is_kept_with_its_certificate_until_it_is_done_and_told_until_then() {
        let mut asked = asked();
        asked.ask_elsewhere("ab", &id("root"), vec![3].into());
        assert_eq!(asked.awaited().count(), 2, "asked for twice is asked for once");
        let told = asked.elsewhere_alert(Some("it is sealed")).unwrap();
        assert!(told.contains("ab (root ") && told.contains("tried again until it is done: it is sealed"), "{told}");
        asked.done_elsewhere("ab", &id("other"), NOW);
        assert_eq!(asked.awaited().count(), 2, "that is another one");
        asked.done_elsewhere("ab", &id("root"), NOW);
        let left: Vec<_> = asked.awaited().map(|one| one.serial.as_str()).collect();
        assert_eq!((left, asked.is_elsewhere("ab", &id("root"))), (vec!["cd"], true));
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<Revocations>(&text).unwrap(), asked);
        asked.done_elsewhere("cd", &id("root"), NOW);
        assert_eq!(asked.elsewhere_alert(Some("it was sealed")), None);
        // No list says so, though there is one.
        let (der, next_update) = (vec![9].into(), i64::MAX);
        asked.lists = vec![RevocationList { issuer: id("root"), der, next_update, unknown: Unknown::default() }];
        assert_eq!(asked.unlisted().len(), 2);
        assert!(asked.elsewhere_alert(None).unwrap().contains("not on the list of there yet"));
    }

    #[test]
    fn leaves_are_asked_for_without_their_certificates_and_named_as_such_up_to_some() {
        let mut asked = asked();
        asked.ask_for_leaf("0a", &id("leaves"));
        assert_eq!((asked.awaited().count(), asked.awaited_leaves()), (3, 1));
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text.matches("\"leaf\":true").count(), 1, "{text}");
        assert_eq!(serde_json::from_str::<Revocations>(&text).unwrap(), asked);
        let told = asked.elsewhere_alert(Some("it is sealed")).unwrap();
        assert!(told.contains("0a (leaf of ") && told.contains("ab (root "), "{told}");
        for number in 0..10 {
            asked.ask_for_leaf(&format!("f{number}"), &id("leaves"));
        }
        let told = asked.elsewhere_alert(None).unwrap();
        assert!(told.contains("f1 (leaf") && !told.contains("f2 (leaf") && told.contains(", and 8 more;"), "{told}");
        asked.done_elsewhere("0a", &id("leaves"), NOW);
        assert_eq!(asked.awaited_leaves(), 10);
    }

    #[test]
    fn nothing_is_asked_for_any_more_when_the_certificate_has_ended_or_its_root_is_gone() {
        let mut ended = asked();
        ended.forget_ended(NOW + std::time::Duration::from_secs(60 + 3600));
        assert_eq!(ended, Revocations { ..Revocations::default() });
        let mut cleared = asked();
        cleared.clear("ab");
        assert_eq!(cleared.elsewhere.len(), 1);
    }
}
