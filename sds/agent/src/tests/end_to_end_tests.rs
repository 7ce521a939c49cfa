//! The agent against a CA in the same process: outages, rotations, wrong replies, moving clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_core::clock::{Clock, ManualClock, SystemClock};
use signet_core::csr::CertificateRequest;
use signet_core::shown_time::ShownTimes;
use signet_runtime::output::Width;
use signet_runtime::readiness::State;
use tonic::Code;

use crate::app::{AppError, fetch_once};
use crate::ca::reply::SKEW;
use crate::files::{CHAIN_FILE, KEY_FILE};
use crate::identity::status::Status;
use crate::inspection;
use crate::inspection_view::{View, as_json, as_tables};
use crate::tests::test_ca::{Authority, Mode, TestCa};
use crate::tests::test_world::{ID, World, token, within};

use super::bundle_stream_tests::AT_ONCE;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_first_certificate_comes_as_soon_as_the_ca_answers_and_carries_what_was_asked() {
    let world = World::new("20ms").await;
    world.ca.answer(Mode::Refuse(Code::Unavailable));
    let mut agent = world.start().await;
    let status = agent.until(|status| status.failures >= 3).await;
    assert!(status.last_failure.unwrap().text.ends_with("answered Unavailable: no [2J"), "control characters go");
    assert!(agent.check(State::Failing).await.contains("no certificate yet"));
    assert!(agent.metric("signet_agent_ca_up 0") && agent.metric("signet_agent_certificate_valid 0"));
    world.ca.answer(Mode::Good);
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    assert_eq!(held.spiffe_id.as_str(), ID);
    agent.check(State::Ready).await;
    let call = world.ca.calls().pop().unwrap();
    assert_eq!((call.authorization, call.cluster.as_str()), (format!("Bearer {}", token(1)), "Kubernetes"));
    assert_eq!(call.validity, Some(86_400));
    assert_eq!(CertificateRequest::parse(&call.csr).unwrap().names().uris, [ID]);
    let (chain, roots) = world.fetch().await;
    assert_eq!((chain.matches("BEGIN CERTIFICATE").count(), roots), (2, 1), "leaf and intermediate, and the root");
    assert!(!chain.contains(&world.ca.root_pem()));
    let counted = |result: &str| format!("signet_agent_renewals_total{{result=\"{result}\"}}");
    assert!(agent.metric(&(counted("first") + " 1")) && agent.metric(&(counted("ok") + " 0")), "nothing was renewed");
    assert!(agent.metric("signet_agent_ca_up 1") && agent.metric("signet_agent_certificate_valid 1"));
    let expiry = held.not_after.unix_timestamp();
    assert!(agent.metric(&format!("signet_agent_certificate_expiry_timestamp_seconds {expiry}")));
}

#[tokio::test]
async fn a_certificate_that_starts_in_the_future_since_the_clocks_were_set_back_is_renewed_at_once() {
    for back in [HOUR, 24 * HOUR, 40 * 24 * HOUR, 5 * 365 * 24 * HOUR] {
        let world = World::new("20ms").await;
        let mut agent = world.start().await;
        let first = agent.until(|status| status.obtained == 1).await.held.unwrap();
        let now = world.clock.now() - back;
        world.clock.set(now);
        let second = agent.until(|status| status.obtained == 2).await.held.unwrap();
        assert!(first.not_before > now && second.not_before <= now, "{back:?}");
        agent.check(State::Ready).await;
    }
}

#[tokio::test]
async fn a_certificate_that_starts_no_more_in_the_future_than_clocks_differ_is_kept() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let first = agent.until(|status| status.obtained == 1).await.held.unwrap();
    world.clock.set(first.not_before - SKEW);
    // Not across sockets: time stands still only while it is moved on.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    // As much as happens in several calls.
    for _ in 0..20 {
        world.fetch().await;
    }
    assert_eq!(world.ca.calls().len(), 1);
    world.clock.set(first.not_before - SKEW - Duration::from_secs(1));
    agent.until(|status| status.obtained == 2).await;
}

