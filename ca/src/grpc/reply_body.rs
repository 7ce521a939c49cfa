//! The body of a certificate reply, which sees to it that the connection knows the reply before the HTTP/2 library does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::reply_delivery::Ticket;
use crate::transport::connection::ConnectionInfo;
use crate::transport::replies::Replies;

/// How far the library has got with it.
enum Stage {
    /// It has nothing. When it never asks, nothing was handed over.
    Before(Ticket),
    /// It has the message under this name, perhaps without having passed it on.
    Message(u64),
    /// It has all of it.
    After,
}

/// A body with a message whose way out is seen.
struct ReplyBody {
    body: Body,
    replies: Option<Arc<Replies>>,
    stage: Stage,
}

/// Where the reply to a request with these extensions is seen off.
#[must_use]
pub(super) fn replies(extensions: &http::Extensions) -> Option<Arc<Replies>> {
    extensions.get::<ConnectionInfo>()?.replies.clone()
}

/// Sees off a response that carries a [`Ticket`] in its extensions, over the connection with these `replies`.
#[must_use]
pub(super) fn see_off(mut response: http::Response<Body>, replies: Option<Arc<Replies>>) -> http::Response<Body> {
    let ticket = response.extensions_mut().remove::<Arc<Ticket>>().and_then(Arc::into_inner);
    match ticket {
        Some(ticket) => response.map(|body| Body::new(ReplyBody { body, replies, stage: Stage::Before(ticket) })),
        None => response,
    }
}

impl ReplyBody {
    fn advance(&mut self, data: Option<&Bytes>) {
        self.stage = match (std::mem::replace(&mut self.stage, Stage::After), data, &self.replies) {
            (Stage::Before(ticket), Some(data), Some(replies)) => Stage::Message(replies.expect(data, ticket)),
            // Nobody sees what becomes of it.
            (Stage::Before(ticket), Some(_), None) => {
                ticket.part();
                Stage::After
            }
            // Without a message there is no certificate in it, and the ticket that is dropped says so.
            _ => Stage::After,
        };
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => self.advance(frame.data_ref()),
            Poll::Ready(_) => self.advance(None),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        if let (Stage::Message(id), Some(replies)) = (&self.stage, &self.replies) {
            replies.give_up(*id);
        }
    }
}

#[cfg(test)]
#[path = "reply_body_tests.rs"]
mod tests;
