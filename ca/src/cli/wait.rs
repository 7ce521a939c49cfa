//! `--wait`: follows what a command has set going until it is over, by itself or by somebody's hand. The CA needs no
//! watching: whoever leaves, by choice or by a broken connection, changes nothing.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use signet_core::clock::{Clock, SystemClock};
use signet_proto::admin::v1alpha1::{Authority, Rotation};
use signet_runtime::config::units::{UnitError, parse_duration};
use signet_runtime::output::OutputFormat;

use super::admin_client::{AdminArgs, Client, Setback};
use super::progress::{Change, Moment, Screen, Size, line, picture};
use super::rotation_view::{rotation_json, short};
use super::{Failure, printable};

/// How often the CA is asked.
const POLL: Duration = Duration::from_secs(1);

/// A terminal that does not tell its size.
const USUAL: Size = Size { columns: 80, rows: 24 };

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct WaitArgs {
    /// Show progress until it is over; may be left with Ctrl-C at any time
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: stop watching after this long, like 10m
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text)
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// This root signs, and nothing of before is left.
    Signs(String),
    /// A root of the CA that is adopted since an operator has said so signs, and nothing of before is left. Which root
    /// that will be need not be known yet.
    Followed,
    /// This issuing CA signs.
    Issues(String),
    /// Nobody's newest certificate chains to this compromised authority any more.
    Unused(String),
}

/// Whether it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not yet.
    Going,
    /// As wanted.
    Done(String),
    /// It will not come about any more.
    Stopped(String),
}

impl Goal {
    /// What a rotation leads to: the newest root, which is either on its way or signs already.
    pub(super) fn of_rotate(rotation: &Rotation) -> Option<Self> {
        let fresh = |one: &&Authority| one.kind == "root" && matches!(one.state.as_str(), "prepared" | "active");
        let newest = rotation.authorities.iter().filter(fresh).max_by_key(|root| root.generation)?;
        Some(Self::Signs(newest.id.clone()))
    }

    /// What the renewal of an issuing CA leads to: the newest one of the root that signs.
    pub(super) fn of_renewal(rotation: &Rotation) -> Option<Self> {
        let root = rotation.authorities.iter().find(|one| one.kind == "root" && one.state == "active")?;
        let newest = rotation.authorities.iter().rfind(|one| one.root == root.id && one.state != "revoked")?;
        Some(Self::Issues(newest.id.clone()))
    }

    fn id(&self) -> &str {
        match self {
            Self::Signs(id) | Self::Issues(id) | Self::Unused(id) => id,
            Self::Followed => "",
        }
    }

    fn title(&self, rotation: &Rotation) -> String {
        let id = short(self.id());
        let found = self.find(rotation);
        match self {
            Self::Signs(_) => {
                let generation = found.map(|root| root.generation).unwrap_or_default();
                format!("Rotation to root {id} (generation {generation})")
            }
            Self::Followed if has_listed(rotation) => "Rotation to the CA files that were adopted".to_owned(),
            Self::Followed => "Rotation to a root of the backend that was adopted".to_owned(),
            Self::Issues(_) => format!("Renewal of the issuing CA: {id}"),
            Self::Unused(_) if found.is_some_and(is_issuing) => {
                format!("Moving away from the compromised issuing CA {id}")
            }
            Self::Unused(_) => format!("Moving away from the compromised root {id}"),
        }
    }

    /// How to watch again.
    fn again(&self) -> String {
        match self {
            Self::Signs(_) => {
                "watch it again with `signet-ca authority rotate --wait`, which starts nothing new as long \
                               as this one is under way, or look with `signet-ca status`"
                    .to_owned()
            }
            Self::Followed => {
                "watch it again with `signet-ca authority adopt --wait`, sent to the same replica, or look with \
                 `signet-ca status`"
                    .to_owned()
            }
            Self::Issues(_) => "look how it goes on with `signet-ca authority list` or `signet-ca status`".to_owned(),
            Self::Unused(id) => format!("watch it again with `signet-ca authority taint {} --wait`", short(id)),
        }
    }

