//! When a connection ends by itself, and when it does not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::client_address::Source;
use crate::transport::connections::{Connections, Room};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The head of a header block that is to be continued.
const BLOCK: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

struct Ends {
    client: DuplexStream,
    connection: Connection<DuplexStream>,
    place: Arc<Place>,
    connections: Connections,
}

fn ends() -> Ends {
    let connections = Connections::for_tests(Room { per_source: 1, ..Room::default() });
    let place = connections.enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let (client, server) = tokio::io::duplex(1 << 20);
    let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
    let connection = Connection::new(server, tcp, None, Arc::clone(&place));
    Ends { client, connection, place, connections }
}

impl Ends {
    /// Reads until the connection ends; how long that took, and which limit it met.
    async fn lasts(&mut self) -> (Duration, io::ErrorKind, Vec<Limit>) {
        let (begun, mut buffer) = (Instant::now(), [0; 1024]);
        let error = loop {
            match self.connection.read(&mut buffer).await {
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        let met = self.connections.turned_away().met().into_iter().map(|met| met.limit).collect();
        (begun.elapsed(), error, met)
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_must_end_and_who_proves_nothing_must_ask() {
    for (sent, lasts, limit) in [
        (vec![], HEADER_TIME, Limit::HeaderTime),
        (PREFACE[..10].to_vec(), HEADER_TIME, Limit::HeaderTime),
        ([PREFACE, SETTINGS, &PING[..12]].concat(), HEADER_TIME, Limit::HeaderTime),
        ([PREFACE, SETTINGS, BLOCK].concat(), HEADER_TIME, Limit::HeaderTime),
        ([PREFACE, SETTINGS, PING].concat(), IDLE, Limit::Idle),
    ] {
        let mut ends = ends();
        ends.client.write_all(&sent).await.unwrap();
        assert_eq!(ends.lasts().await, (lasts, io::ErrorKind::TimedOut, vec![limit]), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_do_not_make_a_header_block_last_longer() {
    let mut ends = ends();
    ends.client.write_all(&[PREFACE, SETTINGS, BLOCK].concat()).await.unwrap();
    // A continuation frame of one byte, again and again, and none of them the last.
    let mut client = std::mem::replace(&mut ends.client, tokio::io::duplex(1).0);
    let trickling = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.write_all(&[0, 0, 1, 9, 0, 0, 0, 0, 1, 0x82]).await.unwrap();
        }
    };
    let lasts = tokio::select! { lasts = ends.lasts() => lasts, () = trickling => unreachable!() };
    assert_eq!(lasts, (HEADER_TIME, io::ErrorKind::TimedOut, vec![Limit::HeaderTime]));
}

#[tokio::test(start_paused = true)]
async fn who_has_proved_itself_may_be_idle_for_hours_until_it_fails_to_authenticate() {
    let mut ends = ends();
    ends.client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    ends.place.prove("a");
    let place = Arc::clone(&ends.place);
    let hours = Duration::from_secs(10 * 3600);
    let later = async {
        tokio::time::sleep(hours).await;
        place.lapse();
        std::future::pending::<()>().await;
    };
    let lasts = tokio::select! { lasts = ends.lasts() => lasts, () = later => unreachable!() };
    assert_eq!(lasts, (hours + IDLE, io::ErrorKind::TimedOut, vec![Limit::Idle]));
}

#[tokio::test(start_paused = true)]
async fn requests_put_off_the_end_of_an_unproved_connection() {
    let mut ends = ends();
    ends.client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let place = Arc::clone(&ends.place);
    let asking = async {
        for _ in 0..10 {
            tokio::time::sleep(IDLE / 2).await;
            place.asked();
        }
        std::future::pending::<()>().await;
    };
    let (lasts, ..) = tokio::select! { lasts = ends.lasts() => lasts, () = asking => unreachable!() };
    assert_eq!(lasts, IDLE * 6);
}

#[tokio::test(start_paused = true)]
async fn who_must_give_way_ends_at_once_also_while_nobody_reads_what_is_written() {
    for writes in [false, true] {
        let mut ends = ends();
        ends.client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        let connections = ends.connections.clone();
        let crowd = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let newer = connections.enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
            std::future::pending::<()>().await;
            drop(newer);
        };
        let begun = Instant::now();
        let ended = async {
            if writes {
                ends.connection.write_all(&[0; 2 << 20]).await.unwrap_err().kind()
            } else {
                ends.lasts().await.1
            }
        };
        let kind = tokio::select! { kind = ended => kind, () = crowd => unreachable!() };
        assert_eq!((kind, begun.elapsed()), (io::ErrorKind::ConnectionAborted, Duration::from_secs(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_ends_the_connection() {
    let mut ends = ends();
    ends.place.prove("a");
    ends.client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    ends.client.write_all(&PING.repeat(10_000)).await.unwrap();
    let (lasts, kind, met) = ends.lasts().await;
    assert_eq!((lasts, kind, met), (Duration::ZERO, io::ErrorKind::ConnectionAborted, vec![Limit::ControlFrames]));
}
