//! Clocks that jump: nothing is activated or removed because a wrong clock makes something look ended.

use std::path::Path;
use std::time::Duration;

use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Ca;
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::stage::SERVER_ID;

use super::super::clock::{at, follow};
use super::{SOON, active, holder, installation, now_at, prepared, settled, streaming_holder};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// Replaces the file as a whole, since it is read at any time.
fn set_clock(file: &Path, offset: &str) -> Outcome {
    let new = file.with_extension("new");
    std::fs::write(&new, offset).and_then(|()| std::fs::rename(&new, file)).map_err(Failure::io("set a clock"))
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_for_a_moment_neither_activates_nor_removes() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::ISSUING_TTL, "30d")?;
    dev.set_ca("serving.ttl", "24h")?;
    let offset = dev.path("clock");
    set_clock(&offset, "+0")?;
    let mut ca = Ca::start_command(&dev, follow(dev.ca_command(&["serve"])?, &offset)?)?;
    ca.ready().await?;
    let admin = ca.admin()?;
    // A holder that never acknowledges.
    streaming_holder(&dev, "server").await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    let before = now_at(&admin).await?;
    let old = active_root(&before);
    // Two hours ahead its certificate seems to have ended; a few seconds later the clock is right again.
    set_clock(&offset, "+2h")?;
    for _ in 0..40 {
        if let Ok(rotation) = admin.rotation().await {
            ensure(active_root(&rotation) == old, || "activated by a clock that had jumped".to_owned())?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    set_clock(&offset, "+0")?;
    let back = async || {
        let rotation = admin.rotation().await.ok()?;
        let coverage = rotation.coverage.clone()?;
        (coverage.holders == 1 && coverage.covered == 0).then_some(rotation)
    };
    let after = eventually("the holder to be counted again", SOON, back).await?;
    assert_eq!((active_root(&after), root_ids(&after).len()), (old, 2));
    ensure(holder(&admin, SERVER_ID).await?.bundle_sequence < after.bundle_sequence, || "it is covered".to_owned())?;
    ensure(root_ids(&after).contains(&new), || "the prepared root is gone".to_owned())
}

#[tokio::test]
async fn a_rotation_that_was_begun_with_a_clock_ahead_ends_with_a_right_one() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let _made = {
        let ca = dev.start_ca().await?;
        settled(&ca.admin()?, 0).await?
    };
    let mut ahead = Ca::start_command(&dev, at(dev.ca_command(&["serve"])?, "+10m")?)?;
    ahead.ready().await?;
    ahead.operator().rotate()?;
    let new = prepared(&ahead.admin()?).await?;
    ahead.process.kill();
    drop(ahead);
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    ensure(root_ids(&now_at(&admin).await?).contains(&new), || "the prepared root is gone".to_owned())?;
    // Its certificate begins in ten minutes, less the backdate: an operator can wait, or take it back. And since the
    // newest record is from the future, one of the clocks was wrong: the CA waits until it is told that this one is right.
    ca.operator().rollback()?;
    ca.operator().rotate()?;
    let newer = prepared(&admin).await?;
    let refused = ca.operator().refused(&["authority", "activate", &newer])?;
    ensure(refused.contains("clock"), || refused.clone())?;
    ca.operator().done(&["authority", "activate", &newer, "--force", "--reason", "the clock is right now"])?;
    active(&admin, &newer).await
}
