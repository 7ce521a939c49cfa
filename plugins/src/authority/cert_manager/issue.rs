//! One certificate: a request is made, approved where we do that, followed until it is decided or time is up, and always
//! removed. What may be better another time is tried again with a new request, as often as there is time and reason.

use std::time::Duration;

use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{DynamicObject, WatchEvent};
use signet_core::clock::Clock;
use signet_core::seams::certificate_authority::SignError;
use signet_core::time_math;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::calls::{Fault, Requests};
use super::request::{Asks, Issued, Pending, State, approved, is_approved, object, state};
use super::settings::CertManagerSettings;

/// Requests made for one certificate, at most.
const ATTEMPTS: u32 = 3;
/// Between two of them, the first time; twice as long the second.
const PAUSE: Duration = Duration::from_millis(500);
/// How long removing one may take beyond the time that there is; one that is left is removed later.
const REMOVAL: Duration = Duration::from_secs(5);
/// After this long without a word, a watch is not believed any more.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two watches of one request, the first and the longest.
const REWATCH: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How a request ended without a certificate.
enum End {
    /// Another one may end better.
    Again(SignError),
    /// It will not.
    Over(SignError),
}

/// Who asks.
pub(super) struct Asking<'a> {
    pub(super) requests: Requests,
    pub(super) settings: &'a CertManagerSettings,
    pub(super) clock: &'a dyn Clock,
}

