//! What the CA measures: its own names, and those of istiod's CA that dashboards already know.

use std::sync::Arc;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use signet_core::audit::Outcome;
use signet_core::clock::SharedClock;
use signet_core::holder::Coverage;
use signet_core::policy::Refusal;
use signet_core::rotation::{Authorities, Phase, Unsettled};
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_core::seams::impersonation::ImpersonationError;
use signet_runtime::metrics::{MetricError, Metrics};

use crate::audit_log::AuditMetrics;
use crate::client_identity::RefusedClients;
use crate::issue_error::IssueError;
use crate::over_limit::TurnedAway;
use crate::refusals::DenialCause;

/// Measurements of one CA process. Labels are closed sets and never hold a name from outside.
pub struct CaMetrics {
    /// Whole requests, in seconds.
    pub request: Histogram,
    /// Token verification, in seconds.
    pub token: Histogram,
    /// Verification of client certificates in the place of tokens, in seconds.
    pub client_certificate: Histogram,
    /// Parsing the CSR and deciding, in seconds.
    pub decision: Histogram,
    /// Signing, in seconds.
    pub sign: Histogram,
    /// Commits of records.
    pub audit: AuditMetrics,
    /// 1 from when the files of storage were changed under this process, until a restart.
    pub storage_lost: IntGauge,
    /// 1 while the CA in the operator's files is not used.
    pub files_refused: IntGauge,
    /// 1 while the revocation lists beside it are not used.
    pub crl_refused: IntGauge,
    /// Leaves cut short at the issuer's end.
    pub clamped: IntCounter,
    /// Serving certificates issued.
    pub serving_renewals: IntCounter,
    /// Requests that name a signer, of which there is one only.
    pub cert_signer_ignored: IntCounter,
    /// TLS handshakes that failed.
    pub handshake_failures: IntCounter,
    /// Client certificates that were refused.
    pub refused_clients: RefusedClients,
    /// Connections open now.
    pub connections: IntGauge,
    /// End of the root, the issuing CA and the serving certificate in seconds since 1970.
    pub expiry: Expiry,
    /// Where rotation stands.
    pub rotation: RotationMetrics,
    /// Who met a limit.
    pub turned_away: Arc<TurnedAway>,
    certificates: IntCounterVec,
    issued: IntCounter,
    admin_denied: IntCounterVec,
    streams_refused: IntCounterVec,
    citadel: Citadel,
}

/// Gauges of rotation.
pub struct RotationMetrics {
    sequence: IntGauge,
    roots: IntGauge,
    holders: IntGauge,
    behind: IntGauge,
    gone: IntGauge,
    /// 1 for the phase of rotation.
    pub phases: IntGaugeVec,
    revoked: IntGauge,
    awaited: IntGauge,
    /// Holders whose certificate is accepted by nobody.
    pub cut_off: IntGauge,
    /// Holders that have refused a bundle and applied none since.
    pub refusing: IntGauge,
    /// Publishers that lack the bundle that is waited for.
    pub unpublished: IntGauge,
    /// Compromised authorities that are still in use or still accepted.
    pub tainted: IntGaugeVec,
    /// 1 while other replicas follow newer CA files, or another backend, than this one has.
    pub late: IntGauge,
    /// 1 while the storage is older than what was once given out from it.
    pub restored: IntGauge,
    /// Bundle streams open now.
    pub streams: IntGauge,
    /// Bundles that holders have refused.
    pub refused: IntCounter,
    /// Names that clients of bundle streams asked for and that are not served.
    pub unserved: IntCounter,
}

