//! Holders: entered behind the log, raised by acknowledgements and marks, counted and listed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::authority::AuthorityId;
use signet_core::certificate::Serial;
use signet_core::holder::{
    Acknowledgement, Acknowledger, Coverage, Gone, Holder, HolderKey, HolderQuery, Lag, MAX_HOLDERS, Mark,
};
use signet_core::rotation::Condition;
use signet_core::seams::store::{HolderStore, StoreError};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{QueryBuilder, Sqlite};
use time::OffsetDateTime;

use super::error::store_error;
use super::{Session, SqliteStore, holder_marks, holder_projection, publications};
use crate::store::holders::{
    Group, HolderRow, LagRow, RaiseRow, Raises, Renewal, Renewals, column, coverage, ended_below, lag, last_ends,
    live_above,
};

/// Holders per statement at most: each count is a prepared statement.
pub(super) const CHUNK: usize = 64;

/// A statement to bind values to.
pub(super) type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// One statement per number of holders, as for the log.
static UPSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(upsert_text).collect());

/// Enters this number of holders. Entering the same change twice is the same as entering it once.
fn upsert_text(rows: usize) -> String {
    let row = format!("({}, 0)", ["?"; 11].join(","));
    format!(
        "INSERT INTO holder (spiffe_id, instance, pod, node, cluster, serial, authority, not_after, first_bundle, \
         acknowledges, seen_at, sequence) VALUES {} ON CONFLICT (spiffe_id, instance) DO UPDATE SET pod = excluded.pod, \
         node = excluded.node, cluster = excluded.cluster, serial = excluded.serial, authority = excluded.authority, \
         not_after = max(not_after, excluded.not_after), \
         first_bundle = iif(serial = excluded.serial, first_bundle, NULL), \
         former = iif(serial = excluded.serial OR authority = excluded.authority OR instr(former, authority), former, \
         former || authority || ' '), \
         acknowledges = max(acknowledges, excluded.acknowledges), seen_at = max(seen_at, excluded.seen_at)",
        vec![row; rows].join(",")
    )
}

/// Enters when a certificate of an issuing CA ends. Most batches change the one row of the active issuing CA.
const USAGE: &str = "INSERT INTO authority_usage (authority, last_not_after) VALUES (?, ?) \
    ON CONFLICT (authority) DO UPDATE SET last_not_after = excluded.last_not_after \
    WHERE excluded.last_not_after > last_not_after";

/// Live holders in groups. One statement for both sums, so that both are of the same moment.
const COVERAGE: &str = "SELECT authority, former, sequence, count(*), sum(acknowledges), coalesce(gone_at > seen_at, 0) AS gone \
    FROM holder WHERE not_after > ? GROUP BY authority, former, sequence, gone";

const LAG: &str = "SELECT count(refused_sequence), max(iif(sequence < ?2, not_after, NULL)) FROM holder \
    WHERE not_after > ?1 AND NOT coalesce(gone_at > seen_at, 0)";

const GONE: &str = "UPDATE holder SET gone_at = ?5 WHERE spiffe_id = ?1 AND instance = ?2 AND serial = ?3 AND seen_at < ?4 \
    AND seen_at < ?5 AND NOT coalesce(gone_at > seen_at, 0)";

/// A handful: what nothing waits for is removed.
const RAISED: &str = "SELECT before, after, at FROM holder_raise";

/// Forgets raises that cross no bundle that something waits for: those that end before the oldest, and those that begin at
/// the newest.
pub(super) const FORGET_RAISED: &str = "DELETE FROM holder_raise WHERE after < ? OR before >= ?";

const LAST_ENDS: &str = "SELECT authority, last_not_after FROM authority_usage";

