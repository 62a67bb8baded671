//! T5 and its relatives: which certificate chains are believed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};
use verifier::Code;
use verifier::chain::{DeviceKey, Fingerprint, TrustBundle};
use verifier::testing::{Authority, DeviceSigner, NOW, VirtccaMint};

const P521: &SignatureAlgorithm = &PKCS_ECDSA_P521_SHA512;
const YEAR: i64 = 365 * 86_400;

/// A root, a sub CA and a device, each with parameters that a test may change.
struct Hierarchy {
    root: CertificateParams,
    sub: CertificateParams,
    device: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
}

/// What came of it.
struct Issued {
    root: Authority,
    sub: Authority,
    device: Vec<u8>,
}

impl Hierarchy {
    fn new() -> Self {
        Self {
            root: Authority::ca_params("Root", 1),
            sub: Authority::ca_params("Sub", 0),
            device: VirtccaMint::device_params(),
            algorithm: P521,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Issued {
        let mut hierarchy = Self::new();
        change(&mut hierarchy);
        hierarchy.issue()
    }

    fn issue(self) -> Issued {
        let root = Authority::root(self.root, self.algorithm);
        let sub = root.sub(self.sub, self.algorithm);
        let device = sub.issue(&self.device, DeviceSigner::p521().certified()).der().to_vec();
        Issued { root, sub, device }
    }
}

impl Issued {
    fn bundle(&self, more: &[String]) -> TrustBundle {
        let pems = [&[self.root.pem(), self.sub.pem()], more].concat();
        TrustBundle::new(pems.iter().map(|pem| ("test.pem", pem.as_bytes())), []).unwrap()
    }

    #[track_caller]
    fn refused(&self) -> Code {
        self.refused_with(&[], NOW)
    }

    #[track_caller]
    fn refused_with(&self, more: &[String], now: i64) -> Code {
        self.bundle(more).device(&self.device, now).expect_err("the chain was accepted").code()
    }

    #[track_caller]
    fn accepted(&self) {
        self.bundle(&[]).device(&self.device, NOW).unwrap();
    }
}

/// Why a hierarchy with this change is refused, if it is.
fn code(change: fn(&mut Hierarchy)) -> Option<Code> {
    let issued = Hierarchy::with(change);
    issued.bundle(&[]).device(&issued.device, NOW).err().map(|error| error.code())
}

#[test]
fn accepts_chains_of_every_algorithm_and_says_who_it_is() {
    for algorithm in [P521, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let issued = Hierarchy::with(|hierarchy| hierarchy.algorithm = algorithm);
        let device = issued.bundle(&[]).device(&issued.device, NOW).unwrap();
        assert!(device.subject.contains("device-0001") && device.issuer.contains("Sub"));
        assert_eq!(device.serial, "112233");
        assert_eq!(device.fingerprint, Fingerprint::of(&issued.device));
        assert_eq!(device.root, Fingerprint::of(&issued.root.der()));
        assert!(matches!(&device.key, DeviceKey::Ec { point, .. } if point.len() == 133));
        assert!(!device.revocation_checked);
    }
}

#[test]
fn the_sub_ca_may_come_with_the_evidence_and_the_root_may_not() {
    let issued = Hierarchy::new().issue();
    let pem = |der: &[u8]| pem_of(der);
    let sent = [pem(&issued.device), issued.sub.pem(), issued.root.pem()].concat();
    let root = issued.root.pem();
    let bundle = TrustBundle::new([("root.pem", root.as_bytes())], []).unwrap();
    bundle.device(sent.as_bytes(), NOW).unwrap();
    assert_eq!(bundle.device(&issued.device, NOW).unwrap_err().code(), Code::CertificateUntrusted);
    let other = Hierarchy::new().issue();
    assert_eq!(
        other.bundle(&[]).device(sent.as_bytes(), NOW).unwrap_err().code(),
        Code::CertificateUntrusted
    );
    let empty = TrustBundle::empty().device(sent.as_bytes(), NOW).unwrap_err();
    assert_eq!(empty.code(), Code::CertificateUntrusted);
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[test]
fn t5_refuses_certificates_that_expired_or_are_not_valid_yet() {
    let changes = [
        (|hierarchy| hierarchy.device.not_after = date_time_ymd(2026, 1, 1)) as fn(&mut Hierarchy),
        |hierarchy| hierarchy.device.not_before = date_time_ymd(2028, 1, 1),
        |hierarchy| hierarchy.sub.not_after = date_time_ymd(2026, 1, 1),
        |hierarchy| hierarchy.sub.not_before = date_time_ymd(2028, 1, 1),
        |hierarchy| hierarchy.root.not_after = date_time_ymd(2026, 1, 1),
        |hierarchy| hierarchy.root.not_before = date_time_ymd(2028, 1, 1),
    ];
    assert_eq!(changes.map(code), [Some(Code::CertificateExpired); 6]);
}

#[test]
fn t5_refuses_an_issuer_that_is_no_authority() {
    let not_ca = Hierarchy::with(|hierarchy| hierarchy.sub.is_ca = IsCa::ExplicitNoCa);
    let root = not_ca.root.pem();
    let bundle = TrustBundle::new([("root.pem", root.as_bytes())], []).unwrap();
    let sent = [pem_of(&not_ca.device), not_ca.sub.pem()].concat();
    assert_eq!(bundle.device(sent.as_bytes(), NOW).unwrap_err().code(), Code::CertificateConstraint);
    // And an operator cannot install one.
    let sub = not_ca.sub.pem();
    assert!(TrustBundle::new([("sub.pem", sub.as_bytes())], []).is_err());
}

#[test]
fn refuses_certificates_where_their_constraints_forbid_them() {
    use KeyUsagePurpose::{CrlSign, KeyAgreement};
    let changes = [
        (|hierarchy| hierarchy.sub.key_usages = vec![CrlSign]) as fn(&mut Hierarchy),
        |hierarchy| hierarchy.root.key_usages = vec![CrlSign],
        |hierarchy| hierarchy.device.key_usages = vec![KeyAgreement],
        |hierarchy| hierarchy.device.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        |hierarchy| hierarchy.root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    ];
    assert_eq!(changes.map(code), [Some(Code::CertificateConstraint); 5]);
    Hierarchy::with(|hierarchy| hierarchy.device.key_usages = Vec::new()).accepted();
}

#[test]
fn refuses_a_path_that_is_longer_than_the_sub_ca_allows() {
    let root = Authority::root(Authority::ca_params("Root", 2), P521);
    let sub = root.sub(Authority::ca_params("Sub", 0), P521);
    let below = sub.sub(Authority::ca_params("Below", 0), P521);
    let device = below.issue(&VirtccaMint::device_params(), DeviceSigner::p521().certified());
    let pems = [root.pem(), sub.pem(), below.pem()];
    let bundle = TrustBundle::new(pems.iter().map(|pem| ("test.pem", pem.as_bytes())), []).unwrap();
    assert_eq!(bundle.device(device.der(), NOW).unwrap_err().code(), Code::CertificateConstraint);
}

#[test]
fn refuses_critical_extensions_that_nobody_understands() {
    let extension = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        vec![extension]
    };
    Hierarchy::with(|hierarchy| hierarchy.device.custom_extensions = extension(false)).accepted();
    let device = Hierarchy::with(|hierarchy| hierarchy.device.custom_extensions = extension(true));
    assert_eq!(device.refused(), Code::CertificateConstraint);
    let sub = Hierarchy::with(|hierarchy| hierarchy.sub.custom_extensions = extension(true));
    assert!(matches!(sub.refused(), Code::CertificateConstraint | Code::CertificateUntrusted));
}

#[test]
fn refuses_an_issuer_of_another_name_or_with_another_key() {
    let issued = Hierarchy::new().issue();
    let impostor = Hierarchy::new().issue();
    assert_eq!(impostor.refused_of(&issued.device), Code::CertificateUntrusted);
    let other_name = Hierarchy::with(|hierarchy| hierarchy.sub = Authority::ca_params("Sub 2", 0));
    assert_eq!(other_name.refused_of(&issued.device), Code::CertificateUntrusted);
}

impl Issued {
    fn refused_of(&self, device: &[u8]) -> Code {
        self.bundle(&[]).device(device, NOW).expect_err("the chain was accepted").code()
    }
}

#[test]
fn t5_refuses_revoked_certificates_by_lists_that_are_current() {
    let issued = Hierarchy::with(|hierarchy| hierarchy.sub.serial_number = Some(7_u64.into()));
    let revoked = issued.sub.revocation_list(&[VirtccaMint::serial()], 2026..2028);
    assert_eq!(issued.refused_with(&[revoked], NOW), Code::CertificateRevoked);
    let revoked = issued.root.revocation_list(&[7], 2026..2028);
    assert_eq!(issued.refused_with(&[revoked], NOW), Code::CertificateRevoked);

    let (of_sub, of_root) =
        (issued.sub.revocation_list(&[1], 2026..2028), issued.root.revocation_list(&[], 2026..2028));
    let device = issued.bundle(std::slice::from_ref(&of_sub)).device(&issued.device, NOW).unwrap();
    assert!(!device.revocation_checked);
    let device = issued.bundle(&[of_sub, of_root]).device(&issued.device, NOW).unwrap();
    assert!(device.revocation_checked);
}

#[test]
fn refuses_revocation_lists_that_are_out_of_date_or_of_another_key() {
    let issued = Hierarchy::new().issue();
    let old = issued.sub.revocation_list(&[], 2020..2026);
    assert_eq!(issued.refused_with(std::slice::from_ref(&old), NOW), Code::RevocationUnknown);
    // The newest list of an issuer counts, in whatever order they were installed.
    let new = issued.sub.revocation_list(&[VirtccaMint::serial()], 2026..2028);
    assert_eq!(issued.refused_with(&[old, new], NOW), Code::CertificateRevoked);
    let forged = Hierarchy::new().issue().sub.revocation_list(&[], 2026..2028);
    assert_eq!(issued.refused_with(&[forged], NOW), Code::RevocationUnknown);
}

#[test]
fn a_remembered_chain_is_refused_when_it_or_a_revocation_list_has_expired() {
    let issued = Hierarchy::with(|hierarchy| hierarchy.sub.not_after = date_time_ymd(2030, 1, 1));
    let bundle = issued.bundle(&[]);
    bundle.device(&issued.device, NOW).unwrap();
    bundle.device(&issued.device, NOW + 2 * YEAR).unwrap();
    assert_eq!(bundle.device(&issued.device, NOW + 4 * YEAR).unwrap_err().code(), Code::CertificateExpired);
    assert_eq!(bundle.device(&issued.device, NOW - 20 * YEAR).unwrap_err().code(), Code::CertificateExpired);

    let bundle = issued.bundle(&[issued.sub.revocation_list(&[], 2026..2028)]);
    bundle.device(&issued.device, NOW).unwrap();
    assert_eq!(bundle.device(&issued.device, NOW + 2 * YEAR).unwrap_err().code(), Code::RevocationUnknown);
}

#[test]
fn a_published_authoritys_name_needs_its_fingerprint() {
    let forged = Authority::root(Authority::ca_params("Huawei Equipment CA", 1), P521);
    let pem = forged.pem();
    let files = || [("forged.pem", pem.as_bytes())];
    let error = TrustBundle::new(files(), []).unwrap_err().to_string();
    assert!(error.contains("forged.pem") && error.contains("da2abe92"), "{error}");
    let accepted = Fingerprint::of(&forged.der());
    let bundle = TrustBundle::new(files(), [accepted]).unwrap();
    assert_eq!(bundle.authorities()[0].fingerprint, accepted);
    // Nor may one come with the evidence, below a root that is believed.
    let issued = Hierarchy::with(|hierarchy| hierarchy.sub = Authority::ca_params("Huawei IT Product CA", 0));
    let root = issued.root.pem();
    let bundle = TrustBundle::new([("root.pem", root.as_bytes())], []).unwrap();
    let sent = [pem_of(&issued.device), issued.sub.pem()].concat();
    assert_eq!(bundle.device(sent.as_bytes(), NOW).unwrap_err().code(), Code::CertificatePinMismatch);
}

#[test]
fn refuses_what_is_no_certificate() {
    let issued = Hierarchy::new().issue();
    let bundle = issued.bundle(&[]);
    let pem = pem_of(&issued.device);
    let key = pem.replace("CERTIFICATE", "PRIVATE KEY");
    let trailing = [&issued.device[..], &[0]].concat();
    for sent in
        [b"".as_slice(), b"no", &issued.device[1..], &trailing, key.as_bytes(), pem.repeat(5).as_bytes()]
    {
        assert_eq!(bundle.device(sent, NOW).unwrap_err().code(), Code::CertificateMalformed);
    }
    for end in (0..issued.device.len()).step_by(7) {
        assert!(bundle.device(&issued.device[..end], NOW).is_err());
    }
}

#[test]
fn bundles_name_the_file_that_cannot_be_used() {
    let issued = Hierarchy::new().issue();
    let list = issued.sub.revocation_list(&[], 2026..2028);
    let bundle = TrustBundle::new([("all.pem", [issued.root.pem(), list].concat().as_bytes())], []).unwrap();
    assert_eq!((bundle.authorities().len(), bundle.revocation_lists()), (1, 1));
    assert!(bundle.authorities()[0].root);
    for bad in
        [&b"nothing"[..], b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", &issued.device]
    {
        let error = TrustBundle::new([("bad.pem", bad)], []).unwrap_err();
        assert!(error.to_string().starts_with("bad.pem: "), "{error}");
    }
}
