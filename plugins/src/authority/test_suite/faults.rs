//! Each fault of a backend is refused for what it is, as what may pass or as what does not, and is over by itself.

use signet_core::seams::certificate_authority::SignError;

use super::{Member, Point, eventually, issue, root};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authority) enum Fault {
    /// It is not allowed: HTTP 403.
    Denied,
    /// There is too much to do: HTTP 429.
    Throttled,
    /// It fails: HTTP 500.
    Broken,
    /// It is there and serves nothing: HTTP 503, as of a sealed Vault.
    Sealed,
    /// Connections end without an answer.
    Reset,
    /// Its certificate is of another CA than the one that is believed.
    WrongTls,
    /// It certifies a key that is not ours.
    OtherKey,
    /// A part of the chain is missing.
    Truncated,
    /// What it signs leads to another root.
    OtherRoot,
    /// The answer comes after the time.
    Late,
}

impl Fault {
    pub(super) const ALL_POINTS: &[Point] = &[
        Point::Fault(Self::Denied),
        Point::Fault(Self::Throttled),
        Point::Fault(Self::Broken),
        Point::Fault(Self::Sealed),
        Point::Fault(Self::Reset),
        Point::Fault(Self::WrongTls),
        Point::Fault(Self::OtherKey),
        Point::Fault(Self::Truncated),
        Point::Fault(Self::OtherRoot),
        Point::Fault(Self::Late),
    ];

    /// Whether it may pass by itself.
    fn may_pass(self) -> bool {
        match self {
            Self::Throttled | Self::Broken | Self::Sealed | Self::Reset | Self::WrongTls | Self::Late => true,
            Self::Denied | Self::OtherKey | Self::Truncated | Self::OtherRoot => false,
        }
    }
}

pub(super) async fn refused(member: &impl Member, fault: Fault) {
    let root = root(member).await;
    issue(member, &root).await.unwrap();
    member.fault(Some(fault)).await;
    let refused = issue(member, &root).await.err().unwrap_or_else(|| panic!("{fault:?} is taken for an answer"));
    let is_told = match &refused {
        // Who leads elsewhere now may lead here again.
        SignError::Unavailable(_) => fault.may_pass() || fault == Fault::OtherRoot,
        SignError::Unusable(_) => !fault.may_pass(),
        _ => false,
    };
    assert!(is_told, "{fault:?}: {refused:?}");
    // And not for something else that is wrong with what was signed.
    assert!(fault != Fault::OtherKey || refused.to_string().contains("for another key"), "{refused}");
    member.fault(None).await;
    member.rested().await;
    eventually("end of the fault", async || {
        member.rested().await;
        issue(member, &root).await
    })
    .await;
}
