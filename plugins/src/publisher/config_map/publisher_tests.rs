//! ConfigMaps in the namespaces of an API server that keeps what it is given: published, repaired, left, and never put back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use signet_core::seams::store::StoreError;
use signet_test_servers::objects::{Objects, config_map, refused};
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};

use super::test_world::{LISTS, LONG, ROOTS, World};
use super::*;
use crate::publisher::test_trust::{Told, root, validation};

#[tokio::test]
async fn every_namespace_gets_the_roots_and_what_is_done_to_them_is_repaired() {
    let world = World::new(&["demo", "web", "kube-system"]).await;
    world
        .objects
        .put(&config_map("web", ROOTS), json!({"metadata": {}, "data": {"root-cert.pem": "old", "mine": "x"}}));
    let mut working = world.work(Istiod::Leave).await;
    working.published(1, 2).await;
    assert_eq!([world.text("demo"), world.text("web")], [world.pem(&[0]), world.pem(&[0])]);
    assert!(world.objects.get(&config_map("kube-system", ROOTS)).is_none());
    let web = world.objects.get(&config_map("web", ROOTS)).unwrap();
    assert_eq!((&web["data"]["mine"], &web["metadata"]["labels"]["team"]), (&json!("x"), &json!("mesh")));

    world.objects.namespace("new");
    working.published(1, 3).await;
    world.objects.remove(&config_map("demo", ROOTS));
    working.until(|_| world.text("demo") == world.pem(&[0])).await;
    world.change("web", |map| map["data"]["root-cert.pem"] = json!("evil"));
    working.until(|_| world.text("web") == world.pem(&[0])).await;
    world.change("new", |map| map["metadata"]["labels"] = json!({"theirs": "x"}));
    let labels = || world.objects.get(&config_map("new", ROOTS)).unwrap()["metadata"]["labels"].clone();
    working.until(|_| labels()["team"] == "mesh").await;
    assert_eq!(labels()["theirs"], "x");
    // After a relist, too.
    world.objects.end_watches();
    world.objects.remove(&config_map("demo", ROOTS));
    working.until(|_| world.text("demo") == world.pem(&[0])).await;
    working.published(1, 3).await;
}

#[tokio::test]
async fn a_start_reads_pages_and_a_rotation_costs_one_write_for_each_namespace() {
    let names: Vec<String> = (0..40).map(|number| format!("ns-{number}")).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut first = world.work(Istiod::Leave).await;
    first.published(1, 40).await;
    assert_eq!((world.asked(0, "POST", ROOTS), world.asked(0, "POST", "configmaps")), (0, 40));
    let publisher = first.stop().await;
    let found = publisher.look(world.told.as_ref()).await;
    assert!(
        found.sequence.is_none() && found.problem.unwrap().contains("not known yet"),
        "nobody follows them any more"
    );
    let before = world.api.asked().len();
    let mut second = world.work(Istiod::Leave).await;
    second.published(1, 40).await;
    let single = format!("configmaps/{ROOTS}");
    assert_eq!(world.asked(before, "GET", &single), 0, "what is right is not read one by one");
    let before = world.api.asked().len();
    world.tell(2, &[0, 1], &[]);
    second.publisher.changed.notify_one();
    second.published(2, 40).await;
    assert_eq!(world.asked(before, "PATCH", &single), 40);
    assert_eq!(world.asked(before, "GET", &single), 0);
    // Another sequence of the same content is in place at once.
    world.tell(3, &[0, 1], &[]);
    second.publisher.changed.notify_one();
    second.published(3, 40).await;
    assert_eq!(world.asked(before, "PATCH", &single), 40);
}

/// It has looked, and has heard from storage what was true then; it sleeps before its write.
#[tokio::test]
async fn a_former_leader_that_wakes_up_does_not_put_old_roots_back() {
    for there in [true, false] {
        let world = World::new(&["demo"]).await;
        if there {
            world.objects.put(&config_map("demo", ROOTS), json!({"metadata": {}, "data": {"root-cert.pem": "x"}}));
        }
        world.told.hold().await;
        let mut sleeper = World::start(world.publisher(Istiod::Leave).await, Arc::clone(&world.told));
        // It asks at the begin of a look, and again before its write, where it stays without an answer.
        let before_write = async {
            loop {
                world.told.asked.acquire().await.unwrap().forget();
                if lock(&sleeper.publisher.places).compared {
                    return;
                }
                world.told.lets.add_permits(1);
            }
        };
        tokio::time::timeout(LONG, before_write).await.unwrap();
        let awake = Arc::new(Told::new(validation(2, &[world.roots[1].clone()], &[])));
        let mut other = World::start(world.publisher(Istiod::Leave).await, Arc::clone(&awake));
        other.published(2, 1).await;
        assert_eq!(world.text("demo"), world.pem(&[1]));
        let before = world.api.asked().len();
        world.told.set(Ok(Some(validation(2, &[world.roots[1].clone()], &[]))));
        world.told.lets.add_permits(1 << 20);
        sleeper.published(2, 1).await;
        assert_eq!(world.text("demo"), world.pem(&[1]), "there: {there}");
        let writes =
            world.api.asked()[before..].iter().filter(|asked| asked.method != "GET").cloned().collect::<Vec<_>>();
        assert_eq!(writes.len(), 1, "it has tried once: {writes:?}");
    }
}

