//! A checkpoint outside of the storage that is gone.

use std::time::Duration;

use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::process::eventually;
use signet_tests::tools;

use super::facts;
use super::record::{covered, record_is, verify};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_checkpoint_outside_that_is_gone_is_told_until_an_operator_writes_it_anew() -> Outcome {
    let dev = Dev::on_file()?;
    let outside = dev.path("outside/record.checkpoint");
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 2).await?;
    covered(&ca).await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    std::fs::copy(dev.path("signet.db"), dev.path("copy.db")).unwrap();
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 5).await?;
    covered(&ca).await?;
    ensure(outside.is_file(), || "`dev init` keeps a checkpoint outside".to_owned())?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;

    // Somebody restores an older storage, and removes what would find that.
    std::fs::copy(dev.path("copy.db"), dev.path("signet.db")).unwrap();
    std::fs::remove_file(&outside).unwrap();
    let before = verify(&dev, &[])?.1["checkpoint"]["size"].clone();
    let mut ca = dev.start_ca().await?;
    let told = record_is(&mut ca, "degraded").await?;
    for words in ["record.checkpoint is not there", "are kept outside of it", "audit checkpoint --write-file"] {
        ensure(told.contains(words), || format!("{words}: {told}"))?;
    }
    facts::issue(&dev, 3).await?;
    assert_eq!(ca.ask(&["audit", "verify"])?["checkpoint"]["size"], before, "nothing is signed, and all is on record");
    ensure(!outside.exists(), || "nothing is written".to_owned())?;

    // An operator who knows why says so, which is on record.
    let written = ca.ask(&["audit", "checkpoint", "--write-file"])?;
    assert_eq!(written["size"], before);
    covered(&ca).await?;
    eventually("a record that is signed", WITHIN, async || record_is(&mut ca, "ready").await.ok()).await?;
    let event = ca.newest(&["--reason", "audit checkpoint"])?;
    ensure(event["detail"].as_str().is_some_and(|text| text.contains("record.checkpoint in the place of")), || {
        event.to_string()
    })?;
    let output = tools::output(&mut ca.command(&["audit", "checkpoint", "--write-file"], &[])?)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(!output.status.success() && said.contains("is there, and stays"), || said)
}
