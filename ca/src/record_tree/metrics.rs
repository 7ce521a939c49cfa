//! What is measured of the tree over the record.

use prometheus::IntGauge;
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
