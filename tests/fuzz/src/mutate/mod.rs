//! Changes to inputs that keep enough of their form to get past the first check.

pub mod bytes;
pub mod der;
pub mod json;
pub mod pem;
pub mod text;
pub mod wire;

use crate::random::Random;

/// One kind of change. `None` when the input is not of the form that it changes.
pub type Change = fn(&mut Random, &[u8], &Material<'_>) -> Option<Vec<u8>>;

/// What a change may borrow from.
#[derive(Debug, Clone, Copy)]
pub struct Material<'m> {
    /// Words that mean something to the reader under test.
    pub words: &'m [&'m str],
    /// Another input.
    pub other: &'m [u8],
}

/// Numbers at which readers go wrong.
pub(crate) const NUMBERS: [i64; 20] = [
    0,
    1,
    -1,
    2,
    16,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    65_536,
    2_147_483_647,
    2_147_483_648,
    4_294_967_295,
    253_402_300_799,
    253_402_300_800,
    9_007_199_254_740_993,
    i64::MAX,
    i64::MIN,
];

/// Replaces a range of `input`.
pub(crate) fn replaced(input: &[u8], range: std::ops::Range<usize>, by: &[u8]) -> Vec<u8> {
    let before = input.get(..range.start).unwrap_or_default();
    let after = input.get(range.end..).unwrap_or_default();
    [before, by, after].concat()
}
