//! Keys: made, looked at, kept, used and let go.

use evidence::tpm::{Attest, EncryptedSecret, IdObject, PcrSelection, Public, Signature, put_sized};
use zeroize::Zeroizing;

use super::Tpm;
use super::wire::{Answer, Authorization, Code, Command};
use crate::{Auth, Error, Handle};

/// A key that takes room in the TPM until it is flushed ([`Tpm::flush`]).
#[derive(Clone, Debug)]
pub struct Transient {
    /// Where it is.
    pub handle: Handle,
    /// What it is.
    pub public: Public,
}

/// What a TPM says of itself: the bytes that are signed, and their signature.
pub(crate) struct Statement {
    pub(crate) attest: Vec<u8>,
    pub(crate) decoded: Attest,
    pub(crate) signature: Signature,
}

/// `TPM_ALG_NULL`: no scheme besides the key's own.
const ALG_NULL: u16 = 0x0010;

impl Tpm {
    /// `TPM2_CreatePrimary`: the key that the seed of a hierarchy gives for a template, always the same.
    ///
    /// # Errors
    /// [`Error`].
    pub fn create_primary(
        &mut self,
        hierarchy: Handle,
        auth: &Auth,
        template: &Public,
    ) -> Result<Transient, Error> {
        const COMMAND: Command = Command { name: "TPM2_CreatePrimary", code: Code::CREATE_PRIMARY };
        let mut parameters = Vec::new();
        // No authorisation value and no data; nothing from outside; no registers.
        put_sized(&mut parameters, &[0; 4]);
        parameters.extend(template.encode_sized());
        put_sized(&mut parameters, &[]);
        PcrSelection::encode_list(&[], &mut parameters);
        let answer = self.run(COMMAND, &[hierarchy], &[Authorization::Password(auth)], &parameters)?;
        let handle = answer.handle()?;
        let made = (|| {
            let mut fields = answer.fields(1)?;
            let public = Public::decode(fields.sized("outPublic")?)?;
            fields.sized("creationData")?;
            fields.sized("creationHash")?;
            fields.u16("tag of the ticket")?;
            fields.u32("hierarchy of the ticket")?;
            fields.sized("digest of the ticket")?;
            let name = fields.sized("name")?;
            if name != public.name().as_bytes() {
                return Err(COMMAND.wrong("the name is not that of the public area"));
            }
            fields.end()?;
            Ok(Transient { handle, public })
        })();
        self.or_flush(handle, made)
    }

    /// `TPM2_ReadPublic`: the public area of a key that is loaded or persistent; `None` if there is none.
    ///
    /// # Errors
    /// [`Error`]: also for a key of another kind than RSA and elliptic curves.
    pub fn read_public(&mut self, handle: Handle) -> Result<Option<Public>, Error> {
        const COMMAND: Command = Command { name: "TPM2_ReadPublic", code: Code::READ_PUBLIC };
        let answer = match self.plain(COMMAND, &[handle], &[]) {
            Err(error) if error.is_absent_handle() => return Ok(None),
            answer => answer?,
        };
        let mut fields = answer.fields(0)?;
        let public = Public::decode(fields.sized("outPublic")?)?;
        if fields.sized("name")? != public.name().as_bytes() {
            return Err(COMMAND.wrong("the name is not that of the public area"));
        }
        fields.sized("qualifiedName")?;
        fields.end()?;
        Ok(Some(public))
    }

    /// `TPM2_EvictControl`: keeps a copy of a loaded key at a persistent handle.
    ///
    /// # Errors
    /// [`Error`].
    pub fn persist(&mut self, key: Handle, at: Handle, owner: &Auth) -> Result<(), Error> {
        const COMMAND: Command = Command { name: "TPM2_EvictControl", code: Code::EVICT_CONTROL };
        let authorization = [Authorization::Password(owner)];
        let answer = self.run(COMMAND, &[Handle::OWNER, key], &authorization, &at.0.to_be_bytes())?;
        Ok(answer.fields(0)?.end()?)
    }

