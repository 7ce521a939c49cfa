//! What takes the place of what: certificates, bundles, lists and renewal hints from both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::bundle::TrustBundle;
use signet_core::certificate::CertificateChain;
use signet_core::clock::{Clock, ManualClock};
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::secret::Secret;
use signet_runtime::config::parse;

use super::*;
use crate::config::read;
use crate::identity::renewal_hints::RenewalHint;
use crate::tests::test_bundles::validation;
use crate::tests::test_ca::Authority;

struct World {
    store: IdentityStore,
    clock: ManualClock,
    leaves: u8,
    authority: &'static str,
}

impl World {
    fn new() -> Self {
        let text = "trust_domain: td\nca: {address: 'https://ca:1', root_file: /r}\n";
        let clock = ManualClock::at(OffsetDateTime::UNIX_EPOCH);
        let store = IdentityStore::new(&parse("f", text, read).unwrap().config, Arc::new(clock.clone()));
        Self { store, clock, leaves: 0, authority: "aa" }
    }

    /// A certificate with the bundle of these roots comes.
    fn reply(&mut self, sequence: Option<u64>, roots: &[&Authority]) {
        self.leaves += 1;
        let (now, hour) = (self.clock.now(), Duration::from_secs(3600));
        let roots = roots.iter().map(|root| root.der.clone()).collect();
        self.store.obtained(Issued {
            spiffe_id: SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap(),
            chain: CertificateChain::new(CertificateDer::from(vec![self.leaves]), vec![]),
            key_pem: Arc::new(Secret::new(vec![])),
            bundle: TrustBundle::new(TrustDomain::parse("td").unwrap(), sequence.unwrap_or_default(), roots).unwrap(),
            sequence,
            serial: format!("{:032x}", self.leaves),
            authority: self.authority.to_owned(),
            issuer: String::new(),
            not_before: now,
            not_after: now + 2 * hour,
            renew_at: now + hour,
            jitter: 0.5,
        });
    }

    /// Number of the bundle, of roots and of lists.
    fn held(&self) -> (Option<u64>, usize, usize) {
        let held = self.store.statuses().borrow().validation.clone().unwrap();
        (held.sequence, held.validation.bundle.roots().len(), held.validation.revocation_lists.len())
    }

    fn stream(&self, sequence: u64, roots: &[&Authority], lists: &[&[u8]]) -> Receipt {
        self.store.bundle_stream(Link::Up, None);
        self.store.received(validation(sequence, roots, lists), Some(sequence))
    }
}

#[test]
fn the_bundle_of_a_reply_counts_only_when_it_is_newer_than_the_one_held() {
    // Held before (None: from a reply without number), whether a stream has worked, the reply's number; is it used?
    for (held, streamed, told, used) in [
        (Some(5), true, Some(4), false),
        (Some(5), true, Some(5), false),
        (Some(5), true, Some(6), true),
        (Some(5), true, None, false),
        (Some(5), false, Some(4), false),
        (Some(5), false, Some(6), true),
        (Some(5), false, None, true),
        (None, false, Some(1), true),
        (None, false, None, true),
        (None, true, None, false),
    ] {
        let mut world = World::new();
        let (a, b) = (Authority::root("a"), Authority::root("b"));
        world.reply(held, &[&a]);
        if streamed {
            world.store.bundle_stream(Link::Up, None);
        }
        world.reply(told, &[&a, &b]);
        let expected = if used { (told, 2, 0) } else { (held, 1, 0) };
        assert_eq!(world.held(), expected, "{held:?} {streamed} {told:?}");
        assert_eq!(world.store.statuses().borrow().obtained, 2, "the certificate counts in any case");
    }
}

#[test]
fn lists_stay_while_the_roots_do_and_go_when_a_reply_brings_other_roots() {
    let mut world = World::new();
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    world.reply(Some(5), &[&a]);
    assert_eq!(world.stream(5, &[&a], &[b"list"]), Receipt::Applied, "the reply of that number had no lists");
    assert_eq!(world.held(), (Some(5), 1, 1));
    world.reply(Some(6), &[&a]);
    assert_eq!(world.held(), (Some(6), 1, 1));
    world.reply(Some(7), &[&a, &b]);
    assert_eq!(world.held(), (Some(7), 2, 0));
    assert_eq!(world.stream(7, &[&a, &b], &[b"list", b"more"]), Receipt::Applied);
    assert_eq!(world.held(), (Some(7), 2, 2));
}

