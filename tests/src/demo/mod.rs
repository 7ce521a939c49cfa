//! What a demo needs beside a stage: an observer of certificates, a narrator, a summary for programs, and an end.

pub mod audit;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod narrator;
pub mod observer;
pub mod rotation;
pub mod summary;
pub mod vault;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Outcome};
use crate::tools;

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
