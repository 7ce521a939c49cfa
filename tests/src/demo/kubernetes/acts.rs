//! The acts of the Kubernetes demo.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use signet_test_servers::kubernetes::{Answers, Kubernetes, MadePod, Wanted};
use tonic::Code;

use super::stage::{Mesh, SIGNER, SYSTEM, WORKLOADS, identity, made, published};
use super::summary::Summary;
use super::ztunnel::Ztunnel;
use crate::client::admin::{active_root, is_settled, root_ids};
use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::{csr, keys};
use crate::demo::narrator::{Narrator, short};
use crate::failure::{Failure, Outcome, ensure};
use crate::judge::Case;
use crate::traffic::Traffic;

/// What follows at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Until nothing chains to the old root any more.
const DRAIN: Duration = Duration::from_secs(240);
const GLANCE: Duration = Duration::from_millis(100);
/// The name of the ClusterTrustBundle, which holds that of the signer.
const BUNDLE: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles/signet.internal:workload:root-cert";

/// What the acts share.
pub struct Acts<'d, 'k> {
    /// Everything that runs.
    pub mesh: Mesh<'k>,
    /// The cluster.
    pub kubernetes: &'k Kubernetes,
    /// Who tells.
    pub narrator: &'d Narrator,
    /// The requests that go on all the time.
    pub traffic: &'d Traffic,
    /// What has been seen.
    pub summary: Summary,
    /// Why somebody was refused so far.
    pub reasons: Vec<String>,
}

impl Acts<'_, '_> {
    fn tell(&self, text: &str) {
        self.narrator.tell(text);
    }

    /// Looks until something is so. A request that has failed ends it.
    async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut so: impl AsyncFnMut(&Mesh<'_>) -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let start = Instant::now();
        loop {
            self.mesh.refresh().await?;
            if let Some(value) = so(&self.mesh).await? {
                return Ok(value);
            }
            let tally = self.traffic.tally();
            ensure(tally.failed == 0, || format!("requests have failed: {:#?}", tally.first_failures))?;
            if start.elapsed() > within {
                return Err(Failure::Deadline { what: what.to_owned(), within, context: String::new() });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// So many requests were answered.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn requests(&mut self, wanted: u64) -> Outcome {
        let traffic = self.traffic;
        let many = async |_: &Mesh<'_>| Ok((traffic.tally().succeeded >= wanted).then_some(()));
        self.until("requests", SOON, many).await?;
        let callers: Vec<String> = traffic.tally().client_identities.into_keys().collect();
        self.tell(&format!(
            "{wanted} requests answered, none failed; the service is told who calls: {}",
            callers.join(", ")
        ));
        Ok(())
    }

    /// A node agent gets certificates for the pods of its node, and for no others.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn node_agent(&mut self) -> Outcome<Ztunnel> {
        let (here, mesh) = (self.mesh.node.name.clone(), &self.mesh);
        let pod = mesh.pod("istio-system", "ztunnel", &here).await?;
        mesh.node.cluster.node("node-2").await.map_err(made("make a node"))?;
        mesh.pod(WORKLOADS, "elsewhere", "node-2").await?;
        let client = mesh.connect().await?;
        let ids = vec![identity("client"), identity("server")];
        let agent = Ztunnel::start(client.clone(), mesh.token(&pod, "ztunnel").await?, ids);
        self.until("certificates for the pods of a node", SOON, async |_| {
            Ok((agent.certificates()? >= 2).then_some(()))
        })
        .await?;
        self.tell(&format!(
            "its account is in trusted_node_accounts and its token names {here}: it gets {} and {}",
            identity("client"),
            identity("server")
        ));
        let refused = agent.is_refused(&identity("elsewhere")).await;
        self.refused(refused.map(|status| status.code()), "it asks for a pod that runs on node-2").await?;
        let token = self.mesh.token(&self.mesh.client.made(), "client").await?;
        let csr = csr::like_ztunnel(Some(&identity("server")))?.csr;
        let answer = client.call(&Ask::like_ztunnel(&csr, &token, &identity("server"))).await;
        self.refused(answer.err().map(|status| status.code()), "an ordinary pod asks for the identity of another one")
            .await?;
        Ok(agent)
    }

    /// Counts somebody who was refused, and tells why: the caller does not learn that, the record does.
    async fn refused(&mut self, code: Option<Code>, who: &str) -> Outcome {
        ensure(code == Some(Code::Unauthenticated), || format!("{who}: {code:?} instead of a refusal"))?;
        let known = self.reasons.clone();
        let recorded = async |mesh: &Mesh<'_>| {
            let events = mesh.ca.ask(&["audit", "list", "--outcome", "refused"])?;
            let events = events["events"].as_array().into_iter().flatten();
            let mut reasons = events.filter_map(|event| event["reason"].as_str());
            Ok(reasons.find(|reason| !known.iter().any(|one| one == reason)).map(str::to_owned))
        };
        let reason = self.until("a reason on record", SOON, recorded).await?;
        self.summary.refused += 1;
        self.tell(&format!("refused: {who}; told UNAUTHENTICATED and no more, on record as {reason}"));
        self.reasons.push(reason);
        Ok(())
    }

