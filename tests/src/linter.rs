//! Judges certificates and revocation lists by pkilint, which holds every field against RFC 5280 and knows nothing about
//! our code.

use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

/// Findings that nobody minds here, each with the reason. They are rules for names on the web.
const SWITCHED_OFF: [(&str, &str); 2] = [
    ("pkix.invalid_uri_syntax", "it takes the schemes of web pages only; spiffe is another one (RFC 3986 section 3.1)"),
    ("pkix.invalid_domain_name_syntax", "it demands two labels; localhost has one (RFC 6761 section 6.3)"),
];

/// What stops a certificate from being used somewhere; notices tell how something was done.
const LEAST: &str = "WARNING";

/// The linter takes each certificate of a PEM text, of whatever kind they are.
///
/// # Errors
/// [`Failure`] with its findings, also without pkilint.
pub fn certificates(pem: &str) -> Outcome {
    lint("pkilint.bin.lint_pkix_cert", &[], pem, "CERTIFICATE")
}

/// The linter takes each revocation list of a PEM text.
///
/// # Errors
/// As [`certificates`].
pub fn lists(pem: &str) -> Outcome {
    lint("pkilint.bin.lint_crl", &["--type", "CRL", "--profile", "PKIX"], pem, "X509 CRL")
}

fn lint(module: &str, options: &[&str], pem: &str, label: &str) -> Outcome {
    let end = format!("-----END {label}-----\n");
    let blocks: Vec<_> = pem.split_inclusive(end.as_str()).filter(|block| block.ends_with(&end)).collect();
    ensure(!blocks.is_empty(), || format!("there is nothing to lint in {pem:?}"))?;
    let file = tempfile::NamedTempFile::new().map_err(Failure::io("make a temporary file"))?;
    for block in blocks {
        std::fs::write(file.path(), block).map_err(Failure::io("write for the linter"))?;
        let mut command = Command::new(tools::python("pkilint")?);
        command.args(["-m", module, "lint", "--severity", LEAST, "--format", "JSON"]).args(options).arg(file.path());
        // Its exit code is the number of findings.
        let output = tools::output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&said).map_err(|error| {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            Failure::unexpected(format!("{command:?} does not report: {error}: {said}{complaint}"))
        })?;
        let found = findings(&report)?;
        ensure(found.is_empty(), || format!("{}\n{block}", found.join("\n")))?;
    }
    Ok(())
}

/// What the report holds against the certificate, and nobody has switched off.
fn findings(report: &Value) -> Outcome<Vec<String>> {
    let results = report.get("results").and_then(Value::as_array);
    let results = results.ok_or_else(|| Failure::unexpected(format!("no results in {report}")))?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for result in results {
        for finding in result.get("finding_descriptions").and_then(Value::as_array).into_iter().flatten() {
            let code = text(finding, "code");
            if SWITCHED_OFF.iter().all(|(name, _)| *name != code) {
                found.push(format!("{code} at {}: {}", text(result, "node_path"), text(finding, "message")));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

    fn certificate(bend: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "leaf");
        params.subject_alt_names = vec![SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap())];
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        bend(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_plain_certificate_passes_and_a_spoiled_one_is_told_of() {
        certificates(&certificate(|_| {})).unwrap();
        type Bend = fn(&mut CertificateParams);
        let table: [(&str, Bend); 3] = [
            ("pkix.certificate_negative_validity_period", |params| {
                std::mem::swap(&mut params.not_before, &mut params.not_after);
            }),
            ("pkix.ee_certificate_keycertsign_keyusage_set", |params| {
                params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            }),
            ("pkix.certificate_skid_end_entity_missing", |params| params.is_ca = rcgen::IsCa::NoCa),
        ];
        for (code, bend) in table {
            let told = certificates(&certificate(bend)).unwrap_err().to_string();
            assert!(told.contains(code), "{told}, not {code}");
        }
        assert!(certificates("").is_err() && lists("no list").is_err());
    }
}
