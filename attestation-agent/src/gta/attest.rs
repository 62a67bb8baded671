//! Enrolment and attestation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::authority::{Answer, Authority, Session};
use super::machine::{Challenge, InitialKey, Machine};
use super::measurement::{AttesterType, NonceType};
use super::schedule::Schedule;
use super::state::{ImaMark, State};
use super::verdict::{Reason, reasons};
use crate::collect::CollectError;
use crate::report::chain;
use crate::{Error, Result, whole_file};

/// The code by which an authority says that a log does not lead to the registers.
const LOG_MISMATCH: &str = "log_mismatch";
/// The code by which it says that there is no node of this name.
const NODE_UNKNOWN: &str = "node_unknown";

/// Attests this machine to an authority.
#[derive(Clone)]
pub struct Attester {
    authority: Authority,
    /// The machine.
    pub machine: Machine,
    state: PathBuf,
    token_file: Option<PathBuf>,
    /// Announced with each attestation: how long after it the next one comes at the latest, in seconds.
    report_interval: Option<u32>,
    /// Clones take turns: two attestations at once would both send what the authority wants to have once.
    turn: Arc<Mutex<()>>,
}

/// What came of an attestation.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The machine's name.
    pub node_id: String,
    /// Whether the authority accepts it.
    pub accepted: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// The number of the first entry that was sent of the IMA log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ima_first_entry: Option<u64>,
    /// The number of the first entry that the authority does not know yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ima_next_entry: Option<u64>,
    /// The token.
    pub token: String,
}

impl Attester {
    /// Attests `machine` to `authority`. In the file `state` is what is remembered, in `token_file` the last token.
    #[must_use]
    pub fn new(authority: Authority, machine: Machine, state: PathBuf, token_file: Option<PathBuf>) -> Self {
        Self { authority, machine, state, token_file, report_interval: None, turn: Arc::default() }
    }

    /// The same, which attests as `schedule` says, and so announces when it comes again.
    #[must_use]
    pub fn repeating(self, schedule: &Schedule) -> Self {
        let report_interval = Some(schedule.longest_silence(self.authority.timeout()));
        Self { report_interval, ..self }
    }

    /// The same, whose tokens are for one program: the file for tokens has those that are for everybody.
    #[must_use]
    pub fn for_one_program(&self) -> Self {
        Self { token_file: None, ..self.clone() }
    }

    /// Enrols this machine. Gives the name of its attestation key.
    ///
    /// # Errors
    /// If the TPM or the authority cannot be used, or the authority refuses; `node_exists` if it has a node of this
    /// name.
    pub async fn enrol(&self) -> Result<String> {
        let _turn = self.turn.lock().await;
        self.prove().await?;
        self.on_machine(Machine::ak_name).await
    }

    async fn prove(&self) -> Result<()> {
        match self.machine.initial_key.clone() {
            Some(initial) => self.prove_by_initial(initial).await,
            None => self.prove_by_endorsement().await,
        }
    }

    async fn prove_by_initial(&self, initial: InitialKey) -> Result<()> {
        let mut session = self.authority.connect().await?;
        let nonce = session.nonce(&self.machine.node_id, &self.machine.attesters).await?;
        let asked = nonce.clone();
        let certified = self.on_machine(move |machine| machine.certified(&initial, &asked)).await?;
        session.enrol_certified(&self.machine.node_id, &nonce, &certified).await
    }

    async fn prove_by_endorsement(&self) -> Result<()> {
        let identity = self.on_machine(Machine::identity).await?;
        let mut session = self.authority.connect().await?;
        let enrolment = session.enrol(&self.machine.node_id, &identity).await?;
        let (credential, secret) = (enrolment.credential.clone(), enrolment.secret.clone());
        let opened = self.on_machine(move |machine| machine.open(&credential, &secret)).await?;
        session.activate(&enrolment, &opened).await
    }

    /// Attests the machine. If the authority knows no node of its name, the machine is enrolled by its TPM, and
    /// attested again. One that is there is either this one, however it came to be known, or another, and then its
    /// evidence is not taken.
    ///
    /// # Errors
    /// As [`Self::enrol`] and [`Self::attest`].
    pub async fn enrol_and_attest(&self, attester_data: Option<&Value>) -> Result<Outcome> {
        let _turn = self.turn.lock().await;
        let attested = match self.attest_in_turn(attester_data).await {
            Err(Error::Refused(reason)) if reason.code == NODE_UNKNOWN && self.machine.has_tpm() => {
                tracing::info!(node_id = self.machine.node_id, "unknown to the authority: enrolling");
                match self.prove().await {
                    Ok(()) => self.attest_in_turn(attester_data).await,
                    Err(error) => Err(error),
                }
            }
            attested => attested,
        };
        self.keep_token(attested)
    }

