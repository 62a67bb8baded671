//! A TPM that is not ours, and tpm2-tools: we agree with them on quotes, and they open what we make.

use evidence::bank::Bank;
use evidence::tpm::{PcrValues, Public};
use test_swtpm::Swtpm;
use verifier::chain::TrustBundle;
use verifier::testing::NOW;
use verifier::tpm::credential::make_credential;
use verifier::tpm::{AttestationKey, certified_key, endorsement_key, verify_quote};
use verifier::{Code, Refusal};

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A pair of keys as `tpm2_createek` and `tpm2_createak` make them.
fn create(tpm: &Swtpm, endorsement: &str, attestation: &str, scheme: &str, hash: &str) -> (Public, Public) {
    tpm.tool("tpm2_createek", ["-c", "ek.ctx", "-u", "ek.pub", "-G", endorsement, "-Q"]).unwrap();
    let arguments = ["-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name", "-f", "tss", "-Q"];
    let algorithms = ["-G", attestation, "-s", scheme, "-g", hash];
    tpm.tool("tpm2_createak", arguments.iter().chain(&algorithms)).unwrap();
    let read = |name| Public::decode_sized(&tpm.read(name).unwrap()).unwrap();
    (read("ek.pub"), read("ak.pub"))
}

fn quote(tpm: &Swtpm, scheme: &str, hash: &str) {
    let files = ["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs", "-Q"];
    let arguments = ["-c", "ak.ctx", "-l", "sha256:0,4,7,10", "-q", NONCE, "--scheme", scheme, "-g", hash];
    tpm.tool("tpm2_quote", files.iter().chain(&arguments)).unwrap();
}

/// The registers as `tpm2_pcrread` writes them into a file: value after value.
fn registers(tpm: &Swtpm) -> PcrValues {
    tpm.tool("tpm2_pcrread", ["sha256:0,4,7,10", "-o", "registers"]).unwrap();
    let bytes = tpm.read("registers").unwrap();
    PcrValues::new(Bank::Sha256, [0, 4, 7, 10].into_iter().zip(bytes.chunks(32))).unwrap()
}

fn ours(tpm: &Swtpm, key: &Public, nonce: &str) -> Result<(), Refusal> {
    let key = AttestationKey::from_public(key)?;
    let (attest, signature) = (tpm.read("quote.msg").unwrap(), tpm.read("quote.sig").unwrap());
    let nonce = hex::decode(nonce).unwrap();
    verify_quote(&key, &attest, &signature, &nonce, registers(tpm)).map(drop)
}

/// tpm2_checkquote 5.4 knows no RSASSA-PSS; openssl takes over there, and knows no nonce.
fn theirs(tpm: &Swtpm, scheme: &str, hash: &str, nonce: &str) -> bool {
    if scheme == "rsapss" {
        let signature = tpm.read("quote.sig").unwrap().split_off(6);
        tpm.write("quote.raw", &signature).unwrap();
        tpm.tool("tpm2_readpublic", ["-c", "ak.ctx", "-f", "pem", "-o", "ak.pem", "-Q"]).unwrap();
        let arguments =
            ["dgst", "-verify", "ak.pem", "-signature", "quote.raw", "-sigopt", "rsa_padding_mode:pss"];
        let hash = format!("-{hash}");
        return tpm.tool("openssl", arguments.iter().chain(&[hash.as_str(), "quote.msg"])).is_ok()
            && nonce == NONCE;
    }
    let files = ["-u", "ak.pub", "-m", "quote.msg", "-s", "quote.sig", "-f", "quote.pcrs"];
    tpm.tool("tpm2_checkquote", files.iter().chain(&["-g", hash, "-q", nonce])).is_ok()
}

#[test]
fn tpm2_checkquote_and_we_agree() {
    let tpm = Swtpm::start().unwrap();
    let digest = format!("4:sha256={}", "11".repeat(32));
    tpm.tool("tpm2_pcrextend", [digest.as_str()]).unwrap();
    for (kind, scheme, hash) in [
        ("rsa", "rsassa", "sha256"),
        ("rsa", "rsapss", "sha256"),
        ("ecc", "ecdsa", "sha256"),
        ("rsa", "rsassa", "sha384"),
    ] {
        let (_, key) = create(&tpm, "rsa", kind, scheme, hash);
        assert_eq!(key.name().as_bytes(), tpm.read("ak.name").unwrap(), "{scheme}");
        quote(&tpm, scheme, hash);
        ours(&tpm, &key, NONCE).unwrap();
        assert!(theirs(&tpm, scheme, hash, NONCE), "{scheme}");
        let other = NONCE.replace("00", "ff");
        assert_eq!(ours(&tpm, &key, &other).unwrap_err().code, Code::NonceMismatch);
        assert!(!theirs(&tpm, scheme, hash, &other), "{scheme}");
        let mut altered = tpm.read("quote.msg").unwrap();
        *altered.last_mut().unwrap() ^= 1;
        tpm.write("quote.msg", &altered).unwrap();
        assert_eq!(ours(&tpm, &key, NONCE).unwrap_err().code, Code::QuoteSignatureInvalid);
        assert!(!theirs(&tpm, scheme, hash, NONCE), "{scheme}");
    }
    quote(&tpm, "rsassa", "sha384");
    tpm.tool("tpm2_pcrextend", [digest.as_str()]).unwrap();
    let key = Public::decode_sized(&tpm.read("ak.pub").unwrap()).unwrap();
    assert_eq!(ours(&tpm, &key, NONCE).unwrap_err().code, Code::PcrDigestMismatch);
}

