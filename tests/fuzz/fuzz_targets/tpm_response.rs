//! Any bytes as the answers of a TPM, each behind its length in 16 bits: clear errors, or keys and quotes that hold together.

#![no_main]

use std::io;

use evidence::tpm::{EncryptedSecret, IdObject};
use libfuzzer_sys::fuzz_target;
use tpm::{ResponseCode, Transport};
use zeroize::Zeroizing;

struct Answers(Vec<u8>);

impl Transport for Answers {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (length, rest) = self.0.split_first_chunk::<2>().ok_or_else(end)?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (answer, rest) = rest.split_at(length);
        let mut answer = answer.to_vec();
        self.0 = rest.to_vec();
        // An answer that contradicts the transport is refused at once: further on there is more to find.
        let size = u32::try_from(answer.len()).map_err(|_| end())?.to_be_bytes();
        if let Some(field) = answer.get_mut(2..6) {
            field.copy_from_slice(&size);
        }
        // Waiting for a busy TPM finds nothing.
        let code = answer.get(6..10).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        if code.is_some_and(|code| ResponseCode(code).is_transient()) {
            return Err(end());
        }
        Ok(Zeroizing::new(answer))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let credential = IdObject { integrity: vec![1; 32], encrypted: vec![2; 34] };
    let secret = EncryptedSecret::of_point(&[3; 32], &[4; 32]);
    for error in redoubt_fuzz::tpm::ask(Box::new(Answers(bytes.to_vec())), &credential, &secret) {
        redoubt_fuzz::readable(&error);
    }
});
