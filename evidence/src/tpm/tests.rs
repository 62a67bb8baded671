//! Vectors from libtpms 0.9 (swtpm 0.7, tpm2-tools 5.4), round trips, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::bank::{Bank, BankValue};

/// `tpm2_createek -G rsa`.
const EK_RSA: &str = "013a0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006008000430010080000000000010096cdf525988d5c23f8506779c0a28c52e1443d0d82087407313eec94f653afea025d3da576ed80e91ac4a866edde0a4198b7d543243f34983ceab0c885969c13856edd3982aef48cd7cb6a0c6c3f4c5b10178f6131ded32104cf5056d369fccdc77e4033827cca167410ab6eb71d5b6db1129180ce35811e28e8f3ea70c6835b71898b17feca3496e47a5319f26592b61bb52fa7ea5d66d35a0c9cb6e609eceb32a0304397f80311f25a033a522f9f4c53c25c407d2cb3a8778f682864b923f01b8c920019a4edbe903ba076d17d280466373d1e02e4d68adfc16751b4f16d8fd0c814779ec87e929e3246c912749ef141ab5891a183d20103399ee25638b9b3";
/// `tpm2_createek -G ecc`.
const EK_ECC: &str = "007a0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100003001000208e4fa234921acd92a3af0249cd11692959cfbb829b9d7b93dc86c3c540c6b9c70020b2b762318658644a0b1fb562e431b2bcac96339d984d81ee4269c6a90feac0f4";
/// `tpm2_createak -G ecc -s ecdsa -g sha256 -f tss`, and the name that it printed.
const AK: &str = "00580023000b00050072000000100018000b000300100020d0218eca02a68b4c90cc14b6f475af54be0f37127428b17c4ac2e9510a8665cd0020e60f26bef140e50af0c03e58dade6174f1c279b001aa4cc445200231d0b12854";
const AK_NAME: &str = "000bc97d13d27bc3610c7dda90bb9758ee60f527163f6f00b7c045946b3fdeddcbd5";
/// `tpm2_quote -l sha256:0,1,2,7,10 -q 0011..ff -g sha256` by it, of registers that are all zero.
const QUOTE: &str = "ff54434780180022000b457aeb95d062a5299568f92c9ed1acb860ad4df5cfe8adb0dd35d3606f01f848001000112233445566778899aabbccddeeff00000000000028cc000000020000000001201910230016363600000001000b038704000020b393978842a0fa3d3e1470196f098f473f9678e72463cb65ec4ab5581856c2e4";
const SIGNATURE: &str = "0018000b0020aac5c347cd5b1e00ddb57457fa406617bbba24d42c06f93d47158ab57e340cea0020debacc78d0210cd97408ea3c273ccb73bb4f54509877f347a3c82b323b9a4a55";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

#[test]
fn quote_of_a_tpm_is_read_and_its_digest_is_that_of_its_registers() {
    let quote = Attest::decode(&bytes(QUOTE)).unwrap();
    assert_eq!(quote.extra_data, bytes("00112233445566778899aabbccddeeff"));
    assert_eq!(quote.clock, ClockInfo { clock: 10_444, reset_count: 2, restart_count: 0, safe: true });
    assert_eq!(quote.firmware_version, 0x2019_1023_0016_3636);
    let pcrs = PcrSet::new([0, 1, 2, 7, 10]).unwrap();
    let Attested::Quote { selection, pcr_digest } = &quote.attested else { unreachable!() };
    assert_eq!(*selection, [PcrSelection { bank: Bank::Sha256, pcrs }]);
    let values = PcrValues::new(Bank::Sha256, pcrs.iter().map(|register| (register, &[0; 32][..]))).unwrap();
    assert_eq!(values.pcrs(), pcrs);
    assert_eq!(values.digest(Bank::Sha256).as_bytes(), pcr_digest);
    assert_eq!(quote.encode(), bytes(QUOTE));
}

#[test]
fn signature_of_a_tpm_is_read() {
    let signature = Signature::decode(&bytes(SIGNATURE)).unwrap();
    assert_eq!((signature.scheme(), signature.hash), (SignatureScheme::Ecdsa, Bank::Sha256));
    assert_eq!(signature.encode(), bytes(SIGNATURE));
}

