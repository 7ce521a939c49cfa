//! Events as comma-separated values (RFC 4180), an event on one line whatever its texts hold.

use serde_json::Value;

/// The columns: a heading, and where it is in the JSON of an event.
const COLUMNS: [(&str, &str); 23] = [
    ("sequence", "/sequence"),
    ("at", "/at"),
    ("kind", "/kind"),
    ("outcome", "/outcome"),
    ("identity", "/who/spiffe_id"),
    ("serial", "/what/serial"),
    ("reason", "/reason"),
    ("detail", "/detail"),
    ("cluster", "/who/cluster"),
    ("node", "/who/node"),
    ("namespace", "/who/namespace"),
    ("service_account", "/who/service_account"),
    ("pod", "/who/pod"),
    ("peer", "/who/peer"),
    ("authority", "/what/authority"),
    ("not_before", "/what/not_before"),
    ("not_after", "/what/not_after"),
    ("key_hash", "/what/key_hash"),
    ("count", "/repeated/count"),
    ("request_id", "/request_id"),
    ("shown_certificate", "/who/certificate"),
    ("problem", "/problem"),
    ("fingerprint", "/what/fingerprint"),
];

/// The first line.
pub(super) fn headings() -> String {
    format!("{}\r\n", COLUMNS.map(|(heading, _)| heading).join(","))
}

/// The line of an event.
pub(super) fn line(event: &Value) -> String {
    let cell = |(_, pointer): (&str, &str)| match event.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(text),
        Some(other) => quoted(&other.to_string()),
    };
    format!("{}\r\n", COLUMNS.map(cell).join(","))
}

/// The position that a line begins with.
pub(super) fn sequence(line: &[u8]) -> Option<u64> {
    let first = line.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(first).ok()?.parse().ok()
}

/// Texts come from elsewhere: what would end the line is written as an escape, and what a spreadsheet would take for a formula
/// is kept from it by an apostrophe.
fn quoted(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    if text.starts_with(['=', '+', '-', '@']) {
        safe.push('\'');
    }
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    if !safe.contains([',', '"', ' ']) {
        return safe;
    }
    format!("\"{}\"", safe.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line_and_nothing_in_it_is_more() {
        let event = json!({
            "sequence": 7, "kind": "admin", "detail": "a\r\n\"b\", c", "reason": "=1+1",
            "who": {"spiffe_id": null, "pod": "p"}, "what": null, "repeated": {"count": 3},
        });
        let line = line(&event);
        assert_eq!(line, "7,,admin,,,,'=1+1,\"a\\r\\n\"\"b\"\", c\",,,,,p,,,,,,3,,,,\r\n");
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(sequence(line.as_bytes()), Some(7));
        assert_eq!(sequence(headings().as_bytes()), None);
    }
}
