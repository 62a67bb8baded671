//! This machine: what its TPM proves, and the logs that explain it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::envelope::Evidence;
use evidence::ima;
use evidence::tcg;
use evidence::tpm::{EncryptedSecret, IdObject, PcrSet};
use serde::Serialize;
use serde_json::Value;
use tpm::{
    AkAlgorithm, AttestationKey, Auth, EkKind, EndorsementKey, Handle, Tcti, Tpm, activate, certify,
    endorsement_certificate, ensure_attestation_key, quote,
};
use zeroize::Zeroizing;

use super::measurement::{
    AttestRequest, AttesterType, EvidenceItem, Measurement, NonceType, TokenFormat, qualifying_data,
};
use super::state::ImaMark;
use crate::collect::{self, CollectError, EvidenceSource, read_file};
use crate::{Error, Result};

/// The register that Linux measures files into, after those of the boot, which `boot_aggregate` takes.
const IMA_PCRS: std::ops::RangeInclusive<u32> = 0..=10;

/// This machine, as its options describe it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub node_id: String,
    /// Where its TPM is.
    pub tcti: Tcti,
    /// Where its attestation key is.
    pub ak_handle: Handle,
    /// What that key is if it must be made.
    pub ak_algorithm: AkAlgorithm,
    /// The endorsement key by which it is enrolled.
    pub endorsement_key: EkKind,
    /// The certificate of that key, if it is not in the TPM.
    pub endorsement_certificate: Option<PathBuf>,
    /// The key by which it is enrolled instead, if its maker left one.
    pub initial_key: Option<InitialKey>,
    /// Passwords of the TPM's hierarchies.
    pub secrets: Secrets,
    /// The bank that is quoted.
    pub bank: Bank,
    /// What is attested.
    pub attesters: Vec<AttesterType>,
    /// The boot.
    pub boot: BootLog,
    /// IMA's log.
    pub ima_log: PathBuf,
    /// The monitor, if this is a confidential VM.
    pub monitor: Monitor,
    /// Policies that must accept the machine beside those of the tenant.
    pub policy_ids: Vec<String>,
    /// The form of tokens.
    pub token_format: TokenFormat,
}

/// The boot: registers, and the log that explains them.
#[derive(Clone, Debug)]
pub struct BootLog {
    /// The registers.
    pub pcrs: PcrSet,
    /// The firmware's log.
    pub path: PathBuf,
}

/// The monitor of a confidential VM.
#[derive(Clone)]
pub struct Monitor {
    /// Where its token and the logs come from.
    pub source: Arc<dyn EvidenceSource>,
    /// Whether IMA's log goes along.
    pub ima: bool,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("ima", &self.ima).finish_non_exhaustive()
    }
}

/// Passwords of hierarchies; most are empty.
#[derive(Clone)]
pub struct Secrets {
    /// Of the endorsement hierarchy.
    pub endorsement: Zeroizing<Vec<u8>>,
    /// Of the owner hierarchy.
    pub owner: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// What a machine is enrolled by, each as the authority takes it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// In PEM, or DER in base64.
    pub ek_certificate: String,
    /// `TPMT_PUBLIC` in base64.
    pub ek_public: String,
    /// The same.
    pub ak_public: String,
}

/// An initial attestation key (IAK), which the maker of the machine has certified.
#[derive(Clone, Debug)]
pub struct InitialKey {
    /// Where it is.
    pub handle: Handle,
    /// Its certificate, with sub CAs behind it, in PEM.
    pub certificate: PathBuf,
}

/// The initial attestation key's word for the attestation key, as the authority takes it.
#[derive(Clone, Debug, Serialize)]
pub struct Certified {
    /// In PEM.
    pub iak_certificate: String,
    /// `TPMT_PUBLIC` in base64.
    pub ak_public: String,
    /// `TPMS_ATTEST` in base64.
    pub certify_info: String,
    /// `TPMT_SIGNATURE` in base64.
    pub signature: String,
}

/// What evidence must answer.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Who made the nonce.
    pub nonce_type: NonceType,
    /// The nonce.
    pub nonce: Vec<u8>,
    /// Any data of whoever wants the result, which the quotes are bound to.
    pub attester_data: Option<Value>,
}

