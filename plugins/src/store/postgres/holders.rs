//! Holders: entered behind the log, raised by acknowledgements and marks, counted and listed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::authority::AuthorityId;
use signet_core::certificate::Serial;
use signet_core::holder::{Acknowledgement, Acknowledger, Coverage, Gone, Holder, HolderKey, HolderQuery, Lag, Mark};
use signet_core::seams::store::{HolderStore, PublicationStore, StoreError};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, QueryBuilder};
use time::OffsetDateTime;

pub(super) use super::coverage::all_hold;
use super::coverage::{LAG, LAST_ENDS};
use super::error::store_error;
use super::loaded_holders::{Loaded, kept_key, plain};
use super::pool::Use;
use super::view::View;
use super::{PostgresStore, holder_marks, holder_projection};
use crate::store::holders::{HolderRow, LagRow, column, ended_below, lag, last_ends, live_above};

/// Forgets raises that cross no bundle that something waits for: those that end before the oldest, and those that begin at
/// the newest.
pub(super) const FORGET_RAISED: &str = "DELETE FROM holder_raise WHERE after < $1 OR before >= $2";

/// The records of certificates: their bodies say to whom they were issued. The log finds them by the index on serials, which
/// holders lack.
const RECORDS: &str = "SELECT serial, body FROM audit_event WHERE serial = ANY($1)";

/// For those whose bodies are gone or cannot be read, all holders of the identity are looked through.
const SEARCH: &str = "SELECT instance FROM holder WHERE spiffe_id = $1 AND serial = $2";

/// The names under which the holders are kept that acknowledgements are from.
async fn senders(
    connection: &mut PgConnection,
    acknowledgements: &[Acknowledgement],
) -> Result<Vec<Option<HolderKey>>, sqlx::Error> {
    let number = |one: &Acknowledgement| match &one.from {
        Acknowledger::Certificate { serial, .. } => Serial::parse(serial).map(|serial| serial.as_bytes().to_vec()),
        Acknowledger::Holder(_) => None,
    };
    let serials: Vec<Vec<u8>> = acknowledgements.iter().filter_map(number).collect();
    let mut records: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    if !serials.is_empty() {
        let found = sqlx::query_as(RECORDS).bind(serials).fetch_all(&mut *connection).await?;
        records.extend(Vec::<(Vec<u8>, Option<Vec<u8>>)>::into_iter(found));
    }
    let mut senders = Vec::with_capacity(acknowledgements.len());
    for one in acknowledgements {
        let sender = match &one.from {
            Acknowledger::Holder(key) => Some(kept_key(key)),
            Acknowledger::Certificate { spiffe_id, serial } => {
                match number(one).and_then(|number| records.get(&number)) {
                    Some(body) => sender(connection, body.as_deref(), spiffe_id, serial).await?,
                    None => None,
                }
            }
        };
        senders.push(sender);
    }
    Ok(senders)
}

/// The holder that a recorded certificate was issued to.
async fn sender(
    connection: &mut PgConnection,
    body: Option<&[u8]>,
    spiffe_id: &str,
    serial: &str,
) -> Result<Option<HolderKey>, sqlx::Error> {
    let event = body.and_then(|body| AuditEvent::decode(body).ok());
    if let Some(key) = event.and_then(|(event, _)| event.holder()) {
        return Ok(Some(key).filter(|key| key.spiffe_id == spiffe_id).map(|key| kept_key(&key)));
    }
    let spiffe_id = plain(spiffe_id);
    let search = sqlx::query_scalar(SEARCH).bind(&spiffe_id).bind(plain(serial));
    let instance: Option<String> = search.fetch_optional(connection).await?;
    Ok(instance.map(|instance| HolderKey { spiffe_id, instance }))
}

async fn acknowledge(connection: &mut PgConnection, acknowledgements: &[Acknowledgement]) -> Result<(), sqlx::Error> {
    let bounds = holder_projection::enter_all(connection).await?;
    let senders = senders(connection, acknowledgements).await?;
    let keys: BTreeSet<HolderKey> = senders.iter().flatten().cloned().collect();
    let mut loaded = Loaded::read(connection, &keys).await?;
    for (sender, acknowledgement) in senders.iter().zip(acknowledgements) {
        if let Some(key) = sender {
            loaded.acknowledge(key, acknowledgement);
        }
    }
    loaded.write(connection, bounds).await
}

