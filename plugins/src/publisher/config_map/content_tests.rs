//! What becomes of a ConfigMap that is there: every way in which one can differ, and whose it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::publisher::test_trust::{root, validation};

pub(in crate::publisher) fn settings(istiod: Istiod) -> ConfigMapSettings {
    ConfigMapSettings {
        name: "istio-ca-root-cert".into(),
        key: "root-cert.pem".into(),
        labels: [("team".to_owned(), "mesh".to_owned())].into(),
        revocation_lists: true,
        revocation_name: "istio-ca-crl".into(),
        revocation_key: "ca-crl.pem".into(),
        namespaces: String::new(),
        except: vec!["kube-system".into()],
        istiod,
    }
}

fn held(object: Value) -> Held {
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_config_map_is_right_when_it_holds_exactly_this_and_other_keys_and_labels_are_nobodys_business() {
    let roots = [root(), root()];
    let contents = Contents::of(&validation(3, &roots, &[]), &settings(Istiod::Leave));
    let pem = contents.roots.text.clone();
    let right = json!({
        "metadata": {
            "resourceVersion": "7",
            "labels": {"team": "mesh", "app.kubernetes.io/managed-by": "signet-ca", "other": "label"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {"f:root-cert.pem": {}}}}],
        },
        "data": {"root-cert.pem": pem, "other": "key"},
    });
    let change = Verdict::Change { istiods: false };
    for (what, pointer, value, expected) in [
        ("as it is to be", "/metadata/name", json!("x"), Verdict::Right),
        ("other roots", "/data/root-cert.pem", json!("x"), change.clone()),
        ("more after it", "/data/root-cert.pem", json!(format!("{pem}\n")), change.clone()),
        ("no such key", "/data", json!({"other": "key"}), change.clone()),
        ("a label less", "/metadata/labels/team", json!(null), change.clone()),
        ("another value", "/metadata/labels/team", json!("other"), change.clone()),
        ("no label of ours", "/metadata/labels/app.kubernetes.io~1managed-by", json!("Helm"), change.clone()),
        ("the key as bytes beside it", "/binaryData", json!({"root-cert.pem": "eA=="}), change),
    ] {
        let mut object = right.clone();
        match (object.pointer_mut(pointer), value) {
            (Some(there), Value::Null) => {
                let _was = there.take();
                object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "signet-ca"});
            }
            (Some(there), value) => *there = value,
            (None, value) => object[pointer.trim_start_matches('/')] = value,
        }
        assert_eq!(held(object).judge(&contents.roots, Some(&contents.anchors)), expected, "{what}");
    }
    let empty = held(json!({"metadata": {"resourceVersion": "1"}}));
    assert_eq!(empty.judge(&contents.roots, Some(&contents.anchors)), Verdict::Change { istiods: false });
}

#[test]
fn what_istiod_writes_is_left_to_it_and_is_in_order_only_with_every_root() {
    let roots = [root(), root()];
    let both = validation(3, &roots, &[]);
    let one = Contents::of(&validation(2, &roots[..1], &[]), &settings(Istiod::Leave)).roots.text;
    let more = format!("# of istiod\n{}{}", both.bundle.pem(), signet_core::pem::pem(&root()));
    let label = json!({"istio.io/config": "true"});
    let manager = |fields: Value| json!([{"manager": "pilot-discovery", "fieldsV1": fields}]);
    let wrote = || manager(json!({"f:data": {"f:root-cert.pem": {}}}));
    let lacks = Verdict::Lacks(LACKS_ROOTS);
    let change = |istiods| Verdict::Change { istiods };
    for (what, labels, managers, text, left, replaced) in [
        ("its label, all roots", label.clone(), json!([]), more.as_str(), Verdict::Left, change(false)),
        ("its label, one root", label.clone(), json!([]), one.as_str(), lacks.clone(), change(false)),
        ("it has written it, all roots", json!({}), wrote(), more.as_str(), Verdict::Left, change(true)),
        ("it has written it, one root", json!({}), wrote(), one.as_str(), lacks.clone(), change(true)),
        ("garbage", label.clone(), wrote(), "garbage", lacks, change(true)),
        (
            "it has written something else in it",
            json!({}),
            manager(json!({})),
            more.as_str(),
            Verdict::Left,
            change(false),
        ),
        ("nobody's", json!({}), json!([]), more.as_str(), change(false), change(false)),
        ("another label", json!({"istio.io/config": "false"}), json!([]), more.as_str(), change(false), change(false)),
    ] {
        let object = json!({
            "metadata": {"resourceVersion": "7", "labels": labels, "managedFields": managers},
            "data": {"root-cert.pem": text},
        });
        for (istiod, expected) in [(Istiod::Leave, left), (Istiod::Replace, replaced)] {
            let contents = Contents::of(&both, &settings(istiod));
            let verdict = held(object.clone()).judge(&contents.roots, Some(&contents.anchors));
            assert_eq!(verdict, expected, "{what}: {istiod:?}");
        }
    }
    // Whoever wants that label on what is ours cannot be told by it from istiod.
    let mut labelled = settings(Istiod::Leave);
    labelled.labels.insert("istio.io/config".to_owned(), "true".to_owned());
    let contents = Contents::of(&both, &labelled);
    let object = held(json!({"metadata": {"resourceVersion": "7", "labels": label}, "data": {"root-cert.pem": one}}));
    assert_eq!(object.judge(&contents.roots, Some(&contents.anchors)), change(false));
}

