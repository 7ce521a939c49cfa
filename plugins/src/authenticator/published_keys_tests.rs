//! When keys are looked up, and what becomes of tokens while nobody answers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use signet_core::secret::Secret;

use super::*;

const KEYS: &str = include_str!("../../../tests/kubernetes/exchanges/one-key.jwks");

/// Counts look-ups, and answers with what it holds.
#[derive(Default)]
struct Publisher {
    asked: AtomicUsize,
    answer: std::sync::Mutex<Option<String>>,
}

#[async_trait]
impl KeyLookup for Publisher {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        answer.map(String::into_bytes).ok_or_else(|| AuthenticationError::unavailable(Outage::ApiUnreachable, "away"))
    }
}

/// A token of a key that nobody publishes.
fn stranger() -> Secret {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"unknown"}"#);
    Secret::new(format!("{header}.e30.AAAA").into_bytes())
}

async fn label(keys: &PublishedKeys) -> &'static str {
    let token = stranger();
    keys.verify(&Token::read(&token).unwrap()).await.map_or_else(|error| error.label(), |_| "verified")
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_looked_up_before_its_token_is_refused_but_not_for_each_such_token() {
    let publisher = Arc::new(Publisher { answer: Some(KEYS.to_owned()).into(), ..Publisher::default() });
    let keys = PublishedKeys::looked_up(Arc::clone(&publisher) as _);
    for (after, asked) in [(0, 1), (0, 1), (4_900, 1), (200, 2), (0, 2), (5_000, 3)] {
        tokio::time::advance(Duration::from_millis(after)).await;
        assert_eq!(label(&keys).await, "key_unknown");
        assert_eq!(publisher.asked.load(Ordering::SeqCst), asked, "{after} ms later");
    }
    assert_eq!(keys.published().unwrap().keys, 1);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_publishes_an_unknown_key_is_no_reason_to_refuse_and_known_ones_stay() {
    let publisher = Arc::new(Publisher::default());
    let keys = PublishedKeys::looked_up(Arc::clone(&publisher) as _);
    for (after, asked) in [(0, 1), (1_000, 1), (4_000, 2)] {
        tokio::time::advance(Duration::from_millis(after)).await;
        assert_eq!(label(&keys).await, "api_unreachable");
        assert_eq!(publisher.asked.load(Ordering::SeqCst), asked, "{after} ms later");
    }
    *publisher.answer.lock().unwrap() = Some(KEYS.to_owned());
    keys.look_up().await.unwrap();
    *publisher.answer.lock().unwrap() = None;
    tokio::time::advance(LOOK_UP_EVERY).await;
    assert_eq!(label(&keys).await, "api_unreachable");
    assert_eq!(keys.published().unwrap().keys, 1, "they stay");
    *publisher.answer.lock().unwrap() = Some("{}".to_owned());
    tokio::time::advance(LOOK_UP_EVERY).await;
    assert_eq!(label(&keys).await, "api_failed");
    assert_eq!(keys.published().unwrap().keys, 1, "also when others come that are none");
}

#[tokio::test]
async fn keys_from_a_file_are_not_looked_up_and_none_at_all_judge_nobody() {
    let known = PublishedKeys::new(KEYS.as_bytes()).unwrap();
    assert_eq!(label(&known).await, "key_unknown");
    assert_eq!(label(&PublishedKeys::none()).await, "keys_missing");
}

/// Never answers.
struct Silent;

#[async_trait]
impl KeyLookup for Silent {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_publisher_is_silent_only_so_many_callers_wait_and_none_for_long() {
    let keys = PublishedKeys::looked_up(Arc::new(Silent));
    let all = futures::future::join_all((0..WAITERS + 10).map(|_| label(&keys)));
    let outcomes = tokio::time::timeout(LOOK_UP_WITHIN * 2, all).await.unwrap();
    let count = |label| outcomes.iter().filter(|outcome| **outcome == label).count();
    assert_eq!((count("api_timed_out"), count("api_busy")), (WAITERS, 10), "one look-up for all who wait");
}
