//! CBOR as attestation tokens use it: one item, definite lengths only, bounded nesting, nothing after it.

use ciborium::Value;
use ciborium_ll::{Decoder, Header};
use thiserror::Error;

/// Deepest nesting that is read. A token has three levels and unknown claims a few more; without a bound, a few
/// kilobytes of opening brackets would exhaust the stack of the decoder.
pub const MAX_DEPTH: usize = 16;

/// Bytes that are not the CBOR that a token may contain. Offsets count from the start of the item that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("the item at byte {offset} is cut short")]
    Truncated {
        /// Where the incomplete item starts.
        offset: usize,
    },
    /// A byte that starts no item.
    #[error("byte {offset} is not the start of a CBOR item")]
    Malformed {
        /// Where.
        offset: usize,
    },
    /// An item of indefinite length.
    #[error("the item at byte {offset} has indefinite length, which attestation tokens may not use")]
    IndefiniteLength {
        /// Where.
        offset: usize,
    },
    /// Too many items inside each other.
    #[error("items nest deeper than {MAX_DEPTH} levels at byte {offset}")]
    TooDeep {
        /// Where.
        offset: usize,
    },
    /// Bytes after the item.
    #[error("unexpected bytes follow the item, from byte {offset}")]
    Trailing {
        /// Where.
        offset: usize,
    },
    /// A well-formed item with content that has no meaning, such as text that is not UTF-8.
    #[error("the item contains text that is not UTF-8, or an unassigned simple value")]
    Content,
}

/// Reads `bytes` as exactly one item.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, CborError> {
    check(bytes)?;
    ciborium::from_reader(bytes).map_err(|_| CborError::Content)
}

/// Writes one item.
#[expect(
    clippy::expect_used,
    reason = "a Value holds nothing that cannot be written, and memory takes every write"
)]
pub(crate) fn write(item: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(item, &mut bytes).expect("a CBOR value is always serialisable");
    bytes
}

/// The general decoder forgives indefinite lengths and trusts announced ones; this pass does neither.
fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut rest = bytes;
    // How many items each open array, map or tag still waits for.
    let mut open: Vec<usize> = Vec::with_capacity(MAX_DEPTH);
    loop {
        let offset = bytes.len() - rest.len();
        let truncated = CborError::Truncated { offset };
        let mut decoder = Decoder::from(rest);
        let header = decoder.pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => truncated,
            ciborium_ll::Error::Syntax(_) => CborError::Malformed { offset },
        })?;
        rest = rest.get(decoder.offset()..).ok_or(truncated)?;
        let children = match header {
            Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => 0,
            Header::Break => return Err(CborError::Malformed { offset }),
            Header::Bytes(None) | Header::Text(None) | Header::Array(None) | Header::Map(None) => {
                return Err(CborError::IndefiniteLength { offset });
            }
            Header::Bytes(Some(len)) | Header::Text(Some(len)) => {
                rest = rest.get(len..).ok_or(truncated)?;
                0
            }
            Header::Array(Some(items)) => items,
            Header::Map(Some(pairs)) => pairs.checked_mul(2).ok_or(truncated)?,
            Header::Tag(_) => 1,
        };
        // Each item takes a byte at least. Without this a short token could announce, and make us walk, 2^64 items.
        if children > rest.len() {
            return Err(truncated);
        }
        if children > 0 {
            if open.len() == MAX_DEPTH {
                return Err(CborError::TooDeep { offset });
            }
            open.push(children);
            continue;
        }
        while let Some(waiting) = open.last_mut() {
            *waiting -= 1;
            if *waiting > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(CborError::Trailing { offset: bytes.len() - rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_form_of_indefinite_length() {
        for bytes in [&b"\x5f\x41a\xff"[..], b"\x7f\x61a\xff", b"\x9f\x01\xff", b"\xbf\x01\x02\xff"] {
            assert_eq!(read(bytes), Err(CborError::IndefiniteLength { offset: 0 }));
        }
        assert_eq!(read(b"\x82\x01\x9f\xff"), Err(CborError::IndefiniteLength { offset: 2 }));
    }

    #[test]
    fn refuses_bytes_after_the_item() {
        assert_eq!(read(b"\x82\x01\x02\x00"), Err(CborError::Trailing { offset: 3 }));
    }

    #[test]
    fn refuses_more_items_than_bytes() {
        for bytes in [
            &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x83\x01\x02",
            b"",
        ] {
            assert_eq!(read(bytes), Err(CborError::Truncated { offset: 0 }));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for opening in [0x81u8, 0xc6] {
            let mut bytes = vec![opening; MAX_DEPTH];
            bytes.push(0);
            assert!(read(&bytes).is_ok());
            bytes.insert(0, opening);
            assert_eq!(read(&bytes), Err(CborError::TooDeep { offset: MAX_DEPTH }));
        }
    }

    #[test]
    fn refuses_reserved_heads_stray_breaks_and_bad_text() {
        assert_eq!(read(b"\x1c"), Err(CborError::Malformed { offset: 0 }));
        assert_eq!(read(b"\xff"), Err(CborError::Malformed { offset: 0 }));
        assert_eq!(read(b"\x61\xff"), Err(CborError::Content));
    }
}
