//! What a verifier should expect of a domain.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use api::VmConfig;
use clap::Args;
use serde::Deserialize;

use super::Context;
use super::statistics::config_of;
use crate::definition::{self, is_xml, read_text};
use crate::launch::find_vmm;

/// Prints the measurement that a verifier should expect of a Realm, without launching anything.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: redoubt measure web\n          redoubt measure --config web.xml -- --format json"
)]
pub struct Measure {
    /// Name or uuid of the domain.
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    domain: Option<String>,
    /// Definition in XML or JSON, or configuration of a VM in JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Options of redoubt-vmm measure.
    #[arg(last = true)]
    options: Vec<OsString>,
}

impl Measure {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = match (&self.domain, &self.config) {
            (Some(key), _) => config_of(context, key, false)?,
            (None, Some(path)) => {
                let text = read_text(path)?;
                match serde_json::from_str::<VmConfig>(&text) {
                    Ok(config) if !is_xml(&text) => config,
                    _ => definition::read(path, false)?.config,
                }
            }
            (None, None) => bail!("nothing to measure: give a domain, or --config FILE"),
        };
        measure(context.vmm.as_deref(), &config, &self.options, Stdio::inherit()).map(drop)
    }
}

/// The measurement (RIM) that is expected of a Realm of this configuration, in hexadecimal.
pub fn expected_rim(context: &Context, config: &VmConfig) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Measurement {
        rim: String,
    }
    let options = ["--format", "json"].map(OsString::from);
    let said = measure(context.vmm.as_deref(), config, &options, Stdio::piped())?;
    let measurement: Measurement = serde_json::from_slice(&said)
        .context("the VMM's answer is no measurement: are both of one version?")?;
    Ok(measurement.rim)
}

/// Has the VMM measure a configuration. What it prints, if that goes nowhere else.
fn measure(
    vmm: Option<&Path>,
    config: &VmConfig,
    options: &[OsString],
    output: Stdio,
) -> anyhow::Result<Vec<u8>> {
    let vmm = find_vmm(vmm)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let file = directory.path().join("vm.json");
    fs::write(&file, serde_json::to_vec(config)?).context("cannot write a temporary file")?;
    let mut command = Command::new(&vmm);
    command.arg("measure").arg("--config").arg(&file).args(options).stdout(output).stderr(Stdio::inherit());
    let child = command.spawn().with_context(|| format!("cannot run {}", vmm.display()))?;
    let done = child.wait_with_output().with_context(|| format!("cannot wait for {}", vmm.display()))?;
    if !done.status.success() {
        bail!("the VMM cannot measure it ({})", done.status);
    }
    Ok(done.stdout)
}
