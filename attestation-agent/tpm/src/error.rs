//! Why a TPM does not do what is asked.

use std::io;

use evidence::tpm::TpmError;

use crate::{Handle, ResponseCode};

/// Why a TPM did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TPM cannot be reached.
    #[error("cannot reach the TPM at {tcti}: {advice}")]
    Open {
        /// Where it should be.
        tcti: String,
        /// What to do about it.
        advice: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the TPM did not answer {command}")]
    Exchange {
        /// The command.
        command: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TPM refused.
    #[error("{command} failed with {code}{}", code.advice().map(|advice| format!(": {advice}")).unwrap_or_default())]
    Refused {
        /// The command.
        command: &'static str,
        /// What the TPM said.
        code: ResponseCode,
    },
    /// The answer is not one to the command.
    #[error("the TPM's answer is not understood")]
    Answer(#[from] TpmError),
    /// The answer contradicts itself, or is not of what was asked for.
    #[error("the TPM's answer to {command} is wrong: {problem}")]
    Wrong {
        /// The command.
        command: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// More registers are asked for than this bank has.
    #[error(
        "the TPM has no bank {bank}, or not all of the registers {wanted} in it: choose a bank that is active \
         (tpm2_getcap pcrs lists them), or activate it in the firmware's set-up"
    )]
    Registers {
        /// The bank.
        bank: evidence::bank::Bank,
        /// The registers.
        wanted: evidence::tpm::PcrSet,
    },
    /// Registers change faster than they are read.
    #[error("registers changed while they were quoted, {tries} times: try again when less is being measured")]
    Unsteady {
        /// How often it was tried.
        tries: u32,
    },
    /// There is something else where the attestation key belongs.
    #[error(
        "{handle} holds another object, which cannot attest: it must be a restricted signing key, fixed to its TPM. Name \
         another handle, or remove it with tpm2_evictcontrol -C o -c {handle}"
    )]
    Occupied {
        /// The handle.
        handle: Handle,
    },
    /// There is no initial attestation key.
    #[error(
        "there is no key at {handle}: name the handle of the initial attestation key that the maker certified"
    )]
    NoInitialKey {
        /// The handle.
        handle: Handle,
    },
    /// The handle cannot hold the attestation key.
    #[error(
        "{handle} cannot hold an attestation key: persistent handles of the owner are 0x81000000 to 0x817fffff"
    )]
    NotPersistent {
        /// The handle.
        handle: Handle,
    },
    /// The manufacturer left no certificate in the TPM.
    #[error(
        "the TPM has no certificate of its {kind} endorsement key (NV index {index}): get it from the manufacturer and name \
         the file, or try the other kind"
    )]
    NoCertificate {
        /// The kind of key.
        kind: crate::EkKind,
        /// Where it should be.
        index: Handle,
    },
    /// What is at the certificate's place is none.
    #[error("what is in NV index {index} is not a certificate in DER")]
    Certificate {
        /// The index.
        index: Handle,
    },
}

impl Error {
    /// Whether it is because a handle, the first of the command, stands for nothing.
    pub(crate) fn is_absent_handle(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.is_absent_handle())
    }
}
