//! The distinguished encoding of ASN.1 (X.690 sections 8, 10 and 11), read strictly and without copying: what BER allows
//! beside it is refused, as BoringSSL refuses it. What the elements mean is not looked at here.

use time::{Date, Month};

/// Tags of elements, class and construction included (X.690 section 8.1.2).
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
}

/// How deep elements may lie in each other; certificates and lists need about ten.
const MAX_DEPTH: usize = 32;

/// What is wrong with an encoding, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (byte {at})")]
pub struct Flaw {
    /// What is there.
    pub what: &'static str,
    /// At which byte, from 0.
    pub at: usize,
}

/// Elements one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begin in the whole.
    at: usize,
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Where the element begins, and where its content does.
    at: usize,
    content_at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn flaw<T>(&self, what: &'static str) -> Result<T, Flaw> {
        Err(Flaw { what, at: self.at })
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), Flaw> {
        if self.is_at_end() { Ok(()) } else { self.flaw("something follows that does not belong there") }
    }

    pub(crate) fn has(&self, tag: u8) -> bool {
        self.bytes.first() == Some(&tag)
    }

    /// The next element, which has this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Flaw> {
        if self.has(tag) {
            self.next()
        } else {
            self.flaw("something is missing, or of another type than belongs there")
        }
    }

    /// The next element, if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Flaw> {
        if self.has(tag) { self.next().map(Some) } else { Ok(None) }
    }

    fn byte(&mut self) -> Result<u8, Flaw> {
        match self.bytes.split_first() {
            None => self.flaw("it is cut short"),
            Some((first, rest)) => {
                (self.bytes, self.at) = (rest, self.at.saturating_add(1));
                Ok(*first)
            }
        }
    }

    /// The next element: its tag and its length are the shortest possible, and it is whole.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Flaw> {
        let at = self.at;
        let tag = self.byte()?;
        if tag & 0x1f == 0x1f {
            self.high_tag_number()?;
        }
        let length = self.length()?;
        let Some((content, rest)) = self.bytes.split_at_checked(length) else { return self.flaw("it is cut short") };
        let element = Element { tag, content, at, content_at: self.at };
        (self.bytes, self.at) = (rest, self.at.saturating_add(length));
        Ok(element)
    }

    /// X.690 section 8.1.2.4.2.
    fn high_tag_number(&mut self) -> Result<(), Flaw> {
        let first = self.byte()?;
        if first == 0x80 || first < 0x1f {
            return self.flaw("a tag is longer than it need be (BER)");
        }
        let mut last = first;
        while last & 0x80 != 0 {
            last = self.byte()?;
        }
        Ok(())
    }

    /// X.690 sections 8.1.3 and 10.1.
    fn length(&mut self) -> Result<usize, Flaw> {
        let first = self.byte()?;
        let count = match first {
            0..0x80 => return Ok(usize::from(first)),
            0x80 => return self.flaw("a length is left open (BER)"),
            0x81..=0x84 => first & 0x7f,
            _ => return self.flaw("a length is absurd"),
        };
        let mut length: u32 = 0;
        for _ in 0..count {
            length = length << 8 | u32::from(self.byte()?);
        }
        // As many bytes as it needs, and not so few that the short form would do.
        let needed = u32::BITS.saturating_sub(length.leading_zeros()).div_ceil(8);
        if length < 0x80 || needed != u32::from(count) {
            return self.flaw("a length is written with more bytes than it needs (BER)");
        }
        usize::try_from(length).or_else(|_| self.flaw("a length is absurd"))
    }
}

