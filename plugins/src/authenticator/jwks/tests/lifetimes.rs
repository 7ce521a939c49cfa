//! Tests that neither a token nor what is remembered of it outlives its times or the key that signed it.

use super::*;

fn replaced(keys: usize) -> Refreshed {
    Refreshed::Replaced(Published { keys, left_out: Vec::new() })
}

#[tokio::test]
async fn leeway_stretches_both_ends_but_the_cache_keeps_to_the_token() {
    let world = world_with(TokenRules { leeway: Duration::from_secs(30), ..config() });
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
    let world = world_with(TokenRules { leeway: Duration::from_secs(30), ..config() });
    let last = OffsetDateTime::from_unix_timestamp(253_402_300_799).unwrap();
    for (exp, until) in [
        (NOW + Duration::from_secs(100), Some(NOW + Duration::from_secs(130))),
        // Bounded by the age that the last of our clocks' seconds allows, not by `exp`.
        (last, Some(NOW + Duration::from_secs(24 * 3600 + 120 + 30))),
    ] {
        let mut claims = claims();
        claims["exp"] = json!(exp.unix_timestamp());
        claims["iat"] = json!(NOW.unix_timestamp());
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
    let jwks = authenticator(config(), &set(&[&old]));
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
    assert_eq!(world.jwks.keys().refresh(&set(&[&old])), Ok(Refreshed::Unchanged));
    assert!(world.ask(&by_old, NOW).await.is_ok());
    assert_eq!(world.jwks.cache_hits(), 2, "an unchanged file keeps what is remembered");

    assert_eq!(world.jwks.keys().refresh(&set(&[&old, &new])), Ok(replaced(2)));
    assert!(world.ask(&by_old, NOW).await.is_ok() && world.ask(&by_new, NOW).await.is_ok());
    assert_eq!(world.jwks.cache_hits(), 2, "new keys start with nothing remembered");

    assert_eq!(world.jwks.keys().refresh(&set(&[&new])), Ok(replaced(1)));
    assert_eq!(world.refused(&by_old).await, Denial::KeyUnknown);
    assert!(world.ask(&by_new, NOW).await.is_ok());
}

#[tokio::test]
async fn a_bad_key_set_is_an_error_and_keeps_the_keys_in_use() {
    let key = p256("ec");
    let jwks = authenticator(config(), &set(&[&key]));
    let world = World { key, jwks };
    let token = world.token(&claims());
    let weak = json!({"keys": [{"kty": "RSA", "kid": "w", "n": "AQAB", "e": "AQAB"}]}).to_string();
    for content in [&b""[..], b"{", b"{\"keys\":[]}", weak.as_bytes()] {
        assert!(world.jwks.keys().refresh(content).is_err());
        assert!(world.ask(&token, NOW).await.is_ok());
        assert!(PublishedKeys::new(content).is_err());
    }
    assert!(!format!("{:?}", world.jwks).contains("keys"));
}

/// What the API server makes of the lives it is asked for.
#[tokio::test]
async fn a_token_is_believed_until_the_earliest_of_its_end_its_warning_and_its_greatest_age() {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let at = |seconds: i64| NOW + time::Duration::seconds(seconds);
    // Life, warnafter, max_age; all from `iat`. Then the first second without belief, and what it is refused for.
    let table = [
        ("projected for an hour", HOUR, None, DAY, HOUR, Denial::TokenExpired),
        ("projected for twelve hours, as Istio does", 12 * HOUR, None, DAY, 12 * HOUR, Denial::TokenExpired),
        ("projected for a week: kubelet renews it after a day", 7 * DAY, None, DAY, DAY + 120, Denial::TokenTooOld),
        ("granted for a century", 100 * YEAR, None, DAY, DAY + 120, Denial::TokenTooOld),
        ("granted for a century, another bound", 100 * YEAR, None, HOUR, HOUR + 120, Denial::TokenTooOld),
        ("stretched to a year", YEAR, Some(HOUR + 7), DAY, HOUR + 7, Denial::TokenTooOld),
        ("stretched, and another bound", YEAR, Some(HOUR + 7), HOUR / 2, HOUR / 2 + 120, Denial::TokenTooOld),
        ("a warning after the end", HOUR, Some(2 * HOUR), DAY, HOUR, Denial::TokenExpired),
    ];
    for (what, life, warnafter, max_age, end, reason) in table {
        for leeway in [0, 60] {
            let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
            let world = world_with(TokenRules { leeway: seconds(leeway), max_age: Some(seconds(max_age)), ..config() });
            let mut claims = claims();
            for name in ["iat", "nbf"] {
                claims[name] = json!(NOW.unix_timestamp());
            }
            claims["exp"] = json!(NOW.unix_timestamp() + life);
            claims["kubernetes.io"]["warnafter"] = json!(warnafter.map(|after: i64| NOW.unix_timestamp() + after));
            let token = world.token(&claims);
            // The second look at each time is from memory, as long as the token itself lives.
            for seconds in [0, 0, end - 1, end - 1, end + leeway - 1] {
                let caller = world.ask(&token, at(seconds)).await;
                assert_eq!(caller.map(|caller| caller.until), Ok(Some(at(end + leeway))), "{what}: {seconds}");
            }
            assert!(world.jwks.cache_hits() >= 3, "{what}");
            for seconds in [end + leeway, end + leeway + YEAR] {
                let found = world.ask(&token, at(seconds)).await.map(drop).unwrap_err();
                let ended = seconds >= life + leeway;
                assert_eq!(found, if ended { Denial::TokenExpired } else { reason }, "{what}: {seconds}");
            }
        }
    }
}
