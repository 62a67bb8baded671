//! Against libtpms: what tpm2-tools say of the same TPM is not ours, so it judges what is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use evidence::bank::Bank;
use evidence::tpm::{EncryptedSecret, IdObject, PcrSet, Public};
use test_swtpm::Swtpm;
use tpm::{
    AkAlgorithm, AttestationKey, Auth, EkKind, EndorsementKey, Error, Handle, Tcti, Tpm, activate,
    endorsement_certificate, ensure_attestation_key, quote,
};

const AK: Handle = Handle(0x8101_0020);

fn open(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&Tcti::Unix(swtpm.socket())).unwrap()
}

fn attestation_key(tpm: &mut Tpm, handle: Handle, algorithm: AkAlgorithm) -> Result<AttestationKey, Error> {
    let none = Auth::default();
    ensure_attestation_key(tpm, handle, algorithm, &none, &none)
}

/// What is loaded and was not let go of.
fn left(swtpm: &Swtpm) -> String {
    let of = |kind| swtpm.tool("tpm2_getcap", [kind]).unwrap();
    of("handles-transient") + &of("handles-loaded-session")
}

fn header() -> Vec<u8> {
    vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]
}

#[test]
fn a_quote_satisfies_tpm2_tools_with_every_algorithm() {
    let swtpm = Swtpm::start().unwrap();
    swtpm.tool("tpm2_pcrextend", [format!("10:sha384={}", "5a".repeat(48))]).unwrap();
    let algorithms = [AkAlgorithm::EcdsaP256, AkAlgorithm::RsaPss2048, AkAlgorithm::RsaSsa2048];
    for (algorithm, handle) in algorithms.into_iter().zip(0x8101_0020..) {
        let mut tpm = open(&swtpm);
        let key = attestation_key(&mut tpm, Handle(handle), algorithm).unwrap();
        // More than fit into one answer of TPM2_PCR_Read, and a bank whose hash is not the signature's.
        let pcrs = PcrSet::new(0..=10).unwrap();
        let quoted = quote(&mut tpm, &key, Bank::Sha384, pcrs, &[0xab; 32]).unwrap();
        drop(tpm);
        assert_eq!(quoted.values.pcrs(), pcrs);
        assert!(!quoted.values.get(10).unwrap().is_zero() && quoted.values.get(9).unwrap().is_zero());
        swtpm.tool("tpm2_readpublic", ["-c", &key.handle.to_string(), "-o", "ak.pub", "-Q"]).unwrap();
        assert_eq!(swtpm.read("ak.pub").unwrap(), key.public.encode_sized());
        swtpm.write("message", &quoted.attest).unwrap();
        swtpm.write("signature", &quoted.signature).unwrap();
        // tpm2_checkquote does not know PSS; the TPM itself does.
        let handle = key.handle.to_string();
        let arguments = ["-c", &handle, "-g", "sha256", "-m", "message", "-s", "signature"];
        swtpm.tool("tpm2_verifysignature", arguments).unwrap();
        let check = |qualifying: &str| {
            let files = ["-u", "ak.pub", "-m", "message", "-s", "signature", "-g", "sha256"];
            swtpm.tool("tpm2_checkquote", files.iter().chain(&["-q", qualifying]))
        };
        assert!(algorithm == AkAlgorithm::RsaPss2048 || check(&"ab".repeat(32)).is_ok());
        assert!(check(&"ac".repeat(32)).is_err());
    }
    assert_eq!(left(&swtpm), "");
}

#[test]
fn an_attestation_key_is_kept_and_made_again_alike() {
    let swtpm = Swtpm::start().unwrap();
    let name = |tpm: &mut Tpm| attestation_key(tpm, AK, AkAlgorithm::EcdsaP256).unwrap().public.name();
    let mut tpm = open(&swtpm);
    let first = name(&mut tpm);
    assert_eq!(name(&mut tpm), first);
    drop(tpm);
    let said = swtpm.tool("tpm2_readpublic", ["-c", &AK.to_string()]).unwrap();
    assert!(said.contains(&format!("name: {first}")), "{said}");
    assert!(said.contains("fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"), "{said}");
    swtpm.tool("tpm2_evictcontrol", ["-C", "o", "-c", &AK.to_string()]).unwrap();
    let mut tpm = open(&swtpm);
    assert!(tpm.read_public(AK).unwrap().is_none());
    assert_eq!(name(&mut tpm), first);
    drop(tpm);
    assert_eq!(left(&swtpm), "");
}

