//! What an agent says of itself, for people and for programs.

use serde_json::{Value, json};
use signet_core::clock::rfc3339;
use signet_core::shown_time::ShownTimes;
use signet_proto::agent::v1alpha1::{InspectResponse, Stream};
use signet_runtime::output::{Table, Width};
use time::OffsetDateTime;

/// The answer for programs: times in RFC 3339, null where something is not known.
pub(crate) fn as_json(answer: &InspectResponse) -> Value {
    let identities = answer.identities.iter().map(|it| {
        json!({
            "spiffe_id": some(&it.spiffe_id), "serial": some(&it.serial), "issuer": some(&it.issuer),
            "authority_key_id": some(&it.authority),
            "not_before": moment(it.not_before), "not_after": moment(it.not_after),
            "renews_at": moment(it.next_renewal), "renewals": it.renewals,
            "failures_in_a_row": it.failures_in_a_row, "last_error": some(&it.last_error),
            "last_error_at": moment(it.last_error_at), "root_count": it.roots,
            "bundle_sequence": (it.bundle_sequence != 0).then_some(it.bundle_sequence),
            "revocation_lists": it.revocation_lists,
            "bundle_stream": it.bundle_stream.as_ref().map(|stream| json!({
                "state": stream.state, "since": moment(stream.since),
                "last_error": some(&stream.last_error), "last_error_at": moment(stream.last_error_at),
            })),
        })
    });
    let streams = answer.streams.iter().map(|it| {
        json!({
            "peer": it.peer, "node_id": it.node_id, "names": it.names,
            "unserved_names": it.unserved_names, "connected_at": moment(it.connected_at),
            "acked_version": some(&it.acked_version), "pushes": it.pushes, "acks": it.acks, "nacks": it.nacks,
            "last_nack": some(&it.last_nack), "last_nack_at": moment(it.last_nack_at),
        })
    });
    let secrets = answer.secrets.iter().map(|it| json!({"name": it.name, "version": it.version}));
    let checks = answer.checks.iter().map(|it| json!({"name": it.name, "state": it.state, "detail": it.detail}));
    json!({
        "version": answer.version, "started_at": moment(answer.started_at), "ready": answer.ready,
        "checks": checks.collect::<Vec<_>>(), "identities": identities.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(), "streams": streams.collect::<Vec<_>>(),
    })
}

/// How tables look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// The columns there are.
    pub width: Width,
    /// How times are shown.
    pub times: ShownTimes,
}

impl View {
    fn time(&self, seconds: i64) -> String {
        if seconds == 0 { "-".to_owned() } else { self.times.seconds(seconds) }
    }

    /// How long something has lasted that began then, if that is known.
    fn since(&self, seconds: i64) -> Option<String> {
        let at = OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|_| seconds != 0)?;
        Some(self.times.since(at))
    }

    fn error(&self, text: &str, at: i64) -> String {
        if at == 0 { "none".to_owned() } else { format!("{text} ({})", self.time(at)) }
    }
}

/// The answer for people: one block per subject.
pub(crate) fn as_tables(answer: &InspectResponse, view: View) -> String {
    let mut about = Table::new(["agent", ""]);
    let ready = if answer.ready { "ready" } else { "not ready" };
    about.row(["version", &answer.version]).row(["started", &view.time(answer.started_at)]).row(["state", ready]);
    for check in &answer.checks {
        about.row([&check.name, &format!("{}: {}", check.state, view.times.within(&check.detail))]);
    }
    let mut text = about.render(view.width);
    for it in &answer.identities {
        let mut table = Table::new(["identity", ""]);
        let failures = format!("{} in a row", it.failures_in_a_row);
        let last_error = view.error(&it.last_error, it.last_error_at);
        table.row(["SPIFFE ID", or_none(&it.spiffe_id)]).row(["serial", or_none(&it.serial)]);
        table.row(["issuer", or_none(&it.issuer)]).row(["authority key", or_none(&it.authority)]);
        table.row(["not before", &view.time(it.not_before)]).row(["not after", &view.time(it.not_after)]);
        table.row(["renews at", &view.time(it.next_renewal)]).row(["renewals", &it.renewals.to_string()]);
        table.row(["failures", &failures]).row(["last error", &last_error]);
        let sequence = if it.bundle_sequence == 0 { "-".to_owned() } else { it.bundle_sequence.to_string() };
        table.row(["roots", &it.roots.to_string()]).row(["bundle sequence", &sequence]);
        table.row(["revocation lists", &it.revocation_lists.to_string()]);
        if let Some(stream) = &it.bundle_stream {
            let since = view.since(stream.since).map(|since| format!(" {since}")).unwrap_or_default();
            table.row(["bundle stream", &format!("{}{since}", stream.state)]);
            table.row(["its last error", &view.error(&stream.last_error, stream.last_error_at)]);
        }
        text += &format!("\n{}", table.render(view.width));
    }
    let mut secrets = Table::new(["secret", "version"]);
    for it in &answer.secrets {
        secrets.row([&it.name, &it.version]);
    }
    for (table, none) in [(secrets, "no secrets yet\n"), (streams(&answer.streams, view), "no streams\n")] {
        text += &format!("\n{}", if table.is_empty() { none.to_owned() } else { table.render(view.width) });
    }
    text
}

