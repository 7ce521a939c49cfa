//! Who may use the operators' service: one decision for both edges and every call, taken before a message is read.

use std::sync::Arc;

use signet_core::clock::SharedClock;
use signet_core::identity::SpiffeId;
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use super::client_identity::ClientVerifier;
use super::peer::PeerUser;
use super::tls::ConnectionInfo;
use crate::operations::Operator;

/// What everybody who is not let in is told, whatever the reason.
const DENIED: &str = "only root and the CA's own user on the admin socket, and administrators (admins) with their \
                      certificate over TLS, may do this";

/// The rules of access.
pub struct Access {
    /// The user id of this process; it and root are let in on the Unix socket.
    pub own_uid: u32,
    /// The SPIFFE IDs that are let in over TLS.
    pub admins: Vec<SpiffeId>,
    /// Judges certificates again at each call: a connection may outlive them.
    pub clients: Arc<ClientVerifier>,
    /// The time.
    pub clock: SharedClock,
}

impl Access {
    /// Decides by what the kernel or the handshake said about the connection; nothing that the caller says counts.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for everybody who is not an operator.
    pub fn admit(&self, connection: &Extensions) -> Result<Operator, Status> {
        let operator = match (connection.get::<PeerUser>(), connection.get::<ConnectionInfo>()) {
            (Some(user), None) => self.on_socket(*user),
            (None, Some(info)) => self.over_tls(info),
            // Neither edge, or something that cannot be.
            _ => None,
        };
        operator.ok_or_else(|| Status::permission_denied(DENIED))
    }

    fn on_socket(&self, user: PeerUser) -> Option<Operator> {
        let uid = user.0.filter(|uid| *uid == 0 || *uid == self.own_uid)?;
        Some(Operator { name: format!("uid {uid}"), peer: None })
    }

    fn over_tls(&self, info: &ConnectionInfo) -> Option<Operator> {
        let identity = info.identity.as_deref()?;
        let peer = info.tcp.remote_addr().map(|address| address.to_string());
        if !self.admins.contains(&identity.spiffe_id) {
            return None;
        }
        if let Err(error) = self.clients.check_again(identity, self.clock.now()) {
            let (spiffe_id, serial) = (identity.spiffe_id.as_str(), &identity.serial);
            tracing::warn!(%error, spiffe_id, serial, peer.addr = peer, "an administrator's certificate does not hold any more");
            return None;
        }
        Some(Operator { name: identity.spiffe_id.to_string(), peer })
    }
}

/// Stands before the service: who is let in is noted in the request, and the service does nothing without that note.
#[derive(Clone)]
pub struct Guard(pub Arc<Access>);

impl Interceptor for Guard {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let operator = self.0.admit(request.extensions())?;
        request.extensions_mut().insert(operator);
        Ok(request)
    }
}

/// The operator that a [`Guard`] has let in, and the message.
///
/// # Errors
/// `PERMISSION_DENIED` when none has.
pub(super) fn admitted<T>(request: Request<T>) -> Result<(Operator, T), Status> {
    let (_, extensions, message) = request.into_parts();
    let operator = extensions.get::<Operator>().cloned();
    Ok((operator.ok_or_else(|| Status::permission_denied(DENIED))?, message))
}
