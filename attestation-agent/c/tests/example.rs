//! The C example, compiled and run against an agent with a simulated virtCCA device that judges evidence itself.
#![expect(clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use attestation_agent::agent::{Agent, Judge, KeySource, Setup, TokenRules};
use attestation_agent::collect::tsm::Configfs;
use attestation_agent::collect::{Guest, LogFiles, Places};
use attestation_agent::environment::{Environment, System};
use attestation_agent::local::LocalVerifier;
use attestation_agent::rest::{ListenAddress, Listener, serve};
use evidence::envelope::Dialect;
use jose::EphemeralKey;
use tsi::{Answers, SimulatedDevice};
use verifier::testing::{NOW, VirtccaMint};

/// The monitor and the platform behind `/dev/tsi`.
struct Platform(Mutex<VirtccaMint>);

impl Answers for Platform {
    fn token(&self, challenge: &[u8; 64]) -> Vec<u8> {
        let mut mint = self.0.lock().unwrap();
        mint.cvm.challenge = *challenge;
        mint.token()
    }

    fn device_certificate(&self) -> Vec<u8> {
        self.0.lock().unwrap().device_certificate.clone()
    }
}

/// The moment at which the platform's certificates are valid.
struct Then;

impl Environment for Then {
    fn now(&self) -> i64 {
        NOW
    }

    fn random(&self, bytes: &mut [u8]) {
        System.random(bytes);
    }

    fn new_key(&self) -> EphemeralKey {
        System.new_key()
    }
}

/// A directory with an agent's socket and the compiled example.
struct Stage {
    directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// An agent that believes the platform, and the initial measurement `rim`.
    fn set(rim: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mint = VirtccaMint::new([0; 64]);
        let virtcca = directory.path().join("virtcca");
        std::fs::create_dir(&virtcca).unwrap();
        std::fs::write(virtcca.join("root.pem"), mint.root.pem()).unwrap();
        std::fs::write(virtcca.join("sub.pem"), mint.sub.pem()).unwrap();
        let rim = rim.map_or_else(|| mint.cvm.rim.to_string(), str::to_owned);
        std::fs::write(virtcca.join("ref_value.json"), format!("{{\"rim\":\"{rim}\"}}")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let agent = agent(directory.path(), mint);
        let socket = ListenAddress::Unix(directory.path().join("agent.sock"));
        let listener = runtime.block_on(Listener::bind(&socket, 0o600)).unwrap();
        runtime.spawn(serve(agent, vec![listener], std::future::pending()));
        compile(&directory.path().join("report"));
        Self { directory, _runtime: runtime }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.directory.path().join("report"))
            .args(arguments)
            .env("ATTESTATION_AGENT", format!("unix:{}", self.directory.path().join("agent.sock").display()))
            .output()
            .unwrap()
    }
}

fn agent(directory: &Path, mint: VirtccaMint) -> Arc<Agent> {
    let absent = |name: &str| directory.join("absent").join(name);
    let logs = LogFiles { ima: absent("ima"), ccel_table: absent("table"), ccel_data: absent("data") };
    let places = Places {
        tsi: absent("tsi"),
        tsm_root: absent("tsm"),
        device_certificate: absent("certificate"),
        logs,
    };
    let entries = Box::new(Configfs::new(&places.tsm_root));
    let device = SimulatedDevice::new(Platform(Mutex::new(mint)));
    Arc::new(Agent::new(Setup {
        judge: Judge::Local(Arc::new(LocalVerifier::open(directory).unwrap())),
        source: Arc::new(Guest::with_devices(places, Some(Box::new(device)), entries)),
        environment: Arc::new(Then),
        rules: TokenRules { keys: KeySource::Service, issuer: None, audience: None },
        dialect: Dialect::SecGear,
        apps: Vec::new(),
    }))
}

fn compile(to: &Path) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Of the test's binary, TARGET/debug/deps/example-HASH.
    let test = std::env::current_exe().unwrap();
    let library = test.ancestors().nth(2).unwrap().join("examples");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(to)
        .arg(package.join("examples/report.c"))
        .arg("-I")
        .arg(package.join("include"))
        .arg("-L")
        .arg(&library)
        .arg("-lattestation_agent")
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_c_program_proves_its_guest() {
    let stage = Stage::set(None);
    for (arguments, prefix) in [(&[][..], "claims: {"), (&["secgear"][..], "secgear: {")] {
        let output = stage.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.starts_with(prefix) && said.contains("\"tee\":\"virtcca\""), "{said}");
    }
}

#[test]
fn a_c_program_is_told_why_its_guest_is_refused() {
    let stage = Stage::set(Some(&"22".repeat(32)));
    let output = stage.run(&[]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.starts_with("failed with 4: ") && words.contains("rim_mismatch"), "{words}");
    let output = stage.run(&["secgear"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_c_program_is_told_that_there_is_no_agent() {
    let stage = Stage::set(None);
    std::fs::remove_file(stage.directory.path().join("agent.sock")).unwrap();
    let words = String::from_utf8_lossy(&stage.run(&[]).stderr).into_owned();
    assert!(words.starts_with("failed with 3: ") && words.contains("attestation-agent daemon"), "{words}");
}