#[test]
fn keys_that_sign_with_sha1_are_refused() {
    let tpm = Swtpm::start().unwrap();
    let (_, key) = create(&tpm, "rsa", "rsa", "rsassa", "sha1");
    assert_eq!(AttestationKey::from_public(&key).unwrap_err().code, Code::TpmKeyUnsuitable);
}

/// `tpm2_activatecredential` reads the credential in the form of tpm2-tools.
fn activate(tpm: &Swtpm, endorsement: &Public, attestation: &Public, secret: &[u8]) -> Option<Vec<u8>> {
    let name = attestation.name();
    let (object, encrypted) = make_credential(endorsement, &name, secret, &mut rand::rng()).unwrap();
    let header = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
    tpm.write("credential", &[&header[..], &object.encode(), &encrypted.encode()].concat()).unwrap();
    tpm.tool("tpm2_startauthsession", ["--policy-session", "-S", "session.ctx"]).unwrap();
    tpm.tool("tpm2_policysecret", ["-S", "session.ctx", "-c", "e", "-Q"]).unwrap();
    let files = ["-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "opened"];
    let opened =
        tpm.tool("tpm2_activatecredential", files.iter().chain(&["-P", "session:session.ctx", "-Q"]));
    tpm.tool("tpm2_flushcontext", ["session.ctx"]).unwrap();
    opened.ok().map(|_| tpm.read("opened").unwrap())
}

#[test]
fn the_tpm_opens_our_credentials_and_only_with_its_own_keys() {
    let tpm = Swtpm::start().unwrap();
    let secret: Vec<u8> = (0..32).collect();
    for kind in ["rsa", "ecc"] {
        let (endorsement, attestation) = create(&tpm, kind, "ecc", "ecdsa", "sha256");
        assert_eq!(activate(&tpm, &endorsement, &attestation, &secret), Some(secret.clone()), "{kind}");
        let mut another = attestation;
        another.auth_policy = vec![1; 32];
        assert_eq!(activate(&tpm, &endorsement, &another, &secret), None, "{kind}");
    }
}

#[test]
fn endorsement_certificates_of_swtpm_lead_to_its_manufacturer() {
    let tpm = Swtpm::start().unwrap();
    let manufacturer = tpm.manufacturer().unwrap();
    let bundle = TrustBundle::new([("manufacturer.pem", manufacturer.as_bytes())], []).unwrap();
    let (endorsement, _) = create(&tpm, "rsa", "rsa", "rsassa", "sha256");
    tpm.tool("tpm2_nvread", ["0x01c00002", "-o", "ek.der"]).unwrap();
    let certificate = tpm.read("ek.der").unwrap();
    // It was issued a moment ago, by the machine's clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = NOW.max(now.as_secs().try_into().unwrap());
    let device = endorsement_key(&endorsement, &certificate, &bundle, now).unwrap();
    assert_eq!(device.root_subject, "CN=swtpm-localca-rootca");
    let refusal = endorsement_key(&endorsement, &certificate, &TrustBundle::empty(), now).unwrap_err();
    assert_eq!(refusal.code, Code::CertificateUntrusted);
    let other = Swtpm::start().unwrap().manufacturer().unwrap();
    let stranger = TrustBundle::new([("manufacturer.pem", other.as_bytes())], []).unwrap();
    let refusal = endorsement_key(&endorsement, &certificate, &stranger, now).unwrap_err();
    assert_eq!(refusal.code, Code::CertificateUntrusted);
}

/// One key of the TPM says that another is in it, too.
#[test]
fn a_key_that_the_tpm_certifies_is_believed() {
    let tpm = Swtpm::start().unwrap();
    let (_, initial) = create(&tpm, "rsa", "ecc", "ecdsa", "sha256");
    tpm.write("iak.ctx", &tpm.read("ak.ctx").unwrap()).unwrap();
    let (_, other) = create(&tpm, "rsa", "rsa", "rsassa", "sha256");
    let certify = ["-C", "iak.ctx", "-c", "ak.ctx", "-g", "sha256", "-o", "certified", "-s", "signature"];
    tpm.tool("tpm2_certify", certify).unwrap();
    let (attest, signature) = (tpm.read("certified").unwrap(), tpm.read("signature").unwrap());
    // What tpm2_certify always asks for.
    let asked = [0x00, 0xff, 0x55, 0xaa];
    let key = AttestationKey::from_public(&initial).unwrap();
    let known = certified_key(&key, &other, &attest, &signature, &asked).unwrap();
    assert_eq!(known, AttestationKey::from_public(&other).unwrap());
    let refused =
        |key, public, asked: &[u8]| certified_key(key, public, &attest, &signature, asked).unwrap_err().code;
    assert_eq!(refused(&key, &other, &asked[1..]), Code::NonceMismatch);
    assert_eq!(refused(&key, &initial, &asked), Code::AttestationKeyUncertified);
    assert_eq!(refused(&known, &other, &asked), Code::AttestationKeyUncertified);
    tpm.tool("tpm2_quote", ["-c", "iak.ctx", "-l", "sha256:0", "-q", "00ff55aa", "-m", "q", "-s", "s", "-Q"])
        .unwrap();
    let (quote, signature) = (tpm.read("q").unwrap(), tpm.read("s").unwrap());
    let refused = certified_key(&key, &other, &quote, &signature, &asked).unwrap_err();
    assert_eq!(refused.code, Code::AttestationKeyUncertified);
}
