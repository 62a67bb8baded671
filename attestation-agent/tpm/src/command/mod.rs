//! The commands (Part 3), one exchange each.

mod keys;
mod nv;
mod pcrs;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::thread::sleep;
use std::time::Duration;

use evidence::tpm::{Fields, TpmError};
use zeroize::Zeroizing;

pub use keys::Transient;
pub use nv::NvPublic;
pub use wire::HEADER_LEN;

use crate::response_code::ResponseCode;
use crate::transport::MAX_ANSWER;
use crate::{Error, Tcti, Transport};
use wire::{Code, Command};

/// How often a command is tried that a TPM is too busy for, with pauses that double.
const TRIES: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// `TPM_CAP_TPM_PROPERTIES`.
const CAP_PROPERTIES: u32 = 6;
const PROPERTY_NV_BUFFER_MAX: u32 = 0x12c;
/// Most random bytes in one answer: the largest digest that every TPM has.
const MAX_RANDOM: u16 = 32;

/// A TPM.
pub struct Tpm {
    transport: Box<dyn Transport>,
}

impl Tpm {
    /// A TPM at the other end of `transport`.
    #[must_use]
    pub fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Connects to a TPM.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(tcti: &Tcti) -> Result<Self, Error> {
        Ok(Self::new(tcti.open()?))
    }

    /// `TPM2_GetCapability` of one fixed property; `None` if the TPM does not have it.
    fn property(&mut self, property: u32) -> Result<Option<u32>, Error> {
        const COMMAND: Command = Command { name: "TPM2_GetCapability", code: Code::GET_CAPABILITY };
        let mut parameters = Vec::new();
        for number in [CAP_PROPERTIES, property, 1] {
            parameters.extend(number.to_be_bytes());
        }
        let answer = self.plain(COMMAND, &[], &parameters)?;
        let mut fields = answer.fields(0)?;
        fields.u8("moreData")?;
        if fields.u32("capability")? != CAP_PROPERTIES {
            return Err(fields.value("it is about another capability").into());
        }
        let found = match fields.u32("number of properties")? {
            0 => None,
            1 => {
                let found = fields.u32("property")?;
                let value = fields.u32("value")?;
                // A TPM that does not have it goes on with the next.
                (found == property).then_some(value)
            }
            _ => return Err(fields.value("it has more than was asked for").into()),
        };
        fields.end()?;
        Ok(found)
    }

    /// `TPM2_GetRandom`: up to 32 random bytes.
    pub(crate) fn random(&mut self, len: u16) -> Result<Vec<u8>, Error> {
        const COMMAND: Command = Command { name: "TPM2_GetRandom", code: Code::GET_RANDOM };
        let len = len.min(MAX_RANDOM);
        let answer = self.plain(COMMAND, &[], &len.to_be_bytes())?;
        let mut fields = answer.fields(0)?;
        let bytes = fields.sized("randomBytes")?.to_vec();
        fields.end()?;
        if bytes.len() != usize::from(len) {
            return Err(COMMAND.wrong("it has another number of bytes"));
        }
        Ok(bytes)
    }

    /// Sends a command; again if the TPM is too busy.
    fn send(&mut self, command: Command, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let answer = self
                .transport
                .exchange(bytes)
                .map_err(|source| Error::Exchange { command: command.name, source })?;
            let mut fields = Fields::new(command.name, answer.get(..MAX_ANSWER).unwrap_or(&answer))?;
            fields.u16("tag")?;
            if fields.u32("size")? != u32::try_from(answer.len()).unwrap_or(u32::MAX) {
                return Err(TpmError::Value {
                    structure: command.name,
                    reason: "it is not as long as it says",
                }
                .into());
            }
            match ResponseCode(fields.u32("response code")?) {
                ResponseCode::SUCCESS => return Ok(answer),
                code if code.is_transient() && tries < TRIES => {
                    sleep(pause);
                    pause *= 2;
                    tries += 1;
                }
                code => return Err(Error::Refused { command: command.name, code }),
            }
        }
    }
}
