//! A backend that signs leaves itself: what is asked of it is on record before, what came of it afterwards, and what comes too
//! late goes to nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use signet_core::audit::StoredEvent;
use signet_core::authority::{IssuingCa, Root};
use signet_core::certificate::{CertificateChain, Facts};
use signet_core::policy::{CsrUse, IssuerLimits, Subject};
use signet_core::rotation::Command;
use signet_core::seams::certificate_authority::CertificateAuthority;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified as CertifiedCa, UpstreamAuthority};
use signet_core::source::{Offer, OfferedCa, RevokedBy, SourceFingerprint};
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::*;
use crate::operations::Operator;
use crate::world_tests::{AT_ONCE, DAY, NOW, World, application};

/// A backend that signs leaves, with a CA of somebody else's.
struct Backend {
    ca: Arc<TheirCa>,
    /// All that can be signed with there.
    known: Vec<Arc<TheirCa>>,
    /// What it does with a request.
    does: Mutex<Does>,
    /// Rung when it was asked; and what it waits for, when it is slow.
    asked: Notify,
    go_on: Notify,
    serial: Mutex<u8>,
    /// Whether it can revoke leaves, and those that it has revoked.
    revokes: AtomicBool,
    revoked: Mutex<Vec<CertificateDer<'static>>>,
}

struct TheirCa {
    root: Root,
    issuer: Issuer<'static, KeyPair>,
}

impl TheirCa {
    fn new(name: &str) -> Arc<Self> {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (NOW - DAY, NOW + 300 * DAY);
        let root = Root::new(params.self_signed(&key).unwrap().der().clone(), None).unwrap();
        Arc::new(Self { root, issuer: Issuer::new(params, key) })
    }

    fn issuing(&self) -> IssuingCa {
        IssuingCa::new(self.root.certificate.clone(), None).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Signs,
    SignsWhenTold,
    Fails,
    OtherKey,
    IsAway,
}

impl Backend {
    fn new() -> Arc<Self> {
        let ca = TheirCa::new("theirs");
        Self::with(&ca, vec![Arc::clone(&ca)])
    }

    fn with(ca: &Arc<TheirCa>, known: Vec<Arc<TheirCa>>) -> Arc<Self> {
        Arc::new(Self {
            ca: Arc::clone(ca),
            known,
            does: Mutex::new(Does::Signs),
            asked: Notify::new(),
            go_on: Notify::new(),
            serial: Mutex::new(0),
            revokes: AtomicBool::new(false),
            revoked: Mutex::default(),
        })
    }

    fn does(&self, what: Does) {
        *self.does.lock().unwrap() = what;
    }
}

#[async_trait]
impl UpstreamAuthority for Backend {
    fn revoked_by(&self) -> RevokedBy {
        if self.revokes.load(Ordering::SeqCst) { RevokedBy::Upstream } else { RevokedBy::Nobody }
    }

    async fn revoke(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        match *self.does.lock().unwrap() {
            Does::IsAway => Err(SignError::Unavailable("it is away".to_owned())),
            _ => {
                self.revoked.lock().unwrap().push(certificate.clone());
                Ok(())
            }
        }
    }

    async fn prepare_root(&self, _: u64, _: OffsetDateTime) -> Result<Root, SignError> {
        panic!("nobody asks for a root")
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let root = &self.ca.root;
        let fingerprint = SourceFingerprint::of_set(&root.certificate, [], [&root.certificate]);
        let issuing = OfferedCa::Given(self.ca.issuing());
        let (roots, signer) = (vec![root.clone()], root.id.clone());
        Ok(Some(Offer { roots, signer, issuing, revocation_lists: Vec::new(), lists_on_demand: false, fingerprint }))
    }

    async fn certify(
        &self,
        _: &Root,
        _: &dyn SigningKey,
        _: Duration,
        _: OffsetDateTime,
    ) -> Result<CertifiedCa, SignError> {
        panic!("nobody asks for a CA")
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        let ca = self.known.iter().find(|ca| ca.issuing() == *issuing).cloned().unwrap();
        let (authority, not_before, not_after) = (issuing.id.clone(), issuing.not_before, issuing.not_after);
        let limits = IssuerLimits { authority, not_before, not_after, takes: CsrUse::Key };
        Ok(Arc::new(Leaves { backend: self, ca, limits }))
    }
}

struct Leaves {
    backend: Arc<Backend>,
    ca: Arc<TheirCa>,
    limits: IssuerLimits,
}

#[async_trait]
impl CertificateAuthority for Leaves {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn revokes_leaves(&self) -> bool {
        self.backend.revokes.load(Ordering::SeqCst)
    }

