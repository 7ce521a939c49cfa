//! `signet-ca certificate`: `revoke` puts one certificate on the revocation list, or takes it off; the others are questions.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::certificate::Serial;
use signet_proto::admin::v1alpha1::{RevocationReason, RevokeCertificateRequest, RevokeCertificateResponse};
use signet_runtime::output::Output;

use super::admin_client::{AdminArgs, CHANGE, failed_change, within};
use super::{Failure, OutputArg, certificate_list, describe, printable};

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made in the life of the process")]
pub(super) enum CertificateCommand {
    /// List certificates that are valid now, newest first
    List(certificate_list::ListArgs),
    /// Show all that is on record of one certificate, whether it was renewed, and whether it is revoked
    Show(certificate_list::ShowArgs),
    /// Put a certificate on the revocation list that goes to all proxies, so that its agent renews; or take it off
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The serial number (32 to 40 hexadecimal digits, with or without colons)
    #[arg(long, value_name = "HEX", value_parser = serial)]
    serial: Serial,
    /// Why
    #[arg(long, required_unless_present = "clear", value_parser = reason())]
    reason: Option<RevocationReason>,
    /// Take it off the list instead
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

fn serial(text: &str) -> Result<Serial, &'static str> {
    Serial::parse(text)
        .ok_or("not 32 to 40 hexadecimal digits; `audit list` and `holders list` show whole ones with `-o wide`")
}

/// Those that fit a leaf.
const REASONS: [(&str, RevocationReason); 5] = [
    ("unspecified", RevocationReason::Unspecified),
    ("key_compromise", RevocationReason::KeyCompromise),
    ("affiliation_changed", RevocationReason::AffiliationChanged),
    ("superseded", RevocationReason::Superseded),
    ("cessation_of_operation", RevocationReason::CessationOfOperation),
];

fn reason() -> impl TypedValueParser<Value = RevocationReason> {
    let find = |name: String| REASONS.into_iter().find(|(known, _)| *known == name);
    PossibleValuesParser::new(REASONS.map(|(name, _)| name))
        .try_map(move |name| find(name).map(|(_, reason)| reason).ok_or("not one of the possible values"))
}

pub(super) async fn run(command: &CertificateCommand) -> Result<(), Failure> {
    match command {
        CertificateCommand::List(args) => certificate_list::list(args).await,
        CertificateCommand::Show(args) => certificate_list::show(args).await,
        CertificateCommand::Revoke(args) => revoke(args).await,
    }
}

async fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let mut client = args.admin.connect().await?;
    let request = RevokeCertificateRequest {
        serial: args.serial.to_string(),
        reason: args.reason.map(Into::into),
        clear: args.clear,
    };
    let answer = within(CHANGE, client.service.revoke_certificate(request)).await;
    let revoked = answer.map_err(|status| failed_change(&status))?;
    let value = || {
        json!({
            "serial": revoked.serial, "spiffe_id": whose(&revoked),
            "not_after": revoked.not_after.as_ref().map(describe::time),
            "revoked": !args.clear, "awaited": revoked.awaited, "revoked_certificates": revoked.revoked,
        })
    };
    let text = || {
        format!(
            "{} of {}, which ends at {}, is {}; certificates on such lists now: {}\n",
            printable(&revoked.serial),
            whose(&revoked).map_or_else(|| "an issuing CA".to_owned(), printable),
            describe::time_or_dash(revoked.not_after.as_ref()),
            match (args.clear, revoked.awaited) {
                (true, _) => "off the revocation list",
                (false, false) => "on the revocation list",
                (false, true) => "on the revocation list once the backend has revoked it, see `status`",
            },
            revoked.revoked,
        )
    };
    let shown = Output::stdout(args.output.output).show(value, text);
    shown.map_err(Failure::failed)
}

/// Whose certificate it was; an issuing CA has no SPIFFE ID.
fn whose(revoked: &RevokeCertificateResponse) -> Option<&str> {
    Some(revoked.spiffe_id.as_str()).filter(|id| !id.is_empty())
}