    /// A new root, which nobody uses before everybody has it; gives the old one and the new one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn rotate(&mut self) -> Outcome<(String, String)> {
        let admin = self.mesh.ca.admin()?;
        let ask = async || admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"));
        let old = active_root(&ask().await?);
        self.mesh.ca.ask(&["authority", "rotate"])?;
        self.tell("kubectl -n signet-system exec statefulset/signet-ca -- signet-ca authority rotate --config /etc/signet/config/signet-ca.yaml");
        let prepared = async |_: &Mesh<'_>| Ok(root_ids(&ask().await?).into_iter().find(|root| *root != old));
        let new = self.until("a prepared root", SOON, prepared).await?;
        self.tell(&format!("{} signs; {} is new and signs nothing yet", short(&old), short(&new)));
        let both = |text: &str| keys::ids(text).is_ok_and(|ids| ids.len() == 2 && ids.contains(&new));
        self.everywhere("both roots", both).await?;
        self.tell("every ConfigMap and the ClusterTrustBundle hold both roots: whoever starts now will trust what is signed later");
        let active = async |_: &Mesh<'_>| Ok((active_root(&ask().await?) == new).then_some(()));
        self.until("activation", SOON, active).await?;
        self.tell(&format!(
            "every holder has said that it has both (agents after their Envoys), so {} signs from now on",
            short(&new)
        ));
        Ok((old, new))
    }

    /// Every namespace and the ClusterTrustBundle hold roots as wanted.
    async fn everywhere(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Outcome {
        let mut last = Vec::new();
        let everywhere = async |mesh: &Mesh<'_>| {
            last = lacking(mesh, &wanted).await?;
            Ok(last.is_empty().then_some(()))
        };
        let found = self.until(&format!("{what} everywhere"), SOON, everywhere).await;
        found.map_err(|failure| Failure::unexpected(format!("{failure}; not in {last:?}")))
    }

    /// Both proxies use certificates under this root.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn moved(&mut self, root: &str) -> Outcome {
        let bundle = published(&self.mesh.node, WORKLOADS, |_| true).await?;
        let pem = keys::split(&bundle).into_iter().find(|pem| keys::ids(pem).is_ok_and(|ids| ids == [root]));
        let pem = pem.ok_or_else(|| Failure::unexpected(format!("{root} is not published")))?;
        let moved = async |mesh: &Mesh<'_>| {
            let mut all = true;
            for (_, envoy) in mesh.proxies() {
                all &= envoy.secrets().await?.chains_to(&[("the new root", &pem)]).is_ok();
            }
            Ok(all.then_some(()))
        };
        self.until("both proxies with certificates under the new root", SOON, moved).await?;
        self.tell("both Envoys were handed certificates under it at their usual renewal; OpenSSL agrees that they chain to it");
        Ok(())
    }

    /// The old root leaves when nothing needs it any more.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn retired(&mut self, old: &str) -> Outcome {
        let admin = self.mesh.ca.admin()?;
        let gone = async |_: &Mesh<'_>| {
            let rotation = admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))?;
            Ok((is_settled(&rotation) && !root_ids(&rotation).iter().any(|root| root == old)).then_some(()))
        };
        self.until("retirement of the old root", DRAIN, gone).await?;
        let one = |text: &str| keys::ids(text).is_ok_and(|ids| ids.len() == 1 && ids != [old]);
        self.everywhere("the new root alone", one).await?;
        self.tell(&format!(
            "the last certificate under {} has ended; it is in no ConfigMap and no ClusterTrustBundle any more",
            short(old)
        ));
        Ok(())
    }

    /// A kubelet asks for the certificate of a pod.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn pod_certificate(&mut self) -> Outcome {
        let (kubernetes, cluster) = (self.kubernetes, self.mesh.node.cluster.clone());
        let name = self.mesh.node.name.clone();
        let account_uid = cluster.account(WORKLOADS, "batch").await.map_err(made("make an account"))?;
        let node_uid = cluster.node_uid(&name).await.map_err(made("look for a node"))?;
        let pod = cluster.pod_with_certificate((WORKLOADS, "batch-1"), ("batch", &name), SIGNER).await;
        let kubelet = kubernetes.kubelet(&name, &node_uid).await.map_err(made("be a kubelet"))?;
        let (csr, account) = (STANDARD.encode(csr::like_kubelet()?), ("batch".to_owned(), account_uid));
        let wanted =
            Wanted { pod: pod.map_err(made("make a pod"))?, account, signer: SIGNER.to_owned(), csr, longest: 3600 };
        let mut answers = Answers::of(&cluster.client(), WORKLOADS);
        let asked = Instant::now();
        let (request, _) = kubelet.ask(&wanted).await.map_err(made("ask for a certificate"))?;
        self.tell(&format!("pod batch-1 has a podCertificate volume: its kubelet makes a key and asks with PodCertificateRequest {request}"));
        let (answered, status) = answers.answer(&request, SOON).await.map_err(made("wait for a certificate"))?;
        let chain = status["certificateChain"].as_str().unwrap_or_default().to_owned();
        ensure(status["conditions"][0]["type"] == "Issued", || format!("not issued: {status}"))?;
        let bundle = self.mesh.node.objects.get(BUNDLE).await?;
        let roots = bundle["spec"]["trustBundle"].as_str().unwrap_or_default().to_owned();
        let facts = keys::facts(&chain)?;
        ensure(facts.uris == [identity("batch")], || format!("{:?}", facts.uris))?;
        Case::new(&[keys::split(&chain), vec![roots]].concat())?.verifies_for("sslserver")?;
        self.summary.pod_certificates += 1;
        self.tell(&format!(
            "{} ms later its status holds a certificate of {}, which chains to the ClusterTrustBundle of the same signer: no agent, no token",
            answered.saturating_duration_since(asked).as_millis(),
            identity("batch")
        ));
        Ok(())
    }

    /// A pod that is going to be deleted gets its certificate.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn leaver(&mut self) -> Outcome<(Client, String, MadePod)> {
        let here = self.mesh.node.name.clone();
        let pod = self.mesh.pod(WORKLOADS, "leaver", &here).await?;
        let (client, token) = (self.mesh.connect().await?, self.mesh.token(&pod, "leaver").await?);
        client.issued(&Ask::new(&csr::like_ztunnel(None)?.csr, &token).for_seconds(60)).await?;
        let deleted = self.mesh.node.cluster.delete_pod(&pod).await;
        deleted.map_err(made("delete a pod"))?;
        self.tell("pod leaver-1 has got a certificate and is deleted; its token has an hour left, and somebody may have kept it");
        Ok((client, token, pod))
    }

    /// Its next renewal is refused.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn gone(&mut self, (client, token, pod): (Client, String, MadePod)) -> Outcome {
        let refused = async |_: &Mesh<'_>| {
            let answer = client.call(&Ask::new(&csr::like_ztunnel(None)?.csr, &token)).await;
            Ok(answer.err().map(|status| status.code()))
        };
        let code = self.until("a refusal for the deleted pod", SOON, refused).await?;
        self.refused(Some(code), &format!("somebody with the token of {}, which is not there any more", pod.name)).await
    }

    /// Counts where the roots are, and asks the CA whether all is in order.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn in_order(&mut self) -> Outcome {
        let maps = maps(&self.mesh).await?;
        self.summary.namespaces_published = maps.len();
        let names: Vec<&str> = maps.iter().filter_map(|map| map["metadata"]["namespace"].as_str()).collect();
        self.tell(&format!("the roots are in {} namespaces: {}", names.len(), names.join(", ")));
        let mut last = Vec::new();
        let calm = async |mesh: &Mesh<'_>| {
            last = mesh.ca.conditions().await?;
            last.retain(|check| check["state"] != "ready");
            Ok(last.is_empty().then_some(()))
        };
        let found = self.until("all conditions of /readyz in order", SOON, calm).await;
        found.map_err(|late| Failure::unexpected(format!("{late}; not in order: {last:?}")))?;
        self.tell(
            "/readyz of the CA: every condition is in order, and with the chart's ClusterRole no right is missing",
        );
        Ok(())
    }
}

