//! Certificates in the place of tokens, through the whole pipeline in memory: who gets another one, who does not and why, and
//! that storage decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::Ordering;

use futures::FutureExt;
use signet_core::audit::Outcome;
use signet_core::authority::AuthorityId;
use signet_core::csr::CertificateRequest;
use signet_core::digest::{hex, key_hash};
use signet_core::identity::WorkloadId;
use signet_core::policy::decide;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::Command;
use signet_core::seams::authenticator::LiveWorkloads;
use signet_core::seams::store::JournalVersion;
use signet_core::secret::Secret;
use signet_plugins::store::memory::MemoryStore;
use tonic::Code;

use super::*;
use crate::client_identity::test_mesh::{self, TestRoot};
use crate::clusters::Clusters;
use crate::grpc::status;
use crate::issuance::{Application, Issued};
use crate::issue_error::IssueError;
use crate::operations::Operator;
use crate::signing_state;
use crate::world_tests::{DAY, NOW, WEB, World, application, csr};

/// Who shows this chain in a handshake.
fn client(issued: &Issued) -> Arc<ClientIdentity> {
    let chain: Vec<_> = issued.chain.iter().cloned().collect();
    Arc::new(ClientIdentity::of_verified(&chain).unwrap())
}

/// An application without a token.
fn by(client: &Arc<ClientIdentity>) -> Application {
    Application { token: None, client: Some(Arc::clone(client)), ttl: Some(20 * 86_400), ..application() }
}

/// The holder of a certificate of a token.
async fn holder(world: &World) -> Arc<ClientIdentity> {
    let with_token = Application { ttl: Some(20 * 86_400), ..application() };
    client(&world.issuance.issue(&with_token).await.unwrap())
}

async fn refused(world: &World, application: &Application) -> IssueError {
    world.issuance.issue(application).await.unwrap_err().0
}

fn active(world: &World) -> AuthorityId {
    signing_state::current(&world.state).unwrap().authorities.active().unwrap().id.clone()
}

/// The same world with a cluster that demands this.
fn demanding(world: &mut World, certificates: Option<CertificateRules>) {
    let served = world.issuance.clusters.select(None).unwrap();
    let served = Served { certificates, ..Served::clone(&served) };
    Arc::get_mut(&mut world.issuance).unwrap().clusters = Arc::new(Clusters::new(vec![served]));
}

#[tokio::test]
async fn a_certificate_gets_the_next_one_for_the_same_holder_until_a_week_after_the_token() {
    let world = World::new().await;
    let mut current = holder(&world).await;
    for day in 1..7 {
        world.clock.set(NOW + day * DAY);
        let issued = world.issuance.issue(&by(&current)).await.unwrap();
        let event = world.events().await.remove(0).event;
        let who = &event.who;
        assert_eq!((who.spiffe_id.as_deref(), who.service_account.as_deref()), (Some(WEB), Some("web")));
        assert_eq!((who.service_account_uid.as_deref(), who.cluster.as_deref()), (Some("uid"), Some("Kubernetes")));
        assert_eq!(
            (who.auth_method.as_deref(), &who.certificate),
            (Some("client-certificate"), &Some(current.serial.clone()))
        );
        assert_eq!((event.at(), event.last_token()), (NOW + day * DAY, Some(NOW)), "the time travels");
        current = client(&issued);
        assert_eq!(current.not_after, NOW + (day + 20) * DAY, "as with a token");
    }
    world.clock.set(NOW + 7 * DAY);
    assert_eq!(refused(&world, &by(&current)).await.label(), "token_too_long_ago");
    let again = Application { client: Some(Arc::clone(&current)), ..application() };
    let issued = world.issuance.issue(&again).await.unwrap();
    let event = world.events().await.into_iter().find(|stored| stored.event.outcome == Outcome::Issued).unwrap().event;
    assert_eq!((event.who.auth_method.as_deref(), event.who.certificate), (Some("jwks"), None), "a token begins anew");
    assert!(world.issuance.issue(&by(&client(&issued))).await.is_ok());
}

