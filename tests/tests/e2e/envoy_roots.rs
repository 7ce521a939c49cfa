//! What Signet takes as a root, a real Envoy loads: one root that it cannot read makes it refuse the whole trust bundle.

use std::path::Path;
use std::process::Command;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use signet_core::certificate::{Facts, check_encoding};
use signet_core::pem::pem;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::plugged::OwnCa;
use signet_tests::tools;

/// Whether Envoy loads a trust bundle.
fn loads(bundle: &str) -> Outcome<bool> {
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let at = |name: &str| directory.path().join(name);
    let context =
        json!({ "common_tls_context": { "validation_context": { "trusted_ca": { "filename": at("roots") } } } });
    let mut socket = json!({ "name": "tls", "typed_config": context });
    socket["typed_config"]["@type"] =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext".into();
    let cluster = json!({ "name": "x", "type": "STATIC", "transport_socket": socket,
        "load_assignment": { "cluster_name": "x", "endpoints": [] } });
    let config = json!({ "static_resources": { "clusters": [cluster] } });
    let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(Failure::io("write a file for Envoy"));
    write(&at("roots"), bundle)?;
    write(&at("config.json"), &config.to_string())?;
    let mut command = Command::new(tools::envoy()?);
    command.args(["--mode", "validate", "-l", "off", "-c"]).arg(at("config.json"));
    Ok(tools::output(&mut command)?.status.success())
}

/// The certificate with bits of one byte turned, for each byte.
fn spoilt(der: &[u8]) -> Vec<Vec<u8>> {
    let turned = |at: usize, bits: u8| {
        let mut other = der.to_vec();
        other[at] ^= bits;
        other
    };
    (0..der.len()).flat_map(|at| [0x01, 0x02, 0x20, 0x80, 0xff].map(|bits| turned(at, bits))).collect()
}

#[test]
fn envoy_loads_every_root_that_is_taken_and_what_is_ber_is_not() -> Outcome {
    let made = OwnCa::root("an own root")?;
    let der =
        CertificateDer::from_pem_slice(made.certificate.as_bytes()).map_err(Failure::while_doing("read a root"))?;
    let is_taken =
        |der: &[u8]| check_encoding(der).is_ok() && Facts::read(der).is_ok_and(|facts| facts.may_be_anchor());
    let all = spoilt(&der);
    let (taken, refused): (Vec<_>, Vec<_>) = all.iter().partition(|der| is_taken(der));
    ensure(taken.len() > 300 && refused.len() > 300, || format!("{} taken of {}", taken.len(), all.len()))?;
    // In halves until the one is found that stands in the way.
    let mut suspects = taken.as_slice();
    let bundle = |all: &[&Vec<u8>]| all.iter().map(|der| pem(der)).collect::<String>();
    while !loads(&bundle(suspects))? {
        let (first, second) = suspects.split_at(suspects.len() / 2);
        ensure(suspects.len() > 1, || format!("Envoy refuses what is taken:\n{}", bundle(suspects)))?;
        suspects = if loads(&bundle(first))? { second } else { first };
    }
    ensure(suspects.len() == taken.len(), || "Envoy refuses them all together, and none alone".to_owned())?;
    // The outer length with a byte more than it needs.
    let ber = [&[0x30, 0x83, 0], &der[2..]].concat();
    ensure(!is_taken(&ber) && !loads(&(made.certificate.clone() + &pem(&ber)))?, || "BER passes".to_owned())
}
