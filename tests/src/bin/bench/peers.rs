//! The two other signers, measured by `tests/bench/peers.sh` right after ours.

use std::process::{Command, Stdio};

use signet_tests::failure::{Failure, Outcome};
use signet_tests::tools::{self, say};

use crate::options::Options;

/// Certificates per second; nothing where a tool is not installed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peers {
    /// OpenBao's `pki/sign`.
    pub(crate) openbao: Option<f64>,
    /// `cfssl serve`.
    pub(crate) cfssl: Option<f64>,
}

/// Runs the script; what is missing is said on standard error.
pub(crate) fn measure(options: &Options) -> Outcome<Peers> {
    say("the two peers, over plain HTTP");
    let script = tools::source_root().join("tests/bench/peers.sh");
    let mut path = tools::target_dir().join("venv/bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = Command::new(&script)
        .args([options.duration.as_secs().to_string(), options.connections.to_string()])
        .env("PATH", path)
        .stderr(Stdio::inherit())
        .output()
        .map_err(Failure::io(format!("run {}", script.display())))?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let rates: serde_json::Value =
        serde_json::from_str(&line).map_err(Failure::while_doing("read the peers' rates"))?;
    let rate = |name: &str| rates.get(name).and_then(serde_json::Value::as_f64);
    Ok(Peers { openbao: rate("openbao_per_second"), cfssl: rate("cfssl_per_second") })
}