impl RotationMetrics {
    fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            sequence: metrics.gauge("signet_ca_bundle_sequence", "Sequence of the trust bundle.")?,
            roots: metrics.gauge("signet_ca_bundle_roots", "Roots in the trust bundle.")?,
            holders: metrics
                .gauge("signet_ca_holders", "Holders of unexpired certificates, but those whose pods are gone.")?,
            behind: metrics.gauge("signet_ca_holders_behind", "Holders without the bundle that is waited for.")?,
            gone: metrics.gauge(
                "signet_ca_holders_gone",
                "Holders of unexpired certificates whose pods are gone, of those that were waited for.",
            )?,
            phases: metrics.gauges("signet_ca_rotation_phase", "1 for the phase of rotation.", &["phase"])?,
            revoked: metrics.gauge("signet_ca_revoked_certificates", "Certificates on revocation lists.")?,
            awaited: metrics.gauge(
                "signet_ca_revocations_awaited",
                "Certificates that whoever has certified them, such as Vault, is to revoke and has not yet.",
            )?,
            cut_off: metrics.gauge(
                "signet_ca_holders_cut_off",
                "Holders whose certificate is accepted by nobody: its root is gone, or its issuing CA is revoked.",
            )?,
            refusing: metrics
                .gauge("signet_ca_holders_refusing", "Holders that have refused a bundle and applied none since.")?,
            unpublished: metrics.gauge(
                "signet_ca_publishers_lacking",
                "Publishers that lack the trust bundle that is waited for; a root that they lack does not sign.",
            )?,
            tainted: metrics.gauges(
                "signet_ca_authorities_tainted",
                "Compromised authorities that are still in use or still accepted.",
                &["kind"],
            )?,
            late: metrics.gauge(
                "signet_ca_superseded",
                "1 while other replicas follow newer CA files, or another backend, than this one has.",
            )?,
            restored: metrics.gauge(
                "signet_ca_storage_restored",
                "1 while agents show a newer trust bundle of this CA than its storage has.",
            )?,
            streams: metrics.gauge("signet_ca_bundle_streams", "Open bundle streams.")?,
            refused: metrics.counter("signet_ca_bundles_refused_total", "Bundles that holders have refused.")?,
            unserved: metrics.counter(
                "signet_ca_bundle_names_not_served_total",
                "Names that clients asked for over SDS and that are not served; the log says which.",
            )?,
        })
    }

    /// Sets what a look at the journal and the records has shown.
    pub fn set(&self, authorities: &Authorities, coverage: &Coverage) {
        let (holders, covered) = (coverage.live(), coverage.covered(authorities.awaited_sequence()));
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.sequence.set(number(authorities.bundle_sequence));
        self.roots.set(number(authorities.roots.len() as u64));
        self.holders.set(number(holders));
        self.behind.set(number(holders.saturating_sub(covered)));
        self.gone.set(number(coverage.gone));
        self.revoked.set(number(authorities.revocations.entries.len() as u64));
        self.awaited.set(number(authorities.revocations.awaited().count() as u64));
    }

    /// Sets where the rotation stands, and what is not over.
    pub fn set_unsettled(&self, phase: Phase, unsettled: &Unsettled) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.cut_off.set(number(unsettled.cut_off));
        self.refusing.set(number(unsettled.refusing));
        self.unpublished.set(number(unsettled.unpublished));
        self.tainted.with_label_values(&["root"]).set(number(unsettled.tainted_roots));
        self.tainted.with_label_values(&["issuing"]).set(number(unsettled.tainted_issuing));
        for one in Phase::ALL {
            self.phases.with_label_values(&[one.as_str()]).set(i64::from(one == phase));
        }
    }
}

/// Gauges of expiry.
pub struct Expiry {
    /// The active root.
    pub root: IntGauge,
    /// The active issuing CA.
    pub issuing: IntGauge,
    /// The serving certificate.
    pub serving: IntGauge,
    citadel_root: IntGauge,
    citadel_chain: IntGauge,
}

impl Expiry {
    /// Sets the ends of the authorities, in seconds since 1970.
    pub fn authorities(&self, root: i64, issuing: i64) {
        self.root.set(root);
        self.citadel_root.set(root);
        self.issuing.set(issuing);
        self.citadel_chain.set(issuing);
    }
}