    /// Attests the machine. The quotes are bound to `attester_data`, too. Of the IMA log only what the authority does not know
    /// yet is sent; all of it if that is not taken.
    ///
    /// # Errors
    /// If the TPM or the authority cannot be used, or the evidence is not taken. That the machine is refused is no error.
    pub async fn attest(&self, attester_data: Option<&Value>) -> Result<Outcome> {
        let _turn = self.turn.lock().await;
        self.keep_token(self.attest_in_turn(attester_data).await)
    }

    async fn attest_in_turn(&self, attester_data: Option<&Value>) -> Result<Outcome> {
        let mut state = self.remembered()?;
        let mut session = self.authority.connect().await?;
        let (mut sent, mut answer) = self.attest_once(&mut session, attester_data, state.ima).await?;
        let was_a_part = sent.is_some_and(|mark| mark.next_entry > 0);
        let mut found = reasons(&answer.token);
        if was_a_part && found.iter().any(is_ima_mismatch) {
            tracing::info!("the authority does not know this IMA log so far: sending all of it");
            (sent, answer) = self.attest_once(&mut session, attester_data, None).await?;
            found = reasons(&answer.token);
        }
        let accepted = answer.attestation_status == "pass";
        if let Some(ImaMark { reset_count, .. }) = sent {
            let ima = answer.ima_next_entry.map(|next_entry| ImaMark { reset_count, next_entry });
            if state.ima != ima {
                state.ima = ima;
                self.remember(&state)?;
            }
        }
        Ok(Outcome {
            node_id: self.machine.node_id.clone(),
            accepted,
            reasons: found,
            ima_first_entry: sent.map(|mark| mark.next_entry),
            ima_next_entry: answer.ima_next_entry,
            token: answer.token,
        })
    }

    async fn attest_once(
        &self,
        session: &mut Session<'_>,
        attester_data: Option<&Value>,
        known: Option<ImaMark>,
    ) -> Result<(Option<ImaMark>, Answer)> {
        let nonce = session.nonce(&self.machine.node_id, &self.machine.attesters).await?;
        let challenge =
            Challenge { nonce_type: NonceType::Verifier, nonce, attester_data: attester_data.cloned() };
        let mut collected =
            self.on_machine(move |machine| machine.answer(&challenge, known.as_ref())).await?;
        let [measurement] = &mut collected.request.measurements;
        measurement.report_interval = self.report_interval;
        let answer = session.attest(&collected.request).await?;
        Ok((collected.ima, answer))
    }

    pub(crate) async fn on_machine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Machine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let machine = self.machine.clone();
        // A TPM takes its time.
        tokio::task::spawn_blocking(move || work(&machine)).await.map_err(CollectError::Interrupted)?
    }

    fn remembered(&self) -> Result<State> {
        State::read(&self.state, &self.machine.node_id)
    }

    fn remember(&self, state: &State) -> Result<()> {
        state.write(&self.state, &self.machine.node_id)
    }

    /// The token's file has it while the machine is accepted: one of before is no longer true when the authority
    /// refuses, whether in a token or instead of one.
    fn keep_token(&self, attested: Result<Outcome>) -> Result<Outcome> {
        let Some(path) = &self.token_file else { return attested };
        let kept = match &attested {
            Ok(outcome) if outcome.accepted => whole_file::write_private(path, outcome.token.as_bytes()),
            Ok(_) | Err(Error::Refused(_)) => removed(path),
            // Of a machine that was not judged nothing new is known.
            Err(_) => Ok(()),
        };
        let failed = kept.err().map(|error| Error::File {
            option: "--token-file",
            action: "write",
            path: path.clone(),
            source: error.into(),
        });
        match (attested, failed) {
            (Ok(_), Some(failed)) => Err(failed),
            (Err(refused), Some(failed)) => {
                tracing::error!(error = chain(&failed), "an old token may still be there");
                Err(refused)
            }
            (attested, None) => attested,
        }
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether an authority that knows less of the IMA log than it did would take all of it.
fn is_ima_mismatch(reason: &Reason) -> bool {
    reason.attester_type == AttesterType::TpmIma.name() && reason.code == LOG_MISMATCH
}
