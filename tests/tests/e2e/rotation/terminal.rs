//! `authority rotate --wait` in a terminal: one picture that is drawn anew, and the same end as in a pipe.

use std::process::Command;

use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::rotation::ROTATION;
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::{installation, prepared, settled};

#[tokio::test]
async fn progress_is_a_picture_with_a_bar_and_the_names_of_those_who_lag() -> Outcome {
    let dev = installation("30s", &["client=default/client"])?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let mut agent = dev.start_agent("client").await?;
    settled(&admin, 1).await?;
    // Its certificate ends before long, so that the rotation goes on without it.
    agent.process.kill();
    let rotate = ca.command(&["authority", "rotate", "--wait"], &[])?;
    let line: Vec<String> = std::iter::once(rotate.get_program())
        .chain(rotate.get_args())
        .map(|part| part.to_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| Failure::unexpected("a path that is no text"))?;
    let seen = dev.path("terminal");
    // `script` gives the command a terminal of its own and keeps what it draws.
    let mut script = Command::new(tools::system("script", "--version", "bsdutils")?);
    script.args(["--quiet", "--return", "--command", &line.join(" ")]).arg(&seen).env("TERM", "xterm");
    let mut beside = Beside::start(script, Echo::Kept)?;
    let new = prepared(&admin).await?;
    let status = beside.wait(ROTATION).await?;
    let drawn = std::fs::read_to_string(&seen).map_err(Failure::io("read what was drawn"))?;
    ensure(status.success(), || format!("{status}: {drawn}"))?;
    for part in ["\u{1b}[", &new[..8], CLIENT_ID, "propagate"] {
        ensure(drawn.contains(part), || format!("{part:?} is not in the picture: {drawn}"))?;
    }
    ensure(drawn.contains('\u{2588}') || drawn.contains('#') || drawn.contains('='), || format!("no bar: {drawn}"))
}
