//! The `signet-ca` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// An issuance makes some hundred short-lived allocations on one worker and frees some on another; that cost a seventh of
/// its CPU.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    signet_ca::cli::main()
}