#[test]
fn what_the_stream_brings_is_applied_in_order_and_only_once() {
    let mut world = World::new();
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    world.reply(None, &[&a]);
    assert_eq!(world.stream(5, &[&a], &[]), Receipt::Unchanged);
    assert_eq!(world.held().0, Some(5), "but its number is known now");
    assert_eq!(world.stream(7, &[&a, &b], &[]), Receipt::Applied);
    assert_eq!(world.stream(6, &[&a], &[]), Receipt::Older(7));
    assert_eq!(world.held(), (Some(7), 2, 0));
    assert_eq!(
        world.stream(6, &[&a, &b], &[]),
        Receipt::Unchanged,
        "what is held may be acknowledged, whatever its number"
    );
    assert_eq!(world.stream(7, &[&a, &b], &[]), Receipt::Unchanged);
    let statuses = world.store.statuses();
    assert_eq!(world.store.received(validation(7, &[&a, &b], &[]), Some(7)), Receipt::Unchanged);
    assert!(!statuses.has_changed().unwrap(), "nobody is told of what is no news");
    // A server that tells no number is taken at its word; the number held stays.
    assert_eq!(world.store.received(validation(0, &[&b], &[]), None), Receipt::Applied);
    assert_eq!(world.held(), (Some(7), 1, 0));
}

#[test]
fn sd_08_only_what_changed_is_published() {
    let mut world = World::new();
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let mut snapshots = world.store.snapshots();
    let mut versions = || {
        let changed = snapshots.has_changed().unwrap();
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let version = |name| snapshot.secret(name).unwrap().version();
        (changed, version("default"), version("ROOTCA"))
    };
    world.reply(Some(5), &[&a]);
    let (_, leaf, roots) = versions();
    assert_eq!(world.stream(6, &[&a], &[]), Receipt::Unchanged);
    assert_eq!(versions(), (false, leaf, roots));
    world.stream(7, &[&a, &b], &[]);
    let (changed, same_leaf, other_roots) = versions();
    assert!(changed && same_leaf == leaf && other_roots != roots);
    world.reply(Some(7), &[&a, &b]);
    let (changed, other_leaf, same_roots) = versions();
    assert!(changed && other_leaf != leaf && same_roots == other_roots);
    world.store.failed("x".to_owned(), world.clock.now());
    assert!(!versions().0);
}

#[test]
fn a_hint_holds_for_every_certificate_of_its_authorities_while_it_stands_but_never_fast() {
    let mut world = World::new();
    let root = Authority::root("a");
    world.reply(None, &[&root]);
    let hint = |since| RenewalHint { authorities: vec!["aa".into()], since, window: 100, ..RenewalHint::default() };
    let renewal = |world: &World| world.store.statuses().borrow().early_renewal();
    let hints = |renew: Vec<RenewalHint>| Instructions { sequence: 1, renew, proof: None };
    let now = world.clock.now();
    world.store.instructed(&hints(vec![hint(200), hint(100)]));
    let due = renewal(&world).unwrap();
    assert!(due >= now + Duration::from_secs(100) && due <= now + Duration::from_secs(200), "the earlier one: {due}");
    // Time passes and it comes again: the same answer.
    world.clock.advance(Duration::from_secs(150));
    world.store.instructed(&hints(vec![hint(100), hint(200)]));
    assert_eq!(renewal(&world), Some(due));
    world.clock.advance(Duration::from_secs(1000));
    // The CA signs with the same authority again: ever later, but never later than the normal renewal.
    for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
        world.reply(None, &[&root]);
        let now = world.clock.now();
        assert_eq!(renewal(&world), Some(now + Duration::from_secs(pause)));
        assert_eq!(world.store.statuses().borrow().next_attempt, renewal(&world));
        world.store.instructed(&hints(vec![hint(100), hint(200)]));
        assert_eq!(renewal(&world), Some(now + Duration::from_secs(pause)), "the same hints change nothing");
        world.clock.advance(Duration::from_secs(1000));
    }
    world.authority = "bb";
    world.reply(None, &[&root]);
    assert_eq!(renewal(&world), None, "not about this one");
    world.authority = "aa";
    world.reply(None, &[&root]);
    assert_eq!(renewal(&world), Some(world.clock.now() + Duration::from_secs(10)), "it begins anew");
}

