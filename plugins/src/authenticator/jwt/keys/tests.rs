//! Tests that a key that cannot be used costs the others nothing, and that a token meets only the keys it may mean.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::super::jwk::accepted;
use super::*;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::json;

fn rsa_key(kid: &str, bits: usize) -> Value {
    json!({"kty": "RSA", "kid": kid, "n": URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]), "e": "AQAB"})
}

fn ec(kid: &str, algorithm: &'static SignatureAlgorithm, curve: &str) -> Value {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let (x, y) = pair.der_bytes().get(1..).unwrap().split_at(pair.der_bytes().len() / 2);
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}

fn ec_key(kid: &str) -> Value {
    ec(kid, &rcgen::PKCS_ECDSA_P256_SHA256, "P-256")
}

fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key.as_object_mut().unwrap().insert(name.to_owned(), value.into());
    key
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name).unwrap();
    key
}

fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn counts(keys: &[Value]) -> (usize, usize) {
    let set = parse(keys).unwrap();
    (set.len(), set.left_out().len())
}

fn chosen(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> Result<usize, NoKey> {
    set.choose(kid, algorithm).map(|keys| keys.len())
}

#[test]
fn a_key_that_cannot_be_used_is_left_out_with_its_reason_and_the_others_count() {
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let modulus = [0xff; 256];
    let even = [&modulus[..255], &[0xfe]].concat();
    let base64url = "that is not base64url without padding (RFC 7515 section 2)";
    let exponent = "has an exponent that is even, below 3 or above 2^33; use 65537 (\"AQAB\")";
    let types = "tokens are verified with RSA and EC keys";
    let private = |name: &str| format!("is a private key (it has {name:?}); replace it, and publish public keys only");
    let table = [
        (json!({"kty": "oct", "kid": "a", "k": "AAAA"}), format!("is of the type \"oct\"; {types}")),
        (json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AAAA"}), format!("is of the type \"OKP\"; {types}")),
        (json!({"kty": "new", "kid": "a", "x": [1, 2]}), format!("is of the type \"new\"; {types}")),
        (json!({"kid": "a"}), "has no kty".into()),
        (json!({"kid": "a", "kty": 5}), "has a kty that is not text".into()),
        (json!({"kid": "a", "kty": "RSA", "x5c": ["AAAA"]}), "has no n".into()),
        (with(ec_key("a"), "crv", "P-521"), "is on the curve \"P-521\"; use P-256 or P-384".into()),
        (without(ec_key("a"), "crv"), "has no crv".into()),
        (with(ec_key("a"), "use", "enc"), "is for use \"enc\", not \"sig\"".into()),
        (with(ec_key("a"), "use", "SIG"), "is for use \"SIG\", not \"sig\"".into()),
        (with(ec_key("a"), "use", 5), "has a use that is not text".into()),
        (with(ec_key("a"), "key_ops", vec!["encrypt"]), "has key_ops without \"verify\"".into()),
        (with(ec_key("a"), "key_ops", Vec::<String>::new()), "has key_ops without \"verify\"".into()),
        (with(ec_key("a"), "key_ops", "verify"), "has key_ops that are not a list".into()),
        (with(ec_key("a"), "d", "AAAA"), private("d")),
        (with(rsa_key("a", 2048), "qi", "AAAA"), private("qi")),
        (with(rsa_key("a", 2048), "alg", "RSA-OAEP"), "is for alg \"RSA-OAEP\"; use RS, PS or ES".into()),
        (with(rsa_key("a", 2048), "alg", "HS256"), "is for alg \"HS256\"; use RS, PS or ES".into()),
        (with(ec_key("a"), "alg", "RS256"), "is of another kind than its alg \"RS256\" says".into()),
        (with(ec_key("a"), "alg", "ES384"), "is of another kind than its alg \"ES384\" says".into()),
        (rsa_key("a", 1024), "is RSA of 1024 bits; use 2048 to 8192".into()),
        (rsa_key("a", 2040), "is RSA of 2040 bits; use 2048 to 8192".into()),
        (rsa_key("a", 8200), "is RSA of 8200 bits; use 2048 to 8192".into()),
        (rsa_key("a", 16384), "is RSA of 16384 bits; use 2048 to 8192".into()),
        (with(rsa_key("a", 2048), "n", ""), "is RSA of 0 bits; use 2048 to 8192".into()),
        (with(rsa_key("a", 2048), "n", number(&even)), "has an even modulus, which no RSA key has".into()),
        (with(rsa_key("a", 2048), "n", STANDARD.encode(modulus)), format!("has a n {base64url}")),
        (with(rsa_key("a", 2048), "n", URL_SAFE.encode(modulus)), format!("has a n {base64url}")),
        (with(rsa_key("a", 2048), "n", number(&modulus) + "\n"), format!("has a n {base64url}")),
        (without(rsa_key("a", 2048), "e"), "has no e".into()),
        (with(rsa_key("a", 2048), "e", 65537), "has a e that is not text".into()),
        (with(rsa_key("a", 2048), "e", ""), exponent.into()),
        (with(rsa_key("a", 2048), "e", number(&[1])), exponent.into()),
        (with(rsa_key("a", 2048), "e", number(&[1, 0, 0])), exponent.into()),
        (with(rsa_key("a", 2048), "e", number(&[2, 0, 0, 0, 1])), exponent.into()),
        (with(ec_key("a"), "x", "AAAA"), "has coordinates of 3 and 32 bytes instead of 32".into()),
        (with(ec_key("a"), "y", number(&[0; 33])), "has coordinates of 32 and 33 bytes instead of 32".into()),
        (without(ec_key("a"), "y"), "has no y".into()),
        (with(ec_key("a"), "y", number(&[1; 32])), "has coordinates of no point of its curve".into()),
    ];
    for (entry, problem) in table {
        let set = parse(&[ec_key("good"), entry.clone()]).unwrap();
        let left_out = LeftOut { index: 1, kid: Some("a".into()), problem: problem.clone() };
        assert_eq!((set.len(), set.left_out()), (1, &[left_out][..]), "{entry}");
        assert_eq!(chosen(&set, Some("good"), Algorithm::ES256), Ok(1), "{entry}");
        assert_eq!(chosen(&set, Some("a"), Algorithm::ES256), Err(NoKey::LeftOut(problem)), "{entry}");
    }
}

