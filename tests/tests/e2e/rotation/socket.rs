//! The operators' socket: whoever gets to it must still be the CA's own user, or root.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::limits::may_mount;
use signet_tests::harness::process::eventually;
use signet_tests::harness::yaml;
use signet_tests::tools;

use super::{SOON, installation, now_at, settled};

/// Nobody.
const STRANGER: &str = "65534";

#[tokio::test]
async fn another_user_is_refused_by_its_uid_even_when_the_socket_is_open_to_it() -> Outcome {
    if !may_mount() {
        tools::complain("NOT RUN: only root can run a command as another user");
        return Ok(());
    }
    let dev = installation("1h", &["client=default/client"])?;
    let open = tempfile::Builder::new().prefix("signet-").tempdir_in("/tmp").unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Failure::io("open a path"))
    };
    mode(open.path(), 0o755)?;
    let socket = open.path().join("admin.sock");
    dev.set_ca("admin", format!("unix://{}", socket.display()))?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    settled(&admin, 0).await?;
    let before = now_at(&admin).await?;
    // The file's permissions are the first lock; this opens it, so that the second one is tried.
    let first_lock = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o007;
    ensure(first_lock == 0, || format!("the socket is open to everybody: {first_lock:o}"))?;
    mode(&socket, 0o666)?;
    // Where the stranger can read them.
    let (program, config) = (open.path().join("signet-ca"), open.path().join("signet-ca.yaml"));
    std::fs::copy(tools::own("signet-ca")?, &program).map_err(Failure::io("copy the program"))?;
    yaml::write(&config, &yaml::read(&dev.path("signet-ca.yaml"))?)?;
    mode(&program, 0o755)?;
    mode(&config, 0o644)?;
    let setpriv = tools::system("setpriv", "--version", "util-linux")?;
    for args in [
        &["authority", "list"][..],
        &["authority", "prepare"],
        &["authority", "rotate"],
        &["authority", "rollback"],
        &["holders", "list"],
        &["status"],
        &["certificate", "revoke", "--serial", "00000000000000000000000000000000", "--reason", "superseded"],
    ] {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"]).arg(&program).args(args);
        let output = tools::output(command.arg("--config").arg(&config))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(1), || format!("{args:?}: {} {text}", output.status))?;
        ensure(text.contains("user") || text.contains("uid") || text.contains("permission"), || text.clone())?;
    }
    let after = now_at(&admin).await?;
    assert_eq!((after.bundle_sequence, after.authorities.len()), (before.bundle_sequence, before.authorities.len()));
    let denied = ca.metrics().await?.sum("signet_ca_admin_denied_total", &["reason=\"other_user\""]);
    ensure(denied >= 7.0, || format!("{denied} calls were denied"))?;
    let said = format!("uid {STRANGER}: denied RevokeCertificate: ");
    let on_record = async || {
        let events = ca.audit(&["--outcome", "refused"]).ok()?;
        let is_it = |text: &str| text.starts_with(&said);
        events.iter().any(|event| event["detail"].as_str().is_some_and(is_it)).then_some(())
    };
    eventually("the denied call on record", SOON, on_record).await
}