impl<'a> Element<'a> {
    /// The elements in it.
    pub(crate) fn elements(&self) -> Reader<'a> {
        Reader { bytes: self.content, at: self.content_at }
    }

    pub(crate) fn flaw<T>(&self, what: &'static str) -> Result<T, Flaw> {
        Err(Flaw { what, at: self.at })
    }

    /// Checks it and everything in it.
    fn check(&self, depth: usize) -> Result<(), Flaw> {
        let flaw_if = |is_bad: bool, what| if is_bad { self.flaw(what) } else { Ok(()) };
        let content = self.content;
        match self.tag {
            0x00 | 0x20 => self.flaw("an element has no type (BER)"),
            tag::BOOLEAN => flaw_if(!matches!(content, [0] | [0xff]), "a BOOLEAN is neither 00 nor FF (BER)"),
            tag::INTEGER | tag::ENUMERATED => flaw_if(
                matches!(content, [] | [0, 0..0x80, ..] | [0xff, 0x80..=0xff, ..]),
                "an INTEGER is written with more bytes than it needs (BER)",
            ),
            tag::BIT_STRING => self.check_bits(),
            tag::NULL => flaw_if(!content.is_empty(), "a NULL is not empty"),
            tag::OBJECT_IDENTIFIER => flaw_if(!is_identifier(content), "an OBJECT IDENTIFIER is none"),
            tag::UTF8_STRING => flaw_if(std::str::from_utf8(content).is_err(), "a UTF8String is not UTF-8"),
            tag::BMP_STRING => flaw_if(!is_bmp(content), "a BMPString is none"),
            tag::UNIVERSAL_STRING => flaw_if(!is_universal(content), "a UniversalString is none"),
            tag::UTC_TIME => flaw_if(!is_utc_time(content), "a UTCTime is none"),
            tag::GENERALIZED_TIME => flaw_if(!is_generalized_time(content), "a GeneralizedTime is none"),
            tag::SEQUENCE | tag::SET => self.check_inside(depth),
            0x10 | 0x11 => self.flaw("a SEQUENCE or SET is not made of elements"),
            0x21..=0x3f => self.flaw("a string is written in pieces (BER)"),
            // Of another class: made of elements, or of whatever its place in the structure says.
            other if other & 0x20 != 0 => self.check_inside(depth),
            _ => Ok(()),
        }
    }

    fn check_inside(&self, depth: usize) -> Result<(), Flaw> {
        let Some(depth) = depth.checked_sub(1) else { return self.flaw("its elements lie too deep in each other") };
        let mut elements = self.elements();
        while !elements.is_at_end() {
            elements.next()?.check(depth)?;
        }
        Ok(())
    }

    /// X.690 sections 8.6.2 and 11.2.1: bits that are left over are zero.
    pub(crate) fn check_bits(&self) -> Result<(), Flaw> {
        let is_good = match self.content {
            [0] => true,
            [unused @ 0..=7, .., last] => last.trailing_zeros() >= u32::from(*unused),
            _ => false,
        };
        if is_good { Ok(()) } else { self.flaw("a BIT STRING is none, or has bits where none are left (BER)") }
    }
}

/// Checks that the bytes are one element, and nothing in it written otherwise than DER has it.
///
/// Not looked at: the order in a SET, defaults that are written out, and characters in names that Unicode has set apart;
/// OpenSSL and BoringSSL let the first two pass.
///
/// # Errors
/// The first [`Flaw`]; total on any input.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Flaw> {
    let mut reader = Reader::new(bytes);
    reader.next()?.check(MAX_DEPTH)?;
    reader.end()
}

/// X.690 section 8.19.2: each part is as short as it can be, and the last one is whole.
fn is_identifier(content: &[u8]) -> bool {
    let is_padded = |(at, byte): (usize, &u8)| {
        *byte == 0x80 && at.checked_sub(1).and_then(|at| content.get(at)).is_none_or(|before| before & 0x80 == 0)
    };
    content.last().is_some_and(|last| last & 0x80 == 0) && !content.iter().enumerate().any(is_padded)
}

fn is_bmp(content: &[u8]) -> bool {
    let (pairs, rest) = content.as_chunks::<2>();
    rest.is_empty() && pairs.iter().all(|pair| char::from_u32(u32::from(u16::from_be_bytes(*pair))).is_some())
}

fn is_universal(content: &[u8]) -> bool {
    let (characters, rest) = content.as_chunks::<4>();
    rest.is_empty() && characters.iter().all(|bytes| char::from_u32(u32::from_be_bytes(*bytes)).is_some())
}

