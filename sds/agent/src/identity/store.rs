//! The one owner of the identity: the certificate with its key, and what peers are verified with. Whoever has
//! something new hands it over here, and from here it is published.
//!
//! The two are separate secrets: a new bundle never touches the certificate (SD-08), and with a new certificate its
//! bundle is taken over only when that is newer than the one held.

use std::sync::Arc;
use std::time::Duration;

use signet_core::bundle::Validation;
use signet_core::clock::SharedClock;
use signet_core::time_math;
use signet_sds::snapshot::{Name, SecretContent, Snapshot};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::config::Config;
use crate::identity::issued::Issued;
use crate::identity::renewal_hints::{self, Candidate, Instructions, RenewalHint};
use crate::identity::status::{
    BundleStreamStatus, FailedAttempt, HeldValidation, KnownHint, Link, RemovedRoots, Status,
};

/// The most removed roots that are remembered; a CA has a handful.
const MAX_REMOVED: usize = 64;

/// Within which time those ask for another certificate whose root is gone: peers refuse the one they have.
const CUT_OFF_SPREAD: Duration = Duration::from_secs(10);

/// What became of a bundle that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// It is served now.
    Applied,
    /// It is what was held already.
    Unchanged,
    /// Another and newer one is held, of this sequence; that one stays: a replica may lag, and a CA whose storage came
    /// from a backup is told by its operator to go on above every number that it ever gave out.
    Older(u64),
}

/// Holds the identity, and tells everybody.
pub(crate) struct IdentityStore {
    status: watch::Sender<Status>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    certificate_name: String,
    bundle_name: String,
    /// Both, which are all that is ever served.
    names: Arc<[Name]>,
    clock: SharedClock,
}

impl IdentityStore {
    /// Holds nothing yet.
    #[must_use]
    pub(crate) fn new(config: &Config, clock: SharedClock) -> Self {
        let names: Arc<[Name]> =
            [&config.sds.certificate_name, &config.sds.bundle_name].map(|it| it.as_str().into()).into();
        Self {
            status: watch::Sender::new(Status::default()),
            snapshots: watch::Sender::new(Arc::new(Snapshot::empty().expecting(&names))),
            names,
            certificate_name: config.sds.certificate_name.clone(),
            bundle_name: config.sds.bundle_name.clone(),
            clock,
        }
    }

