//! Why evidence was refused: the step that refused it, a stable machine code, and a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A named step of the appraisal pipeline, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The bytes are read as a token of the claimed TEE.
    Decode,
    /// virtCCA: the device certificate's path to an installed root.
    CertificateChain,
    /// The platform token's signature against a registered trust anchor.
    PlatformSignature,
    /// The platform token vouches for the key that signs the Realm token; virtCCA looks at this before the signature.
    Binding,
    /// The Realm token's signature by the attested key.
    RealmSignature,
    /// virtCCA: the CVM token's signature by the attested key.
    CvmSignature,
    /// TPM: the key that signs quotes is one that only a TPM can use, and the installed authorities vouch for it.
    AttestationKey,
    /// TPM: the quote's signature, and the registers that it is about.
    Quote,
    /// TPM: time has gone on since the last quote of this node.
    Clock,
    /// The attested challenge is the one that was issued.
    Nonce,
    /// The platform's security lifecycle.
    Lifecycle,
    /// The platform's implementation and software components; of CCA platforms also their configuration.
    PlatformSoftware,
    /// Measurements against registered reference values.
    ReferenceValues,
    /// Boot and IMA logs against the extensible measurements, and what they tell against registered reference values.
    Logs,
    /// The operator's policy.
    Policy,
}

impl Step {
    /// The step's name in reports and problem documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::CertificateChain => "certificate_chain",
            Self::PlatformSignature => "platform_signature",
            Self::Binding => "binding",
            Self::RealmSignature => "realm_signature",
            Self::CvmSignature => "cvm_signature",
            Self::AttestationKey => "attestation_key",
            Self::Quote => "quote",
            Self::Clock => "clock",
            Self::Nonce => "nonce",
            Self::Lifecycle => "lifecycle",
            Self::PlatformSoftware => "platform_software",
            Self::ReferenceValues => "reference_values",
            Self::Logs => "logs",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The machine code of a refusal. Codes are part of the interface: they are added, never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The evidence is not a well-formed token.
    EvidenceMalformed,
    /// No trust anchor is registered for the platform named in the token.
    TrustAnchorUnknown,
    /// The key is on the built-in list of keys whose private half is public.
    TrustAnchorDenied,
    /// The device certificate is not a certificate, or its key cannot sign tokens.
    CertificateMalformed,
    /// No valid path leads from the device certificate to an installed root.
    CertificateUntrusted,
    /// A certificate of the chain has expired, or is not valid yet.
    CertificateExpired,
    /// A certificate of the chain is revoked.
    CertificateRevoked,
    /// A revocation list that is needed is absent or cannot be used.
    RevocationUnknown,
    /// A certificate of the chain stands where its constraints do not allow it.
    CertificateConstraint,
    /// A certificate claims to be a published authority and is another one.
    CertificatePinMismatch,
    /// The platform signature does not verify with the registered key.
    PlatformSignatureInvalid,
    /// The evidence has no Platform Token, and no policy allows that.
    PlatformTokenMissing,
    /// The key that the CVM token carries is not a valid key.
    CvmKeyInvalid,
    /// The CVM signature does not verify with the attested key.
    CvmSignatureInvalid,
    /// The platform is of an implementation that a policy does not list.
    ImplementationNotAllowed,
    /// A software component breaks a policy's rules, is in no reference of its platform, or is missing.
    ComponentNotAllowed,
    /// The platform's configuration is not the one of its reference.
    PlatformConfigNotAllowed,
    /// A software component's measurement measures nothing.
    MeasurementDegenerate,
    /// The platform token, or without one the device certificate, does not vouch for the key that signs the guest's token.
    KeyBindingMismatch,
    /// The Realm signature does not verify with the attested key.
    RealmSignatureInvalid,
    /// A key of a TPM is not of the kind that is needed: it could have been made outside, or sign anything.
    TpmKeyUnsuitable,
    /// The endorsement key is not the one that its certificate is for.
    EndorsementKeyMismatch,
    /// No initial attestation key has certified the attestation key.
    AttestationKeyUncertified,
    /// The quote's signature does not verify with the attestation key.
    QuoteSignatureInvalid,
    /// The registers that are reported are not those that the quote is about.
    PcrSelectionMismatch,
    /// The values of the registers that are reported are not those that the quote is about.
    PcrDigestMismatch,
    /// The TPM counts less time or fewer resets than it did before.
    ClockRollback,
    /// The first entry of the IMA log is not what the registers of the boot add up to.
    BootAggregateMismatch,
    /// The attested challenge differs from the issued one.
    NonceMismatch,
    /// The platform is not in the secured lifecycle and no policy allows that.
    LifecycleNotSecured,
    /// No reference value has the attested initial measurement.
    RimMismatch,
    /// The initial measurement is known, the personalisation value differs.
    RpvMismatch,
    /// The initial measurement is known, an extensible measurement differs.
    RemMismatch,
    /// A log cannot be read, or has no digests for the registers.
    LogMalformed,
    /// A log does not lead to the attested registers, or carries data that was not measured.
    LogMismatch,
    /// A log that policy or reference demands is not there, or none of it is attested.
    LogMissing,
    /// Policy demands a log, and the reference does not say what may be in it.
    LogReferenceMissing,
    /// An extensible measurement is not zero, and neither a log nor the reference explains it.
    RegisterUnexplained,
    /// Something was measured during boot that no reference knows in its role.
    BootEventUnknown,
    /// Something that policy demands was not measured during boot.
    BootRoleMissing,
    /// The boot log has a second kernel, or a register that does not exist.
    BootSequence,
    /// Policy demands Secure Boot, and it was off or not measured.
    SecureBootOff,
    /// A file was used that no reference knows at its path.
    ImaEntryUnknown,
    /// The IMA log has an entry for a register that nothing attests.
    ImaEntryUnattested,
    /// A file was changed while it was measured.
    ImaViolation,
    /// The trust anchor is marked as a development key and no policy allows it.
    TrustAnchorDevelopment,
    /// A policy was evaluated and did not allow.
    PolicyDenied,
    /// A policy could not be evaluated: absent, wrong output type, run-time error or time limit.
    PolicyError,
    /// Trust anchors or reference values could not be read; says nothing about the evidence.
    StoreUnavailable,
}

