//! `cargo xtask fuzz`.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};
use arm_host::prerequisites;

use crate::cargo::{Executable, Workspace};

/// Coverage for libFuzzer, as stable rustc gives it; assertions and overflow checks are findings too.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// Options of `fuzz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Target to run; all of them when absent.
    target: Option<String>,
    /// Seconds that each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs fuzz targets, each from its seeds and from what earlier runs found; a finding is an error.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    prerequisites::ensure_cxx(&workspace.arm_host_cache())?;
    let triple = cargo_metadata_host()?;
    let mut targets = workspace.build_apart(
        "tests/fuzz",
        &["build", "--release", "--bins", "--features", "libfuzzer", "--target", &triple],
        RUSTFLAGS,
    )?;
    if let Some(wanted) = &arguments.target {
        let names = targets.iter().map(|target| target.name.clone()).collect::<Vec<_>>().join(", ");
        targets.retain(|target| target.name == *wanted);
        if targets.is_empty() {
            bail!("there is no fuzz target {wanted}; there are {names}");
        }
    }
    let mut findings = Vec::new();
    for target in targets {
        if !run_target(&workspace, &target, arguments.seconds)? {
            findings.push(target.name);
        }
    }
    if !findings.is_empty() {
        bail!("findings in {}: the inputs are in tests/fuzz/artifacts", findings.join(", "));
    }
    Ok(())
}

fn run_target(workspace: &Workspace, target: &Executable, seconds: u32) -> Result<bool> {
    eprintln!("fuzzing {} for {seconds} s", target.name);
    let directory = workspace.root.join("tests/fuzz");
    // libFuzzer writes what it finds new into the first directory and only reads the others.
    let found = directory.join("corpus-run").join(&target.name);
    let seeds = directory.join("corpus").join(&target.name);
    let artifacts = directory.join("artifacts").join(&target.name);
    for path in [&found, &artifacts] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let mut command = Command::new(&target.path);
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1").arg("-timeout=10");
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&found);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let status = command.status().with_context(|| format!("cannot start {}", target.path.display()))?;
    Ok(status.success())
}

/// With an explicit target, cargo keeps the flags away from build scripts.
fn cargo_metadata_host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
