//! Commands and answers as bytes (Part 1, 18 and 19).

use evidence::tpm::{Fields, TpmError};
use zeroize::Zeroizing;

use super::Tpm;
use crate::{Auth, Error, Handle};

/// Tag, size and code.
pub const HEADER_LEN: usize = 10;
const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
/// `TPMA_SESSION.continueSession`: the session is still there afterwards.
const CONTINUE_SESSION: u8 = 1;

/// Handle, length of the nonce, attributes and length of the password.
const AUTH_COMMAND_LEN: usize = 4 + 2 + 1 + 2;

/// A command code (`TPM_CC`, Part 2, 6.5.2).
#[derive(Clone, Copy)]
pub struct Code(u32);

impl Code {
    pub const EVICT_CONTROL: Self = Self(0x120);
    pub const CREATE_PRIMARY: Self = Self(0x131);
    pub const ACTIVATE_CREDENTIAL: Self = Self(0x147);
    pub const CERTIFY: Self = Self(0x148);
    pub const NV_READ: Self = Self(0x14e);
    pub const POLICY_SECRET: Self = Self(0x151);
    pub const QUOTE: Self = Self(0x158);
    pub const FLUSH_CONTEXT: Self = Self(0x165);
    pub const NV_READ_PUBLIC: Self = Self(0x169);
    pub const READ_PUBLIC: Self = Self(0x173);
    pub const START_AUTH_SESSION: Self = Self(0x176);
    pub const GET_CAPABILITY: Self = Self(0x17a);
    pub const GET_RANDOM: Self = Self(0x17b);
    pub const PCR_READ: Self = Self(0x17e);
}

/// A command, and what messages call it.
#[derive(Clone, Copy)]
pub struct Command {
    pub name: &'static str,
    pub code: Code,
}

impl Command {
    /// The error that says what is wrong with an answer.
    pub const fn wrong(self, problem: &'static str) -> Error {
        Error::Wrong { command: self.name, problem }
    }
}

/// What authorises the use of a handle.
#[derive(Clone, Copy)]
pub enum Authorization<'a> {
    /// A password, which may be empty.
    Password(&'a Auth),
    /// A policy session that has what the policy wants.
    Policy(Handle),
}

/// A whole answer with the response code of success.
pub struct Answer {
    command: Command,
    bytes: Zeroizing<Vec<u8>>,
    sessions: bool,
}

impl Answer {
    /// The fields that follow the header and `handles` handles: the parameters, without what sessions add.
    pub fn fields(&self, handles: usize) -> Result<Fields<'_>, Error> {
        let structure = self.command.name;
        let mut fields = Fields::new(structure, &self.bytes)?;
        let tag = fields.u16("tag")?;
        fields.take(HEADER_LEN - 2 + 4 * handles, "header")?;
        let expected = if self.sessions { TAG_SESSIONS } else { TAG_NO_SESSIONS };
        if tag != expected {
            return Err(TpmError::Value { structure, reason: "its tag is another than the command's" }.into());
        }
        if !self.sessions {
            return Ok(Fields::new(structure, fields.rest())?);
        }
        let len = usize::try_from(fields.u32("size of the parameters")?).unwrap_or(usize::MAX);
        Ok(Fields::new(structure, fields.take(len, "parameters")?)?)
    }

    /// The handle in front of the parameters.
    pub fn handle(&self) -> Result<Handle, Error> {
        let mut fields = Fields::new(self.command.name, &self.bytes)?;
        fields.take(HEADER_LEN, "header")?;
        Ok(Handle(fields.u32("handle")?))
    }
}

impl Tpm {
    /// A command that nothing must authorise.
    pub fn plain(
        &mut self,
        command: Command,
        handles: &[Handle],
        parameters: &[u8],
    ) -> Result<Answer, Error> {
        self.run(command, handles, &[], parameters)
    }

    /// A command whose first handles are used by authorisation.
    pub fn run(
        &mut self,
        command: Command,
        handles: &[Handle],
        authorizations: &[Authorization<'_>],
        parameters: &[u8],
    ) -> Result<Answer, Error> {
        let sessions = !authorizations.is_empty();
        let area = authorization_area(authorizations);
        let area_size = sessions.then(|| size(area.len()).to_be_bytes());
        let area_len = area_size.map_or(0, |size| size.len() + area.len());
        let len = HEADER_LEN + 4 * handles.len() + area_len + parameters.len();
        let mut bytes = wiped(len);
        bytes.extend(if sessions { TAG_SESSIONS } else { TAG_NO_SESSIONS }.to_be_bytes());
        bytes.extend(size(len).to_be_bytes());
        bytes.extend(command.code.0.to_be_bytes());
        for handle in handles {
            bytes.extend(handle.0.to_be_bytes());
        }
        bytes.extend(area_size.into_iter().flatten());
        bytes.extend_from_slice(&area);
        bytes.extend_from_slice(parameters);
        let bytes = self.send(command, &bytes)?;
        Ok(Answer { command, bytes, sessions })
    }
}

/// One `TPMS_AUTH_COMMAND` for each handle that needs it.
fn authorization_area(authorizations: &[Authorization<'_>]) -> Zeroizing<Vec<u8>> {
    let parts = authorizations.iter().map(|authorization| match authorization {
        Authorization::Password(auth) => (Handle::PASSWORD, auth.as_bytes()),
        Authorization::Policy(session) => (*session, &[][..]),
    });
    let mut area = wiped(parts.clone().map(|(_, password)| AUTH_COMMAND_LEN + password.len()).sum());
    for (session, password) in parts {
        area.extend(session.0.to_be_bytes());
        evidence::tpm::put_sized(&mut area, &[]);
        area.push(CONTINUE_SESSION);
        evidence::tpm::put_sized(&mut area, password);
    }
    area
}

/// Room for so many bytes, which are wiped when it is dropped. What outgrows it leaves bytes behind.
fn wiped(len: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(len))
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that had to grow was moved, and what was in it stays where it was.
    #[test]
    fn passwords_are_where_they_are_wiped() {
        let auth = Auth::new(Zeroizing::new(b"secret".to_vec()));
        let authorizations = [Authorization::Password(&auth), Authorization::Policy(Handle(7))];
        let area = authorization_area(&authorizations);
        assert_eq!((area.len(), area.capacity()), (24, 24));
        assert!(area.windows(6).any(|bytes| bytes == b"secret"));
    }
}