/// Evidence, and where its IMA log begins.
#[derive(Debug)]
pub struct Collected {
    /// What the authority takes.
    pub request: AttestRequest,
    /// The first entry of the IMA log that is in it.
    pub ima: Option<ImaMark>,
}

impl Machine {
    fn auths(&self) -> (Auth, Auth) {
        (Auth::new(self.secrets.endorsement.clone()), Auth::new(self.secrets.owner.clone()))
    }

    fn attestation_key(&self, tpm: &mut Tpm) -> Result<AttestationKey> {
        let (endorsement, owner) = self.auths();
        Ok(ensure_attestation_key(tpm, self.ak_handle, self.ak_algorithm, &endorsement, &owner)?)
    }

    /// The name of this machine's attestation key, in hexadecimal.
    ///
    /// # Errors
    /// If the TPM cannot be used.
    pub fn ak_name(&self) -> Result<String> {
        let mut tpm = Tpm::open(&self.tcti)?;
        Ok(self.attestation_key(&mut tpm)?.public.name().to_string())
    }

    /// The keys of this machine, and the certificate that says who made its TPM.
    ///
    /// # Errors
    /// If the TPM cannot be used, or there is no certificate.
    pub fn identity(&self) -> Result<Identity> {
        let mut tpm = Tpm::open(&self.tcti)?;
        let (endorsement, owner) = self.auths();
        let attestation = self.attestation_key(&mut tpm)?;
        let ek_certificate = match &self.endorsement_certificate {
            Some(path) => read_certificate("--endorsement-certificate", path)?,
            None => STANDARD.encode(endorsement_certificate(&mut tpm, self.endorsement_key, &owner)?),
        };
        let key = EndorsementKey::create(&mut tpm, self.endorsement_key, &endorsement, &owner)?;
        let ek_public = STANDARD.encode(key.public().encode());
        key.flush(&mut tpm)?;
        Ok(Identity { ek_certificate, ek_public, ak_public: STANDARD.encode(attestation.public.encode()) })
    }

    /// Has the attestation key certified by the initial one, for a nonce.
    ///
    /// # Errors
    /// If the TPM cannot be used, or there is no such key or no certificate.
    pub fn certified(&self, initial: &InitialKey, nonce: &[u8]) -> Result<Certified> {
        let iak_certificate = read_certificate("--initial-certificate", &initial.certificate)?;
        let mut tpm = Tpm::open(&self.tcti)?;
        let key = self.attestation_key(&mut tpm)?;
        let certification = certify(&mut tpm, initial.handle, &key, &qualifying_data(nonce, None))?;
        Ok(Certified {
            iak_certificate,
            ak_public: STANDARD.encode(key.public.encode()),
            certify_info: STANDARD.encode(certification.attest),
            signature: STANDARD.encode(certification.signature),
        })
    }

    /// Opens a credential that was made for the keys of this machine.
    ///
    /// # Errors
    /// If the TPM cannot be used, or the credential was made for others.
    pub fn open(&self, credential: &IdObject, secret: &EncryptedSecret) -> Result<Zeroizing<Vec<u8>>> {
        let mut tpm = Tpm::open(&self.tcti)?;
        let (endorsement, owner) = self.auths();
        let attestation = self.attestation_key(&mut tpm)?;
        let key = EndorsementKey::create(&mut tpm, self.endorsement_key, &endorsement, &owner)?;
        let opened = activate(&mut tpm, &attestation, &key, &endorsement, credential, secret);
        let flushed = key.flush(&mut tpm);
        let opened = opened?;
        flushed?;
        Ok(opened)
    }