#[test]
fn a_handle_that_holds_something_else_is_not_touched() {
    let swtpm = Swtpm::start().unwrap();
    // A storage key, and a key that encrypts by itself, which is of a kind that is not read here.
    swtpm.tool("tpm2_createprimary", ["-C", "o", "-c", "p.ctx", "-Q"]).unwrap();
    swtpm.tool("tpm2_evictcontrol", ["-C", "o", "-c", "p.ctx", "0x81000001"]).unwrap();
    swtpm.tool("tpm2_create", ["-C", "p.ctx", "-G", "aes", "-u", "s.pub", "-r", "s.priv", "-Q"]).unwrap();
    swtpm.tool("tpm2_load", ["-C", "p.ctx", "-u", "s.pub", "-r", "s.priv", "-c", "s.ctx", "-Q"]).unwrap();
    swtpm.tool("tpm2_evictcontrol", ["-C", "o", "-c", "s.ctx", "0x81000002"]).unwrap();
    let mut tpm = open(&swtpm);
    for handle in [0x8100_0001, 0x8100_0002] {
        let error = attestation_key(&mut tpm, Handle(handle), AkAlgorithm::EcdsaP256).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error:?}");
    }
    for handle in [0x8000_0000, 0x8180_0000, 0x0100_0000] {
        let error = attestation_key(&mut tpm, Handle(handle), AkAlgorithm::EcdsaP256).unwrap_err();
        assert!(matches!(error, Error::NotPersistent { .. }), "{error:?}");
    }
}

#[test]
fn a_credential_of_tpm2_makecredential_is_opened_by_its_tpm_only() {
    let (swtpm, other) = (Swtpm::start().unwrap(), Swtpm::start().unwrap());
    let none = Auth::default();
    for kind in [EkKind::Rsa, EkKind::Ecc] {
        let mut tpm = open(&swtpm);
        let key = attestation_key(&mut tpm, AK, AkAlgorithm::EcdsaP256).unwrap();
        let endorsement = EndorsementKey::create(&mut tpm, kind, &none, &none).unwrap();
        let public = endorsement.public().clone();
        endorsement.flush(&mut tpm).unwrap();
        drop(tpm);
        // The same key that tpm2-tools make.
        let algorithm = if kind == EkKind::Rsa { "rsa" } else { "ecc" };
        swtpm.tool("tpm2_createek", ["-c", "ek.ctx", "-u", "ek.pub", "-G", algorithm, "-Q"]).unwrap();
        assert_eq!(Public::decode_sized(&swtpm.read("ek.pub").unwrap()).unwrap(), public);

        swtpm.write("secret", b"between the two of us").unwrap();
        let name = key.public.name().to_string();
        let arguments = ["-u", "ek.pub", "-s", "secret", "-n", &name, "-o", "credential", "-Q"];
        swtpm.tool("tpm2_makecredential", arguments).unwrap();
        let file = swtpm.read("credential").unwrap();
        let body = file.strip_prefix(&header()[..]).unwrap();
        let length = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (object, secret) = body.split_at(length);
        let (object, secret) = (IdObject::decode(object).unwrap(), EncryptedSecret::decode(secret).unwrap());
        let opened_by = |swtpm: &Swtpm, object: &IdObject| {
            let mut tpm = open(swtpm);
            let key = attestation_key(&mut tpm, AK, AkAlgorithm::EcdsaP256).unwrap();
            let endorsement = EndorsementKey::create(&mut tpm, kind, &none, &none).unwrap();
            let opened = activate(&mut tpm, &key, &endorsement, &none, object, &secret);
            endorsement.flush(&mut tpm).unwrap();
            opened
        };
        assert_eq!(*opened_by(&swtpm, &object).unwrap(), b"between the two of us");
        assert!(matches!(opened_by(&other, &object), Err(Error::Refused { .. })));
        let mut changed = object;
        changed.integrity[0] ^= 1;
        let error = opened_by(&swtpm, &changed).unwrap_err();
        assert!(error.to_string().contains("TPM_RC_INTEGRITY"), "{error}");
        assert_eq!(left(&swtpm) + &left(&other), "");
    }
}

