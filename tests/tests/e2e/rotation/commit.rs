//! A CA that is killed in the middle of an operator's command has made the change with its record, or not at all.

use std::time::Duration;

use signet_proto::admin::v1alpha1::AuthorityState;
use signet_tests::client::admin::roots_in;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Ca;
use signet_tests::harness::beside::{Beside, Echo};

use super::{SOON, installation, now_at};

/// The commits of one command, before and after this was one: each is a moment to be killed at.
const MOMENTS: usize = 6;

fn done(ca: &Ca, kind: &str) -> Outcome<usize> {
    Ok(ca.audit(&["--outcome", "done"])?.iter().filter(|event| event["kind"] == kind).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_cut_off_at_any_commit_has_its_record_or_has_changed_nothing() -> Outcome {
    let dev = installation("1h", &["client=default/client"])?;
    let writes = dev.watch_writes()?;
    let mut ca = dev.start_ca().await?;
    let mut killed = 0;
    for round in 0..2 * MOMENTS {
        let prepared = !roots_in(&now_at(&ca.admin()?).await?, AuthorityState::Prepared).is_empty();
        let command = if prepared { "rollback" } else { "prepare" };
        let mut command = Beside::start(ca.command(&["authority", command], &[])?, Echo::Kept)?;
        if command.until_written(&writes, 1 + round / 2, SOON).await? {
            killed += 1;
        }
        ca.process.kill();
        let ended = tokio::time::timeout(Duration::from_secs(30), command.wait(SOON)).await;
        ended.map_err(Failure::while_doing("wait for the command"))??;
        ca = dev.start_ca().await?;
        // `init`, and one for each prepare and rollback that has happened.
        let sequence = now_at(&ca.admin()?).await?.bundle_sequence;
        let found = (done(&ca, "authority")?, done(&ca, "admin")?);
        let changes = usize::try_from(sequence).unwrap_or_default();
        ensure(found == (changes, changes), || {
            format!("round {round}: {changes} changes of the authorities, but {found:?} records of steps and commands")
        })?;
    }
    ensure(killed >= MOMENTS / 2, || format!("killed in the middle of {killed} commands only"))
}
