//! Everything that the demo's guests need: their files, what is expected of them, and the service that judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use arm_host::Host;
use arm_host::image::{Asset, Image, Payload};
use arm_host::packages::Packages;
use guest_init::config::{Job, Relay};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::devices::Devices;
use super::openssl::{self, Certificate, Curve, OF_A_SERVER};
use super::register::{RESOURCE, Registration};
use super::scenario::{RealmKind, SERVICE_PORT, Scenario};
use super::service::Service;
use crate::cargo::{Executable, Workspace, named};

/// Where the demo's files are in the emulated host.
const THERE: &str = "/demo";

/// Name of the files of the guest whose agent its host can ask.
const AGENT: &str = "agent";

/// Name of its initial RAM disk.
const AGENT_INITRD: &str = "initrd.agent.cpio";

/// The service's certificate, for whoever asks it from the host.
const SERVICE_CERTIFICATE: &str = "service.pem";

/// Where the agent in the guest looks for its platform's certificate.
const DEVICE_CERTIFICATE: &str = "/etc/attestation-agent/device-certificate.pem";

/// A stage on which the scenarios can be played.
pub struct Stage {
    service: Service,
    relay: Relay,
    /// Measurement that the service expects.
    pub reference: Measurement,
    measured: Vec<(Scenario, Measurement)>,
    /// The secret that the service releases.
    pub secret: String,
}

/// What `redoubt-vmm measure` says of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Measurement {
    /// Realm Initial Measurement in hex.
    pub rim: String,
    /// What was loaded.
    pub segments: Vec<Segment>,
}

/// One segment of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Segment {
    /// What it is.
    pub name: String,
    /// Digest of its content.
    pub sha256: String,
}

impl Measurement {
    /// The segments in which another launch differs from this one.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let differs = |segment: &&Segment| !other.segments.contains(segment);
        self.segments.iter().filter(differs).map(|segment| segment.name.as_str()).collect()
    }
}

/// Identity of the development platform, as `redoubt-vmm platform` prints it.
#[derive(Deserialize)]
pub struct Platform {
    /// Names the kind of platform, in hex.
    pub implementation_id: String,
    /// Names the one platform, in hex.
    pub instance_id: String,
}

impl Stage {
    /// Builds the guests, measures them, starts the service, tells it what to expect, and adds the guests to `payload`.
    /// `tools` are programs for this machine, among them those of [`Self::build_tools`].
    pub fn set(
        workspace: &Workspace,
        host: Host,
        packages: &Packages,
        payload: &mut Payload,
        tools: &[Executable],
    ) -> Result<Self> {
        let vmm = named(tools, "redoubt-vmm")?;
        let private = workspace.arm_host_cache().join("demo-service");
        let shared = workspace.arm_host_cache().join("demo");
        for directory in [&private, &shared] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }

        let (certificate, key) = (private.join("service.pem"), private.join("service.key"));
        openssl::private_key(Curve::P384, &key)?;
        let (subject, extensions, curve) = ("attestation service of this demo", OF_A_SERVER, Curve::P384);
        Certificate { subject, extensions, key: &key, issuer: None, curve }.write(&certificate)?;
        let devices = Devices::make(&private, &shared)?;
        let identity = |realm: RealmKind| -> Result<Platform> {
            vmm_says(&vmm, &["platform", "--format", "json", "--key"], &shared.join(realm.platform_key()))
        };
        let (platform, device) = (identity(RealmKind::Soft)?, identity(RealmKind::SoftVirtcca)?);

        guest_files(packages, payload, &shared, &certificate, &devices)?;
        fs::copy(&certificate, shared.join(SERVICE_CERTIFICATE)).context("cannot copy the certificate")?;
        let (there, vsock) = match host {
            Host::Emulated => (PathBuf::from(THERE), PathBuf::from("/run/demo-vsock")),
            Host::Native => (shared.clone(), private.join("vsock")),
        };
        let mut measured = Vec::new();
        for scenario in Scenario::all() {
            let instance_id = match scenario.realm {
                RealmKind::Soft => &platform.instance_id,
                RealmKind::SoftVirtcca => &device.instance_id,
            };
            let measurement = write_and_measure(scenario, &vmm, &shared, &there, &vsock, instance_id)?;
            measured.push((scenario, measurement));
        }
        let (honest, reference) = measured.first().context("there is an honest scenario")?.clone();
        let agent = {
            let config = |base: &Path| {
                let mut config = honest.config(base, &vsock, &platform.instance_id);
                if let Some(initramfs) = config.pointer_mut("/payload/initramfs") {
                    *initramfs = json!(base.join(AGENT_INITRD));
                }
                config
            };
            measured_config(AGENT, &vmm, &shared, &config(&shared), &config(&there))?
        };

        let (program, client) = (named(tools, "attestation-service")?, named(tools, "attestation-client")?);
        let service = Service::start(&program, &client, &private, &certificate, &key)?;
        let secret = fresh_secret(&shared.join(RealmKind::Soft.platform_key()))?;
        let registration = Registration {
            policies: &workspace.root.join("policies"),
            private: &private,
            shared: &shared,
            platform: &platform,
            devices: &devices,
            rims: &[("demo-guest", &reference.rim), ("demo-agent", &agent.rim)],
            secret: &secret,
        };
        registration.register(&service)?;