#[test]
fn an_entry_without_a_name_is_told_by_its_place() {
    let odd =
        [json!(5), json!(null), json!([]), json!("key"), with(ec_key("a"), "kid", 7), with(rsa_key("", 8), "x", 1)];
    for entry in odd {
        let set = parse(&[entry.clone(), ec_key("good")]).unwrap();
        assert_eq!(set.len(), 1, "{entry}");
        let [left_out] = set.left_out() else { panic!("{entry}: {:?}", set.left_out()) };
        assert!(left_out.to_string().starts_with("key 0 (without kid) "), "{left_out}");
    }
    let long = parse(&[with(ec_key(&"k".repeat(5000)), "use", "enc"), ec_key("good")]).unwrap();
    assert!(long.left_out().iter().all(|key| key.to_string().len() < 300));
}

#[test]
fn keys_may_be_spelt_as_publishers_spell_them() {
    let padded = URL_SAFE_NO_PAD.encode([&[0, 0][..], &[0xff; 256]].concat());
    let table = [
        with(with(ec_key("b"), "use", "sig"), "key_ops", vec!["sign", "verify"]),
        with(ec_key("b"), "x5c", vec!["AAAA"]),
        with(ec_key("b"), "use", Value::Null),
        with(rsa_key("b", 2048), "n", padded),
        with(rsa_key("b", 2048), "e", "AAEAAQ"),
        with(rsa_key("b", 2048), "e", "Aw"),
        rsa_key("b", 8192),
        ec("b", &rcgen::PKCS_ECDSA_P384_SHA384, "P-384"),
        with(rsa_key("b", 3072), "something new", json!({"a": [1]})),
    ];
    for entry in table {
        assert_eq!(counts(&[ec_key("a"), entry.clone()]), (2, 0), "{entry}");
    }
}