/// `YYMMDDhhmmssZ`, or with an offset, which RFC 5280 section 4.1.2.5.1 does not allow and BoringSSL does.
fn is_utc_time(content: &[u8]) -> bool {
    let Some((time, zone)) = content.split_at_checked(12) else { return false };
    let is_zone = match zone {
        b"Z" => true,
        [b'+' | b'-', offset @ ..] => offset.len() == 4 && offset.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let year = number(time.get(..2))
        .map(|year| if year < 50 { 2000_u16.saturating_add(year) } else { 1900_u16.saturating_add(year) });
    is_zone && is_moment(year, time.get(2..))
}

/// `YYYYMMDDhhmmssZ` (RFC 5280 section 4.1.2.5.2).
fn is_generalized_time(content: &[u8]) -> bool {
    let Some((time, zone)) = content.split_at_checked(14) else { return false };
    zone == b"Z" && is_moment(number(time.get(..4)), time.get(4..))
}

fn is_moment(year: Option<u16>, rest: Option<&[u8]>) -> bool {
    let part = |at: usize| number(rest.and_then(|rest| rest.get(at..at.saturating_add(2))));
    let month = part(0).and_then(|month| Month::try_from(u8::try_from(month).ok()?).ok());
    let day = part(2).and_then(|day| u8::try_from(day).ok());
    let (Some(year), Some(month), Some(day)) = (year, month, day) else { return false };
    let is_in = |at, limit| part(at).is_some_and(|number| number < limit);
    Date::from_calendar_date(i32::from(year), month, day).is_ok() && is_in(4, 24) && is_in(6, 60) && is_in(8, 60)
}

fn number(digits: Option<&[u8]>) -> Option<u16> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_ber_allows_beside_der_is_refused_and_where_it_is() {
        for (bytes, what) in [
            (&b"\x30\x80\0\0"[..], Some("a length is left open (BER)")),
            (b"\x30\x81\x03\x02\x01\x05", Some("a length is written with more bytes than it needs (BER)")),
            (b"\x04\x82\0\x80", Some("a length is written with more bytes than it needs (BER)")),
            (b"\x04\x85\0\0\0\0\x01a", Some("a length is absurd")),
            (b"\x30\x03\x02\x01", Some("it is cut short")),
            (b"\x30\x03\x02\x01\x05x", Some("something follows that does not belong there")),
            (b"\x02\x02\0\x7f", Some("an INTEGER is written with more bytes than it needs (BER)")),
            (b"\x02\x02\xff\x80", Some("an INTEGER is written with more bytes than it needs (BER)")),
            (b"\x02\0", Some("an INTEGER is written with more bytes than it needs (BER)")),
            (b"\x02\x02\0\x80", None),
            (b"\x02\x01\xff", None),
            (b"\x01\x01\x01", Some("a BOOLEAN is neither 00 nor FF (BER)")),
            (b"\x01\x01\xff", None),
            (b"\x03\x02\x01\x01", Some("a BIT STRING is none, or has bits where none are left (BER)")),
            (b"\x03\x02\x08\0", Some("a BIT STRING is none, or has bits where none are left (BER)")),
            (b"\x03\x01\x01", Some("a BIT STRING is none, or has bits where none are left (BER)")),
            (b"\x03\x02\x01\xfe", None),
            (b"\x03\x01\0", None),
            (b"\x05\x01\0", Some("a NULL is not empty")),
            (b"\x06\x03\x2a\x80\x03", Some("an OBJECT IDENTIFIER is none")),
            (b"\x06\x02\x2a\x83", Some("an OBJECT IDENTIFIER is none")),
            (b"\x06\x03\x2a\x83\0", None),
            (b"\x0c\x01\xfc", Some("a UTF8String is not UTF-8")),
            (b"\x1e\x03\0a\0", Some("a BMPString is none")),
            (b"\x1e\x02\xd8\0", Some("a BMPString is none")),
            (b"\x1e\x02\0a", None),
            (b"\x1c\x04\0\x11\0\0", Some("a UniversalString is none")),
            (b"\x24\x03\x04\x01a", Some("a string is written in pieces (BER)")),
            (b"\x17\x0d260230000000Z", Some("a UTCTime is none")),
            (b"\x17\x0b2602010000Z", Some("a UTCTime is none")),
            (b"\x17\x0d260201000000z", Some("a UTCTime is none")),
            (b"\x17\x0d260201000000Z", None),
            (b"\x18\x1120260201000000.5Z", Some("a GeneralizedTime is none")),
            (b"\x18\x0f20260201000000Z", None),
            (b"\x1f\x1e\0", Some("a tag is longer than it need be (BER)")),
            (b"\x9f\x1f\0", None),
            (b"\0\0", Some("an element has no type (BER)")),
            (b"", Some("it is cut short")),
        ] {
            assert_eq!(check(bytes).err().map(|flaw| flaw.what), what, "{bytes:x?}");
        }
        assert_eq!(check(b"\x30\x06\x02\x01\x05\x01\x01\x02").unwrap_err().at, 5);
        let deep = (0..40)
            .fold(Vec::new(), |inner: Vec<u8>, _| [&[0x30, u8::try_from(inner.len()).unwrap()], &*inner].concat());
        assert_eq!(check(&deep).unwrap_err().what, "its elements lie too deep in each other");
    }

    proptest! {
        #[test]
        fn checking_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _result = check(&bytes);
        }

        #[test]
        fn every_length_is_read_back_in_its_shortest_form_alone(length in 0_usize..70_000, more in 1_usize..3) {
            let bytes = length.to_be_bytes();
            let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
            let long = |pad: usize| {
                let count = u8::try_from(significant.len() + pad).unwrap();
                [&[4, 0x80 | count], &*vec![0; pad], &*significant, &*vec![7; length]].concat()
            };
            let short = if length < 128 { [vec![4, bytes[7]], vec![7; length]].concat() } else { long(0) };
            prop_assert!(check(&short).is_ok());
            prop_assert!(check(&long(more)).is_err());
        }
    }
}
