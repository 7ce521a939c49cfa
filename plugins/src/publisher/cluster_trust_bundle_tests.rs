//! One object of a cluster: made, repaired, never put back; the version of its API, and the right that it needs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_test_servers::objects::Objects;
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};

use super::*;
use crate::publisher::test_trust::{Told, root, server, validation};

const PATH: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles/signet.internal:workload:root-cert";

async fn publisher(api: &ScriptedApi) -> ClusterTrustBundlePublisher {
    let names = ("signet.internal/workload", "root-cert");
    ClusterTrustBundlePublisher::new("a", server(api).await, Arc::new(|_| {}), names)
}

async fn api(instead: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> (ScriptedApi, Objects) {
    let objects = Objects::default();
    let kept = objects.clone();
    let answer = move |asked: Asked| std::future::ready(instead(&asked).unwrap_or_else(|| kept.answer(&asked)));
    (ScriptedApi::start(answer).await.unwrap(), objects)
}

#[tokio::test]
async fn it_is_made_and_what_is_done_to_it_is_repaired_at_the_next_look() {
    let (api, objects) = api(|_| None).await;
    let (roots, publisher) = ([root(), root()], publisher(&api).await);
    let told = Told::new(validation(1, &roots[..1], &[]));
    let text = || objects.get(PATH).map(|object| object["spec"]["trustBundle"].as_str().unwrap().to_owned());
    let found = publisher.look(&told).await;
    assert_eq!((found.sequence, found.wanted, found.in_place, found.again_in), (Some(1), 1, 1, Some(LOOK)));
    let made = objects.get(PATH).unwrap();
    assert_eq!(made["spec"]["signerName"], "signet.internal/workload");
    let both = validation(2, &roots, &[]);
    told.set(Ok(Some(Arc::clone(&both))));
    assert_eq!(publisher.look(&told).await.sequence, Some(2));
    assert_eq!(text().unwrap(), both.bundle.pem());
    let before = api.asked().len();
    assert_eq!(publisher.look(&told).await.sequence, Some(2));
    assert_eq!(api.asked().len(), before + 1, "one look, no write");
    let mut evil = objects.get(PATH).unwrap();
    evil["spec"]["trustBundle"] = json!("evil");
    objects.put(PATH, evil);
    publisher.look(&told).await;
    assert_eq!(text().unwrap(), both.bundle.pem());
    objects.remove(PATH);
    publisher.look(&told).await;
    assert_eq!(text().unwrap(), both.bundle.pem());
}

#[tokio::test]
async fn a_former_leader_that_wakes_up_does_not_put_old_roots_back() {
    for there in [true, false] {
        let (api, objects) = api(|_| None).await;
        let roots = [root(), root(), root()];
        if there {
            let first = Told::new(validation(1, &roots[..1], &[]));
            assert_eq!(publisher(&api).await.look(&first).await.sequence, Some(1));
        }
        let (sleeper, told) = (publisher(&api).await, Told::new(validation(2, &roots[..2], &[])));
        told.hold().await;
        let newest = validation(3, &roots[2..], &[]);
        let meanwhile = async {
            told.asked.acquire().await.unwrap().forget();
            let awake = Told::new(Arc::clone(&newest));
            assert_eq!(publisher(&api).await.look(&awake).await.sequence, Some(3));
            told.set(Ok(Some(Arc::clone(&newest))));
            told.lets.add_permits(100);
        };
        let (found, ()) = tokio::join!(sleeper.look(&told), meanwhile);
        assert_eq!(found.sequence, Some(3));
        assert_eq!(objects.get(PATH).unwrap()["spec"]["trustBundle"], newest.bundle.pem(), "there: {there}");
    }
}

#[tokio::test]
async fn the_newest_version_that_the_server_has_is_used_and_none_is_told_with_what_to_do() {
    for (served, expected) in [("v1", "/v1/"), ("v1beta1", "/v1beta1/"), ("none", "")] {
        let instead = move |asked: &Asked| {
            let of = asked.path.strip_prefix("/apis/certificates.k8s.io/")?;
            let resource = if of == served { "clustertrustbundles" } else { "certificatesigningrequests" };
            let list = json!({"resources": [{"name": resource}]});
            match of {
                "v1beta1" if served == "v1" => Some(Answer::text(404, "text/plain", "404 page not found\n")),
                "v1" | "v1beta1" => Some(Answer::json(200, &list)),
                _ => None,
            }
        };
        let (api, _objects) = api(instead).await;
        let (publisher, told) = (publisher(&api).await, Told::new(validation(1, &[root()], &[])));
        let found = publisher.look(&told).await;
        let asked = api.asked();
        let made: Vec<_> = asked.iter().filter(|asked| asked.method == "POST").collect();
        if expected.is_empty() {
            assert!(made.is_empty() && found.problem.unwrap().contains("has no ClusterTrustBundle"));
        } else {
            assert!(found.in_place == 1 && made[0].path.contains(expected), "{made:?}");
            assert_eq!(made[0].body["apiVersion"], format!("certificates.k8s.io/{served}"));
        }
    }
}

#[tokio::test]
async fn the_right_to_attest_is_told_apart_from_others_and_failures_are_tried_less_and_less_often() {
    let attest = "user not permitted to attest for signerName \"signet.internal/workload\"";
    for (message, words) in [(attest, "may not attest for the signer signet.internal/workload"), ("no", "403: no")] {
        let instead = move |asked: &Asked| {
            let body = json!({"kind": "Status", "message": message, "reason": "Forbidden", "code": 403});
            (asked.method == "POST").then(|| Answer::json(403, &body))
        };
        let (api, _objects) = api(instead).await;
        let (publisher, told) = (publisher(&api).await, Told::new(validation(1, &[root()], &[])));
        let waits: Vec<_> = [publisher.look(&told).await, publisher.look(&told).await, publisher.look(&told).await]
            .iter()
            .map(|found| {
                let problem = found.problem.as_ref().unwrap();
                assert!(problem.contains(words) && found.in_place == 0, "{problem}");
                found.again_in.unwrap().as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4]);
    }
    let (throttling, _objects) = api(|asked| (asked.method == "GET").then(|| Answer::throttled(7))).await;
    let (publisher, told) = (publisher(&throttling).await, Told::new(validation(1, &[root()], &[])));
    for _ in 0..2 {
        let wait = publisher.look(&told).await.again_in.unwrap();
        assert!(wait > Duration::from_secs(6) && wait <= Duration::from_secs(7), "{wait:?}");
    }
}