async fn maps(mesh: &Mesh<'_>) -> Outcome<Vec<Value>> {
    mesh.node.objects.list("/api/v1/configmaps?fieldSelector=metadata.name%3Distio-ca-root-cert").await
}

/// Where the roots are not as wanted: namespaces without a ConfigMap of that content, and the ClusterTrustBundle.
async fn lacking(mesh: &Mesh<'_>, wanted: &impl Fn(&str) -> bool) -> Outcome<Vec<String>> {
    let maps = maps(mesh).await?;
    let is_in = |namespace: &str| {
        let map = maps.iter().find(|map| map["metadata"]["namespace"] == namespace);
        map.is_some_and(|map| wanted(map["data"]["root-cert.pem"].as_str().unwrap_or_default()))
    };
    let mut lacking = Vec::new();
    for namespace in mesh.node.objects.list("/api/v1/namespaces").await? {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        // Kubernetes' own get none: clusters[].publish.config_maps.except.
        if !name.starts_with("kube-") && !is_in(name) {
            lacking.push(name.to_owned());
        }
    }
    let bundle = mesh.node.objects.find(BUNDLE).await?.unwrap_or_default();
    if !wanted(bundle["spec"]["trustBundle"].as_str().unwrap_or_default()) {
        lacking.push(BUNDLE.to_owned());
    }
    ensure(maps.iter().any(|map| map["metadata"]["namespace"] == SYSTEM), || format!("no roots in {SYSTEM}"))?;
    Ok(lacking)
}
