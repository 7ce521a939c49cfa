//! How messages are put into bytes and taken out: protobuf, with buffers that begin at the size of most messages. Those of
//! tonic's own codec begin at 8 KiB each, for every call anew.
//!
//! The two sides of a call differ in whose fault it is that a message cannot be read: a server that is sent one tells
//! its client so with `INVALID_ARGUMENT`, while to a client an unreadable answer is a defect of the server.

use std::marker::PhantomData;

use prost::bytes::Buf;
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// How many bytes a call's buffers begin with, one for each direction; they grow with their message.
const BUFFER: usize = 1024;

/// How many bytes of messages may be sent together on a stream; tonic's own value.
const SENT_TOGETHER: usize = 32 * 1024;

/// The longest reason why a message cannot be read, in characters: a nested message is named with all that it is in.
const MAX_REASON: usize = 200;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, SENT_TOGETHER)
}

/// Protobuf for clients that send `T` and receive `U`.
#[derive(Debug, Clone)]
pub struct ClientCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ClientCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ClientCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

/// Protobuf for servers that send `T` and receive `U`, which is a message or, where the service wants to know of those
/// that cannot be read, a [`Received`] one.
#[derive(Debug, Clone)]
pub struct ServerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ServerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ServerCodec<T, U>
where
    T: Message + Send + 'static,
    U: Receive + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Receiver<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Receiver(PhantomData)
    }
}

/// What a server takes in.
pub trait Receive: Sized {
    /// Reads one message.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, which ends the call before its service hears of it.
    fn receive(bytes: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

impl<M: Message + Default> Receive for M {
    fn receive(bytes: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        M::decode(bytes).map_err(|error| Status::invalid_argument(reason(&error)))
    }
}

/// A message, or why what was sent is none: for services that count and limit those as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<M>(pub Result<M, String>);

impl<M: Message + Default> Receive for Received<M> {
    fn receive(bytes: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        let message = M::decode(&mut *bytes).map_err(|error| reason(&error));
        // What was not read of it would be taken for the next message.
        bytes.advance(bytes.remaining());
        Ok(Self(message))
    }
}

/// Reads what a server is sent.
#[derive(Debug)]
pub struct Receiver<U>(PhantomData<U>);

impl<U: Receive> Decoder for Receiver<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::receive(bytes).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Field names and what is wrong; never a value.
fn reason(error: &DecodeError) -> String {
    let text = error.to_string();
    let length = text.chars().count();
    if length <= MAX_REASON {
        return text;
    }
    // Where it is comes first, what is wrong comes last.
    let half = MAX_REASON / 2;
    let (head, tail): (String, String) =
        (text.chars().take(half).collect(), text.chars().skip(length - half).collect());
    format!("{head} ... {tail}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::istio::IstioCertificateRequest;

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        [bytes, content.to_vec()].concat()
    }

    /// `metadata` with lists in lists, so many.
    fn nested(times: usize) -> Vec<u8> {
        let list = (0..times).fold(Vec::new(), |inner, _| field(0x32, &field(0x0a, &inner)));
        field(0x22, &field(0x0a, &[field(0x0a, b"key"), field(0x12, &list)].concat()))
    }

    #[test]
    fn what_is_wrong_is_told_in_bounds_and_without_the_content() {
        for (what, bytes, told) in [
            ("a string that is not UTF-8", field(0x0a, b"secret\xff"), "UTF-8"),
            ("a metadata key that is not UTF-8", field(0x22, &field(0x0a, &field(0x0a, &[0xff]))), "UTF-8"),
            ("deep nesting", nested(200), "recursion limit"),
            ("a message that is cut off", vec![0x0a, 9, 1], ""),
            ("another wire type", vec![0x08, 1], "wire type"),
        ] {
            let error = IstioCertificateRequest::decode(bytes.as_slice()).unwrap_err();
            let text = reason(&error);
            assert!(text.contains(told) && !text.contains("secret"), "{what}: {text}");
            assert!(text.chars().count() <= MAX_REASON + 5, "{what}: {text}");
        }
        assert!(IstioCertificateRequest::decode(nested(20).as_slice()).is_ok());
    }
}
