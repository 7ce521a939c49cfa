//! Tests that neither a token nor what is remembered of it outlives its times or the key that signed it.

use super::*;

#[tokio::test]
async fn leeway_stretches_both_ends_but_the_cache_keeps_to_the_token() {
    let world = world_with(JwksConfig { leeway: Duration::from_secs(30), ..config() });
    let at = |seconds: i64| NOW + time::Duration::seconds(seconds);
    let mut claims = claims();
    claims["nbf"] = json!(at(0).unix_timestamp());
    claims["exp"] = json!(at(100).unix_timestamp());
    let token = world.token(&claims);
    let table = [
        (-31, Err(Denial::TokenNotYetValid), 0),
        (-30, Ok(()), 0),
        (-30, Ok(()), 0),
        (0, Ok(()), 1),
        (99, Ok(()), 2),
        (100, Ok(()), 2),
        (129, Ok(()), 2),
        (130, Err(Denial::TokenExpired), 2),
    ];
    for (seconds, expected, hits) in table {
        assert_eq!(world.ask(&token, at(seconds)).await.map(drop), expected, "{seconds}");
        assert_eq!(world.jwks.cache_hits(), hits, "{seconds}");
    }
}

#[tokio::test]
async fn a_caller_is_proved_until_its_token_would_be_refused_whether_it_is_remembered_or_not() {
    let world = world_with(JwksConfig { leeway: Duration::from_secs(30), ..config() });
    let last = OffsetDateTime::from_unix_timestamp(253_402_300_799).unwrap();
    for (exp, until) in [
        (NOW + Duration::from_secs(100), Some(NOW + Duration::from_secs(130))),
        // The calendar's last second (RFC 5280 section 4.1.2.5), beyond which nothing can be counted.
        (last, None),
    ] {
        let mut claims = claims();
        claims["exp"] = json!(exp.unix_timestamp());
        let token = world.token(&claims);
        let hits = world.jwks.cache_hits();
        for times in 0..2 {
            assert_eq!(world.ask(&token, NOW).await.unwrap().until, until, "{exp}");
            assert_eq!(world.jwks.cache_hits(), hits + times);
        }
    }
}

#[tokio::test]
async fn a_remembered_token_ends_with_itself() {
    let world = world();
    let token = world.token(&claims());
    for (seconds, expected) in
        [(0, Ok(())), (599, Ok(())), (600, Err(Denial::TokenExpired)), (1000, Err(Denial::TokenExpired))]
    {
        assert_eq!(world.ask(&token, NOW + time::Duration::seconds(seconds)).await.map(drop), expected);
    }
    assert_eq!(world.jwks.cache_hits(), 1);
    let before = NOW - time::Duration::seconds(11);
    assert_eq!(world.ask(&token, before).await.map(drop), Err(Denial::TokenNotYetValid), "a clock set back");
}

#[tokio::test]
async fn a_withdrawn_key_stops_verifying_at_once_even_for_remembered_tokens() {
    let (old, new) = (p256("old"), p256("new"));
    let jwks = JwksAuthenticator::new(config(), &set(&[&old])).unwrap();
    let world = World { key: p256("unused"), jwks };
    let token = |key: &ClusterKey, kid: &str| {
        mint(&json!({"alg": "ES256", "kid": kid}), &claims().to_string(), &key.private, Algorithm::ES256)
    };
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    for _ in 0..2 {
        assert!(world.ask(&by_old, NOW).await.is_ok());
        assert_eq!(world.refused(&by_new).await, Denial::KeyUnknown);
    }
    assert_eq!(world.jwks.cache_hits(), 1);
    assert_eq!(world.jwks.refresh(&set(&[&old])), Ok(Refreshed::Unchanged));
    assert!(world.ask(&by_old, NOW).await.is_ok());
    assert_eq!(world.jwks.cache_hits(), 2, "an unchanged file keeps what is remembered");

    assert_eq!(world.jwks.refresh(&set(&[&old, &new])), Ok(Refreshed::Replaced { keys: 2, ignored: 0 }));
    assert!(world.ask(&by_old, NOW).await.is_ok() && world.ask(&by_new, NOW).await.is_ok());
    assert_eq!(world.jwks.cache_hits(), 2, "new keys start with nothing remembered");

    assert_eq!(world.jwks.refresh(&set(&[&new])), Ok(Refreshed::Replaced { keys: 1, ignored: 0 }));
    assert_eq!(world.refused(&by_old).await, Denial::KeyUnknown);
    assert!(world.ask(&by_new, NOW).await.is_ok());
}

#[tokio::test]
async fn a_bad_key_set_is_an_error_and_keeps_the_keys_in_use() {
    let key = p256("ec");
    let jwks = JwksAuthenticator::new(config(), &set(&[&key])).unwrap();
    let world = World { key, jwks };
    let token = world.token(&claims());
    let weak = json!({"keys": [{"kty": "RSA", "kid": "w", "n": "AQAB", "e": "AQAB"}]}).to_string();
    for content in [&b""[..], b"{", b"{\"keys\":[]}", weak.as_bytes()] {
        assert!(world.jwks.refresh(content).is_err());
        assert!(world.ask(&token, NOW).await.is_ok());
        assert!(JwksAuthenticator::new(config(), content).is_err());
    }
    assert!(!format!("{:?}", world.jwks).contains("keys"));
}
