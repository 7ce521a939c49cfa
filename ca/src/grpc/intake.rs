//! A bound on what is read before anything is known about its sender: requests whose body is still arriving are
//! limited in number and time, and with the message limit so is the memory they can take.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// The operators' calls have a deadline of their own per step, and a change must not be reported as undone on the way;
/// who may not make them is refused before a message is read.
const OPERATORS: &str = "/signet.admin.v1alpha1.Admin/";

/// More than the steps of an operator's call take together.
const OPERATORS_LIMIT: Duration = Duration::from_secs(60);

/// Puts a bound around a server's services.
#[derive(Debug, Clone)]
pub struct Intake {
    places: Arc<Semaphore>,
    limit: Duration,
}

impl Intake {
    /// At most `places` requests at the same time, each answered within `limit`; those of operators take their time.
    #[must_use]
    pub fn new(places: usize, limit: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), limit }
    }
}

impl<S> Layer<S> for Intake {
    type Service = Bounded<S>;
    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, intake: self.clone() }
    }
}

/// A service behind an [`Intake`].
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
    intake: Intake,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.intake.places).try_acquire_owned() else {
            let full = Status::resource_exhausted("the CA has as many requests as it can take; retry with backoff");
            return Box::pin(std::future::ready(Ok(full.into_http())));
        };
        let operators = request.uri().path().starts_with(OPERATORS);
        let limit = if operators { self.intake.limit.max(OPERATORS_LIMIT) } else { self.intake.limit };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _place = place;
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::unavailable("the request was not done in time; retry").into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;
    use std::convert::Infallible;
    use tonic::Code;
    use tower::service_fn;

    fn code(response: &http::Response<Body>) -> Option<Code> {
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_cut_off_and_frees_its_place() {
        let stuck =
            service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, Infallible>>());
        let mut service = Intake::new(1, Duration::from_secs(11)).layer(stuck);
        let first = service.call(http::Request::new(Body::default()));
        let second = service.call(http::Request::new(Body::default())).await.unwrap();
        assert_eq!(code(&second), Some(Code::ResourceExhausted));
        assert_eq!(code(&first.await.unwrap()), Some(Code::Unavailable));
        // An operator's call outlives it, and holds a place like any other.
        let slow = service_fn(|_: http::Request<Body>| async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            Ok::<_, Infallible>(http::Response::new(Body::default()))
        });
        let mut operators = service.intake.clone().layer(slow);
        let request = http::Request::post(format!("{OPERATORS}RotateAuthority")).body(Body::default()).unwrap();
        let change = operators.call(request);
        let meanwhile = service.call(http::Request::new(Body::default())).await.unwrap();
        assert_eq!(code(&meanwhile), Some(Code::ResourceExhausted));
        assert_eq!(code(&change.await.unwrap()), None);
        let third = service.call(http::Request::new(Body::default())).await.unwrap();
        assert_eq!(code(&third), Some(Code::Unavailable));
    }
}
