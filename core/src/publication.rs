//! Where the trust bundle is published beside the CA's own replies and streams, and since when each place has which one.
//! What is published nowhere counts for nobody: as long as a publisher lacks a root, that root does not sign.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::time_math;

/// How long a publisher that this replica is not configured with is waited for after it was last heard of: the replica that
/// was may be gone, or configured anew.
pub const SILENT: Duration = Duration::from_secs(600);

/// The same for one in whose place this replica has another one, of the same kind and cluster: another replica may still have
/// the configuration of before.
pub const REPLACED: Duration = Duration::from_secs(60);

/// The kind of publishers into ConfigMaps, as their names begin.
pub const CONFIG_MAP: &str = "config-map/";
/// The kind of publishers into a ClusterTrustBundle.
pub const CLUSTER_TRUST_BUNDLE: &str = "cluster-trust-bundle/";

/// The name of a ClusterTrustBundle as API servers demand it: the signer's, and one of its own.
#[must_use]
pub fn cluster_trust_bundle(signer: &str, name: &str) -> String {
    format!("{}:{name}", signer.replace('/', ":"))
}

/// Of a publisher into a cluster: kind and cluster, without what it publishes into, which comes behind the last slash.
fn cluster_of(publisher: &str) -> Option<&str> {
    let is_of_cluster = publisher.starts_with(CONFIG_MAP) || publisher.starts_with(CLUSTER_TRUST_BUNDLE);
    publisher.rsplit_once('/').filter(|_| is_of_cluster).map(|(cluster, _)| cluster)
}

/// What a publisher says after a look at everything that it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which one, of at most [`MAX_NAME`] bytes: its kind and where it publishes, `config-map/CLUSTER/OBJECT`. One that is
    /// configured to publish elsewhere has another name: what was in place there says nothing of here.
    pub publisher: String,
    /// The bundle that is in every place now; `None` when it is not in all of them, or when that could not be seen.
    pub sequence: Option<u64>,
    /// Places that are to have it.
    pub wanted: u64,
    /// Those of them that have it.
    pub in_place: u64,
    /// What keeps it from being in all of them, in words.
    pub problem: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// The longest name of a publisher, in bytes.
pub const MAX_NAME: usize = 512;

/// How many of the bundles that a publisher has had in place are kept with their times.
pub const KEPT: usize = 32;

/// A publisher as storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Which one.
    pub publisher: String,
    /// The newest bundles that were in every place, each with the time at which that was seen first.
    pub reached: BTreeMap<u64, OffsetDateTime>,
    /// Places that are to have the bundle, as of the last report.
    pub wanted: u64,
    /// Those of them that had it.
    pub in_place: u64,
    /// What kept it from being in all of them.
    pub problem: Option<String>,
    /// When it reported last.
    pub heard_at: OffsetDateTime,
}

impl Publication {
    /// The newest bundle that was in every place; 0 for none.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.reached.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    /// When the bundle of this sequence, or a later one, was in every place first; `None` when none was.
    #[must_use]
    pub fn reached_at(&self, sequence: u64) -> Option<OffsetDateTime> {
        self.reached.range(sequence..).map(|(_, at)| *at).min()
    }
}

/// What is known of all publishers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publications(Vec<Publication>);

impl Publications {
    /// These, whose order is kept.
    #[must_use]
    pub fn new(all: Vec<Publication>) -> Self {
        Self(all)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Publication] {
        &self.0
    }

    /// The publishers that lack the bundle of this sequence: of `ours`, which this replica is configured with, and of those
    /// of other replicas that were heard of lately.
    #[must_use]
    pub fn lacking(&self, sequence: u64, ours: &[String], now: OffsetDateTime) -> Vec<String> {
        let is_replaced = |one: &Publication| {
            let cluster = cluster_of(&one.publisher);
            cluster.is_some() && ours.iter().any(|ours| cluster_of(ours) == cluster)
        };
        let wait = |one: &Publication| if is_replaced(one) { REPLACED } else { SILENT };
        let is_waited_for =
            |one: &Publication| ours.contains(&one.publisher) || one.heard_at > time_math::before(now, wait(one));
        let lacks = |one: &&Publication| is_waited_for(one) && one.reached_at(sequence).is_none();
        let unheard = ours.iter().filter(|name| self.0.iter().all(|one| one.publisher != **name));
        let mut lacking: Vec<String> = self.0.iter().filter(lacks).map(|one| one.publisher.clone()).collect();
        lacking.extend(unheard.cloned());
        lacking.sort();
        lacking
    }

    /// When the last of all publishers had the bundle of this sequence, or a later one, in every place; `None` when none had.
    #[must_use]
    pub fn reached_at(&self, sequence: u64) -> Option<OffsetDateTime> {
        self.0.iter().filter_map(|one| one.reached_at(sequence)).max()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn publication(publisher: &str, reached: &[(u64, i64)], heard: i64) -> Publication {
        Publication {
            publisher: publisher.to_owned(),
            reached: reached.iter().map(|(sequence, seconds)| (*sequence, at(*seconds))).collect(),
            wanted: 2,
            in_place: 2,
            problem: None,
            heard_at: at(heard),
        }
    }

    #[test]
    fn a_publisher_is_waited_for_until_it_has_the_bundle_or_nobody_has_heard_of_it() {
        let ours = ["a".to_owned(), "new".to_owned()];
        let all = Publications::new(vec![
            publication("a", &[(3, 10), (4, 20)], 0),
            publication("others", &[(3, 15)], 1000),
            publication("silent", &[(1, 5)], 400),
        ]);
        for (sequence, now, expected) in [
            (3, 1000, &["new"][..]),
            (4, 1000, &["new", "others"]),
            (4, 1600, &["new"]),
            (5, 1000, &["a", "new", "others"]),
            (2, 999, &["new", "silent"]),
        ] {
            assert_eq!(all.lacking(sequence, &ours, at(now)), expected, "{sequence} at {now}");
        }
        assert!(Publications::default().lacking(9, &[], at(0)).is_empty());
    }

    #[test]
    fn what_is_published_elsewhere_now_has_nothing_yet_and_where_it_was_is_waited_for_only_as_long_as_others_may_think_so()
     {
        let ours = ["config-map/a/new".to_owned(), "file/h/roots".to_owned()];
        let all = Publications::new(vec![
            publication("config-map/a/old", &[(3, 10)], 1000),
            publication("config-map/b/old", &[(1, 10)], 1000),
            publication("file/h/roots", &[(9, 10)], 1000),
        ]);
        for (sequence, now, expected) in [
            (3, 1000, &["config-map/a/new", "config-map/b/old"][..]),
            (4, 1059, &["config-map/a/new", "config-map/a/old", "config-map/b/old"]),
            (4, 1060, &["config-map/a/new", "config-map/b/old"]),
            (4, 1600, &["config-map/a/new"]),
        ] {
            assert_eq!(all.lacking(sequence, &ours, at(now)), expected, "{sequence} at {now}");
        }
    }

    #[test]
    fn a_bundle_was_published_when_the_last_publisher_had_it_or_a_later_one_first() {
        let all = Publications::new(vec![publication("a", &[(3, 10), (5, 40)], 50), publication("b", &[(4, 30)], 50)]);
        for (sequence, expected) in [(3, Some(30)), (4, Some(40)), (5, Some(40)), (6, None)] {
            assert_eq!(all.reached_at(sequence), expected.map(at), "{sequence}");
        }
        assert_eq!(all.all().iter().map(Publication::sequence).collect::<Vec<_>>(), [5, 4]);
    }
}
