//! The clusters whose tokens are accepted, found by the `clusterid` header.

use std::collections::HashMap;
use std::sync::Arc;

use signet_core::seams::authenticator::{AuthenticationError, Denial, TokenAuthenticator};

/// Authenticators by cluster id and alias.
pub struct Clusters {
    by_name: HashMap<String, Arc<dyn TokenAuthenticator>>,
    primary: Option<Arc<dyn TokenAuthenticator>>,
    known: String,
}

impl Clusters {
    /// Takes `(id, aliases, authenticator)` per cluster; the first one is the primary, which serves requests that
    /// name no cluster.
    #[must_use]
    pub fn new(clusters: Vec<(String, Vec<String>, Arc<dyn TokenAuthenticator>)>) -> Self {
        let primary = clusters.first().map(|(_, _, authenticator)| Arc::clone(authenticator));
        let known = clusters.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>().join(", ");
        let mut by_name = HashMap::new();
        for (id, aliases, authenticator) in clusters {
            for name in std::iter::once(id).chain(aliases) {
                by_name.insert(name, Arc::clone(&authenticator));
            }
        }
        Self { by_name, primary, known }
    }

    /// The authenticator of the cluster that a request names; `None` or empty means the primary one.
    ///
    /// # Errors
    /// [`Denial::ClusterUnknown`], with the known ones listed for the log.
    pub fn select(&self, name: Option<&str>) -> Result<&dyn TokenAuthenticator, AuthenticationError> {
        let found = match name {
            None | Some("") => self.primary.as_ref(),
            Some(name) => self.by_name.get(name),
        };
        found.map(AsRef::as_ref).ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(100).collect();
            let detail = format!("the request names the cluster {name:?}; known are: {}", self.known);
            AuthenticationError::denied(Denial::ClusterUnknown, detail)
        })
    }
}
