//! `signet-ca authority`: what operators can see of the authorities and do with them.

use clap::{Args, Subcommand};
use signet_proto::admin::v1alpha1::{
    ChangeAuthorityRequest, PrepareAuthorityRequest, RollbackAuthorityRequest, RotateAuthorityRequest, Rotation,
};
use signet_runtime::output::{Output, OutputFormat};

use super::admin_client::{AdminArgs, CHANGE, Client, failure, within};
use super::rotation_view::{rotation_json, rotation_text};
use super::wait::{Goal, WaitArgs, follow};
use super::{Failure, OutputArg, printable};

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// List roots and issuing CAs, who needs them, and where rotation stands
    List(ListArgs),
    /// Replace the root: prepare the next one, activate it when all holders know it, retire the old one when drained
    Rotate(RotateArgs),
    /// Make the next root and publish it; it signs nothing until it is activated
    Prepare(PlainArgs),
    /// Let a prepared root sign; refused as long as holders do not know it
    Activate(WatchedArgs),
    /// Take the last step back: drop a prepared root, or let the previous one sign again
    Rollback(PlainArgs),
    /// Declare a root compromised: another one takes its place, and agents renew
    Taint(WatchedArgs),
    /// Take a tainted root out of the trust bundle, or put an issuing CA on the revocation list of its root
    Revoke(NamedArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
pub(super) struct PlainArgs {
    /// Why; kept in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Replace only the issuing CA, below the same root and without a change of the trust bundle
    #[arg(long)]
    issuing: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The id of the authority, or the beginning of it
    id: String,
    /// Go on although holders would be left behind; needs --reason
    #[arg(long, requires = "reason")]
    force: bool,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(super) struct WatchedArgs {
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    named: NamedArgs,
}

pub(super) async fn run(command: &AuthorityCommand) -> Result<(), Failure> {
    match command {
        AuthorityCommand::List(args) => list(args).await,
        AuthorityCommand::Rotate(args) => rotate(args).await,
        AuthorityCommand::Prepare(args) => {
            let mut client = args.admin.connect().await?;
            let request = PrepareAuthorityRequest { reason: args.reason() };
            let answer = within(CHANGE, client.service.prepare_authority(request)).await;
            args.show(&answer.map_err(|status| failure(&status))?)
        }
        AuthorityCommand::Rollback(args) => {
            let mut client = args.admin.connect().await?;
            let request = RollbackAuthorityRequest { reason: args.reason() };
            let answer = within(CHANGE, client.service.rollback_authority(request)).await;
            args.show(&answer.map_err(|status| failure(&status))?)
        }
        AuthorityCommand::Activate(WatchedArgs { wait, named }) => {
            let mut client = named.plain.admin.connect().await?;
            let answer = within(CHANGE, client.service.activate_authority(named.request())).await;
            let rotation = answer.map_err(|status| failure(&status))?;
            let goal = Goal::Signs(named.full_id(&rotation));
            named.plain.show_or_follow(rotation, wait, Some(&goal), &mut client).await
        }
        AuthorityCommand::Taint(WatchedArgs { wait, named }) => {
            let mut client = named.plain.admin.connect().await?;
            let answer = within(CHANGE, client.service.taint_authority(named.request())).await;
            let rotation = answer.map_err(|status| failure(&status))?;
            let goal = Goal::Unused(named.full_id(&rotation));
            named.plain.show_or_follow(rotation, wait, Some(&goal), &mut client).await
        }
        AuthorityCommand::Revoke(named) => {
            let mut client = named.plain.admin.connect().await?;
            let answer = within(CHANGE, client.service.revoke_authority(named.request())).await;
            named.plain.show(&answer.map_err(|status| failure(&status))?)
        }
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let rotation = args.admin.connect().await?.rotation().await.map_err(|status| failure(&status))?;
    show(&rotation, args.output.output)
}

async fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let mut client = args.plain.admin.connect().await?;
    let request = RotateAuthorityRequest { reason: args.plain.reason(), issuing: args.issuing };
    let answer = within(CHANGE, client.service.rotate_authority(request)).await;
    let rotation = answer.map_err(|status| failure(&status))?;
    let goal = if args.issuing { Goal::of_renewal(&rotation) } else { Goal::of_rotate(&rotation) };
    args.plain.show_or_follow(rotation, &args.wait, goal.as_ref(), &mut client).await
}

impl PlainArgs {
    fn reason(&self) -> String {
        self.reason.clone().unwrap_or_default()
    }

    fn show(&self, rotation: &Rotation) -> Result<(), Failure> {
        show(rotation, self.output.output)
    }

    async fn show_or_follow(
        &self,
        rotation: Rotation,
        wait: &WaitArgs,
        goal: Option<&Goal>,
        client: &mut Client,
    ) -> Result<(), Failure> {
        let format = self.output.output;
        let Some(goal) = goal.filter(|_| wait.wait) else { return show(&rotation, format) };
        if format == OutputFormat::Table && !rotation.done.is_empty() {
            Output::stdout(format).line(&printable(&rotation.done)).map_err(Failure::failed)?;
        }
        follow(client, goal, rotation, wait, format).await
    }
}

fn show(rotation: &Rotation, format: OutputFormat) -> Result<(), Failure> {
    let mut out = Output::stdout(format);
    let shown = match format {
        OutputFormat::Json => out.json(&rotation_json(rotation)),
        OutputFormat::Table => {
            let done =
                if rotation.done.is_empty() { String::new() } else { format!("{}\n\n", printable(&rotation.done)) };
            out.raw(&format!("{done}{}", rotation_text(rotation)))
        }
    };
    shown.map_err(Failure::failed)
}

impl NamedArgs {
    fn request(&self) -> ChangeAuthorityRequest {
        ChangeAuthorityRequest { id: self.id.clone(), force: self.force, reason: self.plain.reason() }
    }

    /// The id that the CA found for the given beginning; what it dropped has none any more.
    fn full_id(&self, rotation: &Rotation) -> String {
        let beginning = self.id.to_ascii_lowercase();
        let found = rotation.authorities.iter().find(|one| one.id.starts_with(&beginning));
        found.map_or(beginning.clone(), |one| one.id.clone())
    }
}
