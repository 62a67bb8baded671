//! One good quote, and one story for each way in which quotes are refused.

use evidence::bank::{Bank, BankValue};
use evidence::tpm::{Attested, Attributes, PcrSelection, PcrSet, PcrValues, Scheme, SignatureScheme};
use rcgen::PKCS_ECDSA_P384_SHA384;
use verifier::testing::{Authority, Tpm, TpmQuote};
use verifier::tpm::{AttestationKey, Quote, verify_quote};
use verifier::{Code, Refusal};

const NONCE: &[u8] = &[7; 32];
const BOOT: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

fn tpm() -> Tpm {
    let mut tpm = Tpm::new(&Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384));
    tpm.extend(4, &[1; 32]);
    tpm.extend(10, &[2; 32]);
    tpm
}

fn key(tpm: &Tpm) -> AttestationKey {
    AttestationKey::from_public(&tpm.attestation_public()).unwrap()
}

fn verify(tpm: &Tpm, quote: TpmQuote) -> Result<Quote, Refusal> {
    verify_quote(&key(tpm), &quote.attest, &quote.signature, NONCE, quote.values)
}

fn refused(tpm: &Tpm, quote: TpmQuote) -> Code {
    verify(tpm, quote).unwrap_err().code
}

fn values(registers: &[(u32, BankValue)]) -> PcrValues {
    PcrValues::new(Bank::Sha256, registers.iter().map(|(register, value)| (*register, value.as_bytes())))
        .unwrap()
}

#[test]
fn a_quote_of_the_key_about_the_reported_registers_is_believed() {
    let tpm = tpm();
    let quote = verify(&tpm, tpm.quote(&BOOT, NONCE)).unwrap();
    assert_eq!(quote.pcrs.get(4), Some(tpm.register(4)));
    assert_eq!(quote.clock, tpm.clock);
}

#[test]
fn a_quote_that_was_altered_or_is_of_another_tpm_is_refused() {
    let (tpm, other) = (tpm(), tpm());
    assert_eq!(refused(&tpm, other.quote(&BOOT, NONCE)), Code::QuoteSignatureInvalid);
    let whole = tpm.quote(&BOOT, NONCE);
    for index in 0..whole.attest.len() {
        let mut quote = whole.clone();
        quote.attest[index] ^= 1;
        let code = refused(&tpm, quote);
        assert!(
            matches!(code, Code::QuoteSignatureInvalid | Code::EvidenceMalformed),
            "byte {index}: {code}"
        );
    }
    for index in 0..whole.signature.len() {
        let mut quote = whole.clone();
        quote.signature[index] ^= 1;
        let code = refused(&tpm, quote);
        assert!(
            matches!(code, Code::QuoteSignatureInvalid | Code::EvidenceMalformed),
            "byte {index}: {code}"
        );
    }
}

#[test]
fn a_quote_for_another_nonce_is_refused() {
    let tpm = tpm();
    for nonce in [&[8; 32][..], &NONCE[..31], &[], &[NONCE, &[0]].concat()] {
        assert_eq!(refused(&tpm, tpm.quote(&BOOT, nonce)), Code::NonceMismatch);
    }
}

/// W2: registers 16 and 23 can be reset by anybody, so their values must not pass for those of others.
#[test]
fn a_quote_over_pcr_23_reported_as_pcr_10_is_refused() {
    let mut tpm = tpm();
    tpm.extend(23, &[2; 32]);
    let mut quote = tpm.quote(&[23], NONCE);
    quote.values = values(&[(10, tpm.register(23))]);
    assert_eq!(refused(&tpm, quote), Code::PcrSelectionMismatch);
}

#[test]
fn registers_that_are_missing_or_added_are_refused() {
    let tpm = tpm();
    for reported in [&BOOT[..7], &[0, 1, 2, 3, 4, 5, 6, 7, 10], &[]] {
        let mut quote = tpm.quote(&BOOT, NONCE);
        let reported: Vec<_> = reported.iter().map(|register| (*register, tpm.register(*register))).collect();
        quote.values = values(&reported);
        assert_eq!(refused(&tpm, quote), Code::PcrSelectionMismatch);
    }
}

#[test]
fn values_under_the_label_of_another_bank_are_refused() {
    let tpm = tpm();
    let mut quote = tpm.quote(&BOOT, NONCE);
    let zeros = BOOT.map(|register| (register, tpm.register(register)));
    quote.values =
        PcrValues::new(Bank::Sm3, zeros.iter().map(|(register, value)| (*register, value.as_bytes())))
            .unwrap();
    assert_eq!(refused(&tpm, quote), Code::PcrSelectionMismatch);
}

