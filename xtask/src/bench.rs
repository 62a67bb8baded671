//! `cargo xtask bench`: what a VM and a verification cost, on this machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arm_host::image::{Image, Payload};
use arm_host::packages::Packages;
use arm_host::progress::Step;
use arm_host::{Host, prerequisites};
use comfy_table::{Table, presets};
use guest_init::config::Job;

use crate::cargo::{ARM, Workspace};
use crate::payload;

/// For all runs on the host together.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs every benchmark.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let (host, cache) = (Host::detect(), workspace.arm_host_cache());
    prerequisites::ensure(host, &cache)?;
    let packages = Packages::fetch(&cache)?;
    let mut payload = payload::programs(&workspace)?;
    payload::add_guests(&workspace, &packages, &mut payload)?;
    let arguments = ["bench", "--no-run", "--target", ARM, "-p", "system-tests", "--bench", "host"];
    let built = workspace.build(&arguments)?;
    let program = built.into_iter().next().context("cargo built no benchmark")?.path;

    let step = Step::begin("VMs on the Arm host");
    let console = match host {
        Host::Emulated => emulated(&packages, &payload, &program, &cache.join("bench"))?,
        Host::Native => native(&payload, &program)?,
    };
    step.done("measured");
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("bench ")) {
        table.add_row(line.split(' '));
    }
    println!("{table}");

    let status =
        workspace.cargo().args(["bench", "-p", "verifier"]).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the verifier's benchmark failed ({status})");
    }
    Ok(())
}

fn emulated(packages: &Packages, payload: &Payload, program: &Path, work: &Path) -> Result<String> {
    std::fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let mut image = Image::for_host(packages, payload, Job::Run(vec!["/bin/host-bench".into()]))?;
    image.files.copy("/bin/host-bench", 0o755, program);
    let mut machine = image.machine(packages, work)?.start()?;
    let code = machine.wait(LIMIT)?;
    let console = machine.console_text();
    if code != 0 {
        bail!("the benchmark failed:\n{console}");
    }
    Ok(console)
}

fn native(payload: &Payload, program: &Path) -> Result<String> {
    let mut command = std::process::Command::new(program);
    command.envs(payload.assets.iter().map(|asset| (asset.variable, &asset.source)));
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("the benchmark failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
