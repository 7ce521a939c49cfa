//! `storage` that is not the one that was meant: mistyped, or on a volume that is not mounted. Nothing is made there, and
//! what was published before is left alone.

use std::path::Path;

use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::plugged::{Mount, OwnCa, istio_names};
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;

use super::{WORDS, ask, fingerprint, init, mistype, plain, recorded, refused, roots, waits, who};

#[tokio::test]
async fn a_mistyped_storage_makes_no_root_and_leaves_the_published_ones_alone() -> Outcome {
    let dev = Dev::on_file()?;
    let right = format!("sqlite://{}", dev.path("signet.db").display());
    drop(dev.start_ca().await?);
    let (published, root) = (dev.text("root-cert.pem")?, roots(&dev)?);
    mistype(&dev)?;
    let (print, file) = (plain(&fingerprint(&root)?), dev.path("root-cert.pem").display().to_string());
    let parts = [&print, "O=cluster.local", "`storage` is mistyped", "--replacing", &file];
    // Nothing is made where nothing should be.
    refused(&init(&dev, &[])?, &parts)?;
    ensure(!dev.path("other/signet.db").exists(), || "a database for nothing".to_owned())?;
    let mut ca = Ca::start(&dev)?;
    waits(&dev, &mut ca).await?;
    let errors = ca.process.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "{}", ca.process.log());
    let refusal = ca.operator().refused(&["authority", "rotate"])?;
    ensure(WORDS.iter().all(|words| refusal.contains(words)), || refusal.clone())?;
    // Also with the CA up, and then it is on record who has tried.
    refused(&init(&dev, &[])?, &parts)?;
    let tried = recorded(&dev, "refused")?;
    ensure(tried.len() == 1 && tried[0].to_string().contains(&who()), || format!("{tried:?}"))?;
    waits(&dev, &mut ca).await?;
    drop(ca);
    refused(&ask(&dev, &["bundle", "show"])?, &WORDS)?;
    assert_eq!(dev.text("root-cert.pem")?, published);
    // With the right one everything is as before.
    dev.set_ca("storage", right)?;
    let _ca = dev.start_ca().await?;
    assert_eq!((roots(&dev)?, dev.text("root-cert.pem")?), (root, published));
    Ok(())
}

/// An installation with its storage on a volume, which was mounted last time.
fn on_a_volume() -> Outcome<Dev> {
    let dev = Dev::on_file()?;
    std::fs::create_dir(dev.path("disk")).unwrap();
    rename(&dev.path("signet.db"), &dev.path("disk/signet.db"));
    dev.set_ca("storage", format!("sqlite://{}", dev.path("volume/signet.db").display()))?;
    Ok(dev)
}

fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

#[tokio::test]
async fn a_mount_point_that_is_not_there_is_not_made() -> Outcome {
    let dev = on_a_volume()?;
    let published = dev.text("root-cert.pem")?;
    // Also when everything is given up that is known.
    let print = fingerprint(&published)?;
    for args in [&["serve"][..], &["check"], &["init"], &["init", "--replacing", &print]] {
        let output = ask(&dev, args)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let why =
            if args == ["init"] { "names roots that are not in this storage" } else { "does not exist; create it" };
        ensure(!output.status.success() && text.contains(why), || format!("{args:?}: {text}"))?;
        ensure(!dev.path("volume").exists(), || format!("{args:?} made the mount point"))?;
    }
    assert_eq!(dev.text("root-cert.pem")?, published);
    Ok(())
}

/// Whatever the configuration of before may still say, it says nothing that makes a root.
#[tokio::test]
async fn on_an_empty_mount_point_nothing_is_made_whatever_the_configuration_says() -> Outcome {
    let root = OwnCa::root("root")?;
    let signer = root.certify("signer")?;
    for leftover in ["as it was", "roots that replace themselves at once", "the operator's files", "no bundle_file"] {
        let dev = on_a_volume()?;
        let published = dev.text("root-cert.pem")?;
        let before = std::fs::read(dev.path("signet-ca.yaml")).unwrap();
        let mut _mounted = None;
        match leftover {
            "roots that replace themselves at once" => {
                dev.set_ca(config::AUTOMATIC, true)?;
                dev.set_ca(config::PREPARE_AT, 10)?;
                dev.set_ca(config::ACTIVATE_AT, 11)?;
            }
            "the operator's files" => {
                let mount = Mount::new(&dev.path("own-ca"), &istio_names(&signer, &root))?;
                dev.set_ca(config::BACKEND, config::FILES)?;
                dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
                _mounted = Some(mount);
            }
            "no bundle_file" => dev.set_ca(config::BUNDLE_FILE, serde_json::Value::Null)?,
            _ => {}
        }
        std::fs::create_dir(dev.path("volume")).unwrap();
        let mut ca = Ca::start(&dev)?;
        waits(&dev, &mut ca).await?;
        if leftover != "no bundle_file" {
            refused(&init(&dev, &[])?, &[&plain(&fingerprint(&published)?)])?;
        }
        ensure(ca.process.stop().await?.success(), || ca.process.log())?;
        refused(&ask(&dev, &["bundle", "show"])?, &WORDS)?;
        assert_eq!(dev.text("root-cert.pem")?, published, "{leftover}");
        // Mounted again, it goes on with what is there.
        rename(&dev.path("volume"), &dev.path("empty"));
        rename(&dev.path("disk"), &dev.path("volume"));
        std::fs::write(dev.path("signet-ca.yaml"), before).unwrap();
        let _ca = dev.start_ca().await?;
        assert_eq!((roots(&dev)?, dev.text("root-cert.pem")?), (published.clone(), published), "{leftover}");
    }
    Ok(())
}

#[tokio::test]
async fn neither_a_backup_nor_another_sealing_key_is_made_of_a_storage_without_an_authority() -> Outcome {
    let dev = Dev::on_file()?;
    mistype(&dev)?;
    let mut ca = Ca::start(&dev)?;
    waits(&dev, &mut ca).await?;
    let (keys, copy, new) = (dev.text("key-encryption.key")?, dev.path("copy.db"), dev.path("new.key"));
    tools::run(std::process::Command::new(tools::openssl()?).args(["rand", "-base64", "-out"]).arg(&new).arg("32"))?;
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (copy, new) = (copy.display().to_string(), new.display().to_string());
    for args in [&["backup", &copy][..], &["rekey"], &["rekey", "--new-key-file", &new]] {
        refused(&ask(&dev, args)?, &WORDS)?;
    }
    ensure(!Path::new(&copy).exists(), || "a copy of nothing".to_owned())?;
    assert_eq!(dev.text("key-encryption.key")?, keys);
    // As soon as there is one, both are.
    tools::run(&mut dev.ca_command(&["init", "--replacing", &fingerprint(&dev.text("root-cert.pem")?)?])?)?;
    tools::run(&mut dev.ca_command(&["backup", &copy])?)?;
    tools::run(&mut dev.ca_command(&["rekey", "--new-key-file", &new])?)?;
    ca.ready().await
}