#[tokio::test]
async fn while_storage_does_not_say_what_is_true_nothing_is_written() {
    let world = World::new(&["demo"]).await;
    let mut working = world.work(Istiod::Leave).await;
    working.published(1, 1).await;
    world.told.set(Err(StoreError::Unavailable("away".into())));
    world.objects.namespace("new");
    let found = working.until(|found| found.problem.is_some()).await;
    assert!(found.sequence.is_none() && found.problem.unwrap().contains("away"));
    assert!(world.text("new").is_empty());
    world.told.set(Ok(None));
    working.until(|found| found.problem.as_ref().is_some_and(|problem| problem.contains("no authority"))).await;
    world.tell(2, &[0, 1], &[]);
    working.published(2, 2).await;
}

#[tokio::test]
async fn a_terminating_namespace_is_skipped_by_its_cause_and_any_other_refusal_is_named() {
    let forbidden = Arc::new(AtomicBool::new(true));
    let is_forbidden = Arc::clone(&forbidden);
    let instead = move |asked: &Asked| {
        let refuses = asked.method == "POST" && asked.path.contains("/closed/") && is_forbidden.load(Ordering::SeqCst);
        refuses.then(|| refused(403, "Forbidden", &json!({})))
    };
    let world = World::with(&["demo", "ending", "closed"], Box::new(instead)).await;
    world.objects.terminate("ending");
    let mut working = world.work(Istiod::Leave).await;
    let found = working.until(|found| found.in_place == 1 && found.wanted == 2).await;
    let problem = found.problem.unwrap();
    assert!(problem.contains("namespace closed: ") && problem.contains("403"), "{problem}");
    assert!(found.sequence.is_none() && !problem.contains("ending"));
    forbidden.store(false, Ordering::SeqCst);
    working.published(1, 2).await;
    assert!(working.found.borrow().problem.is_none());
}

#[tokio::test]
async fn an_api_server_with_too_much_to_do_is_waited_for_and_nothing_has_failed() {
    let throttles = Arc::new(AtomicBool::new(true));
    let is_throttling = Arc::clone(&throttles);
    let instead = move |asked: &Asked| {
        let once = asked.method == "POST" && is_throttling.swap(false, Ordering::SeqCst);
        once.then(|| Answer::throttled(1))
    };
    let world = World::with(&["demo"], Box::new(instead)).await;
    let mut working = world.work(Istiod::Leave).await;
    let found = working.until(|found| found.problem.is_some() && found.wanted == 1).await;
    assert!(found.problem.unwrap().contains("429") && found.again_in.unwrap() > Duration::from_millis(100));
    assert!(lock(&working.publisher.places).problem().is_none(), "it is not the namespace that has failed");
    let begun = Instant::now();
    working.published(1, 1).await;
    assert!(begun.elapsed() > Duration::from_millis(500));
}

#[tokio::test]
async fn a_namespace_whose_writes_have_no_answer_holds_no_other_one() {
    let objects = Objects::default();
    let kept = objects.clone();
    let answer = move |asked: Asked| {
        let kept = kept.clone();
        async move {
            if asked.method == "POST" && asked.path.contains("/stuck/") {
                std::future::pending::<()>().await;
            }
            kept.answer(&asked)
        }
    };
    let api = ScriptedApi::start(answer).await.unwrap();
    for name in ["stuck", "one", "two"] {
        objects.namespace(name);
    }
    let roots = vec![root()];
    let told = Arc::new(Told::new(validation(1, &roots, &[])));
    let world = World { api, objects, told, roots };
    let mut working = world.work(Istiod::Leave).await;
    // A look waits for what it has begun, and does all else meanwhile.
    let published = async {
        while world.text("one").is_empty() || world.text("two").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, published).await.unwrap();
    world.objects.namespace("new");
    let published = async {
        while world.text("new").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, published).await.unwrap();
    assert!(working.found.borrow_and_update().in_place == 0, "the look is not over");
    tokio::time::pause();
    let found = working.until(|found| found.in_place == 3).await;
    assert!(found.wanted == 4 && found.problem.unwrap().contains("namespace stuck: the API server has not answered"));
}