struct Citadel {
    csr: IntCounter,
    authentication_failure: IntCounter,
    csr_parsing: IntCounter,
    id_extraction: IntCounter,
    sign: IntCounterVec,
    success: IntCounter,
}

impl CaMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// [`MetricError`] when a name is taken, which is a bug.
    pub fn new(metrics: &Metrics, clock: SharedClock) -> Result<Self, MetricError> {
        let certificates = metrics.counters(
            "signet_ca_certificates_total",
            "Certificate requests by outcome and reason.",
            &["outcome", "reason"],
        )?;
        // One of these tells of a stolen key: an alert waits for no first event.
        for denial in Denial::OF_CERTIFICATES {
            certificates.with_label_values(&[Outcome::Refused.as_str(), denial.label()]).reset();
        }
        let admin_denied = metrics.counters(
            "signet_ca_admin_denied_total",
            "Calls of the operators' service by callers who are no operators.",
            &["reason"],
        )?;
        let streams_refused = metrics.counters(
            "signet_ca_bundle_streams_refused_total",
            "Bundle streams of callers who did not prove who they are, by reason.",
            &["reason"],
        )?;
        for cause in DenialCause::ALL {
            admin_denied.with_label_values(&[cause.as_str()]).reset();
        }
        let citadel_root = metrics.gauge(
            "citadel_server_root_cert_expiry_timestamp",
            "The unix timestamp, in seconds, when the root certificate expires.",
        )?;
        let citadel_chain = metrics.gauge(
            "citadel_server_cert_chain_expiry_timestamp",
            "The unix timestamp, in seconds, when the certificate chain expires.",
        )?;
        for (name, help, end) in [
            ("citadel_server_root_cert_expiry_seconds", "Seconds left of the root certificate.", &citadel_root),
            ("citadel_server_cert_chain_expiry_seconds", "Seconds left of the certificate chain.", &citadel_chain),
        ] {
            let (end, clock) = (end.clone(), Arc::clone(&clock));
            metrics.gauge_fn(name, help, move || end.get().saturating_sub(clock.now().unix_timestamp()) as f64)?;
        }
        Ok(Self {
            request: metrics.seconds("signet_ca_request_duration_seconds", "Whole certificate requests.")?,
            token: metrics.seconds("signet_ca_token_verification_duration_seconds", "Verification of tokens.")?,
            client_certificate: metrics.seconds(
                "signet_ca_client_certificate_verification_duration_seconds",
                "Verification of client certificates that are shown in the place of tokens.",
            )?,
            decision: metrics.seconds("signet_ca_decision_duration_seconds", "CSR check and policy decision.")?,
            sign: metrics.seconds("signet_ca_sign_duration_seconds", "Signing of certificates.")?,
            audit: AuditMetrics::new(metrics)?,
            storage_lost: metrics.gauge(
                "signet_ca_storage_lost",
                "1 from when the files of storage were changed under the running CA, until it is restarted.",
            )?,
            files_refused: metrics.gauge(
                "signet_ca_files_refused",
                "1 while the CA in the files is not used, and the one before goes on.",
            )?,
            crl_refused: metrics.gauge(
                "signet_ca_crl_refused",
                "1 while the revocation lists in ca-crl.pem are not used, and those before go on.",
            )?,
            clamped: metrics
                .counter("signet_ca_lifetimes_cut_total", "Certificates cut short at their issuer's end.")?,
            serving_renewals: metrics.counter(
                "signet_ca_serving_renewals_total",
                "Serving certificates that took the place of one before.",
            )?,
            cert_signer_ignored: metrics.counter(
                "signet_ca_cert_signer_ignored_total",
                "Requests whose metadata names a signer (CertSigner); this CA has one, and signs with it.",
            )?,
            handshake_failures: metrics.counter("signet_ca_tls_handshake_failures_total", "Failed TLS handshakes.")?,
            refused_clients: RefusedClients::new(metrics)?,
            connections: metrics.gauge("signet_ca_connections", "Open connections.")?,
            expiry: Expiry {
                root: metrics.gauge("signet_ca_root_expiry_timestamp_seconds", "End of the active root.")?,
                issuing: metrics.gauge("signet_ca_issuing_expiry_timestamp_seconds", "End of the issuing CA.")?,
                serving: metrics
                    .gauge("signet_ca_serving_expiry_timestamp_seconds", "End of the serving certificate.")?,
                citadel_root,
                citadel_chain,
            },
            rotation: RotationMetrics::new(metrics)?,
            turned_away: Arc::new(TurnedAway::new(metrics)?),
            issued: certificates.with_label_values(&["issued", ""]),
            certificates,
            admin_denied,
            streams_refused,
            citadel: Citadel {
                csr: metrics.counter("citadel_server_csr_count", "CSRs received.")?,
                authentication_failure: metrics
                    .counter("citadel_server_authentication_failure_count", "Authentication failures.")?,
                csr_parsing: metrics.counter("citadel_server_csr_parsing_err_count", "CSRs that did not parse.")?,
                id_extraction: metrics
                    .counter("citadel_server_id_extraction_err_count", "CSRs whose names were refused.")?,
                sign: metrics.counters("citadel_server_csr_sign_err_count", "Signing errors.", &["error"])?,
                success: metrics.counter("citadel_server_success_cert_issuance_count", "Certificates issued.")?,
            },
        })
    }

    /// Counts a request that arrived.
    pub fn arrived(&self) {
        self.citadel.csr.inc();
    }

    /// Counts a call of the operators' service that was denied.
    pub fn admin_denied(&self, cause: DenialCause) {
        self.admin_denied.with_label_values(&[cause.as_str()]).inc();
    }

    /// Counts a bundle stream that was refused; reasons are a closed set.
    pub fn stream_refused(&self, reason: &'static str) {
        self.streams_refused.with_label_values(&[reason]).inc();
    }

    /// Counts an issued certificate.
    pub fn issued(&self) {
        self.issued.inc();
        self.citadel.success.inc();
    }

    /// Counts a request without a certificate.
    pub fn not_issued(&self, outcome: Outcome, error: &IssueError) {
        self.certificates.with_label_values(&[outcome.as_str(), error.label()]).inc();
        let citadel = &self.citadel;
        match error {
            IssueError::Authentication(AuthenticationError::Denied { .. })
            | IssueError::Impersonation(ImpersonationError::Denied { .. }) => citadel.authentication_failure.inc(),
            IssueError::Csr(_) => {
                citadel.csr_parsing.inc();
                citadel.sign.with_label_values(&["CSR_ERROR"]).inc();
            }
            IssueError::Refused(Refusal::NamesNotAllowed { .. }) => citadel.id_extraction.inc(),
            IssueError::Refused(Refusal::TtlZero | Refusal::TtlNegative(_) | Refusal::TtlTooLong { .. }) => {
                citadel.sign.with_label_values(&["TTL_ERROR"]).inc();
            }
            IssueError::NotReady => citadel.sign.with_label_values(&["CA_NOT_READY"]).inc(),
            IssueError::Sign(_) | IssueError::Mismatch(_) => citadel.sign.with_label_values(&["CERT_GEN_ERROR"]).inc(),
            IssueError::OverLimit(limit) => self.turned_away.note(*limit),
            IssueError::Malformed(_) | IssueError::Impersonation(_) => {}
            _ => citadel.sign.with_label_values(&["UNKNOWN"]).inc(),
        }
    }

    /// `(issued, refused, failed)` since the process started.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        use prometheus::core::Collector;
        let mut totals = (0, 0, 0);
        for family in self.certificates.collect() {
            for metric in family.get_metric() {
                let count = metric.get_counter().get_value() as u64;
                let outcome = metric.get_label().iter().find(|label| label.name() == "outcome");
                match outcome.map(|label| label.value()) {
                    Some("issued") => totals.0 += count,
                    Some("refused") => totals.1 += count,
                    Some("failed") => totals.2 += count,
                    _ => {}
                }
            }
        }
        totals
    }
}
