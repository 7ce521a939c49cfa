//! What is known of pods, from the first list on, while an API server does what it may do; and whom that lets through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use serde_json::{Value, json};
use signet_core::caller::{AuthMethod, BoundNode, BoundObject, Caller, Credential};
use signet_core::identity::WorkloadId;
use signet_core::seams::authenticator::Outage;
use signet_core::seams::impersonation::ImpersonationAuthorizer as _;
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use tokio::sync::mpsc;

use super::*;
use crate::kubernetes::{Credentials, Files, NodeAuthorizer};

const NODES: Followed = Followed { nodes: true, accounts: false };

pub(crate) fn pod(name: &str, uid: &str, account: &str, node: Option<&str>, phase: &str) -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": name, "uid": uid, "resourceVersion": "7"},
        "spec": {"serviceAccountName": account, "nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": phase},
    })
}

/// Has an index hear that these are all the pods there are.
pub(crate) fn hear(index: &PodIndex, all: Vec<Value>) {
    pods(index).replace(all.into_iter().map(watched).collect());
}

/// The same of nodes.
pub(crate) fn hear_nodes(index: &PodIndex, names: &[&str]) {
    nodes(index).replace(names.iter().map(|name| node(name, &format!("uid-{name}"))).collect());
}

/// The same of service accounts.
pub(crate) fn hear_accounts(index: &PodIndex, all: Vec<PartialObjectMeta<ServiceAccount>>) {
    (index as &dyn Listener<PartialObjectMeta<ServiceAccount>>).replace(all);
}

fn watched(pod: Value) -> WatchedPod {
    serde_json::from_value(pod).unwrap()
}

fn node(name: &str, uid: &str) -> PartialObjectMeta<Node> {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": uid}})).unwrap()
}

fn pods(index: &PodIndex) -> &dyn Listener<WatchedPod> {
    index
}

fn nodes(index: &PodIndex) -> &dyn Listener<PartialObjectMeta<Node>> {
    index
}

/// A node agent and a workload on node-a, a workload on node-b, one that has ended, and one that is not placed yet.
fn index() -> Arc<PodIndex> {
    let index = PodIndex::new(NODES);
    nodes(&index).replace(vec![node("node-a", "uid-a"), node("node-b", "uid-b")]);
    pods(&index).replace(
        [
            pod("agent", "uid-agent", "ztunnel", Some("node-a"), "Running"),
            pod("web-1", "uid-web-1", "web", Some("node-a"), "Running"),
            pod("web-2", "uid-web-2", "web", Some("node-a"), "Pending"),
            pod("other", "uid-other", "other", Some("node-b"), "Running"),
            pod("done", "uid-done", "done", Some("node-a"), "Succeeded"),
            pod("waiting", "uid-waiting", "waiting", None, "Pending"),
            pod("failed", "uid-failed", "ztunnel", Some("node-a"), "Failed"),
            pod("unplaced", "uid-unplaced", "ztunnel", None, "Pending"),
            pod("strange", "uid-strange", "other", Some("node-a"), "Running"),
        ]
        .into_iter()
        .map(watched)
        .collect(),
    );
    index
}

fn caller(account: &str, pod: Option<(&str, &str)>, node: Option<(&str, Option<&str>)>) -> Caller {
    Caller {
        identity: WorkloadId::parse(&format!("spiffe://td/ns/demo/sa/{account}")).unwrap(),
        service_account_uid: "u".into(),
        pod: pod.map(|(name, uid)| BoundObject { name: name.into(), uid: uid.into() }),
        node: node.map(|(name, uid)| BoundNode { name: name.into(), uid: uid.map(str::to_owned) }),
        cluster: "Kubernetes".into(),
        method: AuthMethod::Jwks,
        credential: Credential::default(),
        made_at: None,
        until: None,
    }
}

fn asks(index: &Arc<PodIndex>, caller: &Caller, account: &str) -> &'static str {
    let trusted = [("demo".to_owned(), "ztunnel".to_owned())];
    let authorizer = NodeAuthorizer::new(trusted, Arc::clone(index));
    let asked = WorkloadId::parse(&format!("spiffe://td/ns/demo/sa/{account}")).unwrap();
    authorizer.authorize(caller, &asked).map_or_else(|error| error.label(), |()| "allowed")
}

