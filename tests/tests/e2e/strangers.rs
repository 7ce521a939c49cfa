//! Callers without credentials, and what they do by not sending: whatever they try, a client that means well keeps its
//! certificates, on a connection that it has and on new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::version::TLS13;
use signet_tests::client::certify::Client;
use signet_tests::client::raw::{Raw, Unfinished, head};
use signet_tests::client::tls;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::limits::with_open_files;
use signet_tests::harness::{Ca, Dev};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const WINDOW_UPDATE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Certificates that the client asks for while it is attacked, each second one on a new connection.
const ASKED: usize = 60;

fn config(dev: &Dev) -> Outcome<Arc<ClientConfig>> {
    tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])
}

/// A client that means well, connected before anything bad happens.
struct Good {
    dev: Dev,
    ca: Ca,
    client: Client,
}

impl Good {
    async fn new(dev: Dev, mut ca: Ca) -> Outcome<Self> {
        ca.ready().await?;
        let client = Client::connect(&dev).await?;
        client.certificate(&dev, "client").await?;
        Ok(Self { dev, ca, client })
    }

    async fn plain() -> Outcome<Self> {
        let dev = Dev::plain()?;
        super::facts::without_limits(&dev)?;
        let ca = Ca::start(&dev)?;
        Self::new(dev, ca).await
    }

    /// How many of its certificates it gets.
    async fn gets(&self) -> Outcome<usize> {
        let mut got = 0;
        for turn in 0..ASKED {
            let asked = async {
                let new = if turn % 2 == 0 { None } else { Some(Client::connect(&self.dev).await?) };
                new.as_ref().unwrap_or(&self.client).certificate(&self.dev, "client").await
            };
            // What takes longer than a client would wait is as good as nothing.
            got += usize::from(matches!(tokio::time::timeout(Duration::from_secs(10), asked).await, Ok(Ok(_))));
        }
        Ok(got)
    }

    /// Asks while strangers do what they do, and demands nine of ten; also that the CA stays ready, and tells.
    async fn keeps_its_certificates(&mut self, limit: &str) -> Outcome {
        let got = self.gets().await?;
        ensure(got * 10 >= ASKED * 9, || {
            format!("{got} of {ASKED} certificates; the log is\n{}", self.ca.process.log())
        })?;
        self.ca.ready().await?;
        let metrics = self.ca.metrics().await?;
        let met = metrics.sum("signet_ca_turned_away_total", &[&format!("limit=\"{limit}\"")]);
        ensure(met >= 1.0, || format!("nobody was turned away by {limit}"))?;
        let status = self.ca.ask(&["status"])?;
        let told = status["turned_away"].as_array().into_iter().flatten().any(|met| met["limit"] == limit);
        ensure(told, || format!("status does not tell of {limit}: {status}"))
    }

    async fn resident_mib(&self) -> Outcome<f64> {
        Ok(self.ca.metrics().await?.sum("process_resident_memory_bytes", &[]) / f64::from(1 << 20))
    }
}

/// Connections, each with calls that begin and do not end.
async fn unfinished(
    dev: &Dev,
    connections: usize,
    calls: usize,
    headers: &[(&str, &str)],
) -> Outcome<Vec<(Raw, Vec<Unfinished>)>> {
    let mut all = Vec::new();
    for _ in 0..connections {
        let mut connection = Raw::connect(dev.listen, config(dev)?).await?;
        let mut open = Vec::new();
        for _ in 0..calls {
            // A connection that was closed takes no more; that is for the CA to decide.
            let Ok(Ok(call)) = tokio::time::timeout(Duration::from_secs(1), connection.begin(head(headers)?)).await
            else {
                break;
            };
            open.push(call);
        }
        all.push((connection, open));
    }
    Ok(all)
}

#[tokio::test]
async fn calls_whose_messages_never_end_take_no_places() -> Outcome {
    let mut good = Good::plain().await?;
    let strangers = unfinished(&good.dev, 16, 64, &[]).await?;
    good.keeps_its_certificates("open_calls").await?;
    drop(strangers);
    Ok(())
}

