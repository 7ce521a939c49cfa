//! Certificates without a well-defined end (RFC 5280 section 4.1.2.5: 99991231235959Z), and those that began long ago: no
//! sum with their times overflows, so that the former work as any other, and the latter are refused in words.

use signet_tests::client::admin::root_ids;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::tools;

use super::files::{id, issues, plugged};
use super::{SOON, active};

const NEVER: &str = "99991231235959Z";
/// The first second that the short form of times in X.509 can say, and the first year that there is. Rustls refuses what
/// began before 1970.
const LONG_AGO: [&str; 2] = ["19500101000000Z", "00010101000000Z"];

#[tokio::test]
async fn an_authority_without_an_end_is_used_listed_and_rotated() -> Outcome {
    let mut own = Vec::new();
    for start in ["19700101000000Z", "20200101000000Z"] {
        let root = OwnCa::spanning("endless root", None, (start, NEVER))?;
        let signer = OwnCa::spanning("endless signer", Some(&root), (start, NEVER))?;
        own.push((root, signer));
    }
    let [(root, signer), (next_root, next_signer)] = &own[..] else { unreachable!("two") };
    let (dev, mut mount) = plugged(&istio_names(signer, root))?;
    let mut ca = dev.start_ca().await?;
    issues(&dev, signer).await?;
    for args in [&["status"][..], &["authority", "list"], &["holders", "list"], &["bundle", "show"], &["audit", "list"]]
    {
        tools::run(&mut ca.command(args, &[])?)?;
    }
    let shown = tools::run(&mut ca.command(&["authority", "list"], &["--output", "json"])?)?;
    ensure(shown.contains("9999-12-31T23:59:59Z") || shown.contains("253402300799"), || shown.clone())?;
    let agents = [dev.start_agent("client").await?, dev.start_agent("server").await?];
    for agent in &agents {
        ensure(agent.identity().await?.serial.len() > 8, || "no certificate".to_owned())?;
    }

    // Another root that the operator brings is followed, without a holder that lacks it.
    let admin = ca.admin()?;
    let mut both = istio_names(signer, root);
    both[2].1 = format!("{}{}", root.certificate, next_root.certificate);
    mount.swap(&both)?;
    let published = async || (root_ids(&admin.rotation().await.ok()?).len() == 2).then_some(());
    eventually("both roots in the bundle", SOON, published).await?;
    let mut next = istio_names(next_signer, next_root);
    next[2].1.clone_from(&both[2].1);
    mount.swap(&next)?;
    active(&admin, &id(next_root)?).await?;
    issues(&dev, next_signer).await?;

    // A start with all that in the journal.
    let status = ca.process.stop().await?;
    ensure(status.success() && !ca.process.log().contains("panic"), || ca.process.log())?;
    let ca = dev.start_ca().await?;
    issues(&dev, next_signer).await?;
    for agent in agents {
        ensure(!agent.process.log().contains("panic"), || agent.process.log())?;
    }
    drop(ca);
    Ok(())
}

#[tokio::test]
async fn an_authority_that_began_before_clients_can_read_is_refused_with_that_reason() -> Outcome {
    for start in LONG_AGO {
        let root = OwnCa::spanning("old root", None, (start, NEVER))?;
        let signer = OwnCa::spanning("old signer", Some(&root), (start, NEVER))?;
        let (dev, _mount) = plugged(&istio_names(&signer, &root))?;
        let refused = match dev.start_ca().await {
            Ok(_) => "taken".to_owned(),
            Err(failure) => failure.to_string(),
        };
        ensure(refused.contains("`CN=old signer` begins before 1970") && !refused.contains("panic"), || {
            refused.clone()
        })?;
    }
    Ok(())
}
