//! `signet-ca init`: the first authority of a new installation, with the CA up or down.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;
use signet_core::rotation::Authorities;
use signet_runtime::output::Output;

use super::bundle::root_json;
use super::{ConfigFile, Failure, OutputArg, time_text};
use crate::app::{self, fingerprint};
use crate::config::Config;
use crate::operations::Operator;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The SHA-256 fingerprints of the roots in bundle_file that are given up; without, there may be none
    #[arg(long, value_name = "FINGERPRINT", num_args = 1.., value_parser = parse_fingerprint)]
    replacing: Vec<String>,
    /// Change nothing, and exit with 0, where there is an authority already
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    output: OutputArg,
}

/// With or without colons, as other tools print it.
fn parse_fingerprint(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let fits = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(digits) } else { Err("is not a SHA-256 fingerprint of 64 hexadecimal digits".to_owned()) }
}

pub(super) async fn run(args: &InitArgs) -> Result<(), Failure> {
    let config = args.file.load()?.config;
    let replacing: BTreeSet<String> = args.replacing.iter().cloned().collect();
    if args.if_absent && app::has_authority(&config).await.map_err(Failure::failed)? {
        let value = || json!({ "roots": [], "bundle_file": config.bundle_file });
        let text = || "there is an authority already; nothing was changed\n".to_owned();
        return Output::stdout(args.output.output).show(value, text).map_err(Failure::failed);
    }
    let made = init(&config, &replacing).await?;
    let path = config.bundle_file.as_deref();
    let value = || json!({ "roots": made.roots.iter().map(root_json).collect::<Vec<_>>(), "bundle_file": path });
    let shown = Output::stdout(args.output.output).show(value, || as_text(&made, path));
    shown.map_err(Failure::failed)
}

/// Makes the first authority on behalf of who has started this process.
pub(super) async fn init(config: &Config, replacing: &BTreeSet<String>) -> Result<Authorities, Failure> {
    app::init(config, &Operator::of_this_process(), replacing).await.map_err(Failure::failed)
}

fn as_text(made: &Authorities, path: Option<&Path>) -> String {
    let mut text = "the first authority is made\n".to_owned();
    for root in &made.roots {
        let until = time_text(root.not_after.unix_timestamp());
        text += &format!("root {}, {}, until {until}\n", root.id, root.state.as_str());
        text += &format!("  SHA-256 fingerprint {}\n", fingerprint(&root.certificate));
    }
    let show = "`signet-ca bundle show -o pem` prints the trust bundle";
    text + &match path {
        Some(path) => format!("{show}, and the CA keeps it in {} while it runs\n", path.display()),
        None => format!("{show}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_other_tools_print_them() {
        let plain = "0f".repeat(32);
        let colons = vec!["0F"; 32].join(":");
        for (text, expected) in [
            (plain.as_str(), Some(&plain)),
            (colons.as_str(), Some(&plain)),
            (&plain[2..], None),
            ("", None),
            (&"0g".repeat(32), None),
        ] {
            assert_eq!(parse_fingerprint(text).ok().as_ref(), expected, "{text}");
        }
    }
}
