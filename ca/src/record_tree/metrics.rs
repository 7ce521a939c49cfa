//! What is measured of the tree over the record, and of those who cosign it.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};
use signet_runtime::metrics::{MetricError, Metrics};

/// Gauges of the tree.
#[derive(Clone)]
pub struct TreeMetrics {
    /// Events under the newest checkpoint.
    pub size: IntGauge,
    /// When all events were seen to be covered for the last time.
    pub covered: IntGauge,
    /// 1 while nothing is signed because the log is no continuation of what was signed before.
    pub forked: IntGauge,
}

impl TreeMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            size: metrics.gauge("signet_ca_record_checkpoint_size", "Events that the newest signed checkpoint covers.")?,
            covered: metrics.gauge(
                "signet_ca_record_covered_timestamp_seconds",
                "When a signed checkpoint was last seen to cover every event on record: its age is what is not covered.",
            )?,
            forked: metrics.gauge(
                "signet_ca_record_forked",
                "1 while no checkpoint is signed because the record is no continuation of what was signed before.",
            )?,
        })
    }
}

/// What an answer of a witness may be, as it is counted.
const ANSWERS: [&str; 5] = ["cosigned", "overtaken", "failed", "refused", "other_history"];

/// Gauges and counts of witnesses, by the names that they have in the configuration.
#[derive(Clone)]
pub struct WitnessMetrics {
    size: IntGaugeVec,
    cosigned: IntGaugeVec,
    differs: IntGaugeVec,
    answers: IntCounterVec,
    quorum: IntGauge,
}

impl WitnessMetrics {
    /// Registers them, each at zero.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new<'n>(metrics: &Metrics, witnesses: impl Iterator<Item = &'n str>) -> Result<Self, MetricError> {
        let made = Self {
            size: metrics.gauges(
                "signet_ca_record_witness_size",
                "Events that this witness has cosigned.",
                &["witness"],
            )?,
            cosigned: metrics.gauges(
                "signet_ca_record_witness_cosigned_timestamp_seconds",
                "When this witness has cosigned last, by its own clock.",
                &["witness"],
            )?,
            differs: metrics.gauges(
                "signet_ca_record_witness_other_history",
                "1 while this witness has cosigned events of this log that are not those on record here.",
                &["witness"],
            )?,
            answers: metrics.counters(
                "signet_ca_record_witness_answers_total",
                "How it went to ask this witness: cosigned, overtaken by another replica, failed, refused, other_history.",
                &["witness", "answer"],
            )?,
            quorum: metrics.gauge(
                "signet_ca_record_cosigned_size",
                "Events that the newest checkpoint covers which audit.quorum witnesses have cosigned.",
            )?,
        };
        for name in witnesses {
            made.size.with_label_values(&[name]).set(0);
            made.cosigned.with_label_values(&[name]).set(0);
            made.differs.with_label_values(&[name]).set(0);
            ANSWERS.iter().for_each(|answer| made.answers.with_label_values(&[name, answer]).reset());
        }
        Ok(made)
    }

    pub(super) fn answered(&self, witness: &str, answer: Option<&str>) {
        if let Some(answer) = answer {
            self.answers.with_label_values(&[witness, answer]).inc();
        }
    }

    pub(super) fn stands(&self, witness: &str, size: u64, seconds: i64, differs: bool) {
        self.size.with_label_values(&[witness]).set(i64::try_from(size).unwrap_or(i64::MAX));
        self.cosigned.with_label_values(&[witness]).set(seconds);
        self.differs.with_label_values(&[witness]).set(i64::from(differs));
    }

    pub(super) fn quorum(&self, size: u64) {
        self.quorum.set(i64::try_from(size).unwrap_or(i64::MAX));
    }
}
