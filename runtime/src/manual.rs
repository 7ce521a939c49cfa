//! What a program says of itself outside of itself: what shells complete, and manual pages. Both are made from the
//! definition of its command line, by two commands that `make install` runs.

use std::{fs, path::PathBuf};

use clap::{Command, Subcommand};
use clap_complete::Shell;

use crate::{
    command::Failure,
    output::{Output, OutputFormat},
};

/// The two commands, which no help shows.
#[derive(Debug, Subcommand)]
pub enum ManualCommand {
    /// Print what a shell completes the commands and options with
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages: one for the program and one for each of its commands
    #[command(hide = true)]
    Man {
        /// The directory to write them to, which is made when missing
        dir: PathBuf,
    },
}

impl ManualCommand {
    /// Does it for the program whose command line is `program`.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the pages cannot be written.
    pub fn run(&self, mut program: Command) -> Result<(), Failure> {
        match self {
            Self::Completions { shell } => {
                let (name, mut script) = (program.get_name().to_owned(), Vec::new());
                clap_complete::generate(*shell, &mut program, name, &mut script);
                let script = String::from_utf8_lossy(&script);
                Output::stdout(OutputFormat::Table).raw(&script).map_err(Failure::failed)
            }
            Self::Man { dir } => {
                let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(program, dir));
                written.map_err(|error| {
                    Failure::Failed(format!("cannot write manual pages to {}: {error}", dir.display()))
                })
            }
        }
    }
}