#[async_trait]
impl HolderStore for PostgresStore {
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError> {
        const DOING: &str = "noting acknowledgements";
        if acknowledgements.is_empty() {
            return Ok(());
        }
        let write = async {
            self.catch_up().await?;
            let mut locked = self.locked(DOING).await?;
            let done = acknowledge(locked.connection(), acknowledgements).await;
            done.map_err(|error| store_error(DOING, &error))?;
            locked.commit(DOING).await
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn mark(&self, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
        holder_marks::mark(self, marks, at).await
    }

    async fn gone(&self, gone: &[Gone], seen_before: OffsetDateTime, at: OffsetDateTime) -> Result<u64, StoreError> {
        const DOING: &str = "noting whose pods are gone";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        if gone.is_empty() {
            return Ok(0);
        }
        let (seen_before, at) = (AuditEvent::micros(seen_before), AuditEvent::micros(at));
        let keys: Vec<HolderKey> = gone.iter().map(|one| kept_key(&one.key)).collect();
        let gone = keys.iter().zip(gone.iter().map(|one| one.serial.as_str()));
        let write = async {
            self.catch_up().await?;
            let mut locked = self.locked(DOING).await?;
            let bounds = holder_projection::enter_all(locked.connection()).await.map_err(failed)?;
            let mut loaded =
                Loaded::read(locked.connection(), &keys.iter().cloned().collect()).await.map_err(failed)?;
            let news = loaded.leave(gone, seen_before, at);
            loaded.write(locked.connection(), bounds).await.map_err(failed)?;
            locked.commit(DOING).await?;
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
        self.within("noting where bundles are published", Box::pin(self.publish_to(cluster, signer, sequence, at)))
            .await
    }

    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        let read = async {
            let coverage =
                if self.writes { self.count_holders(now).await } else { View::open(self).await?.coverage(now).await };
            Ok(Coverage { published: self.publications().await?, ..coverage? })
        };
        self.within("counting holders", Box::pin(read)).await
    }

    async fn lag(&self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError> {
        const DOING: &str = "looking for holders that lag";
        let read = async {
            if !self.writes {
                return View::open(self).await?.lag(now, sequence).await;
            }
            self.catch_up().await?;
            let mut lease = self.lease(Use::Reading).await?;
            let row = sqlx::query_as(LAG).bind(live_above(now)).bind(column(sequence)).fetch_one(&mut *lease).await;
            let row: LagRow = row.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            lag(row)
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
        const DOING: &str = "reading holders";
        let read = async {
            if !self.writes {
                return View::open(self).await?.holders(query).await;
            }
            self.catch_up().await?;
            let mut lease = self.lease(Use::Reading).await?;
            let mut statement = page_statement(query, &BTreeSet::new());
            let rows = statement.build_query_as().fetch_all(&mut *lease).await;
            let rows: Vec<HolderRow> = rows.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            rows.into_iter().map(HolderRow::into_holder).collect()
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        const DOING: &str = "reading the use of issuing CAs";
        let read = async {
            if !self.writes {
                return View::open(self).await?.last_ends().await;
            }
            self.catch_up().await?;
            let mut lease = self.lease(Use::Reading).await?;
            let rows = sqlx::query_as(LAST_ENDS).fetch_all(&mut *lease).await;
            let rows: Vec<(String, i64)> = rows.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            last_ends(rows)
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn forget_ended(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        const DOING: &str = "forgetting ended holders";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let work = async {
            self.catch_up().await?;
            // All holders are looked through, without the lock.
            let mut lease = self.lease(Use::Reading).await?;
            let ended = "SELECT spiffe_id, instance FROM holder WHERE not_after < $1 LIMIT $2";
            let ended = sqlx::query_as(ended).bind(ended_below(before)).bind(i64::from(limit));
            let ended: Vec<(String, String)> = ended.fetch_all(&mut *lease).await.map_err(failed)?;
            lease.keep();
            if ended.is_empty() {
                return Ok(0);
            }
            let mut locked = self.locked(DOING).await?;
            let key = |(spiffe_id, instance)| HolderKey { spiffe_id, instance };
            let keys = ended.into_iter().map(key).collect();
            let forgotten = forget(locked.connection(), &keys, ended_below(before)).await.map_err(failed)?;
            locked.commit(DOING).await?;
            Ok(forgotten)
        };
        self.within(DOING, Box::pin(work)).await
    }
}

/// Forgets those of these holders that still end before `before`, within a transaction that has the lock.
async fn forget(connection: &mut PgConnection, keys: &BTreeSet<HolderKey>, before: i64) -> Result<u64, sqlx::Error> {
    let bounds = holder_projection::enter_all(connection).await?;
    let mut loaded = Loaded::read(connection, keys).await?;
    let known = loaded.now.len();
    loaded.now.retain(|_, row| row.not_after >= before);
    let forgotten = u64::try_from(known.saturating_sub(loaded.now.len())).unwrap_or(u64::MAX);
    loaded.write(connection, bounds).await?;
    Ok(forgotten)
}

/// The statement for one page, which walks the primary key from the cursor on and leaves out `but`.
pub(super) fn page_statement(query: &HolderQuery, but: &BTreeSet<HolderKey>) -> QueryBuilder<Postgres> {
    let mut text = QueryBuilder::new("SELECT h.* FROM holder AS h WHERE not_after > ");
    text.push_bind(live_above(query.now));
    if !but.is_empty() {
        let owned = |value: fn(&HolderKey) -> &String| but.iter().map(value).cloned().collect::<Vec<String>>();
        text.push(" AND NOT EXISTS (SELECT 1 FROM unnest(").push_bind(owned(|key| &key.spiffe_id));
        text.push("::text[], ").push_bind(owned(|key| &key.instance));
        text.push("::text[]) AS k (spiffe_id, instance) WHERE k.spiffe_id = h.spiffe_id AND k.instance = h.instance)");
    }
    if let Some(after) = &query.after {
        text.push(" AND (h.spiffe_id, h.instance) > (").push_bind(plain(&after.spiffe_id));
        text.push(", ").push_bind(plain(&after.instance)).push(")");
    }
    if let Some(behind) = query.behind {
        text.push(" AND NOT coalesce(gone_at > seen_at, false) AND sequence < ").push_bind(column(behind));
    }
    if !query.authorities.is_empty() {
        text.push(" AND (false");
        for one in &query.authorities {
            text.push(" OR authority = ").push_bind(one.as_str().to_owned());
            text.push(" OR strpos(former, ").push_bind(one.as_str().to_owned()).push(") > 0");
        }
        text.push(")");
    }
    text.push(" ORDER BY h.spiffe_id, h.instance LIMIT ")
        .push_bind(i64::try_from(query.page_size()).unwrap_or(i64::MAX));
    text
}
