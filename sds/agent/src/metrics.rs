//! The agent's metrics; all of them exist from the start, so that an alert never waits for a first event.

use std::time::Duration;

use signet_runtime::metrics::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, MetricError, Metrics};
use signet_sds::ledger::Observer;
use time::OffsetDateTime;

use crate::ca::obtain::ObtainError;
use signet_core::time_math;

/// Metrics of the certificate and its renewal.
#[derive(Debug, Clone)]
pub(crate) struct RenewalMetrics {
    expiry: Gauge,
    valid: IntGauge,
    next: Gauge,
    renewals: IntCounterVec,
    duration: Histogram,
    ca_up: IntGauge,
}

impl RenewalMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`] when a name is taken, which is a bug.
    pub(crate) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        let expiry = metrics.float_gauge(
            "signet_agent_certificate_expiry_timestamp_seconds",
            "When the certificate that is served ends, in seconds since 1970; 0 while there is none.",
        )?;
        let valid = metrics.gauge(
            "signet_agent_certificate_valid",
            "Whether a certificate is served that is valid now and chains to a root of the trust bundle; 0 also when one is still served that has expired or that peers refuse.",
        )?;
        let next = metrics.float_gauge(
            "signet_agent_next_renewal_timestamp_seconds",
            "When the next attempt to obtain a certificate is planned, in seconds since 1970.",
        )?;
        let renewals = metrics.counters(
            "signet_agent_renewals_total",
            "Attempts to obtain a certificate, by result: first for the first one since the start, ok for each that took the place of another, else why there was none.",
            &["result"],
        )?;
        for label in ObtainError::LABELS {
            renewals.with_label_values(&[label]).inc_by(0);
        }
        let duration = metrics.seconds(
            "signet_agent_renewal_duration_seconds",
            "How long attempts to obtain a certificate took, failed ones included.",
        )?;
        let ca_up =
            metrics.gauge("signet_agent_ca_up", "Whether the CA answered the newest call with a good certificate.")?;
        Ok(Self { expiry, valid, next, renewals, duration, ca_up })
    }

    /// Notes an attempt.
    pub(crate) fn attempted<T>(&self, result: &Result<T, ObtainError>, took: Duration, first: bool) {
        let label = result.as_ref().err().map_or(if first { "first" } else { "ok" }, ObtainError::label);
        self.renewals.with_label_values(&[label]).inc();
        self.duration.observe(took.as_secs_f64());
        match result {
            Ok(_) => self.ca_up.set(1),
            Err(error) if error.is_of_the_ca() => self.ca_up.set(0),
            Err(_) => {}
        }
    }

    /// Shows the certificate's end and whether it is valid.
    pub(crate) fn certificate(&self, not_after: Option<OffsetDateTime>, valid: bool) {
        self.expiry.set(seconds(not_after));
        self.valid.set(i64::from(valid));
    }

    /// Shows the next attempt.
    pub(crate) fn next_attempt(&self, at: Option<OffsetDateTime>) {
        self.next.set(seconds(at));
    }
}

/// Metrics of the trust bundle and the stream that brings it.
#[derive(Debug, Clone)]
pub(crate) struct BundleMetrics {
    sequence: IntGauge,
    up: IntGauge,
    refused: IntCounter,
}

impl BundleMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`] when a name is taken, which is a bug.
    pub(crate) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            sequence: metrics.gauge(
                "signet_agent_bundle_sequence",
                "The CA's number of the trust bundle that is served; 0 if the CA tells none.",
            )?,
            up: metrics.gauge(
                "signet_agent_bundle_stream_up",
                "Whether the stream is open on which the CA sends new trust bundles at once.",
            )?,
            refused: metrics.counter(
                "signet_agent_bundle_nacks_total",
                "Trust bundles that a proxy refused, of which the CA was told.",
            )?,
        })
    }

    /// Shows what is held and whether more can come.
    pub(crate) fn bundle(&self, sequence: Option<u64>, up: bool) {
        self.sequence.set(sequence.and_then(|sequence| i64::try_from(sequence).ok()).unwrap_or_default());
        self.up.set(i64::from(up));
    }

    /// Notes that the CA was told of a refusal.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }
}

fn seconds(at: Option<OffsetDateTime>) -> f64 {
    at.map_or(0.0, |at| time_math::difference(OffsetDateTime::UNIX_EPOCH, at).as_seconds_f64())
}

/// Metrics of the SDS streams.
#[derive(Debug, Clone)]
pub(crate) struct SdsMetrics {
    streams: IntGauge,
    pushes: IntCounter,
    acks: IntCounter,
    nacks: IntCounter,
    unserved: IntCounter,
}

impl SdsMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`] when a name is taken, which is a bug.
    pub(crate) fn register(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            streams: metrics.gauge("signet_agent_sds_streams", "SDS streams that are open.")?,
            pushes: metrics.counter("signet_agent_sds_pushes_total", "SDS responses sent.")?,
            acks: metrics.counter("signet_agent_sds_acks_total", "SDS responses that a proxy applied.")?,
            nacks: metrics.counter(
                "signet_agent_sds_nacks_total",
                "SDS responses that a proxy refused; it keeps its old secret.",
            )?,
            unserved: metrics.counter(
                "signet_agent_sds_names_not_served_total",
                "Names that SDS clients asked for and that are not served, now or later; the log says which.",
            )?,
        })
    }
}

impl Observer for SdsMetrics {
    fn opened(&self) {
        self.streams.inc();
    }
    fn closed(&self) {
        self.streams.dec();
    }
    fn pushed(&self) {
        self.pushes.inc();
    }
    fn acknowledged(&self) {
        self.acks.inc();
    }
    fn refused(&self) {
        self.nacks.inc();
    }
    fn unserved(&self) {
        self.unserved.inc();
    }
}