#[test]
fn a_revoked_certificate_is_renewed_and_no_other_and_more_of_them_put_nothing_off() {
    let mut world = World::new();
    let root = Authority::root("a");
    world.reply(None, &[&root]);
    let renewal = |world: &World| world.store.statuses().borrow().early_renewal();
    let hint = |world: &World, since, serials: &[&str]| {
        let serials = serials.iter().map(|serial| (*serial).to_owned()).collect();
        let renew = vec![RenewalHint { serials, since, window: 100, ..RenewalHint::default() }];
        world.store.instructed(&Instructions { sequence: 1, renew, proof: None });
    };
    hint(&world, 100, &["02"]);
    assert_eq!(renewal(&world), None, "another certificate");
    hint(&world, 110, &["02", "01"]);
    let due = renewal(&world).unwrap();
    assert_eq!(world.store.statuses().borrow().next_attempt, Some(due));
    for since in [120, 130, 500] {
        hint(&world, since, &["02", "01", "0a"]);
        assert_eq!(renewal(&world), Some(due), "another one was revoked");
    }
    hint(&world, 110, &["02"]);
    assert_eq!(renewal(&world), None, "taken back");
    hint(&world, 500, &["01"]);
    assert!(renewal(&world).unwrap() > due, "a new story");
    world.leaves = 6;
    world.reply(None, &[&root]);
    let status = world.store.statuses().borrow().clone();
    assert_eq!((status.early_renewal(), status.hinted_in_a_row), (None, 0), "the new certificate has another number");
}

#[test]
fn what_was_promised_to_a_revoked_certificate_is_not_promised_to_its_issuing_ca() {
    let mut world = World::new();
    world.reply(None, &[&Authority::root("a")]);
    let renewal = |world: &World| world.store.statuses().borrow().early_renewal().unwrap();
    let tell = |hint| world.store.instructed(&Instructions { sequence: 1, renew: vec![hint], proof: None });
    tell(RenewalHint { serials: vec!["01".into()], since: 100, window: 100, ..RenewalHint::default() });
    assert!(renewal(&world) <= world.clock.now() + Duration::from_secs(200));
    tell(RenewalHint { authorities: vec!["aa".into()], since: 500, window: 100, ..RenewalHint::default() });
    assert!(renewal(&world) >= world.clock.now() + Duration::from_secs(500));
}

#[test]
fn roots_that_a_newer_bundle_has_no_more_are_removed_until_a_bundle_has_them_again() {
    let mut world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(Authority::root);
    let removed = |world: &World| world.store.statuses().borrow().removed.clone();
    let of =
        |times, roots: &[&Authority]| RemovedRoots { roots: roots.iter().map(|it| it.der.clone()).collect(), times };
    world.reply(Some(5), &[&a, &b]);
    assert_eq!(removed(&world), of(0, &[]));
    world.stream(6, &[&b, &c], &[]);
    assert_eq!(removed(&world), of(1, &[&a]));
    world.stream(5, &[&a, &b], &[]);
    world.reply(Some(6), &[&b]);
    assert_eq!(removed(&world), of(1, &[&a]), "not newer");
    world.reply(Some(7), &[&c]);
    assert_eq!(removed(&world), of(2, &[&a, &b]));
    world.stream(8, &[&a, &c], &[]);
    assert_eq!(removed(&world), of(2, &[&b]));
    // Without a number nobody knows which is newer.
    world.store.received(validation(0, &[&a], &[]), None);
    assert_eq!(removed(&world), of(2, &[&b]));
    let many: Vec<Authority> = (0..MAX_REMOVED).map(|_| Authority::root("x")).collect();
    world.stream(9, &many.iter().collect::<Vec<_>>(), &[]);
    world.stream(10, &[&c], &[]);
    let now = removed(&world);
    assert_eq!((now.times, now.roots.len(), now.roots.contains(&b.der)), (4, MAX_REMOVED, false));
    // Nor is the first number above none.
    let mut world = World::new();
    world.reply(None, &[&a]);
    world.stream(5, &[&b], &[]);
    assert_eq!(removed(&world), of(0, &[]));
}

