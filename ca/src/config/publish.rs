//! Where the trust bundle is published in a cluster, as plain data.

use std::collections::BTreeMap;

use signet_core::digest::{hex, sha256};
use signet_core::publication;

/// Where the trust bundle is published in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// In a ConfigMap of each namespace.
    pub config_maps: Option<ConfigMaps>,
    /// In a ClusterTrustBundle.
    pub cluster_trust_bundle: Option<ClusterTrustBundle>,
}

/// ConfigMaps with the trust bundle, and with revocation lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMaps {
    /// The name of the one with the roots.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Labels that both have.
    pub labels: BTreeMap<String, String>,
    /// Whether revocation lists are published.
    pub revocation_lists: bool,
    /// The name of the one with these.
    pub revocation_name: String,
    /// The key in it.
    pub revocation_key: String,
    /// A label selector of namespaces; empty for all.
    pub namespaces: String,
    /// Namespaces that are left out.
    pub except: Vec<String>,
    /// Who writes one that istiod writes too.
    pub istiod: Istiod,
}

/// Who writes a ConfigMap that istiod writes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Istiod {
    /// istiod.
    Leave,
    /// This CA.
    Replace,
}

/// A ClusterTrustBundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTrustBundle {
    /// Of which signer.
    pub signer: String,
    /// What comes behind the signer in its name.
    pub name: String,
}

impl Publish {
    /// The names of the publishers of the cluster with this id.
    #[must_use]
    pub fn publishers(&self, cluster: &str) -> Vec<String> {
        let config_maps = self.config_maps.as_ref().map(|maps| maps.publisher(cluster));
        let bundle = self.cluster_trust_bundle.as_ref().map(|bundle| bundle.publisher(cluster));
        config_maps.into_iter().chain(bundle).collect()
    }
}

impl ConfigMaps {
    /// The name of the publisher: another one for every other set of places, whichever way they differ.
    fn publisher(&self, cluster: &str) -> String {
        let Self { name, key, revocation_lists, revocation_name, revocation_key, namespaces, except, .. } = self;
        let rest = format!("{:?}", (key, revocation_lists, revocation_name, revocation_key, namespaces, except));
        let digest: String = hex(&sha256(rest.as_bytes())).chars().take(6).collect();
        format!("{}{cluster}/{name}.{digest}", publication::CONFIG_MAP)
    }
}

impl ClusterTrustBundle {
    fn publisher(&self, cluster: &str) -> String {
        let object = publication::cluster_trust_bundle(&self.signer, &self.name);
        format!("{}{cluster}/{object}", publication::CLUSTER_TRUST_BUNDLE)
    }
}
