//! Remembers verified tokens by their hash, never beyond their own life. One cache belongs to one set of keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use signet_core::caller::Caller;
use time::OffsetDateTime;

/// The most tokens that are remembered, over all shards.
pub(super) const CAPACITY: usize = 65_536;
/// Shards keep callers on different cores from waiting for one lock.
const SHARDS: usize = 16;

/// SHA-256 of a token. Tokens themselves are never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token.
    pub(super) fn of(token: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }
}

/// When a verified token may be believed: from the first instant on, and before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// The later of `nbf` and `iat`.
    pub(super) from: OffsetDateTime,
    /// The earliest of its ends.
    pub(super) until: OffsetDateTime,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    life: Lifetime,
    arrival: u64,
}

/// A part of the tokens, in the two orders in which they are forgotten: a full cache of tokens that end one after the
/// other must not be searched for each new one.
#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<TokenHash, Entry>,
    arrivals: BTreeMap<u64, TokenHash>,
    ends: BTreeSet<(OffsetDateTime, TokenHash)>,
    arrived: u64,
}

impl Shard {
    fn forget(&mut self, hash: TokenHash) {
        if let Some(entry) = self.entries.remove(&hash) {
            self.arrivals.remove(&entry.arrival);
            self.ends.remove(&(entry.life.until, hash));
        }
    }

    fn drop_ended(&mut self, now: OffsetDateTime) {
        while let Some((_, hash)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.forget(hash);
        }
    }
}

/// Verified tokens.
#[derive(Debug)]
pub(super) struct TokenCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_capacity: usize,
}

impl TokenCache {
    /// An empty cache for at most `capacity` tokens, rounded up to a multiple of the number of shards.
    pub(super) fn new(capacity: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), shard_capacity: capacity.div_ceil(SHARDS).max(1) }
    }

    /// The caller that this token was verified to prove, when the token may be believed at `now`.
    pub(super) fn find(&self, hash: TokenHash, now: OffsetDateTime) -> Option<Caller> {
        let shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(&hash)?;
        (entry.life.from <= now && now < entry.life.until).then(|| entry.caller.clone())
    }

    /// Remembers a verified token. When there is no room, ended tokens go first, then the one that came first.
    pub(super) fn remember(&self, hash: TokenHash, caller: Caller, life: Lifetime, now: OffsetDateTime) {
        if life.until <= now {
            return;
        }
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = match shard.entries.get(&hash) {
            Some(known) => {
                let (arrival, until) = (known.arrival, known.life.until);
                shard.ends.remove(&(until, hash));
                arrival
            }
            None => {
                if shard.entries.len() >= self.shard_capacity {
                    shard.drop_ended(now);
                }
                if shard.entries.len() >= self.shard_capacity
                    && let Some(oldest) = shard.arrivals.first_key_value().map(|(_, hash)| *hash)
                {
                    shard.forget(oldest);
                }
                shard.arrived += 1;
                shard.arrived
            }
        };
        shard.arrivals.insert(arrival, hash);
        shard.ends.insert((life.until, hash));
        shard.entries.insert(hash, Entry { caller, life, arrival });
    }

    fn shard(&self, hash: TokenHash) -> Option<&Mutex<Shard>> {
        let TokenHash([first, ..]) = hash;
        self.shards.get(usize::from(first) % SHARDS)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use signet_core::caller::{AuthMethod, Credential};
    use signet_core::identity::WorkloadId;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    fn caller(name: &str) -> Caller {
        Caller {
            identity: WorkloadId::parse(&format!("spiffe://td/ns/default/sa/{name}")).unwrap(),
            service_account_uid: "uid".into(),
            pod: None,
            node: None,
            cluster: "Kubernetes".into(),
            method: AuthMethod::Jwks,
            credential: Credential::default(),
            made_at: None,
            until: None,
        }
    }

    fn life(from: i64, until: i64) -> Lifetime {
        Lifetime { from: at(from), until: at(until) }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        NOW + time::Duration::seconds(seconds)
    }

    #[test]
    fn a_token_is_found_from_its_start_until_just_before_its_end() {
        let (cache, hash) = (TokenCache::new(100), TokenHash::of(b"token"));
        cache.remember(hash, caller("web"), life(0, 10), NOW);
        let table = [(-1, false), (0, true), (9, true), (10, false), (11, false), (5, true)];
        for (seconds, found) in table {
            assert_eq!(cache.find(hash, at(seconds)), found.then(|| caller("web")), "{seconds}");
        }
        assert_eq!(cache.find(hash, at(10) - time::Duration::NANOSECOND), Some(caller("web")));
        assert_eq!(cache.find(TokenHash::of(b"tokeN"), at(5)), None);
    }

    #[test]
    fn an_ended_token_is_not_remembered() {
        let cache = TokenCache::new(100);
        cache.remember(TokenHash::of(b"token"), caller("web"), life(-10, 0), NOW);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_full_cache_drops_ended_tokens_first_and_then_the_one_that_came_first() {
        // All in one shard: the same first byte.
        let hash = |number: u8| TokenHash([[0; 31].as_slice(), &[number]].concat().try_into().unwrap());
        let cache = TokenCache::new(3 * SHARDS);
        cache.remember(hash(0), caller("a"), life(0, 100), NOW);
        cache.remember(hash(1), caller("b"), life(0, 10), NOW);
        cache.remember(hash(2), caller("c"), life(0, 100), NOW);
        let found =
            |seconds| (0..5).filter(|number| cache.find(hash(*number), at(seconds)).is_some()).collect::<Vec<_>>();

        cache.remember(hash(3), caller("d"), life(0, 100), at(10));
        assert_eq!(found(10), [0, 2, 3]);
        cache.remember(hash(4), caller("e"), life(0, 100), at(10));
        assert_eq!(found(10), [2, 3, 4]);
        cache.remember(hash(3), caller("d"), life(0, 100), at(10));
        assert_eq!(found(10), [2, 3, 4], "a token that is there already takes no room");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_cache_is_bounded_and_never_returns_an_ended_token(
            steps in proptest::collection::vec((any::<u16>(), 0i64..50, 0i64..40), 1..400),
        ) {
            let cache = TokenCache::new(64);
            let (mut now, mut lives) = (NOW, HashMap::new());
            for (token, wait, ttl) in steps {
                let hash = TokenHash::of(&token.to_be_bytes());
                now += time::Duration::milliseconds(wait * 100);
                let life = Lifetime { from: NOW, until: now + time::Duration::seconds(ttl) };
                cache.remember(hash, caller("web"), life, now);
                // One that has ended already is not remembered, and takes nothing from the same token that has not.
                let until = if ttl > 0 { life.until } else { lives.get(&token).copied().unwrap_or(now).max(now) };
                lives.insert(token, until);
                prop_assert!(cache.len() <= 64);
                prop_assert_eq!(cache.find(hash, until), None);
                prop_assert!(ttl == 0 || cache.find(hash, now).is_some());
                for shard in &cache.shards {
                    let shard = shard.lock().unwrap();
                    prop_assert_eq!(shard.arrivals.len(), shard.entries.len());
                    prop_assert_eq!(shard.ends.len(), shard.entries.len());
                }
            }
        }
    }
}
