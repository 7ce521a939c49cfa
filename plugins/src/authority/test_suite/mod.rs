//! What every backend that certifies our issuing CAs must do, and every backend that signs leaves (`leaves`). A member of the suite
//! is a backend with what a test does to it; each point gets a member of its own. What makes no sense for a member stands in
//! [`LEFT_OUT`], with the reason, and is not run; everything else is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "tests"
)]

mod certified;
mod faults;
pub(super) mod leaves;
mod own;
mod trouble;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use signet_core::authority::{IssuingCa, KeyId, Root};
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use time::OffsetDateTime;
use tokio::time::Instant;

pub(super) use faults::Fault;

use crate::custody::LocalKey;

/// The longest that something may take to be seen which comes by itself.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// How long an issuing CA is to last where nothing depends on it.
pub(super) const TTL: Duration = Duration::from_secs(3600);

/// Who is to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Roots that Signet makes.
    Native,
    /// The operator's CA in files.
    Files,
    /// A Vault that says what a test wants.
    ScriptedVault,
    /// A real OpenBao, its storage on disk.
    OpenBao,
    /// An API server and a cert-manager that say what a test wants.
    ScriptedCertManager,
    /// cert-manager's own controllers beside a real API server.
    CertManager,
}

/// What is to be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Which root it is, is said in one way, and the same each time.
    OneRoot,
    /// Key, name, usages and path length are those that were decided, and there is nothing else.
    Decided,
    /// Chain and root are right: leaves below it verify.
    Chain,
    /// Nothing lasts longer than asked for, or than what is above it; nothing is made for no time.
    Expiry,
    /// Nothing is certified under a root that is another's.
    OtherRoot,
    /// A hundred at once are all served, each with its own.
    Hundred,
    /// Who has gone holds up nobody, and leaves nothing behind.
    Cancelled,
    /// Who does not answer is not waited for beyond a deadline.
    Deadline,
    /// Who answers late, and in time, is used; what comes too late is nobody's answer.
    Slow,
    /// An outage is told as what may pass, and is over by itself.
    Outage,
    /// Another root is followed, and the one before certifies nothing.
    Rotation,
    /// New credentials take the place of those that were revoked, without a restart.
    Credentials,
    /// A fault is refused for what it is, and is over by itself.
    Fault(Fault),
}

/// What is not asked of whom, and why.
pub(super) const LEFT_OUT: &[(Who, &[Point], &str)] = &[
    (
        Who::Native,
        &[Point::Deadline, Point::Slow, Point::Outage, Point::Credentials],
        "asks nobody: the key of the root is in custody, whose faults are told as what may pass (remote_signature.rs)",
    ),
    (
        Who::Files,
        &[Point::Decided, Point::Expiry],
        "the operator has decided what the certificate says (files/verify.rs)",
    ),
    (Who::Files, &[Point::Deadline, Point::Slow], "a file system that hangs has its tests (e2e hanging_files)"),
    (Who::Files, &[Point::Credentials], "there are none: whoever may read the files has the key"),
    (Who::Native, Fault::ALL_POINTS, "nobody is asked who could fail or lie"),
    (Who::Files, Fault::ALL_POINTS, "nobody is asked; files that lie have their tests (files/refusal_tests.rs)"),
    (Who::ScriptedVault, &[Point::Fault(Fault::WrongTls)], "it speaks no TLS; the real one does"),
    (
        Who::OpenBao,
        &[
            Point::Fault(Fault::Throttled),
            Point::Fault(Fault::Broken),
            Point::Fault(Fault::OtherKey),
            Point::Fault(Fault::Truncated),
            Point::Fault(Fault::Reset),
        ],
        "a real one does not do that when it is told to; the scripted one does",
    ),
    (
        Who::CertManager,
        &[
            Point::Outage,
            Point::Slow,
            Point::Fault(Fault::Sealed),
            Point::Fault(Fault::Reset),
            Point::Fault(Fault::Throttled),
        ],
        "the API server is shared with other tests and must stay; the scripted one goes away and is slow",
    ),
    (
        Who::CertManager,
        &[Point::Fault(Fault::Broken), Point::Fault(Fault::OtherKey), Point::Fault(Fault::Truncated)],
        "real controllers do not do that when they are told to; the scripted ones do",
    ),
    (
        Who::ScriptedCertManager,
        &[Point::Fault(Fault::WrongTls), Point::Credentials],
        "it speaks no TLS, and takes any token; the real one does not",
    ),
];

/// A backend, and what is done to it.
#[async_trait(?Send)]
pub(super) trait Member {
    /// The backend itself.
    fn authority(&self) -> Arc<dyn UpstreamAuthority>;

    /// What time it is for it.
    fn now(&self) -> OffsetDateTime;

    /// The path length that its issuing CAs have.
    fn path_length(&self) -> Option<u32> {
        Some(0)
    }

    /// Whether an issuing CA ends no later than every CA above it by its own certificate, and not only by what its record says.
    fn is_cut_to_what_is_above(&self) -> bool {
        true
    }

    /// Has an issuing CA certified with a new key.
    async fn issue(&self, root: &Root, key_type: KeyType, ttl: Duration) -> Result<Made, SignError> {
        let (key, _) = LocalKey::generate(key_type).await.unwrap();
        let made = self.authority().certify(root, &key, ttl, self.now()).await?;
        let issuing = IssuingCa::below(made.certificate, KeyId::parse("tried"), made.intermediates, root).unwrap();
        Ok(Made { issuing, key: Arc::new(key) })
    }

    /// What of calls that came to nothing is left behind.
    async fn left(&self) -> usize {
        0
    }

