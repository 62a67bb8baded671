//! Enrolment and attestation.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::authority::{Answer, Authority, Session};
use super::machine::{Challenge, Identity, Machine};
use super::measurement::NonceType;
use super::state::{ImaMark, State};
use super::verdict::{Reason, reasons};
use crate::collect::CollectError;
use crate::{Error, Result, whole_file};

/// The code by which an authority says that a log does not lead to the registers.
const LOG_MISMATCH: &str = "log_mismatch";
/// The code by which it says that a node of this name is there.
const NODE_EXISTS: &str = "node_exists";
/// The code by which it says that there is none.
const NODE_UNKNOWN: &str = "node_unknown";

/// Attests this machine to an authority.
#[derive(Clone)]
pub struct Attester {
    authority: Authority,
    /// The machine.
    pub machine: Machine,
    state: PathBuf,
    token_file: Option<PathBuf>,
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
        Self { authority, machine, state, token_file, turn: Arc::default() }
    }

    /// The same, whose tokens are for one program: the file for tokens has those that are for everybody.
    #[must_use]
    pub fn for_one_program(&self) -> Self {
        Self { token_file: None, ..self.clone() }
    }

    /// Enrols this machine, if it was not enrolled with its present attestation key. Gives that key's name.
    ///
    /// # Errors
    /// If the TPM or the authority cannot be used, or the authority refuses.
    pub async fn enrol(&self) -> Result<String> {
        let _turn = self.turn.lock().await;
        let ak_name = self.on_machine(Machine::ak_name).await?;
        if self.remembered()?.enrolled.as_ref() != Some(&ak_name) {
            // An endorsement key takes a TPM seconds to make: not before it is needed.
            let identity = self.on_machine(Machine::identity).await?;
            self.prove(&identity).await?;
            self.remember(&State { enrolled: Some(ak_name.clone()), ima: None })?;
        }
        Ok(ak_name)
    }

    async fn prove(&self, identity: &Identity) -> Result<()> {
        let node_id = &self.machine.node_id;
        let mut session = self.authority.connect().await?;
        let enrolment = session.enrol(node_id, identity).await?;
        let (credential, secret) = (enrolment.credential.clone(), enrolment.secret.clone());
        let opened = self.on_machine(move |machine| machine.open(&credential, &secret)).await?;
        session.activate(&enrolment, &opened).await
    }

    /// Attests the machine, and enrols it before that unless the authority knows a node of its name: then that is either this
    /// one, whose evidence it will take, or another, and it will not. A machine without a TPM is told by its evidence alone.
    ///
    /// # Errors
    /// As [`Self::enrol`] and [`Self::attest`].
    pub async fn enrol_and_attest(&self, attester_data: Option<&Value>) -> Result<Outcome> {
        if !self.machine.has_tpm() {
            return self.attest(attester_data).await;
        }
        self.ensure_enrolled().await?;
        match self.attest(attester_data).await {
            Err(Error::Refused(reason)) if reason.code == NODE_UNKNOWN => {
                tracing::info!("the authority has forgotten this machine: enrolling it anew");
                self.remember(&State::default())?;
                self.ensure_enrolled().await?;
                self.attest(attester_data).await
            }
            attested => attested,
        }
    }

    async fn ensure_enrolled(&self) -> Result<()> {
        match self.enrol().await {
            Err(Error::Refused(reason)) if reason.code == NODE_EXISTS => {
                tracing::info!(node_id = self.machine.node_id, "the authority has a node of this name");
                let mut state = self.remembered()?;
                state.enrolled = Some(self.on_machine(Machine::ak_name).await?);
                self.remember(&state)
            }
            enrolled => enrolled.map(drop),
        }
    }

    /// Attests the machine. The quotes are bound to `attester_data`, too. Of the IMA log only what the authority does not know
    /// yet is sent; all of it if that is not taken.
    ///
    /// # Errors
    /// If the TPM or the authority cannot be used, or the evidence is not taken. That the machine is refused is no error.
    pub async fn attest(&self, attester_data: Option<&Value>) -> Result<Outcome> {
        let _turn = self.turn.lock().await;
        let mut state = self.remembered()?;
        let mut session = self.authority.connect().await?;
        let (mut sent, mut answer) = self.attest_once(&mut session, attester_data, state.ima).await?;
        let was_a_part = sent.is_some_and(|mark| mark.next_entry > 0);
        let mut found = reasons(&answer.token);
        if was_a_part && found.iter().any(|reason| reason.code == LOG_MISMATCH) {
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
        let outcome = Outcome {
            node_id: self.machine.node_id.clone(),
            accepted,
            reasons: found,
            ima_first_entry: sent.map(|mark| mark.next_entry),
            ima_next_entry: answer.ima_next_entry,
            token: answer.token,
        };
        self.keep_token(&outcome)?;
        Ok(outcome)
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
        let collected = self.on_machine(move |machine| machine.answer(&challenge, known.as_ref())).await?;
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

    /// A token of before is no longer true when the machine is refused.
    fn keep_token(&self, outcome: &Outcome) -> Result<()> {
        let Some(path) = &self.token_file else { return Ok(()) };
        let kept = if outcome.accepted {
            whole_file::write_private(path, outcome.token.as_bytes())
        } else {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        };
        kept.map_err(|error| Error::File {
            option: "--token-file",
            action: "write",
            path: path.clone(),
            source: error.into(),
        })
    }
}