#[tokio::test]
async fn a_node_agent_gets_the_identities_of_its_node_and_every_other_case_has_its_own_reason() {
    let index = index();
    let agent = Some(("agent", "uid-agent"));
    for (what, account, pod, node, asked, expected) in [
        ("a pod on its node", "ztunnel", agent, Some(("node-a", Some("uid-a"))), "web", "allowed"),
        ("its token names no node", "ztunnel", agent, None, "web", "allowed"),
        ("its token names no UID of the node", "ztunnel", agent, Some(("node-a", None)), "web", "allowed"),
        ("another node", "ztunnel", agent, Some(("node-b", Some("uid-b"))), "web", "impersonator_node_differs"),
        (
            "another node of that name",
            "ztunnel",
            agent,
            Some(("node-a", Some("x"))),
            "web",
            "impersonator_node_differs",
        ),
        ("a workload elsewhere", "ztunnel", agent, None, "other-one", "impersonated_not_on_node"),
        ("a pod on another node", "ztunnel", agent, None, "waiting", "impersonated_not_on_node"),
        ("a pod that has ended", "ztunnel", agent, None, "done", "impersonated_not_on_node"),
        ("an account nobody trusts", "web", Some(("web-1", "uid-web-1")), None, "web", "impersonator_not_trusted"),
        ("no pod", "ztunnel", None, None, "web", "impersonator_without_pod"),
        ("a pod that is gone", "ztunnel", Some(("gone", "x")), None, "web", "impersonator_pod_unknown"),
        ("a pod in its place", "ztunnel", Some(("agent", "x")), None, "web", "impersonator_pod_replaced"),
        (
            "a pod of another account",
            "ztunnel",
            Some(("strange", "uid-strange")),
            None,
            "web",
            "impersonator_account_differs",
        ),
        ("a pod that has failed", "ztunnel", Some(("failed", "uid-failed")), None, "web", "impersonator_pod_ended"),
        (
            "a pod without a node",
            "ztunnel",
            Some(("unplaced", "uid-unplaced")),
            None,
            "web",
            "impersonator_node_differs",
        ),
    ] {
        assert_eq!(asks(&index, &caller(account, pod, node), asked), expected, "{what}");
    }
}

