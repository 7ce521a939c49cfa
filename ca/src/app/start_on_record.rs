//! What is on record of a start: which version, with which configuration, and what of that is not as it was before.

use serde_json::{Value, json};
use signet_core::audit::{Attributed, AuditEvent, AuditQuery, EventKind, Outcome};
use signet_core::digest::{hex, sha256};
use signet_core::seams::store::AuditStore;
use time::OffsetDateTime;

use super::configuration::{CLUSTERS, changed};

/// How many events about the configuration are looked at for one that holds it.
const LOOK_BACK: u32 = 50;

/// The event of a start with `effective` at `now`.
pub(super) async fn started(store: &dyn AuditStore, effective: &Value, now: OffsetDateTime) -> AuditEvent {
    let before = match newest(store).await {
        Ok(before) => before,
        Err(error) => {
            tracing::warn!(error, "it is not known what has changed since the last start");
            None
        }
    };
    let fields = before.as_ref().map(|(_, before)| {
        let mut fields = changed(before, effective);
        fields.extend((before.get(CLUSTERS) != effective.get(CLUSTERS)).then(|| CLUSTERS.to_owned()));
        fields
    });
    let detail = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "sha256": hex(&sha256(effective.to_string().as_bytes())),
        "compared_with": before.map(|(sequence, _)| sequence),
        "changed": fields,
        "configuration": effective,
    });
    AuditEvent {
        at_micros: AuditEvent::micros(now),
        request_id: String::new(),
        kind: EventKind::Configuration,
        outcome: Outcome::Done,
        reason: None,
        detail: Some(detail.to_string()),
        who: Attributed::default(),
        what: None,
        repeated: None,
    }
}

/// The configuration that is on record last, of whichever replica, and the position of its event.
async fn newest(store: &dyn AuditStore) -> Result<Option<(u64, Value)>, String> {
    let query = AuditQuery::newest(LOOK_BACK).map_err(|error| error.to_string())?;
    let query = AuditQuery { kind: Some(EventKind::Configuration), ..query };
    let page = store.query(&query).await.map_err(|error| error.to_string())?;
    Ok(page.items.into_iter().find_map(|stored| Some((stored.sequence, configuration(&stored.event)?))))
}

/// The configuration in an event: beside other things, or, of a version before, alone.
fn configuration(event: &AuditEvent) -> Option<Value> {
    let mut detail: Value = serde_json::from_str(event.detail.as_deref()?).ok()?;
    let alone = detail.get("trust_domain").is_some();
    if alone { Some(detail) } else { detail.get_mut("configuration").map(Value::take) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use signet_plugins::store::memory::MemoryStore;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    async fn start(store: &MemoryStore, effective: &Value) -> Value {
        let event = started(store, effective, NOW).await;
        let said = serde_json::from_str(event.detail.as_deref().unwrap()).unwrap();
        store.append(vec![event]).await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_start_says_what_is_not_as_before_and_which_event_tells_of_that() {
        let store = MemoryStore::default();
        let one = json!({"trust_domain": "a", "drain": "5s", "clusters": [1]});
        let first = start(&store, &one).await;
        assert_eq!((&first["changed"], &first["compared_with"]), (&Value::Null, &Value::Null));
        assert_eq!((&first["configuration"], &first["version"]), (&one, &json!(env!("CARGO_PKG_VERSION"))));
        let same = start(&store, &one).await;
        assert_eq!((&same["changed"], &same["compared_with"]), (&json!([]), &json!(0)));
        assert_eq!(same["sha256"], first["sha256"]);
        // What a version before has recorded, and what holds no configuration.
        let event = started(&store, &one, NOW).await;
        let alone = json!({"trust_domain": "a", "drain": "6s", "clusters": [1]}).to_string();
        let refused = AuditEvent { detail: Some("{ no".to_owned()), ..event.clone() };
        store.append(vec![AuditEvent { detail: Some(alone), ..event }, refused]).await.unwrap();
        let next = start(&store, &json!({"trust_domain": "a", "drain": "5s", "clusters": [2], "new": {"a": 1}})).await;
        assert_eq!((&next["changed"], &next["compared_with"]), (&json!(["drain", "new", "clusters"]), &json!(2)));
        assert_ne!(next["sha256"], first["sha256"]);
    }
}