#[tokio::test]
async fn what_istiod_writes_is_left_until_it_is_to_be_replaced_and_is_not_fought_for_ever() {
    let world = World::new(&["demo"]).await;
    let istiods = |text: &str| {
        json!({
            "metadata": {
                "labels": {"istio.io/config": "true"},
                "managedFields": [{"manager": "pilot-discovery", "fieldsV1": {"f:data": {"f:root-cert.pem": {}}}}],
            },
            "data": {"root-cert.pem": text},
        })
    };
    let path = config_map("demo", ROOTS);
    world.objects.put(&path, istiods("of istiod"));
    let mut leaving = world.work(Istiod::Leave).await;
    let found = leaving.until(|found| found.problem.is_some() && found.wanted == 1).await;
    let problem = found.problem.unwrap();
    assert!(problem.contains("namespace demo") && problem.contains("istiod's cacerts"), "{problem}");
    assert_eq!((found.in_place, world.text("demo").as_str()), (0, "of istiod"));
    // istiod has our roots now, beside its own.
    let more = format!("{}{}", world.pem(&[2]), world.pem(&[0]));
    world.objects.put(&path, istiods(&more));
    leaving.published(1, 1).await;
    world.tell(2, &[0, 1], &[]);
    leaving.publisher.changed.notify_one();
    leaving.until(|found| found.in_place == 0 && found.problem.is_some()).await;
    assert_eq!(world.text("demo"), more, "nothing was written");
    drop(leaving);

    let mut replacing = world.work(Istiod::Replace).await;
    replacing.published(2, 1).await;
    for _ in 0..2 {
        world.objects.put(&path, istiods("of istiod"));
        replacing.until(|_| world.text("demo") == world.pem(&[0, 1])).await;
    }
    replacing.published(2, 1).await;
    world.objects.put(&path, istiods("of istiod"));
    let found = replacing.until(|found| found.problem.is_some()).await;
    assert!(found.problem.unwrap().contains("istiod writes this ConfigMap back each time"));
    assert!(found.again_in.unwrap() > Duration::from_secs(200));
    assert_eq!(world.text("demo"), "of istiod");
}

#[tokio::test]
async fn revocation_lists_come_and_go_and_what_is_not_ours_stays() {
    let world = World::new(&["demo", "theirs"]).await;
    world.objects.put(&config_map("theirs", LISTS), json!({"metadata": {}, "data": {"ca-crl.pem": "theirs"}}));
    let mut working = world.work(Istiod::Leave).await;
    working.published(1, 2).await;
    let lists =
        |namespace: &str| world.objects.get(&config_map(namespace, LISTS)).map(|map| map["data"]["ca-crl.pem"].clone());
    assert_eq!((lists("demo"), lists("theirs")), (None, Some(json!("theirs"))));
    world.tell(2, &[0], &[b"list"]);
    working.publisher.changed.notify_one();
    working.published(2, 2).await;
    for namespace in ["demo", "theirs"] {
        assert!(lists(namespace).unwrap().as_str().unwrap().starts_with("-----BEGIN X509 CRL-----"), "{namespace}");
    }
    world.objects.remove(&config_map("demo", LISTS));
    working.until(|_| lists("demo").is_some()).await;
    // Larger than any ConfigMap: the roots go on.
    let large = vec![1_u8; 800_000];
    world.tell(3, &[0, 1], &[&large]);
    working.publisher.changed.notify_one();
    let found = working.until(|found| found.problem.is_some()).await;
    assert!(found.sequence.is_none() && found.problem.unwrap().contains("a ConfigMap holds"));
    working.until(|_| world.text("demo") == world.pem(&[0, 1])).await;
    assert!(lists("demo").is_some());
    world.tell(4, &[0, 1], &[]);
    working.publisher.changed.notify_one();
    working.published(4, 2).await;
    assert_eq!((lists("demo"), lists("theirs")), (None, None));
}

#[tokio::test]
async fn one_that_is_changed_while_it_is_written_is_not_in_place() {
    let instead = |asked: &Asked| {
        (asked.method == "POST").then(|| {
            let mut made = asked.body.clone();
            made["metadata"]["resourceVersion"] = json!("5");
            made["data"]["root-cert.pem"] = json!("of a webhook");
            Answer::json(201, &made)
        })
    };
    let world = World::with(&["demo"], Box::new(instead)).await;
    let mut working = world.work(Istiod::Leave).await;
    let found = working.until(|found| found.wanted == 1 && found.problem.is_some()).await;
    assert!(found.in_place == 0 && found.problem.unwrap().contains("webhook"));
}

/// Two that write one ConfigMap do not do so without end, and it is told who the other one is.
#[tokio::test]
async fn whoever_else_writes_one_again_and_again_is_named_and_not_outdone() {
    let world = World::new(&["demo", "web"]).await;
    let mut working = world.work(Istiod::Leave).await;
    working.published(1, 2).await;
    let writes = || world.asked(0, "PATCH", ROOTS);
    let before = writes();
    // As often as it is put right, somebody else writes it again.
    let fights = working.until(|found| {
        if world.text("demo") == world.pem(&[0]) {
            world.change("demo", |map| {
                map["data"]["root-cert.pem"] = json!("theirs");
                map["metadata"]["managedFields"] = json!([
                    {"manager": "signet-ca", "time": "2026-01-01T00:00:00Z"},
                    {"manager": "argocd", "time": "2026-01-01T00:00:01Z"},
                ]);
            });
        }
        found.problem.as_ref().is_some_and(|problem| problem.contains("field manager argocd"))
    });
    fights.await;
    assert!(writes() - before <= 4, "{}", writes() - before);
}
