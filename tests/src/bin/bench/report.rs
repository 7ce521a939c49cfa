//! The numbers, for people and, on the last line, for programs.

use std::time::Duration;

use serde_json::json;
use signet_tests::failure::Outcome;
use signet_tests::harness::metrics::Metrics;
use signet_tests::tools::say;

use crate::floor::{Floor, processor};
use crate::load::{Measured, quantile_ms};
use crate::peers::Peers;
use crate::rounds::{hundredths, keep, tenths};
use crate::usage::Usage;

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) measured: Measured,
    /// What the processes used during the measurement.
    pub(crate) usage: Usage,
    /// How many CA processes there were.
    pub(crate) replicas: usize,
    /// Resident memory of the CA, of the larger one of two, at its end, MiB.
    pub(crate) rss: f64,
    pub(crate) floor: Floor,
    pub(crate) peers: Peers,
}

impl Report {
    /// Of CA and database server.
    fn cpu_us(&self) -> f64 {
        self.per_certificate_us(self.usage.ca + self.usage.server)
    }

    fn per_certificate_us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.measured.times.len().max(1) as f64
    }

    /// Cores that the CA, the database server and the load have kept busy.
    fn busy_cores(&self) -> f64 {
        let Usage { ca, server, load, .. } = self.usage;
        (ca + server + load).as_secs_f64() / self.measured.elapsed.as_secs_f64()
    }

    fn written_per_certificate(&self) -> Option<f64> {
        self.usage.written.map(|bytes| bytes as f64 / self.measured.times.len().max(1) as f64)
    }

    /// Prints everything; the last line is JSON, and so is `target/bench/rate.json` when the peers were measured too.
    ///
    /// # Errors
    /// [`Failure::Io`](signet_tests::failure::Failure::Io).
    pub(crate) fn print(&self) -> Outcome {
        let (rate, floor) = (self.measured.per_second(), self.floor);
        say(&format!("machine               {}", processor()));
        say(&format!(
            "certificates          {} in {:.1} s",
            self.measured.times.len(),
            self.measured.elapsed.as_secs_f64()
        ));
        say(&format!(
            "CPU per certificate   {:.1} us, {:.2} x the crypto floor",
            self.cpu_us(),
            self.cpu_us() / floor.total_us()
        ));
        say(&format!(
            "                      of that {:.1} us in {} and {:.1} us in the database server",
            self.per_certificate_us(self.usage.ca),
            if self.replicas == 1 { "the CA" } else { "two CA processes" },
            self.per_certificate_us(self.usage.server)
        ));
        say(&format!(
            "CPU of the load       {:.1} us per certificate, on the same cores",
            self.per_certificate_us(self.usage.load)
        ));
        say(&format!(
            "crypto floor          {:.1} us = token {:.1} + CSR {:.1} + signature {:.1}",
            floor.total_us(),
            floor.token_us,
            floor.csr_us,
            floor.sign_us
        ));
        say(&format!(
            "floor without token   {:.1} us, {:.2} x: under load the token was checked before",
            floor.without_token_us(),
            self.cpu_us() / floor.without_token_us()
        ));
        say(&format!("busy cores            {:.2}, CA, database server and load together", self.busy_cores()));
        if let Some(written) = self.written_per_certificate() {
            say(&format!(
                "disk writes           {written:.0} bytes per certificate, {:.2} pages of 4 KiB",
                written / 4096.0
            ));
        }
        for (name, peer) in [("OpenBao", self.peers.openbao), ("cfssl", self.peers.cfssl)] {
            if let Some(peer) = peer {
                say(&format!("beside {name:<15}{:.2} x", rate / peer));
            }
        }
        let optional = |number: Option<f64>| number.map(tenths);
        keep(
            if self.replicas == 1 && self.peers.openbao.is_some() { "rate" } else { "rate-other" },
            json!({
                "per_second": tenths(rate), "p50_ms": hundredths(self.measured.quantile_ms(0.5)),
                "p99_ms": hundredths(self.measured.quantile_ms(0.99)), "cpu_us_per_issuance": tenths(self.cpu_us()),
                "server_cpu_us_per_issuance": tenths(self.per_certificate_us(self.usage.server)),
                "load_cpu_us_per_issuance": tenths(self.per_certificate_us(self.usage.load)),
                "replicas": self.replicas, "crypto_floor_us": tenths(floor.total_us()),
                "floor_without_token_us": tenths(floor.without_token_us()), "busy_cores": hundredths(self.busy_cores()),
                "written_bytes_per_certificate": optional(self.written_per_certificate()), "rss_mib": tenths(self.rss),
                "openbao_per_second": optional(self.peers.openbao), "cfssl_per_second": optional(self.peers.cfssl),
            }),
        )
    }
}

/// What it cost those who were turned away, if any were.
pub(crate) fn turned_away(measured: &Measured) {
    let times = &measured.turned_away;
    if !times.is_empty() {
        say(&format!(
            "turned away           {} requests, p50 {:.2} ms, p99 {:.2} ms; of those with a certificate p50 {:.2} ms",
            times.len(),
            quantile_ms(times, 0.5),
            quantile_ms(times, 0.99),
            measured.quantile_ms(0.5)
        ));
    }
}

/// Where a request spends its time, from the CA's own histograms.
pub(crate) fn explain(before: &Metrics, after: &Metrics) {
    let mean = |name: &str| {
        let difference = |suffix: &str| {
            let name = format!("{name}_{suffix}");
            after.sum(&name, &[]) - before.sum(&name, &[])
        };
        difference("sum") / difference("count").max(1.0)
    };
    for (title, name) in [
        ("whole request", "signet_ca_request_duration_seconds"),
        ("token", "signet_ca_token_verification_duration_seconds"),
        ("CSR and decision", "signet_ca_decision_duration_seconds"),
        ("signature", "signet_ca_sign_duration_seconds"),
        ("commit", "signet_ca_audit_commit_duration_seconds"),
    ] {
        say(&format!("{title:<22}{:.1} us on average", mean(name) * 1e6));
    }
    say(&format!("records per commit    {:.1}", mean("signet_ca_audit_batch_records")));
}