#[tokio::test]
async fn renewal_happens_at_its_time_by_the_wall_clock_and_not_before() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let first = agent.until(|status| status.obtained == 1).await;
    let held = first.held.unwrap();
    assert_eq!(first.next_attempt, Some(held.renew_at));
    world.clock.set(held.renew_at - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.ca.calls().len(), 1);
    // Back by an hour: nothing is lost and nothing is asked for.
    world.clock.set(world.clock.now() - HOUR);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.ca.calls().len(), 1);
    assert_eq!(world.fetch().await.0, held.chain.pem());
    world.clock.set(held.renew_at);
    let second = agent.until(|status| status.obtained == 2).await.held.unwrap();
    assert_ne!(second.serial, held.serial);
    assert_ne!(second.key_pem.expose(), held.key_pem.expose(), "a key is used once");
    assert_eq!(second.bundle, held.bundle);
    // Far forward, past its end.
    world.clock.set(second.not_after + HOUR);
    let third = agent.until(|status| status.obtained == 3).await.held.unwrap();
    assert!(third.not_after > world.clock.now());
    agent.check(State::Ready).await;
    assert_eq!(world.ca.calls().len(), 3);
}

#[tokio::test]
async fn with_the_ca_away_the_old_certificate_is_served_to_a_new_proxy_until_the_ca_is_back() {
    let mut world = World::new("20ms").await;
    let tls = Authority::root("tls");
    std::fs::write(world.path("roots.pem"), tls.pem()).unwrap();
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
    let mut agent = world.start().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    agent.check(State::Ready).await;
    world.serving.take().unwrap().stop().await;
    world.clock.set(held.renew_at);
    agent.until(|status| status.failures >= 2).await;
    let detail = agent.check(State::Degraded).await;
    assert!(detail.contains("cannot connect to the CA") && detail.contains("in a row"), "{detail}");
    assert!(agent.ops.readiness.snapshot().ready, "degraded is still ready");
    assert_eq!(world.fetch().await.0, held.chain.pem());
    // Not silently beyond its end, but still.
    world.clock.set(held.not_after);
    assert!(agent.check(State::Failing).await.contains("expired at"));
    assert!(agent.metric("signet_agent_certificate_valid 0") && agent.metric("signet_agent_ca_up 0"));
    assert_eq!(world.fetch().await.0, held.chain.pem());
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
    let status = agent.until(|status| status.obtained == 2).await;
    assert_eq!(status.failures, 0);
    agent.check(State::Ready).await;
    assert_ne!(world.fetch().await.0, held.chain.pem());
}

#[tokio::test]
async fn the_token_is_read_for_every_call_and_without_one_nothing_is_sent() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let held = agent.until(|status| status.obtained == 1).await.held.unwrap();
    std::fs::write(world.path("token"), "  \n").unwrap();
    world.clock.set(held.renew_at);
    let status = agent.until(|status| status.failures >= 2).await;
    assert!(status.last_failure.unwrap().text.ends_with("is empty"));
    assert!(agent.metric("signet_agent_ca_up 1"), "an empty token says nothing about the CA");
    std::fs::remove_file(world.path("token")).unwrap();
    let failures = status.failures;
    agent.until(|status| status.failures >= failures + 2).await;
    assert_eq!(world.ca.calls().len(), 1);
    std::fs::write(world.path("token"), token(2)).unwrap();
    agent.until(|status| status.obtained == 2).await;
    assert_eq!(world.ca.calls().pop().unwrap().authorization, format!("Bearer {}", token(2)));
}

#[tokio::test]
async fn a_wrong_reply_is_refused_and_the_old_certificate_stays() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let held = agent.until(|status| status.obtained == 1).await.held.unwrap();
    world.ca.answer(Mode::WrongIdentity);
    world.clock.set(held.renew_at);
    let status = agent.until(|status| status.failures >= 2).await;
    let text = status.last_failure.unwrap().text;
    assert!(text.contains("certified [\"spiffe://td/ns/prod/sa/other\"] instead of"), "{text}");
    assert_eq!(world.fetch().await.0, held.chain.pem());
    assert!(agent.ops.metrics.render().unwrap().contains("renewals_total{result=\"bad_reply\"}"));
}