    fn ready(&self) -> Result<(), SignError> {
        match *self.backend.does.lock().unwrap() {
            Does::IsAway => Err(SignError::Unavailable("it is away".to_owned())),
            _ => Ok(()),
        }
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        let does = *self.backend.does.lock().unwrap();
        self.backend.asked.notify_one();
        if does == Does::SignsWhenTold {
            self.backend.go_on.notified().await;
        }
        if does == Does::Fails {
            return Err(SignError::Unavailable("it has no time".to_owned()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let number = {
            let mut last = self.backend.serial.lock().unwrap();
            *last += 1;
            *last
        };
        // Theirs have 20 bytes, and no two CAs give the same.
        let own = self.ca.root.id.as_str().as_bytes();
        let serial: Vec<u8> = [&[0x5a; 11], &own[..8], &[number]].concat();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = request.decided_at() - Duration::from_secs(30);
        params.not_after = request.not_after() - Duration::from_secs(10);
        params.subject_alt_names = vec![SanType::URI(request.spiffe_id().as_str().try_into().unwrap())];
        if let Subject::Serving { dns, .. } = request.subject() {
            params.subject_alt_names.extend(dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap())));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = &self.ca.issuer;
        let leaf = match does {
            Does::OtherKey => params.signed_by(&KeyPair::generate().unwrap(), issuer),
            _ => params.signed_by(&SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap(), issuer),
        };
        Ok(CertificateChain::new(leaf.unwrap().der().clone(), Vec::new()))
    }
}

async fn world(backend: &Arc<Backend>) -> World {
    let world = World::empty().another_on(Arc::clone(backend) as _);
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    world
}

/// The events about the request `r1`, oldest first.
async fn of_request(world: &World) -> Vec<StoredEvent> {
    let mut events = world.events().await;
    events.retain(|stored| stored.event.request_id == "r1");
    events.reverse();
    events
}

/// The same once there are so many.
async fn events(world: &World, count: usize) -> Vec<AuditEvent> {
    for _ in 0..10_000 {
        let events = of_request(world).await;
        if events.len() >= count {
            assert_eq!(events.len(), count, "{events:?}");
            return events.into_iter().map(|stored| stored.event).collect();
        }
        tokio::task::yield_now().await;
    }
    panic!("not {count} events: {:?}", of_request(world).await);
}

fn told(event: &AuditEvent) -> (Outcome, Option<&str>, usize) {
    (event.outcome, event.reason.as_deref(), event.what.as_ref().map_or(0, |what| what.serial.len()))
}

#[tokio::test]
async fn what_is_asked_is_on_record_before_and_what_came_back_afterwards_as_it_is() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let application = application();
    let before = async {
        backend.asked.notified().await;
        let events = events(&world, 1).await;
        assert_eq!(told(&events[0]), (Outcome::Intended, None, 0));
        assert!(events[0].what.as_ref().is_some_and(|what| !what.key_hash.is_empty() && !what.authority.is_empty()));
        backend.go_on.notify_one();
    };
    let (issued, ()) = tokio::join!(world.receive(&application), before);
    let leaf = Facts::read(issued.unwrap().chain.leaf()).unwrap();
    let events = events(&world, 2).await;
    assert_eq!(told(&events[1]), (Outcome::Issued, None, 40));
    let what = events[1].what.as_ref().unwrap();
    assert_eq!((what.serial.clone(), what.not_after), (leaf.serial_text(), leaf.not_after.unix_timestamp()));
    assert_eq!(what.not_before, leaf.not_before.unix_timestamp());
    // It is found by that number, and so is its holder.
    let query =
        signet_core::audit::AuditQuery { serial: what.serial(), ..signet_core::audit::AuditQuery::newest(5).unwrap() };
    let found = signet_core::seams::store::AuditStore::query(&*world.store, &query).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(world.metrics.totals(), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_request_was_given_up_is_on_record_and_goes_to_nobody() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let error = world.issuance.issue(&application()).await.unwrap_err();
    assert_eq!(error.label(), "timed_out");
    let given_up = events(&world, 2).await;
    assert_eq!(told(&given_up[0]), (Outcome::Intended, None, 0));
    assert_eq!(told(&given_up[1]), (Outcome::Failed, Some("timed_out"), 0));
    backend.go_on.notify_one();
    let all = events(&world, 3).await;
    assert_eq!(told(&all[2]), (Outcome::Failed, Some("late_answer"), 40));
    // Nobody holds it.
    assert!(all.iter().all(|event| event.holder().is_none() && event.released().is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_takes_no_more_than_its_places_also_when_all_have_given_up() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let application = application();
    let all = std::iter::repeat_with(|| world.issuance.issue(&application)).take(AT_ONCE + 3);
    let errors = futures::future::join_all(all).await;
    assert!(errors.iter().all(|result| result.as_ref().is_err_and(|error| error.label() == "timed_out")));
    let intended = async || {
        let events = of_request(&world).await;
        events.iter().filter(|stored| stored.event.outcome == Outcome::Intended).count()
    };
    assert_eq!(intended().await, AT_ONCE);
    // The places are still taken.
    assert_eq!(world.issuance.issue(&application).await.unwrap_err().label(), "timed_out");
    assert_eq!(intended().await, AT_ONCE);
    backend.does(Does::Signs);
    for _ in 0..AT_ONCE {
        backend.go_on.notify_one();
        tokio::task::yield_now().await;
    }
    assert!(world.issuance.issue(&application).await.is_ok());
}

#[tokio::test]
async fn what_comes_to_nothing_has_its_outcome_and_a_backend_that_is_away_leaves_no_intention() {
    let backend = Backend::new();
    let world = world(&backend).await;
    for (does, label) in [(Does::Fails, "signer_unavailable"), (Does::OtherKey, "issued_differs_from_decided")] {
        let before = of_request(&world).await.len();
        backend.does(does);
        assert_eq!(world.issuance.issue(&application()).await.unwrap_err().label(), label);
        let events = events(&world, before + 2).await;
        assert_eq!(told(&events[before]), (Outcome::Intended, None, 0));
        assert_eq!(told(&events[before + 1]), (Outcome::Failed, Some(label), 0));
    }
    let before = of_request(&world).await.len();
    backend.does(Does::IsAway);
    assert_eq!(world.issuance.issue(&application()).await.unwrap_err().label(), "signer_unavailable");
    let events = events(&world, before + 1).await;
    assert_eq!(told(&events[before]), (Outcome::Failed, Some("signer_unavailable"), 0));
}

/// The fence: the journal as it is when the outcome is recorded decides, not as it was when the backend was asked.
#[tokio::test]
async fn what_the_journal_does_not_let_out_any_more_is_on_record_as_withheld() {
    let (ca, theirs) = (TheirCa::new("theirs"), TheirCa::new("others"));
    let all = vec![Arc::clone(&ca), Arc::clone(&theirs)];
    let (backend, next) = (Backend::with(&ca, all.clone()), Backend::with(&theirs, all));
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let other = world.another_on(next);
    let application = application();
    let meanwhile = async {
        backend.asked.notified().await;
        // Another replica moves to another backend, in an emergency.
        let operator = Operator { name: "uid 0".to_owned(), peer: None };
        other.rotator.turn().await.unwrap();
        let (old, id) = (ca.root.id.clone(), theirs.root.id.clone());
        for command in [Command::Activate { id, force: true }, Command::Taint { id: old, force: false }] {
            other.operations.command(&operator, command, "test").await.unwrap();
        }
        backend.does(Does::Signs);
        backend.go_on.notify_one();
        world.rotator.wake_up.notified().await;
        world.rotator.turn().await.unwrap();
    };
    let (issued, ()) = tokio::join!(world.issuance.issue(&application), meanwhile);
    let issued = issued.unwrap();
    assert_eq!(issued.state.authority.limits().authority, theirs.issuing().id);
    let events = events(&world, 4).await;
    assert_eq!(told(&events[0]), (Outcome::Intended, None, 0));
    assert_eq!(told(&events[1]), (Outcome::Failed, Some("authority_changed"), 40));
    assert_eq!(told(&events[2]), (Outcome::Intended, None, 0));
    assert_eq!(told(&events[3]), (Outcome::Issued, None, 40));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_sign_on_trial_is_asked_again_after_a_pause_that_grows() {
    let (ca, theirs) = (TheirCa::new("theirs"), TheirCa::new("others"));
    let all = vec![Arc::clone(&ca), Arc::clone(&theirs)];
    let (backend, next) = (Backend::with(&ca, all.clone()), Backend::with(&theirs, all));
    let world = world(&backend).await;
    let other = world.another_on(Arc::clone(&next) as _);
    next.does(Does::Fails);
    let trials = async || {
        let theirs = theirs.issuing().id;
        let is_theirs = |event: &AuditEvent| event.what.as_ref().is_some_and(|what| what.authority == theirs.as_str());
        let of = |event: &AuditEvent| event.outcome == Outcome::Intended && is_theirs(event);
        world.events().await.iter().filter(|stored| of(&stored.event)).count()
    };
    for (seconds, expected) in [(0, 1), (1, 1), (5, 2), (5, 2), (6, 3)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        for _ in 0..3 {
            drop(other.rotator.turn().await);
        }
        assert_eq!(trials().await, expected, "after {seconds} s more");
    }
    // One that is known to be away is not asked at all.
    next.does(Does::IsAway);
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(other.rotator.turn().await);
    assert_eq!(trials().await, 3);
    next.does(Does::Signs);
    drop(other.rotator.turn().await);
    assert!(trials().await > 3);
}

#[path = "revoked_elsewhere_tests.rs"]
mod revoked;
