//! Indexes in the TPM's memory, where manufacturers leave certificates.

use evidence::tpm::Fields;

use super::wire::{Authorization, Code, Command};
use super::{PROPERTY_NV_BUFFER_MAX, Tpm};
use crate::{Auth, Error, Handle};

/// `TPMA_NV_OWNERREAD`, `TPMA_NV_AUTHREAD`, `TPMA_NV_WRITTEN` (Part 2, 13.4).
const OWNER_READ: u32 = 1 << 17;
const AUTH_READ: u32 = 1 << 18;
const WRITTEN: u32 = 1 << 29;
/// Bytes that every TPM gives at a time, of those that can be asked for.
const SMALLEST_BUFFER: u16 = 512;
const LARGEST_BUFFER: u16 = 2048;

/// What an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// Its attributes (`TPMA_NV`).
    pub attributes: u32,
    /// Bytes in it.
    pub size: u16,
}

impl Tpm {
    /// `TPM2_NV_ReadPublic`; `None` if there is no such index.
    ///
    /// # Errors
    /// [`Error`].
    pub fn nv_public(&mut self, index: Handle) -> Result<Option<NvPublic>, Error> {
        const COMMAND: Command = Command { name: "TPM2_NV_ReadPublic", code: Code::NV_READ_PUBLIC };
        let answer = match self.plain(COMMAND, &[index], &[]) {
            Err(error) if error.is_absent_handle() => return Ok(None),
            answer => answer?,
        };
        let mut fields = answer.fields(0)?;
        let mut public = Fields::new("TPM2B_NV_PUBLIC", fields.sized("nvPublic")?)?;
        fields.sized("nvName")?;
        fields.end()?;
        if public.u32("nvIndex")? != index.0 {
            return Err(COMMAND.wrong("it is about another index"));
        }
        public.u16("nameAlg")?;
        let attributes = public.u32("attributes")?;
        public.sized("authPolicy")?;
        let size = public.u16("dataSize")?;
        public.end()?;
        Ok(Some(NvPublic { attributes, size }))
    }

    /// `TPM2_NV_Read`: all of an index, with its own empty password or the owner's; `None` if there is no such index, or
    /// nothing was written to it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn nv_read(&mut self, index: Handle, owner: &Auth) -> Result<Option<Vec<u8>>, Error> {
        const COMMAND: Command = Command { name: "TPM2_NV_Read", code: Code::NV_READ };
        let Some(public) = self.nv_public(index)?.filter(|public| public.attributes & WRITTEN != 0) else {
            return Ok(None);
        };
        let none = Auth::default();
        let (by, auth) = match public.attributes {
            attributes if attributes & AUTH_READ != 0 => (index, &none),
            attributes if attributes & OWNER_READ != 0 => (Handle::OWNER, owner),
            _ => return Err(COMMAND.wrong("the index may be read by a policy only")),
        };
        let most = self.property(PROPERTY_NV_BUFFER_MAX)?.and_then(|most| u16::try_from(most).ok());
        let most = most.unwrap_or(SMALLEST_BUFFER).clamp(SMALLEST_BUFFER, LARGEST_BUFFER);
        let mut content = Vec::new();
        while let Some(left) = public.size.checked_sub(offset(&content)).filter(|left| *left > 0) {
            let wanted = left.min(most);
            let parameters = [wanted.to_be_bytes(), offset(&content).to_be_bytes()].concat();
            let answer = self.run(COMMAND, &[by, index], &[Authorization::Password(auth)], &parameters)?;
            let mut fields = answer.fields(0)?;
            let part = fields.sized("data")?;
            if part.len() != usize::from(wanted) {
                return Err(COMMAND.wrong("it has another number of bytes than was asked for"));
            }
            content.extend_from_slice(part);
            fields.end()?;
        }
        Ok(Some(content))
    }
}

/// How much is read. No index has more than 64 KiB.
fn offset(content: &[u8]) -> u16 {
    u16::try_from(content.len()).unwrap_or(u16::MAX)
}
