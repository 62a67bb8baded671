//! The Realm Services Interface as a guest sees it, without KVM.

use std::cell::RefCell;

use evidence::cca::{CcaToken, SoftwareComponent};
use evidence::hash::HashAlgorithm;
use evidence::rmm;
use evidence::virtcca::VirtccaToken;
use machine::launch::{LaunchPlan, Segment, VcpuEntry};
use machine::layout::Region;
use p384::ecdsa::SigningKey;
use p384::elliptic_curve::Generate;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 4 << 20;
const PAGE: u64 = 4096;
const LIMIT: u64 = 1 << 39;

const SUCCESS: u64 = 0;
const ERROR_INPUT: u64 = 1;
const ERROR_STATE: u64 = 2;
const INCOMPLETE: u64 = 3;

/// A guest with one vCPU that makes calls and looks at the registers.
struct Guest {
    realm: SoftRealm,
    memory: GuestMemoryMmap,
    rim: Digest,
}

struct Gprs(RefCell<[u64; 31]>);

impl Registers for Gprs {
    fn get(&self, register: usize) -> Result<u64, Error> {
        Ok(self.0.borrow()[register])
    }

    fn set(&mut self, register: usize, value: u64) -> Result<(), Error> {
        self.0.borrow_mut()[register] = value;
        Ok(())
    }
}

/// A value that no call returns, to see which registers are left alone.
const UNTOUCHED: u64 = 0xdead_beef_dead_beef;

fn platform(key: PlatformKey, components: usize) -> Platform {
    Platform {
        implementation_id: [7; 32],
        instance_id: [1; 33],
        config: vec![1, 2, 3],
        components: vec![component(); components],
        key,
    }
}

fn parameters() -> Parameters {
    Parameters { hash: HashAlgorithm::Sha256, rmm: RmmVersion::V1_0, rpv: [9; 64] }
}

impl Guest {
    fn new(fault: Option<Fault>, components: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let key = PlatformKey::P384(SigningKey::generate_from_rng(&mut rng));
        Self::on_platform(key, fault, components)
    }

    fn on_platform(key: PlatformKey, fault: Option<Fault>, components: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(2);
        let platform = platform(key, components);
        let realm = SoftRealm::new(parameters(), platform, fault, 2, &mut rng).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), RAM_SIZE as usize)]).unwrap();
        let entry = VcpuEntry { pc: RAM, gprs: [0; 8] };
        let segment = Segment::new("kernel", RAM, vec![0xaa; 100], true);
        let plan = LaunchPlan::new(vec![Region::new(RAM, RAM_SIZE)], vec![segment], entry).unwrap();
        let rim = realm.load_into(&memory, &plan).unwrap();
        Self { realm, memory, rim }
    }

    fn call_on(&self, vcpu: u16, function: u32, arguments: &[u64]) -> [u64; 31] {
        let mut gprs = [UNTOUCHED; 31];
        gprs[0] = u64::from(function);
        gprs[1..=arguments.len()].copy_from_slice(arguments);
        let mut registers = Gprs(RefCell::new(gprs));
        self.realm.call(vcpu, MonitorCall { function, smc: true }, &mut registers).unwrap();
        registers.0.into_inner()
    }

    fn call(&self, number: u32, arguments: &[u64]) -> [u64; 31] {
        self.call_on(0, 0xC400_0000 | number, arguments)
    }

    fn status(&self, number: u32, arguments: &[u64]) -> u64 {
        self.call(number, arguments)[0]
    }

    fn read(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(gpa)).unwrap();
        bytes
    }

    /// Fetches a whole token in pieces of `size` bytes, on a page of RAM.
    fn token(&self, challenge: &[u8; 64], size: u64) -> (Vec<u8>, usize) {
        let words: Vec<u64> =
            challenge.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect();
        assert_eq!(self.status(0x194, &words), SUCCESS);
        let (mut token, mut calls) = (Vec::new(), 0);
        loop {
            let registers = self.call(0x195, &[RAM + PAGE, 16, size]);
            token.extend(self.read(RAM + PAGE + 16, registers[1] as usize));
            calls += 1;
            match registers[0] {
                SUCCESS => return (token, calls),
                status => assert_eq!(status, INCOMPLETE),
            }
        }
    }
}

