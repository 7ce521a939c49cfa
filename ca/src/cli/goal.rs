//! What somebody waits for who has given a command, and whether it is over.

use signet_proto::admin::v1alpha1::{Authority, AuthorityKind, AuthorityState, Phase, Rotation};

use super::describe::{self, short};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// This root signs, and nothing of before is left.
    Signs(String),
    /// A root of the CA that is adopted since an operator has said so signs, and nothing of before is left. Which root
    /// that will be need not be known yet.
    Adopted,
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
        // With files, what was put there counts, and another set may be put there meanwhile.
        if signing_root(rotation)?.pinned || has_listed(rotation) {
            return Some(Self::Adopted);
        }
        let fresh =
            |one: &&Authority| is_root(one) && matches!(one.state(), AuthorityState::Prepared | AuthorityState::Active);
        let newest = rotation.authorities.iter().filter(fresh).max_by_key(|root| root.generation)?;
        Some(Self::Signs(newest.id.clone()))
    }

    /// What the renewal of an issuing CA leads to: the newest one of the root that signs.
    pub(super) fn of_renewal(rotation: &Rotation) -> Option<Self> {
        let root = signing_root(rotation)?;
        let revoked = |one: &Authority| one.state() == AuthorityState::Revoked;
        let newest = rotation.authorities.iter().rfind(|one| one.root == root.id && !revoked(one))?;
        Some(Self::Issues(newest.id.clone()))
    }

    fn id(&self) -> &str {
        match self {
            Self::Signs(id) | Self::Issues(id) | Self::Unused(id) => id,
            Self::Adopted => "",
        }
    }

    /// What is waited for, in words.
    pub(super) fn title(&self, rotation: &Rotation) -> String {
        let id = short(self.id());
        let found = self.find(rotation);
        match self {
            Self::Signs(_) => {
                let generation = found.map(|root| root.generation).unwrap_or_default();
                format!("Rotation to root {id} (generation {generation})")
            }
            Self::Adopted if has_listed(rotation) => "Rotation to the CA files that were adopted".to_owned(),
            Self::Adopted => "Rotation to a root of the backend that was adopted".to_owned(),
            Self::Issues(_) => format!("Renewal of the issuing CA: {id}"),
            Self::Unused(_) if found.is_some_and(is_issuing) => {
                format!("Moving away from the compromised issuing CA {id}")
            }
            Self::Unused(_) => format!("Moving away from the compromised root {id}"),
        }
    }

    /// How to watch again.
    pub(super) fn again(&self) -> String {
        match self {
            Self::Signs(_) => {
                "watch it again with `signet-ca authority rotate --wait`, which starts nothing new as long \
                               as this one is under way, or look with `signet-ca status`"
                    .to_owned()
            }
            Self::Adopted => {
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
        if *self == Self::Adopted {
            return adopted_verdict(rotation);
        }
        let Some(authority) = self.find(rotation) else {
            return match self {
                Self::Adopted => Verdict::Going,
                Self::Unused(_) => Verdict::Done(format!("{id} is gone, and so is what chained to it")),
                Self::Signs(_) => Verdict::Stopped(format!(
                    "root {id} is gone: somebody has rolled the rotation back; `signet-ca audit list` tells who"
                )),
                Self::Issues(_) => Verdict::Stopped(format!("issuing CA {id} is gone, and its root too")),
            };
        };
        match self {
            Self::Adopted => Verdict::Going,
            Self::Signs(_) => root_verdict(id, authority, rotation),
            Self::Issues(_) => match authority.state() {
                AuthorityState::Active => Verdict::Done(format!("issuing CA {id} signs")),
                AuthorityState::Prepared | AuthorityState::Unspecified => Verdict::Going,
                AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => {
                    let state = describe::state(authority.state);
                    Verdict::Stopped(format!("issuing CA {id} is {state}: another one has taken its place"))
                }
            },
            Self::Unused(_) if authority.holders > 0 => Verdict::Going,
            Self::Unused(_) if is_issuing(authority) => Verdict::Done(format!(
                "nobody's newest certificate is of issuing CA {id}; put it on the revocation list of its root with \
                 `signet-ca authority revoke {id}`"
            )),
            Self::Unused(_) if authority.state() == AuthorityState::Tainted => Verdict::Done(format!(
                "nobody's newest certificate chains to root {id}; take it out of the trust bundle with `signet-ca \
                 authority revoke {id}`"
            )),
            Self::Unused(_) => Verdict::Going,
        }
    }

    /// Holders that have moved to the new root, once there is something to move to.
    pub(super) fn renewed(&self, rotation: &Rotation) -> Option<(u64, u64)> {
        let roots = || rotation.authorities.iter().filter(|one| is_root(one));
        let active = signing_root(rotation)?;
        let moves = match self {
            Self::Signs(id) => active.id == *id,
            Self::Adopted => active.pinned,
            Self::Issues(_) => false,
            Self::Unused(id) => active.id != *id,
        };
        let all = roots().map(|root| root.holders).sum();
        (moves && all > 0 && roots().count() > 1).then_some((active.holders, all))
    }
}

fn is_issuing(authority: &Authority) -> bool {
    authority.kind() == AuthorityKind::Issuing
}

fn is_root(authority: &Authority) -> bool {
    authority.kind() == AuthorityKind::Root
}

fn signing_root(rotation: &Rotation) -> Option<&Authority> {
    rotation.authorities.iter().find(|one| is_root(one) && one.state() == AuthorityState::Active)
}

/// A root that has signed, and leaves the bundle in the end; those that the operator's files list stay.
fn is_former(authority: &Authority) -> bool {
    let former = matches!(authority.state(), AuthorityState::Old | AuthorityState::Tainted);
    is_root(authority) && former && !authority.pinned
}

fn has_listed(rotation: &Rotation) -> bool {
    rotation.authorities.iter().any(|one| is_root(one) && one.pinned)
}

fn adopted_verdict(rotation: &Rotation) -> Verdict {
    let listed = || rotation.authorities.iter().filter(|one| is_root(one) && one.pinned);
    let phase = rotation.phase();
    match signing_root(rotation) {
        Some(root) if phase == Phase::Drain && root.pinned == has_listed(rotation) && is_held_by_hand(rotation) => {
            held_by_hand(root, rotation)
        }
        Some(root) if is_over(root, rotation) => over(short(&root.id), rotation),
        Some(root) if !root.pinned && has_listed(rotation) && listed().all(|one| one.tainted_at.is_some()) => {
            Verdict::Stopped("the backend brings compromised roots only; put other CA files into that directory, or rotate the root in Vault or cert-manager".to_owned())
        }
        _ if rotation.paused && phase == Phase::Propagate => Verdict::Stopped(
            "the rotation is paused by an operator; go on with `signet-ca authority rotate`".to_owned(),
        ),
        _ => Verdict::Going,
    }
}

fn root_verdict(id: &str, root: &Authority, rotation: &Rotation) -> Verdict {
    let overtaken = signing_root(rotation).is_some_and(|signing| signing.generation > root.generation);
    match root.state() {
        _ if root.tainted_at.is_some() => Verdict::Stopped(format!("root {id} has been declared compromised")),
        AuthorityState::Active if is_over(root, rotation) => over(id, rotation),
        AuthorityState::Active if is_being_published(rotation) => Verdict::Going,
        // Somebody has prepared another one in the meantime, which is another rotation.
        AuthorityState::Active if !has_predecessor(root, rotation) => {
            Verdict::Done(format!("root {id} signs, and no root of before is left"))
        }
        AuthorityState::Active if is_held_by_hand(rotation) => held_by_hand(root, rotation),
        AuthorityState::Active => Verdict::Going,
        AuthorityState::Prepared if rotation.paused => Verdict::Stopped(format!(
            "the rotation to root {id} is paused by an operator; go on with `signet-ca authority rotate`"
        )),
        AuthorityState::Prepared | AuthorityState::Unspecified => Verdict::Going,
        _ if overtaken => Verdict::Stopped(format!("root {id} has been replaced by a newer one in the meantime")),
        _ => Verdict::Stopped(
            "somebody has rolled the rotation back: an earlier root signs again; `signet-ca audit list` tells who"
                .to_owned(),
        ),
    }
}

/// Whether nothing is under way but what holders, or those who run them, have to see to.
fn is_over(signing: &Authority, rotation: &Rotation) -> bool {
    let moves = |one: &Authority| is_root(one) && (is_former(one) || one.state() == AuthorityState::Prepared);
    match rotation.phase() {
        Phase::Settled => true,
        Phase::Degraded => !is_being_published(rotation),
        Phase::Emergency => {
            let stays = signing.tainted_at.is_none() && signing.pinned == has_listed(rotation);
            stays && !rotation.authorities.iter().any(moves)
        }
        _ => false,
    }
}

/// Whether all that is left is that a publisher has not come to the newest bundle yet. One that is kept from it says why, and
/// may be for long.
fn is_being_published(rotation: &Rotation) -> bool {
    rotation.phase() == Phase::Degraded && rotation.publishers.iter().any(|one| one.lacking && one.problem.is_empty())
}

fn over(id: &str, rotation: &Rotation) -> Verdict {
    let rest =
        if rotation.phase() == Phase::Settled { "" } else { "; `signet-ca status` tells what is not in order yet" };
    Verdict::Done(format!("root {id} signs, and nothing else is under way{rest}"))
}

/// Whether a root of before is still to be retired.
fn has_predecessor(root: &Authority, rotation: &Rotation) -> bool {
    rotation.authorities.iter().any(|one| is_former(one) && one.generation < root.generation)
}

/// Whether all that is left to do is to let former roots go, which an operator has kept for himself.
fn is_held_by_hand(rotation: &Rotation) -> bool {
    let mut former = rotation.authorities.iter().filter(|one| is_former(one)).peekable();
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

#[cfg(test)]
#[path = "goal_tests.rs"]
mod tests;
