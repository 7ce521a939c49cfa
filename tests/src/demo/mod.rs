//! What a demo needs beside a stage: an observer of certificates, a narrator, a summary for programs, and an end.

pub mod audit;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod narrator;
pub mod observer;
pub mod rotation;
pub mod summary;
pub mod vault;

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Outcome};
use crate::tools;

/// Writes what a demo showed, for programs, to `target/demo/NAME.json`; gives its path.
///
/// # Errors
/// [`Failure::Io`].
pub fn keep(name: &str, json: &str) -> Outcome<PathBuf> {
    let directory = tools::target_dir().join("demo");
    std::fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    let path = directory.join(format!("{name}.json"));
    std::fs::write(&path, format!("{json}\n")).map_err(Failure::io(format!("write {}", path.display())))?;
    Ok(path)
}

/// Runs a demo until it is over or somebody interrupts it. Either way everything that it started is stopped, since its
/// owner is dropped. A failure is told on standard error.
pub async fn until_interrupted(name: &str, demo: impl Future<Output = Outcome>) -> ExitCode {
    let interrupted = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return std::future::pending().await;
        };
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let result = tokio::select! {
        result = Box::pin(demo) => result,
        () = interrupted => Err(Failure::unexpected("interrupted; every process of the demo has been stopped")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tools::complain(&format!("{name}: {failure}"));
            ExitCode::FAILURE
        }
    }
}
