//! `signet-ca authority`: what operators can see of the authorities and do with them.

use clap::{Args, Subcommand};
use signet_proto::admin::v1alpha1::{
    AdoptAuthorityRequest, Authority, AuthorityKind, ChangeAuthorityRequest, PrepareAuthorityRequest,
    ResumeAuthorityRequest, RetireAuthorityRequest, RollbackAuthorityRequest, RotateAuthorityRequest, Rotation,
};
use signet_runtime::output::{Output, OutputFormat, Page};

use super::admin_client::{AdminArgs, CHANGE, Client, failed_change, failure, within};
use super::describe;
use super::goal::Goal;
use super::rotation_view::{authority_json, rotation_json, rotation_text};
use super::view::View;
use super::wait::{WaitArgs, follow};
use super::{Failure, OutputArg, printable};

/// The CA has accepted a change whose end cannot be told.
const NOTHING_TO_WAIT_FOR: &str = "the change is made, but --wait has found nothing to wait for; look how it goes on with \
                                   `signet-ca authority list`";

/// What the words in the column STATE mean, for `--help`.
const STATES: &str = "\
States:
  prepared  in the trust bundle, signs nothing yet; an
            issuing CA: waits for its turn
  active    signs
  old       signs no more, stays until nothing needs it
  tainted   declared compromised: agents leave it, and
            `authority revoke` ends it
  revoked   an issuing CA on the revocation list of its root
  unknown   one of a newer version of signet-ca
With one of these:
  , tainted   compromised, and signs until another root can
  , pinned    the backend lists it, so that it stays
  , leaving   leaves the trust bundle within seconds
  , held      nothing chains to it any more; `authority
              retire` lets it go

NEEDED UNTIL: when the last certificate ends that chains to it. RENEWS AT: when this CA replaces it by itself; the CA \
files, and issuing CAs that another one has replaced or that end with their root, are not renewed.";

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// List roots and issuing CAs, who needs them, and where rotation stands
    #[command(after_help = STATES)]
    List(ListArgs),
    /// Replace the root: prepare the next one, activate it when all holders know it, retire the old one when drained
    Rotate(RotateArgs),
    /// Adopt the CA files, or the authority.backend, of the replica that this is sent to, although others were adopted
    /// after them: the word that they are meant, and not late
    Adopt(AdoptArgs),
    /// Make the next root and publish it; it signs nothing until it is activated
    Prepare(PlainArgs),
    /// Let a prepared root sign; refused as long as holders do not know it
    Activate(WatchedArgs),
    /// Take the last step back: drop a prepared root, or let the previous one sign again
    Rollback(PlainArgs),
    /// Let a former root go that nothing chains to any more (authority.rotation.retire: manual)
    Retire(RetireArgs),
    /// Go on after the storage was restored from a backup, above all that agents have shown; see docs/backup.md. To be sent
    /// to a replica whose `status` tells of it
    Resume(PlainArgs),
    /// Declare a root or an issuing CA compromised, so that agents leave it; another root takes the place of a root.
    /// Given again, it changes nothing and may be watched again
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
pub(super) struct AdoptArgs {
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The id of the authority, or the key identifier by which certificates name it; its first 8 digits, or more, are enough
    id: String,
    /// Do it although holders would be refused until they have caught up; needs --reason
    #[arg(long, requires = "reason")]
    force: bool,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The id of the root, or the key identifier by which certificates name it; its first 8 digits, or more, are enough
    id: String,
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
        AuthorityCommand::Adopt(AdoptArgs { wait, plain }) => {
            let mut client = plain.admin.connect().await?;
            let request = AdoptAuthorityRequest { reason: plain.reason() };
            let answer = within(CHANGE, client.service.adopt_authority(request)).await;
            let rotation = answer.map_err(|status| failed_change(&status))?;
            plain.show_or_follow(rotation, wait, Some(&Goal::Adopted), &mut client).await
        }
        AuthorityCommand::Prepare(args) => {
            let mut client = args.admin.connect().await?;
            let request = PrepareAuthorityRequest { reason: args.reason() };
            let answer = within(CHANGE, client.service.prepare_authority(request)).await;
            args.show(&answer.map_err(|status| failed_change(&status))?)
        }
        AuthorityCommand::Rollback(args) => {
            let mut client = args.admin.connect().await?;
            let request = RollbackAuthorityRequest { reason: args.reason() };
            let answer = within(CHANGE, client.service.rollback_authority(request)).await;
            args.show(&answer.map_err(|status| failed_change(&status))?)
        }
        AuthorityCommand::Retire(RetireArgs { id, plain }) => {
            let mut client = plain.admin.connect().await?;
            let request = RetireAuthorityRequest { id: id.clone(), reason: plain.reason() };
            let answer = within(CHANGE, client.service.retire_authority(request)).await;
            plain.show(&answer.map_err(|status| failed_change(&status))?)
        }
        AuthorityCommand::Resume(args) => {
            let mut client = args.admin.connect().await?;
            let request = ResumeAuthorityRequest { reason: args.reason() };
            let answer = within(CHANGE, client.service.resume_authority(request)).await;
            args.show(&answer.map_err(|status| failed_change(&status))?)
        }
        AuthorityCommand::Activate(WatchedArgs { wait, named }) => {
            let mut client = named.plain.admin.connect().await?;
            let goal = named.awaited(wait, &mut client, &[AuthorityKind::Root]).await?.map(Goal::Signs);
            let answer = within(CHANGE, client.service.activate_authority(named.request())).await;
            let rotation = answer.map_err(|status| failed_change(&status))?;
            named.plain.show_or_follow(rotation, wait, goal.as_ref(), &mut client).await
        }
        AuthorityCommand::Taint(WatchedArgs { wait, named }) => {
            let mut client = named.plain.admin.connect().await?;
            let goal = named
                .awaited(wait, &mut client, &[AuthorityKind::Root, AuthorityKind::Issuing])
                .await?
                .map(Goal::Unused);
            let answer = within(CHANGE, client.service.taint_authority(named.request())).await;
            let rotation = answer.map_err(|status| failed_change(&status))?;
            named.plain.show_or_follow(rotation, wait, goal.as_ref(), &mut client).await
        }
        AuthorityCommand::Revoke(named) => {
            let mut client = named.plain.admin.connect().await?;
            let answer = within(CHANGE, client.service.revoke_authority(named.request())).await;
            named.plain.show(&answer.map_err(|status| failed_change(&status))?)
        }
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let rotation = args.admin.connect().await?.rotation().await.map_err(|status| failure(&status))?;
    let format = args.output.output;
    let page = Page { entries: rotation.authorities.iter().map(authority_json).collect(), next: None };
    let text = || rotation_text(&rotation, &View::of(format));
    Output::stdout(format).show_list(page, |_| rotation_json(&rotation), text).map_err(Failure::failed)
}

async fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let mut client = args.plain.admin.connect().await?;
    let request = RotateAuthorityRequest { reason: args.plain.reason(), issuing: args.issuing };
    let answer = within(CHANGE, client.service.rotate_authority(request)).await;
    let rotation = answer.map_err(|status| failed_change(&status))?;
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
        if !wait.wait {
            return show(&rotation, format);
        }
        let Some(goal) = goal else {
            show(&rotation, format)?;
            // Success would say that it is over.
            return Err(Failure::Failed(NOTHING_TO_WAIT_FOR.to_owned()));
        };
        if let (false, Some(done)) = (format.is_json(), &rotation.done) {
            Output::stdout(format).line(&printable(&describe::done(done, describe::whole))).map_err(Failure::failed)?;
        }
        follow(&self.admin, client, goal, rotation, wait, format).await
    }
}

fn show(rotation: &Rotation, format: OutputFormat) -> Result<(), Failure> {
    let text = || {
        let done = rotation.done.as_ref().map(|done| printable(&describe::done(done, describe::whole)) + "\n\n");
        format!("{}{}", done.unwrap_or_default(), rotation_text(rotation, &View::of(format)))
    };
    Output::stdout(format).show(|| rotation_json(rotation), text).map_err(Failure::failed)
}

impl NamedArgs {
    fn request(&self) -> ChangeAuthorityRequest {
        ChangeAuthorityRequest { id: self.id.clone(), force: self.force, reason: self.plain.reason() }
    }

    /// The whole id of the authority to wait for, which is of one of these kinds; asked for before the change:
    /// afterwards, the CA may have dropped it.
    async fn awaited(
        &self,
        wait: &WaitArgs,
        client: &mut Client,
        kinds: &[AuthorityKind],
    ) -> Result<Option<String>, Failure> {
        if !wait.wait {
            return Ok(None);
        }
        let rotation = client.rotation().await.map_err(|status| failure(&status))?;
        Ok(authority_id(&rotation, &self.id, kinds))
    }
}

/// The one authority of these kinds whose id, or key identifier, begins like this. When there is none, or several, the CA refuses the change
/// and says why.
fn authority_id(rotation: &Rotation, beginning: &str, kinds: &[AuthorityKind]) -> Option<String> {
    let beginning = beginning.to_ascii_lowercase();
    let fits = |one: &&Authority| {
        let named = one.id.starts_with(&beginning) || one.key_id.starts_with(&beginning);
        named && kinds.contains(&one.kind())
    };
    let mut found: Vec<&str> = rotation.authorities.iter().filter(fits).map(|one| one.id.as_str()).collect();
    // An operator's root that signs leaves itself is listed as both, and an issuing CA below each root that certified it.
    found.dedup();
    match found.as_slice() {
        [one] => Some((*one).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AuthorityKind::{Issuing, Root};

    #[test]
    fn what_is_waited_for_is_one_authority_of_a_kind_that_fits() {
        let one =
            |id: &str, kind: AuthorityKind| Authority { id: id.into(), kind: kind.into(), ..Authority::default() };
        let both = [one("ef1", Root), one("ef1", Issuing)];
        // An issuing CA that two roots have certified.
        let twice = [one("99", Issuing), one("9a", Root), one("99", Issuing)];
        let mut authorities = vec![one("ab1", Issuing), one("ab2", Root), one("cd1", Root), one("cd2", Root)];
        authorities.extend(both.into_iter().chain(twice));
        let rotation = Rotation { authorities, ..Rotation::default() };
        let (root, any) = (&[Root][..], &[Root, Issuing][..]);
        for (beginning, kinds, expected) in [
            ("AB", root, Some("ab2")),
            ("ab1", root, None),
            ("cd", root, None),
            ("cd2", root, Some("cd2")),
            ("AB", any, None),
            ("ab1", any, Some("ab1")),
            ("ef", any, Some("ef1")),
            ("99", any, Some("99")),
            ("9", any, None),
            ("", root, None),
        ] {
            assert_eq!(authority_id(&rotation, beginning, kinds).as_deref(), expected, "{beginning} {kinds:?}");
        }
    }
}
