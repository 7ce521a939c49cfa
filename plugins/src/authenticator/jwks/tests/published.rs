//! Tests of tokens against key sets as clusters publish them: several keys of one name, keys that cannot be used.

use super::*;

fn signed_by(key: &ClusterKey, header: &Value, algorithm: Algorithm) -> String {
    mint(header, &claims().to_string(), &key.private, algorithm)
}

fn with_kid(mut key: ClusterKey, kid: &Value) -> ClusterKey {
    key.jwk["kid"] = kid.clone();
    key
}

#[tokio::test]
async fn a_kid_may_stand_for_several_keys_and_each_of_them_verifies() {
    for kid in [json!("same"), json!("")] {
        let keys = [p256("x"), p256("x"), ec_key("x", &rcgen::PKCS_ECDSA_P384_SHA384, "P-384")];
        let [first, second, third] = keys.map(|key| with_kid(key, &kid));
        let rsa = with_kid(ClusterKey { jwk: RSA.jwk.clone(), private: RSA.private.clone() }, &kid);
        // kube-apiserver publishes one as often as its files hold it.
        let content = set(&[&first, &second, &third, &rsa, &first]);
        let jwks = authenticator(config(), &content);
        assert_eq!(jwks.keys().published().unwrap(), Published { keys: 4, left_out: Vec::new() });
        let world = World { key: p256("unused"), jwks };
        let (es256, es384) = (json!({"alg": "ES256", "kid": kid}), json!({"alg": "ES384", "kid": kid}));
        let rs256 = json!({"alg": "RS256", "kid": kid});
        for token in [
            signed_by(&first, &es256, Algorithm::ES256),
            signed_by(&second, &es256, Algorithm::ES256),
            signed_by(&third, &es384, Algorithm::ES384),
            signed_by(&rsa, &rs256, Algorithm::RS256),
        ] {
            assert!(world.ask(&token, NOW).await.is_ok(), "{kid}");
        }
        let stranger = signed_by(&p256("x"), &es256, Algorithm::ES256);
        assert_eq!(world.refused(&stranger).await, Denial::SignatureInvalid, "{kid}");
        // What names no key means those without a name.
        let nameless = signed_by(&second, &json!({"alg": "ES256"}), Algorithm::ES256);
        assert_eq!(world.ask(&nameless, NOW).await.is_ok(), kid == "", "{kid}");
    }
}

#[tokio::test]
async fn a_token_of_a_key_that_was_left_out_is_told_why() {
    let (good, mut other) = (p256("good"), p256("other"));
    other.jwk["use"] = json!("enc");
    let jwks = authenticator(config(), &set(&[&other, &good]));
    let token = signed_by(&other, &json!({"alg": "ES256", "kid": "other"}), Algorithm::ES256);
    let Err(AuthenticationError::Denied { reason, detail, .. }) =
        jwks.authenticate(&Secret::new(token.into_bytes()), NOW).await
    else {
        panic!("it is believed")
    };
    assert_eq!(reason, Denial::KeyUnknown);
    assert_eq!(detail, "kid is \"other\", but the published key of this name is for use \"enc\", not \"sig\"");
    let world = World { key: good, jwks };
    let token = signed_by(&world.key, &json!({"alg": "ES256", "kid": "good"}), Algorithm::ES256);
    assert!(world.ask(&token, NOW).await.is_ok());
}