/// Whether all conditions hold, within a transaction that has entered all of the record.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn all_hold(
    connection: &mut SqliteConnection,
    conditions: &[Condition],
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let failed = |error: sqlx::Error| store_error("counting holders for a step", &error);
    if conditions.is_empty() {
        return Ok(true);
    }
    let groups = sqlx::query_as(COVERAGE).bind(live_above(now)).fetch_all(&mut *connection).await.map_err(failed)?;
    let raised: Vec<RaiseRow> = sqlx::query_as(RAISED).fetch_all(&mut *connection).await.map_err(failed)?;
    let ends = sqlx::query_as(LAST_ENDS).fetch_all(&mut *connection).await.map_err(failed)?;
    let (mut coverage, ends) = (coverage::<Vec<Group>, _>(groups, raised)?, last_ends::<Vec<(String, i64)>>(ends)?);
    coverage.published = publications::read(connection).await?;
    Ok(conditions.iter().all(|condition| condition.holds(&coverage, &ends)))
}

fn bind<'q>(query: Statement<'q>, key: &'q HolderKey, renewal: &Renewal<'q>) -> Statement<'q> {
    let (who, what) = (&renewal.newest.who, renewal.what);
    query
        .bind(key.spiffe_id.as_str())
        .bind(key.instance.as_str())
        .bind(who.pod.as_deref())
        .bind(who.node.as_deref())
        .bind(who.cluster.as_deref())
        .bind(what.serial.as_str())
        .bind(what.authority.as_str())
        .bind(renewal.not_after)
        .bind(renewal.first_bundle)
        .bind(renewal.acknowledges)
        .bind(renewal.seen_at)
}

/// Enters what recorded events change, in their order, within a transaction.
pub(super) async fn renew(connection: &mut SqliteConnection, events: &[&AuditEvent]) -> Result<(), sqlx::Error> {
    // Whoever got certificates of two issuing CAs may use either: so one after the other.
    let issuer = |event: &AuditEvent| event.released().map(|what| what.authority.clone());
    for run in events.chunk_by(|one, next| issuer(one) == issuer(next)) {
        renew_by_one(connection, &Renewals::of(run.iter().copied())).await?;
    }
    Ok(())
}

