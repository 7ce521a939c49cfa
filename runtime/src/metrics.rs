//! Prometheus metrics in an explicit registry, and the metrics every process has.

mod process;

/// The metric types this module hands out, so that callers need no dependency of their own.
pub use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use prometheus::{HistogramOpts, Opts, TextEncoder, core::Collector};
use thiserror::Error;

use crate::{files, telemetry};

/// Upper bounds, in seconds, for durations between 10 µs (one signature) and 10 s (a deadline).
pub const SECONDS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric could not be registered or rendered: its name is taken or malformed, which is a bug.
#[derive(Debug, Error)]
#[error("metric {name}: this is a bug")]
pub struct MetricError {
    name: String,
    #[source]
    source: prometheus::Error,
}

/// A registry of metrics; clones share it. Names follow `signet_<component>_<noun>_<unit|total>`, and labels are
/// closed sets of words, never identities.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: prometheus::Registry,
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry with the process's own metrics, and `signet_build_info` with these labels.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn for_process(component: &str, version: &str, revision: &str) -> Result<Self, MetricError> {
        let metrics = Self::new();
        metrics.register("process", process::ProcessMetrics::default())?;
        let name = format!("signet_{component}_log_lines_dropped_total");
        let help = "Log lines that were dropped because standard error was not read fast enough or failed.";
        metrics.counter_fn(&name, help, telemetry::dropped_lines)?;
        let name = format!("signet_{component}_hanging_files");
        metrics.gauge_fn(
            &name,
            "Files that have not answered for more than 5 s, each of which costs a thread.",
            || u32::try_from(files::hanging().len()).map_or(f64::INFINITY, f64::from),
        )?;
        let name = format!("signet_{component}_hanging_file_seconds");
        metrics.gauge_fn(&name, "For how long the file that hangs longest has not answered; 0 without one.", || {
            files::hanging().first().map_or(0.0, |one| one.hanging.as_secs_f64())
        })?;
        let name = "signet_build_info";
        let labels = ["component", "version", "revision"];
        let info = metrics.gauges(name, "Which program this is; always 1.", &labels)?;
        info.with_label_values(&[component, version, revision]).set(1);
        Ok(metrics)
    }

    /// The registry below, for a part that registers its own collectors.
    #[must_use]
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// A counter.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.add(name, IntCounter::new(name, help))
    }

    /// A counter per combination of label values.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricError> {
        self.add(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A whole number that goes up and down.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.add(name, IntGauge::new(name, help))
    }

    /// A whole number per combination of label values.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricError> {
        self.add(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A number with a fraction that goes up and down, such as a time in seconds.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricError> {
        self.add(name, Gauge::new(name, help))
    }

    /// A number that is asked for at each scrape; `read` must be quick and must not wait.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge_fn(
        &self,
        name: &str,
        help: &str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Result<(), MetricError> {
        let gauge = Gauge::new(name, help).map_err(|source| MetricError { name: name.to_owned(), source })?;
        self.register(name, process::ReadAtScrape::new(gauge, read))
    }

    /// A count kept elsewhere that is asked for at each scrape; `read` must be quick and must not wait.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counter_fn(
        &self,
        name: &str,
        help: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<(), MetricError> {
        let made = process::CountedElsewhere::new(Opts::new(name, help), read);
        self.register(name, made.map_err(|source| MetricError { name: name.to_owned(), source })?)
    }

    /// A histogram of durations in seconds, with the buckets of [`SECONDS`].
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn seconds(&self, name: &str, help: &str) -> Result<Histogram, MetricError> {
        self.histogram(name, help, &SECONDS)
    }

    /// A histogram of durations in seconds per combination of label values.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn seconds_by(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricError> {
        self.add(name, HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels))
    }

    /// A histogram with buckets of its own: rising upper bounds in the metric's unit.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricError> {
        self.add(name, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn render(&self) -> Result<String, MetricError> {
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.map_err(|source| MetricError { name: "rendering".to_owned(), source })
    }

    fn add<C: Collector + Clone + 'static>(&self, name: &str, made: prometheus::Result<C>) -> Result<C, MetricError> {
        let collector = made.map_err(|source| MetricError { name: name.to_owned(), source })?;
        self.register(name, collector.clone())?;
        Ok(collector)
    }

    fn register(&self, name: &str, collector: impl Collector + 'static) -> Result<(), MetricError> {
        let registered = self.registry.register(Box::new(collector));
        registered.map_err(|source| MetricError { name: name.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_kind_is_rendered_with_its_help() {
        let metrics = Metrics::new();
        metrics.counter("signet_a_total", "a's").unwrap().inc_by(3);
        metrics.counters("signet_b_total", "b's", &["result"]).unwrap().with_label_values(&["ok"]).inc();
        metrics.gauge("signet_c", "c's").unwrap().set(-1);
        metrics.gauges("signet_d", "d's", &["state"]).unwrap().with_label_values(&["old"]).set(2);
        metrics.float_gauge("signet_e_seconds", "e's").unwrap().set(0.5);
        metrics.seconds("signet_f_seconds", "f's").unwrap().observe(0.000_02);
        metrics.seconds_by("signet_g_seconds", "g's", &["authority"]).unwrap().with_label_values(&["x"]).observe(20.0);
        metrics.histogram("signet_h_bytes", "h's", &[1.0, 2.0]).unwrap().observe(2.0);
        metrics.gauge_fn("signet_i", "i's", || 7.0).unwrap();
        metrics.counter_fn("signet_j_total", "j's", || 8).unwrap();
        let text = metrics.render().unwrap();
        for line in [
            "# HELP signet_a_total a's",
            "# TYPE signet_a_total counter",
            "signet_a_total 3",
            "signet_b_total{result=\"ok\"} 1",
            "signet_c -1",
            "signet_d{state=\"old\"} 2",
            "signet_e_seconds 0.5",
            "signet_f_seconds_bucket{le=\"0.00001\"} 0",
            "signet_f_seconds_bucket{le=\"0.000025\"} 1",
            "signet_g_seconds_bucket{authority=\"x\",le=\"10\"} 0",
            "signet_g_seconds_count{authority=\"x\"} 1",
            "signet_h_bytes_bucket{le=\"2\"} 1",
            "signet_i 7",
            "# TYPE signet_j_total counter",
            "signet_j_total 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_name_is_registered_once() {
        let metrics = Metrics::new();
        metrics.counter("signet_a_total", "a's").unwrap();
        assert!(metrics.counter("signet_a_total", "a's").unwrap_err().to_string().contains("signet_a_total"));
        assert!(metrics.counter("not a name", "").is_err());
    }

    #[test]
    fn the_duration_buckets_rise() {
        assert!(SECONDS.is_sorted());
    }

    #[test]
    fn a_process_shows_itself() {
        let metrics = Metrics::for_process("ca", "1.2.3", "abc").unwrap();
        let value = |name: &str| -> f64 {
            let text = metrics.render().unwrap();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let resident = value("process_resident_memory_bytes");
        assert!((1e6..1e10).contains(&resident), "{resident}");
        // 2023-11-14 to 2100: a date, not an uptime.
        assert!((1.7e9..4.1e9).contains(&value("process_start_time_seconds")));
        let before = value("process_open_fds");
        let _held: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(value("process_open_fds") >= before + 5.0, "{before}");
        let start = value("process_cpu_seconds_total");
        let mut spin = 0_u64;
        while value("process_cpu_seconds_total") < start + 0.02 {
            spin += 1;
            assert!(spin < 10_000_000, "CPU time does not move");
        }
        let text = metrics.render().unwrap();
        let info = "signet_build_info{component=\"ca\",revision=\"abc\",version=\"1.2.3\"} 1";
        assert!(text.contains(info), "{text}");
    }
}