fn component() -> SoftwareComponent {
    SoftwareComponent {
        kind: Some("TEST".into()),
        measurement: HashAlgorithm::Sha256.digest(b"component"),
        version: Some("1".into()),
        signer_id: HashAlgorithm::Sha256.digest(b"signer"),
        hash: None,
    }
}

#[test]
fn version_names_what_is_supported_even_when_it_refuses() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.call(0x190, &[0x1_0000])[..4], [SUCCESS, 0x1_0000, 0x1_0000, UNTOUCHED]);
    assert_eq!(guest.call(0x190, &[0x2_0000])[..3], [ERROR_INPUT, 0x1_0000, 0x1_0000]);
    assert_eq!(guest.call(0x191, &[5])[..3], [SUCCESS, 0, UNTOUCHED]);
}

#[test]
fn unknown_functions_and_other_conduits_are_not_supported() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.call(0x19a, &[])[..2], [u64::MAX, UNTOUCHED]);
    let mut registers = Gprs(RefCell::new([1; 31]));
    guest.realm.call(0, MonitorCall { function: 0xC400_0190, smc: false }, &mut registers).unwrap();
    assert_eq!(registers.0.into_inner()[0], u64::MAX);
    assert_eq!(guest.call_on(2, 0xC400_0190, &[0x1_0000])[0], u64::MAX, "there are two vCPUs");
}

#[test]
fn realm_config_fills_one_private_granule() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.status(0x196, &[RAM + PAGE]), SUCCESS);
    let page = guest.read(RAM + PAGE, 4096);
    assert_eq!((page[0], page[8]), (40, 0));
    assert_eq!(page[0x200..0x240], [9; 64]);
    assert!(page[0x240..].iter().all(|byte| *byte == 0));
    for bad in [RAM + 8, RAM + RAM_SIZE, RAM | LIMIT, 0x0900_0000, !(PAGE - 1)] {
        assert_eq!(guest.status(0x196, &[bad]), ERROR_INPUT, "{bad:#x}");
    }
    assert_eq!(guest.status(0x197, &[RAM + PAGE, RAM + 2 * PAGE, 0, 0]), SUCCESS);
    assert_eq!(guest.status(0x196, &[RAM + PAGE]), ERROR_INPUT, "the page is shared now");
}

#[test]
fn measurements_are_read_and_extended_by_the_rules() {
    let guest = Guest::new(None, 1);
    let read = |index| {
        let registers = guest.call(0x192, &[index]);
        let bytes: Vec<u8> = registers[1..9].iter().flat_map(|word| word.to_le_bytes()).collect();
        (registers[0], bytes)
    };
    assert_eq!(read(0).1[..32], *guest.rim.as_bytes());
    assert_eq!(read(1), (SUCCESS, vec![0; 64]));
    assert_eq!(read(5).0, ERROR_INPUT);

    let data = *b"0123456789abcdef";
    let words = [
        u64::from_le_bytes(data[..8].try_into().unwrap()),
        u64::from_le_bytes(data[8..].try_into().unwrap()),
    ];
    let extend = |index, size| guest.status(0x193, &[index, size, words[0], words[1], 0, 0, 0, 0, 0, 0]);
    assert_eq!(extend(0, 16), ERROR_INPUT, "the initial measurement is final");
    assert_eq!(extend(5, 16), ERROR_INPUT);
    assert_eq!(extend(2, 65), ERROR_INPUT);
    assert_eq!(read(2).1, vec![0; 64]);
    assert_eq!(extend(2, 16), SUCCESS);
    let expected = rmm::extend(HashAlgorithm::Sha256, &Digest::zero(HashAlgorithm::Sha256), &data).unwrap();
    assert_eq!(read(2).1, expected.padded());
    assert_eq!(read(1).1, vec![0; 64], "only one register changed");
}

#[test]
fn token_is_fetched_in_many_pieces_and_answers_the_challenge() {
    let guest = Guest::new(None, 50);
    let (token, calls) = guest.token(&[0x5a; 64], 512);
    assert!(token.len() > 4096, "{} bytes", token.len());
    assert_eq!(calls, token.len().div_ceil(512));
    let token = CcaToken::decode(&token).unwrap();
    assert_eq!(token.realm.claims.challenge, [0x5a; 64]);
    assert_eq!(token.realm.claims.rim, guest.rim);
    assert_eq!(token.realm.claims.rpv, [9; 64]);
    assert!(!token.platform.claims.lifecycle.is_secured());
    assert_eq!(guest.status(0x195, &[RAM + PAGE, 0, 512]), ERROR_STATE, "nothing is left to continue");
}

