//! `signet-ca certificate revoke`: puts one certificate on the revocation list, or takes it off.

use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::certificate::Serial;
use signet_core::revocation::RevocationReason;
use signet_proto::admin::v1alpha1::RevokeCertificateRequest;
use signet_runtime::output::{Output, OutputFormat};

use super::admin_client::{AdminArgs, CHANGE, failure, within};
use super::{Failure, OutputArg, printable, time_text};

#[derive(Debug, Subcommand)]
pub(super) enum CertificateCommand {
    /// Put a certificate on the revocation list that goes to all proxies, so that its agent renews; or take it off
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The serial number (32 hexadecimal digits, with or without colons)
    #[arg(long, value_name = "HEX", value_parser = serial)]
    serial: Serial,
    /// Why
    #[arg(long, required_unless_present = "clear", value_parser = reasons())]
    reason: Option<String>,
    /// Take it off the list instead
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

fn serial(text: &str) -> Result<Serial, &'static str> {
    Serial::parse(text).ok_or("not 32 hexadecimal digits")
}

/// Those that fit a leaf.
fn reasons() -> clap::builder::PossibleValuesParser {
    let fitting = RevocationReason::ALL.into_iter().filter(|reason| *reason != RevocationReason::CaCompromise);
    clap::builder::PossibleValuesParser::new(fitting.map(RevocationReason::as_str))
}

pub(super) async fn run(command: &CertificateCommand) -> Result<(), Failure> {
    let CertificateCommand::Revoke(args) = command;
    let mut client = args.admin.connect().await?;
    let request = RevokeCertificateRequest {
        serial: args.serial.to_string(),
        reason: args.reason.clone().unwrap_or_default(),
        clear: args.clear,
    };
    let answer = within(CHANGE, client.service.revoke_certificate(request)).await;
    let revoked = answer.map_err(|status| failure(&status))?;
    let mut out = Output::stdout(args.output.output);
    let shown = match args.output.output {
        OutputFormat::Json => out.json(&json!({
            "serial": revoked.serial, "spiffe_id": revoked.spiffe_id, "not_after": time_text(revoked.not_after),
            "revoked": !args.clear, "revoked_certificates": revoked.revoked,
        })),
        OutputFormat::Table => out.line(&format!(
            "{} of {}, which ends at {}, is {} the revocation list; certificates on such lists now: {}",
            printable(&revoked.serial),
            printable(&revoked.spiffe_id),
            time_text(revoked.not_after),
            if args.clear { "off" } else { "on" },
            revoked.revoked,
        )),
    };
    shown.map_err(Failure::failed)
}
