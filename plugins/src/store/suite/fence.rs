//! The fence: which certificates the journal lets out, as it is at the instant of their record.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::{AuditEvent, EventKind};
use signet_core::authority::{IssuingCa, KeyId, Root};
use signet_core::rotation::{Activation, Authorities, AuthorityState, RootAuthority};
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, HolderStore, JournalVersion};
use signet_core::unknown_fields::Unknown;
use time::OffsetDateTime;

use super::holders::{by, issuer};
use super::{START, assert_gapless, everything, held, issued, listed, refused};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    without_a_journal_no_certificate_leaves_and_everything_else_is_recorded(&*make().await[0]).await;
    a_certificate_of_an_issuing_ca_that_may_not_sign_fails_alone(&*make().await[0]).await;
    a_bundle_that_is_too_old_goes_out_no_more(&*make().await[0]).await;
    a_serving_certificate_may_be_of_an_old_root(&*make().await[0]).await;
    what_one_handle_changes_the_other_one_meets_with_its_next_record(make().await).await;
}

/// A root in this state, published with bundle `published`, above these issuing CAs.
fn root(name: u8, state: AuthorityState, published: u64, issuing: impl IntoIterator<Item = u8>) -> RootAuthority {
    let (certificate, start) = (vec![name].into(), OffsetDateTime::UNIX_EPOCH);
    let issuing = issuing.into_iter().map(|byte| {
        let ca = IssuingCa {
            id: issuer(byte),
            key: KeyId::parse("key"),
            certificate: vec![byte].into(),
            not_before: start,
            not_after: start,
            intermediates: Vec::new(),
        };
        ca.into()
    });
    RootAuthority {
        ca: Root {
            id: serde_json::from_value(format!("f{name:01x}").repeat(20).into()).unwrap(),
            key: None,
            certificate,
            not_before: start,
            not_after: start,
        },
        generation: u64::from(name),
        state,
        since: start,
        issuing: issuing.collect(),
        published,
        tainted_at: None,
        pinned: false,
        unknown: Unknown::default(),
    }
}

fn journal(bundle_sequence: u64, roots: Vec<RootAuthority>) -> Authorities {
    Authorities { bundle_sequence, roots, ..Authorities::default() }
}

/// A journal that lets every issuing CA of these tests sign, with any bundle.
pub(in crate::store) fn admitting() -> Authorities {
    journal(1, vec![root(1, AuthorityState::Active, 0, 0..=u8::MAX)])
}

async fn append(store: &impl AuditStore, events: Vec<AuditEvent>) -> Vec<Result<u64, AppendError>> {
    let appended = store.append(events).await.unwrap();
    appended.into_iter().map(|one| one.map(|recorded| recorded.sequence())).collect()
}

const FENCED: Result<u64, AppendError> = Err(AppendError::Fenced);

async fn without_a_journal_no_certificate_leaves_and_everything_else_is_recorded(store: &impl AuditStore) {
    for _again in 0..2 {
        assert_eq!(append(store, vec![issued("a", 1, START)]).await, [FENCED]);
    }
    let serving = AuditEvent { kind: EventKind::ServingCertificate, ..issued("a", 2, START) };
    assert_eq!(append(store, vec![refused("a", START), serving, refused("a", START)]).await, [Ok(0), FENCED, Ok(1)]);
    assert_eq!(append(store, vec![refused("a", START)]).await, [Ok(2)]);
    assert_gapless(&everything(store).await);
}

async fn a_certificate_of_an_issuing_ca_that_may_not_sign_fails_alone(
    store: &(impl AuditStore + AuthorityJournal + HolderStore),
) {
    let roots = vec![root(1, AuthorityState::OLD, 1, [1]), root(2, AuthorityState::Active, 1, [2])];
    store.replace(JournalVersion(0), &journal(1, roots)).await.unwrap();
    let of = |authority, serial: u64| by(held("a", &format!("p{serial:03}"), serial, 1, 10), authority);
    for first in [10, 20] {
        let batch = vec![of(2, first), of(1, first + 1), of(9, first + 2), of(2, first + 3)];
        let base = everything(store).await.len() as u64;
        assert_eq!(append(store, batch).await, [Ok(base), FENCED, FENCED, Ok(base + 1)]);
        assert_eq!(append(store, vec![of(1, first + 4)]).await, [FENCED], "alone");
    }
    let many: Vec<AuditEvent> = (100..300).map(|n| of(if n % 50 == 7 { 1 } else { 2 }, n)).collect();
    let results = append(store, many).await;
    assert_eq!(results.iter().filter(|result| **result == FENCED).count(), 4);
    assert_eq!((results[6], results[7], results[8]), (Ok(10), FENCED, Ok(11)));
    assert_gapless(&everything(store).await);
    // It left no trace: neither a holder, nor the end of a use, nor its serial.
    let holders = listed(store).await;
    assert_eq!(holders.len(), 4 + 196);
    assert!(holders.iter().all(|holder| holder.authority == issuer(2)));
    assert_eq!(store.last_ends().await.unwrap().into_keys().collect::<Vec<_>>(), [issuer(2)]);
    assert_eq!(append(store, vec![of(2, 11)]).await, [Ok(200)]);
}

