//! The numbers, for people and, on the last line, for programs.

use std::time::Duration;

use signet_tests::harness::metrics::Metrics;
use signet_tests::tools::say;

use crate::floor::{Floor, processor};
use crate::load::{Measured, quantile_ms};
use crate::peers::Peers;

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) measured: Measured,
    /// Processor time of the CA during the measurement.
    pub(crate) cpu: Duration,
    /// Processor time of the load itself.
    pub(crate) own: Duration,
    /// Bytes that the CA has had written to disk meanwhile.
    pub(crate) written: u64,
    /// Resident memory of the CA at its end, MiB.
    pub(crate) rss: f64,
    pub(crate) floor: Floor,
    pub(crate) peers: Peers,
}

impl Report {
    fn cpu_us(&self) -> f64 {
        self.per_certificate_us(self.cpu)
    }

    fn per_certificate_us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.measured.times.len().max(1) as f64
    }

    /// Cores that the CA and the load have kept busy.
    fn busy_cores(&self) -> f64 {
        (self.cpu + self.own).as_secs_f64() / self.measured.elapsed.as_secs_f64()
    }

    fn written_per_certificate(&self) -> f64 {
        self.written as f64 / self.measured.times.len().max(1) as f64
    }

    /// Prints everything; the last line is JSON.
    pub(crate) fn print(&self) {
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
            "CPU of the load       {:.1} us per certificate, on the same cores",
            self.per_certificate_us(self.own)
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
        say(&format!("busy cores            {:.2}, CA and load together", self.busy_cores()));
        let written = self.written_per_certificate();
        say(&format!("written per certificate {written:.0} bytes, {:.2} pages of 4 KiB", written / 4096.0));
        for (name, peer) in [("OpenBao", self.peers.openbao), ("cfssl", self.peers.cfssl)] {
            if let Some(peer) = peer {
                say(&format!("beside {name:<15}{:.2} x", rate / peer));
            }
        }
        let optional = |rate: Option<f64>| rate.map_or("null".to_owned(), |rate| format!("{rate:.1}"));
        say(&format!(
            "{{\"per_second\":{rate:.1},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"cpu_us_per_issuance\":{:.1},\"crypto_floor_us\":{:.1},\"floor_without_token_us\":{:.1},\"busy_cores\":{:.2},\"written_bytes_per_certificate\":{:.0},\"rss_mib\":{:.1},\"openbao_per_second\":{},\"cfssl_per_second\":{}}}",
            self.measured.quantile_ms(0.5),
            self.measured.quantile_ms(0.99),
            self.cpu_us(),
            floor.total_us(),
            floor.without_token_us(),
            self.busy_cores(),
            self.written_per_certificate(),
            self.rss,
            optional(self.peers.openbao),
            optional(self.peers.cfssl),
        ));
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
