//! Calls that anybody may keep open, such as watching health: bounded in number, and the oldest ends when one more comes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

/// The open calls; clones share them.
#[derive(Clone)]
pub struct OpenCalls {
    most: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    calls: BTreeMap<u64, CancellationToken>,
}

impl OpenCalls {
    /// Room for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Lets an answer go on as long as there is room.
    #[must_use]
    pub fn enter(&self, answer: http::Response<Body>) -> http::Response<Body> {
        let (mut open, end) = (self.lock(), CancellationToken::new());
        if open.calls.len() >= self.most
            && let Some((_, oldest)) = open.calls.pop_first()
        {
            oldest.cancel();
        }
        let id = open.next;
        open.next += 1;
        open.calls.insert(id, end.clone());
        drop(open);
        let place = OpenCall { id, calls: self.clone() };
        answer.map(|body| Body::new(Ending { body, end: Box::pin(end.cancelled_owned()), ended: false, _place: place }))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct OpenCall {
    id: u64,
    calls: OpenCalls,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.id);
    }
}

/// A body that may have to end early.
struct Ending {
    body: Body,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    _place: OpenCall,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(cx).is_ready() {
            self.ended = true;
            let why = Status::unavailable("the call made room for another one; call again");
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(why.add_header(&mut trailers).is_ok().then(|| Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt;
    use tonic::Code;

    /// An answer that never says anything.
    fn silent() -> http::Response<Body> {
        let never = futures::stream::pending::<Result<Frame<Bytes>, Status>>();
        http::Response::new(Body::new(http_body_util::StreamBody::new(never)))
    }

    #[tokio::test]
    async fn the_oldest_call_ends_when_one_more_comes_and_places_come_back() {
        let calls = OpenCalls::new(2);
        let mut first = calls.enter(silent()).into_body();
        let second = calls.enter(silent()).into_body();
        drop(second);
        let _third = calls.enter(silent());
        assert!(futures::FutureExt::now_or_never(first.frame()).is_none(), "there was room");
        let _fourth = calls.enter(silent());
        let trailers = first.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unavailable);
        assert!(first.frame().await.is_none());
    }
}
