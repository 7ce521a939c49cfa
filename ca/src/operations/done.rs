//! What a command has done, as data for programs and in words for the record and for people.

use std::fmt;

use signet_core::authority::AuthorityId;
use signet_core::rotation::Command;

/// What a command has done, with authorities by their ids or by what people are shown of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done<I = AuthorityId> {
    /// A step that no command has asked for so far.
    Other,
    /// Nothing: that is so, or under way, already.
    Nothing,
    /// Nothing: no backup was restored, as far as anybody has shown.
    NothingToResume,
    /// Nothing: what this replica has is what was adopted last.
    NothingToAdopt,
    /// The next root is prepared.
    Prepared,
    /// This root signs as soon as every holder knows it.
    Awaited(I),
    /// A new issuing CA takes over.
    IssuingRenewed,
    /// This root signs.
    Activated(I),
    /// This prepared root is dropped.
    Dropped(I),
    /// This root signs again.
    Reinstated(I),
    /// This root, which signs, is declared compromised.
    Tainted(I),
    /// This root, which does not sign, is declared compromised.
    FormerTainted(I),
    /// This issuing CA is to be left.
    IssuingTainted(I),
    /// The compromised root is replaced at once.
    Replaced {
        /// The compromised one.
        of: I,
        /// The one that signs in its place.
        by: I,
        /// Holders that do not know that one, and refuse what it signs until they do.
        behind: u64,
    },
    /// This root leaves the trust bundle in so many seconds.
    Leaving(I, u64),
    /// This root is in no bundle any more, and so many holders are refused until they have renewed.
    Revoked(I, u64),
    /// This issuing CA is on a revocation list, and so many holders are refused until they have renewed.
    IssuingRevoked(I, u64),
    /// The CA files of this replica are adopted, and this root goes on signing.
    FilesAdopted(I),
    /// The CA files of this replica are adopted, and this root signs as soon as every holder knows it.
    FilesAwaited(I),
    /// The backend of this replica is adopted.
    BackendAdopted,
    /// The trust bundle goes on above this sequence.
    Resumed(u64),
}

impl<I: fmt::Display> fmt::Display for Done<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("done"),
            Self::Nothing => f.write_str("nothing to do: that is so, or under way, already"),
            Self::NothingToResume => f.write_str(
                "nothing to do: no agent has shown a newer trust bundle than this storage holds, so there is nothing to go on \
                 above",
            ),
            Self::NothingToAdopt => f.write_str(
                "nothing to do: the CA files, or the backend, of this replica are those that were adopted last",
            ),
            Self::Prepared => f.write_str("the next root is prepared and published"),
            Self::Awaited(root) => write!(f, "root {root} signs as soon as every holder knows it"),
            Self::IssuingRenewed => f.write_str("a new issuing CA takes over"),
            Self::Activated(root) => write!(f, "root {root} signs from now on"),
            Self::Dropped(root) => write!(f, "the prepared root {root} is dropped"),
            Self::Reinstated(root) => write!(f, "root {root} signs again; automatic rotation is paused"),
            Self::Tainted(root) => {
                write!(f, "root {root} is declared compromised; another one takes its place once it is covered")
            }
            Self::IssuingTainted(issuing) => {
                write!(f, "agents renew the certificates of issuing CA {issuing}; then it can be revoked")
            }
            Self::FormerTainted(root) => write!(
                f,
                "root {root} is declared compromised; it does not sign, and agents renew what chains to it; then it can be \
                 revoked"
            ),
            Self::Replaced { of, by, behind } => {
                write!(f, "root {of} is compromised, and root {by} signs in its place from now on")?;
                match behind {
                    0 => f.write_str("; every holder knows that one"),
                    1 => f.write_str("; 1 holder does not know that one yet, and refuses what it signs until it does"),
                    _ => {
                        write!(f, "; {behind} holders do not know that one yet, and refuse what it signs until they do")
                    }
                }
            }
            Self::Leaving(root, seconds) => write!(
                f,
                "root {root} leaves the trust bundle in {seconds} s, when every serving certificate has moved to another root"
            ),
            Self::Revoked(root, holders) => {
                write!(f, "root {root} is in no bundle any more{}", cut_off(*holders))
            }
            Self::IssuingRevoked(issuing, holders) => {
                write!(f, "issuing CA {issuing} is on the revocation list of its root{}", cut_off(*holders))
            }
            Self::FilesAdopted(root) => {
                write!(f, "what the backend of this replica brings is adopted; root {root} goes on signing")
            }
            Self::FilesAwaited(root) => write!(
                f,
                "what the backend of this replica brings is adopted; root {root} signs as soon as every holder knows it"
            ),
            Self::BackendAdopted => f.write_str(
                "the backend of this replica is adopted; a root of its own signs as soon as every holder knows it",
            ),
            Self::Resumed(shown) => write!(
                f,
                "the trust bundle goes on above {shown}, the highest number that was shown, and above the clock; agents \
                 follow"
            ),
        }
    }
}

impl<I> Done<I> {
    /// What a command has done that changes nothing.
    #[must_use]
    pub fn nothing_of(command: &Command) -> Self {
        match command {
            Command::Resume { .. } => Self::NothingToResume,
            Command::Adopt => Self::NothingToAdopt,
            _ => Self::Nothing,
        }
    }
}

/// Who has to renew before anybody accepts it again.
fn cut_off(holders: u64) -> String {
    match holders {
        0 => String::new(),
        1 => "; 1 holder is refused until it has renewed, see `holders list --cut-off`".to_owned(),
        _ => format!("; {holders} holders are refused until they have renewed, see `holders list --cut-off`"),
    }
}