#[tokio::test]
async fn a_changed_root_file_or_token_cuts_a_long_wait_short() {
    let mut world = World::new("60s").await;
    let other = Authority::root("tls");
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&other, Some(world.address)).await);
    let mut agent = world.start().await;
    let status = agent.until(|status| status.failures == 1).await;
    let text = status.last_failure.unwrap().text;
    assert!(text.contains("cannot connect"), "{text}");
    assert_eq!(world.ca.calls(), [], "the token goes to nobody whom the root file does not trust");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(agent.statuses.borrow().failures, 1, "files that did not change cut no wait short");
    world.ca.answer(Mode::Refuse(Code::Unauthenticated));
    std::fs::write(world.path("roots.pem"), other.pem()).unwrap();
    agent.until(|status| status.failures == 2).await;
    world.ca.answer(Mode::Good);
    std::fs::write(world.path("token"), token(2)).unwrap();
    agent.until(|status| status.held.is_some()).await;
}

#[tokio::test]
async fn a_root_file_without_certificates_and_a_ca_that_hangs_are_clear_errors() {
    let mut world = World::new("20ms").await;
    world.config.ca.timeout = Duration::from_millis(200);
    world.ca.answer(Mode::Hang);
    let mut agent = world.start().await;
    let status = agent.until(|status| status.failures >= 1).await;
    let text = status.last_failure.unwrap().text;
    assert!(text.contains("did not answer within 0.2s (ca.timeout)"), "{text}");
    std::fs::write(world.path("roots.pem"), "junk").unwrap();
    let is_clear = |status: &Status| {
        status
            .last_failure
            .as_ref()
            .is_some_and(|failure| failure.text.contains("roots.pem: it holds text, but no PEM block (ca.root_file)"))
    };
    agent.until(is_clear).await;
}

