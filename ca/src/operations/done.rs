//! What a command has done, as data for programs and in words for the record and for people.

use std::fmt;

use signet_core::authority::AuthorityId;

/// What a command has done, with authorities by their ids or by what people are shown of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done<I = AuthorityId> {
    /// A step that no command has asked for so far.
    Other,
    /// Nothing: that is so, or under way, already.
    Nothing,
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
    /// This root is declared compromised.
    Tainted(I),
    /// This issuing CA is to be left.
    IssuingTainted(I),
    /// Another root signs in place of the compromised one.
    Replaced,
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
            Self::Replaced => f.write_str("another root signs in place of the compromised one"),
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
                write!(f, "the CA files of this replica are adopted; root {root} goes on signing")
            }
            Self::FilesAwaited(root) => write!(
                f,
                "the CA files of this replica are adopted; root {root} signs as soon as every holder knows it"
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

/// Who has to renew before anybody accepts it again.
fn cut_off(holders: u64) -> String {
    match holders {
        0 => String::new(),
        1 => "; 1 holder is refused until it has renewed, see `holders list --cut-off`".to_owned(),
        _ => format!("; {holders} holders are refused until they have renewed, see `holders list --cut-off`"),
    }
}
