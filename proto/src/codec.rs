//! How messages are put into bytes and taken out: protobuf, with buffers that begin at the size of most messages. Those of
//! tonic's own codec begin at 8 KiB each, for every call anew.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// How many bytes a call's buffers begin with, one for each direction; they grow with their message.
const BUFFER: usize = 1024;

/// How many bytes of messages may be sent together on a stream; tonic's own value.
const SENT_TOGETHER: usize = 32 * 1024;

/// Protobuf for calls that send `T` and receive `U`.
#[derive(Debug, Clone)]
pub struct SizedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SizedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SizedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, SENT_TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, SENT_TOGETHER))
    }
}
