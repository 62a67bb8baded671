//! The two systems that boot from an initramfs: the emulated host, and the guests that tests start in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use guest_init::config::{self, Config, Finally, Job};

use crate::{Error, Result, initramfs::Initramfs, packages::Packages, qemu::Machine};

/// What the emulated host needs beyond its built-in drivers: network, entropy, vsock and VFIO for the VMM.
const HOST_MODULES: [&str; 6] = ["virtio_net", "virtio_rng", "configfs", "vhost_vsock", "tun", "vfio_pci"];

/// What a guest of our VMM needs: its virtio devices, persistent memory and its file system, the CCA
/// attestation report, the power button and the watchdog.
const GUEST_MODULES: [&str; 16] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "tsm_report",
    "arm-cca-guest",
    "gpio_keys",
    "evdev",
    "virtio_balloon",
    "i6300esb",
    "virtiofs",
    "virtio_pmem",
    "nd_pmem",
    "ext4",
];

/// Set-up of the emulated host's network: QEMU's user network gives it 10.0.2.15 and is itself 10.0.2.2.
const HOST_COMMANDS: [&str; 5] = [
    "busybox --install -s /bin",
    "ip link set lo up",
    "ip link set eth0 up",
    "ip addr add 10.0.2.15/24 dev eth0",
    "ip route add default via 10.0.2.2",
];

/// What a host is given beside its own system.
#[derive(Debug, Clone)]
pub struct Payload {
    /// `guest-init`, built for arm64.
    pub init: PathBuf,
    /// Programs that go on PATH.
    pub programs: Vec<PathBuf>,
    /// Files that programs find through environment variables.
    pub assets: Vec<Asset>,
}

/// A file or directory, and the environment variable that tells its path.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Name of the variable.
    pub variable: &'static str,
    /// Path in the emulated host.
    pub path: String,
    /// The file or directory on this machine.
    pub source: PathBuf,
}

/// A system about to become an initramfs: add files and set the job, then write it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its files, without the configuration.
    pub files: Initramfs,
    /// What its init is told.
    pub config: Config,
}

impl Image {
    /// The emulated host.
    pub fn for_host(packages: &Packages, payload: &Payload, job: Job) -> Result<Self> {
        let mut image = Self::new(packages, &payload.init, &HOST_MODULES, job)?;
        for program in &payload.programs {
            image.program(program)?;
        }
        for (path, source) in packages.tools()? {
            image.files.copy(&path, 0o755, source);
        }
        let mut placed: BTreeMap<&Path, &str> = BTreeMap::new();
        for asset in &payload.assets {
            match placed.insert(&asset.source, &asset.path) {
                None if asset.source.is_dir() => image.files.copy_directory(&asset.path, &asset.source)?,
                None => image.files.copy(&asset.path, 0o755, &asset.source),
                Some(first) => image.files.symlink(&asset.path, first),
            };
            image.config.env.insert(asset.variable.to_owned(), asset.path.clone());
        }
        let commands = HOST_COMMANDS.map(|line| line.split(' ').map(str::to_owned).collect());
        image.config.commands = commands.into();
        Ok(image)
    }

    /// A guest that is, or may be, a Realm.
    pub fn for_guest(packages: &Packages, init: &Path, job: Job) -> Result<Self> {
        Self::new(packages, init, &GUEST_MODULES, job)
    }

    fn new(packages: &Packages, init: &Path, modules: &[&str], job: Job) -> Result<Self> {
        let mut files = Initramfs::new();
        files.copy("/init", 0o755, init).copy("/bin/busybox", 0o755, packages.busybox()?);
        files.symlink("/bin/sh", "busybox");
        let modules = files.modules(packages.kernel()?.modules.resolve(modules)?);
        let config = Config {
            modules,
            env: [("RUST_BACKTRACE".to_owned(), "1".to_owned())].into(),
            commands: vec![],
            relays: vec![],
            job,
            finally: Finally::PowerOff,
        };
        Ok(Self { files, config })
    }

    /// Puts a program of this machine into `/bin` and gives its path there.
    pub fn program(&mut self, from: &Path) -> Result<String> {
        let name = from.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::File {
            action: "name the program",
            path: from.to_owned(),
            source: std::io::ErrorKind::InvalidFilename.into(),
        })?;
        let path = format!("/bin/{name}");
        self.files.copy(&path, 0o755, from);
        Ok(path)
    }

    /// The finished initramfs.
    pub fn seal(mut self) -> Result<Initramfs> {
        let config = serde_json::to_vec(&self.config).map_err(Error::Config)?;
        self.files.file(config::PATH, 0o644, config);
        Ok(self.files)
    }

    /// A machine ready to start from this image; `work` takes the initramfs and the console.
    pub fn machine(self, packages: &Packages, work: &Path) -> Result<Machine> {
        let initrd = work.join("host-initrd.cpio");
        self.seal()?.write_to(&initrd)?;
        Ok(Machine::new(packages.kernel()?.image, initrd, work.join("console.log")))
    }
}
