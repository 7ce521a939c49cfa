//! Whether what a token is bound to exists.

use signet_core::caller::Caller;
use signet_core::seams::impersonation::PodsUnknown;

use super::known::Known;
use super::pods::PodIndex;

/// What became of the pod and the account of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// They are there, and the pod has not ended.
    Alive,
    /// There is no pod of that name.
    PodUnknown,
    /// It is another one.
    PodReplaced,
    /// It has ended.
    PodEnded,
    /// There is no service account of that name.
    AccountUnknown,
    /// It is another one.
    AccountReplaced,
}

impl Bound {
    /// Whether it may be that the news has not come yet.
    #[must_use]
    pub fn may_be_news(self) -> bool {
        !matches!(self, Self::Alive | Self::PodEnded)
    }
}

impl PodIndex {
    /// What became of the objects that `caller` is bound to: its service account always, its pod if it has one.
    ///
    /// # Errors
    /// [`PodsUnknown`] while that cannot be said.
    pub fn bound(&self, caller: &Caller) -> Result<Bound, PodsUnknown> {
        self.look(|known| bound(known, caller))
    }
}

fn bound(known: &Known, caller: &Caller) -> Bound {
    let namespace = caller.identity.namespace();
    match known.account_uid(namespace, caller.identity.service_account()) {
        None => return Bound::AccountUnknown,
        Some(uid) if uid != caller.service_account_uid => return Bound::AccountReplaced,
        Some(_) => {}
    }
    let Some(named) = &caller.pod else { return Bound::Alive };
    match known.pod(namespace, &named.name) {
        None => Bound::PodUnknown,
        Some(pod) if *pod.uid != *named.uid => Bound::PodReplaced,
        Some(pod) if pod.ended => Bound::PodEnded,
        Some(_) => Bound::Alive,
    }
}
