//! What VMs cost on the Arm host, and beside QEMU there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arm_host::image::{Image, Payload};
use arm_host::packages::Packages;
use arm_host::progress::Step;
use arm_host::{Host, nested_qemu, prerequisites};
use comfy_table::{Table, presets};
use guest_init::config::Job;

use crate::cargo::{ARM, Workspace};
use crate::payload;

/// For all runs on the host together.
const LIMIT: Duration = Duration::from_secs(1200);

/// Tells the benchmark where the QEMU is.
const QEMU_VARIABLE: &str = "REDOUBT_BENCH_QEMU";

/// Where the benchmark is in an emulated host.
const PROGRAM: &str = "/bin/host-bench";

/// Measures and prints a table; only these `parts` where there are some.
pub fn run(workspace: &Workspace, parts: &[String]) -> Result<()> {
    let (host, cache) = (Host::detect(), workspace.arm_host_cache());
    prerequisites::ensure(host, &cache)?;
    let packages = Packages::fetch(&cache)?;
    let mut payload = payload::shipped_vmm(workspace)?;
    payload::add_guests(workspace, &packages, &mut payload)?;
    let arguments = ["bench", "--no-run", "--target", ARM, "-p", "system-tests", "--bench", "host"];
    let built = workspace.build(&arguments)?;
    let program = built.into_iter().next().context("cargo built no benchmark")?.path;

    let console = match host {
        Host::Emulated => emulated(&packages, &payload, &program, parts, &cache)?,
        Host::Native => native(&payload, &program, parts, &cache)?,
    };
    print_table(&console);
    Ok(())
}

fn emulated(
    packages: &Packages,
    payload: &Payload,
    program: &Path,
    parts: &[String],
    cache: &Path,
) -> Result<String> {
    let work = cache.join("bench");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let command = [PROGRAM.to_owned()].iter().chain(parts).cloned().collect();
    let mut image = Image::for_host(packages, payload, Job::Run(command))?;
    image.files.copy(PROGRAM, 0o755, program);
    for (path, file) in nested_qemu::fetch(cache)? {
        image.files.copy(&path, 0o755, file);
    }
    image.config.env.insert(QEMU_VARIABLE.into(), nested_qemu::PATH.into());

    let step = Step::begin("VMs on the Arm host");
    let mut machine = image.machine(packages, &work)?.start()?;
    let code = machine.wait(LIMIT)?;
    let console = machine.console_text();
    if code != 0 {
        bail!("the benchmark failed:\n{console}");
    }
    step.done("measured");
    Ok(console)
}

fn native(payload: &Payload, program: &Path, parts: &[String], cache: &Path) -> Result<String> {
    prerequisites::ensure_qemu(cache)?;
    let step = Step::begin("VMs on this machine");
    let mut command = std::process::Command::new(program);
    command.envs(payload.assets.iter().map(|asset| (asset.variable, &asset.source)));
    command.args(parts).env(QEMU_VARIABLE, "qemu-system-aarch64");
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("the benchmark failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    step.done("measured");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints the figures on the console: lines of `bench NAME VALUE UNIT`, behind it QEMU's value and the ratio where there
/// are two sides.
fn print_table(console: &str) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["figure", "Redoubt", "unit", "QEMU", "ratio"]);
    for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("bench ")) {
        table.add_row(line.split(' '));
    }
    println!("{table}");
}
