//! The devices of this guest, found and asked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use evidence::cca::CcaToken;
use evidence::envelope::{
    BootLog, CcaEvidence, Evidence, Logs, MAX_BOOT_LOG_SIZE, MAX_CERTIFICATE_SIZE, MAX_IMA_LOG_SIZE,
    VirtccaEvidence,
};
use evidence::virtcca::VirtccaToken;
use tsi::{Tsi, TsiCalls};

use super::logs::read;
use super::tsm::{self, Configfs, ReportEntries, TsmReports};
use super::{CollectError, EvidenceSource, LogFiles, LookedFor, Request};

/// Where a guest's devices and files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// virtCCA's device.
    pub tsi: PathBuf,
    /// The directory of TSM report entries.
    pub tsm_root: PathBuf,
    /// The certificate of the platform, for virtCCA tokens that configfs-tsm gives: it has no place for it.
    pub device_certificate: PathBuf,
    /// The logs.
    pub logs: LogFiles,
}

/// Where the device certificate is expected unless said otherwise.
pub const DEFAULT_DEVICE_CERTIFICATE: &str = "/etc/attestation-agent/device-certificate.pem";

impl Default for Places {
    fn default() -> Self {
        Self {
            tsi: tsi::DEFAULT_PATH.into(),
            tsm_root: tsm::DEFAULT_ROOT.into(),
            device_certificate: DEFAULT_DEVICE_CERTIFICATE.into(),
            logs: LogFiles::default(),
        }
    }
}

/// How often evidence is collected anew because a log grew meanwhile. Without the bound, a guest that runs new programs all
/// the time gives no evidence at all; after it, the verifier decides what it makes of the difference.
const TRIES: usize = 4;

type SharedTsi = Arc<Tsi<Box<dyn TsiCalls>>>;

/// Evidence of the guest that the agent runs in.
pub struct Guest {
    places: Places,
    /// Kept open once found: all users of the device take turns at it.
    tsi: Mutex<Option<SharedTsi>>,
    reports: TsmReports<Box<dyn ReportEntries>>,
}

/// What the monitor gave, before the logs are added.
enum Token {
    Cca(Vec<u8>),
    Virtcca { token: Vec<u8>, device_certificate: Vec<u8> },
}

impl Guest {
    /// Looks for devices and logs in `places`.
    #[must_use]
    pub fn new(places: Places) -> Self {
        let entries = Configfs::new(&places.tsm_root);
        Self::with_devices(places, None, Box::new(entries))
    }

    /// Uses these devices instead of the ones in `places`.
    #[must_use]
    pub fn with_devices(
        places: Places,
        tsi: Option<Box<dyn TsiCalls>>,
        entries: Box<dyn ReportEntries>,
    ) -> Self {
        let reports = TsmReports::with_entries(entries, &places.tsm_root);
        Self { places, tsi: Mutex::new(tsi.map(|calls| Arc::new(Tsi::new(calls)))), reports }
    }

    fn token(&self, challenge: &[u8; 64]) -> Result<Token, CollectError> {
        let path = &self.places.tsi;
        let no_tsi = match self.open_tsi(path) {
            Ok(device) => {
                let evidence = device
                    .evidence(challenge)
                    .map_err(|source| CollectError::Tsi { path: path.clone(), source })?;
                let (token, device_certificate) = (evidence.token, evidence.device_certificate);
                return Ok(Token::Virtcca { token, device_certificate });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            Err(source) => {
                let advice = "the agent must be allowed to open it";
                return Err(CollectError::File { what: "the token", path: path.clone(), advice, source });
            }
        };
        let no_tsm = match self.reports.report(challenge) {
            Ok(report) => return self.of_report(report),
            Err(
                error @ (CollectError::NoReports { .. }
                | CollectError::NoProvider(_)
                | CollectError::WrongProvider { .. }),
            ) => error,
            Err(error) => return Err(error),
        };
        let tsm = format!("a TSM report provider in {}", self.places.tsm_root.display());
        let looked_for = vec![
            (format!("virtCCA's device {}", path.display()), no_tsi.to_string()),
            (tsm, crate::report::chain(&no_tsm)),
        ];
        Err(CollectError::NoDevice { looked_for: LookedFor(looked_for) })
    }

    fn open_tsi(&self, path: &Path) -> io::Result<SharedTsi> {
        let mut kept = self.tsi.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &*kept {
            return Ok(device.clone());
        }
        let calls: Box<dyn TsiCalls> = Box::new(tsi::Device::open(path)?);
        Ok(kept.insert(Arc::new(Tsi::new(calls))).clone())
    }

    /// The driver of Arm CCA passes on what the monitor mints. A token that is virtCCA's and not Arm's goes out as such.
    fn of_report(&self, token: Vec<u8>) -> Result<Token, CollectError> {
        if CcaToken::decode(&token).is_ok() || VirtccaToken::decode(&token).is_err() {
            // What is neither is for the verifier to refuse.
            return Ok(Token::Cca(token));
        }
        let what = "the device certificate, which virtCCA tokens need,";
        let path = &self.places.device_certificate;
        let device_certificate =
            read(what, path, MAX_CERTIFICATE_SIZE)?.ok_or_else(|| CollectError::File {
                what,
                path: path.clone(),
                advice: "put it there, or say with --device-certificate where it is",
                source: io::ErrorKind::NotFound.into(),
            })?;
        Ok(Token::Virtcca { token, device_certificate })
    }

    /// Token and logs that belong together: IMA goes on measuring, and a log with an entry more or less than the token
    /// speaks of explains nothing.
    fn token_and_logs(&self, request: &Request) -> Result<(Token, Logs), CollectError> {
        let mut before = self.logs(request.ima)?;
        let mut tries = 1;
        loop {
            let token = self.token(&request.challenge)?;
            let after = self.logs(request.ima)?;
            if after == before || tries == TRIES {
                return Ok((token, after));
            }
            tracing::debug!("IMA measured a file while evidence was collected; collecting again");
            before = after;
            tries += 1;
        }
    }

    fn logs(&self, ima: bool) -> Result<Logs, CollectError> {
        let files = &self.places.logs;
        let ima = if ima { Some(files.ima(MAX_IMA_LOG_SIZE)?) } else { None };
        let boot = files.ccel(MAX_BOOT_LOG_SIZE)?;
        Ok(Logs { ima, boot: boot.map(|log| BootLog { table: log.table, data: log.data }) })
    }
}

impl EvidenceSource for Guest {
    fn collect(&self, request: &Request) -> Result<Evidence, CollectError> {
        let (token, logs) = self.token_and_logs(request)?;
        Ok(match token {
            Token::Cca(token) => Evidence::Cca(CcaEvidence { token, logs }),
            Token::Virtcca { token, device_certificate } => {
                Evidence::Virtcca(VirtccaEvidence { token, device_certificate, logs })
            }
        })
    }
}

#[cfg(test)]
mod tests;