    /// Evidence of everything that is attested. `known` is how far the authority knows the IMA log: only what follows is sent,
    /// if the machine was not started anew.
    ///
    /// # Errors
    /// If the TPM cannot be used, or a log cannot be read.
    pub fn answer(&self, challenge: &Challenge, known: Option<&ImaMark>) -> Result<Collected> {
        let qualifying = qualifying_data(&challenge.nonce, challenge.attester_data.as_ref());
        // A confidential VM need not have a TPM.
        let mut tpm = None;
        if self.has_tpm() {
            let mut opened = Tpm::open(&self.tcti)?;
            let key = self.attestation_key(&mut opened)?;
            tpm = Some((opened, key));
        }
        let mut evidences = Vec::new();
        let mut ima = None;
        for kind in &self.attesters {
            evidences.push(match (kind, &mut tpm) {
                (AttesterType::TpmBoot, Some((tpm, key))) => self.boot(tpm, key, &qualifying)?,
                (AttesterType::TpmIma, Some((tpm, key))) => {
                    let (item, mark) = self.files(tpm, key, &qualifying, known)?;
                    ima = Some(mark);
                    item
                }
                _ => self.confidential_vm(&qualifying)?,
            });
        }
        let request = AttestRequest::new(Measurement {
            node_id: self.node_id.clone(),
            nonce_type: challenge.nonce_type,
            nonce: STANDARD.encode(&challenge.nonce),
            token_fmt: self.token_format,
            attester_data: challenge.attester_data.clone(),
            report_interval: None,
            evidences,
        });
        Ok(Collected { request, ima })
    }

    /// Whether the machine is attested by its TPM, too.
    #[must_use]
    pub fn has_tpm(&self) -> bool {
        self.attesters.iter().any(|kind| *kind != AttesterType::VirtCca)
    }

    /// The monitor's token answers what the quotes do, followed by zeros.
    fn confidential_vm(&self, qualifying: &[u8; 32]) -> Result<EvidenceItem> {
        let mut challenge = [0; 64];
        let (start, _) = challenge.split_at_mut(qualifying.len());
        start.copy_from_slice(qualifying);
        let request = collect::Request { challenge, ima: self.monitor.ima };
        match self.monitor.source.collect(&request)? {
            Evidence::Virtcca(evidence) => EvidenceItem::virtcca(&evidence, &self.policy_ids),
            Evidence::Cca(_) => Err(Error::Option {
                option: "--attesters",
                problem: "this is a Realm of Arm CCA, and virt_cca is of virtCCA only".to_owned(),
            }),
        }
    }

    fn boot(&self, tpm: &mut Tpm, key: &AttestationKey, qualifying: &[u8]) -> Result<EvidenceItem> {
        let quoted = quote(tpm, key, self.bank, self.boot.pcrs, qualifying)?;
        let advice = "mount securityfs (mount -t securityfs securityfs /sys/kernel/security) and start from firmware that \
                      measures and leaves a log, or attest files only (--attesters tpm_ima)";
        let log = read_file("the boot log", &self.boot.path, tcg::MAX_LOG_SIZE, advice)?;
        EvidenceItem::boot(&quoted, &log, &self.policy_ids)
    }

    /// The log is read after the quote, so that it has at least what was quoted.
    fn files(
        &self,
        tpm: &mut Tpm,
        key: &AttestationKey,
        qualifying: &[u8],
        known: Option<&ImaMark>,
    ) -> Result<(EvidenceItem, ImaMark)> {
        let pcrs = PcrSet::new(IMA_PCRS).map_err(|error| Error::Request(error.to_string()))?;
        let quoted = quote(tpm, key, self.bank, pcrs, qualifying)?;
        let advice = "mount securityfs (mount -t securityfs securityfs /sys/kernel/security), and boot a kernel with CONFIG_IMA \
                      and an IMA policy (ima_policy=tcb), or attest the boot only (--attesters tpm_boot)";
        let bytes = read_file("the IMA log", &self.ima_log, ima::MAX_LOG_SIZE, advice)?;
        let reset_count = quoted.clock.reset_count;
        let first = known.filter(|mark| mark.reset_count == reset_count).map_or(0, |mark| mark.next_entry);
        let unreadable = |error: ima::ImaError| CollectError::File {
            what: "the IMA log",
            path: self.ima_log.clone(),
            advice: "the file is not a measurement list: name binary_runtime_measurements with --ima-log",
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        };
        let log = ima::Log::new(&bytes).map_err(unreadable)?;
        // A list that is shorter than what is known of it is another one.
        let (first, part) = match log.since(first).map_err(unreadable)? {
            Some(part) if first > 0 => (first, part),
            _ => (0, &bytes[..]),
        };
        let item = EvidenceItem::ima(&quoted, part, first, &self.policy_ids)?;
        Ok((item, ImaMark { reset_count, next_entry: first }))
    }
}

fn read_certificate(option: &'static str, path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::File {
        option,
        action: "read",
        path: path.to_owned(),
        source: error.into(),
    })
}
