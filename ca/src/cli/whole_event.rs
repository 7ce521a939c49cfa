//! All that one event says, for people.

use serde_json::Value;
use signet_runtime::output::Table;

use super::view::View;

/// Everything that is known of an event, in the form that programs get, for people: a row for each field.
pub(super) fn whole_event(event: &Value, view: &View) -> String {
    fn rows(path: &str, value: &Value, table: &mut Table) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    rows(&path, value, table);
                }
            }
            Value::Array(values) if values.is_empty() => {}
            Value::String(text) => {
                table.row([path, text.as_str()]);
            }
            other => {
                table.row([path, other.to_string().as_str()]);
            }
        }
    }
    let mut table = Table::new(["field", "value"]);
    rows("", event, &mut table);
    table.render(view.width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_field_that_is_known_is_a_row_under_its_name() {
        let event = json!({"sequence": 7, "reason": null, "who": {"pod": "web-1\u{1b}", "node": null}, "what": {"other_names": []}});
        let text = whole_event(&event, &View::wide());
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["FIELD", "VALUE"], vec!["sequence", "7"], vec!["who.pod", "web-1\\u{1b}"]]);
    }
}
