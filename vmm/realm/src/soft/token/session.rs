//! A vCPU's way to a token: one call to start, one or more to read.

use crate::Error;

/// Where one vCPU stands in fetching a token, which takes one call to start and one or more to read.
#[derive(Debug, Default)]
pub struct TokenSession {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Started {
        challenge: [u8; 64],
    },
    Reading {
        token: Vec<u8>,
        position: usize,
    },
}

impl TokenSession {
    /// Starts over with a new challenge, whatever went before.
    pub fn start(&mut self, challenge: [u8; 64]) {
        self.state = State::Started { challenge };
    }

    /// What the guest has not read yet, or nothing if no generation was started.
    pub fn remaining(
        &mut self,
        mint: impl FnOnce(&[u8; 64]) -> Result<Vec<u8>, Error>,
    ) -> Result<Option<&[u8]>, Error> {
        if let State::Started { challenge } = &self.state {
            self.state = State::Reading { token: mint(challenge)?, position: 0 };
        }
        match &self.state {
            State::Reading { token, position } => Ok(token.get(*position..)),
            State::Idle | State::Started { .. } => Ok(None),
        }
    }

    /// Takes `len` bytes as read; after the last one there is nothing to continue.
    pub fn advance(&mut self, len: usize) {
        if let State::Reading { token, position } = &mut self.state {
            *position += len;
            if *position >= token.len() {
                self.state = State::Idle;
            }
        }
    }
}
