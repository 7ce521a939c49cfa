//! What is said of replies that go out over real HTTP/2, to a client that speaks it by hand (RFC 9113).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use signet_core::audit::Outcome;
use signet_core::holder::Handover::{self, Nothing, Whole};
use signet_proto::istio::IstioCertificateRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tonic::transport::server::TcpConnectInfo;
use tonic_prost::prost::Message;

use super::super::certificate_server::CertificateServer;
use super::super::create_certificate::CertificateService;
use super::*;
use crate::client_address::Source;
use crate::transport::connection::Connection;
use crate::transport::connections::{Connections, Room};
use crate::transport::http2;
use crate::world_tests::{World, csr};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// The headers of a call, none of them compressed (RFC 7541 section 6.2.2).
fn headers(stream: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/istio.v1.auth.IstioCertificateService/CreateCertificate"),
        (":authority", "ca"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", "Bearer web"),
        ("clusterid", "Kubernetes"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, 4, stream, &block)
}

fn message(stream: u32) -> Vec<u8> {
    let message = IstioCertificateRequest { csr: csr(&[]), ..IstioCertificateRequest::default() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    frame(DATA, END_STREAM, stream, &[&[0], &length[..], &message].concat())
}

/// A client on one connection to a CA.
struct Client {
    world: World,
    stream: Option<DuplexStream>,
    server: JoinSet<()>,
}

impl Client {
    /// Streams begin with room for so many bytes.
    async fn new(window: u32) -> Self {
        let world = World::new().await;
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let place = Connections::for_tests(Room::default()).enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
        let connection = Connection::new(server, tcp, None, place);
        let service = CertificateServer::new(CertificateService::new(Arc::clone(&world.issuance)), 1 << 20);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let one = tokio_stream::StreamExt::chain(
                tokio_stream::iter([Ok::<_, std::io::Error>(connection)]),
                tokio_stream::pending(),
            );
            http2::server().add_service(service).serve_with_incoming(one).await.unwrap();
        });
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &setting)].concat();
        client.write_all(&hello).await.unwrap();
        Self { world, stream: Some(client), server: tasks }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    async fn call(&mut self, stream: u32) {
        self.send(&[headers(stream), message(stream)].concat()).await;
    }

    /// The next frame: kind, flags, stream, length.
    async fn next(&mut self) -> (u8, u8, u32, usize) {
        let stream = self.stream.as_mut().unwrap();
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), length)
    }

    /// Reads up to a frame of this kind, with one of these flags if any are given.
    async fn until(&mut self, kind: u8, flags: u8) -> usize {
        loop {
            let (found, set, _, length) = self.next().await;
            if found == kind && set & flags == flags {
                return length;
            }
        }
    }

    /// Has everything that was sent before dealt with.
    async fn ping(&mut self) {
        self.send(&frame(PING, 0, 0, &[7; 8])).await;
        self.until(PING, ACK).await;
    }

    async fn said(&self) -> Vec<Handover> {
        self.world.marks.lock().await.waiting().into_iter().map(|mark| mark.handover).collect()
    }

    /// What is said next.
    async fn says(&self) -> Handover {
        loop {
            if let Some(said) = self.said().await.pop() {
                return said;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends the connection; what is said then.
    async fn end(&mut self) -> Vec<Handover> {
        self.stream = None;
        self.server.shutdown().await;
        self.said().await
    }

    async fn recorded(&self) {
        while !self.world.events().await.iter().any(|one| one.event.outcome == Outcome::Issued) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_reply_that_arrives_counts_also_when_its_stream_is_reset_after_the_last_frame() {
    let mut client = Client::new(65_535).await;
    client.call(1).await;
    client.until(HEADERS, END_STREAM).await;
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    client.ping().await;
    assert_eq!(client.said().await, [Whole]);
    client.call(3).await;
    client.until(HEADERS, END_STREAM).await;
    client.ping().await;
    assert_eq!((client.said().await, client.end().await), (vec![Whole], vec![]));
}

#[tokio::test]
async fn a_window_of_one_byte_hands_over_a_part_until_it_opens() {
    for opens in [false, true] {
        let mut client = Client::new(1).await;
        client.call(1).await;
        assert_eq!(client.until(DATA, 0).await, 1);
        client.ping().await;
        assert_eq!(client.said().await, []);
        if opens {
            client.send(&frame(WINDOW_UPDATE, 0, 1, &60_000_u32.to_be_bytes())).await;
            client.until(HEADERS, END_STREAM).await;
            client.ping().await;
            assert_eq!(client.said().await, [Whole]);
        }
        assert_eq!(client.end().await, [], "a certificate that may be there is not taken back");
    }
}

#[tokio::test]
async fn a_closed_window_hands_over_nothing() {
    // The connection ends; or the call alone, in which case the next flush tells.
    let mut client = Client::new(0).await;
    client.call(1).await;
    client.until(HEADERS, 0).await;
    client.ping().await;
    assert_eq!((client.said().await, client.end().await), (vec![], vec![Nothing]));
    let mut client = Client::new(0).await;
    client.call(1).await;
    client.until(HEADERS, 0).await;
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    client.ping().await;
    let flushes = async {
        loop {
            client.ping().await;
            if let Some(said) = client.said().await.pop() {
                return said;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), flushes).await.unwrap(), Nothing);
    // It goes on.
    client.send(&frame(SETTINGS, 0, 0, &[&[0, 4][..], &60_000_u32.to_be_bytes()].concat())).await;
    client.call(3).await;
    client.until(HEADERS, END_STREAM).await;
    client.ping().await;
    assert_eq!(client.said().await, [Whole]);
}

#[tokio::test]
async fn a_caller_that_is_gone_before_its_record_is_kept_is_told_of_after_it() {
    for connection in [false, true] {
        let mut client = Client::new(65_535).await;
        client.world.store.slow.store(true, Ordering::SeqCst);
        client.call(1).await;
        // It waits for the commit.
        client.ping().await;
        if connection {
            client.stream = None;
        } else {
            client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
            client.ping().await;
        }
        assert_eq!(client.said().await, [], "there is no record yet");
        client.world.store.commit.notify_one();
        client.recorded().await;
        let said = tokio::time::timeout(Duration::from_secs(30), client.says()).await.unwrap();
        assert_eq!(said, Nothing, "connection {connection}");
    }
}

#[tokio::test]
async fn replies_on_one_connection_are_told_apart() {
    let mut client = Client::new(1).await;
    for stream in [1, 3, 5] {
        client.call(stream).await;
        assert_eq!(client.until(DATA, 0).await, 1);
    }
    client.send(&frame(WINDOW_UPDATE, 0, 3, &60_000_u32.to_be_bytes())).await;
    client.until(HEADERS, END_STREAM).await;
    client.ping().await;
    let marks = client.world.marks.lock().await.waiting();
    let serials: Vec<String> = {
        let events = client.world.events().await.into_iter().rev();
        events.filter_map(|one| one.event.released().map(|what| what.serial.clone())).collect()
    };
    assert_eq!(
        marks.iter().map(|mark| (&mark.reply.serial, mark.handover)).collect::<Vec<_>>(),
        [(&serials[1], Whole)]
    );
    assert_eq!(client.end().await, []);
}