/// The same for certificates of one issuing CA.
async fn renew_by_one(connection: &mut SqliteConnection, renewals: &Renewals<'_>) -> Result<(), sqlx::Error> {
    let holders: Vec<(&HolderKey, &Renewal<'_>)> = renewals.holders.iter().collect();
    for chunk in holders.chunks(CHUNK) {
        let Some(text) = chunk.len().checked_sub(1).and_then(|index| UPSERTS.get(index)) else { continue };
        let query = chunk.iter().fold(sqlx::query(text.as_str()), |query, (key, renewal)| bind(query, key, renewal));
        query.execute(&mut *connection).await?;
    }
    for (authority, end) in &renewals.usage {
        sqlx::query(USAGE).bind(*authority).bind(*end).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Notes one acknowledgement of the holder `key`.
async fn note(
    connection: &mut SqliteConnection,
    key: &HolderKey,
    acknowledgement: &Acknowledgement,
    raises: &mut Raises,
) -> Result<(), sqlx::Error> {
    let (sequence, refused) = (column(acknowledgement.sequence), acknowledgement.refused.as_deref());
    if refused.is_none() {
        let had = "SELECT iif(sequence = 0, coalesce(first_bundle, 0), sequence) FROM holder \
            WHERE spiffe_id = ? AND instance = ?";
        let had = sqlx::query_scalar(had).bind(key.spiffe_id.as_str()).bind(key.instance.as_str());
        let Some(had) = had.fetch_optional(&mut *connection).await? else { return Ok(()) };
        raises.add(had, sequence, AuditEvent::micros(acknowledgement.at));
    }
    let update = "UPDATE holder SET sequence = max(sequence, ?1), refused_sequence = ?2, refused = ?3, \
        seen_at = max(seen_at, ?4) WHERE spiffe_id = ?5 AND instance = ?6";
    let update = sqlx::query(update)
        .bind(if refused.is_none() { sequence } else { 0 })
        .bind(refused.is_some().then_some(sequence))
        .bind(refused)
        .bind(AuditEvent::micros(acknowledgement.at))
        .bind(key.spiffe_id.as_str())
        .bind(key.instance.as_str());
    update.execute(connection).await.map(drop)
}

/// Notes whose pods are gone, in one transaction in which nothing waits to be entered.
async fn leave(session: &mut Session, gone: &[Gone], seen_before: i64, at: i64) -> Result<u64, sqlx::Error> {
    let mut news = 0;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
    holder_projection::enter_all(session).await?;
    let connection = &mut session.connection;
    for Gone { key, serial } in gone {
        let update = sqlx::query(GONE).bind(key.spiffe_id.as_str()).bind(key.instance.as_str());
        let update = update.bind(serial.as_str()).bind(seen_before).bind(at);
        news += update.execute(&mut *connection).await?.rows_affected();
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(news)
}

/// The holder that a recorded certificate was issued to. The log finds it by the index on serials, which holders lack;
/// where the body of its row is gone or cannot be read, all holders of the identity are looked through.
async fn holder_of(
    connection: &mut SqliteConnection,
    spiffe_id: &str,
    serial: &str,
) -> Result<Option<HolderKey>, sqlx::Error> {
    let Some(number) = Serial::parse(serial) else { return Ok(None) };
    let body = sqlx::query_scalar("SELECT body FROM audit_event WHERE serial = ?").bind(number.as_bytes());
    let body: Option<Option<Vec<u8>>> = body.fetch_optional(&mut *connection).await?;
    let Some(body) = body else { return Ok(None) };
    let event = body.and_then(|body| AuditEvent::decode(&body).ok());
    if let Some(key) = event.and_then(|(event, _)| event.holder()) {
        return Ok(Some(key).filter(|key| key.spiffe_id == spiffe_id));
    }
    let search = sqlx::query_scalar("SELECT instance FROM holder WHERE spiffe_id = ? AND serial = ?");
    let instance: Option<String> = search.bind(spiffe_id).bind(serial).fetch_optional(connection).await?;
    Ok(instance.map(|instance| HolderKey { spiffe_id: spiffe_id.to_owned(), instance }))
}

/// Notes what was acknowledged, in one transaction in which nothing waits to be entered.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn acknowledge(
    session: &mut Session,
    acknowledgements: &[Acknowledgement],
) -> Result<(), sqlx::Error> {
    let mut raises = Raises::default();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
    holder_projection::enter_all(session).await?;
    let connection = &mut session.connection;
    for acknowledgement in acknowledgements {
        match &acknowledgement.from {
            Acknowledger::Holder(key) => note(connection, key, acknowledgement, &mut raises).await?,
            Acknowledger::Certificate { spiffe_id, serial } => {
                if let Some(key) = holder_of(connection, spiffe_id, serial).await? {
                    note(connection, &key, acknowledgement, &mut raises).await?;
                }
            }
        }
    }
    holder_marks::enter(connection, &raises).await?;
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

#[async_trait]
impl HolderStore for SqliteStore {
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError> {
        const DOING: &str = "noting acknowledgements";
        if acknowledgements.is_empty() {
            return Ok(());
        }
        let write = async {
            self.catch_up().await?;
            let mut writer = self.writer().await?;
            let done = acknowledge(&mut writer.session, acknowledgements).await;
            done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(())
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn mark(&self, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
        holder_marks::mark(self, marks, at).await
    }

    async fn gone(&self, gone: &[Gone], seen_before: OffsetDateTime, at: OffsetDateTime) -> Result<u64, StoreError> {
        const DOING: &str = "noting whose pods are gone";
        if gone.is_empty() {
            return Ok(0);
        }
        let (seen_before, at) = (AuditEvent::micros(seen_before), AuditEvent::micros(at));
        let write = async {
            self.catch_up().await?;
            let mut writer = self.writer().await?;
            let news = leave(&mut writer.session, gone, seen_before, at).await;
            let news = news.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(news)
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn published_to(
        &self,
        cluster: &str,
        signer: &str,
        sequence: u64,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        self.publish_to(cluster, signer, sequence, at).await
    }

    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        const DOING: &str = "counting holders";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let read = async {
            let mut reader = self.whole_holders().await?;
            let groups = sqlx::query_as(COVERAGE).bind(live_above(now)).fetch_all(&mut *reader);
            let groups: Vec<Group> = groups.await.map_err(failed)?;
            // After the counting, so that whoever was counted is known to have been.
            let raised = sqlx::query_as(RAISED).fetch_all(&mut *reader).await.map_err(failed)?;
            let mut coverage = coverage::<_, Vec<RaiseRow>>(groups, raised)?;
            coverage.published = publications::read(&mut reader).await?;
            Ok(coverage)
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn lag(&self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError> {
        const DOING: &str = "looking for holders that lag";
        let read = sqlx::query_as(LAG).bind(live_above(now)).bind(column(sequence));
        let read = async {
            let mut reader = self.whole_holders().await?;
            read.fetch_one(&mut *reader).await.map_err(|error| store_error(DOING, &error))
        };
        let row: LagRow = self.within(DOING, Box::pin(read)).await?;
        lag(row)
    }

    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
        const DOING: &str = "listing holders";
        let mut text = page_statement(query);
        let page = text.build_query_as::<HolderRow>().persistent(false);
        let read = async {
            let mut reader = self.whole_holders().await?;
            page.fetch_all(&mut *reader).await.map_err(|error| store_error(DOING, &error))
        };
        let rows = self.within(DOING, Box::pin(read)).await?;
        rows.into_iter().map(HolderRow::into_holder).collect()
    }

    async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        const DOING: &str = "reading the use of authorities";
        let read = sqlx::query_as(LAST_ENDS);
        let read = async {
            let mut reader = self.whole_holders().await?;
            read.fetch_all(&mut *reader).await.map_err(|error| store_error(DOING, &error))
        };
        let rows: Vec<(String, i64)> = self.within(DOING, Box::pin(read)).await?;
        last_ends(rows)
    }

    async fn forget_ended(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        const DOING: &str = "forgetting holders";
        let before = ended_below(before);
        let work = async {
            self.catch_up().await?;
            // The search reads the whole table, so it is done without the write lock.
            let search = "SELECT spiffe_id, instance FROM holder WHERE not_after < ? LIMIT ?";
            let search = sqlx::query_as(search).bind(before).bind(i64::from(limit));
            let ended = search.fetch_all(&self.readers).await.map_err(|error| store_error(DOING, &error))?;
            if ended.is_empty() {
                return Ok(0);
            }
            let mut writer = self.writer().await?;
            let forgotten = forget(&mut writer.session, &ended, before).await;
            let forgotten = forgotten.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(forgotten)
        };
        self.within(DOING, Box::pin(work)).await
    }
}

/// Removes those of the holders that have not got a newer certificate in the meantime.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn forget(session: &mut Session, ended: &[(String, String)], before: i64) -> Result<u64, sqlx::Error> {
    let mut forgotten = 0;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
    holder_projection::enter_all(session).await?;
    let connection = &mut session.connection;
    for (spiffe_id, instance) in ended {
        let delete = "DELETE FROM holder WHERE spiffe_id = ? AND instance = ? AND not_after < ?";
        let delete = sqlx::query(delete).bind(spiffe_id.as_str()).bind(instance.as_str()).bind(before);
        forgotten += delete.execute(&mut *connection).await?.rows_affected();
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(forgotten)
}

/// The statement for one page, which walks the primary key from the cursor on.
fn page_statement(query: &HolderQuery) -> QueryBuilder<Sqlite> {
    let mut text = QueryBuilder::new("SELECT * FROM holder WHERE not_after > ");
    text.push_bind(live_above(query.now));
    if let Some(after) = &query.after {
        text.push(" AND (spiffe_id, instance) > (").push_bind(after.spiffe_id.clone());
        text.push(", ").push_bind(after.instance.clone()).push(")");
    }
    if let Some(behind) = query.behind {
        text.push(" AND NOT coalesce(gone_at > seen_at, 0) AND sequence < ").push_bind(column(behind));
    }
    if !query.authorities.is_empty() {
        text.push(" AND (false");
        for one in &query.authorities {
            text.push(" OR authority = ").push_bind(one.as_str().to_owned());
            text.push(" OR instr(former, ").push_bind(one.as_str().to_owned()).push(")");
        }
        text.push(")");
    }
    text.push(" ORDER BY spiffe_id, instance LIMIT ").push_bind(i64::from(query.limit.clamp(1, MAX_HOLDERS)));
    text
}