#[tokio::test]
async fn who_is_refused_is_told_nothing_and_the_record_says_who_showed_what_and_why() {
    type Change = fn(&mut Application);
    let cases: [(&str, Change); 4] = [
        // The certificate is good in all of these.
        ("signature_invalid", |it| it.token = Some(Secret::new(b"stranger".to_vec()))),
        ("signature_invalid", |it| it.token = Some(Secret::new(Vec::new()))),
        ("impersonator_by_certificate", |it| it.impersonated = Some("spiffe://cluster.local/ns/x/sa/y".into())),
        ("cluster_unknown", |it| it.cluster = Some("nowhere".into())),
    ];
    let world = World::new().await;
    let holder = holder(&world).await;
    for (reason, change) in cases {
        let mut application = by(&holder);
        change(&mut application);
        let error = refused(&world, &application).await;
        assert_eq!(error.label(), reason);
        assert_eq!(status::of(&error).code(), Code::Unauthenticated, "{reason}");
        world.recorded(Outcome::Refused, reason).await;
    }
    world.clock.set(NOW + 7 * DAY);
    let error = refused(&world, &by(&holder)).await;
    assert_eq!(status::of(&error).message(), "request authenticate failure");
    let who = world.recorded(Outcome::Refused, "token_too_long_ago").await.who;
    assert_eq!((who.spiffe_id.as_deref(), &who.certificate), (Some(WEB), &Some(holder.serial.clone())));
    assert_eq!((who.cluster.as_deref(), who.auth_method), (Some("Kubernetes"), None));
}

#[tokio::test]
async fn what_the_key_of_an_issuing_ca_signs_off_the_record_gets_nothing() {
    let world = World::new().await;
    let good = holder(&world).await;
    // Whoever has the key needs nobody to decide or to record anything.
    let state = signing_state::current(&world.state).unwrap();
    let subject = WorkloadId::parse(WEB).unwrap();
    let serial = Serial::new(NOW, [7; 16]);
    let request = CertificateRequest::parse(&csr(&[])).unwrap();
    let policy = &world.issuance.policy;
    let request = decide(policy, subject, request, None, state.authority.limits(), serial, NOW).unwrap();
    let chain: Vec<_> = state.authority.sign(&request).await.unwrap().iter().cloned().collect();
    let forged = Arc::new(ClientIdentity::of_verified(&chain).unwrap());
    assert!(world.issuance.by_certificate.clients.check_again(&forged, NOW).is_ok(), "it is as good as any");
    assert_eq!(refused(&world, &by(&forged)).await.label(), "certificate_not_on_record");
    let event = world.recorded(Outcome::Refused, "certificate_not_on_record").await;
    assert_eq!(event.who.certificate, Some(serial.to_string()));
    assert!(world.issuance.issue(&by(&good)).await.is_ok());
}

