//! Helm itself, and the chart.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

/// How long one command may take.
const WITHIN: Duration = Duration::from_secs(120);

/// The chart of this tree.
#[must_use]
pub fn chart() -> PathBuf {
    tools::source_root().join("deploy/helm/signet")
}

/// Helm with these arguments and, one of each, these values: whether it succeeds, and what it prints.
///
/// # Errors
/// [`Failure`] when it cannot be run.
pub fn helm(arguments: &[&str], values: &[Value]) -> Outcome<(bool, String)> {
    let mut command = Command::new(tools::helm()?);
    command.args(arguments);
    let directory = tempfile::tempdir().map_err(Failure::io("make a directory"))?;
    for (index, values) in values.iter().enumerate() {
        let file = directory.path().join(format!("{index}.json"));
        std::fs::write(&file, values.to_string()).map_err(Failure::io("write values"))?;
        command.arg("--values").arg(file);
    }
    let output = tools::output_within(&mut command, WITHIN)?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text.into_owned()))
}

/// The same where it must succeed; gives what it prints.
///
/// # Errors
/// [`Failure`] with what it says.
pub fn done(arguments: &[&str], values: &[Value]) -> Outcome<String> {
    let (good, text) = helm(arguments, values)?;
    ensure(good, || format!("helm {arguments:?}: {text}")).map(|()| text)
}
