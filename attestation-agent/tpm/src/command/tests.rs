//! What a TPM, or whoever answers in its place, may answer.

use std::collections::VecDeque;
use std::io;

use evidence::bank::Bank;
use evidence::tpm::PcrSet;

use super::*;
use crate::Handle;

/// Gives these answers, one after the other.
struct Scripted(VecDeque<Vec<u8>>);

impl Transport for Scripted {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        self.0.pop_front().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn scripted(answers: &[Vec<u8>]) -> Tpm {
    Tpm::new(Box::new(Scripted(answers.to_vec().into())))
}

fn answer(code: u32, parameters: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + parameters.len()).unwrap();
    [&[0x80, 1][..], &len.to_be_bytes(), &code.to_be_bytes(), parameters].concat()
}

/// `TPM2_PCR_Read` of SHA-256: these registers, with a value for each.
fn registers(updates: u32, bitmap: [u8; 3], values: u8) -> Vec<u8> {
    let mut bytes = updates.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0x0b, 3]);
    bytes.extend(bitmap);
    bytes.extend([0, 0, 0, values]);
    for value in 0..values {
        bytes.extend([0, 32]);
        bytes.extend([value; 32]);
    }
    answer(0, &bytes)
}

fn read(answers: &[Vec<u8>]) -> Result<Option<usize>, Error> {
    let wanted = PcrSet::new(0..=8).unwrap();
    scripted(answers).registers(Bank::Sha256, wanted).map(|values| values.map(|values| values.iter().count()))
}

#[test]
fn registers_are_read_in_parts_that_belong_together() {
    let (first, second) = (registers(7, [0xff, 0, 0], 8), registers(7, [0, 1, 0], 1));
    assert_eq!(read(&[first.clone(), second]).unwrap(), Some(9));
    assert_eq!(read(&[first, registers(8, [0, 1, 0], 1)]).unwrap(), None);
}

#[test]
fn registers_that_were_not_asked_for_or_are_no_registers_are_refused() {
    let wrong = |bytes: Vec<u8>| read(&[bytes]).unwrap_err();
    assert!(matches!(wrong(registers(7, [0, 0, 0], 0)), Error::Registers { .. }));
    for bytes in [registers(7, [0, 2, 0], 1), registers(7, [3, 0, 0], 1), registers(7, [1, 0, 0], 2)] {
        assert!(matches!(wrong(bytes), Error::Wrong { .. }));
    }
    let mut short = registers(7, [1, 0, 0], 1);
    // A value of 31 bytes, and one byte that belongs to nothing.
    let at = short.len() - 33;
    short[at] = 31;
    assert!(matches!(wrong(short), Error::Answer(TpmError::Trailing { found: 1, .. })));
}

#[test]
fn an_answer_is_as_long_as_it_says_and_cut_short_nowhere() {
    let whole = answer(0, &[0, 2, 1, 2]);
    assert_eq!(scripted(std::slice::from_ref(&whole)).random(2).unwrap(), [1, 2]);
    for len in 0..whole.len() {
        assert!(matches!(scripted(&[whole[..len].to_vec()]).random(2), Err(Error::Answer(_))), "{len}");
        let shorter = answer(0, whole[HEADER_LEN..].get(..len).unwrap_or_default());
        assert!(shorter == whole || scripted(&[shorter]).random(2).is_err());
    }
    assert!(matches!(scripted(&[answer(0, &[0, 1, 1])]).random(2), Err(Error::Wrong { .. })));
    assert!(matches!(scripted(&[vec![0; 5000]]).random(2), Err(Error::Answer(_))));
    // An answer with sessions to a command without.
    let mut tagged = whole;
    tagged[1] = 2;
    assert!(matches!(scripted(&[tagged]).random(2), Err(Error::Answer(TpmError::Value { .. }))));
}

#[test]
fn a_busy_tpm_is_asked_again_and_a_refusal_is_told() {
    let busy = answer(0x922, &[]);
    let done = answer(0, &[0, 1, 9]);
    assert_eq!(scripted(&[busy.clone(), busy.clone(), done.clone()]).random(1).unwrap(), [9]);
    let mut patient = vec![busy; usize::try_from(TRIES).unwrap()];
    patient.push(done);
    let error = scripted(&patient).random(1).unwrap_err();
    assert_eq!(error.to_string(), "TPM2_GetRandom failed with TPM_RC_RETRY (0x922)");
    let error = scripted(&[answer(0x101, &[])]).random(1).unwrap_err();
    assert!(error.to_string().contains("self-test"), "{error}");
    assert!(matches!(scripted(&[]).random(1), Err(Error::Exchange { .. })));
}

#[test]
fn what_is_not_there_is_told_apart_from_what_cannot_be_read() {
    let index = Handle(0x01c0_0002);
    assert_eq!(scripted(&[answer(0x18b, &[])]).nv_public(index).unwrap(), None);
    assert!(matches!(scripted(&[answer(0x28b, &[])]).nv_public(index), Err(Error::Refused { .. })));
    assert!(matches!(scripted(&[answer(0x101, &[])]).nv_public(index), Err(Error::Refused { .. })));
    assert!(scripted(&[answer(0x18b, &[])]).read_public(Handle(0x8101_0001)).unwrap().is_none());
}

#[test]
fn a_property_that_a_tpm_lacks_is_not_the_next_one() {
    let of = |number: u32| {
        let numbers = [CAP_PROPERTIES, 1, number, 77];
        answer(0, &[&[1][..], numbers.map(u32::to_be_bytes).as_flattened()].concat())
    };
    let property = |bytes| scripted(&[bytes]).property(PROPERTY_NV_BUFFER_MAX).unwrap();
    assert_eq!(property(of(PROPERTY_NV_BUFFER_MAX)), Some(77));
    assert_eq!(property(of(PROPERTY_NV_BUFFER_MAX + 1)), None);
}
