//! The operator's own CA as files: complete sets are used, others are refused, changes are picked up.

use signet_core::authority::AuthorityId;
use signet_proto::admin::v1alpha1::Rotation;
use signet_tests::client::admin::{active_issuers, active_root, root_ids};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::plugged::{Mount, OwnCa, Set, istio_names, tls_secret};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::stage::CLIENT_ID;
use signet_tests::{judge, tools};

use super::{SOON, installation, now_at, settled, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// An installation whose authority is this set.
pub(super) fn plugged(set: &Set) -> Outcome<(Dev, Mount)> {
    plugged_for(set, "1h")
}

/// The same with workload certificates of this lifetime.
pub(super) fn plugged_for(set: &Set, svid_ttl: &str) -> Outcome<(Dev, Mount)> {
    let dev = installation(svid_ttl, &TWO)?;
    let mount = Mount::new(&dev.path("own-ca"), set)?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
    Ok((dev, mount))
}

/// The id of an authority as Signet names it: by its name and key, whatever key id its certificate carries.
pub(crate) fn id(ca: &OwnCa) -> Outcome<String> {
    Ok(AuthorityId::of(&keys::facts(&ca.certificate)?).to_string())
}

/// The key id in the certificate of an authority, as OpenSSL wrote it.
pub(super) fn key_id(ca: &OwnCa) -> Outcome<String> {
    let id = keys::facts(&ca.certificate)?.subject_key_id;
    id.map(|id| keys::hex(&id)).ok_or_else(|| Failure::unexpected("a CA certificate has no key id"))
}

/// The key id of the issuing CA of a new certificate, judged with its whole chain.
pub(super) async fn issuer(dev: &Dev) -> Outcome<String> {
    let made = csr::like_ztunnel(None)?;
    let reply = Client::connect(dev).await?.issued(&Ask::new(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    let key_id = keys::facts(&reply[0])?.authority_key_id;
    key_id.map(|id| keys::hex(&id)).ok_or_else(|| Failure::unexpected("a leaf without the key id of its issuer"))
}

/// Waits until new certificates come from this CA: what is decided is in the journal first, and signs a moment later.
pub(super) async fn issues(dev: &Dev, ca: &OwnCa) -> Outcome {
    let expected = key_id(ca)?;
    eventually("a certificate of the new signer", SOON, async || (issuer(dev).await.ok()? == expected).then_some(()))
        .await
}

#[tokio::test]
async fn a_complete_set_of_either_form_signs_and_its_root_is_the_bundle() -> Outcome {
    let root = OwnCa::root("own root")?;
    let signer = root.certify("own signer")?;
    let deeper = signer.certify("own second signer")?;
    let mut long = istio_names(&deeper, &root);
    long[3].1 = format!("{}{}{}", deeper.certificate, signer.certificate, root.certificate);
    for (name, set, expected) in [
        ("Istio's names", istio_names(&signer, &root), &signer),
        ("a root that signs itself", istio_names(&root, &root), &root),
        ("two intermediates", long, &deeper),
        ("a tls secret", tls_secret(&signer, &root), &signer),
    ] {
        let (dev, _mount) = plugged(&set)?;
        let ca = dev.start_ca().await?;
        assert_eq!(issuer(&dev).await?, key_id(expected)?, "{name}");
        assert_eq!(keys::ids(&dev.text("root-cert.pem")?)?, [id(&root)?], "{name}");
        let state = now_at(&ca.admin()?).await?;
        assert_eq!((active_root(&state), root_ids(&state).len()), (id(&root)?, 1), "{name}");
        ensure(state.authorities.iter().any(|one| one.id == id(&root).unwrap() && one.pinned), || {
            format!("{state:?}")
        })?;
    }
    Ok(())
}

/// No authority must be made of these files, and it must be said why with this word.
fn refused(dev: &Dev, word: &str) -> Outcome {
    let output = tools::output(&mut dev.ca_command(&["init"])?)?;
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure(output.status.code() == Some(1) && told.contains(word), || {
        format!("not {word}: {}: {told}", output.status)
    })?;
    ensure(!told.contains("panicked") && !told.contains("PRIVATE KEY"), || told)?;
    ensure(!dev.path("signet.db").exists(), || "a database for nothing".to_owned())
}

#[test]
fn a_partial_set_is_refused_and_the_missing_file_is_named() -> Outcome {
    let root = OwnCa::root("own root")?;
    let signer = root.certify("own signer")?;
    for set in [istio_names(&signer, &root), tls_secret(&signer, &root)] {
        for missing in 0..set.len() {
            let mut partial = set.clone();
            let (name, _) = partial.remove(missing);
            let (dev, _mount) = plugged(&partial)?;
            refused(&dev, name)?;
        }
    }
    Ok(())
}

#[test]
fn a_set_that_does_not_fit_together_is_refused() -> Outcome {
    let (root, other) = (OwnCa::root("own root")?, OwnCa::root("other root")?);
    let signer = root.certify("own signer")?;
    let stranger = other.certify("other signer")?;
    let made = csr::by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "/CN=leaf", &[])?;
    let good = istio_names(&signer, &root);
    let with = |index: usize, text: &str| {
        let mut set = good.clone();
        text.clone_into(&mut set[index].1);
        set
    };
    for set in [
        // A key of another certificate, a signer of another root, another root.
        with(1, &stranger.key),
        with(0, &stranger.certificate),
        with(2, &other.certificate),
        // No certificate, no root, no key.
        with(0, &made.csr),
        with(2, ""),
        with(1, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ] {
        let (dev, _mount) = plugged(&set)?;
        refused(&dev, ".pem")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_new_signer_below_the_same_root_is_used_soon_and_changes_no_bundle() -> Outcome {
    let root = OwnCa::root("own root")?;
    let (first, second) = (root.certify("first")?, root.certify("second")?);
    let (dev, mut mount) = plugged(&istio_names(&first, &root))?;
    let ca = dev.start_ca().await?;
    assert_eq!(issuer(&dev).await?, key_id(&first)?);
    let admin = ca.admin()?;
    let before = now_at(&admin).await?.bundle_sequence;
    mount.swap(&istio_names(&second, &root))?;
    signs(&admin, &id(&second)?).await?;
    issues(&dev, &second).await?;
    assert_eq!(now_at(&admin).await?.bundle_sequence, before);
    // The other form is as good, without a restart.
    let third = root.certify("third")?;
    mount.swap(&tls_secret(&third, &root))?;
    signs(&admin, &id(&third)?).await?;
    issues(&dev, &third).await
}

/// Waits until this issuing CA signs.
pub(super) async fn signs(admin: &signet_tests::client::admin::Admin, issuing: &str) -> Outcome {
    let active = |rotation: &Rotation| active_issuers(rotation).any(|one| one.id == issuing).then_some(());
    until(admin, "the new signer", SOON, active).await
}

#[tokio::test]
async fn a_bad_set_that_appears_later_leaves_the_old_one_in_use_and_is_told() -> Outcome {
    let root = OwnCa::root("own root")?;
    let (first, second) = (root.certify("first")?, root.certify("second")?);
    let (dev, mut mount) = plugged(&istio_names(&first, &root))?;
    let mut ca = dev.start_ca().await?;
    let mut bad = istio_names(&second, &root);
    bad[1].1.clone_from(&first.key);
    let told = async |ca: &mut Ca| {
        ca.process
            .until("the bad set in the readiness", SOON, async || {
                let (status, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
                (status == 200 && body.contains("degraded") && body.contains("ca-key.pem")).then_some(())
            })
            .await
    };
    mount.swap(&bad)?;
    told(&mut ca).await?;
    assert_eq!(issuer(&dev).await?, key_id(&first)?);
    // Even no files at all cut nobody off.
    mount.swap(&Vec::new())?;
    assert_eq!(issuer(&dev).await?, key_id(&first)?);
    mount.swap(&istio_names(&second, &root))?;
    signs(&ca.admin()?, &id(&second)?).await?;
    ca.process
        .until("full readiness", SOON, async || {
            let (status, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
            (status == 200 && !body.contains("degraded")).then_some(())
        })
        .await?;
    issues(&dev, &second).await
}

#[tokio::test]
async fn the_key_of_the_files_is_in_no_log_answer_or_database() -> Outcome {
    let root = OwnCa::root("own root")?;
    let (dev, _mount) = plugged(&istio_names(&root.certify("signer")?, &root))?;
    let set = std::fs::read_to_string(dev.path("own-ca/ca-key.pem")).unwrap();
    let secret = set.lines().nth(1).unwrap().as_bytes().to_vec();
    let ca = dev.start_ca().await?;
    issuer(&dev).await?;
    settled(&ca.admin()?, 1).await?;
    for entry in std::fs::read_dir(dev.directory()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let content = std::fs::read(entry.path()).unwrap_or_default();
        let found = content.windows(secret.len()).any(|window| window == secret);
        ensure(!found, || format!("the key is in {}", entry.path().display()))?;
    }
    Ok(())
}
