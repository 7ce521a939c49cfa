//! The PROXY protocol, versions 1 and 2: a load balancer that passes connections on says first where they come from. It is
//! believed from configured addresses only: anybody else could claim any address.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header has at least: version 2 begins with as many fixed bytes, and version 1 is longer.
const BEGINNING: usize = v2::PROTOCOL_PREFIX.len();

/// The longest header of version 1, with its line end, as the protocol gives it.
const LONGEST_LINE: usize = 107;

/// The most that is read of version 2 behind its fixed part: addresses, and what load balancers add.
const LONGEST_REST: usize = 2048;

/// Reads the header of a connection, and not one byte more. `None` when the load balancer speaks for itself (a health
/// check), in which case its own address counts.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when there is no such header, or one that is too long.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; BEGINNING];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        let rest = stream.read_u32().await?;
        header.extend_from_slice(&rest.to_be_bytes());
        // The last two of these four bytes are the length of what follows.
        let length = usize::from(rest as u16);
        if length > LONGEST_REST {
            return Err(invalid(&format!("{length} bytes of addresses and additions are more than any has")));
        }
        let fixed = header.len();
        header.resize(fixed + length, 0);
        stream.read_exact(header.get_mut(fixed..).unwrap_or_default()).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_LINE {
                return Err(invalid("its line does not end"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(invalid("there is none, but the address is configured as a load balancer (proxy_protocol_from)"));
    }
    source(&HeaderResult::parse(&header))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a wrong PROXY header: {what}"))
}

fn source(header: &HeaderResult<'_>) -> io::Result<Option<SocketAddr>> {
    match header {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(found) => Some((found.source_address, found.source_port).into()),
            v1::Addresses::Tcp6(found) => Some((found.source_address, found.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(found) => Some((found.source_address, found.source_port).into()),
            v2::Addresses::IPv6(found) => Some((found.source_address, found.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(error)) => Err(invalid(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(invalid(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn version2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, content].concat()
    }

    #[tokio::test]
    async fn the_first_address_is_the_clients_and_nothing_of_what_follows_is_read() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x3a, 0xa4];
        let with_extras = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        for (header, found) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 15012\r\n".to_vec(), Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::1 ::1 8080 15012\r\n".to_vec(), Some("[2001:db8::1]:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version2(0x21, 0x11, &v4), Some("192.0.2.7:8080")),
            (version2(0x21, 0x11, &with_extras), Some("192.0.2.7:8080")),
            (version2(0x21, 0x21, &v6), Some("[::1]:7")),
            (version2(0x20, 0x00, &[]), None),
        ] {
            let sent = [&header[..], b"\x16\x03\x01hello"].concat();
            let mut stream = &sent[..];
            let address = read(&mut stream).await.unwrap();
            assert_eq!(address.map(|address| address.to_string()).as_deref(), found, "{header:?}");
            assert_eq!(stream, b"\x16\x03\x01hello", "{header:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused_before_much_is_read() {
        let huge = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat();
        for sent in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
            b"PROXY TCP4 nonsense\r\n".to_vec(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            [b"PROXY TCP4 ".as_slice(), &[b'1'; 4096]].concat(),
            version2(0x21, 0x11, &[1, 2, 3]),
            version2(0x35, 0x11, &[0; 12]),
            huge,
            Vec::new(),
        ] {
            let mut stream = &sent[..];
            assert!(read(&mut stream).await.is_err(), "{sent:?}");
            assert!(sent.len() - stream.len() <= LONGEST_REST, "{}", sent.len() - stream.len());
        }
    }
}