#[test]
fn lists_are_there_only_where_there_are_any_and_go_only_if_they_are_ours() {
    let roots = [root()];
    let without = Contents::of(&validation(1, &roots, &[]), &settings(Istiod::Leave));
    assert!(without.lists.is_none() && without.blocked.is_none() && without.lists_digest() == NOTHING);
    let some = Contents::of(&validation(1, &roots, &[b"one", b"two"]), &settings(Istiod::Leave));
    let lists = some.lists.as_ref().unwrap();
    assert_eq!(lists.text.matches("-----BEGIN X509 CRL-----").count(), 2);
    assert_eq!(some.lists_digest(), lists.digest);
    let off = ConfigMapSettings { revocation_lists: false, ..settings(Istiod::Leave) };
    assert!(Contents::of(&validation(1, &roots, &[b"one"]), &off).lists.is_none());
    let labelled = |value: &str| held(json!({"metadata": {"resourceVersion": "1", "labels": {OURS.0: value}}}));
    assert_eq!(labelled(OURS.1).judge_unwanted(), Verdict::Remove);
    assert_eq!(labelled("Helm").judge_unwanted(), Verdict::Left);
    // Of lists nothing but these will do, whoever writes them.
    let istiods = json!({"metadata": {"resourceVersion": "7", "labels": {"istio.io/config": "true"}}, "data": {"ca-crl.pem": "x"}});
    assert_eq!(held(istiods).judge(lists, None), Verdict::Lacks(LACKS_LISTS));
}

#[test]
fn lists_that_no_config_map_can_hold_are_told_and_the_roots_are_published_all_the_same() {
    let roots = [root()];
    // As PEM, in lines of 64 characters with line ends: 4 bytes of text for 3, and one for each line.
    let fits = vec![7_u8; 760_000];
    let contents = Contents::of(&validation(1, &roots, &[&fits]), &settings(Istiod::Leave));
    assert!(contents.blocked.is_none() && contents.lists.is_some());
    let large = vec![7_u8; 790_000];
    let contents = Contents::of(&validation(1, &roots, &[&large]), &settings(Istiod::Leave));
    let blocked = contents.blocked.as_ref().unwrap();
    assert!(blocked.contains("istio-ca-crl") && blocked.contains("revocation_lists: false"), "{blocked}");
    assert!(contents.lists.is_none() && contents.lists_digest() == ANYTHING);
    assert!(contents.roots.text.contains("BEGIN CERTIFICATE"));
}

#[test]
fn equal_contents_have_equal_digests_whatever_their_sequence_and_others_have_others() {
    let roots = [root(), root()];
    let of =
        |sequence, roots: &[_]| Contents::of(&validation(sequence, roots, &[]), &settings(Istiod::Leave)).roots.digest;
    assert_eq!(of(1, &roots), of(2, &[roots[1].clone(), roots[0].clone()]));
    assert_ne!(of(1, &roots), of(1, &roots[..1]));
    let other = ConfigMapSettings { labels: Default::default(), ..settings(Istiod::Leave) };
    assert_ne!(of(1, &roots), Contents::of(&validation(1, &roots, &[]), &other).roots.digest);
}

#[test]
fn a_change_names_the_version_and_leaves_what_it_does_not_name() {
    let contents = Contents::of(&validation(1, &[root()], &[]), &settings(Istiod::Leave));
    let change = contents.roots.change("42", false);
    assert_eq!(change["metadata"]["resourceVersion"], "42");
    assert_eq!(change["data"].as_object().unwrap().len(), 1);
    assert!(change.get("binaryData").is_none());
    assert_eq!(contents.roots.change("42", true)["binaryData"], json!({"root-cert.pem": null}));
    let whole = contents.roots.whole("demo", "istio-ca-root-cert");
    assert_eq!(whole["metadata"]["labels"], json!({"team": "mesh", "app.kubernetes.io/managed-by": "signet-ca"}));
    assert!(whole["metadata"].get("resourceVersion").is_none(), "creation only creates");
}
