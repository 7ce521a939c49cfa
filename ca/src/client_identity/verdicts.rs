//! What the newest state says about clients, prepared once for all of them, and what was found out about each chain:
//! signatures are verified once, and again only when roots or what is compromised have changed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use ring::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_core::authority::AuthorityId;
use signet_core::certificate::Facts;
use signet_core::digest::hex;
use signet_core::identity::SpiffeId;
use signet_core::revocation::RevocationList;
use signet_core::rotation::RootAuthority;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::refused::ClientRefused;
use crate::signing_state::SigningState;

/// Chains that are remembered. Beyond that all are forgotten and verified again: a bound on memory, a few hundred bytes
/// each, and no more work than without.
const MOST_CHAINS: usize = 16_384;

/// Which roots count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// All: a holder under a compromised root must still hear of its successor.
    Any,
    /// Those that are not compromised: whoever has the key of another makes any certificate.
    Sound,
}

/// The roots, ready to verify with.
pub(super) struct Anchors {
    /// Another one for every other set.
    version: u64,
    certificates: Vec<(CertificateDer<'static>, bool)>,
    /// The keys of compromised roots, under whatever name: SubjectPublicKeyInfo in DER.
    tainted: HashSet<Vec<u8>>,
    /// With every root.
    any: Option<Arc<dyn ClientCertVerifier>>,
    /// With the sound ones only; nothing when all are compromised.
    sound: Option<Arc<dyn ClientCertVerifier>>,
    /// The ids of the roots of each subject: several generations may share a name.
    named: HashMap<Vec<u8>, Vec<AuthorityId>>,
}

/// What one state says about clients.
pub(super) struct Roster {
    of: Weak<SigningState>,
    pub(super) anchors: Arc<Anchors>,
    /// Issuer and serial number of whatever the journal or a list names, as records write serial numbers.
    revoked: HashSet<(AuthorityId, String)>,
}

/// What was found out about a chain that verified.
pub(super) struct Verdict {
    pub(super) spiffe_id: SpiffeId,
    /// When all of its certificates are valid, in seconds since 1970. Only then this says anything.
    valid: (u64, u64),
    /// By which names one of its certificates would be revoked.
    names: Vec<(AuthorityId, String)>,
}

impl Roster {
    /// Refuses when any certificate of the chain is revoked. Whatever path was built is made of them, so none with such
    /// a member gets through. The journal's entries count beside the lists, which may be a moment behind.
    pub(super) fn check_revoked(&self, verdict: &Verdict) -> Result<(), ClientRefused> {
        let is_revoked = verdict.names.iter().any(|name| self.revoked.contains(name));
        if is_revoked { Err(ClientRefused::Revoked) } else { Ok(()) }
    }
}

impl Anchors {
    pub(super) fn verifier(&self, trust: Trust) -> Result<&Arc<dyn ClientCertVerifier>, ClientRefused> {
        let verifier = if trust == Trust::Sound { &self.sound } else { &self.any };
        verifier.as_ref().ok_or(ClientRefused::NoRoot)
    }

    /// Why a chain does not verify. A leaf whose issuer is neither a root nor sent with it is a stranger's, whatever else the
    /// library has found first: that it is a CA of its own, say.
    pub(super) fn refused(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        error: rustls::Error,
    ) -> ClientRefused {
        use CertificateError::{InvalidPurpose, InvalidPurposeContext, Other};
        let unclear = matches!(
            &error,
            rustls::Error::InvalidCertificate(Other(_) | InvalidPurpose | InvalidPurposeContext { .. })
        );
        let sent = |issuer: &[u8]| {
            let mut sent = intermediates.iter().filter_map(|der| Facts::read(der).ok());
            sent.any(|facts| facts.subject_der == issuer)
        };
        let strange = |leaf: Facts| !self.named.contains_key(&leaf.issuer_der) && !sent(&leaf.issuer_der);
        if unclear && Facts::read(leaf).is_ok_and(strange) {
            return ClientRefused::Chain(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        ClientRefused::Chain(error)
    }

    /// What the certificates of a chain say, leaf first, whose signatures have been verified.
    ///
    /// # Errors
    /// [`ClientRefused::Compromised`] when only sound roots count and one of the certificates is for the key of another
    /// one, for which a sound root may vouch.
    pub(super) fn verdict(&self, spiffe_id: SpiffeId, sent: &[Facts], trust: Trust) -> Result<Verdict, ClientRefused> {
        let sent: Vec<(&Facts, AuthorityId)> = sent.iter().map(|facts| (facts, AuthorityId::of(facts))).collect();
        if trust == Trust::Sound && sent.iter().any(|(facts, _)| self.tainted.contains(&facts.spki_der)) {
            return Err(ClientRefused::Compromised);
        }
        let mut names = Vec::new();
        for (facts, _) in &sent {
            // Serials are unique per issuer only (RFC 5280 section 4.1.2.2), and an operator's own CAs often count from
            // one.
            let own = sent.iter().filter(|(other, _)| other.subject_der == facts.issuer_der).map(|(_, id)| id);
            let issuers = own.chain(self.named.get(&facts.issuer_der).into_iter().flatten());
            names.extend(issuers.map(|issuer| (issuer.clone(), facts.serial_text())));
        }
        let seconds = |at: time::OffsetDateTime| u64::try_from(at.unix_timestamp()).unwrap_or_default();
        let first = sent.iter().map(|(facts, _)| seconds(facts.not_before)).max().unwrap_or(u64::MAX);
        let last = sent.iter().map(|(facts, _)| seconds(facts.not_after)).min().unwrap_or_default();
        Ok(Verdict { spiffe_id, valid: (first, last), names })
    }
}

/// With the version of the anchors.
type Remembered = HashMap<(ChainHash, Trust), (u64, Arc<Verdict>)>;

/// What is known of the newest state, and of the chains that were seen.
pub(super) struct Verdicts {
    provider: Arc<CryptoProvider>,
    newest: ArcSwapOption<Roster>,
    versions: AtomicU64,
    remembered: Mutex<Remembered>,
}

impl Verdicts {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, newest: ArcSwapOption::empty(), versions: AtomicU64::new(0), remembered: Mutex::default() }
    }