#[test]
fn a_template_that_the_manufacturer_left_is_used() {
    let swtpm = Swtpm::start().unwrap();
    let none = Auth::default();
    let make = |swtpm: &Swtpm| {
        let mut tpm = open(swtpm);
        let key = EndorsementKey::create(&mut tpm, EkKind::Ecc, &none, &none).unwrap();
        let public = key.public().clone();
        key.flush(&mut tpm).unwrap();
        public
    };
    let define = |index: &str, content: &[u8]| {
        swtpm.write("content", content).unwrap();
        let size = content.len().to_string();
        // As manufacturers do: whoever has the index may read it.
        let arguments = ["-C", "p", "-s", &size, "-a", "ppwrite|authread|platformcreate|no_da", index];
        swtpm.tool("tpm2_nvdefine", arguments).unwrap();
        swtpm.tool("tpm2_nvwrite", ["-C", "p", "-i", "content", index]).unwrap();
    };
    let default = make(&swtpm);
    define("0x01c0000b", &[0x5a; 20]);
    let with_nonce = make(&swtpm);
    assert_ne!(with_nonce, default);
    // The same template with AES-256, and all of the nonce in its place.
    let mut template = default.clone();
    template.symmetric = evidence::tpm::Symmetric::AesCfb { bits: 256 };
    define("0x01c0000c", &template.encode());
    assert_eq!(make(&swtpm).symmetric, template.symmetric);
}

#[test]
fn the_certificate_is_the_one_that_tpm2_tools_read() {
    let swtpm = Swtpm::start().unwrap();
    let none = Auth::default();
    let mut tpm = open(&swtpm);
    let certificate = endorsement_certificate(&mut tpm, EkKind::Rsa, &none).unwrap();
    let missing = endorsement_certificate(&mut tpm, EkKind::Ecc, &none).unwrap_err();
    assert!(missing.to_string().contains("0x01c0000a"), "{missing}");
    drop(tpm);
    swtpm.tool("tpm2_nvread", ["0x01c00002", "-o", "ek.der"]).unwrap();
    assert!(swtpm.read("ek.der").unwrap().starts_with(&certificate));
    assert!(certificate.len() > 500);
}

#[test]
fn passwords_of_hierarchies_are_given_and_missed() {
    let swtpm = Swtpm::start().unwrap();
    for hierarchy in ["o", "e"] {
        swtpm.tool("tpm2_changeauth", ["-c", hierarchy, "secret"]).unwrap();
    }
    let mut tpm = open(&swtpm);
    let (right, none) = (Auth::new(b"secret".to_vec().into()), Auth::default());
    let make = |tpm: &mut Tpm, endorsement: &Auth, owner: &Auth| {
        ensure_attestation_key(tpm, AK, AkAlgorithm::EcdsaP256, endorsement, owner)
    };
    for (endorsement, owner) in [(&none, &right), (&right, &none)] {
        let error = make(&mut tpm, endorsement, owner).unwrap_err();
        assert!(error.to_string().contains("password"), "{error}");
    }
    make(&mut tpm, &right, &right).unwrap();
    drop(tpm);
    assert_eq!(left(&swtpm), "");
}

#[test]
fn registers_that_a_tpm_does_not_have_are_told() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = open(&swtpm);
    let key = attestation_key(&mut tpm, AK, AkAlgorithm::EcdsaP256).unwrap();
    for (bank, register) in [(Bank::Sha512, 0), (Bank::Sha256, 24)] {
        let pcrs = PcrSet::new([register]).unwrap();
        let error = quote(&mut tpm, &key, bank, pcrs, &[]).unwrap_err();
        assert!(matches!(error, Error::Registers { .. } | Error::Refused { .. }), "{error:?}");
    }
}