#[test]
fn lower_numbers_change_nothing_however_long_they_are_told_until_the_ca_goes_on_above_all_of_them() {
    let mut world = World::new();
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let status = |world: &World| world.store.statuses().borrow().clone();
    world.reply(Some(7), &[&a, &b]);
    let tell = |world: &World, sequence| {
        let proof = Some(format!("proof-{sequence}"));
        world.store.instructed(&Instructions { sequence, renew: vec![], proof });
    };
    let shown = |world: &World| status(world).bundle_stream.proof.map(|(_, proof)| proof.to_string()).unwrap();
    tell(&world, 7);
    assert_eq!((status(&world).bundle_stream.older, shown(&world).as_str()), (None, "proof-7"));
    world.store.instructed(&Instructions { sequence: 7, renew: vec![], proof: Some("other".to_owned()) });
    assert_eq!(shown(&world), "other", "the newest of the highest number");
    tell(&world, 7);
    for _ in 0..3 {
        assert_eq!(world.stream(3, &[&a], &[]), Receipt::Older(7));
        tell(&world, 3);
        world.clock.advance(Duration::from_secs(3600));
        world.reply(Some(3), &[&a]);
        assert_eq!((world.held(), status(&world).early_renewal()), ((Some(7), 2, 0), None), "and nothing is asked for");
        let stream = status(&world).bundle_stream;
        assert_eq!((stream.older, stream.last_failure), (Some(3), None));
        assert_eq!(shown(&world), "proof-7", "what the CA has forgotten");
    }
    // A replica has lagged.
    tell(&world, 7);
    assert_eq!(status(&world).bundle_stream.older, None);
    // The CA goes on with what it knows.
    assert_eq!(world.stream(1_800_000_000, &[&a], &[b"list"]), Receipt::Applied);
    tell(&world, 1_800_000_000);
    assert_eq!((world.held(), shown(&world).as_str()), ((Some(1_800_000_000), 1, 1), "proof-1800000000"));
    // The link may come and go.
    world.store.bundle_stream(Link::Down, Some("x".to_owned()));
    assert_eq!(shown(&world), "proof-1800000000");
    // One that tells none takes nothing away.
    world.store.instructed(&Instructions { sequence: 1_800_000_001, renew: vec![], proof: None });
    assert_eq!(shown(&world), "proof-1800000000");
}

#[test]
fn whoever_holds_a_certificate_of_a_root_that_is_gone_asks_for_another_within_seconds() {
    let mut world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(Authority::root);
    let renewal = |world: &World| world.store.statuses().borrow().early_renewal();
    world.reply(Some(5), &[&a]);
    world.stream(6, &[&a, &b], &[]);
    assert_eq!(renewal(&world), None, "it is still there");
    world.stream(7, &[&b], &[]);
    let ask = world.clock.now() + CUT_OFF_SPREAD / 2;
    assert_eq!(renewal(&world), Some(ask), "jitter 0.5");
    assert_eq!(world.store.statuses().borrow().next_attempt, Some(ask));
    world.clock.advance(Duration::from_secs(1));
    world.stream(8, &[&b, &c], &[]);
    assert_eq!(renewal(&world), Some(ask), "more roots put nothing off");
    world.reply(Some(8), &[&b, &c]);
    assert_eq!(renewal(&world), None);
    world.stream(9, &[&a], &[]);
    world.stream(10, &[&b, &c], &[]);
    assert_eq!(renewal(&world), None, "the root is back");
    let status = world.store.statuses().borrow().clone();
    assert_eq!(status.next_attempt, Some(status.held.unwrap().renew_at));
}

#[test]
fn while_attempts_fail_the_next_one_is_the_one_that_was_put_off_whatever_the_ca_wants() {
    let mut world = World::new();
    let [a, b] = ["a", "b"].map(Authority::root);
    let status = |world: &World| world.store.statuses().borrow().clone();
    world.reply(Some(5), &[&a]);
    let next = world.clock.now() + Duration::from_secs(7);
    world.store.failed("x".to_owned(), next);
    let hint = RenewalHint { authorities: vec!["aa".into()], since: 100, window: 100, ..RenewalHint::default() };
    world.store.instructed(&Instructions { sequence: 5, renew: vec![hint], proof: None });
    assert!(status(&world).early_renewal().is_some());
    assert_eq!(status(&world).next_attempt, Some(next), "a hint");
    world.stream(6, &[&b], &[]);
    assert!(status(&world).cut_off.is_some());
    assert_eq!(status(&world).next_attempt, Some(next), "a root that is gone");
}

#[test]
fn the_stream_remembers_since_when_and_what_went_wrong_last() {
    let world = World::new();
    let now = || world.store.statuses().borrow().bundle_stream.clone();
    assert_eq!(now(), BundleStreamStatus::default());
    world.store.bundle_stream(Link::Down, Some("one".to_owned()));
    world.clock.advance(Duration::from_secs(5));
    world.store.bundle_stream(Link::Down, Some("two".to_owned()));
    assert_eq!((now().since, now().worked), (Some(OffsetDateTime::UNIX_EPOCH), false));
    world.store.bundle_stream(Link::Up, None);
    assert_eq!((now().since, now().worked), (Some(world.clock.now()), true));
    assert_eq!(now().last_failure.unwrap().text, "two");
    world.store.bundle_stream(Link::Down, None);
    assert!(now().worked, "it did once");
}