    /// What is held, as it changes.
    #[must_use]
    pub(crate) fn statuses(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What proxies are served, as it changes.
    #[must_use]
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// A certificate was obtained. A hint that stands is about it too if the CA has signed with an authority it wants
    /// to be rid of, but is followed ever later.
    pub(crate) fn obtained(&self, issued: Issued) {
        let now = self.clock.now();
        self.status.send_modify(|status| {
            let (held, streamed) = (status.validation.as_deref(), status.bundle_stream.worked);
            let newest = held.and_then(|held| held.sequence);
            if supersedes(issued.sequence, held, streamed) {
                let new = self.versioned(from_reply(&issued, held), issued.sequence);
                status.removed = removed(&status.removed, held, &new);
                status.validation = Some(Arc::new(new));
            } else if let (Some(told), Some(newest)) = (issued.sequence, newest)
                && told < newest
            {
                tracing::warn!(
                    bundle.sequence = told,
                    bundle.held = newest,
                    "the bundle that came with the certificate is older than the one held, which stays"
                );
            }
            let hinted: Vec<_> = status.hints.iter().map(|it| it.hint.renew_at(candidate(&issued), now)).collect();
            let is_hinted = hinted.iter().any(Option::is_some);
            status.hinted_in_a_row = if is_hinted { status.hinted_in_a_row.saturating_add(1) } else { 0 };
            let not_before = time_math::after(now, renewal_hints::pause(status.hinted_in_a_row));
            let put_off = |at: OffsetDateTime| at.max(not_before).min(issued.renew_at);
            let hints = status.hints.iter().zip(hinted);
            status.hints =
                hints.map(|(it, at)| KnownHint { hint: it.hint.clone(), renew_at: at.map(put_off) }).collect();
            status.cut_off = None;
            status.held = Some(Arc::new(issued));
            status.next_attempt = status.renewal();
            status.obtained += 1;
            status.failures = 0;
            self.publish(status);
        });
    }

    /// An attempt to obtain a certificate failed; gives the number of failures in a row.
    pub(crate) fn failed(&self, text: String, next: OffsetDateTime) -> u32 {
        let at = self.clock.now();
        let mut failures = 0;
        self.status.send_modify(|status| {
            status.failures = status.failures.saturating_add(1);
            failures = status.failures;
            status.last_failure = Some(FailedAttempt { text, at });
            status.next_attempt = Some(next);
        });
        failures
    }

    /// A bundle came on the bundle stream; `sequence` is the CA's number for it, if it told one.
    pub(crate) fn received(&self, validation: Validation, sequence: Option<u64>) -> Receipt {
        let mut receipt = Receipt::Unchanged;
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let held = status.validation.as_deref();
            let newest = held.and_then(|held| held.sequence);
            let new = self.versioned(validation, sequence.max(newest));
            let is_other = held.is_none_or(|held| held.version != new.version);
            if let (true, Some(told), Some(newest)) = (is_other, sequence, newest)
                && told < newest
            {
                receipt = Receipt::Older(newest);
                return false;
            }
            if is_other {
                receipt = Receipt::Applied;
                let cut_off = status.held.as_ref().filter(|held| held.is_cut_off_by(&new.validation.bundle, now));
                let ask_at =
                    cut_off.map(|held| time_math::after(now, CUT_OFF_SPREAD.mul_f64(held.jitter.clamp(0.0, 1.0))));
                status.cut_off = ask_at.map(|at| status.cut_off.map_or(at, |before| before.min(at)));
                if status.failures == 0 {
                    status.next_attempt = status.renewal();
                }
            } else if newest == new.sequence {
                return false;
            }
            status.removed = removed(&status.removed, held, &new);
            status.validation = Some(Arc::new(new));
            self.publish(status);
            true
        });
        receipt
    }

    /// The CA's number and renewal hints as they stand now. The time at which the certificate that is held is renewed because
    /// of one does not change while it stands, nor when more serial numbers join its own.
    pub(crate) fn instructed(&self, instructions: &Instructions) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let held = status.held.as_deref();
            let names_it = |hint: &RenewalHint| held.is_some_and(|held| hint.names_serial(&held.serial));
            let promised = status.hints.iter().filter(|it| names_it(&it.hint)).filter_map(|it| it.renew_at).min();
            let known = instructions.renew.iter().map(|hint| {
                let before = status.hints.iter().find(|known| known.hint == *hint);
                let renew_at = || {
                    let at = hint.renew_at(held.map(candidate)?, now)?;
                    Some(promised.filter(|_| names_it(hint)).map_or(at, |promised| promised.min(at)))
                };
                before.cloned().unwrap_or_else(|| KnownHint { hint: hint.clone(), renew_at: renew_at() })
            });
            let known: Arc<[KnownHint]> = known.collect();
            let newest = status.validation.as_ref().and_then(|held| held.sequence);
            let told = instructions.sequence;
            let older = newest.filter(|newest| told < *newest).map(|_| told);
            let stream = &mut status.bundle_stream;
            // Of the highest number, since that is what the CA may have forgotten.
            let highest = stream.proof.as_ref().map(|(sequence, _)| *sequence);
            let proof = instructions.proof.as_deref().filter(|_| highest.is_none_or(|highest| told >= highest));
            let proof = proof.map(|proof| (told, Arc::from(proof))).or_else(|| stream.proof.clone());
            let changed = status.hints != known || stream.older != older || stream.proof != proof;
            (status.hints, stream.older, stream.proof) = (known, older, proof);
            if changed && status.failures == 0 {
                status.next_attempt = status.renewal();
            }
            changed
        });
    }

    /// The bundle stream is up, down or not there, for this reason.
    pub(crate) fn bundle_stream(&self, link: Link, failure: Option<String>) {
        let at = self.clock.now();
        self.status.send_modify(|status| {
            let before = &status.bundle_stream;
            status.bundle_stream = BundleStreamStatus {
                since: if before.link == link { before.since } else { Some(at) },
                worked: before.worked || link == Link::Up,
                last_failure: failure.map(|text| FailedAttempt { text, at }).or_else(|| before.last_failure.clone()),
                link,
                older: before.older,
                proof: before.proof.clone(),
            };
        });
    }

    fn versioned(&self, validation: Validation, sequence: Option<u64>) -> HeldValidation {
        let version = SecretContent::Validation(validation.clone()).version();
        HeldValidation { validation, sequence, version }
    }

    /// Within a change of the status, so that both are always published in the same order.
    fn publish(&self, status: &Status) {
        let certificate = status.held.as_ref().map(|held| {
            let chain = held.chain.clone();
            (&self.certificate_name, SecretContent::Certificate { chain, key_pem: Arc::clone(&held.key_pem) })
        });
        let validation = status.validation.as_ref();
        let bundle = validation.map(|held| (&self.bundle_name, SecretContent::Validation(held.validation.clone())));
        let snapshot = Snapshot::new(certificate.into_iter().chain(bundle).map(|(name, it)| (name.as_str(), it)));
        let snapshot = snapshot.expecting(&self.names);
        self.snapshots.send_if_modified(|published| {
            let changed = !published.is_same_content(&snapshot);
            if changed {
                *published = Arc::new(snapshot);
            }
            changed
        });
    }
}