/// The columns of streams. The version is the one that the proxy shows.
const STREAM: [&str; 9] = ["stream of", "node", "names", "version", "opened", "pushes", "acks", "nacks", "last nack"];

fn streams(streams: &[Stream], view: View) -> Table {
    let mut table = Table::new(STREAM);
    for it in streams {
        let [pushes, acks, nacks] = [it.pushes, it.acks, it.nacks].map(|count| count.to_string());
        let marked = |name: &String| {
            let mark = if it.unserved_names.contains(name) { " (not served)" } else { "" };
            format!("{name}{mark}")
        };
        let names = it.names.iter().map(marked).collect::<Vec<_>>().join(", ");
        let nack = if it.last_nack.is_empty() { "-".to_owned() } else { view.error(&it.last_nack, it.last_nack_at) };
        let version = or_none(&it.acked_version);
        table.row([&it.peer, &it.node_id, &names, version, &view.time(it.connected_at), &pushes, &acks, &nacks, &nack]);
    }
    table
}

fn moment(seconds: i64) -> Option<String> {
    (seconds != 0).then(|| OffsetDateTime::from_unix_timestamp(seconds).ok().map(rfc3339))?
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn or_none(text: &str) -> &str {
    some(text).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use signet_proto::agent::v1alpha1::{BundleStream, Check, Identity};

    use super::*;

    #[test]
    fn people_read_distances_and_programs_times_and_null_for_what_is_not_known() {
        let now = time::macros::datetime!(2026-03-01 12:00 UTC).unix_timestamp();
        let known = Identity { spiffe_id: "spiffe://td/ns/a/sa/b".into(), not_after: now + 60, ..Identity::default() };
        let stream = BundleStream { state: "up".into(), since: now - 59, ..BundleStream::default() };
        let known = Identity { bundle_stream: Some(stream), ..known };
        let detail = "valid until 2026-03-01T12:01:00Z".to_owned();
        let answer = InspectResponse {
            checks: vec![Check { name: "certificate".into(), state: "ready".into(), detail }],
            started_at: now - 7200,
            identities: vec![known, Identity::default()],
            streams: vec![Stream {
                peer: "pid 1".into(),
                last_nack: "no".into(),
                last_nack_at: now,
                ..Stream::default()
            }],
            ..InspectResponse::default()
        };
        let at = OffsetDateTime::from_unix_timestamp(now).unwrap();
        let text = as_tables(&answer, View { width: Width::Unlimited, times: ShownTimes::From(at) });
        for line in ["started      2h ago", "not after         in 1m", "serial            -"] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains("no (now)"), "{text}");
        assert!(text.contains("up for 59s") && text.contains("12:01:00Z (in 1m)"), "{text}");
        let wide = as_tables(&answer, View { width: Width::Unlimited, times: ShownTimes::Absolute });
        assert!(wide.contains("2026-03-01T12:01:00Z"), "{wide}");
        let json = as_json(&answer);
        let found = |path: &str| json.pointer(path).cloned().unwrap();
        assert_eq!(found("/identities/0/not_after"), "2026-03-01T12:01:00Z");
        for unknown in
            ["spiffe_id", "serial", "authority_key_id", "not_after", "renews_at", "last_error", "bundle_sequence"]
        {
            assert_eq!(found(&format!("/identities/1/{unknown}")), Value::Null, "{unknown}");
        }
    }
}
