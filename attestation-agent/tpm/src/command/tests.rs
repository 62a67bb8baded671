//! What a TPM, or whoever answers in its place, may answer.

use std::collections::VecDeque;
use std::io;

use evidence::bank::Bank;
use evidence::tpm::{Name, PcrSet, Public, put_sized};

use super::*;
use crate::{AkAlgorithm, AttestationKey, Auth, Handle, ensure_attestation_key, quote};

/// Gives these answers, one after the other.
struct Scripted(VecDeque<Vec<u8>>);

impl Transport for Scripted {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        self.0.pop_front().map(Zeroizing::new).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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

/// `tpm2_createak -G ecc -s ecdsa -g sha256 -f tss` of libtpms 0.9.
const AK: &str = "00580023000b00050072000000100018000b000300100020d0218eca02a68b4c90cc14b6f475af54be0f37127428b17c4ac2e9510a8665cd0020e60f26bef140e50af0c03e58dade6174f1c279b001aa4cc445200231d0b12854";
/// `tpm2_quote -l sha256:0,1,2,7,10 -q 0011..ff -g sha256` by it, of registers that are all zero.
const QUOTE: &str = "ff54434780180022000b457aeb95d062a5299568f92c9ed1acb860ad4df5cfe8adb0dd35d3606f01f848001000112233445566778899aabbccddeeff00000000000028cc000000020000000001201910230016363600000001000b038704000020b393978842a0fa3d3e1470196f098f473f9678e72463cb65ec4ab5581856c2e4";
const SIGNATURE: &str = "0018000b0020aac5c347cd5b1e00ddb57457fa406617bbba24d42c06f93d47158ab57e340cea0020debacc78d0210cd97408ea3c273ccb73bb4f54509877f347a3c82b323b9a4a55";
const NONCE: &str = "00112233445566778899aabbccddeeff";
/// Where the attributes are in it, and their flag "restricted".
const AK_ATTRIBUTES: usize = 6;
const AK_RESTRICTED: usize = AK_ATTRIBUTES + 1;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn name_of(sized: &[u8]) -> Name {
    Public::decode_sized(sized).unwrap().name()
}

/// `TPM2_ReadPublic`.
fn public(sized: &[u8], name: &[u8]) -> Vec<u8> {
    let mut parameters = sized.to_vec();
    put_sized(&mut parameters, name);
    put_sized(&mut parameters, &[]);
    answer(0, &parameters)
}

/// An answer to a command with sessions.
fn authorised(parameters: &[u8]) -> Vec<u8> {
    let len = u32::try_from(parameters.len()).unwrap().to_be_bytes();
    let mut bytes = answer(0, &[&len, parameters, &[0, 0, 1, 0, 0]].concat());
    bytes[1] = 2;
    bytes
}

fn quoted(attest: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    put_sized(&mut parameters, attest);
    parameters.extend(bytes(SIGNATURE));
    authorised(&parameters)
}

fn key() -> AttestationKey {
    let public = Public::decode_sized(&bytes(AK)).unwrap();
    AttestationKey { handle: Handle(0x8101_0020), public, hash: Bank::Sha256 }
}

/// `TPM2_PCR_Read` of 0, 1, 2, 7 and 10.
fn zeros(last: u8) -> Vec<u8> {
    let mut parameters = vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0x0b, 3, 0x87, 4, 0, 0, 0, 0, 5];
    for register in 0..5 {
        put_sized(&mut parameters, &[if register == 4 { last } else { 0 }; 32]);
    }
    answer(0, &parameters)
}

fn quote_of(answers: &[Vec<u8>], nonce: &str) -> Result<(), Error> {
    let pcrs = PcrSet::new([0, 1, 2, 7, 10]).unwrap();
    quote(&mut scripted(answers), &key(), Bank::Sha256, pcrs, &bytes(nonce)).map(drop)
}