#[test]
fn a_set_without_any_usable_key_is_refused_with_the_reason_of_each() {
    let refused = |keys: &[Value]| parse(keys).map(drop).unwrap_err().to_string();
    let no_key = "the JWK set holds no key for verifying RS, PS or ES tokens";
    assert_eq!(refused(&[]), format!("{no_key}: it is empty"));
    assert_eq!(
        refused(&[rsa_key("weak", 1024), with(ec_key("b"), "use", "enc")]),
        format!(
            "{no_key}: key 0 (kid \"weak\") is RSA of 1024 bits; use 2048 to 8192; key 1 (kid \"b\") is for use \"enc\", not \"sig\""
        )
    );
    let many = refused(&vec![json!(5); 20]);
    assert!(many.ends_with("key 7 (without kid) is not a JSON object; and 12 more"), "{many}");
}

#[test]
fn what_is_no_key_set_is_refused_as_a_whole() {
    let deep = format!("{{\"keys\":[{}1{}]}}", "[".repeat(5000), "]".repeat(5000));
    let good = json!({ "keys": [ec_key("a")] }).to_string();
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xff\xfe", wide.as_slice()].concat();
    let (trailing, twice) = (format!("{good} x"), format!("{{\"keys\":[],{}", &good[1..]));
    let by_position = json!([[ec_key("a")]]).to_string();
    let table: [(&[u8], &str); 15] = [
        (b"", "it is not a JSON object"),
        (b"[]", "it is not a JSON object"),
        (by_position.as_bytes(), "it is not a JSON object"),
        (b"{}", "missing field `keys`"),
        (b"{\"keys\":null}", "expected a sequence"),
        (b"{\"keys\":{}}", "expected a sequence"),
        (b"{\"keys\":\"x\"}", "expected a sequence"),
        (b"{\"keys\":[]", "EOF"),
        (twice.as_bytes(), "duplicate field `keys`"),
        (trailing.as_bytes(), "trailing characters"),
        (deep.as_bytes(), "recursion limit exceeded"),
        (b"{\"keys\":[\"\xff\"]}", "invalid unicode"),
        (b"\0", "save it as UTF-8"),
        (&wide, "save it as UTF-8"),
        (&marked, "save it as UTF-8"),
    ];
    for (text, expected) in table {
        let error = KeySet::parse(text).map(drop).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, KeySetError::NotJwks(_)) && told.contains(expected), "{told}, not {expected}");
    }
    let many: Vec<Value> = (0..=MAX_KEYS).map(|_| json!(5)).collect();
    assert_eq!(parse(&many).map(drop), Err(KeySetError::TooManyKeys(257)));
}

#[test]
fn a_mark_in_front_and_members_not_known_here_change_nothing() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let good = json!({ "keys": [ec_key("a")] }).to_string();
    let more = format!("{{\"issuer\":{deep},\"keys_v2\":null,{}", &good[1..]);
    for text in [format!("\u{feff}{good}\n"), more, format!("\r\n {good} \t")] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap().len(), 1);
    }
    // RFC 7517 section 4: of a member given twice, the last one.
    let twice = good.replace("\"kty\":\"EC\"", "\"kty\":\"oct\",\"kty\":\"EC\"");
    assert_ne!(twice, good);
    assert_eq!(KeySet::parse(twice.as_bytes()).unwrap().len(), 1);
}

