//! Tests on the Arm host: all in one boot.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use anyhow::{Result, bail};
use arm_host::{Host, Suite, packages::Packages, progress::Step};
use guest_init::{
    config::TestBinary,
    report::{Case, Message},
};

use super::{Plan, tally::Tally};
use crate::{
    cargo::{ARM, Executable, Workspace},
    demo::Stage,
    payload,
};

/// Packages whose tests need arm64 or KVM, or depend on the architecture and the C library.
const PACKAGES: [&str; 4] = ["system-tests", "hypervisor", "realm", "sandbox"];

/// A case waits for its guest most of the time, and a guest that boots keeps one of the host's two processors busy.
const LANES: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// A nested guest boots in seconds on an idle machine; CI machines are not idle.
const CASE_LIMIT: Duration = Duration::from_secs(300);

/// Builds for arm64 what [`run`] will need, in the background.
pub fn build_ahead(workspace: &Workspace) {
    payload::programs_ahead(workspace);
    workspace.build_ahead(&test_build());
}

/// Builds and runs the system tests.
pub fn run(workspace: &Workspace, plan: &Plan<'_>) -> Result<Tally> {
    let (host, cache) = (Host::detect(), workspace.arm_host_cache());
    let packages = Packages::fetch(&cache)?;
    let mut payload = payload::programs(workspace)?;
    payload::add_guests(workspace, &packages, &mut payload)?;
    let step = Step::begin("the demo's guests and attestation service");
    // The unit tests have built these; built alone, they would need many dependencies anew, with fewer features.
    let tools = workspace.build(&["build", "--workspace", "--bins", "--tests"])?;
    let stage = Stage::set(workspace, host, &packages, &mut payload, &tools)?;
    step.done("ready");
    let suite = Suite {
        binaries: test_binaries(workspace)?,
        lanes: LANES,
        case_limit: CASE_LIMIT,
        filter: plan.filter.map(str::to_owned),
        relays: vec![stage.relay()],
    };
    let step = Step::begin(match host {
        Host::Emulated => "system tests on the emulated Arm host",
        Host::Native => "system tests on this machine",
    });
    let cases = host
        .run_tests(&packages, &payload, &suite, &cache.join("test"), &mut |message| show(&step, message))?;
    let tally = count(&cases);
    step.done(&format!("{} passed, {} failed;", tally.passed, tally.failed));
    for case in cases.iter().filter(|case| !case.ok) {
        eprintln!("--- {} failed after {} ms ---\n{}", case.case, case.millis, case.output.trim_end());
    }
    Ok(tally)
}

fn test_build() -> Vec<&'static str> {
    let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
    ["test", "--no-run", "--release", "--target", ARM].into_iter().chain(packages).collect()
}

fn test_binaries(workspace: &Workspace) -> Result<Vec<TestBinary>> {
    let built = workspace.build(&test_build())?;
    let mut binaries = BTreeMap::new();
    for Executable { name, path, is_test } in built {
        if is_test && binaries.insert(name.clone(), path).is_some() {
            bail!("two test binaries are named {name}; their cases could not be told apart: rename one");
        }
    }
    Ok(binaries.into_iter().map(|(name, path)| TestBinary { name, path }).collect())
}

fn show(step: &Step, message: &Message) {
    match message {
        Message::Plan { plan } => step.set_length(plan.len() as u64),
        Message::Started { started } => step.now(started),
        Message::Case(Case { case, ok, millis, .. }) => {
            let seconds = Duration::from_millis(*millis).as_secs_f32();
            step.line(&format!("    {} [{seconds:7.3}s] {case}", if *ok { "PASS" } else { "FAIL" }));
            step.advance();
        }
    }
}

fn count(cases: &[Case]) -> Tally {
    let mut tally = Tally::default();
    for case in cases {
        tally += Tally { passed: u64::from(case.ok), failed: u64::from(!case.ok) };
    }
    tally
}
