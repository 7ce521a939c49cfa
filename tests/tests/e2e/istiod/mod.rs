//! A mesh whose CA was istiod: its CA is taken over, and running workloads move to this CA without a failed request.

mod import;
mod moving;
mod pages;

use std::path::Path;
use std::time::Duration;

use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::plugged::Set;

/// Anything but the end of a certificate.
const SOON: Duration = Duration::from_secs(90);

/// Writes files into a directory, which is made if it is missing.
fn write(directory: &Path, files: &Set) -> Outcome {
    std::fs::create_dir_all(directory).map_err(Failure::io("make a directory"))?;
    for (name, content) in files {
        std::fs::write(directory.join(name), content).map_err(Failure::io("write a file"))?;
    }
    Ok(())
}
