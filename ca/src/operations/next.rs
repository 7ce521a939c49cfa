//! What happens next to the authorities: by itself, or when an operator says so.

use signet_core::authority::AuthorityId;
use time::OffsetDateTime;

/// What happens next. What has no authority in it is about all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// An operator makes the first authority.
    Init,
    /// Nothing until the clock, or what is on record, can be relied on again.
    TrustClock,
    /// This root signs when what it waits for has come.
    Activate(AuthorityId, Awaited),
    /// The same, once an operator has said so.
    ActivateByCommand(AuthorityId, Awaited),
    /// This root signs once every holder has received it, and not before this time.
    ActivateNotBefore(AuthorityId, OffsetDateTime),
    /// Another root takes the place of the compromised one that signs.
    ReplaceCompromised,
    /// So many holders renew certificates of compromised authorities.
    Renew(u64),
    /// So many holders renew certificates that nobody accepts.
    RenewCutOff(u64),
    /// So many holders apply a bundle that they have refused.
    Accept(u64),
    /// These publishers put the bundle where it is missing.
    Publish(Vec<String>),
    /// The backend revokes leaves that are revoked here.
    RevokeElsewhere,
    /// This replica gets what others have adopted.
    Follow,
    /// Nobody uses these compromised roots, or issuing CAs, any more, and an operator removes them.
    RevokeByCommand(Vec<AuthorityId>),
    /// An operator goes on with the rotation that a rollback has paused.
    RotateByCommand,
    /// An operator puts other CA files in place of those with this compromised root.
    ReplaceFilesByHand(AuthorityId),
    /// This root of the CA files signs as soon as every holder knows it, not before this time if that is known.
    SignWithFiles(AuthorityId, Option<OffsetDateTime>),
    /// A root that the CA files list signs as soon as every holder knows it.
    SignWithListed,
    /// A root of the configured backend is made and takes over.
    SignWithBackend,
    /// An operator lets this root go: now, or when its last certificate has ended at this time.
    RetireByCommand(AuthorityId, Option<OffsetDateTime>),
    /// The old root is retired when its last certificate has ended.
    Retire,
    /// The old root leaves the trust bundle when every serving certificate has moved.
    Leave,
    /// The next root is prepared at this time.
    Prepare(OffsetDateTime),
}

/// What a prepared root waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// Holders that have not received it.
    Holders {
        /// How many more, at least one.
        holders: u64,
        /// How many refuse a bundle.
        refusing: u64,
        /// When the last of their certificates ends, if none of them renews before it has received it.
        until: Option<OffsetDateTime>,
    },
    /// Publishers that have not put it everywhere.
    Publishers(Vec<String>),
    /// The end of its propagation time, when that is known.
    Propagation(Option<OffsetDateTime>),
}