/// Whether the bundle of a reply takes the place of the one held. Without numbers, and with a CA that has no stream,
/// the newest reply knows best.
fn supersedes(reply: Option<u64>, held: Option<&HeldValidation>, streamed: bool) -> bool {
    match (reply, held) {
        (_, None) => true,
        (Some(reply), Some(held)) => held.sequence.is_none_or(|held| reply > held),
        (None, Some(_)) => !streamed,
    }
}

/// Replies hold roots only. Lists stay while the roots do; lists that do not cover a new root would make proxies
/// refuse every chain under it, so they go until the complete set comes on the stream.
fn from_reply(issued: &Issued, held: Option<&HeldValidation>) -> Validation {
    let same = held.filter(|held| held.validation.bundle.roots() == issued.bundle.roots());
    let revocation_lists = same.map(|held| held.validation.revocation_lists.clone()).unwrap_or_default();
    Validation { bundle: issued.bundle.clone(), revocation_lists }
}

/// The roots that are missing from a bundle of a higher number are removed; those that it holds are not, or no longer.
fn removed(before: &RemovedRoots, held: Option<&HeldValidation>, new: &HeldValidation) -> RemovedRoots {
    let (roots, kept) = (|it: &HeldValidation| it.validation.bundle.roots().to_vec(), new.validation.bundle.roots());
    let newer = held.filter(|held| held.sequence.is_some() && new.sequence > held.sequence);
    let gone: Vec<_> = newer.map(roots).unwrap_or_default().into_iter().filter(|it| !kept.contains(it)).collect();
    let times = before.times + u64::from(!gone.is_empty());
    let all: Vec<_> = before.roots.iter().filter(|it| !kept.contains(it) && !gone.contains(it)).cloned().collect();
    let all: Vec<_> = all.into_iter().chain(gone).collect();
    let surplus = all.len().saturating_sub(MAX_REMOVED);
    RemovedRoots { roots: all.into_iter().skip(surplus).collect(), times }
}

fn candidate(held: &Issued) -> Candidate<'_> {
    Candidate {
        authority: &held.authority,
        serial: &held.serial,
        not_before: held.not_before,
        not_after: held.not_after,
        renew_at: held.renew_at,
        jitter: held.jitter,
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