#[test]
fn values_that_were_not_signed_are_refused() {
    let tpm = tpm();
    let mut quote = tpm.quote(&BOOT, NONCE);
    let mut reported = BOOT.map(|register| (register, tpm.register(register)));
    reported[7].1 = BankValue::ones(Bank::Sha256);
    quote.values = values(&reported);
    assert_eq!(refused(&tpm, quote), Code::PcrDigestMismatch);
}

fn quote_of(tpm: &Tpm, selection: Vec<PcrSelection>, values: PcrValues) -> TpmQuote {
    let pcr_digest = values.digest(Bank::Sha256).as_bytes().to_vec();
    let (attest, signature) = tpm.sign(Attested::Quote { selection, pcr_digest }, NONCE);
    TpmQuote { attest, signature, values }
}

#[test]
fn quotes_of_several_banks_of_none_and_of_sha1_are_refused() {
    let tpm = tpm();
    let select = |bank, pcrs: &[u32]| PcrSelection { bank, pcrs: PcrSet::new(pcrs.iter().copied()).unwrap() };
    let one = values(&[(0, BankValue::zero(Bank::Sha256))]);
    let none = values(&[]);
    let sha1 = PcrValues::new(Bank::Sha1, [(0, &[0; 20][..])]).unwrap();
    let both = vec![select(Bank::Sha256, &[0]), select(Bank::Sha384, &[0])];
    for (selection, reported) in [
        (both, one.clone()),
        (vec![], none.clone()),
        (vec![select(Bank::Sha256, &[])], none),
        (vec![select(Bank::Sha1, &[0])], sha1),
    ] {
        assert_eq!(refused(&tpm, quote_of(&tpm, selection, reported)), Code::PcrSelectionMismatch);
    }
    // TPMs list banks of which nothing was asked.
    let padded = vec![select(Bank::Sha1, &[]), select(Bank::Sha256, &[0])];
    verify(&tpm, quote_of(&tpm, padded, one)).unwrap();
}

#[test]
fn a_certification_is_no_quote() {
    let tpm = tpm();
    let name = tpm.attestation_public().name().as_bytes().to_vec();
    let (attest, signature) = tpm.sign(Attested::Certify { qualified_name: name.clone(), name }, NONCE);
    let quote = TpmQuote { attest, signature, values: values(&[]) };
    assert_eq!(refused(&tpm, quote), Code::EvidenceMalformed);
}

#[test]
fn keys_that_could_sign_what_no_tpm_has_made_are_refused() {
    let good = tpm().attestation_public();
    AttestationKey::from_public(&good).unwrap();
    for missing in [
        Attributes::RESTRICTED,
        Attributes::SIGN,
        Attributes::FIXED_TPM,
        Attributes::FIXED_PARENT,
        Attributes::SENSITIVE_DATA_ORIGIN,
    ] {
        let mut key = good.clone();
        key.attributes.0 &= !missing.0;
        assert_eq!(
            AttestationKey::from_public(&key).unwrap_err().code,
            Code::TpmKeyUnsuitable,
            "{missing:?}"
        );
    }
    let mut decrypts = good.clone();
    decrypts.attributes = decrypts.attributes.and(Attributes::DECRYPT);
    let mut free = good.clone();
    free.scheme = Scheme::Null;
    let mut weak = good.clone();
    weak.scheme = Scheme::Sign(SignatureScheme::Ecdsa, Bank::Sha1);
    let mut weak_name = good;
    weak_name.name_algorithm = Bank::Sha1;
    for key in [decrypts, free, weak, weak_name] {
        assert_eq!(AttestationKey::from_public(&key).unwrap_err().code, Code::TpmKeyUnsuitable, "{key:?}");
    }
}

#[test]
fn a_signature_in_another_way_than_the_key_is_bound_to_is_refused() {
    let tpm = tpm();
    let mut bound = tpm.attestation_public();
    bound.scheme = Scheme::Sign(SignatureScheme::Ecdsa, Bank::Sha384);
    let quote = tpm.quote(&BOOT, NONCE);
    let key = AttestationKey::from_public(&bound).unwrap();
    let refusal = verify_quote(&key, &quote.attest, &quote.signature, NONCE, quote.values).unwrap_err();
    assert_eq!(refusal.code, Code::QuoteSignatureInvalid);
}
