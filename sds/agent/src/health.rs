//! Judges the certificate that is held and the bundle stream: keeps readiness and metrics right, also at the moment
//! when the certificate expires.

use std::convert::Infallible;

use signet_core::clock::{SharedClock, rfc3339};
use signet_core::time_math;
use signet_runtime::readiness::{Condition, State};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ca::reply::SKEW;
use crate::identity::status::{BundleStreamStatus, Link, Status};
use crate::metrics::{BundleMetrics, RenewalMetrics};

/// How often the wall clock is looked at again, whatever it said.
const LOOK: std::time::Duration = std::time::Duration::from_secs(15);

/// The task: judges whenever the status changes, when the certificate ends, and now and then.
///
/// An expired certificate is still served, since a proxy is not better off with none, but never silently: readiness
/// fails, a metric shows it and one error is logged.
///
/// # Errors
/// None; ends when `stop` is cancelled.
pub(crate) async fn watch_certificate(
    mut statuses: watch::Receiver<Status>,
    clock: SharedClock,
    condition: Condition,
    metrics: RenewalMetrics,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut reported = None;
    loop {
        let status = statuses.borrow_and_update().clone();
        let now = clock.now();
        let (state, detail) = judge(&status, now);
        let not_after = status.held.as_ref().map(|held| held.not_after);
        let expired = not_after.is_some_and(|not_after| not_after <= now);
        metrics.certificate(not_after, not_after.is_some() && !expired && !is_cut_off(&status, now));
        if expired && reported != not_after {
            tracing::error!(error = detail, "the certificate has expired and is still served for want of another");
            reported = not_after;
        }
        match state {
            State::Ready => condition.ready(detail),
            State::Degraded => condition.degraded(detail),
            State::Failing => condition.failing(detail),
        }
        let ends = async {
            match not_after {
                Some(not_after) if !expired => clock.sleep_until(not_after).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = statuses.changed() => if changed.is_err() { return Ok(()) },
            () = ends => {}
            // The wall clock may be stepped either way.
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether peers refuse the certificate that is held: it chains to no root of the trust bundle.
fn is_cut_off(status: &Status, now: OffsetDateTime) -> bool {
    let (Some(held), Some(validation)) = (&status.held, &status.validation) else { return false };
    held.is_cut_off_by(&validation.validation.bundle, now)
}

/// The state of the identity and a sentence about it.
#[must_use]
pub(crate) fn judge(status: &Status, now: OffsetDateTime) -> (State, String) {
    let failure = match &status.last_failure {
        Some(failure) if status.failures > 0 => Some(failure.text.as_str()),
        _ => None,
    };
    let Some(held) = &status.held else {
        let why = failure.unwrap_or("the CA has not answered yet");
        return (State::Failing, format!("no certificate yet: {why}"));
    };
    let ends = rfc3339(held.not_after);
    if held.not_after <= now {
        let why = failure.unwrap_or("a renewal is due");
        return (State::Failing, format!("the certificate expired at {ends}: {why}"));
    }
    if is_cut_off(status, now) {
        let why = failure.unwrap_or("another one is asked for");
        let text = format!("the certificate chains to no root of the trust bundle, so that peers refuse it: {why}");
        return (State::Failing, text);
    }
    if let Some(failure) = failure {
        let failures = status.failures;
        return (State::Degraded, format!("valid until {ends}, but {failures} renewals failed in a row: {failure}"));
    }
    if held.not_before > time_math::after(now, SKEW) {
        let starts = rfc3339(held.not_before);
        return (State::Degraded, format!("by this machine's clock the certificate starts only at {starts}"));
    }
    (State::Ready, format!("{} valid until {ends}", held.spiffe_id))
}

/// The task: judges the bundle stream whenever the status changes. Never failing: proxies are served without it.
///
/// # Errors
/// None; ends when `stop` is cancelled.
pub(crate) async fn watch_bundle_stream(
    mut statuses: watch::Receiver<Status>,
    condition: Condition,
    metrics: BundleMetrics,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let status = statuses.borrow_and_update().clone();
        let sequence = status.validation.as_ref().and_then(|held| held.sequence);
        metrics.bundle(sequence, status.bundle_stream.link == Link::Up);
        match judge_bundle_stream(&status.bundle_stream) {
            (State::Ready, detail) => condition.ready(detail),
            (_, detail) => condition.degraded(detail),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = statuses.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// The state of the bundle stream and a sentence about it. A CA that never had one is in order.
#[must_use]
pub(crate) fn judge_bundle_stream(stream: &BundleStreamStatus) -> (State, String) {
    let since = stream.since.map(rfc3339).unwrap_or_default();
    let why = stream.last_failure.as_ref().map_or("", |failure| failure.text.as_str());
    if let (Link::Up, Some(told)) = (stream.link, stream.older) {
        let text = format!(
            "the CA's bundle {told} is older than the one held, which stays; if this lasts, its storage came from a \
             backup, and `signet-ca status` says what to do"
        );
        return (State::Degraded, text);
    }
    match stream.link {
        Link::NotStarted => (State::Ready, "waits for the first certificate".to_owned()),
        Link::Up => (State::Ready, format!("open since {since}")),
        Link::Unsupported if !stream.worked => {
            (State::Ready, "the CA has none; new roots come with the next certificate".to_owned())
        }
        Link::Unsupported => (State::Degraded, format!("the CA has none any more, since {since}")),
        Link::Down => (State::Degraded, format!("down since {since}, new roots come late: {why}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;
    use std::time::Duration;

    use signet_core::bundle::TrustBundle;
    use signet_core::certificate::CertificateChain;
    use signet_core::clock::ManualClock;
    use signet_core::identity::{SpiffeId, TrustDomain};
    use signet_core::secret::Secret;
    use signet_runtime::metrics::Metrics;
    use signet_runtime::readiness::Readiness;

    use super::*;
    use crate::identity::issued::Issued;
    use crate::identity::status::FailedAttempt;
    use crate::tests::test_ca::Authority;

    #[test]
    fn without_a_certificate_the_agent_fails_and_says_why() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let (state, detail) = judge(&Status::default(), now);
        assert_eq!((state, detail.as_str()), (State::Failing, "no certificate yet: the CA has not answered yet"));
        let failure = FailedAttempt { text: "no route".into(), at: now };
        let status = Status { failures: 1, last_failure: Some(failure), ..Status::default() };
        assert_eq!(judge(&status, now), (State::Failing, "no certificate yet: no route".into()));
    }

    fn held(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Status {
        let issued = Issued {
            spiffe_id: SpiffeId::parse("spiffe://td/x").unwrap(),
            chain: CertificateChain::new(vec![1].into(), vec![]),
            key_pem: Arc::new(Secret::new(vec![])),
            bundle: TrustBundle::new(TrustDomain::parse("td").unwrap(), 1, vec![Authority::root("a").der]).unwrap(),
            sequence: None,
            serial: String::new(),
            authority: String::new(),
            issuer: String::new(),
            not_before,
            not_after,
            renew_at: not_after,
            jitter: 0.0,
        };
        Status { held: Some(Arc::new(issued)), ..Status::default() }
    }

    #[test]
    fn a_certificate_is_in_order_from_a_little_before_its_start_until_its_end() {
        let (now, second) = (OffsetDateTime::UNIX_EPOCH, Duration::from_secs(1));
        for (starts, ends, expected) in [
            (now, now + second, State::Ready),
            (now, now, State::Failing),
            (now + SKEW, now + 2 * SKEW, State::Ready),
            (now + SKEW + second, now + 2 * SKEW, State::Degraded),
        ] {
            let (state, detail) = judge(&held(starts, ends), now);
            assert_eq!(state, expected, "{detail}");
            assert_eq!(state == State::Degraded, detail.contains("starts only at"), "{detail}");
        }
    }

    /// By the wall clock: the timer that looks now and then would see it much later.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_certificate_is_seen_at_once_and_nothing_else_has_to_happen() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1000);
        let (clock, readiness) = (ManualClock::at(now), Readiness::new());
        let (_sender, statuses) = watch::channel(held(now, now + Duration::from_secs(600)));
        let (condition, metrics) =
            (readiness.condition("identity"), RenewalMetrics::register(&Metrics::new()).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        let watched: SharedClock = Arc::new(clock.clone());
        tasks.spawn(watch_certificate(statuses, watched, condition, metrics, CancellationToken::new()));
        readiness.wait_until_ready().await;
        let begun = tokio::time::Instant::now();
        clock.advance(Duration::from_secs(599));
        tokio::task::yield_now().await;
        assert!(readiness.snapshot().ready, "a second is left");
        clock.advance(Duration::from_secs(1));
        let ended = readiness.wait_for(|now| !now.ready).await;
        assert!(ended.checks.iter().any(|check| check.detail.contains("expired")), "{ended:?}");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn failures_count_until_an_attempt_has_worked() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let last_failure = Some(FailedAttempt { text: "no route".into(), at: now });
        for (failures, expected) in [(0, State::Ready), (2, State::Degraded)] {
            let held = held(now, now + Duration::from_secs(1));
            let status = Status { failures, last_failure: last_failure.clone(), ..held };
            assert_eq!(judge(&status, now).0, expected, "{failures}");
        }
    }

    #[test]
    fn a_bundle_stream_never_fails_the_agent_and_one_that_never_was_is_no_trouble() {
        for (link, worked, expected) in [
            (Link::NotStarted, false, State::Ready),
            (Link::Up, true, State::Ready),
            (Link::Unsupported, false, State::Ready),
            (Link::Unsupported, true, State::Degraded),
            (Link::Down, false, State::Degraded),
            (Link::Down, true, State::Degraded),
        ] {
            let status = BundleStreamStatus { link, worked, ..BundleStreamStatus::default() };
            assert_eq!(judge_bundle_stream(&status).0, expected, "{link:?} {worked}");
        }
        let older = Some(3);
        let status = BundleStreamStatus { link: Link::Up, worked: true, older, ..BundleStreamStatus::default() };
        let (state, detail) = judge_bundle_stream(&status);
        assert!(state == State::Degraded && detail.contains("bundle 3 is older"), "{detail}");
        let (state, detail) = judge_bundle_stream(&BundleStreamStatus { link: Link::Down, ..status });
        assert!(state == State::Degraded && detail.starts_with("down since"), "{detail}");
    }
}
