//! The admin service as a client sees it: over the operators' socket, or over TLS on the CA's port.

use std::path::Path;
use std::time::Duration;

use signet_proto::admin::v1alpha1::admin_client::AdminClient;
use signet_proto::admin::v1alpha1::{
    Authority, AuthorityKind, AuthorityState, GetRotationRequest, Holder, ListHoldersRequest, Phase, Rotation,
    StatusRequest, StatusResponse,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::failure::{Failure, Outcome};

/// A connected client.
#[derive(Clone)]
pub struct Admin(pub AdminClient<Channel>);

impl Admin {
    /// A client of the socket; connects when it is used, and again after the CA was restarted.
    ///
    /// # Errors
    /// [`Failure`] when the path cannot be an address.
    pub fn on_socket(socket: &Path) -> Outcome<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(Failure::while_doing("name the operators' socket"))?
            .connect_timeout(Duration::from_secs(30))
            .timeout(Duration::from_secs(60));
        Ok(Self(AdminClient::new(endpoint.connect_lazy())))
    }

    /// A client over a channel of any kind.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Self(AdminClient::new(channel))
    }

    /// Where rotation stands.
    ///
    /// # Errors
    /// The status of the CA.
    pub async fn rotation(&self) -> Result<Rotation, Status> {
        Ok(self.0.clone().get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// What the CA does.
    ///
    /// # Errors
    /// The status of the CA.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(self.0.clone().status(StatusRequest {}).await?.into_inner())
    }

    /// All holders, or those behind the newest bundle, over all pages.
    ///
    /// # Errors
    /// The status of the CA.
    pub async fn holders(&self, behind: bool) -> Result<Vec<Holder>, Status> {
        let mut request = ListHoldersRequest { behind, ..ListHoldersRequest::default() };
        let mut all = Vec::new();
        loop {
            let page = self.0.clone().list_holders(request.clone()).await?.into_inner();
            all.extend(page.holders);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// Whether this is a root.
#[must_use]
pub fn is_root(one: &Authority) -> bool {
    one.kind() == AuthorityKind::Root
}

/// The roots of this state.
#[must_use]
pub fn roots_in(rotation: &Rotation, state: AuthorityState) -> Vec<&Authority> {
    rotation.authorities.iter().filter(|one| is_root(one) && one.state() == state).collect()
}

/// The issuing CAs that sign.
pub fn active_issuers(rotation: &Rotation) -> impl Iterator<Item = &Authority> {
    let active = |one: &&Authority| one.kind() == AuthorityKind::Issuing && one.state() == AuthorityState::Active;
    rotation.authorities.iter().filter(active)
}

/// Whether one root signs and nothing is under way.
#[must_use]
pub fn is_settled(rotation: &Rotation) -> bool {
    rotation.phase() == Phase::Settled
}

/// The ids of all roots, in the order of the answer.
#[must_use]
pub fn root_ids(rotation: &Rotation) -> Vec<String> {
    rotation.authorities.iter().filter(|one| is_root(one)).map(|one| one.id.clone()).collect()
}

/// The id of the active root; empty when there is none.
#[must_use]
pub fn active_root(rotation: &Rotation) -> String {
    roots_in(rotation, AuthorityState::Active).first().map(|one| one.id.clone()).unwrap_or_default()
}

/// Covered holders and all holders of a moment.
#[must_use]
pub fn coverage(rotation: &Rotation) -> (u64, u64) {
    rotation.coverage.as_ref().map_or((0, 0), |coverage| (coverage.covered, coverage.holders))
}
