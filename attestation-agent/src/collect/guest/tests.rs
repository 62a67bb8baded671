use std::collections::BTreeMap;

use tsi::{Answers, Misbehaviour, SimulatedDevice};

use super::*;
use crate::testing::{places_in, token_for, virtcca_token_for};

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
const CHALLENGE: [u8; 64] = [9; 64];

/// The monitor behind `/dev/tsi`.
struct Monitor;

impl Answers for Monitor {
    fn token(&self, challenge: &[u8; 64]) -> Vec<u8> {
        virtcca_token_for(challenge)
    }

    fn device_certificate(&self) -> Vec<u8> {
        CERTIFICATE.to_vec()
    }
}

/// configfs-tsm with a monitor that mints by `mint`.
struct Reports {
    mint: fn(&[u8; 64]) -> Vec<u8>,
    entries: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
}

impl Reports {
    fn minting(mint: fn(&[u8; 64]) -> Vec<u8>) -> Box<dyn ReportEntries> {
        Box::new(Self { mint, entries: Mutex::default() })
    }

    /// A kernel without configfs-tsm.
    fn absent() -> Box<dyn ReportEntries> {
        Box::new(Configfs::new(Path::new("/nonexistent/tsm/report")))
    }
}

impl ReportEntries for Reports {
    fn create(&self, entry: &str) -> io::Result<()> {
        self.entries.lock().unwrap().insert(entry.to_owned(), (0, Vec::new()));
        Ok(())
    }

    fn write(&self, entry: &str, _: &str, value: &[u8]) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap();
        let (generation, inblob) = entries.get_mut(entry).unwrap();
        *generation += 1;
        *inblob = value.to_vec();
        Ok(())
    }

    fn read(&self, entry: &str, attribute: &str, _: usize) -> io::Result<Vec<u8>> {
        let entries = self.entries.lock().unwrap();
        let (generation, inblob) = &entries[entry];
        Ok(match attribute {
            "provider" => b"arm_cca_guest\n".to_vec(),
            "generation" => generation.to_string().into_bytes(),
            _ => (self.mint)(inblob.as_slice().try_into().unwrap()),
        })
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        self.entries.lock().unwrap().remove(entry);
        Ok(())
    }
}

fn collect(guest: &Guest, ima: bool) -> Result<Evidence, CollectError> {
    guest.collect(&Request { challenge: CHALLENGE, ima })
}

fn tsi_device(misbehaviour: Option<Misbehaviour>) -> Option<Box<dyn TsiCalls>> {
    Some(match misbehaviour {
        None => Box::new(SimulatedDevice::new(Monitor)),
        Some(misbehaviour) => Box::new(SimulatedDevice::misbehaving(Monitor, misbehaviour)),
    })
}

#[test]
fn virtccas_device_gives_token_and_certificate() {
    let directory = tempfile::tempdir().unwrap();
    // It goes before configfs-tsm.
    let guest =
        Guest::with_devices(places_in(directory.path()), tsi_device(None), Reports::minting(token_for));
    let Evidence::Virtcca(evidence) = collect(&guest, false).unwrap() else { panic!() };
    assert_eq!(evidence.token, virtcca_token_for(&CHALLENGE));
    assert_eq!(evidence.device_certificate, CERTIFICATE);
    assert_eq!(evidence.logs, Logs::default());
}

#[test]
fn users_of_virtccas_device_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let guest = Guest::with_devices(places_in(directory.path()), tsi_device(None), Reports::absent());
    std::thread::scope(|scope| {
        for user in 0..8 {
            let guest = &guest;
            scope.spawn(move || {
                for _ in 0..20 {
                    let Evidence::Virtcca(evidence) =
                        guest.collect(&Request { challenge: [user; 64], ima: false }).unwrap()
                    else {
                        panic!()
                    };
                    assert_eq!(evidence.token, virtcca_token_for(&[user; 64]));
                }
            });
        }
    });
}

#[test]
fn a_device_that_fails_is_not_passed_over_for_another() {
    let directory = tempfile::tempdir().unwrap();
    for misbehaviour in [
        Misbehaviour::Fails(5),
        Misbehaviour::Version(2, 0),
        Misbehaviour::TokenSize(9000),
        Misbehaviour::CertificateSize(0),
    ] {
        let device = tsi_device(Some(misbehaviour));
        let guest = Guest::with_devices(places_in(directory.path()), device, Reports::minting(token_for));
        let error = collect(&guest, false).unwrap_err();
        assert!(matches!(error, CollectError::Tsi { .. }), "{misbehaviour:?}: {error}");
    }
}

#[test]
fn a_realm_gives_a_cca_token_with_its_logs() {
    let directory = tempfile::tempdir().unwrap();
    let places = places_in(directory.path());
    std::fs::write(&places.logs.ima, b"ima").unwrap();
    std::fs::write(&places.logs.ccel_table, b"CCEL").unwrap();
    std::fs::write(&places.logs.ccel_data, b"boot").unwrap();
    let guest = Guest::with_devices(places, None, Reports::minting(token_for));
    let Evidence::Cca(evidence) = collect(&guest, true).unwrap() else { panic!() };
    assert_eq!(evidence.token, token_for(&CHALLENGE));
    assert_eq!(evidence.logs.ima.as_deref(), Some(&b"ima"[..]));
    assert_eq!(evidence.logs.boot, Some(BootLog { table: b"CCEL".to_vec(), data: b"boot".to_vec() }));
    assert_eq!(collect(&guest, false).unwrap().logs().ima, None);
}

#[test]
fn no_evidence_without_the_ima_log_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let guest = Guest::with_devices(places_in(directory.path()), None, Reports::minting(token_for));
    let error = collect(&guest, true).unwrap_err();
    assert!(matches!(error, CollectError::File { what: "the IMA log", .. }), "{error}");
}

#[test]
fn a_virtcca_token_from_configfs_goes_out_with_the_certificate_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let places = places_in(directory.path());
    let guest = Guest::with_devices(places.clone(), None, Reports::minting(virtcca_token_for));
    let error = collect(&guest, false).unwrap_err();
    assert!(error.to_string().contains("--device-certificate"), "{error}");
    std::fs::write(&places.device_certificate, CERTIFICATE).unwrap();
    let Evidence::Virtcca(evidence) = collect(&guest, false).unwrap() else { panic!() };
    assert_eq!(evidence.token, virtcca_token_for(&CHALLENGE));
    assert_eq!(evidence.device_certificate, CERTIFICATE);
}

#[test]
fn names_every_thing_that_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let error = collect(&Guest::new(places_in(directory.path())), false).unwrap_err();
    let text = error.to_string();
    for part in ["dev/tsi", "tsm/report", "tmm_tsi", "arm-cca-guest", "mount -t configfs"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
