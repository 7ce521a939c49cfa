//! What `bundle_file` may be when the first authority is made, and that it stops nobody who has one.

use signet_tests::client::keys;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::plugged::{Mount, OwnCa, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Ca, Dev};

use super::{SOON, fingerprint, init, plain, refused, roots};

/// Waits until the file holds the roots of this CA and nothing else.
async fn ours(dev: &Dev) -> Outcome {
    let roots = roots(dev)?;
    eventually("the bundle file", SOON, async || (dev.text("root-cert.pem").ok()? == roots).then_some(())).await
}

#[tokio::test]
async fn other_roots_in_it_must_all_be_named_and_one_that_cannot_be_read_is_no_leave() -> Outcome {
    let (one, two) = (OwnCa::root("one")?, OwnCa::root("two")?);
    let (first, second) = (fingerprint(&one.certificate)?, fingerprint(&two.certificate)?);
    let (both, second_plain) = (format!("{}{}", one.certificate, two.certificate), plain(&second));
    let cut: String = one.certificate.lines().take(4).collect::<Vec<_>>().join("\n");
    let damaged = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n".to_owned();
    let renamed = two.certificate.replace("CERTIFICATE", "X509 CERTIFICATE");
    let dev = Dev::plain()?;
    for (content, named, parts) in [
        (Some(format!("{}{renamed}", one.certificate)), vec![first.as_str()], &["CN=two", &second_plain][..]),
        (Some(one.certificate.replace("-----BEGIN", " -----BEGIN")), vec![first.as_str()], &["line 1 looks like"]),
        (Some(both.clone()), vec![], &["CN=one", "CN=two", second_plain.as_str()]),
        (Some(both.clone()), vec![first.as_str()], &["CN=two", &second_plain]),
        (Some(one.certificate.clone()), vec![second.as_str()], &["CN=one"]),
        (Some("not a certificate\n".to_owned()), vec![first.as_str()], &["holds text, but no PEM block"]),
        (Some(cut), vec![first.as_str()], &["line 1 has no end"]),
        (Some(damaged), vec![first.as_str()], &["line 1: not exactly one X.509"]),
        (Some(both), vec![first.as_str(), &second_plain], &[]),
        (Some(String::new()), vec![], &[]),
        (Some(" \n".to_owned()), vec![], &[]),
        (None, vec![], &[]),
    ] {
        dev.forget_authority()?;
        if let Some(content) = &content {
            std::fs::write(dev.path("root-cert.pem"), content).unwrap();
        }
        let mut args = if named.is_empty() { vec![] } else { vec!["--replacing"] };
        args.extend(named);
        let output = init(&dev, &args)?;
        if parts.is_empty() {
            ensure(output.status.success(), || format!("{content:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
            roots(&dev)?;
        } else {
            refused(&output, parts)?;
            assert_eq!(Some(dev.text("root-cert.pem")?), content);
            ensure(roots(&dev).is_err(), || format!("{content:?}: a root was made"))?;
        }
    }
    // A directory, where a file should be.
    dev.forget_authority()?;
    std::fs::create_dir(dev.path("root-cert.pem")).unwrap();
    refused(&init(&dev, &[])?, &["is not a regular file"])
}

#[tokio::test]
async fn the_roots_of_the_operators_own_files_are_no_others() -> Outcome {
    let dev = Dev::plain()?;
    let (root, other) = (OwnCa::root("root")?, OwnCa::root("other")?);
    let mount = Mount::new(&dev.path("own-ca"), &istio_names(&root.certify("signer")?, &root))?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
    dev.forget_authority()?;
    std::fs::write(dev.path("root-cert.pem"), format!("{}{}", root.certificate, other.certificate)).unwrap();
    let output = init(&dev, &[])?;
    refused(&output, &["CN=other"])?;
    ensure(!String::from_utf8_lossy(&output.stderr).contains("CN=root"), || "its own root is another".to_owned())?;
    std::fs::write(dev.path("root-cert.pem"), &root.certificate).unwrap();
    // Files that cannot be used make nothing.
    std::fs::rename(dev.path("own-ca"), dev.path("hidden")).unwrap();
    refused(&init(&dev, &[])?, &["own-ca"])?;
    ensure(!dev.path("signet.db").exists(), || "a database for nothing".to_owned())?;
    std::fs::rename(dev.path("hidden"), dev.path("own-ca")).unwrap();
    let ca = dev.start_ca().await?;
    assert_eq!(keys::ids(&roots(&dev)?)?, keys::ids(&root.certificate)?);
    drop(ca);
    // And who has an authority does not stop for what others have written there.
    std::fs::write(dev.path("root-cert.pem"), &other.certificate).unwrap();
    let _ca = dev.start_ca().await?;
    ours(&dev).await
}

#[tokio::test]
async fn a_ca_with_an_authority_starts_whatever_is_in_it_also_when_its_storage_was_restored() -> Outcome {
    let other = OwnCa::root("other")?.certificate;
    let dev = Dev::plain()?;
    let root = roots(&dev)?;
    dev.back_up()?;
    let mut ca = dev.start_ca().await?;
    ca.operator().rotate()?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    // The file names a root now that the backup does not know, and then one that nobody here knows, or nothing to be read.
    for content in [None, Some(other.as_str()), Some("-----BEGIN CERTIFICATE-----\nnot PEM")] {
        dev.put_back()?;
        if let Some(content) = content {
            std::fs::write(dev.path("root-cert.pem"), content).unwrap();
        }
        let mut ca = Ca::start(&dev)?;
        ca.ready().await?;
        assert_eq!(roots(&dev)?, root, "{content:?}");
        ours(&dev).await?;
    }
    Ok(())
}