    fn find<'a>(&self, rotation: &'a Rotation) -> Option<&'a Authority> {
        rotation.authorities.iter().find(|one| one.id == self.id())
    }

    /// Whether it is over.
    pub(super) fn verdict(&self, rotation: &Rotation) -> Verdict {
        let id = short(self.id());
        if *self == Self::Followed {
            return followed_verdict(rotation);
        }
        let Some(authority) = self.find(rotation) else {
            return match self {
                Self::Followed => Verdict::Going,
                Self::Unused(_) => Verdict::Done(format!("{id} is gone, and so is what chained to it")),
                Self::Signs(_) => Verdict::Stopped(format!(
                    "root {id} is gone: somebody has rolled the rotation back; `signet-ca audit list` tells who"
                )),
                Self::Issues(_) => Verdict::Stopped(format!("issuing CA {id} is gone, and its root too")),
            };
        };
        match self {
            Self::Followed => Verdict::Going,
            Self::Signs(_) => root_verdict(id, authority, rotation),
            Self::Issues(_) => match authority.state.as_str() {
                "active" => Verdict::Done(format!("issuing CA {id} signs")),
                "prepared" => Verdict::Going,
                state => Verdict::Stopped(format!("issuing CA {id} is {state}: another one has taken its place")),
            },
            Self::Unused(_) if authority.holders > 0 => Verdict::Going,
            Self::Unused(_) if is_issuing(authority) => Verdict::Done(format!(
                "nobody's newest certificate is of issuing CA {id}; put it on the revocation list of its root with \
                 `signet-ca authority revoke {id}`"
            )),
            Self::Unused(_) if authority.state == "tainted" => Verdict::Done(format!(
                "nobody's newest certificate chains to root {id}; take it out of the trust bundle with `signet-ca \
                 authority revoke {id}`"
            )),
            Self::Unused(_) => Verdict::Going,
        }
    }

    /// Holders that have moved to the new root, once there is something to move to.
    fn renewed(&self, rotation: &Rotation) -> Option<(u64, u64)> {
        let roots = || rotation.authorities.iter().filter(|one| one.kind == "root");
        let active = roots().find(|root| root.state == "active")?;
        let moves = match self {
            Self::Signs(id) => active.id == *id,
            Self::Followed => active.pinned,
            Self::Issues(_) => false,
            Self::Unused(id) => active.id != *id,
        };
        let all = roots().map(|root| root.holders).sum();
        (moves && all > 0 && roots().count() > 1).then_some((active.holders, all))
    }
}

fn is_issuing(authority: &Authority) -> bool {
    authority.kind == "issuing"
}

fn has_listed(rotation: &Rotation) -> bool {
    rotation.authorities.iter().any(|one| one.kind == "root" && one.pinned)
}

fn followed_verdict(rotation: &Rotation) -> Verdict {
    let listed = || rotation.authorities.iter().filter(|one| one.kind == "root" && one.pinned);
    let signing = rotation.authorities.iter().find(|one| one.kind == "root" && one.state == "active");
    match signing {
        Some(root) if rotation.phase == "drain" && root.pinned == has_listed(rotation) && is_held_by_hand(rotation) => {
            held_by_hand(root, rotation)
        }
        Some(root) if rotation.phase == "settled" => {
            Verdict::Done(format!("root {} signs, and nothing else is under way", short(&root.id)))
        }
        Some(root) if !root.pinned && has_listed(rotation) && listed().all(|one| one.tainted_at > 0) => {
            Verdict::Stopped("the CA files list compromised roots only; put others into that directory".to_owned())
        }
        _ if rotation.paused && rotation.phase == "propagate" => Verdict::Stopped(
            "the rotation is paused by an operator; go on with `signet-ca authority rotate`".to_owned(),
        ),
        _ => Verdict::Going,
    }
}

fn root_verdict(id: &str, root: &Authority, rotation: &Rotation) -> Verdict {
    let signing = rotation.authorities.iter().find(|one| one.kind == "root" && one.state == "active");
    let overtaken = signing.is_some_and(|signing| signing.generation > root.generation);
    match root.state.as_str() {
        _ if root.tainted_at > 0 => Verdict::Stopped(format!("root {id} has been declared compromised")),
        "active" if rotation.phase == "settled" => {
            Verdict::Done(format!("root {id} signs, and nothing else is under way"))
        }
        // Somebody has prepared another one in the meantime, which is another rotation.
        "active" if !has_predecessor(root, rotation) => {
            Verdict::Done(format!("root {id} signs, and no root of before is left"))
        }
        "active" if is_held_by_hand(rotation) => held_by_hand(root, rotation),
        "active" => Verdict::Going,
        "prepared" if rotation.paused => Verdict::Stopped(format!(
            "the rotation to root {id} is paused by an operator; go on with `signet-ca authority rotate`"
        )),
        "prepared" => Verdict::Going,
        _ if overtaken => Verdict::Stopped(format!("root {id} has been replaced by a newer one in the meantime")),
        _ => Verdict::Stopped(
            "somebody has rolled the rotation back: an earlier root signs again; `signet-ca audit list` tells who"
                .to_owned(),
        ),
    }
}

/// Whether a root of before is still to be retired; those that the operator's files list stay.
fn has_predecessor(root: &Authority, rotation: &Rotation) -> bool {
    let leaves = |one: &Authority| matches!(one.state.as_str(), "old" | "tainted") && !one.pinned;
    rotation.authorities.iter().any(|one| one.kind == "root" && one.generation < root.generation && leaves(one))
}

