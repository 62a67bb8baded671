//! Fields as TPMs marshal them: big-endian numbers, and bytes behind a length in 16 bits (`TPM2B`).

use super::{MAX_SIZE, TpmError};
use crate::bank::Bank;
use crate::reader::Reader;

/// Reads one structure from its front.
pub struct Fields<'a> {
    structure: &'static str,
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    /// Reads `bytes`, which messages call `structure`.
    ///
    /// # Errors
    /// [`TpmError::TooLarge`] above [`MAX_SIZE`] bytes.
    pub fn new(structure: &'static str, bytes: &'a [u8]) -> Result<Self, TpmError> {
        if bytes.len() > MAX_SIZE {
            return Err(TpmError::TooLarge { structure, found: bytes.len() });
        }
        Ok(Self { structure, reader: Reader::new(bytes) })
    }

    /// The next `len` bytes. Messages call them `field`, here and below.
    ///
    /// # Errors
    /// [`TpmError::Truncated`] if there are not as many.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], TpmError> {
        self.reader.take(len).ok_or(TpmError::Truncated { structure: self.structure, field })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TpmError> {
        let bytes = self.take(N, field)?;
        bytes.try_into().map_err(|_| TpmError::Truncated { structure: self.structure, field })
    }

    /// A byte.
    ///
    /// # Errors
    /// [`TpmError::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, TpmError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// A number of 16 bits.
    ///
    /// # Errors
    /// [`TpmError::Truncated`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, TpmError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// [`TpmError::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, TpmError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    /// [`TpmError::Truncated`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, TpmError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A `TPM2B`: its content.
    ///
    /// # Errors
    /// [`TpmError::Truncated`].
    pub fn sized(&mut self, field: &'static str) -> Result<&'a [u8], TpmError> {
        let len = usize::from(self.u16(field)?);
        self.take(len, field)
    }

    /// A hash function (`TPMI_ALG_HASH`).
    ///
    /// # Errors
    /// [`TpmError`] if it is none that is known.
    pub fn hash(&mut self, field: &'static str) -> Result<Bank, TpmError> {
        let found = self.u16(field)?;
        Bank::from_tcg(found).ok_or(TpmError::Algorithm { structure: self.structure, field, found })
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.reader.rest();
        self.reader = Reader::new(&[]);
        rest
    }

    /// The error that says which algorithm has no place in `field`.
    #[must_use]
    pub fn algorithm(&self, field: &'static str, found: u16) -> TpmError {
        TpmError::Algorithm { structure: self.structure, field, found }
    }

    /// The error that says what is wrong with the structure.
    #[must_use]
    pub fn value(&self, reason: &'static str) -> TpmError {
        TpmError::Value { structure: self.structure, reason }
    }

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// [`TpmError::Trailing`].
    pub fn end(self) -> Result<(), TpmError> {
        match self.reader.rest().len() {
            0 => Ok(()),
            found => Err(TpmError::Trailing { structure: self.structure, found }),
        }
    }
}

/// Writes a `TPM2B`. Content of 64 KiB and more, which no structure has, is cut off.
pub fn put_sized(bytes: &mut Vec<u8>, content: &[u8]) {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(content.get(..usize::from(len)).unwrap_or_default());
}