    /// From now on nothing is answered, for longer than anybody waits; or it is again.
    async fn silent(&self, _is_silent: bool) {
        panic!("silence: say so in LEFT_OUT")
    }

    /// How long anybody waits at most.
    fn deadline(&self) -> Duration {
        panic!("a deadline: say so in LEFT_OUT")
    }

    /// It is away, or back.
    async fn away(&self, _is_away: bool) {
        panic!("an outage: say so in LEFT_OUT")
    }

    /// Has another root from now on.
    async fn rotate(&self) {
        panic!("a rotation: say so in LEFT_OUT")
    }

    /// The credentials count no longer, and there are others where they were.
    async fn replace_credentials(&self) {
        panic!("new credentials: say so in LEFT_OUT")
    }

    /// From now on this is what happens; nothing of the kind when there is none.
    async fn fault(&self, _fault: Option<Fault>) {
        panic!("faults: say so in LEFT_OUT")
    }

    /// The pauses that follow a failure are over.
    async fn rested(&self) {}
}

/// An issuing CA with its key.
pub(super) struct Made {
    pub(super) issuing: IssuingCa,
    pub(super) key: Arc<dyn SigningKey>,
}

/// Runs all that is asked of `who`, to the end whatever fails; `make` makes a member that nothing has happened to.
pub(super) async fn every_point<M: Member>(who: Who, make: impl AsyncFn() -> M) {
    let mut failed = Vec::new();
    for point in Point::all() {
        if left_out(who, point).is_some() {
            continue;
        }
        let started = Instant::now();
        let passed = AssertUnwindSafe(async {
            let member = make().await;
            pass(&member, point).await;
            assert_eq!(none_left(&member).await, 0, "{who:?} {point:?} leaves something behind");
        });
        let is_passed = passed.catch_unwind().await.is_ok();
        say(&format!(
            "{who:?} {point:?}: {} in {:?}\n",
            if is_passed { "passed" } else { "FAILED" },
            started.elapsed()
        ));
        failed.extend((!is_passed).then_some(point));
    }
    assert!(failed.is_empty(), "{who:?} fails {failed:?}");
}

async fn pass(member: &impl Member, point: Point) {
    match point {
        Point::OneRoot => certified::one_root(member).await,
        Point::Decided => certified::decided(member).await,
        Point::Chain => certified::chain(member).await,
        Point::Expiry => certified::expiry(member).await,
        Point::OtherRoot => certified::other_root(member).await,
        Point::Hundred => trouble::hundred(member).await,
        Point::Cancelled => trouble::cancelled(member).await,
        Point::Deadline => trouble::deadline(member).await,
        Point::Slow => trouble::slow(member).await,
        Point::Outage => trouble::outage(member).await,
        Point::Rotation => trouble::rotation(member).await,
        Point::Credentials => trouble::credentials(member).await,
        Point::Fault(fault) => faults::refused(member, fault).await,
    }
}

/// For whoever reads a run with `--nocapture`.
fn say(text: &str) {
    use std::io::Write as _;
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

fn left_out(who: Who, point: Point) -> Option<&'static str> {
    let row = LEFT_OUT.iter().find(|(whose, points, _)| *whose == who && points.contains(&point));
    row.map(|(_, _, why)| *why)
}

impl Point {
    fn all() -> impl Iterator<Item = Self> {
        let plain = [
            Self::OneRoot,
            Self::Decided,
            Self::Chain,
            Self::Expiry,
            Self::OtherRoot,
            Self::Hundred,
            Self::Cancelled,
            Self::Deadline,
            Self::Slow,
            Self::Outage,
            Self::Rotation,
            Self::Credentials,
        ];
        plain.into_iter().chain(Fault::ALL_POINTS.iter().copied())
    }
}

/// The root that is to be certified under.
pub(super) async fn root(member: &impl Member) -> Root {
    let authority = member.authority();
    match authority.offer().await.unwrap() {
        Some(offer) => offer.roots.iter().find(|root| root.id == offer.signer).unwrap().clone(),
        None => authority.prepare_root(1, member.now()).await.unwrap(),
    }
}

/// One more issuing CA.
pub(super) async fn issue(member: &impl Member, root: &Root) -> Result<Made, SignError> {
    let made = member.issue(root, KeyType::EcP256, TTL).await?;
    let facts = signet_core::certificate::Facts::read(&made.issuing.certificate).unwrap();
    assert_eq!(facts.spki_der, made.key.spki_der(), "a certificate for a key that is not ours");
    Ok(made)
}

/// Waits for what comes by itself.
pub(super) async fn eventually<T, E: std::fmt::Display>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + SOON;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < end, "no {what} within {SOON:?}: {why}"),
        }
        // Nothing tells that a pause is over, or that somebody else has seen a change.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn none_left(member: &impl Member) -> usize {
    let end = Instant::now() + SOON;
    loop {
        let left = member.left().await;
        if left == 0 || Instant::now() > end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_is_left_out_is_so_with_a_reason_and_once() {
    let all = [Who::Native, Who::Files, Who::ScriptedVault, Who::OpenBao, Who::ScriptedCertManager, Who::CertManager];
    for who in all {
        for point in Point::all() {
            let rows = LEFT_OUT.iter().filter(|(whose, points, _)| *whose == who && points.contains(&point)).count();
            assert!(rows <= 1, "{who:?} {point:?}");
        }
    }
    assert!(LEFT_OUT.iter().all(|(.., why)| why.len() > 10));
    // Each point is asked of two at least, each fault of one.
    for point in Point::all() {
        let asked = all.iter().filter(|who| left_out(**who, point).is_none()).count();
        assert!(asked >= if matches!(point, Point::Fault(_)) { 1 } else { 2 }, "{point:?}");
    }
}
