//! Who is told what happens in the ledger.

use crate::session::Acknowledgement;

/// Is told what happens, to count it. Calls are short and come from many tasks.
pub trait Observer: Send + Sync + 'static {
    /// A stream was opened.
    fn opened(&self) {}
    /// A stream has ended.
    fn closed(&self) {}
    /// A response was handed to the transport.
    fn pushed(&self) {}
    /// A client applied a response.
    fn acknowledged(&self) {}
    /// A client could not apply a response.
    fn refused(&self) {}
    /// A client asks for a name that is not served, now or later.
    fn unserved(&self) {}
}

/// Counts nothing.
impl Observer for () {}

/// Is told what the client of one stream says about each secret, by its version in the snapshot. Calls are short and come in
/// order. Dropped with the stream, after which nothing follows.
pub trait AcknowledgementListener: Send + Sync + 'static {
    /// The client has said so: once per content, and again after another answer. Said again by [`Ledger::repeat`] if need be.
    ///
    /// [`Ledger::repeat`]: super::Ledger::repeat
    fn heard(&self, acknowledgement: &Acknowledgement);
}
