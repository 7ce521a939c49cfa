//! Who may use the operators' service: one decision for both edges and every call, taken before a message is read.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use signet_core::audit::{Attributed, EventKind, Outcome};
use signet_core::clock::SharedClock;
use signet_core::identity::SpiffeId;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Extensions, Request, Status};
use tower::Service;

use super::client_identity::ClientVerifier;
use super::peer::PeerUser;
use crate::metrics::CaMetrics;
use crate::operations::Operator;
use crate::refusals::{Class, Refusal, Refusals};
use crate::source::Source;
use crate::transport::connection::ConnectionInfo;

/// What everybody who is not let in is told, whatever the reason.
const DENIED: &str = "only root and the CA's own user on the admin socket, and administrators (admins) with their \
                      certificate over TLS, may do this";

/// Why somebody is no operator. The names are labels of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// On the socket: neither root nor the CA's own user.
    OtherUser,
    /// Over TLS: without a certificate.
    NoCertificate,
    /// Over TLS: a SPIFFE ID that is none of `admins`.
    NotListed,
    /// Over TLS: an administrator whose certificate has ended, is revoked, or chains to no sound root.
    CertificateNotValid,
    /// On no known edge, which cannot be.
    NoEdge,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::OtherUser, Self::NoCertificate, Self::NotListed, Self::CertificateNotValid, Self::NoEdge];

    /// The name in metrics and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherUser => "other_user",
            Self::NoCertificate => "no_certificate",
            Self::NotListed => "not_listed",
            Self::CertificateNotValid => "certificate_not_valid",
            Self::NoEdge => "no_edge",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::OtherUser => "neither root nor the CA's own user",
            Self::NoCertificate => "no client certificate",
            Self::NotListed => "none of the configured administrators (admins)",
            Self::CertificateNotValid => "an administrator, but the certificate does not hold any more",
            Self::NoEdge => "on no known edge",
        }
    }
}

/// Who was denied, as far as the kernel or the handshake knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user on this host; without a number when the kernel told none.
    User(Option<u32>),
    /// A SPIFFE ID.
    Workload(String),
    /// An address; ports change with every connection.
    Address(Option<IpAddr>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(Some(uid)) => write!(f, "uid {uid}"),
            Self::User(None) => f.write_str("an unknown user"),
            Self::Workload(id) => f.write_str(id),
            Self::Address(Some(address)) => write!(f, "{address}"),
            Self::Address(None) => f.write_str("an unknown address"),
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who.
    pub who: Who,
    /// The network address, for one who comes over TLS.
    pub peer: Option<SocketAddr>,
    /// Why.
    pub cause: Cause,
}

impl Denied {
    /// What is recorded and logged of a denied `call`, one of a fixed set of names.
    fn refusal(self, call: &'static str) -> Refusal {
        let Self { who, peer, cause } = self;
        let class = match cause {
            Cause::OtherUser => Class::LocalUsers,
            Cause::NotListed | Cause::CertificateNotValid => Class::Holders,
            Cause::NoCertificate | Cause::NoEdge => Class::AdminStrangers,
        };
        let source = match who {
            Who::User(_) => None,
            Who::Workload(_) => Some(Source::of(peer.map(|peer| peer.ip()))),
            Who::Address(address) => Some(Source::of(address)),
        };
        let subject = match (&who, source) {
            (Who::Address(_), Some(source)) => source.to_string(),
            (who, _) => who.to_string(),
        };
        let detail = format!("{who}: denied {call}: {}", cause.in_words());
        let peer = Some(peer.map_or_else(|| who.to_string(), |peer| peer.to_string()));
        let spiffe_id = match who {
            Who::Workload(id) => Some(id),
            _ => None,
        };
        Refusal {
            class,
            subject,
            source,
            call,
            kind: EventKind::Admin,
            outcome: Outcome::Refused,
            reason: cause.as_str(),
            detail,
            request_id: String::new(),
            who: Attributed { spiffe_id, peer, ..Attributed::default() },
        }
    }
}

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
    /// Who was not let in.
    pub refusals: Refusals,
    /// How many were not.
    pub metrics: Arc<CaMetrics>,
}

