//! The `signet-ca` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    signet_ca::cli::main()
}
