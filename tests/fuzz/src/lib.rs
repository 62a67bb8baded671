//! Valid evidence, from which seeds are written and targets complete what the fuzzer gives them.

#![forbid(unsafe_code)]

pub mod driver;
pub mod guest;
pub mod tpm;

use std::convert::Infallible;

use evidence::cca::{
    self, Curve, Lifecycle, MecPolicy, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile,
    SignatureAlgorithm, SoftwareComponent,
};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::virtcca::{self, CvmClaims, CvmKey};
use gta_server::harness::Harness;

/// A Global Trust Authority that knows the machines of the seeds of `gta_body`.
///
/// # Panics
/// If it does not take what it took when the seeds were written.
pub fn authority() -> Harness {
    let harness = Harness::new(include_str!("../setup/gta_body.json"));
    harness.unwrap_or_else(|error| panic!("run the example gta_seeds: {error}"))
}

/// A refusal that people and their terminals can read, whatever the sender wrote.
///
/// # Panics
/// If it is not.
pub fn readable(error: &dyn std::error::Error) {
    let message = error.to_string();
    assert!(message.len() < 1000 && !message.contains(char::is_control), "{message}");
}

/// Platform claims with every optional claim of `profile`.
pub fn platform(profile: PlatformProfile) -> PlatformClaims {
    let mut instance_id = [7; 33];
    instance_id[0] = 1;
    let component = |kind: &str, hash: Option<HashAlgorithm>| SoftwareComponent {
        kind: Some(kind.to_owned()),
        measurement: hash.unwrap_or(HashAlgorithm::Sha256).digest(kind.as_bytes()),
        version: Some("1.2".to_owned()),
        signer_id: HashAlgorithm::Sha384.digest(b"signer"),
        hash,
    };
    PlatformClaims {
        profile,
        nonce: vec![3; 32],
        implementation_id: [9; 32],
        instance_id,
        config: vec![0xcf; 4],
        lifecycle: Lifecycle(0x3003),
        components: vec![component("BL", None), component("RMM", Some(HashAlgorithm::Sha512))],
        verification_service: Some("https://verifier.example".to_owned()),
        hash: HashAlgorithm::Sha256,
    }
}

/// Realm claims with every optional claim of `profile`.
pub fn realm(profile: RealmProfile, hash: HashAlgorithm) -> RealmClaims {
    let mut point = vec![0x5a; 1 + 2 * Curve::P384.coordinate_len()];
    point[0] = 4;
    let rak = match profile {
        RealmProfile::Legacy => RealmKey::raw_p384(&point),
        RealmProfile::Realm2023 | RealmProfile::Realm2024 { .. } => RealmKey::cose_p384(&point),
    };
    RealmClaims {
        challenge: [0xab; 64],
        profile,
        rpv: [0xcd; 64],
        hash,
        rak: rak.expect("the point has the right size"),
        rim: hash.digest(b"rim"),
        rems: [Digest::zero(hash); 4],
        rak_hash: HashAlgorithm::Sha256,
    }
}

/// The newest Realm profile, with both of its claims.
pub fn realm_2024() -> RealmProfile {
    let mut instance_id = [2; 33];
    instance_id[0] = 1;
    RealmProfile::Realm2024 { instance_id: Some(instance_id), mec_policy: MecPolicy::Private }
}

/// `claims` in a COSE_Sign1 with a signature of the right size and no meaning.
pub fn sign(claims: &[u8]) -> Vec<u8> {
    sign_with(claims, SignatureAlgorithm::Es384)
}

/// As [`sign`], with another algorithm.
pub fn sign_with(claims: &[u8], algorithm: SignatureAlgorithm) -> Vec<u8> {
    let Ok(token) = cca::sign::<Infallible>(claims, algorithm, |_| Ok(vec![0x11; algorithm.signature_len()]));
    token
}

/// Claims of a CVM with a P-521 key.
pub fn cvm() -> CvmClaims {
    let mut point = vec![0x5a; Curve::P521.point_len()];
    point[0] = 4;
    CvmClaims {
        challenge: [0xab; 64],
        rpv: [0xcd; 64],
        hash: HashAlgorithm::Sha256,
        key: CvmKey::new(point).expect("the point has the right size"),
        rim: HashAlgorithm::Sha256.digest(b"rim"),
        rems: [Digest::zero(HashAlgorithm::Sha256); 4],
        key_hash: HashAlgorithm::Sha256,
    }
}

/// Claims of a Platform Token.
pub fn virtcca_platform() -> virtcca::PlatformClaims {
    let component = |kind: &str, hash: Option<HashAlgorithm>| virtcca::SoftwareComponent {
        kind: kind.to_owned(),
        measurement: hash.unwrap_or(HashAlgorithm::Sha256).digest(kind.as_bytes()),
        version: "21.23.0".to_owned(),
        signer_id: vec![0x51; 4],
        hash,
    };
    virtcca::PlatformClaims {
        profile: String::new(),
        challenge: HashAlgorithm::Sha256.digest(cvm().key.claim_bytes()),
        implementation_id: [9; 32],
        instance_id: [1; 33],
        config: vec![0xcf; 4],
        lifecycle: Lifecycle(0x2000),
        components: vec![component("tf_bl2", None), component("tee", Some(HashAlgorithm::Sha512))],
        verification_service: String::new(),
        hash: HashAlgorithm::Sha256,
    }
}

/// The byte string of CBOR in which a CVM token has its claims.
pub fn wrapped(claims: &[u8]) -> Vec<u8> {
    let length = u32::try_from(claims.len()).expect("inputs of a fuzzer are short").to_be_bytes();
    [&[0x5a], &length[..], claims].concat()
}