impl Access {
    /// Decides by what the kernel or the handshake said about the connection; nothing that the caller says counts.
    ///
    /// # Errors
    /// [`Denied`] for everybody who is not an operator.
    pub fn admit(&self, connection: &Extensions) -> Result<Operator, Denied> {
        match (connection.get::<PeerUser>(), connection.get::<ConnectionInfo>()) {
            (Some(user), None) => self.on_socket(*user),
            (None, Some(info)) => self.over_tls(info),
            // Neither edge, or something that cannot be.
            _ => Err(Denied { who: Who::Address(None), peer: None, cause: Cause::NoEdge }),
        }
    }

    fn on_socket(&self, user: PeerUser) -> Result<Operator, Denied> {
        match user.0 {
            Some(uid) if uid == 0 || uid == self.own_uid => Ok(Operator { name: format!("uid {uid}"), peer: None }),
            uid => Err(Denied { who: Who::User(uid), peer: None, cause: Cause::OtherUser }),
        }
    }

    fn over_tls(&self, info: &ConnectionInfo) -> Result<Operator, Denied> {
        let peer = info.tcp.remote_addr();
        let Some(identity) = info.identity.as_deref() else {
            let who = Who::Address(peer.map(|peer| peer.ip()));
            return Err(Denied { who, peer, cause: Cause::NoCertificate });
        };
        let denied = |cause| Denied { who: Who::Workload(identity.spiffe_id.to_string()), peer, cause };
        if !self.admins.contains(&identity.spiffe_id) {
            return Err(denied(Cause::NotListed));
        }
        if let Err(error) = self.clients.check_again(identity, self.clock.now()) {
            let (spiffe_id, serial) = (identity.spiffe_id.as_str(), &identity.serial);
            tracing::debug!(%error, spiffe_id, serial, "an administrator's certificate does not hold any more");
            return Err(denied(Cause::CertificateNotValid));
        }
        Ok(Operator { name: identity.spiffe_id.to_string(), peer: peer.map(|peer| peer.to_string()) })
    }
}

/// Stands before the service: who is let in is noted in the request, and the service does nothing without that note.
#[derive(Clone)]
pub struct Guarded<S> {
    service: S,
    access: Arc<Access>,
    /// The names of the calls, which are all that a denied call is called by.
    calls: &'static [&'static str],
}

impl<S> Guarded<S> {
    /// Puts the guard before a service with these calls.
    pub(super) fn new(service: S, access: Access, calls: &'static [&'static str]) -> Self {
        Self { service, access: Arc::new(access), calls }
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
        match self.access.admit(request.extensions()) {
            Ok(operator) => {
                request.extensions_mut().insert(operator);
                Box::pin(self.service.call(request))
            }
            Err(denied) => {
                let name = request.uri().path().rsplit('/').next().unwrap_or_default();
                let call = self.calls.iter().find(|call| **call == name);
                self.access.metrics.admin_denied(denied.cause);
                self.access.refusals.note(denied.refusal(call.copied().unwrap_or("an unknown call")));
                let refused = Status::permission_denied(DENIED).into_http();
                Box::pin(std::future::ready(Ok(refused)))
            }
        }
    }
}

/// The operator that a [`Guarded`] has let in, and the message.
///
/// # Errors
/// `PERMISSION_DENIED` when none has.
pub(super) fn admitted<T>(request: Request<T>) -> Result<(Operator, T), Status> {
    let (_, extensions, message) = request.into_parts();
    let operator = extensions.get::<Operator>().cloned();
    Ok((operator.ok_or_else(|| Status::permission_denied(DENIED))?, message))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