impl Code {
    /// The code as it travels in problem documents and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EvidenceMalformed => "evidence_malformed",
            Self::TrustAnchorUnknown => "trust_anchor_unknown",
            Self::TrustAnchorDenied => "trust_anchor_denied",
            Self::CertificateMalformed => "certificate_malformed",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::CertificateConstraint => "certificate_constraint",
            Self::CertificatePinMismatch => "certificate_pin_mismatch",
            Self::PlatformSignatureInvalid => "platform_signature_invalid",
            Self::PlatformTokenMissing => "platform_token_missing",
            Self::CvmKeyInvalid => "cvm_key_invalid",
            Self::CvmSignatureInvalid => "cvm_signature_invalid",
            Self::ImplementationNotAllowed => "implementation_not_allowed",
            Self::ComponentNotAllowed => "component_not_allowed",
            Self::PlatformConfigNotAllowed => "platform_config_not_allowed",
            Self::MeasurementDegenerate => "measurement_degenerate",
            Self::KeyBindingMismatch => "key_binding_mismatch",
            Self::RealmSignatureInvalid => "realm_signature_invalid",
            Self::TpmKeyUnsuitable => "tpm_key_unsuitable",
            Self::EndorsementKeyMismatch => "endorsement_key_mismatch",
            Self::AttestationKeyUncertified => "attestation_key_uncertified",
            Self::QuoteSignatureInvalid => "quote_signature_invalid",
            Self::PcrSelectionMismatch => "pcr_selection_mismatch",
            Self::PcrDigestMismatch => "pcr_digest_mismatch",
            Self::ClockRollback => "clock_rollback",
            Self::BootAggregateMismatch => "boot_aggregate_mismatch",
            Self::NonceMismatch => "nonce_mismatch",
            Self::LifecycleNotSecured => "lifecycle_not_secured",
            Self::RimMismatch => "rim_mismatch",
            Self::RpvMismatch => "rpv_mismatch",
            Self::RemMismatch => "rem_mismatch",
            Self::LogMalformed => "log_malformed",
            Self::LogMismatch => "log_mismatch",
            Self::LogMissing => "log_missing",
            Self::LogReferenceMissing => "log_reference_missing",
            Self::RegisterUnexplained => "register_unexplained",
            Self::BootEventUnknown => "boot_event_unknown",
            Self::BootRoleMissing => "boot_role_missing",
            Self::BootSequence => "boot_sequence",
            Self::SecureBootOff => "secure_boot_off",
            Self::ImaEntryUnknown => "ima_entry_unknown",
            Self::ImaEntryUnattested => "ima_entry_unattested",
            Self::ImaViolation => "ima_violation",
            Self::TrustAnchorDevelopment => "trust_anchor_development",
            Self::PolicyDenied => "policy_denied",
            Self::PolicyError => "policy_error",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A typed refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {code}: {detail}")]
pub struct Refusal {
    /// The step that refused.
    pub step: Step,
    /// The stable machine code.
    pub code: Code,
    /// What was found, what was expected, and what can be done about it.
    pub detail: String,
    /// What it is about, where that can be pointed at; at most [`Subject::MOST`].
    pub subjects: Vec<Subject>,
}

/// Something that a refusal points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A register of a TPM whose value the log does not lead to.
    Pcr {
        /// Its number.
        index: u32,
        /// What the log leads to, in hexadecimal, if it leads to one value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<String>,
        /// What was quoted.
        found: String,
    },
    /// An event of the boot log.
    BootEvent {
        /// Its position in the log, from 0.
        event: u64,
        /// What is wrong with it.
        found: String,
    },
    /// A file in an IMA log.
    File {
        /// The position of its entry in the whole log, from 0.
        entry: u64,
        /// Its path, or the beginning of it: the machine chose it.
        path: String,
        /// What was measured.
        digest: String,
    },
}

impl Subject {
    /// Most subjects of a refusal.
    pub const MOST: usize = 8;
    /// Longest text in a subject, in characters. A path has up to 4096 bytes, and a digest of a log any number.
    const LONGEST: usize = 256;

    /// An entry of an IMA log.
    #[must_use]
    pub fn file(entry: u64, path: &[u8], digest: &impl fmt::Display) -> Self {
        let path = shortened(&String::from_utf8_lossy(path));
        Self::File { entry, path, digest: shortened(&digest.to_string()) }
    }

    /// An event of the boot log.
    #[must_use]
    pub fn boot_event(event: u64, found: &str) -> Self {
        Self::BootEvent { event, found: shortened(found) }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(Subject::LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl Refusal {
    /// A refusal of `step` with `code`.
    #[must_use]
    pub fn new(step: Step, code: Code, detail: impl Into<String>) -> Self {
        Self { step, code, detail: detail.into(), subjects: Vec::new() }
    }

    /// The same, which points at something.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        if self.subjects.len() < Subject::MOST {
            self.subjects.push(subject);
        }
        self
    }

    /// A refusal because a store could not be read.
    #[must_use]
    pub fn unavailable(step: Step, error: &StoreError) -> Self {
        Self::new(step, Code::StoreUnavailable, error.to_string())
    }
}

/// Trust anchors or reference values could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the verifier's store cannot be read, try again later")]
pub struct StoreError;

/// An error with everything that caused it, in one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
