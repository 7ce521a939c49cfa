//! What tests read from certificates and configurations again and again.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_core::certificate::Facts;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::Dev;

/// The facts of the first certificate of a PEM text.
pub(crate) fn of(pem: &str) -> Outcome<Facts> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(Failure::while_doing("read a certificate"))?;
    Facts::read(&der).map_err(Failure::while_doing("read a certificate"))
}

/// The serial number of a PEM certificate as 32 hexadecimal digits, as the audit log writes it.
pub(crate) fn serial(pem: &str) -> Outcome<String> {
    let digits: String = of(pem)?.serial.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{:0>32}", digits.trim_start_matches("00")))
}

/// Limits so high that a test under load never meets them.
pub(crate) fn without_limits(dev: &Dev) -> Outcome {
    for key in ["per_identity", "per_peer"] {
        dev.set_ca(&format!("limits.{key}.per_second"), 1_000_000)?;
        dev.set_ca(&format!("limits.{key}.burst"), 1_000_000)?;
    }
    dev.set_ca("limits.concurrent_requests", 10_000)
}

/// Asks for certificates; gives their serials.
pub(crate) async fn issue(dev: &Dev, count: usize) -> Outcome<BTreeSet<String>> {
    let (client, ask) = (Client::connect(dev).await?, Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?));
    let mut serials = BTreeSet::new();
    for _ in 0..count {
        serials.insert(serial(&client.issued(&ask).await?[0])?);
    }
    Ok(serials)
}
