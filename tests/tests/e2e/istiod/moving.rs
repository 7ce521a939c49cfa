//! Two CAs, one of which answers as istiod does, and requests between workloads of both through every step of
//! `docs/moving-from-istiod.md`.

use std::time::Duration;

use signet_tests::client::admin::{Admin, active_root, root_ids};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::plugged::{Mount, OwnCa, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{Pace, ROTATION, keys as config};
use signet_tests::harness::{Ca, Dev, DevOptions, Envoy};
use signet_tests::istio_agent::{IstioAgent, Settings};
use signet_tests::istiod::{CaSet, Istiod};
use signet_tests::mutual::{Workload, mutual, request};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::tools;
use signet_tests::traffic::Traffic;
use signet_tests::upstream::Upstream;

use super::{SOON, write};

/// How long certificates live here, of either CA.
const LIFE: Duration = Duration::from_secs(20);

/// What the ConfigMap `istio-ca-root-cert` is in a cluster: the file by which agents verify either CA.
const ROOT_FILE: &str = "istio-ca-root-cert.pem";

/// A mesh of two workloads that have their certificates from istiod, and a CA that nobody asks yet.
struct Mesh {
    traffic: Traffic,
    workloads: [Workload; 2],
    agents: [Option<IstioAgent>; 2],
    istiod: Istiod,
    dev: Dev,
}

/// Who signs for a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Istiod,
    Signet,
}

const NAMES: [&str; 2] = ["client", "server"];

/// An installation that rotates fast, without an authority and without a CA that runs.
fn installation() -> Outcome<Dev> {
    let workloads = vec!["client=default/client".to_owned(), "server=default/server".to_owned()];
    let dev = Dev::init(&DevOptions { svid_ttl: Some("20s".to_owned()), workloads, ..DevOptions::default() })?;
    dev.set_pace(&Pace::default())?;
    dev.start_over()?;
    Ok(dev)
}

impl Mesh {
    async fn of(set: &CaSet, dev: Dev) -> Outcome<Self> {
        let istiod = Istiod::start(set).await?;
        let write = std::fs::write(dev.path(ROOT_FILE), &set.roots);
        write.map_err(Failure::io("write the root file"))?;
        let mut agents = [None, None];
        for (index, agent) in agents.iter_mut().enumerate() {
            *agent = Some(IstioAgent::started(settings(&dev, &istiod, index, By::Istiod)).await?);
        }
        let workload = |index: usize, identity| {
            let agent = agents[index].as_ref().expect("it was started");
            Workload::of(identity, agent.secrets())
        };
        let workloads = [workload(0, CLIENT_ID), workload(1, SERVER_ID)];
        let traffic = mutual(&workloads[0], &workloads[1], Duration::from_millis(20));
        let mesh = Self { traffic, workloads, agents, istiod, dev };
        mesh.goes_on().await?;
        Ok(mesh)
    }

    /// Starts the pod of a workload anew, with another CA in its environment.
    async fn moves(&mut self, index: usize, to: By) -> Outcome {
        self.agents[index] = None;
        let agent = IstioAgent::started(settings(&self.dev, &self.istiod, index, to)).await?;
        self.agents[index] = Some(agent);
        self.goes_on().await
    }

    fn agent(&self, index: usize) -> &IstioAgent {
        self.agents[index].as_ref().expect("it runs")
    }

    /// Waits until a workload holds exactly these roots.
    async fn holds(&self, index: usize, roots: &[String]) -> Outcome {
        let what = format!("{} to hold {roots:?}", NAMES[index]);
        let same = |held: &[String]| held.len() == roots.len() && roots.iter().all(|root| held.contains(root));
        self.agent(index).until(&what, ROTATION, |view| same(&view.roots)).await.map(drop)
    }