async fn a_bundle_that_is_too_old_goes_out_no_more(store: &(impl AuditStore + AuthorityJournal)) {
    let roots =
        vec![root(1, AuthorityState::Active, 1, [1]), root(2, AuthorityState::Prepared(Activation::OnCommand), 4, [])];
    store.replace(JournalVersion(0), &journal(6, roots)).await.unwrap();
    let with = |sequence, serial| by(held("a", "p", serial, sequence, 10), 1);
    for serial in [10, 20] {
        let batch = (0..=6).map(|sequence| with(sequence, serial + sequence)).collect();
        let results = append(store, batch).await;
        assert!(results[..4].iter().all(|result| *result == FENCED), "{results:?}");
        assert!(results[4..].iter().all(Result::is_ok), "{results:?}");
    }
}

async fn a_serving_certificate_may_be_of_an_old_root(store: &(impl AuditStore + AuthorityJournal + HolderStore)) {
    let tainted =
        RootAuthority { tainted_at: Some(OffsetDateTime::UNIX_EPOCH), ..root(3, AuthorityState::Tainted, 1, [3]) };
    let leaving = root(4, AuthorityState::Old { leaving_since: Some(OffsetDateTime::UNIX_EPOCH) }, 1, [4]);
    let roots = vec![root(1, AuthorityState::OLD, 1, [1]), root(2, AuthorityState::Active, 2, [2]), tainted, leaving];
    store.replace(JournalVersion(0), &journal(3, roots)).await.unwrap();
    let of = |authority, serial| AuditEvent {
        kind: EventKind::ServingCertificate,
        ..by(issued("ca", serial, START), authority)
    };
    for serial in [10, 20] {
        let [old, active, compromised, leaving] =
            [1, 2, 3, 4].map(|authority| of(authority, serial + u64::from(authority)));
        let results = append(store, vec![old, active, compromised, leaving]).await;
        assert!(results[0].is_ok() && results[1].is_ok(), "{results:?}");
        assert_eq!(results[2..], [FENCED, FENCED]);
    }
    assert_eq!(store.last_ends().await.unwrap(), [].into(), "nothing is kept in the bundle for their sake");
}

/// As two processes on one database: nothing that one of them remembers of the journal outlives its change.
async fn what_one_handle_changes_the_other_one_meets_with_its_next_record<S>(handles: [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal,
{
    let [late, other] = handles;
    let state = |first, second| {
        let roots = vec![root(1, first, 1, [1]), root(2, second, 2, [2])];
        journal(2, roots)
    };
    let (active, old) = (AuthorityState::Active, AuthorityState::OLD);
    let of = |authority, serial: u64| by(held("a", &format!("p{serial}"), serial, 2, 10), authority);
    other.replace(JournalVersion(0), &state(active, AuthorityState::Prepared(Activation::OnCommand))).await.unwrap();
    for serial in 0..3 {
        assert!(append(&*late, vec![of(1, serial)]).await[0].is_ok());
    }
    other.replace(JournalVersion(1), &state(old, active)).await.unwrap();
    assert_eq!(append(&*late, vec![of(1, 10)]).await, [FENCED]);
    assert_eq!(append(&*late, vec![of(2, 11), of(1, 12)]).await, [Ok(3), FENCED]);
    late.replace(JournalVersion(2), &state(active, old)).await.unwrap();
    assert_eq!(append(&*other, vec![of(2, 13)]).await, [FENCED]);
    assert_eq!(append(&*late, vec![of(2, 14)]).await, [FENCED]);
    // Whatever changes, both go on in one turn, and nothing is refused that need not be.
    for serial in 20..23 {
        other.replace(JournalVersion(serial - 17), &state(active, old)).await.unwrap();
        assert!(append(&*late, vec![of(1, serial), refused("a", START)]).await.iter().all(Result::is_ok));
        assert!(append(&*other, vec![of(1, serial + 10)]).await[0].is_ok());
    }
    assert_gapless(&everything(&*other).await);
}
