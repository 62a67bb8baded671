//! Policy sessions, by which endorsement keys are used.

use evidence::bank::Bank;
use evidence::tpm::put_sized;

use super::Tpm;
use super::wire::{Authorization, Code, Command};
use crate::{Auth, Error, Handle};

/// `TPM_SE_POLICY`.
const POLICY: u8 = 1;
const ALG_NULL: u16 = 0x0010;
/// Bytes of the nonce that a caller must give: the least that is allowed (Part 3, 11.1).
const NONCE_LEN: u16 = 16;

impl Tpm {
    /// `TPM2_StartAuthSession` and `TPM2_PolicySecret` of the endorsement hierarchy: policy A of the TCG's templates for
    /// endorsement keys (EK Credential Profile 2.5, B.6.2). The session must be flushed.
    pub(crate) fn endorsement_policy(&mut self, hash: Bank, auth: &Auth) -> Result<Handle, Error> {
        let session = self.start_policy(hash)?;
        let satisfied = self.policy_secret(Handle::ENDORSEMENT, auth, session);
        self.or_flush(session, satisfied)?;
        Ok(session)
    }

    fn start_policy(&mut self, hash: Bank) -> Result<Handle, Error> {
        const COMMAND: Command = Command { name: "TPM2_StartAuthSession", code: Code::START_AUTH_SESSION };
        let mut parameters = Vec::new();
        put_sized(&mut parameters, &self.random(NONCE_LEN)?);
        // No salt, and no cipher: see the crate's documentation.
        put_sized(&mut parameters, &[]);
        parameters.push(POLICY);
        parameters.extend([ALG_NULL, hash.tcg()].map(u16::to_be_bytes).as_flattened());
        let answer = self.plain(COMMAND, &[Handle::NULL, Handle::NULL], &parameters)?;
        let session = answer.handle()?;
        let read = (|| {
            let mut fields = answer.fields(1)?;
            fields.sized("nonceTPM")?;
            Ok(fields.end()?)
        })();
        self.or_flush(session, read)?;
        Ok(session)
    }

    fn policy_secret(&mut self, hierarchy: Handle, auth: &Auth, session: Handle) -> Result<(), Error> {
        const COMMAND: Command = Command { name: "TPM2_PolicySecret", code: Code::POLICY_SECRET };
        let mut parameters = Vec::new();
        // No nonce, no command's digest, no reference: the policy is for this session, whatever it is used for.
        for _ in 0..3 {
            put_sized(&mut parameters, &[]);
        }
        parameters.extend(0_i32.to_be_bytes());
        let answer =
            self.run(COMMAND, &[hierarchy, session], &[Authorization::Password(auth)], &parameters)?;
        let mut fields = answer.fields(0)?;
        fields.sized("timeout")?;
        fields.u16("tag of the ticket")?;
        fields.u32("hierarchy of the ticket")?;
        fields.sized("digest of the ticket")?;
        Ok(fields.end()?)
    }
}