#[test]
fn the_same_key_twice_is_one_and_a_kid_may_stand_for_several() {
    let (a, rsa) = (ec_key("a"), rsa_key("a", 2048));
    assert_eq!(counts(&[a.clone(), a.clone(), a.clone()]), (1, 0));
    assert_eq!(counts(&[a.clone(), rsa.clone(), with(a.clone(), "use", "sig"), rsa.clone()]), (2, 0));
    let leading_zero = URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat());
    assert_eq!(counts(&[rsa.clone(), with(rsa.clone(), "n", leading_zero)]), (1, 0), "another spelling");
    assert_eq!(counts(&[a.clone(), with(a.clone(), "kid", "b")]), (2, 0), "another name");

    let kinds = parse(&[a.clone(), rsa, ec("a", &rcgen::PKCS_ECDSA_P384_SHA384, "P-384")]).unwrap();
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::RS256, Algorithm::PS512] {
        assert_eq!(chosen(&kinds, Some("a"), algorithm), Ok(1), "{algorithm:?}");
    }
    let alike: Vec<Value> = (0..6).map(|_| ec_key("a")).collect();
    let set = parse(&alike).unwrap();
    assert_eq!((set.len(), chosen(&set, Some("a"), Algorithm::ES256)), (MAX_ALIKE, Ok(MAX_ALIKE)));
    assert_eq!(set.left_out().iter().map(|key| key.index).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_token_without_kid_is_given_the_keys_without_one_or_the_only_one() {
    let one = parse(&[ec_key("a")]).unwrap();
    for kid in [None, Some(""), Some("a")] {
        assert_eq!(chosen(&one, kid, Algorithm::ES256), Ok(1), "{kid:?}");
    }
    assert_eq!(chosen(&one, Some("b"), Algorithm::ES256), Err(NoKey::Unknown));
    let two = parse(&[ec_key("a"), rsa_key("b", 2048)]).unwrap();
    assert_eq!(chosen(&two, None, Algorithm::ES256), Err(NoKey::Unknown));
    assert_eq!(chosen(&two, Some("b"), Algorithm::PS512), Ok(1));
    assert_eq!(chosen(&two, Some("b"), Algorithm::ES256), Err(NoKey::OtherAlgorithm));
    for nameless in [without(ec_key("b"), "kid"), ec_key("")] {
        let set = parse(&[ec_key("a"), nameless]).unwrap();
        assert_eq!((set.len(), chosen(&set, None, Algorithm::ES256)), (2, Ok(1)));
        assert_eq!(chosen(&set, None, Algorithm::RS256), Err(NoKey::OtherAlgorithm));
        assert_eq!(chosen(&set, Some("x"), Algorithm::ES256), Err(NoKey::Unknown));
    }
}

#[test]
fn a_key_verifies_only_algorithms_of_its_own_kind_and_alg() {
    let all = ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|n| accepted(n).unwrap());
    let fits = |key: Value| {
        let set = parse(&[key]).unwrap();
        all.iter().filter(|algorithm| set.choose(Some("a"), **algorithm).is_ok()).count()
    };
    assert_eq!(fits(ec_key("a")), 1);
    assert_eq!(fits(rsa_key("a", 2048)), 6);
    assert_eq!(fits(with(rsa_key("a", 2048), "alg", "RS256")), 1);
    for name in ["none", "None", "", "HS256", "HS384", "HS512", "EdDSA", "ES512", "es256", "RS1"] {
        assert_eq!(accepted(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn reading_a_key_set_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(KeySet::parse(&bytes));
    }

    #[test]
    fn whatever_a_member_holds_costs_only_its_own_key(
        name in prop::sample::select(vec!["kty", "kid", "use", "key_ops", "alg", "crv", "n", "e", "x", "y", "d"]),
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from), prop::collection::vec("[a-zA-Z0-9_-]{0,9}", 0..3).prop_map(Value::from),
        ],
        rsa in any::<bool>(),
    ) {
        let entry = with(if rsa { rsa_key("a", 2048) } else { FIXED.clone() }, name, value);
        let set = parse(&[FIXED_OTHER.clone(), entry]).unwrap();
        prop_assert_eq!(set.len() + set.left_out().len(), 2);
        prop_assert!(chosen(&set, Some("good"), Algorithm::ES256).is_ok());
    }
}

static FIXED: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| ec_key("a"));
static FIXED_OTHER: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| ec_key("good"));