impl Asking<'_> {
    /// Has `csr` signed.
    ///
    /// # Errors
    /// [`SignError`], with what to do.
    pub(super) async fn issue(&self, csr: &str, asks: Asks<'_>, ttl: Duration) -> Result<Issued, SignError> {
        let until = Instant::now() + self.settings.deadline;
        let mut attempt = 1;
        loop {
            let error = match self.once(csr, asks, ttl, until).await {
                Ok(issued) => return Ok(issued),
                Err(End::Over(error)) => return Err(error),
                Err(End::Again(error)) => error,
            };
            let again = Instant::now() + PAUSE.saturating_mul(attempt);
            if attempt == ATTEMPTS || again >= until {
                return Err(error);
            }
            tracing::info!(%error, attempt, "a CertificateRequest came to nothing; another one is made");
            sleep_until(again).await;
            attempt += 1;
        }
    }

    async fn once(&self, csr: &str, asks: Asks<'_>, ttl: Duration, until: Instant) -> Result<Issued, End> {
        let ends = time_math::after(self.clock.now(), self.settings.deadline);
        let wanted = object(self.settings, csr, asks, ttl, ends).map_err(End::Over)?;
        let name = wanted.name_any();
        let (mut last, mut uid) = (Pending::default(), None);
        let decided = timeout_at(until, self.follow(&wanted, &mut last, &mut uid)).await;
        let is_made = uid.is_some();
        // Also one that is there although nobody has said so, and one that nobody has answered. Whoever waits does not wait for that.
        let removed = timeout(REMOVAL, self.requests.delete(&name, uid)).await;
        let removed = removed.unwrap_or_else(|_| Err(Fault::Away("the API server does not answer".to_owned())));
        if let Err(fault) = removed {
            let error = fault.text();
            tracing::warn!(
                request = name,
                error,
                "a CertificateRequest could not be removed; that is tried again later"
            );
        }
        match decided {
            Ok(decided) => decided,
            Err(_) if is_made => Err(End::Over(SignError::Unavailable(last.words(self.settings)))),
            Err(_) => Err(End::Over(SignError::Unavailable(format!(
                "the API server has not answered within {:?} that it has made a CertificateRequest",
                self.settings.deadline
            )))),
        }
    }

    async fn follow(
        &self,
        wanted: &DynamicObject,
        last: &mut Pending,
        uid: &mut Option<String>,
    ) -> Result<Issued, End> {
        let mut seen = self.requests.create(wanted, false).await.map_err(|fault| end(&fault, "making"))?;
        uid.clone_from(&seen.metadata.uid);
        let name = seen.name_any();
        if self.settings.approve {
            seen = self.approve(&name, seen).await?;
        }
        let (mut pause, longest) = REWATCH;
        loop {
            let version = seen.resource_version().unwrap_or_default();
            if let Some(decided) = decide(&seen, last) {
                return decided;
            }
            match self.watch(&name, &version, last).await {
                Ok(Watched::Decided(decided)) => return decided,
                Ok(Watched::Ended { heard: true }) => pause = REWATCH.0,
                Ok(Watched::Ended { heard: false }) => {}
                Err(fault @ (Fault::Forbidden(_) | Fault::Refused(_))) => return Err(end(&fault, "watching")),
                Err(fault) => tracing::debug!(error = fault.text(), "a CertificateRequest cannot be watched"),
            }
            sleep_until(Instant::now() + pause).await;
            pause = pause.saturating_mul(2).min(longest);
            // What happened between two watches, and whether it is there at all.
            match self.requests.get(&name).await {
                Ok(object) => seen = object,
                Err(Fault::Absent(_)) => return Err(gone()),
                Err(fault @ (Fault::Forbidden(_) | Fault::Refused(_))) => return Err(end(&fault, "reading")),
                Err(fault) => tracing::debug!(error = fault.text(), "a CertificateRequest cannot be read"),
            }
        }
    }

    /// Approves one, unless somebody else is faster.
    async fn approve(&self, name: &str, mut seen: DynamicObject) -> Result<DynamicObject, End> {
        let mut attempt = 1;
        loop {
            let fault = match self.requests.approve(name, &approved(seen.clone(), self.clock.now())).await {
                Ok(object) => return Ok(object),
                Err(Fault::Forbidden(text)) if text.contains("may not be modified") => return Ok(seen),
                Err(fault) => fault,
            };
            // Somebody may have written to it in between: cert-manager's own approver, for one.
            match (self.requests.get(name).await, &fault) {
                (Ok(now), _) if is_approved(&now.data) => return Ok(now),
                (Ok(now), Fault::Away(_)) if attempt < ATTEMPTS => seen = now,
                _ => return Err(end(&fault, "approving")),
            }
            attempt += 1;
        }
    }

    /// Follows one from a version of it, until it is decided or the watch ends or says nothing.
    async fn watch(&self, name: &str, version: &str, last: &mut Pending) -> Result<Watched, Fault> {
        let mut events = self.requests.watch(name, version).await?;
        let mut heard = false;
        loop {
            let Ok(event) = timeout(SILENCE, events.try_next()).await else { return Ok(Watched::Ended { heard }) };
            match event? {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    if let Some(decided) = decide(&object, last) {
                        return Ok(Watched::Decided(decided));
                    }
                }
                Some(WatchEvent::Deleted(_)) => return Ok(Watched::Decided(Err(gone()))),
                Some(WatchEvent::Bookmark(_)) => {}
                // Of a version that is too old, or of an API server that ends.
                Some(WatchEvent::Error(_)) | None => return Ok(Watched::Ended { heard }),
            }
            heard = true;
        }
    }
}

enum Watched {
    Decided(Result<Issued, End>),
    Ended { heard: bool },
}

/// What a request has come to, if it has.
fn decide(object: &DynamicObject, last: &mut Pending) -> Option<Result<Issued, End>> {
    let over = |text: String| Some(Err(End::Over(SignError::Unusable(text))));
    match state(&object.data) {
        State::Issued(issued) => Some(Ok(issued)),
        State::Pending(pending) => {
            *last = pending;
            None
        }
        State::Denied(said) => over(format!(
            "the CertificateRequest was denied: {said}; look at the policy that denies it (approver-policy, or who else may)"
        )),
        State::Invalid(said) => over(format!("the issuer calls the CertificateRequest invalid: {said}")),
        State::Failed(said) => {
            let text = format!("the issuer has failed to sign the CertificateRequest: {said}");
            Some(Err(End::Again(SignError::Unavailable(text))))
        }
    }
}

fn gone() -> End {
    End::Again(SignError::Unavailable("somebody has removed the CertificateRequest before it was answered".to_owned()))
}

fn end(fault: &Fault, doing: &str) -> End {
    let error = fault.signing(&format!("{doing} a CertificateRequest"));
    match fault {
        Fault::Away(_) => End::Again(error),
        _ => End::Over(error),
    }
}
