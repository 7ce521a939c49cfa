//! What an event of the log says about holders when it is entered behind the log, the same for every database.

use signet_core::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome, leaf_hash};

use super::columns::columns;

/// How long a certificate is taken to last whose record cannot be read: the longest lifetime that a CA grants unless it is
/// configured to grant more. Seconds.
const UNREAD_LIFE: i64 = 90 * 24 * 3600;

/// The issuing CA of such a certificate. None has this id: ids are hashes.
const UNREAD_AUTHORITY: &str = "0000000000000000000000000000000000000000";

/// The record of a certificate that was issued to a workload, as its columns hold it.
pub(super) struct CertificateRow {
    seq: i64,
    at_micros: i64,
    serial: Option<Vec<u8>>,
    leaf_hash: Vec<u8>,
    body: Option<Vec<u8>>,
}

columns!(CertificateRow { seq, at_micros, serial, leaf_hash, body } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

/// The event of a row, or what stands for it.
pub(super) enum Entered {
    /// What was recorded.
    Event(AuditEvent),
    /// The record is damaged, or of a newer program: somebody holds a certificate, and nobody knows who, of which issuing CA
    /// and until when. It counts as a holder of its own that has received nothing.
    Unread(AuditEvent),
}

impl Entered {
    /// The event that is entered.
    pub(super) fn event(&self) -> &AuditEvent {
        let (Self::Event(event) | Self::Unread(event)) = self;
        event
    }

    /// When the certificate of an unread record ends at the latest, seconds since 1970: it may be of any issuing CA.
    pub(super) fn unread_end(&self) -> Option<i64> {
        match self {
            Self::Event(_) => None,
            Self::Unread(event) => event.what.as_ref().map(|what| what.not_after),
        }
    }
}

impl CertificateRow {
    /// What is entered for this row.
    pub(super) fn entered(self) -> Entered {
        let whole = self.body.as_deref().filter(|body| leaf_hash(body).as_slice() == self.leaf_hash);
        let event = whole.and_then(|body| AuditEvent::decode(body).ok());
        event.map_or_else(|| Entered::Unread(self.stand_in()), |(event, _)| Entered::Event(event))
    }

    fn stand_in(&self) -> AuditEvent {
        let sequence = self.seq;
        tracing::warn!(
            sequence,
            "a record of a certificate cannot be read; its holder counts as one that has no bundle"
        );
        let serial = signet_core::digest::hex(self.serial.as_deref().unwrap_or_default());
        let seconds = self.at_micros.div_euclid(1_000_000);
        let what = Certified {
            serial: serial.clone(),
            key_hash: String::new(),
            other_names: Vec::new(),
            not_before: seconds,
            not_after: seconds.saturating_add(UNREAD_LIFE),
            authority: UNREAD_AUTHORITY.to_owned(),
            bundle_sequence: 0,
            acknowledges: false,
            fingerprint: None,
        };
        let spiffe_id = Some(format!("unread record {sequence}"));
        AuditEvent {
            at_micros: self.at_micros,
            request_id: String::new(),
            kind: EventKind::Certificate,
            outcome: Outcome::Issued,
            reason: None,
            detail: None,
            who: Attributed { spiffe_id, instance: Some(serial), ..Attributed::default() },
            what: Some(what),
            repeated: None,
        }
    }
}
