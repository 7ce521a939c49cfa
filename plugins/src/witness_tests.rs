//! A witness over HTTP: what is sent, and what of an answer is read, however long and late it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Answers one request with these bytes, then holds the connection; gives what was asked.
async fn server(answer: Vec<u8>) -> (String, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/witness", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"the end\n") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
        // A client that has enough hangs up.
        let _written = stream.write_all(&answer).await;
        let mut rest = [0];
        let _end = stream.read(&mut rest).await;
        String::from_utf8(seen).unwrap()
    });
    (url, task)
}

fn witness(url: &str) -> HttpWitness {
    HttpWitness::new(url, None, Files::plain())
}

#[tokio::test]
async fn the_submission_is_posted_below_the_prefix_and_the_answer_is_read_whatever_its_status() {
    for (status, body) in [(200, "a line\n"), (409, "17\n"), (302, "")] {
        let head =
            format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: {}\r\n\r\n", body.len());
        let (url, mut task) = server([head.as_bytes(), body.as_bytes()].concat()).await;
        let witness = witness(&format!("{url}/"));
        let reply = witness.add_checkpoint("old 3\n\nthe end\n".to_owned()).await.unwrap();
        assert_eq!(reply, WitnessReply { status, body: body.as_bytes().to_vec() });
        drop(witness);
        let seen = task.join_next().await.unwrap().unwrap();
        assert!(seen.starts_with("POST /witness/add-checkpoint HTTP/1.1\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\nold 3\n\nthe end\n"), "{seen}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
    answer.resize(2 << 20, b'x');
    let (url, _task) = server(answer).await;
    let error = witness(&url).add_checkpoint("the end\n".to_owned()).await.unwrap_err();
    assert_eq!(error.to_string(), "its answer has more than 16384 bytes");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let (url, _task) = server(answer.as_bytes().to_vec()).await;
        let mut witness = witness(&url);
        witness.within = Duration::from_millis(200);
        let error = witness.add_checkpoint("the end\n".to_owned()).await.unwrap_err();
        assert_eq!(error.to_string(), "it has not answered within 0.2 s");
    }
}

#[tokio::test]
async fn one_that_is_not_there_and_a_file_of_roots_that_is_none_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = witness(&url).add_checkpoint(String::new()).await.unwrap_err().to_string();
    assert!(error.contains("onnect"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roots.pem");
    for (content, words) in [(None, "roots.pem: "), (Some("x"), "roots.pem: ")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let witness = HttpWitness::new("https://127.0.0.1:1", Some(file.clone()), Files::plain());
        let error = witness.add_checkpoint(String::new()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn over_tls_only_a_server_under_the_given_roots_is_a_witness() {
    use rcgen::{CertificateParams, KeyPair};
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![certificate.der().clone()];
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    let server = Arc::new(server);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut stream =
                rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&server)).unwrap(), stream.unwrap());
            let mut piece = [0; 4096];
            if stream.read(&mut piece).is_ok() {
                let _written = stream.write_all(b"HTTP/1.1 409 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n7\n");
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roots.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let under = HttpWitness::new(&url, Some(file), Files::plain());
    let reply = under.add_checkpoint("old 0\n".to_owned()).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (409, b"7\n".as_slice()));
    // Without the file, those that the public trusts.
    let error = HttpWitness::new(&url, None, Files::plain()).add_checkpoint("old 0\n".to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}