#[tokio::test]
async fn a_cluster_without_that_section_takes_no_certificate_and_storage_is_not_asked() {
    let mut world = World::new().await;
    let holder = holder(&world).await;
    demanding(&mut world, None);
    world.store.silent.store(true, Ordering::SeqCst);
    assert_eq!(refused(&world, &by(&holder)).await.label(), "certificate_not_accepted");
    let neither = Application { token: None, ..application() };
    assert_eq!(refused(&world, &neither).await.label(), "token_missing");
    // Nor is it for a token.
    assert!(world.issuance.issue(&Application { client: Some(holder), ..application() }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn while_storage_is_away_nobody_is_refused_and_nobody_is_believed() {
    let world = World::new().await;
    let holder = holder(&world).await;
    let flags = [&world.store.unreadable, &world.store.silent];
    for flag in flags {
        flag.store(true, Ordering::SeqCst);
        let error = refused(&world, &by(&holder)).await;
        assert_eq!((error.label(), error.outcome()), ("record_unavailable", Outcome::Failed));
        assert_eq!(status::of(&error).code(), Code::Unavailable);
        flag.store(false, Ordering::SeqCst);
        assert!(world.issuance.issue(&by(&holder)).await.is_ok());
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_proves_nobody() {
    let world = World::new().await;
    let holder = holder(&world).await;
    world.store.garbled.store(true, Ordering::SeqCst);
    let error = refused(&world, &by(&holder)).await;
    assert_eq!(error.label(), "certificate_not_on_record");
    assert!(error.to_string().contains("written by a newer version"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_counts_at_once_also_where_nobody_has_heard_of_it() {
    let world = World::new().await;
    let other = world.another();
    other.rotator.turn().await.unwrap();
    let (revoked, good) = (holder(&world).await, holder(&world).await);
    for one in [&world, &other] {
        assert!(one.issuance.issue(&by(&revoked)).await.is_ok());
    }
    let serial = Serial::parse(&revoked.serial).unwrap();
    let operator = Operator::of_this_process();
    world.operations.revoke_certificate(&operator, serial, RevocationReason::KeyCompromise, false).await.unwrap();
    // This one waits until it has, and has itself woken.
    let application = by(&revoked);
    let mut asking = Box::pin(other.issuance.issue(&application));
    assert!((&mut asking).now_or_never().is_none());
    assert!(other.rotator.wake_up.notified().now_or_never().is_some());
    other.rotator.turn().await.unwrap();
    assert_eq!(asking.await.unwrap_err().0.label(), "certificate_revoked");
    assert!(other.issuance.issue(&by(&good)).await.is_ok());
    // That one hears of nothing, and does not guess.
    let error = refused(&world, &by(&good)).await;
    assert_eq!((error.label(), status::of(&error).code()), ("authorities_behind", Code::Unavailable));
    world.rotator.turn().await.unwrap();
    assert_eq!(refused(&world, &by(&revoked)).await.label(), "certificate_revoked");
}

#[tokio::test]
async fn after_a_taint_the_certificates_of_that_root_get_nothing_and_those_of_the_next_do() {
    let world = World::new().await;
    let old = holder(&world).await;
    let taint = Command::Taint { id: active(&world), force: true };
    world.operations.command(&Operator::of_this_process(), taint, "test").await.unwrap();
    world.rotator.turn().await.unwrap();
    assert_eq!(refused(&world, &by(&old)).await.label(), "certificate_authority_tainted");
    let with_token = world.issuance.issue(&application()).await.unwrap();
    let new = client(&with_token);
    assert!(world.issuance.issue(&by(&new)).await.is_ok());
}

#[tokio::test]
async fn a_chain_that_does_not_verify_any_more_proves_nobody_whatever_is_on_record() {
    let world = World::new().await;
    let holder = holder(&world).await;
    // Before the backdate, and within what clocks may differ.
    world.clock.set(NOW - DAY / 480);
    assert_eq!(refused(&world, &by(&holder)).await.label(), "certificate_not_valid");
    world.clock.set(NOW + 20 * DAY);
    assert_eq!(refused(&world, &by(&holder)).await.label(), "certificate_expired");
}

#[tokio::test]
async fn a_chain_with_the_key_of_a_compromised_root_proves_nobody_although_a_sound_one_vouches_for_it() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let mut authorities = test_mesh::authorities(1, &[&old, &new], &[]);
    authorities.roots[0].tainted_at = Some(NOW);
    let store = Arc::new(MemoryStore::new());
    store.replace(JournalVersion(0), &authorities).await.unwrap();
    let (writer, state) = test_mesh::nothing();
    test_mesh::publish_authorities(&writer, authorities, &new);
    let mut shown = new.leaf(WEB, NOW, |params| params.use_authority_key_identifier_extension = true);
    let (world, leaf) = (World::new().await, shown.facts());
    // As it would be on record if this CA had issued it.
    world.issuance.issue(&application()).await.unwrap();
    let mut event = world.events().await.remove(0).event;
    let what = event.what.as_mut().unwrap();
    (what.serial, what.key_hash) = (leaf.serial_text(), hex(&key_hash(&leaf.spki_der)));
    (what.not_after, what.authority) = (leaf.not_after.unix_timestamp(), new.issuing_id().to_string());
    what.bundle_sequence = 9;
    store.append(vec![event]).await.unwrap().remove(0).unwrap();
    let clients = Arc::new(ClientVerifier::new(test_mesh::trust_domain(), state.clone()));
    let callers = CertificateCallers::new(Arc::clone(&store) as _, store, clients, state, Arc::default());
    let cluster = world.issuance.clusters.select(None).unwrap();
    let judged = async |shown: &test_mesh::Shown| {
        let identity = ClientIdentity::of_verified(&shown.chain).unwrap();
        callers.authenticate(&identity, &cluster, NOW).await.map_err(|error| error.label())
    };
    assert_eq!(judged(&shown).await.unwrap().identity.to_string(), WEB);
    shown.chain.push(new.vouches_for(&old));
    assert_eq!(judged(&shown).await, Err("certificate_authority_tainted"));
}

/// Knows nobody, or does not know.
struct Live(AuthenticationError);

impl LiveWorkloads for Live {
    fn check(&self, caller: &Caller, _: OffsetDateTime) -> Result<(), AuthenticationError> {
        assert_eq!(caller.identity.to_string(), WEB);
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn where_the_pod_has_to_live_whoever_knows_that_is_asked_and_a_token_needs_nobody() {
    let gone = AuthenticationError::denied(Denial::PodGone, "gone");
    let unknown = AuthenticationError::unavailable(Outage::ObjectsUnknown, "not yet");
    for (says, label, code) in
        [(gone, "pod_gone", Code::Unauthenticated), (unknown, "objects_unknown", Code::Unavailable)]
    {
        let mut world = World::new().await;
        let rules = CertificateRules { last_token_within: 7 * DAY, live: Some(Arc::new(Live(says))) };
        demanding(&mut world, Some(rules));
        let holder = holder(&world).await;
        let error = refused(&world, &by(&holder)).await;
        assert_eq!((error.label(), status::of(&error).code()), (label, code));
    }
}
