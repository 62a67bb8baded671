//! Fields as TPMs marshal them: big-endian numbers, and bytes behind a length in 16 bits (`TPM2B`).

use super::{MAX_SIZE, TpmError};
use crate::bank::Bank;
use crate::reader::Reader;

/// Reads one structure from its front.
pub(super) struct Fields<'a> {
    structure: &'static str,
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(structure: &'static str, bytes: &'a [u8]) -> Result<Self, TpmError> {
        if bytes.len() > MAX_SIZE {
            return Err(TpmError::TooLarge { structure, found: bytes.len() });
        }
        Ok(Self { structure, reader: Reader::new(bytes) })
    }

    pub(super) fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], TpmError> {
        self.reader.take(len).ok_or(TpmError::Truncated { structure: self.structure, field })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TpmError> {
        let bytes = self.take(N, field)?;
        bytes.try_into().map_err(|_| TpmError::Truncated { structure: self.structure, field })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, TpmError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, TpmError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, TpmError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, TpmError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A `TPM2B`: its content.
    pub(super) fn sized(&mut self, field: &'static str) -> Result<&'a [u8], TpmError> {
        let len = usize::from(self.u16(field)?);
        self.take(len, field)
    }

    /// A hash function (`TPMI_ALG_HASH`).
    pub(super) fn hash(&mut self, field: &'static str) -> Result<Bank, TpmError> {
        let found = self.u16(field)?;
        Bank::from_tcg(found).ok_or(TpmError::Algorithm { structure: self.structure, field, found })
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = self.reader.rest();
        self.reader = Reader::new(&[]);
        rest
    }

    pub(super) fn algorithm(&self, field: &'static str, found: u16) -> TpmError {
        TpmError::Algorithm { structure: self.structure, field, found }
    }

    pub(super) fn value(&self, reason: &'static str) -> TpmError {
        TpmError::Value { structure: self.structure, reason }
    }

    pub(super) fn end(self) -> Result<(), TpmError> {
        match self.reader.rest().len() {
            0 => Ok(()),
            found => Err(TpmError::Trailing { structure: self.structure, found }),
        }
    }
}

/// Writes a `TPM2B`. Content of 64 KiB and more, which no structure has, is cut off.
pub(super) fn put_sized(bytes: &mut Vec<u8>, content: &[u8]) {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(content.get(..usize::from(len)).unwrap_or_default());
}
