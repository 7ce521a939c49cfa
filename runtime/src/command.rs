//! How a command ends: what it says, and with which exit code.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, error::ErrorKind};
use tokio::time::{sleep, timeout};

use crate::{
    config::units::format_duration,
    output::{Width, error_chain},
    telemetry,
};

/// What the exit codes of both programs mean, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    refused or failed
  2    wrong usage or configuration
  3    not over in the time that was given (--timeout); what
       goes on elsewhere goes on
  130  interrupted (Ctrl-C)";

/// Between two attempts of a command that waits.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a command did not do what it was asked for; decides the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It was refused, or it failed: 1.
    Failed(String),
    /// The command line or the configuration is wrong: 2.
    Usage(String),
    /// It was not over in the time that was given: 3. What goes on elsewhere goes on.
    TimedOut(String),
    /// It was left with Ctrl-C: 130, as shells tell of a program that SIGINT has ended.
    Interrupted(String),
}

impl Failure {
    /// A failure with its causes.
    pub fn failed(error: impl Error) -> Self {
        Self::Failed(error_chain(&error))
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 3,
            Self::Interrupted(_) => 130,
        }
    }

    /// What is said.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Failed(text) | Self::Usage(text) | Self::TimedOut(text) | Self::Interrupted(text)) = self;
        text
    }
}

/// The most columns that help takes.
const HELP: usize = 100;

/// Reads the command line of the process. Help fits the terminal, as tables do.
///
/// # Errors
/// [`clap::Error`], which may be help that was asked for.
pub fn parse<P: Parser>() -> Result<P, clap::Error> {
    let command = || match Width::of_stdout() {
        Width::Columns(columns) => P::command().term_width(columns.min(HELP)),
        Width::Unlimited => P::command(),
    };
    let mut matches = command().try_get_matches()?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))
}

/// Ends `program`: says on standard error why it failed, after the name of the program, and gives the exit code.
pub fn end(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => {
            telemetry::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            telemetry::last_words(&format!("{program}: {}", failure.text()));
            ExitCode::from(failure.code())
        }
    }
}

/// Ends a program whose command line is wrong, with what the reader of command lines says of it.
#[must_use]
pub fn misused(program: &str, error: &clap::Error) -> ExitCode {
    end(program, Err(Failure::Usage(misuse(error))))
}

/// What is wrong with a command line, in words that may follow the name of the program.
fn misuse(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // It begins with its own word for that, or is the help alone.
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            format!("a command is missing; there are these:\n\n{text}")
        }
        _ => text.to_owned(),
    }
}

/// Several mistakes, one on a line, each of which begins with the name of the program: whoever looks for those finds all.
#[must_use]
pub fn each_named<'m>(program: &str, mistakes: impl IntoIterator<Item = &'m str>) -> String {
    mistakes.into_iter().collect::<Vec<_>>().join(&format!("\n{program}: "))
}

/// Repeats what fails, until it succeeds.
///
/// # Errors
/// [`Failure::TimedOut`] with what the last attempt said when it has not succeeded after `within`; what is wrong with the
/// command line or the configuration at once.
pub async fn wait_for<T>(within: Duration, mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Err(Failure::Failed(text)) => last = Some(text),
                other => return other,
            }
            sleep(PAUSE).await;
        }
    };
    match timeout(within, trying).await {
        Ok(done) => done,
        Err(_) => {
            let last = last.unwrap_or_else(|| "no answer yet".to_owned());
            Err(Failure::TimedOut(format!("not within {}: {last}", format_duration(within))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_an_exit_code_of_its_own() {
        let text = || "why".to_owned();
        let all =
            [Failure::Failed(text()), Failure::Usage(text()), Failure::TimedOut(text()), Failure::Interrupted(text())];
        assert_eq!(all.each_ref().map(Failure::code), [1, 2, 3, 130]);
        assert!(all.iter().all(|failure| failure.text() == "why"));
    }

    #[test]
    fn a_wrong_command_line_begins_as_all_errors_do() {
        let program = || clap::Command::new("p").subcommand(clap::Command::new("go")).arg_required_else_help(true);
        for (line, begins) in [(&["p"][..], "a command is missing; there are these:"), (&["p", "--no"], "unexpected")] {
            let error = program().try_get_matches_from(line).map(drop).err();
            let text = error.as_ref().map(misuse).unwrap_or_default();
            assert!(text.starts_with(begins) && text.contains("Usage: p"), "{line:?}: {text}");
        }
        assert_eq!(each_named("p", ["a", "b"]), "a\np: b");
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_until_it_succeeds_the_time_is_over_or_trying_makes_no_sense() {
        let within = Duration::from_secs(60);
        let mut left = 3;
        let done = wait_for(within, async || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err(Failure::Failed("not yet".to_owned())) }
        });
        assert_eq!(done.await, Ok(7));
        let never: Result<(), Failure> = wait_for(within, async || Err(Failure::Failed("not yet".to_owned()))).await;
        assert_eq!(never, Err(Failure::TimedOut("not within 1m: not yet".to_owned())));
        let hangs: Result<(), Failure> = wait_for(within, async || std::future::pending().await).await;
        assert_eq!(hangs, Err(Failure::TimedOut("not within 1m: no answer yet".to_owned())));
        let mut calls = 0;
        let wrong: Result<(), Failure> = wait_for(within, async || {
            calls += 1;
            Err(Failure::Usage("no such file".to_owned()))
        })
        .await;
        assert_eq!((wrong, calls), (Err(Failure::Usage("no such file".to_owned())), 1));
    }
}
