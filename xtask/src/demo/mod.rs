//! `cargo xtask demo`: launches a Realm VM, proves it, and releases a secret to it.

mod devices;
mod openssl;
mod register;
mod scenario;
mod service;
mod stage;
mod verdict;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arm_host::packages::Packages;
use arm_host::progress::Step;
use arm_host::{Host, Suite, prerequisites};
use guest_init::config::TestBinary;

use crate::cargo::{ARM, Workspace};
use crate::payload;
use scenario::{RealmKind, Scenario, Tamper};
pub use stage::Stage;

/// A guest boots in seconds on an idle machine, and hashing and TLS are emulated too.
const GUEST_LIMIT: Duration = Duration::from_secs(300);

/// Name of the test binary that plays the scenarios on the host.
pub const PLAYER: &str = "demo";

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind of Realm, and with it of evidence.
    #[arg(long, value_enum, default_value_t = RealmKind::Soft)]
    realm: RealmKind,
    /// Change one thing; the demo succeeds only if the service refuses for exactly that reason.
    #[arg(long, value_enum, conflicts_with = "all")]
    tamper: Option<Tamper>,
    /// Play every variant, one after the other in the same host.
    #[arg(long)]
    all: bool,
}

/// Runs the demo.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let realm = arguments.realm;
    if arguments.tamper.is_some_and(|tamper| !tamper.applies_to(realm)) {
        bail!("evidence of Arm CCA has no such part to change; add --realm soft-virtcca");
    }
    let workspace = Workspace::find()?;
    let (host, cache) = (Host::detect(), workspace.arm_host_cache());
    prerequisites::ensure(host, &cache)?;
    let packages = Packages::fetch(&cache)?;
    let mut payload = payload::programs(&workspace)?;
    let step = Step::begin("guest, measurement and attestation service");
    let stage = Stage::set(&workspace, host, &packages, &mut payload, &Stage::build_tools(&workspace)?)?;
    step.done(&format!("listening on {}", stage.address()));

    let scenarios: Vec<Scenario> = Scenario::all()
        .into_iter()
        .filter(|scenario| scenario.realm == realm)
        .filter(|scenario| arguments.all || scenario.tamper == arguments.tamper)
        .collect();
    let filter = match scenarios.as_slice() {
        [only] => format!("{PLAYER}::{}", only.case()),
        _ => format!("{PLAYER}::{}::", realm.technology()),
    };
    let suite = Suite {
        binaries: vec![player(&workspace)?],
        lanes: NonZeroUsize::MIN,
        case_limit: GUEST_LIMIT,
        filter: Some(filter),
        relays: vec![stage.relay()],
    };
    let step = Step::begin(match host {
        Host::Emulated => "Realm VM in the emulated Arm host",
        Host::Native => "Realm VM on this machine",
    });
    let cases = host.run_tests(&packages, &payload, &suite, &cache.join("demo-run"), &mut |message| {
        if let guest_init::report::Message::Started { started } = message {
            step.now(started);
        }
    })?;
    step.done("ended");

    let mut right = true;
    for scenario in scenarios {
        let name = format!("{PLAYER}::{}", scenario.case());
        let case = cases.iter().find(|case| case.case == name);
        right &= verdict::show(scenario, &stage, case.context("a scenario was not played")?);
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn player(workspace: &Workspace) -> Result<TestBinary> {
    let arguments =
        ["test", "--no-run", "--release", "--target", ARM, "-p", "system-tests", "--test", PLAYER];
    let built = workspace.build(&arguments)?;
    let player = built.into_iter().find(|executable| executable.is_test).context("cargo built no player")?;
    Ok(TestBinary { name: PLAYER.into(), path: player.path })
}
