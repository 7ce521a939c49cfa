//! How the certificate port speaks HTTP/2: limits per connection, and how long one may be silent.

use std::time::Duration;

use tonic::transport::Server;

/// Calls open on one connection at the same time; ztunnel, the busiest client, has 8.
const STREAMS: u32 = 64;

/// Largest set of request headers. Tokens are under 16 KiB; a larger one gets its own refusal up to this size.
const HEADERS: u32 = 128 * 1024;

/// How often a silent peer is asked whether it is there, and how long it may take to answer: a host that has vanished
/// says no farewell, and its connections must not hold their places for ever.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// A server with these settings, and no services yet.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .http2_max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    /// Client preface and empty settings (RFC 9113 section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const PING_TYPE: u8 = 6;
    const ACK: u8 = 1;

    /// Reads frames until the server closes, answers its pings `answers` times, and tells how long that took.
    async fn lasts(mut client: DuplexStream, mut answers: u32) -> Duration {
        let begun = Instant::now();
        client.write_all(PREFACE).await.unwrap();
        loop {
            let mut head = [0; 9];
            if client.read_exact(&mut head).await.is_err() {
                return begun.elapsed();
            }
            let mut body = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            client.read_exact(&mut body).await.unwrap();
            if head[3] == PING_TYPE && head[4] & ACK == 0 && answers > 0 {
                answers -= 1;
                head[4] |= ACK;
                client.write_all(&[&head[..], &body].concat()).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_gone_silent_is_closed_and_one_that_answers_is_not() {
        let mut tasks = JoinSet::new();
        let mut connect = || {
            let (client, connection) = tokio::io::duplex(1 << 16);
            let health = tonic_health::server::health_reporter().1;
            let connections = tokio_stream::iter([Ok::<_, std::io::Error>(connection)]);
            tasks.spawn(async move { server().add_service(health).serve_with_incoming(connections).await.unwrap() });
            client
        };
        let (silent, answers) = (connect(), connect());
        let silent = tokio::time::timeout(PING * 10, lasts(silent, 0)).await.unwrap();
        assert!((PING..=PING + PONG * 2).contains(&silent), "{silent:?}");
        let answering = tokio::time::timeout(PING * 10, lasts(answers, 3)).await.unwrap();
        assert!((PING * 4..=PING * 4 + PONG * 2).contains(&answering), "{answering:?}");
    }

    #[tokio::test]
    async fn a_connection_is_told_how_many_calls_and_how_large_headers_it_may_send() {
        let (mut client, connection) = tokio::io::duplex(1 << 16);
        let health = tonic_health::server::health_reporter().1;
        let connections = tokio_stream::iter([Ok::<_, std::io::Error>(connection)]);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server().add_service(health).serve_with_incoming(connections).await.unwrap() });
        client.write_all(PREFACE).await.unwrap();
        let mut head = [0; 9];
        client.read_exact(&mut head).await.unwrap();
        let mut settings = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        client.read_exact(&mut settings).await.unwrap();
        // RFC 9113 section 6.5.2: MAX_CONCURRENT_STREAMS and MAX_HEADER_LIST_SIZE.
        for (id, value) in [(3_u16, STREAMS), (6, HEADERS)] {
            let setting = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
            assert!(settings.chunks(6).any(|it| it == setting), "{id}: {settings:?}");
        }
    }
}
