//! Files of the operator's own CA that are wrong at run time: what is in use goes on, and it is told once, everywhere.

use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Ca;
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::process::eventually;

use super::SOON;
use super::files::{issuer, issues, key_id, plugged};

/// Waits until the gauge has this value.
async fn gauge(ca: &Ca, name: &str, value: f64) -> Outcome {
    let is_it = async || (ca.metrics().await.ok()?.sum(name, &[]) == value).then_some(());
    eventually(&format!("{name} {value}"), SOON, is_it).await
}

#[tokio::test]
async fn a_set_that_clients_or_envoy_would_refuse_is_told_once_and_the_one_before_goes_on() -> Outcome {
    let root = OwnCa::root("own root")?;
    let good = root.certify("own signer")?;
    let set = istio_names(&good, &root);
    let (dev, mut mount) = plugged(&set)?;
    let mut ca = dev.start_ca().await?;
    let signer =
        |more: &[&str]| Ok::<_, signet_tests::failure::Failure>(istio_names(&root.certify_with("bad", more)?, &root));
    let roots = |text: String| {
        let mut other = set.clone();
        other[2].1 = text;
        other
    };
    let other = OwnCa::root("other root")?.certificate;
    for (what, bad, word) in [
        (
            "an excluded URI",
            signer(&["-addext", "nameConstraints=critical,excluded;URI:cluster.local"])?,
            "a name constraint for URIs",
        ),
        (
            "a permitted URI",
            signer(&["-addext", "nameConstraints=permitted;URI:old.example"])?,
            "a name constraint for URIs",
        ),
        (
            "another name",
            signer(&["-addext", "nameConstraints=critical,permitted;DNS:old.example"])?,
            "has name constraints",
        ),
        ("an unknown extension", signer(&["-addext", "1.2.3.4=critical,ASN1:NULL"])?, "the critical extension 1.2.3.4"),
        ("SHA-1", signer(&["-sha1"])?, "ECDSA with SHA-1"),
        (
            "an indented root",
            roots(format!("{}{}", root.certificate, other.replace("-----BEGIN", " -----BEGIN"))),
            "root-cert.pem: line",
        ),
        ("a root that is cut", roots(format!("{}{}", root.certificate, &other[..200])), "has no end"),
    ] {
        mount.swap(&bad)?;
        gauge(&ca, "signet_ca_files_refused", 1.0).await?;
        let ready = ca.ready_is(true, SOON).await?.to_string();
        ensure(ready.contains("the files are not used") && ready.contains(word), || format!("{what}: {ready}"))?;
        assert_eq!(issuer(&dev).await?, key_id(&good)?, "{what}");
        let told = || {
            let log = ca.process.log();
            let is_told = |line: &&str| line.contains("is not used; the one in use goes on") && line.contains(word);
            (log.lines().filter(is_told).count(), log)
        };
        // Whoever reads the files says so in readiness first, and the rotator in the log when it has looked.
        eventually(&format!("the warning of {what}"), SOON, async || (told().0 > 0).then_some(())).await?;
        mount.swap(&set)?;
        gauge(&ca, "signet_ca_files_refused", 0.0).await?;
        let (count, log) = told();
        // The two constraints for URIs are told in the same words.
        ensure((1..=2).contains(&count), || format!("{what}: told {count} times:\n{log}"))?;
    }
    mount.swap(&[set.clone(), vec![("ca-crl.pem", "junk".to_owned())]].concat())?;
    gauge(&ca, "signet_ca_crl_refused", 1.0).await?;
    let next = root.certify("next signer")?;
    mount.swap(&istio_names(&next, &root))?;
    issues(&dev, &next).await?;
    gauge(&ca, "signet_ca_crl_refused", 0.0).await
}
