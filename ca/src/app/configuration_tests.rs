//! What a change of the file is called.

use serde_json::json;

use super::*;

#[test]
fn a_changed_field_is_named_by_its_path_and_clusters_are_not_among_them() {
    let one = json!({"a": {"b": {"c": 1, "d": [1, 2]}}, "e": null, "clusters": [1]});
    let path = |other: Value| changed(&one, &other);
    assert_eq!(path(one.clone()), Vec::<String>::new());
    assert_eq!(path(json!({"a": {"b": {"c": 1, "d": [1, 2]}}, "e": null, "clusters": [2]})), Vec::<String>::new());
    assert_eq!(path(json!({"a": {"b": {"c": 2, "d": [2, 1]}}, "e": 1, "clusters": []})), ["a.b.c", "a.b.d", "e"]);
    assert_eq!(path(json!({"a": 7, "f": {"g": 1}, "clusters": [1]})), ["a", "f"]);
}