    /// Waits for some more requests, none of which fails.
    async fn goes_on(&self) -> Outcome {
        let before = self.traffic.tally().succeeded;
        let more = async || {
            let tally = self.traffic.tally();
            (tally.failed > 0 || tally.succeeded > before + 40).then_some(tally)
        };
        let tally = eventually("requests", SOON, more).await?;
        ensure(tally.failed == 0, || format!("{:#?}", tally.first_failures))
    }

    /// Ends the requests: there were many, and none has failed.
    async fn ends_calmly(self) -> Outcome {
        let tally = self.traffic.stop().await;
        ensure(tally.failed == 0 && tally.succeeded > 200, || format!("{tally:#?}"))
    }
}

fn settings(dev: &Dev, istiod: &Istiod, index: usize, by: By) -> Settings {
    let identity = [CLIENT_ID, SERVER_ID][index];
    let ca = if by == By::Istiod { istiod.address } else { dev.listen };
    Settings { ca, root_file: dev.path(ROOT_FILE), ..Settings::of(dev, NAMES[index], identity, LIFE) }
}

/// What `holders list` says, by SPIFFE ID.
fn holders(ca: &Ca) -> Outcome<Vec<String>> {
    let list = ca.ask(&["holders", "list"])?;
    let all = list["holders"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = all.iter().filter_map(|one| one["spiffe_id"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Waits until one root is left, which signs, and all holders have it.
async fn settled_on(admin: &Admin, root: &str) -> Outcome {
    let settled = async || {
        let rotation = admin.rotation().await.ok()?;
        let is_alone = root_ids(&rotation).len() == 1 && active_root(&rotation) == root;
        (is_alone && signet_tests::client::admin::is_settled(&rotation)).then_some(())
    };
    eventually("one root to be left", ROTATION, settled).await
}

/// Takes over the CA of `set` as the page says, and starts with it.
async fn taken_over(dev: &Dev, set: &CaSet) -> Outcome<Ca> {
    write(&dev.path("cacerts"), &set.files())?;
    let own = dev.path("own-ca").display().to_string();
    let from = dev.path("cacerts").display().to_string();
    tools::run(&mut dev.ca_command(&["import", "istiod", "--from", &from, "--to", &own])?)?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, own)?;
    tools::run(&mut dev.ca_command(&["check", "--connect"])?)?;
    dev.start_ca().await
}

/// There, back and there again, one workload after the other.
async fn everybody_moves(mesh: &mut Mesh, ca: &Ca) -> Outcome {
    ensure(holders(ca)?.is_empty(), || "somebody has asked already".to_owned())?;
    for to in [By::Signet, By::Istiod, By::Signet] {
        mesh.moves(1, to).await?;
    }
    assert_eq!(holders(ca)?, [SERVER_ID]);
    mesh.moves(0, By::Signet).await?;
    assert_eq!(holders(ca)?, [CLIENT_ID, SERVER_ID]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_plugged_in_ca_both_sign_under_one_root_and_nobody_notices_who() -> Outcome {
    let root = OwnCa::root("mesh root")?;
    let set = CaSet::plugged(&root.certify("mesh signer")?, &root);
    let mut mesh = Mesh::of(&set, installation()?).await?;
    let ca = taken_over(&mesh.dev, &set).await?;
    let before = mesh.agent(0).view();
    everybody_moves(&mut mesh, &ca).await?;
    let after = mesh.agent(0).view();
    assert_eq!((&after.roots, &after.authority), (&before.roots, &before.authority), "the same CA, by another server");
    mesh.ends_calmly().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_that_istiod_has_made_is_taken_over_and_then_replaced_by_a_rotation() -> Outcome {
    let set = CaSet::self_made("cluster.local")?;
    let mut mesh = Mesh::of(&set, installation()?).await?;
    let proxies = Proxies::between(&mesh).await?;
    let mut ca = taken_over(&mesh.dev, &set.trusting("")).await?;
    everybody_moves(&mut mesh, &ca).await?;
    let old = keys::ids(&set.certificate)?.remove(0);
    // The rotation to keys that nobody has had in a Secret.
    mesh.dev.edit("signet-ca.yaml", |config| {
        let of_files = ["backend", "files"];
        config["authority"].as_object_mut().expect("a section").retain(|key, _| !of_files.contains(&key.as_str()));
        Ok(())
    })?;
    ca.process.stop().await?;
    ca = mesh.dev.start_ca().await?;
    let admin = ca.admin()?;
    let both = async || {
        let rotation = admin.rotation().await.ok()?;
        let roots = root_ids(&rotation);
        roots.iter().find(|root| **root != old).map(|new| (new.clone(), roots.len()))
    };
    let (new, _) = eventually("a root of this CA's own", SOON, both).await?;
    // Nobody can sign a list of what istiod has made, so there is none of anybody.
    let serial = mesh.agent(0).view().serial;
    let told = ca.operator().refused(&["certificate", "revoke", "--serial", &serial, "--reason", "superseded"])?;
    ensure(told.contains("can be signed here") && told.contains("cRLSign"), || told.clone())?;
    settled_on(&admin, &new).await?;
    for index in [0, 1] {
        mesh.holds(index, std::slice::from_ref(&new)).await?;
    }
    mesh.goes_on().await?;
    proxies.are_content(&mesh).await?;
    mesh.ends_calmly().await
}

/// Real Envoys of the two workloads, which read what their agents write, and requests through both.
struct Proxies {
    traffic: Traffic,
    client: Envoy,
    server: Envoy,
    _service: Upstream,
}

impl Proxies {
    async fn between(mesh: &Mesh) -> Outcome<Self> {
        let service = Upstream::start().await?;
        let of = |index: usize, side, to, peer| Bootstrap::fed_by_files(side, mesh.agent(index).secrets(), to, peer);
        let behind = of(1, Side::Server, service.address, CLIENT_ID)?;
        let server = Envoy::started("envoy-server", mesh.dev.directory(), &behind).await?;
        let before = of(0, Side::Client, server.listen, SERVER_ID)?.reconnect_every(2)?;
        let client = Envoy::started("envoy-client", mesh.dev.directory(), &before).await?;
        let traffic = Traffic::start(client.listen, 2, Duration::from_millis(30));
        Ok(Self { traffic, client, server, _service: service })
    }

    /// Ends the requests, none of which has failed, once both have what their agents got last.
    async fn are_content(self, mesh: &Mesh) -> Outcome {
        for (index, envoy) in [&self.client, &self.server].into_iter().enumerate() {
            let newest =
                async || (envoy.secrets().await.ok()?.serial().ok()? == mesh.agent(index).view().serial).then_some(());
            eventually("the newest certificate in Envoy", SOON, newest).await?;
        }
        let tally = self.traffic.stop().await;
        // Certificates of both CAs were in use, of either of them many.
        let is_so = tally.failed == 0 && tally.succeeded > 300 && tally.client_certificates.len() >= 4;
        ensure(is_so, || format!("{tally:#?}"))
    }
}

/// This CA with a CA of its own, which trusts the root of istiod, too.
async fn own_ca(dev: &Dev, istiods: &CaSet) -> Outcome<(Ca, Mount, OwnCa, OwnCa)> {
    let root = OwnCa::root("new root")?;
    let signer = root.certify("new signer")?;
    let mut both = istio_names(&signer, &root);
    both[2].1 += &istiods.certificate;
    let mount = Mount::new(&dev.path("own-ca"), &both)?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
    Ok((dev.start_ca().await?, mount, signer, root))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_roots_everybody_trusts_both_first_and_the_old_one_goes_last() -> Outcome {
    let set = CaSet::self_made("cluster.local")?;
    let mut mesh = Mesh::of(&set, installation()?).await?;
    let (ca, mut mount, signer, root) = own_ca(&mesh.dev, &set).await?;
    let roots = format!("{}{}", set.certificate, root.certificate);
    let [old, new] = [&set.certificate, &root.certificate].map(|pem| keys::ids(pem).map(|mut ids| ids.remove(0)));
    let (old, new) = (old?, new?);
    // Both roots in istiod: in its replies, and in the file by which agents verify a CA.
    mesh.istiod.reload(&set.trusting(&roots));
    std::fs::write(mesh.dev.path(ROOT_FILE), &roots).map_err(Failure::io("write the root file"))?;
    for index in [0, 1] {
        mesh.holds(index, &[old.clone(), new.clone()]).await?;
    }
    everybody_moves(&mut mesh, &ca).await?;
    let of_istiod = mesh.workloads[0].clone();
    // Somebody who was forgotten still gets along, until the old root goes.
    let forgotten =
        Settings { secrets: mesh.dev.path("forgotten"), ..settings(&mesh.dev, &mesh.istiod, 0, By::Istiod) };
    let forgotten = IstioAgent::started(forgotten).await?;
    let forgotten = (Workload::of(CLIENT_ID, forgotten.secrets()), forgotten);
    request(&forgotten.0, &mesh.workloads[1]).await?;
    mount.swap(&istio_names(&signer, &root))?;
    settled_on(&ca.admin()?, &new).await?;
    for index in [0, 1] {
        mesh.holds(index, std::slice::from_ref(&new)).await?;
    }
    mesh.goes_on().await?;
    let told = request(&forgotten.0, &mesh.workloads[1]).await;
    ensure(told.is_err(), || "the root of istiod is trusted still".to_owned())?;
    request(&of_istiod, &mesh.workloads[1]).await?;
    mesh.ends_calmly().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_moves_before_everybody_trusts_both_roots_is_refused() -> Outcome {
    let set = CaSet::self_made("cluster.local")?;
    let mut mesh = Mesh::of(&set, installation()?).await?;
    let (_ca, _mount, _, root) = own_ca(&mesh.dev, &set).await?;
    // The file by which agents verify the CA is in order; the roots that workloads trust are not.
    let roots = format!("{}{}", set.certificate, root.certificate);
    std::fs::write(mesh.dev.path(ROOT_FILE), &roots).map_err(Failure::io("write the root file"))?;
    let moved = mesh.moves(1, By::Signet).await;
    let failed = async || (mesh.traffic.tally().failed > 0).then(|| mesh.traffic.tally());
    let tally = eventually("a request to fail", SOON, failed).await?;
    ensure(tally.first_failures.iter().any(|told| told.contains("UnknownIssuer")), || format!("{tally:#?} {moved:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_signs_no_lists_is_followed_although_something_is_revoked() -> Outcome {
    let dev = installation()?;
    let mut ca = dev.start_ca().await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?).for_seconds(1200);
    let reply = Client::connect(&dev).await?.issued(&ask).await?;
    ca.operator().revoke_certificate(&keys::serial(&keys::facts(&reply[0])?), "superseded")?;
    ca.process.stop().await?;
    let set = CaSet::self_made("cluster.local")?;
    ca = taken_over(&dev, &set).await?;
    let id = keys::ids(&set.certificate)?.remove(0);
    let admin = ca.admin()?;
    let listed = async || root_ids(&admin.rotation().await.ok()?).contains(&id).then_some(());
    eventually("the root of istiod in the bundle", SOON, listed).await?;
    ca.operator().done(&["authority", "activate", &id, "--force", "--reason", "nobody else is there"])?;
    let signs = async || (active_root(&admin.rotation().await.ok()?) == id).then_some(());
    eventually("the root of istiod to sign", SOON, signs).await?;
    // For the reason that there is, rather than as something that fails now and may be tried again.
    let status = ca.ask(&["status"])?.to_string();
    let words = ["no revocation lists are served", "whose list cannot be signed here"];
    ensure(words.iter().all(|part| status.contains(part)), || status.clone())
}
