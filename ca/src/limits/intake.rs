//! What stands before a service: a request gets a place when it has arrived whole, and not before. Until then it may take
//! a bounded time, and its bytes count against its connection and its source.
//!
//! Each service has places of its own, so that none can take those of another.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::open_calls::OpenCalls;
use crate::over_limit::{Limit, retry_later};
use crate::transport::connection::ConnectionInfo;
use crate::transport::connections::Place;

/// How long a message may take from its headers to its last byte.
const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What requests to one service may take.
#[derive(Clone)]
pub struct CallLimits {
    /// Requests worked on at the same time.
    pub places: Arc<Semaphore>,
    /// What is counted when all are taken.
    pub full: Limit,
    /// How long an answer may take once the request is there.
    pub answer: Duration,
    /// The largest message, in bytes.
    pub message: usize,
    /// Counts a request that was turned away.
    pub turned_away: Arc<dyn Fn(Limit) + Send + Sync>,
    /// The calls that stay open, by name, which are passed on as they come.
    pub streams: &'static [&'static str],
    /// What bounds these when anybody may make them; nothing when the service itself finds out first who asks.
    pub open: Option<OpenCalls>,
}

/// A service behind its [`CallLimits`].
#[derive(Clone)]
pub struct Intake<S> {
    inner: S,
    limits: Arc<CallLimits>,
}

impl<S> Intake<S> {
    /// Puts the limits before a service.
    #[must_use]
    pub fn new(inner: S, limits: CallLimits) -> Self {
        Self { inner, limits: Arc::new(limits) }
    }
}

impl<S: NamedService> NamedService for Intake<S> {
    const NAME: &'static str = S::NAME;
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for Intake<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        let place = request.extensions().get::<ConnectionInfo>().and_then(|info| info.place.clone());
        let call = request.uri().path().rsplit('/').next().unwrap_or_default();
        if self.limits.streams.contains(&call) {
            if let Some(place) = &place {
                place.asked();
            }
            let answer = self.inner.call(request);
            let Some(open) = self.limits.open.clone() else { return Box::pin(answer) };
            return Box::pin(async move { answer.await.map(|answer| open.enter(answer)) });
        }
        // Under load this is what most requests get to hear, so it comes before anything that costs.
        if self.limits.places.available_permits() == 0 {
            return Box::pin(std::future::ready(Ok(self.limits.refuse(self.limits.full))));
        }
        // Services are cheap to clone, and the one that was asked whether it is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let limits = Arc::clone(&self.limits);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let message = match arrive(body, head_size(&parts), place.as_ref(), limits.message).await {
                Ok(message) => message,
                Err(NotArrived::Limit(limit)) => {
                    // Limits of the connection count themselves.
                    return Ok(if limit == Limit::MessageTime { limits.refuse(limit) } else { refused(limit) });
                }
                Err(NotArrived::TooLarge) => {
                    let text = format!("the message is too large: it has more than {} bytes", limits.message);
                    return Ok(Status::out_of_range(text).into_http());
                }
                Err(NotArrived::Broken) => return Ok(Status::cancelled("the request was not completed").into_http()),
            };
            if let Some(place) = &place {
                place.asked();
            }
            let Ok(_permit) = limits.places.try_acquire() else { return Ok(limits.refuse(limits.full)) };
            let request = http::Request::from_parts(parts, Body::new(Full::new(message)));
            match tokio::time::timeout(limits.answer, inner.call(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::unavailable("the request was not done in time; retry").into_http()),
            }
        })
    }
}

/// Room for whatever tests ask.
#[cfg(test)]
impl Default for CallLimits {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(1000)),
            full: Limit::OtherCalls,
            answer: Duration::from_secs(60),
            message: 128 * 1024,
            turned_away: Arc::new(drop),
            streams: &[],
            open: None,
        }
    }
}

impl CallLimits {
    fn refuse(&self, limit: Limit) -> http::Response<Body> {
        (self.turned_away)(limit);
        refused(limit)
    }
}

fn refused(limit: Limit) -> http::Response<Body> {
    retry_later(limit).into_http()
}

/// Why there is no whole request.
enum NotArrived {
    /// A limit was met.
    Limit(Limit),
    /// The message is too large.
    TooLarge,
    /// The client gave up.
    Broken,
}

/// About what a request's headers take in memory: names, values, and 32 bytes each (RFC 9113 section 6.5.2).
fn head_size(parts: &http::request::Parts) -> usize {
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    headers.sum::<usize>() + parts.uri.path().len()
}

/// The whole message, copied as it arrives: what HTTP/2 hands over keeps the buffer alive that it was read into, which for
/// a byte at a time would cost thousands of times what arrived.
async fn arrive(mut body: Body, head: usize, place: Option<&Arc<Place>>, most: usize) -> Result<Bytes, NotArrived> {
    let mut message = BytesMut::new();
    let (mut waiting, mut deadline) = (None, None);
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            // Only what has to be waited for is counted: of most requests everything is there at once.
            None => {
                if let (None, Some(place)) = (&waiting, place) {
                    waiting = Some(place.wait(head + message.len()).map_err(NotArrived::Limit)?);
                }
                let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(MESSAGE_TIME)));
                let mut next = body.frame();
                let arrived = poll_fn(|cx| match Pin::new(&mut next).poll(cx) {
                    Poll::Pending => deadline.as_mut().poll(cx).map(|()| Err(NotArrived::Limit(Limit::MessageTime))),
                    Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                });
                arrived.await?
            }
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| NotArrived::Broken)?.into_data() else { continue };
        if message.len() + data.len() > most + PREFIX {
            return Err(NotArrived::TooLarge);
        }
        if let Some(waiting) = &mut waiting {
            waiting.grow(data.len()).map_err(NotArrived::Limit)?;
        } else if message.is_empty() && http_body::Body::is_end_stream(&body) {
            return Ok(data);
        }
        message.extend_from_slice(&data);
    }
    Ok(message.freeze())
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