#[test]
fn a_p521_platform_key_gives_tokens_of_virtcca() {
    let key = p521::ecdsa::SigningKey::generate_from_rng(&mut StdRng::seed_from_u64(3));
    let guest = Guest::on_platform(PlatformKey::P521(key), None, 2);
    let token = VirtccaToken::decode(&guest.token(&[0x5a; 64], 512).0).unwrap();
    let (cvm, platform) = (token.cvm.claims, token.platform.unwrap().claims);
    assert_eq!((cvm.challenge, cvm.rpv, cvm.rim), ([0x5a; 64], [9; 64], guest.rim));
    assert_eq!(platform.challenge, HashAlgorithm::Sha256.digest(cvm.key.claim_bytes()));
    assert_eq!(platform.lifecycle, LIFECYCLE, "a development platform must not look like a real one");
    assert_eq!(platform.components.len(), 2);
}

#[test]
fn told_to_leave_out_the_platform_token_it_does_where_there_is_such_a_form() {
    let fault = Some(Fault::NoPlatformToken);
    let mut rng = StdRng::seed_from_u64(3);
    let guest =
        Guest::on_platform(PlatformKey::P521(p521::ecdsa::SigningKey::generate_from_rng(&mut rng)), fault, 1);
    let token = VirtccaToken::decode(&guest.token(&[0x5a; 64], 512).0).unwrap();
    assert!(token.platform.is_none());
    assert_eq!(token.cvm.claims.challenge, [0x5a; 64]);

    let platform = platform(PlatformKey::P384(SigningKey::generate_from_rng(&mut rng)), 1);
    let refused = SoftRealm::new(parameters(), platform, fault, 2, &mut rng).err();
    assert!(matches!(refused, Some(Error::Refused { field: "fault", .. })), "{refused:?}");
}

#[test]
fn token_calls_check_their_arguments_and_belong_to_one_vcpu() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.status(0x195, &[RAM + PAGE, 0, 512]), ERROR_STATE, "not started");
    let started = guest.call(0x194, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(started[0], SUCCESS);
    for bad in [[RAM + 1, 0, 1], [RAM, PAGE, 0], [RAM, 1, PAGE], [RAM, 8, u64::MAX], [RAM | LIMIT, 0, 1]] {
        assert_eq!(guest.status(0x195, &bad), ERROR_INPUT, "{bad:x?}");
    }
    assert_eq!(guest.call_on(1, 0xC400_0195, &[RAM, 0, 1])[0], ERROR_STATE, "another vCPU started it");
    assert_eq!(guest.call(0x195, &[RAM, 0, 0])[..2], [INCOMPLETE, 0]);
    let (token, _) = guest.token(&[1; 64], PAGE - 16);
    assert!(token.len() as u64 <= started[1], "the bound holds");
}

#[test]
fn a_new_start_throws_the_old_token_away() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.status(0x194, &[1; 8]), SUCCESS);
    assert_eq!(guest.status(0x195, &[RAM + PAGE, 0, 100]), INCOMPLETE);
    let (token, _) = guest.token(&[2; 64], 1000);
    assert_eq!(CcaToken::decode(&token).unwrap().realm.claims.challenge, [2; 64]);
}

#[test]
fn told_to_lie_it_lies_in_one_place_only() {
    let honest = Guest::new(None, 1).token(&[1; 64], 512).0;
    let challenge = Guest::new(Some(Fault::Challenge), 1).token(&[1; 64], 512).0;
    let signature = Guest::new(Some(Fault::Signature), 1).token(&[1; 64], 512).0;
    assert_ne!(CcaToken::decode(&challenge).unwrap().realm.claims.challenge, [1; 64]);
    let (honest, signature) = (CcaToken::decode(&honest).unwrap(), CcaToken::decode(&signature).unwrap());
    assert_eq!(honest.realm.claims, signature.realm.claims);
    assert_ne!(honest.realm.signature(), signature.realm.signature());
    assert_eq!(honest.platform.signature(), signature.platform.signature());
}