        payload.assets.push(Asset { variable: "REDOUBT_DEMO", path: THERE.into(), source: shared });
        let host_name = match host {
            Host::Emulated => "10.0.2.2".to_owned(),
            Host::Native => service.address.ip().to_string(),
        };
        let relay = Relay {
            listen: format!("{}_{SERVICE_PORT}", vsock.display()).into(),
            connect: format!("{host_name}:{}", service.address.port()),
        };
        Ok(Self { service, relay, reference, measured, secret })
    }

    /// Builds the programs that a stage needs on this machine, and no more.
    pub fn build_tools(workspace: &Workspace) -> Result<Vec<Executable>> {
        workspace.build(&["build", "-p", "attestation-service", "-p", "vmm", "--bins"])
    }

    /// What carries the guests' vsock connections to the service.
    pub fn relay(&self) -> Relay {
        self.relay.clone()
    }

    /// What a scenario's launch measures, computed offline.
    pub fn measured(&self, scenario: Scenario) -> &Measurement {
        self.measured
            .iter()
            .find_map(|(other, measured)| (*other == scenario).then_some(measured))
            .unwrap_or(&self.reference)
    }

    /// Where the service listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.service.address
    }
}

/// Kernel and RAM disk of the guest, each also with one thing changed.
fn guest_files(
    packages: &Packages,
    payload: &Payload,
    to: &Path,
    certificate: &Path,
    devices: &Devices,
) -> Result<()> {
    let kernel = packages.kernel()?.image;
    let mut image = fs::read(&kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    write(&to.join("Image"), &image)?;
    let banner = b"Linux version ";
    let at = image
        .windows(banner.len())
        .position(|window| window == banner)
        .context("the kernel has no banner")?;
    if let Some(byte) = image.get_mut(at) {
        *byte = b'l';
    }
    write(&to.join("Image.tampered"), &image)?;

    let agent = payload.programs.iter().find(|path| path.ends_with("attestation-agent"));
    let agent = agent.context("the attestation agent was not built")?;
    let pinned = "/etc/service.pem";
    let service = format!("vsock://2:{SERVICE_PORT}");
    let guest = |command: &str, options: &[&str]| -> Result<Image> {
        let service =
            ["--service", &service, "--server-name", openssl::SERVICE_NAME, "--service-cert", pinned];
        let job = [&["/bin/attestation-agent", command], &service[..], options].concat();
        let job = Job::Run(job.into_iter().map(str::to_owned).collect());
        let mut guest = Image::for_guest(packages, &payload.init, job)?;
        guest.program(agent)?;
        guest.files.copy(pinned, 0o644, certificate);
        Ok(guest)
    };
    guest("daemon", &["--listen", "vsock:8081", "--allow-remote"])?
        .seal()?
        .write_to(&to.join(AGENT_INITRD))?;
    let mut guest = guest("fetch", &["--resource", RESOURCE, "--print-secret"])?;
    // Of one length: another length would change the device tree, which says where the RAM disk ends.
    let (issue, tampered) = ("Redoubt demo guest\n", "Redoubt demo guesT\n");
    for (name, issue, device_certificate) in [
        ("initrd.cpio", issue, &devices.certificate),
        ("initrd.tampered.cpio", tampered, &devices.certificate),
        ("initrd.self-certified.cpio", issue, &devices.self_made_certificate),
    ] {
        guest.files.file("/etc/issue", 0o644, issue);
        guest.files.copy(DEVICE_CERTIFICATE, 0o644, device_certificate);
        guest.clone().seal()?.write_to(&to.join(name))?;
    }
    Ok(())
}

fn write_and_measure(
    scenario: Scenario,
    vmm: &Path,
    here: &Path,
    there: &Path,
    vsock: &Path,
    instance_id: &str,
) -> Result<Measurement> {
    let (name, expected) = (scenario.name(), scenario.expected());
    let verdict = if expected.code.is_some() { "refused" } else { "affirming" };
    let expected = json!({"verdict": verdict, "code": expected.code}).to_string();
    write(&here.join(format!("{name}.expected.json")), expected.as_bytes())?;
    let config = |base: &Path| scenario.config(base, vsock, instance_id);
    measured_config(&name, vmm, here, &config(here), &config(there))
}

/// Writes a configuration for the host, and measures it as it is `here`.
fn measured_config(name: &str, vmm: &Path, here: &Path, local: &Value, there: &Value) -> Result<Measurement> {
    let file = here.join(format!("{name}.local.json"));
    write(&file, local.to_string().as_bytes())?;
    write(&here.join(format!("{name}.json")), there.to_string().as_bytes())?;
    vmm_says(vmm, &["measure", "--format", "json", "--config"], &file)
}

fn vmm_says<T: for<'de> Deserialize<'de>>(vmm: &Path, arguments: &[&str], file: &Path) -> Result<T> {
    let output = Command::new(vmm).args(arguments).arg(file).output().context("cannot start redoubt-vmm")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).context("cannot understand redoubt-vmm")
}

/// A secret of this run only, so that a guest cannot have it from anywhere else.
fn fresh_secret(platform_key: &Path) -> Result<String> {
    let key = fs::read(platform_key).with_context(|| format!("cannot read {}", platform_key.display()))?;
    let digest = hex::encode(Sha256::digest([b"greeting".as_slice(), &key].concat()));
    Ok(format!("hello, proven Realm {}", digest.get(..16).unwrap_or_default()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
