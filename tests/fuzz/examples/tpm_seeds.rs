//! Writes the seeds of the target `tpm_response`: `cargo run --example tpm_seeds`, in this directory, where swtpm is.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use evidence::tpm::{EncryptedSecret, IdObject};
use test_swtpm::Swtpm;
use tpm::{Tcti, Transport};
use zeroize::Zeroizing;

/// Keeps what a TPM answers.
struct Recorder {
    transport: Box<dyn Transport>,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Transport for Recorder {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let answer = self.transport.exchange(command)?;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.extend(u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes());
        answers.extend(answer.iter());
        Ok(answer)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let swtpm = Swtpm::start()?;
    // Made for no TPM: the refusal is recorded as well.
    let credential = IdObject { integrity: vec![1; 32], encrypted: vec![2; 34] };
    let secret = EncryptedSecret::of_point(&[3; 32], &[4; 32]);
    for name in ["first", "again"] {
        let answers = Arc::default();
        let transport = Tcti::Unix(swtpm.socket()).open()?;
        let recorder = Recorder { transport, answers: Arc::clone(&answers) };
        for error in redoubt_fuzz::tpm::ask(Box::new(recorder), &credential, &secret) {
            eprintln!("{name}: {error}");
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tpm_response");
        fs::create_dir_all(&directory)?;
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        fs::write(directory.join(name), &*answers)?;
    }
    Ok(())
}
