use std::path::Path;

use super::*;
use crate::device::{GET_CERTIFICATE, GET_TOKEN, GET_VERSION};

/// A device with fixed answers, which notes how it was asked.
#[derive(Default)]
struct Fake {
    version: Option<Version>,
    errno: Option<i32>,
    token_size: Option<u64>,
    certificate_size: Option<u64>,
}

impl TsiCalls for Fake {
    fn version(&self) -> io::Result<Version> {
        Ok(self.version.unwrap_or(Version { major: 1, minor: 0 }))
    }

    fn attestation_token(&self, request: &mut TokenRequest) -> io::Result<()> {
        if let Some(errno) = self.errno {
            return Err(io::Error::from_raw_os_error(errno));
        }
        request.token[..64].copy_from_slice(&request.challenge);
        request.token_size = self.token_size.unwrap_or(64);
        Ok(())
    }

    fn device_certificate(&self, request: &mut CertificateRequest) -> io::Result<()> {
        request.value[..4].copy_from_slice(b"cert");
        request.size = self.certificate_size.unwrap_or(4);
        Ok(())
    }
}

fn refusal(device: Fake) -> Error {
    Tsi::new(device).evidence(&[7; 64]).unwrap_err()
}

#[test]
fn the_requests_are_those_of_the_kernel() {
    assert_eq!(GET_VERSION, 0x8008_5400);
    assert_eq!(GET_TOKEN, 0xe048_5401);
    assert_eq!(GET_CERTIFICATE, 0x9008_5402);
}

#[test]
fn gives_token_and_certificate_in_their_lengths() {
    let evidence = Tsi::new(Fake::default()).evidence(&[7; 64]).unwrap();
    assert_eq!(evidence.token, [7; 64]);
    assert_eq!(evidence.device_certificate, b"cert");
}

#[test]
fn refuses_another_generation_of_the_interface() {
    for major in [0, 2, -1] {
        let device = Fake { version: Some(Version { major, minor: 3 }), ..Fake::default() };
        assert!(matches!(refusal(device), Error::Version { minor: 3, .. }), "{major}");
    }
}

#[test]
fn refuses_lengths_that_do_not_fit() {
    for size in [0, 8193, u64::MAX] {
        let device = Fake { token_size: Some(size), ..Fake::default() };
        assert!(matches!(refusal(device), Error::Length { what: "the token", .. }), "{size}");
    }
    for size in [0, 4097, u64::MAX] {
        let device = Fake { certificate_size: Some(size), ..Fake::default() };
        assert!(matches!(refusal(device), Error::Length { what: "the device certificate", .. }), "{size}");
    }
}

#[test]
fn tells_a_kernel_with_other_structures_from_a_failure() {
    assert!(matches!(refusal(Fake { errno: Some(25), ..Fake::default() }), Error::Unknown { .. }));
    let failure = refusal(Fake { errno: Some(5), ..Fake::default() });
    assert!(failure.to_string().contains("TMM_GET_ATTESTATION_TOKEN"), "{failure}");
}

#[test]
fn the_real_requests_fail_on_what_is_no_such_device() {
    assert!(Tsi::open(Path::new("/nonexistent/tsi")).is_err());
    let file = Device::open(Path::new("/dev/null")).unwrap();
    assert!(file.version().is_err());
    assert!(file.attestation_token(&mut TokenRequest::new(&[0; 64])).is_err());
    assert!(file.device_certificate(&mut CertificateRequest::new()).is_err());
}
