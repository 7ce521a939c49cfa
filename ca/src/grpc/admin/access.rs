//! Who may use the services of operators and auditors: one decision for both edges and every call, taken before a message is
//! read.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use signet_core::clock::SharedClock;
use signet_core::identity::SpiffeId;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Extensions, Request, Status};
use tower::Service;

use crate::client_identity::{ClientIdentity, ClientVerifier};
use crate::metrics::CaMetrics;
use crate::operations::Operator;
use crate::refusals::{DenialCause, Denied, DeniedCaller, Refusals};
use crate::transport::admin_socket::PeerUser;
use crate::transport::connection::ConnectionInfo;

/// What everybody who is not let in is told, whatever the reason.
const DENIED: &str = "only root and the CA's own user on the admin socket, and administrators (admins) with their \
                      certificate over TLS, may do this; auditors (auditors) may do over TLS what changes nothing";

/// What an auditor is told who asks for a change.
const READS_ONLY: &str = "this changes something, which needs the role of an administrator (admins); auditors (auditors) may \
                          only read";

/// The calls of a service, as the wire names them.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Calls {
    /// All of them: what a denied call is called by.
    pub(in crate::grpc) all: &'static [&'static str],
    /// Those that change nothing, which auditors may make.
    pub(in crate::grpc) reads: &'static [&'static str],
}

/// The rules of access.
pub struct Access {
    /// The user id of this process; it and root are let in on the Unix socket.
    pub own_uid: u32,
    /// The SPIFFE IDs that are let in over TLS.
    pub admins: Vec<SpiffeId>,
    /// Those that are let in there for what changes nothing.
    pub auditors: Vec<SpiffeId>,
    /// Judges certificates again at each call: a connection may outlive them.
    pub clients: Arc<ClientVerifier>,
    /// The time.
    pub clock: SharedClock,
    /// Who was not let in.
    pub refusals: Refusals,
    /// How many were not.
    pub metrics: Arc<CaMetrics>,
}

impl Access {
    /// Decides by what the kernel or the handshake said about the connection; nothing that the caller says counts. For a call
    /// that `reads` an auditor is enough.
    ///
    /// # Errors
    /// [`Denied`] for everybody who may not.
    pub fn admit(&self, connection: &Extensions, reads: bool) -> Result<Operator, Denied> {
        match (connection.get::<PeerUser>(), connection.get::<ConnectionInfo>()) {
            (Some(user), None) => self.on_socket(*user),
            (None, Some(info)) => self.over_tls(info, reads),
            // Neither edge, or something that cannot be.
            _ => Err(Denied { who: DeniedCaller::Address(None), peer: None, cause: DenialCause::NoEdge }),
        }
    }

    fn on_socket(&self, user: PeerUser) -> Result<Operator, Denied> {
        match user.0 {
            Some(uid) if uid == 0 || uid == self.own_uid => Ok(Operator { name: format!("uid {uid}"), peer: None }),
            uid => Err(Denied { who: DeniedCaller::User(uid), peer: None, cause: DenialCause::OtherUser }),
        }
    }

    fn over_tls(&self, info: &ConnectionInfo, reads: bool) -> Result<Operator, Denied> {
        let peer = info.tcp.remote_addr();
        let Some(identity) = info.identity.as_deref() else {
            let who = DeniedCaller::Address(peer.map(|peer| peer.ip()));
            return Err(Denied { who, peer, cause: DenialCause::NoCertificate });
        };
        let denied = |cause| Denied { who: DeniedCaller::Workload(identity.spiffe_id.to_string()), peer, cause };
        let is_auditor = self.auditors.contains(&identity.spiffe_id);
        match (self.admins.contains(&identity.spiffe_id), is_auditor, reads) {
            (true, ..) | (false, true, true) => {}
            (false, true, false) => return Err(denied(DenialCause::ReadsOnly)),
            (false, false, _) => return Err(denied(DenialCause::NotListed)),
        }
        if let Err(error) = self.clients.check_again(identity, self.clock.now()) {
            let (spiffe_id, serial) = (identity.spiffe_id.as_str(), &identity.serial);
            tracing::debug!(%error, spiffe_id, serial, "the certificate of an administrator or auditor does not hold any more");
            return Err(denied(DenialCause::CertificateNotValid));
        }
        Ok(Operator { name: identity.spiffe_id.to_string(), peer: peer.map(|peer| peer.to_string()) })
    }
}

/// What a call was let in by, for those that last.
#[derive(Clone)]
pub(in crate::grpc) struct Admission {
    access: Arc<Access>,
    identity: Option<Arc<ClientIdentity>>,
}

impl Admission {
    /// Whether the caller came over TLS.
    pub(in crate::grpc) fn is_over_tls(&self) -> bool {
        self.identity.is_some()
    }

    /// Whether the certificate that was shown still holds, if one was.
    pub(in crate::grpc) fn holds(&self) -> bool {
        let again = |identity| self.access.clients.check_again(identity, self.access.clock.now()).is_ok();
        self.identity.as_deref().is_none_or(again)
    }
}

/// Stands before the service: who is let in is noted in the request, and the service does nothing without that note.
#[derive(Clone)]
pub struct Guarded<S> {
    service: S,
    access: Arc<Access>,
    calls: Calls,
}

impl<S> Guarded<S> {
    /// Puts the guard before a service with these calls.
    pub(in crate::grpc) fn new(service: S, access: Arc<Access>, calls: Calls) -> Self {
        Self { service, access, calls }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        match self.access.admit(request.extensions(), self.calls.reads.contains(&name)) {
            Ok(operator) => {
                let identity = request.extensions().get::<ConnectionInfo>().and_then(|info| info.identity.clone());
                request.extensions_mut().insert(Admission { access: Arc::clone(&self.access), identity });
                request.extensions_mut().insert(operator);
                Box::pin(self.service.call(request))
            }
            Err(denied) => {
                let call = self.calls.all.iter().find(|call| **call == name);
                let told = if denied.cause == DenialCause::ReadsOnly { READS_ONLY } else { DENIED };
                self.access.metrics.admin_denied(denied.cause);
                self.access.refusals.note(denied.refusal(call.copied().unwrap_or("an unknown call")));
                let refused = Status::permission_denied(told).into_http();
                Box::pin(std::future::ready(Ok(refused)))
            }
        }
    }
}

/// The operator that a [`Guarded`] has let in, and the message.
///
/// # Errors
/// `PERMISSION_DENIED` when none has.
pub(in crate::grpc) fn admitted<T>(request: Request<T>) -> Result<(Operator, T), Status> {
    let (_, extensions, message) = request.into_parts();
    let operator = extensions.get::<Operator>().cloned();
    Ok((operator.ok_or_else(|| Status::permission_denied(DENIED))?, message))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