#[tokio::test]
async fn what_pods_do_counts_at_once_and_an_account_is_beside_an_agent_as_long_as_one_of_its_pods_is() {
    let index = index();
    let agent = caller("ztunnel", Some(("agent", "uid-agent")), None);
    pods(&index).delete(watched(pod("web-1", "uid-web-1", "web", Some("node-a"), "Running")));
    assert_eq!(asks(&index, &agent, "web"), "allowed", "web-2 is there");
    pods(&index).apply(watched(pod("web-2", "uid-web-2", "web", Some("node-a"), "Succeeded")));
    assert_eq!(asks(&index, &agent, "web"), "impersonated_not_on_node");
    pods(&index).apply(watched(pod("waiting", "uid-waiting", "waiting", Some("node-a"), "Running")));
    assert_eq!(asks(&index, &agent, "waiting"), "allowed");
    // The same pod again and again is one.
    for _ in 0..3 {
        pods(&index).apply(watched(pod("waiting", "uid-waiting", "waiting", Some("node-a"), "Running")));
    }
    pods(&index).delete(watched(pod("waiting", "uid-waiting", "waiting", Some("node-a"), "Running")));
    assert_eq!(asks(&index, &agent, "waiting"), "impersonated_not_on_node");
    pods(&index).replace(Vec::new());
    assert_eq!((index.health().pods, asks(&index, &agent, "web")), (0, "impersonator_pod_unknown"));
    assert!(read(&index.known).beside.is_empty(), "nothing is left of what is gone");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_allowed_or_refused_by_pods_that_were_not_listed_or_not_heard_of_for_two_minutes() {
    let index = PodIndex::new(NODES);
    let agent = caller("ztunnel", Some(("agent", "uid-agent")), None);
    assert_eq!(asks(&index, &agent, "web"), "pods_not_synced");
    assert_eq!(asks(&index, &caller("web", None, None), "web"), "impersonator_not_trusted", "that needs no pods");
    pods(&index).replace(vec![watched(pod("agent", "uid-agent", "ztunnel", Some("node-a"), "Running"))]);
    assert_eq!(asks(&index, &agent, "web"), "pods_not_synced", "nor without nodes");
    nodes(&index).replace(Vec::new());
    assert_eq!(asks(&index, &agent, "ztunnel"), "allowed");
    tokio::time::advance(BELIEVED).await;
    assert_eq!(asks(&index, &agent, "ztunnel"), "allowed");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(asks(&index, &agent, "ztunnel"), "pods_stale");
    let silent = |index: &PodIndex| index.health().problem.is_some_and(|why| why.contains("nothing was heard"));
    assert!(silent(&index), "stale without a reason");
    pods(&index).failed(&AuthenticationError::unavailable(Outage::ApiTimedOut, "late"));
    assert!(!silent(&index) && index.health().problem.is_some(), "what is known better");
    pods(&index).listening();
    assert!(silent(&index), "a watch is open again, and nothing was heard on it yet");
    pods(&index).heard();
    assert_eq!(asks(&index, &agent, "ztunnel"), "pods_stale", "of nodes nothing was heard");
    nodes(&index).heard();
    assert_eq!(asks(&index, &agent, "ztunnel"), "allowed");
    assert_eq!(index.health().problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_gone_when_it_has_ended_or_was_deleted_or_replaced_and_nobody_knows_while_pods_are_not_known() {
    let index = PodIndex::new(NODES);
    let gone = |uids: [&str; 3]| uids.map(|uid| index.is_gone(uid));
    assert_eq!(gone(["uid-web-1", "uid-other", "no-such"]), [false; 3], "nothing was listed");
    let running = |name: &str, uid: &str| watched(pod(name, uid, "web", Some("node-a"), "Running"));
    pods(&index).replace(vec![running("web-1", "uid-web-1"), running("other", "uid-other")]);
    nodes(&index).replace(Vec::new());
    assert_eq!(gone(["uid-web-1", "uid-other", "no-such"]), [false, false, true]);
    pods(&index).apply(running("web-1", "uid-web-2"));
    pods(&index).apply(watched(pod("other", "uid-other", "web", Some("node-a"), "Failed")));
    assert_eq!(gone(["uid-web-1", "uid-other", "uid-web-2"]), [true, true, false]);
    pods(&index).delete(running("web-1", "uid-web-2"));
    assert!(index.is_gone("uid-web-2"));
    pods(&index).replace(vec![running("web-1", "uid-web-3")]);
    assert_eq!(gone(["uid-web-3", "uid-other", "uid-web-2"]), [false, true, true]);
    assert_eq!(read(&index.known).running.len(), 1, "nothing is left of what is gone");
    tokio::time::advance(BELIEVED + Duration::from_millis(1)).await;
    assert_eq!(gone(["uid-web-1", "uid-other", "no-such"]), [false; 3], "nothing was heard for too long");
}

/// Watches that the test speaks into, in the order in which they were opened.
type Opened = Arc<Mutex<Vec<mpsc::UnboundedSender<String>>>>;

struct World {
    api: ScriptedApi,
    index: Arc<PodIndex>,
    opened: Opened,
    /// What lists of pods are answered from now on.
    listed: Arc<Mutex<Answer>>,
    following: tokio::task::JoinSet<()>,
    _directory: tempfile::TempDir,
}

fn list(version: &str, items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": version});
    Answer::json(200, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

async fn world() -> World {
    let (opened, listed) =
        (Opened::default(), Arc::new(Mutex::new(list("10", &[pod("a", "1", "web", None, "Pending")]))));
    let (keep, answers) = (Arc::clone(&opened), Arc::clone(&listed));
    let api = ScriptedApi::start(move |asked: Asked| {
        let answer = if asked.path.starts_with("/api/v1/nodes") && !asked.path.contains("watch") {
            list("1", &[])
        } else if asked.path.contains("/pods") && asked.path.contains("watch") {
            let (sender, more) = mpsc::unbounded_channel();
            keep.lock().unwrap().push(sender);
            Answer::watch(&[], more)
        } else if asked.path.contains("watch") {
            Answer { more: Some(mpsc::unbounded_channel().1), ..Answer::text(200, "application/json", "") }
        } else {
            answers.lock().unwrap().clone()
        };
        std::future::ready(answer)
    })
    .await
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
    let server = ApiServer::open(Credentials::Kubeconfig(kubeconfig), Files::plain()).await.unwrap();
    let (index, mut following) = (PodIndex::new(NODES), tokio::task::JoinSet::new());
    let followed = Arc::clone(&index);
    following.spawn(async move { followed.follow(&server).await });
    World { api, index, opened, listed, following, _directory: directory }
}

impl World {
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
    }

    fn knows(&self, name: &str) -> bool {
        read(&self.index.known).pod("demo", name).is_some()
    }

    fn lists(&self) -> usize {
        self.api.asked().iter().filter(|asked| asked.path.contains("/pods") && !asked.path.contains("watch")).count()
    }

    fn watches(&self) -> Vec<String> {
        let asked = self.api.asked();
        let of_pods = asked.iter().filter(|asked| asked.path.contains("/pods") && asked.path.contains("watch"));
        of_pods.map(|asked| asked.path.clone()).collect()
    }

    fn say(&self, text: String) {
        self.opened.lock().unwrap().last().unwrap().send(text).unwrap();
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_it_ended_and_a_version_that_is_gone_makes_for_a_new_list() {
    let world = world().await;
    world.until("the first watch", |world| world.watches().len() == 1).await;
    assert!(world.knows("a"));
    assert!(world.watches()[0].contains("resourceVersion=10"), "{:?}", world.watches());
    assert!(world.watches()[0].contains("allowWatchBookmarks=true"), "{:?}", world.watches());
    let mut b = pod("b", "2", "web", None, "Pending");
    b["metadata"]["resourceVersion"] = json!("11");
    world.say(event("ADDED", &b));
    world.until("an event", |world| world.knows("b")).await;
    let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "20"}});
    world.say(event("BOOKMARK", &bookmark));

    // The server closes the watch, as it does every few minutes.
    world.opened.lock().unwrap().clear();
    world.until("the second watch", |world| world.watches().len() == 2).await;
    assert!(world.watches()[1].contains("resourceVersion=20"), "{:?}", world.watches());
    assert_eq!(world.lists(), 1);

    *world.listed.lock().unwrap() = list("30", &[pod("c", "3", "web", None, "Pending")]);
    let gone = include_str!("../../../tests/kubernetes/exchanges/pods-watch-gone.json");
    let gone: Value = serde_json::from_str(gone).unwrap();
    world.say(format!("{}\n", gone["response"]["events"][0]));
    world.until("another list", |world| world.knows("c")).await;
    assert!(!world.knows("a") && !world.knows("b"), "a list is all there is");
    world.until("the third watch", |world| world.watches().len() == 3).await;
    assert!(world.watches()[2].contains("resourceVersion=30"), "{:?}", world.watches());
    drop(world.following);
}

#[tokio::test]
async fn trouble_is_told_and_what_is_known_stays_until_a_list_or_an_event_says_otherwise() {
    let world = world().await;
    world.until("the first watch", |world| world.watches().len() == 1).await;
    for (exchange, label) in [
        (include_str!("../../../tests/kubernetes/exchanges/throttled-429.json"), "api_throttled"),
        (include_str!("../../../tests/kubernetes/exchanges/pods-list-forbidden.json"), "api_forbidden"),
    ] {
        *world.listed.lock().unwrap() = Answer::recorded(exchange).unwrap();
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": ""});
        let before = world.watches().len();
        world.say(event("ERROR", &gone));
        let told = |world: &World| world.index.health().problem.is_some_and(|problem| problem.contains(label));
        world.until(label, told).await;
        assert!(world.knows("a"));
        assert_eq!(world.index.health().unknown, None);
        *world.listed.lock().unwrap() = list("40", &[pod("a", "1", "web", None, "Pending")]);
        world.until("the next watch", |world| world.watches().len() > before).await;
        assert_eq!(world.index.health().problem, None);
    }
    // Half an event, and the connection breaks.
    let before = world.watches().len();
    world.say(r#"{"type": "ADDED", "object": {"metadata":"#.to_owned());
    world.opened.lock().unwrap().clear();
    world.until("a watch after half an event", |world| world.watches().len() > before).await;
    assert_eq!(world.lists(), 5, "the first, two failures and their ends: no list for a broken connection");
}

#[tokio::test]
async fn a_list_comes_in_pages_and_counts_when_all_of_them_are_there() {
    let world = world().await;
    world.until("the first watch", |world| world.watches().len() == 1).await;
    let first = json!({"kind": "PodList", "metadata": {"resourceVersion": "50", "continue": "more"}, "items": [pod("p1", "1", "web", None, "Running")]});
    *world.listed.lock().unwrap() = Answer::json(200, &first);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": ""});
    world.say(event("ERROR", &gone));
    world.until("a second page", |world| world.lists() >= 3).await;
    assert!(world.knows("a") && !world.knows("p1"), "half a list is none");
    *world.listed.lock().unwrap() = list("50", &[pod("p2", "2", "web", None, "Running")]);
    world.until("the end of the list", |world| world.knows("p1") && world.knows("p2") && !world.knows("a")).await;
    let pages: Vec<String> =
        world.api.asked().into_iter().map(|asked| asked.path).filter(|path| path.contains("continue=more")).collect();
    assert!(!pages.is_empty() && pages.iter().all(|path| path.contains("limit=500")), "{pages:?}");
}