#[tokio::test]
async fn large_headers_and_trickled_bytes_take_little_memory_however_often() -> Outcome {
    let mut good = Good::plain().await?;
    good.gets().await?;
    let before = good.resident_mib().await?;
    let filler = "x".repeat(120 << 10);
    // When an allocator returns memory to the system is its own affair. What was taken and not freed would add up.
    for turn in 1..=3 {
        let mut most = 0.0_f64;
        let strangers = unfinished(&good.dev, 100, 8, &[("x-filler", &filler)]).await?;
        let mut trickling = unfinished(&good.dev, 32, 16, &[]).await?;
        for _ in 0..200 {
            for (_, calls) in &mut trickling {
                // Whoever was turned away cannot send any more.
                calls.retain_mut(|call| (0..10).all(|_| call.send(Bytes::from_static(b"x")).is_ok()));
            }
            tokio::task::yield_now().await;
            most = most.max(good.resident_mib().await?);
        }
        good.keeps_its_certificates("memory").await?;
        most = most.max(good.resident_mib().await?);
        ensure(most - before < 64.0, || format!("{before:.0} MiB before, {most:.0} at most in turn {turn}"))?;
        drop((strangers, trickling));
    }
    Ok(())
}

#[tokio::test]
async fn idle_strangers_make_way_when_connections_are_few() -> Outcome {
    let dev = Dev::plain()?;
    super::facts::without_limits(&dev)?;
    dev.set_ca("limits.connections", 10)?;
    let ca = Ca::start(&dev)?;
    let mut good = Good::new(dev, ca).await?;
    let mut idle = Vec::new();
    for turn in 0..20 {
        // Some say nothing at all, some finish TLS, some speak HTTP/2.
        match turn % 3 {
            0 => idle.push((
                Some(TcpStream::connect(good.dev.listen).await.map_err(Failure::io("connect"))?),
                None,
                None,
            )),
            1 => idle.push((None, Some(tls::connect(good.dev.listen, config(&good.dev)?).await?), None)),
            _ => idle.push((None, None, Some(Raw::connect(good.dev.listen, config(&good.dev)?).await?))),
        }
    }
    good.keeps_its_certificates("connections").await?;
    drop(idle);
    Ok(())
}

#[tokio::test]
async fn more_strangers_than_open_files_shut_nobody_out() -> Outcome {
    let dev = Dev::plain()?;
    super::facts::without_limits(&dev)?;
    dev.set_ca("limits.unauthenticated.handshakes.burst", 10_000)?;
    dev.set_ca("limits.unauthenticated.connections", 10_000)?;
    // The soft limit is raised to the hard one, which is lower than there are strangers.
    let ca = Ca::start_command(&dev, with_open_files(&dev.ca_command(&["serve"])?, 300, 900))?;
    let mut good = Good::new(dev, ca).await?;
    let mut idle = Vec::new();
    for _ in 0..1100 {
        idle.push(TcpStream::connect(good.dev.listen).await.map_err(Failure::io("connect"))?);
    }
    good.keeps_its_certificates("connections").await?;
    let log = good.ca.process.log();
    ensure(log.contains("connections are fitted to the limit of open files"), || log.clone())?;
    ensure(!log.contains("could not be accepted"), || log.clone())
}

#[tokio::test]
async fn connections_that_come_to_nothing_are_bounded_by_source() -> Outcome {
    let dev = Dev::plain()?;
    super::facts::without_limits(&dev)?;
    dev.set_ca("limits.unauthenticated.handshakes.per_second", 1)?;
    dev.set_ca("limits.unauthenticated.handshakes.burst", 100)?;
    let ca = Ca::start(&dev)?;
    let mut good = Good::new(dev, ca).await?;
    // From another address of this host, so that the client's own new connections are those of another source.
    let listen = good.dev.listen;
    let from = move || async move {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind("127.0.0.77:0".parse().unwrap())?;
        socket.connect(listen).await
    };
    let flood = async || {
        for _ in 0..300 {
            drop(from().await.map_err(Failure::io("connect"))?);
        }
        Ok::<_, Failure>(())
    };
    flood().await?;
    good.keeps_its_certificates("handshakes").await?;
    // Closed before TLS has begun.
    flood().await?;
    let mut refused = from().await.map_err(Failure::io("connect"))?;
    let read = tokio::time::timeout(Duration::from_secs(5), refused.read(&mut [0; 1])).await;
    ensure(matches!(read, Ok(Ok(0) | Err(_))), || format!("{read:?}"))
}