#[tokio::test]
async fn certificates_that_are_born_old_do_not_make_a_hot_loop() {
    // How long they live, and how many calls are waited for: there is one at most for each twentieth of a life.
    for (ttl, calls) in [(24 * HOUR, 1), (Duration::from_secs(10), 3)] {
        let clock = ManualClock::at(time::OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap());
        let mut ca = TestCa::new(clock.clone());
        ca.ttl = ttl;
        let world = World::with_tls(clock, ca, &Authority::root("tls"), "20ms").await;
        world.ca.answer(Mode::Old);
        let start = Instant::now();
        let mut agent = world.start().await;
        agent.until(|status| status.obtained >= u64::from(calls)).await;
        assert!(start.elapsed() >= ttl / 20 * (calls - 1), "{calls} calls with {ttl:?} in {:?}", start.elapsed());
        if calls == 1 {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            assert_eq!(world.ca.calls().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_wall_clock_that_stands_still_puts_no_renewal_off() {
    let clock = ManualClock::at(time::OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap());
    let mut ca = TestCa::new(clock.clone());
    ca.ttl = Duration::from_secs(2);
    let world = World::with_tls(clock, ca, &Authority::root("tls"), "20ms").await;
    let mut agent = world.start().await;
    agent.until(|status| status.obtained >= 2).await;
}

#[tokio::test]
async fn the_end_of_a_certificate_is_noticed_without_any_other_event() {
    // The renewer is within its least time between two certificates and says nothing.
    let world = World::new("60s").await;
    let mut agent = world.start().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    agent.check(State::Ready).await;
    let start = Instant::now();
    world.clock.set(held.not_after);
    assert!(agent.check(State::Failing).await.contains("a renewal is due"));
    assert!(start.elapsed() < AT_ONCE, "by the end itself, not because it is looked at now and then");
    assert!(agent.metric("signet_agent_certificate_valid 0"));
}

#[tokio::test]
async fn inspection_tells_what_is_served_until_when_and_to_whom() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    agent.check(State::Ready).await;
    let socket = &world.config.sds.socket;
    let mut proxy = world.connect(&["default"]).await;
    proxy.next().await;
    let answer = inspection::ask(socket).await.unwrap();
    let json = as_json(&answer);
    assert_eq!(json["ready"], true);
    assert_eq!(
        (&json["identities"][0]["spiffe_id"], &json["identities"][0]["serial"]),
        (&ID.into(), &held.serial.clone().into())
    );
    assert_eq!(json["secrets"][0]["name"], "ROOTCA");
    assert_eq!((&json["streams"][0]["names"][0], &json["streams"][0]["pushes"]), (&"default".into(), &1.into()));
    assert!(json["identities"][0]["last_error_at"].is_null());
    let tables = as_tables(&answer, View { width: Width::Unlimited, times: ShownTimes::Absolute });
    for part in [ID, &held.serial, "CN=test issuer", "ROOTCA", "last error    none", "2023-11-14T"] {
        assert!(tables.contains(part), "{part}\n{tables}");
    }
    assert!(agent.metric("signet_agent_sds_streams 1") && agent.metric("signet_agent_sds_pushes_total 1"));
    let nobody = inspection::ask(&world.path("none")).await.unwrap_err();
    assert!(nobody.to_string().starts_with("no agent answers on"), "{nobody}");
}

#[tokio::test]
async fn stopping_ends_streams_and_tasks_in_time_and_removes_the_socket() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    agent.until(|status| status.held.is_some()).await;
    let socket = world.config.sds.socket.clone();
    let mut proxy = world.connect(&[]).await;
    proxy.next().await;
    let outcome = agent.stop().await;
    assert!(outcome.failure.is_none() && outcome.aborted.is_empty(), "{outcome:?}");
    assert_eq!(within(proxy.responses.message()).await.unwrap_err().code(), Code::Unavailable);
    assert!(!socket.exists());
}

#[tokio::test]
async fn fetching_once_writes_a_matching_set_or_tells_the_last_failure() {
    let world = World::at(SystemClock.now(), "20ms").await;
    let out = world.path("out");
    fetch_once(&world.config, &out, Duration::from_secs(60)).await.unwrap();
    let chain = std::fs::read_to_string(out.join(CHAIN_FILE)).unwrap();
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(out.join(KEY_FILE)).unwrap()).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
    let facts = signet_core::certificate::Facts::read(&block.contents).unwrap();
    assert_eq!(facts.spki_der, rcgen::PublicKeyData::subject_public_key_info(&key));
    world.ca.answer(Mode::Refuse(Code::Unauthenticated));
    let failed = fetch_once(&world.config, &out, Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(&failed, AppError::NoCertificate { last: Some(_), .. }), "{failed:?}");
    assert_eq!(std::fs::read_to_string(out.join(CHAIN_FILE)).unwrap(), chain, "the old set stays");
}

#[tokio::test]
async fn neither_keys_nor_tokens_are_ever_logged() {
    use std::io::Write;
    use std::sync::Mutex;
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let format = signet_runtime::telemetry::LogFormat::Json;
    let subscriber = signet_runtime::telemetry::subscriber(format, "trace", move || writer.clone(), false).unwrap();
    // For the whole process: a subscriber of one thread only races with the threads of other tests, which cache that
    // nobody listens to an event.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let world = World::new("20ms").await;
    world.ca.answer(Mode::WrongIdentity);
    let mut agent = world.start().await;
    agent.until(|status| status.failures >= 1).await;
    world.ca.answer(Mode::Good);
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.fetch().await;
    assert!(agent.stop().await.failure.is_none());
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("\"certificate obtained\"") && log.contains("no certificate obtained"), "the log is captured");
    assert!(
        log.contains("\"serial\":\"") && log.contains("\"spiffe_id\":\"") && log.contains("\"authority.key_id\":\"")
    );
    let key = held.key_pem.expose_str().unwrap();
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!log.contains(line), "a line of the key was logged");
    }
    assert!(!log.contains("signature1"), "the token was logged");
}
