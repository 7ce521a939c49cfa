//! The `signet-agent` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    signet_agent::cli::main()
}