    /// `TPM2_ActivateCredential`: opens a credential that was made for `key` and the endorsement key `endorsement`, which a
    /// policy session authorises.
    ///
    /// # Errors
    /// [`Error`]: also if it was made for other keys.
    pub(crate) fn open_credential(
        &mut self,
        key: Handle,
        endorsement: (Handle, Handle),
        credential: &IdObject,
        secret: &EncryptedSecret,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        const COMMAND: Command = Command { name: "TPM2_ActivateCredential", code: Code::ACTIVATE_CREDENTIAL };
        let (endorsement, session) = endorsement;
        let parameters = [credential.encode(), secret.encode()].concat();
        let none = Auth::default();
        let authorizations = [Authorization::Password(&none), Authorization::Policy(session)];
        let answer = self.run(COMMAND, &[key, endorsement], &authorizations, &parameters)?;
        let mut fields = answer.fields(0)?;
        let opened = Zeroizing::new(fields.sized("certInfo")?.to_vec());
        fields.end()?;
        Ok(opened)
    }

    /// `TPM2_Quote`, with the scheme that the key has.
    pub(crate) fn sign_quote(
        &mut self,
        key: Handle,
        qualifying: &[u8],
        selection: &[PcrSelection],
    ) -> Result<Statement, Error> {
        const COMMAND: Command = Command { name: "TPM2_Quote", code: Code::QUOTE };
        let mut parameters = Vec::new();
        put_sized(&mut parameters, qualifying);
        parameters.extend(ALG_NULL.to_be_bytes());
        PcrSelection::encode_list(selection, &mut parameters);
        let none = Auth::default();
        let answer = self.run(COMMAND, &[key], &[Authorization::Password(&none)], &parameters)?;
        statement(COMMAND, &answer, qualifying)
    }

    /// `TPM2_Certify`, with the scheme that the signing key has.
    pub(crate) fn sign_certification(
        &mut self,
        certified: Handle,
        signer: Handle,
        qualifying: &[u8],
    ) -> Result<Statement, Error> {
        const COMMAND: Command = Command { name: "TPM2_Certify", code: Code::CERTIFY };
        let mut parameters = Vec::new();
        put_sized(&mut parameters, qualifying);
        parameters.extend(ALG_NULL.to_be_bytes());
        let none = Auth::default();
        let authorizations = [Authorization::Password(&none); 2];
        let answer = self.run(COMMAND, &[certified, signer], &authorizations, &parameters)?;
        statement(COMMAND, &answer, qualifying)
    }

    /// `TPM2_FlushContext`: lets go of a transient key or a session.
    ///
    /// # Errors
    /// [`Error`].
    pub fn flush(&mut self, handle: Handle) -> Result<(), Error> {
        const COMMAND: Command = Command { name: "TPM2_FlushContext", code: Code::FLUSH_CONTEXT };
        Ok(self.plain(COMMAND, &[], &handle.0.to_be_bytes())?.fields(0)?.end()?)
    }

    /// Lets go of what `handle` stands for when there is no use for it, because something else has failed.
    pub(crate) fn or_flush<T>(&mut self, handle: Handle, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            // What has failed first is what there is to tell.
            let _ = self.flush(handle);
        }
        result
    }

    /// Lets go of what `handle` stands for, whatever has come of its use.
    pub(crate) fn then_flush<T>(&mut self, handle: Handle, result: Result<T, Error>) -> Result<T, Error> {
        let flushed = self.flush(handle);
        let value = result?;
        flushed.map(|()| value)
    }
}

/// A statement that was asked for with `qualifying` data.
fn statement(command: Command, answer: &Answer, qualifying: &[u8]) -> Result<Statement, Error> {
    let mut fields = answer.fields(0)?;
    let attest = fields.sized("attested")?.to_vec();
    let signature = Signature::decode(fields.rest())?;
    let decoded = Attest::decode(&attest)?;
    if decoded.extra_data != qualifying {
        return Err(command.wrong("it is for other data than was asked for"));
    }
    Ok(Statement { attest, decoded, signature })
}