#[test]
fn attestation_key_of_a_tpm_has_the_name_that_the_tpm_gives_it() {
    let key = Public::decode_sized(&bytes(AK)).unwrap();
    assert_eq!(key.name().to_string(), AK_NAME);
    assert_eq!(key.encode_sized(), bytes(AK));
    assert_eq!(key.scheme, Scheme::Sign(SignatureScheme::Ecdsa, Bank::Sha256));
    assert!(key.attributes.has(Attributes::RESTRICTED.and(Attributes::SIGN).and(Attributes::FIXED_TPM)));
    assert!(!key.attributes.has(Attributes::DECRYPT));
    assert_eq!(key.key.sec1_point().unwrap().len(), 65);
}

#[test]
fn endorsement_keys_of_a_tpm_are_read_and_written_alike() {
    for text in [EK_RSA, EK_ECC] {
        let key = Public::decode_sized(&bytes(text)).unwrap();
        assert_eq!(key.encode_sized(), bytes(text));
        assert_eq!(key.symmetric, Symmetric::AesCfb { bits: 128 });
        assert_eq!(key.scheme, Scheme::Null);
        assert!(key.attributes.has(Attributes::RESTRICTED.and(Attributes::DECRYPT)));
    }
}

#[test]
fn every_structure_is_read_whole_or_not_at_all() {
    type Reads = fn(&[u8]) -> bool;
    let structures: [(&str, Reads); 4] = [
        (QUOTE, |bytes| Attest::decode(bytes).is_ok()),
        (SIGNATURE, |bytes| Signature::decode(bytes).is_ok()),
        (AK, |bytes| Public::decode_sized(bytes).is_ok()),
        (EK_RSA, |bytes| Public::decode_sized(bytes).is_ok()),
    ];
    for (text, reads) in structures {
        let whole = bytes(text);
        assert!(reads(&whole));
        assert!((0..whole.len()).all(|len| !reads(&whole[..len])));
        assert!(!reads(&[&whole[..], &[0]].concat()));
    }
}

/// The quote with `new` at `offset`.
fn changed(offset: usize, new: &[u8]) -> Vec<u8> {
    let mut quote = bytes(QUOTE);
    quote[offset..offset + new.len()].copy_from_slice(new);
    quote
}

/// Offset of the list of banks in the quote.
const BANKS: usize = 85;

#[test]
fn what_no_tpm_signs_as_a_quote_is_refused() {
    let value = |reason| TpmError::Value { structure: "TPMS_ATTEST", reason };
    assert_eq!(Attest::decode(&changed(0, &[0])), Err(TpmError::Magic { found: 0x0054_4347 }));
    assert_eq!(Attest::decode(&changed(4, &[0x80, 0x19])), Err(TpmError::Type { found: 0x8019 }));
    assert_eq!(Attest::decode(&changed(76, &[2])), Err(value("safe is neither YES nor NO")));
    assert_eq!(
        Attest::decode(&changed(BANKS, &[0, 0, 0, 17])),
        Err(value("it selects from more than 16 banks"))
    );
    let bank = TpmError::Algorithm { structure: "TPMS_ATTEST", field: "bank", found: 0x0010 };
    assert_eq!(Attest::decode(&changed(BANKS + 4, &[0, 0x10])), Err(bank));
    for size in [0, 5] {
        assert_eq!(
            Attest::decode(&changed(BANKS + 6, &[size])),
            Err(value("a bitmap of registers has not 1 to 4 bytes"))
        );
    }
    let mut twice = changed(BANKS, &[0, 0, 0, 2]);
    let entry = twice[BANKS + 4..BANKS + 10].to_vec();
    twice.splice(BANKS + 10..BANKS + 10, entry);
    assert_eq!(Attest::decode(&twice), Err(value("it selects from one bank twice")));
    let large = vec![0; MAX_SIZE + 1];
    let too_large = TpmError::TooLarge { structure: "TPMS_ATTEST", found: MAX_SIZE + 1 };
    assert_eq!(Attest::decode(&large), Err(too_large));
}

#[test]
fn keys_that_break_their_rules_are_refused() {
    let key = |text: &str, offset: usize, new: &[u8]| {
        let mut bytes = bytes(text);
        bytes[offset..offset + new.len()].copy_from_slice(new);
        Public::decode_sized(&bytes).unwrap_err()
    };
    let algorithm = |field, found| TpmError::Algorithm { structure: "TPMT_PUBLIC", field, found };
    let value = |reason| TpmError::Value { structure: "TPMT_PUBLIC", reason };
    assert_eq!(key(AK, 2, &[0, 8]), algorithm("type", 8));
    assert_eq!(key(AK, 4, &[0, 0x10]), algorithm("nameAlg", 0x10));
    // RSASSA on a curve.
    assert_eq!(key(AK, 14, &[0, 0x14]), algorithm("scheme", 0x14));
    assert_eq!(key(AK, 18, &[0, 0x20]), algorithm("curve", 0x20));
    assert_eq!(key(AK, 20, &[0, 0x20]), algorithm("kdf", 0x20));
    assert_eq!(key(EK_RSA, 44, &[0, 0x25]), algorithm("symmetric", 0x25));
    assert_eq!(key(EK_RSA, 48, &[0, 0x44]), algorithm("symmetric mode", 0x44));
    assert_eq!(key(EK_RSA, 46, &[0, 129]), value("an AES key has 128, 192 or 256 bits"));
    assert_eq!(
        key(EK_RSA, 52, &[4, 0]),
        value("its modulus has not as many bits as it says, or more than 4096")
    );
}