/// Whether all that is left to do is to let former roots go, which an operator has kept for himself.
fn is_held_by_hand(rotation: &Rotation) -> bool {
    let leaves =
        |one: &&Authority| matches!(one.state.as_str(), "old" | "tainted") && !one.pinned && one.kind == "root";
    let mut former = rotation.authorities.iter().filter(leaves).peekable();
    former.peek().is_some() && former.all(|one| one.held)
}

fn held_by_hand(root: &Authority, rotation: &Rotation) -> Verdict {
    let held = rotation.authorities.iter().filter(|one| one.held);
    let how: Vec<String> = held.map(|one| format!("`signet-ca authority retire {}`", short(&one.id))).collect();
    Verdict::Done(format!(
        "root {id} signs, and nothing chains to a root of before any more; once static files of roots (CA_ROOT_CA of \
         istio-agents, ca.root_file, mounted ConfigMaps) hold root {id}, let the former one go with {how}",
        id = short(&root.id),
        how = how.join(", ")
    ))
}

/// Follows `goal` from `rotation`, the answer to the command, on.
pub(super) async fn follow(
    admin: &AdminArgs,
    client: &mut Client,
    goal: &Goal,
    mut rotation: Rotation,
    args: &WaitArgs,
    output: OutputFormat,
) -> Result<(), Failure> {
    let mut teller = Teller::new(output, io::stdout());
    let end = args.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut trouble = None;
    loop {
        let title = goal.title(&rotation);
        let now = SystemClock.now();
        let renewed = goal.renewed(&rotation);
        teller.tell(&Moment { title: &title, rotation: &rotation, renewed, trouble: trouble.as_deref(), now })?;
        match goal.verdict(&rotation) {
            Verdict::Going => {}
            Verdict::Done(text) => return teller.end(&text),
            Verdict::Stopped(text) => return Err(Failure::Failed(printable(&text))),
        }
        let late = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            tokio::time::sleep(POLL).await;
            admin.rotation(client).await
        };
        tokio::select! {
            _ = &mut interrupt => {
                teller.clear_echo()?;
                return Err(Failure::Failed(format!("left; the CA goes on by itself: {}", goal.again())));
            }
            () = late => {
                return Err(Failure::Failed(format!("not over within --timeout; the CA goes on by itself: {}", goal.again())));
            }
            answer = next => match answer {
                Ok(newer) => {
                    rotation = newer;
                    trouble = None;
                }
                Err(Setback::Passing(text)) => trouble = Some(text),
                Err(Setback::Lasting(failure)) => return Err(failure),
            },
        }
    }
}

/// Tells one moment after the other in the way that fits the reader.
struct Teller<W> {
    writer: W,
    manner: Manner,
}

enum Manner {
    Picture(Screen),
    Lines(Option<Change>),
    Objects(Option<Change>),
}

impl Teller<io::Stdout> {
    fn new(output: OutputFormat, writer: io::Stdout) -> Self {
        let manner = match output {
            OutputFormat::Json => Manner::Objects(None),
            OutputFormat::Table if writer.is_terminal() => Manner::Picture(Screen::default()),
            OutputFormat::Table => Manner::Lines(None),
        };
        Self { writer, manner }
    }
}

impl<W: Write> Teller<W> {
    fn tell(&mut self, moment: &Moment<'_>) -> Result<(), Failure> {
        let change = Change::of(moment);
        let text = match &mut self.manner {
            Manner::Picture(screen) => {
                let size = terminal_size();
                screen.redraw(&picture(moment, size), size.columns)
            }
            Manner::Lines(told) | Manner::Objects(told) if told.as_ref() == Some(&change) => return Ok(()),
            Manner::Lines(told) => {
                *told = Some(change);
                line(moment) + "\n"
            }
            Manner::Objects(told) => {
                *told = Some(change);
                format!("{}\n", rotation_json(moment.rotation))
            }
        };
        self.write(&text)
    }

    fn end(&mut self, text: &str) -> Result<(), Failure> {
        match self.manner {
            // The last object says it.
            Manner::Objects(_) => Ok(()),
            _ => self.write(&format!("done: {}\n", printable(text))),
        }
    }

    /// The terminal has written `^C` below the picture.
    fn clear_echo(&mut self) -> Result<(), Failure> {
        match self.manner {
            Manner::Picture(_) => self.write("\r\u{1b}[K"),
            _ => Ok(()),
        }
    }

    /// Unlike other output, this one may go on for days, so a reader that went away ends it.
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush());
        written
            .map_err(|error| Failure::Failed(format!("nobody reads the progress ({error}); the CA goes on by itself")))
    }
}

fn terminal_size() -> Size {
    let told = rustix::termios::tcgetwinsize(io::stdout());
    match told {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        _ => USUAL,
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