    /// What this state says; prepared when it is asked about for the first time.
    pub(super) fn of(&self, state: &Arc<SigningState>) -> Result<Arc<Roster>, ClientRefused> {
        let newest = self.newest.load_full();
        if let Some(roster) = newest.as_ref().filter(|roster| roster.of.as_ptr() == Arc::as_ptr(state)) {
            return Ok(Arc::clone(roster));
        }
        let certificates: Vec<_> = state.authorities.roots.iter().map(certificate).collect();
        let known = newest.filter(|roster| roster.anchors.certificates == certificates);
        let anchors = match known {
            Some(roster) => Arc::clone(&roster.anchors),
            None => Arc::new(self.anchors(&state.authorities.roots, certificates)?),
        };
        let revocations = &state.authorities.revocations;
        let entries = revocations.entries.iter().map(|entry| (entry.issuer.clone(), entry.serial.clone()));
        // By what name and key of an issuer make: so those of clients' chains are called.
        let former = state.authorities.former_ids();
        let named = |(issuer, serial): (AuthorityId, String)| {
            former.made(&issuer).into_iter().map(move |issuer| (issuer, serial.clone()))
        };
        let revoked = entries.chain(revocations.lists.iter().flat_map(listed)).flat_map(named).collect();
        let roster = Arc::new(Roster { of: Arc::downgrade(state), anchors, revoked });
        self.newest.store(Some(Arc::clone(&roster)));
        Ok(roster)
    }

    /// What was found out about a chain with these roots, if that says anything about `now`.
    pub(super) fn found(
        &self,
        chain: ChainHash,
        trust: Trust,
        anchors: &Anchors,
        now: UnixTime,
    ) -> Option<Arc<Verdict>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, verdict) = remembered.get(&(chain, trust))?;
        let (first, last) = verdict.valid;
        let counts = *version == anchors.version && (first..=last).contains(&now.as_secs());
        counts.then(|| Arc::clone(verdict))
    }

    pub(super) fn remember(&self, chain: ChainHash, trust: Trust, anchors: &Anchors, verdict: Arc<Verdict>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_CHAINS && !remembered.contains_key(&(chain, trust)) {
            remembered.clear();
        }
        remembered.insert((chain, trust), (anchors.version, verdict));
    }

    fn anchors(
        &self,
        roots: &[RootAuthority],
        certificates: Vec<(CertificateDer<'static>, bool)>,
    ) -> Result<Anchors, ClientRefused> {
        let mut named: HashMap<Vec<u8>, Vec<AuthorityId>> = HashMap::new();
        let mut tainted = HashSet::new();
        for (root, facts) in roots.iter().filter_map(|root| Some((root, Facts::read(&root.certificate).ok()?))) {
            named.entry(facts.subject_der.clone()).or_default().push(AuthorityId::of(&facts));
            if root.tainted_at.is_some() {
                tainted.insert(facts.spki_der);
            }
        }
        Ok(Anchors {
            version: self.versions.fetch_add(1, Ordering::Relaxed),
            tainted,
            any: self.webpki(roots.iter())?,
            sound: self.webpki(roots.iter().filter(|root| root.tainted_at.is_none()))?,
            named,
            certificates,
        })
    }

    /// What verifies with these roots; nothing when there is none.
    fn webpki<'r>(
        &self,
        roots: impl Iterator<Item = &'r RootAuthority>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, ClientRefused> {
        let mut store = RootCertStore::empty();
        // A root that webpki cannot read must not take the others with it.
        let (_, unreadable) = store.add_parsable_certificates(roots.map(|root| root.certificate.clone()));
        if unreadable > 0 {
            tracing::warn!(unreadable, "roots of the trust bundle cannot verify clients");
        }
        if store.is_empty() {
            return Ok(None);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&self.provider));
        Ok(Some(builder.allow_unauthenticated().build().map_err(|_| ClientRefused::NotReady)?))
    }
}

fn certificate(root: &RootAuthority) -> (CertificateDer<'static>, bool) {
    (root.certificate.clone(), root.tainted_at.is_some())
}

/// What a list names, whoever made it: an operator's own lists know what the journal does not. Their signatures were
/// verified when they came into the journal.
fn listed(list: &RevocationList) -> Vec<(AuthorityId, String)> {
    let Ok((_, parsed)) = CertificateRevocationList::from_der(&list.der) else {
        tracing::warn!(authority.id = list.issuer.as_str(), "a revocation list is unreadable and revokes no client");
        return Vec::new();
    };
    // As `Facts::serial_text` writes those of certificates.
    let serial = |raw: &[u8]| {
        let bytes: Vec<u8> = raw.iter().copied().skip_while(|byte| *byte == 0).collect();
        format!("{:0>32}", hex(&bytes))
    };
    parsed.iter_revoked_certificates().map(|one| (list.issuer.clone(), serial(one.raw_serial()))).collect()
}

/// Names a chain: SHA-256 over its certificates, each with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChainHash([u8; 32]);

impl ChainHash {
    pub(super) fn of<'c>(chain: impl Iterator<Item = &'c CertificateDer<'c>>) -> Self {
        let mut context = Context::new(&SHA256);
        for certificate in chain {
            context.update(&u64::try_from(certificate.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(certificate);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