#[tokio::test]
async fn floods_of_frames_end_their_connection() -> Outcome {
    let mut good = Good::plain().await?;
    let (address, config) = (good.dev.listen, config(&good.dev)?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut floods = JoinSet::new();
    for frame in [PING, WINDOW_UPDATE, SETTINGS, PING] {
        let (config, stop) = (Arc::clone(&config), Arc::clone(&stop));
        floods.spawn(async move {
            let burst = frame.repeat(1000);
            let mut ended = 0;
            while !stop.load(Ordering::Relaxed) {
                let Ok(stream) = tls::connect(address, Arc::clone(&config)).await else { continue };
                let (mut reader, mut writer) = tokio::io::split(stream);
                let reading = async {
                    let mut buffer = [0; 4096];
                    while matches!(reader.read(&mut buffer).await, Ok(read) if read > 0) {}
                };
                let writing = async {
                    let mut sent = writer.write_all(PREFACE).await;
                    while sent.is_ok() && !stop.load(Ordering::Relaxed) {
                        sent = writer.write_all(&burst).await;
                    }
                };
                tokio::select! { () = reading => {}, () = writing => {} }
                ended += 1;
            }
            ended
        });
    }
    let kept = good.keeps_its_certificates("control_frames").await;
    stop.store(true, Ordering::Relaxed);
    let ended = floods.join_all().await;
    kept?;
    ensure(ended.iter().all(|times| *times > 0), || format!("{ended:?}"))
}

/// Anybody may watch health; the places for it are its own, and the oldest watcher makes room.
#[tokio::test]
async fn watchers_of_health_take_no_places_from_those_who_ask_for_it() -> Outcome {
    let mut good = Good::plain().await?;
    let mut watching = Vec::new();
    for _ in 0..4 {
        let channel = Client::connect(&good.dev).await?.channel;
        for _ in 0..32 {
            let request = HealthCheckRequest { service: String::new() };
            let watch = HealthClient::new(channel.clone()).watch(request).await;
            watching.push(watch.map_err(Failure::while_doing("watch health"))?.into_inner());
        }
    }
    let oldest = watching.first_mut().expect("there are some");
    let ended =
        tokio::time::timeout(Duration::from_secs(10), async { while let Ok(Some(_)) = oldest.message().await {} });
    ended.await.map_err(|_| Failure::unexpected("the oldest of too many watchers is still served"))?;
    let channel = Client::connect(&good.dev).await?.channel;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await.map_err(Failure::while_doing("ask for health"))?;
    ensure(answer.into_inner().status == 1, || "not serving".to_owned())?;
    let got = good.gets().await?;
    ensure(got == ASKED, || format!("{got} of {ASKED}"))?;
    good.ca.ready().await
}

/// istio-agent and ztunnel are idle for hours between two certificates.
#[tokio::test]
async fn who_has_authenticated_stays_connected_and_who_has_not_does_not() -> Outcome {
    let good = Good::plain().await?;
    let mut known = Raw::connect(good.dev.listen, config(&good.dev)?).await?;
    let ask = signet_tests::client::ask::Ask::new(&signet_tests::client::csr::like_ztunnel(None)?.csr, "").request()?;
    let body = signet_tests::client::raw::framed(&prost::Message::encode_to_vec(ask.get_ref()));
    let authorization = format!("Bearer {}", good.dev.token("client")?);
    let answer = known.call(head(&[("authorization", &authorization)])?, body.clone()).await?;
    ensure(answer.grpc_status() == Some(0), || format!("{answer:?}"))?;
    let mut stranger = Raw::connect(good.dev.listen, config(&good.dev)?).await?;
    let answer = stranger.call(head(&[("authorization", "Bearer x.y.z")])?, body.clone()).await?;
    ensure(answer.grpc_status() == Some(16), || format!("{answer:?}"))?;
    let ended = async {
        while stranger.ping().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the stranger is still connected");
    known.ping().await?;
    let answer = known.call(head(&[("authorization", &authorization)])?, body).await?;
    ensure(answer.grpc_status() == Some(0), || format!("{answer:?}"))
}

#[tokio::test]
async fn a_proxy_header_counts_from_configured_load_balancers_only() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("proxy_protocol_from", vec!["127.0.0.99/32"])?;
    let ca = dev.start_ca().await?;
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 15012\r\n";
    let connect = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().map_err(Failure::io("make a socket"))?;
        socket.bind(format!("{from}:0").parse().unwrap()).map_err(Failure::io("bind"))?;
        let mut stream = socket.connect(dev.listen).await.map_err(Failure::io("connect"))?;
        stream.write_all(header).await.map_err(Failure::io("write"))?;
        Raw::over(stream, config(&dev)?).await
    };
    ensure(connect("127.0.0.98").await.is_err(), || "a header from anybody is believed".to_owned())?;
    let mut balanced = connect("127.0.0.99").await?;
    let answer =
        balanced.call(head(&[("authorization", "Bearer x.y.z")])?, signet_tests::client::raw::framed(&[])).await?;
    ensure(answer.grpc_status() == Some(16), || format!("{answer:?}"))?;
    ca.refused_for("token_malformed").await?;
    let event = ca.newest(&["--outcome", "refused"])?;
    ensure(event["who"]["peer"].as_str().is_some_and(|peer| peer.starts_with("192.0.2.7")), || event.to_string())
}