#[test]
fn reported_registers_are_of_one_bank_and_there_once() {
    let zero = &[0; 32][..];
    let values = |reported: &[(u32, &[u8])]| PcrValues::new(Bank::Sha256, reported.iter().copied());
    assert_eq!(values(&[(0, zero), (0, zero)]), Err(PcrValuesError::Repeated { register: 0 }));
    assert_eq!(values(&[(32, zero)]), Err(PcrValuesError::Register(PcrSetError { found: 32 })));
    assert_eq!(
        values(&[(1, &zero[1..])]),
        Err(PcrValuesError::Length { register: 1, bank: Bank::Sha256, found: 31 })
    );
    let sorted = values(&[(9, zero), (3, zero)]).unwrap();
    assert_eq!(sorted.iter().map(|(register, _)| register).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(sorted.get(9), Some(BankValue::zero(Bank::Sha256)));
    assert_eq!((sorted.pcrs().to_string(), sorted.get(4)), ("3,9".to_owned(), None));
}

#[test]
fn credential_is_read_as_it_is_written() {
    let object = IdObject { integrity: vec![1; 32], encrypted: vec![2; 18] };
    assert_eq!(IdObject::decode(&object.encode()), Ok(object.clone()));
    assert_eq!(object.encode().len(), 2 + 2 + 32 + 18);
    let secret = EncryptedSecret::of_point(&[3; 32], &[4; 32]);
    assert_eq!(EncryptedSecret::decode(&secret.encode()), Ok(secret.clone()));
    assert_eq!(secret.point(), Ok((&[3; 32][..], &[4; 32][..])));
    assert!(EncryptedSecret { secret: vec![0; 256] }.point().is_err());
    assert!(IdObject::decode(&[0, 1, 0]).is_err());
}

fn banks() -> impl Strategy<Value = Vec<PcrSelection>> {
    proptest::sample::subsequence(Bank::ALL.to_vec(), 0..=5).prop_flat_map(|banks| {
        let count = banks.len();
        proptest::collection::vec(any::<u32>(), count).prop_map(move |masks| {
            let set = |mask: u32| PcrSet::new((0..32).filter(|bit| mask >> bit & 1 == 1)).unwrap();
            let pairs = banks.iter().zip(masks);
            pairs.map(|(bank, mask)| PcrSelection { bank: *bank, pcrs: set(mask) }).collect()
        })
    })
}

proptest! {
    #[test]
    fn attestations_survive_being_written_and_read(
        signer in proptest::collection::vec(any::<u8>(), 0..70),
        extra in proptest::collection::vec(any::<u8>(), 0..70),
        clock in any::<u64>(), counts in any::<(u32, u32)>(), safe in any::<bool>(), version in any::<u64>(),
        selection in banks(), digest in proptest::collection::vec(any::<u8>(), 0..65), quote in any::<bool>(),
    ) {
        let attested = match quote {
            true => Attested::Quote { selection, pcr_digest: digest },
            false => Attested::Certify { name: digest, qualified_name: signer.clone() },
        };
        let clock = ClockInfo { clock, reset_count: counts.0, restart_count: counts.1, safe };
        let attest = Attest { qualified_signer: signer, extra_data: extra, clock, firmware_version: version, attested };
        prop_assert_eq!(Attest::decode(&attest.encode()), Ok(attest));
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_alike(
        bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        for read in [&bytes[..], &[&[0, 1, 0, 0xb], &bytes[..]].concat(), &[&[0, 0x23, 0, 0xb], &bytes[..]].concat()] {
            if let Ok(public) = Public::decode(read) {
                prop_assert_eq!(public.encode(), read);
            }
            if let Ok(signature) = Signature::decode(read) {
                prop_assert_eq!(signature.encode(), read);
            }
        }
    }
}