#[test]
fn ipa_state_calls_check_their_arguments() {
    let guest = Guest::new(None, 1);
    for (base, top) in
        [(RAM + 1, RAM + PAGE), (RAM, RAM + 1), (RAM, RAM), (RAM + PAGE, RAM), (LIMIT - PAGE, LIMIT + PAGE)]
    {
        assert_eq!(guest.status(0x197, &[base, top, 0, 0]), ERROR_INPUT, "set {base:#x} {top:#x}");
        assert_eq!(guest.status(0x198, &[base, top]), ERROR_INPUT, "get {base:#x} {top:#x}");
    }
    for state in [2, 3, u64::MAX] {
        assert_eq!(guest.status(0x197, &[RAM, RAM + PAGE, state, 0]), ERROR_INPUT);
    }
}

#[test]
fn ipa_state_changes_and_loses_content() {
    let guest = Guest::new(None, 1);
    let end = RAM + RAM_SIZE;
    assert_eq!(guest.call(0x198, &[RAM, LIMIT])[..3], [SUCCESS, end, 1]);
    assert_eq!(guest.read(RAM, 4), [0xaa; 4]);
    assert_eq!(guest.call(0x197, &[RAM, end, 1, 0])[..3], [SUCCESS, end, 0]);
    assert_eq!(guest.read(RAM, 4), [0xaa; 4], "what was private stays as it is");
    assert_eq!(guest.call(0x197, &[RAM, RAM + PAGE, 0, 0])[..3], [SUCCESS, RAM + PAGE, 0]);
    assert_eq!(guest.read(RAM, 4), [0; 4]);
    assert_eq!(guest.call(0x198, &[RAM, LIMIT])[..3], [SUCCESS, RAM + PAGE, 0]);
    assert_eq!(guest.call(0x198, &[RAM + PAGE, LIMIT])[..3], [SUCCESS, end, 1]);
}

#[test]
fn only_memory_that_exists_becomes_private() {
    let guest = Guest::new(None, 1);
    let end = RAM + RAM_SIZE;
    assert_eq!(guest.call(0x197, &[end, end + PAGE, 1, 0])[..3], [SUCCESS, end, 1], "rejected, no progress");
    assert_eq!(
        guest.call(0x197, &[end - PAGE, end + PAGE, 1, 0])[..3],
        [SUCCESS, end, 0],
        "as far as it goes"
    );
    assert_eq!(guest.call(0x197, &[0x0900_0000, 0x0900_1000, 0, 0])[..3], [SUCCESS, 0x0900_1000, 0]);
}

#[test]
fn host_calls_are_answered_as_unsupported() {
    let guest = Guest::new(None, 1);
    assert_eq!(guest.status(0x199, &[RAM + PAGE + 256]), SUCCESS);
    assert_eq!(guest.read(RAM + PAGE + 256 + 8, 8), [0xff; 8]);
    assert_eq!(guest.status(0x199, &[RAM + 8]), ERROR_INPUT);
    assert_eq!(guest.status(0x199, &[0x0900_0000]), ERROR_INPUT);
}

#[test]
fn devices_reach_shared_memory_only_by_either_address() {
    let guest = Guest::new(None, 1);
    assert!(matches!(guest.realm.device_access(RAM, 16), Err(Error::PrivateMemory { .. })));
    assert_eq!(guest.status(0x197, &[RAM, RAM + PAGE, 0, 0]), SUCCESS);
    assert_eq!(guest.realm.device_access(RAM + 8, 16).unwrap(), RAM + 8);
    assert_eq!(guest.realm.device_access((RAM + 8) | LIMIT, 16).unwrap(), RAM + 8);
    assert!(guest.realm.device_access(RAM + PAGE - 8, 16).is_err(), "the second page is private");
    assert!(guest.realm.device_access(RAM, u64::MAX).is_err());
}

#[test]
fn a_realm_is_loaded_once() {
    let guest = Guest::new(None, 1);
    let entry = VcpuEntry { pc: RAM, gprs: [0; 8] };
    let plan = LaunchPlan::new(vec![Region::new(RAM, RAM_SIZE)], Vec::new(), entry).unwrap();
    assert!(matches!(guest.realm.load_into(&guest.memory, &plan), Err(Error::AlreadyLoaded)));
}
