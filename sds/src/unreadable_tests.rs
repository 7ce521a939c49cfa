//! Messages that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use super::*;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, EncodeBuf, Encoder};

/// Requests as bytes, well-formed or not.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = DiscoveryResponse;
    type Encoder = Self;
    type Decoder = tonic_prost::ProstDecoder<DiscoveryResponse>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::default()
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_an_invalid_argument_and_ends_its_stream_only() {
    let world = World::start(10);
    world.publish(&[("default", "1")]);
    let uri = format!("unix://{}", world.directory.path().join("s").display());
    let mut raw = tonic::client::Grpc::new(Endpoint::from_shared(uri).unwrap().connect().await.unwrap());
    let mut client = world.client().await;
    let mut other = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    other.next().await;
    // Field 3 is a string (a resource name), field 5 a Node, which may hold a Struct.
    for unreadable in [vec![0x1a, 1, 0xff], vec![0xff; 20], vec![0x1a, 200, 1]] {
        raw.ready().await.unwrap();
        let path = |call| http::uri::PathAndQuery::from_static(call);
        let fetch = path("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets");
        let fetched = raw.unary(Request::new(unreadable.clone()), fetch, Raw).await.unwrap_err();
        assert_eq!(fetched.code(), tonic::Code::InvalidArgument, "{unreadable:?}: {fetched}");
        raw.ready().await.unwrap();
        let requests = tokio_stream::iter([ask(&["default"]).encode_to_vec(), unreadable.clone()]);
        let requests = Request::new(requests.chain(tokio_stream::pending()));
        let stream = path("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets");
        let mut responses = raw.streaming(requests, stream, Raw).await.unwrap().into_inner();
        assert!(within(responses.message()).await.unwrap().is_some());
        let ended = within(responses.message()).await.unwrap_err();
        assert_eq!(ended.code(), tonic::Code::InvalidArgument, "{unreadable:?}: {ended}");
    }
    world.publish(&[("default", "2")]);
    other.next().await;
}