#[test]
fn a_quote_is_of_what_was_asked_for() {
    let right = bytes(QUOTE);
    quote_of(&[zeros(0), quoted(&right)], NONCE).unwrap();
    let other = quote_of(&[zeros(0), quoted(&right)], &NONCE.replace("00", "01")).unwrap_err();
    assert!(matches!(other, Error::Wrong { command: "TPM2_Quote", .. }), "{other:?}");
    // Fewer registers than were asked for: those that the TPM does not have are left out.
    let mut fewer = right.clone();
    let bitmap = right.len() - 32 - 2 - 3;
    fewer[bitmap] = 0x83;
    let fewer = quote_of(&[zeros(0), quoted(&fewer)], NONCE).unwrap_err();
    assert!(matches!(fewer, Error::Registers { .. }), "{fewer:?}");
    // More than the answer says that it has, where what follows the parameters is not looked at.
    let mut longer = quoted(&right);
    longer.push(0);
    assert!(matches!(quote_of(&[zeros(0), longer], NONCE), Err(Error::Answer(TpmError::Value { .. }))));
    // A certification is no quote.
    let mut certify = right;
    certify[5] = 0x17;
    assert!(quote_of(&[zeros(0), quoted(&certify)], NONCE).is_err());
}

#[test]
fn registers_that_change_between_reading_and_quoting_are_read_again() {
    let quoted = quoted(&bytes(QUOTE));
    quote_of(&[zeros(1), quoted.clone(), zeros(0), quoted.clone()], NONCE).unwrap();
    let restless = vec![[zeros(1), quoted]; 10].concat();
    assert!(matches!(quote_of(&restless, NONCE), Err(Error::Unsteady { tries: 10 })));
}

#[test]
fn a_key_has_the_name_that_follows_from_it() {
    let ak = bytes(AK);
    let name = name_of(&ak);
    let handle = Handle(0x8101_0020);
    assert!(scripted(&[public(&ak, name.as_bytes())]).read_public(handle).unwrap().is_some());
    let error = scripted(&[public(&ak, &[0; 34])]).read_public(handle).unwrap_err();
    assert!(matches!(error, Error::Wrong { command: "TPM2_ReadPublic", .. }), "{error:?}");
}

#[test]
fn a_key_that_is_made_has_its_name_or_is_let_go() {
    let ak = bytes(AK);
    let made = |name: &[u8]| {
        let mut parameters = ak.clone();
        for part in [&[][..], &[0; 32]] {
            put_sized(&mut parameters, part);
        }
        parameters.extend([0x80, 0x21, 0x40, 0, 0, 7]);
        put_sized(&mut parameters, &[]);
        put_sized(&mut parameters, name);
        let mut bytes = authorised(&parameters);
        bytes.splice(HEADER_LEN..HEADER_LEN, [0x80, 0, 0, 0]);
        let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[2..6].copy_from_slice(&len);
        bytes
    };
    let template = Public::decode_sized(&ak).unwrap();
    let create = |name: &[u8]| {
        // The second answer is to TPM2_FlushContext.
        let mut tpm = scripted(&[made(name), answer(0, &[])]);
        let made = tpm.create_primary(Handle::ENDORSEMENT, &Auth::default(), &template);
        (made.map(|made| made.handle), tpm.random(1).is_err())
    };
    let (right, _) = create(name_of(&ak).as_bytes());
    assert_eq!(right.unwrap(), Handle(0x8000_0000));
    let (wrong, all_used) = create(&[0; 34]);
    assert!(matches!(wrong, Err(Error::Wrong { .. })) && all_used);
}

#[test]
fn a_key_that_signs_anything_is_no_attestation_key() {
    let none = Auth::default();
    let ensure = |sized: &[u8]| {
        let found = public(sized, name_of(sized).as_bytes());
        let handle = Handle(0x8101_0020);
        ensure_attestation_key(&mut scripted(&[found]), handle, AkAlgorithm::EcdsaP256, &none, &none)
    };
    let right = bytes(AK);
    ensure(&right).unwrap();
    let mut unrestricted = right.clone();
    unrestricted[AK_RESTRICTED] &= !1;
    let mut movable = right.clone();
    movable[AK_ATTRIBUTES + 3] &= !2;
    let mut decrypts = right;
    decrypts[AK_RESTRICTED] |= 2;
    for wrong in [unrestricted, movable, decrypts] {
        assert!(matches!(ensure(&wrong), Err(Error::Occupied { .. })));
    }
}
