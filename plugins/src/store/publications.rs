//! What is kept of publishers, the same for every database: statements, and rows as what they say.

use std::collections::BTreeMap;

use signet_core::audit::AuditEvent;
use signet_core::publication::{KEPT, MAX_NAME, Publication, Publications, Report};
use signet_core::seams::store::StoreError;

use super::holders::{column, micros};

/// The longest text of a problem that is kept, in characters.
const MAX_PROBLEM: usize = 1000;

/// Keeps the last report of a publisher: name, places wanted and in place, problem, time.
pub(super) const REPORT: &str = "INSERT INTO publication (publisher, wanted, in_place, problem, heard_at) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (publisher) DO UPDATE SET wanted = excluded.wanted, \
    in_place = excluded.in_place, problem = excluded.problem, heard_at = excluded.heard_at \
    WHERE excluded.heard_at >= publication.heard_at";

/// Keeps when a bundle was in place first: name, sequence, time.
pub(super) const REACHED: &str = "INSERT INTO publication_reached (publisher, sequence, at) VALUES ($1, $2, $3) \
    ON CONFLICT (publisher, sequence) DO NOTHING";

/// Forgets all but the newest bundles of a publisher: its name, and how many stay.
pub(super) const PRUNE: &str = "DELETE FROM publication_reached WHERE publisher = $1 AND sequence NOT IN \
    (SELECT sequence FROM publication_reached WHERE publisher = $1 ORDER BY sequence DESC LIMIT $2)";

/// All of them, each as often as there are bundles that it has had in place.
pub(super) const READ: &str = "SELECT p.publisher, p.wanted, p.in_place, p.problem, p.heard_at, r.sequence, r.at \
    FROM publication AS p LEFT JOIN publication_reached AS r ON r.publisher = p.publisher ORDER BY p.publisher, r.sequence";

/// Who has the turn: name, process, now, until.
pub(super) const TAKE_TURN: &str = "INSERT INTO publication_turn (publisher, who, until) VALUES ($1, $2, $4) \
    ON CONFLICT (publisher) DO UPDATE SET who = excluded.who, until = excluded.until \
    WHERE publication_turn.who = excluded.who OR publication_turn.until <= $3";

/// Whether somebody else has it: name, process, now.
pub(super) const IS_TAKEN: &str =
    "SELECT count(*) FROM publication_turn WHERE publisher = $1 AND who <> $2 AND until > $3";

/// Those that were not heard of since a time.
pub(super) const SILENT: &str = "SELECT publisher FROM publication WHERE heard_at < $1 ORDER BY publisher";

/// Forgets one: its name, and the time. The next two are about those of which there is nothing else any more.
pub(super) const FORGET: &str = "DELETE FROM publication WHERE publisher = $1 AND heard_at < $2";
pub(super) const FORGET_REACHED: &str =
    "DELETE FROM publication_reached WHERE publisher NOT IN (SELECT publisher FROM publication)";
pub(super) const FORGET_TURNS: &str =
    "DELETE FROM publication_turn WHERE publisher NOT IN (SELECT publisher FROM publication)";

/// How many bundles of a publisher stay.
pub(super) const KEEP: i64 = KEPT as i64;

/// A report as columns.
pub(super) struct NewReport {
    pub(super) publisher: String,
    pub(super) sequence: Option<i64>,
    pub(super) wanted: i64,
    pub(super) in_place: i64,
    pub(super) problem: Option<String>,
    pub(super) at: i64,
}

impl NewReport {
    /// # Errors
    /// [`StoreError::Unavailable`] for a name that is too long, which is a bug of the publisher.
    pub(super) fn of(report: &Report) -> Result<Self, StoreError> {
        if report.publisher.len() > MAX_NAME {
            return Err(StoreError::Unavailable(format!("the name of a publisher has more than {MAX_NAME} bytes")));
        }
        Ok(Self {
            publisher: report.publisher.clone(),
            sequence: report.sequence.map(column),
            wanted: column(report.wanted),
            in_place: column(report.in_place),
            problem: report.problem.as_ref().map(|problem| problem.chars().take(MAX_PROBLEM).collect()),
            at: AuditEvent::micros(report.at),
        })
    }
}

/// A row of [`READ`].
pub(super) type Row = (String, i64, i64, Option<String>, i64, Option<i64>, Option<i64>);

/// The publishers that rows are about.
///
/// # Errors
/// [`StoreError::Damaged`] for a time that is none.
pub(super) fn publications(rows: Vec<Row>) -> Result<Publications, StoreError> {
    let damaged = || StoreError::Damaged("a publication has no valid time".to_owned());
    let moment = |column| micros(column).ok_or_else(damaged);
    let mut all: Vec<Publication> = Vec::new();
    for (publisher, wanted, in_place, problem, heard_at, sequence, at) in rows {
        if all.last().is_none_or(|last| last.publisher != publisher) {
            let (wanted, in_place) = (wanted.unsigned_abs(), in_place.unsigned_abs());
            let (reached, heard_at) = (BTreeMap::new(), moment(heard_at)?);
            all.push(Publication { publisher, reached, wanted, in_place, problem, heard_at });
        }
        if let (Some(last), Some(sequence), Some(at)) = (all.last_mut(), sequence, at) {
            last.reached.insert(sequence.unsigned_abs(), moment(at)?);
        }
    }
    Ok(Publications::new(all))
}
