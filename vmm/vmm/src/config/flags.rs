//! The command line's way to say what a VM is made of.

use std::path::PathBuf;

use api::VmConfig;
use api::config::{
    ConsoleConfig, ConsoleMode, MemoryConfig, NetConfig, PayloadConfig, RngConfig, VhostMode, VsockConfig,
};
use clap::Args;

use super::options::{self, Options};
use super::{
    ConfigError, ProcessBounds, disk, from_file, memory, pmem, realm, sandbox, validate, vhost_user,
};
use crate::Start;

/// Flags that describe a VM; each replaces its part of `--config`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFlags {
    /// JSON description of the VM.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Kernel: arm64 Image, its gzip, or an EFI zboot image.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Firmware instead of a kernel: UEFI of a virtCCA guest.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Initial RAM file system.
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// Processors: boot=N[,topology=THREADS:CORES:DIES:PACKAGES][,affinity=[VCPU@[CPU,..],..]].
    #[arg(long, value_name = "OPTIONS")]
    cpus: Option<String>,
    /// Memory: size=N[K|M|G][,shared=on][,hugepages=on[,hugepage_size=N]][,prefault=on][,reserve=on][,mergeable=on][,thp=off].
    #[arg(long, value_name = "OPTIONS")]
    memory: Option<String>,
    /// Part of the memory: id=NAME,size=N[,file=PATH][,host_numa_node=N][,shared=on][,hugepages=on][,..]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    memory_zone: Vec<String>,
    /// NUMA node: guest_numa_id=N,cpus=[N,..],memory_zones=[NAME,..][,distances=[N@DISTANCE,..]]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    numa: Vec<String>,
    /// Disk: path=FILE or vhost_user=on,socket=PATH[,image_type=raw|qcow2][,readonly=on][,direct=on][,num_queues=N][,..]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    disk: Vec<String>,
    /// Limits that disks share: id=NAME[,bw_size=SIZE,bw_refill_time=MS][,ops_size=N,ops_refill_time=MS]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    rate_limit_group: Vec<String>,
    /// Network: tap=NAME, fd=[N,..] or vhost_user=on,socket=PATH[,mac=ADDRESS][,num_queues=N][,..]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    net: Vec<String>,
    /// Directory: tag=NAME,socket=PATH[,num_queues=N][,queue_size=N][,id=NAME], served by a virtiofsd; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    fs: Vec<String>,
    /// Persistent memory: file=PATH[,size=N][,discard_writes=on][,id=NAME]; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    pmem: Vec<String>,
    /// Entropy: src=FILE.
    #[arg(long, value_name = "OPTIONS")]
    rng: Option<String>,
    /// Serial port: off, null, tty, pty, file=PATH or socket=PATH.
    #[arg(long, value_name = "MODE")]
    serial: Option<String>,
    /// Virtio console: off, null, tty, pty, file=PATH or socket=PATH.
    #[arg(long, value_name = "MODE")]
    console: Option<String>,
    /// Socket to the guest: cid=N,socket=PATH.
    #[arg(long, value_name = "OPTIONS")]
    vsock: Option<String>,
    /// Balloon: size=N[,deflate_on_oom=on][,free_page_reporting=on].
    #[arg(long, value_name = "OPTIONS")]
    balloon: Option<String>,
    /// Reset the guest when it does not feed its watchdog (6300ESB).
    #[arg(long)]
    watchdog: bool,
    /// Run as a Realm: cca[,rmm=1.0|2.0][,ipa_bits=N][,guest_memfd=separate|in_place], virtcca[,swiotlb=N][,ram_base=1G|3G][,..] or soft[,key=PEM][,instance_id=HEX][,rmm=1.0|2.0][,fault=challenge|signature|no_platform_token]; each with [,hash=sha256|sha512], cca and soft with [,rpv=BASE64].
    #[arg(long, value_name = "BACKEND[,OPTIONS]")]
    realm: Option<String>,
    /// Let the VMM open only what the configuration names.
    #[arg(long)]
    landlock: bool,
    /// What the VMM may open besides, with --landlock: path=PATH,access=r|w|rw; may be repeated.
    #[arg(long, value_name = "OPTIONS")]
    landlock_rules: Vec<String>,
    /// Bounds of the VMM: [user_namespace=on][,mount_namespace=on][,network_namespace=on][,cgroup=PATH[,memory_max=SIZE][,cpu_percent=N]][,nofile=N][,fsize=SIZE][,memlock=SIZE][,unhardened=on].
    #[arg(long, value_name = "OPTIONS")]
    sandbox: Option<String>,
}

impl VmFlags {
    /// What the process starts with when a client can create the VM later: the VM, if there is one, or bounds alone.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the file, the field or the flag; [`ConfigError::NothingToBoot`] when there are flags
    /// of a VM but nothing that it boots.
    pub fn into_start(self) -> Result<Start, ConfigError> {
        let bounds = Self {
            landlock: self.landlock,
            landlock_rules: self.landlock_rules.clone(),
            sandbox: self.sandbox.clone(),
            ..Self::default()
        };
        if self != bounds {
            return Ok(Start::Vm(Box::new(self.into_config()?)));
        }
        // The checks of bounds are made of a whole configuration.
        let template = Self { kernel: Some(PathBuf::new()), ..bounds };
        Ok(Start::Bounds(ProcessBounds::of(&template.into_config()?)))
    }

    /// The VM that the file and the flags describe.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the file, the field or the flag.
    pub fn into_config(self) -> Result<VmConfig, ConfigError> {
        let mut config = match (&self.config, &self.kernel) {
            (Some(path), _) => from_file(path)?,
            (None, Some(kernel)) => {
                VmConfig { serial: ConsoleConfig::of(ConsoleMode::Tty), ..VmConfig::booting(kernel.clone()) }
            }
            (None, None) if self.firmware.is_some() => VmConfig {
                payload: PayloadConfig::default(),
                serial: ConsoleConfig::of(ConsoleMode::Tty),
                ..VmConfig::booting(PathBuf::new())
            },
            (None, None) => return Err(ConfigError::NothingToBoot),
        };
        if let Some(firmware) = self.firmware {
            config.payload.firmware = Some(firmware);
        }
        if let Some(kernel) = self.kernel {
            config.payload.kernel = Some(kernel);
        }
        if let Some(initramfs) = self.initramfs {
            config.payload.initramfs = Some(initramfs);
        }
        if let Some(cmdline) = self.cmdline {
            config.payload.cmdline = cmdline;
        }
        if let Some(text) = self.cpus {
            config.cpus = memory::cpus(&text)?;
        }
        if let Some(text) = self.memory {
            config.memory = memory::memory(&text)?;
        }
        if !self.memory_zone.is_empty() {
            let zones = self.memory_zone.iter().map(|text| memory::zone(text));
            let zones = zones.collect::<Result<_, _>>()?;
            config.memory = MemoryConfig { size: 0, zones, ..config.memory };
        }
        if !self.numa.is_empty() {
            config.numa = self.numa.iter().map(|text| memory::numa(text)).collect::<Result<_, _>>()?;
        }
        if !self.disk.is_empty() {
            config.disks = self.disk.iter().map(|text| disk::disk(text)).collect::<Result<_, _>>()?;
        }
        if !self.rate_limit_group.is_empty() {
            let groups = self.rate_limit_group.iter().map(|text| disk::rate_limit_group(text));
            config.rate_limit_groups = groups.collect::<Result<_, _>>()?;
        }
        if !self.net.is_empty() {
            config.net = self.net.iter().map(|text| net(text)).collect::<Result<_, _>>()?;
        }
        if !self.fs.is_empty() {
            config.fs = self.fs.iter().map(|text| vhost_user::fs(text)).collect::<Result<_, _>>()?;
        }
        if !self.pmem.is_empty() {
            config.pmem = self.pmem.iter().map(|text| pmem::pmem(text)).collect::<Result<_, _>>()?;
        }
        if let Some(text) = self.rng {
            config.rng = RngConfig {
                src: Options::parse("--rng", &text, &["src"])?.require("src")?.into(),
                ..RngConfig::default()
            };
        }
        if let Some(text) = self.serial {
            config.serial = console("--serial", &text)?;
        }
        if let Some(text) = self.console {
            config.console = console("--console", &text)?;
        }
        if let Some(text) = self.vsock {
            config.vsock = Some(vsock(&text)?);
        }
        if let Some(text) = self.balloon {
            config.balloon = Some(memory::balloon(&text)?);
        }
        config.watchdog |= self.watchdog;
        if let Some(text) = self.realm {
            config.realm = Some(realm::realm(&text)?);
        }
        config.landlock_enable |= self.landlock;
        if !self.landlock_rules.is_empty() {
            let rules = self.landlock_rules.iter().map(|text| sandbox::landlock_rule(text));
            config.landlock_rules = rules.collect::<Result<_, _>>()?;
        }
        if let Some(text) = self.sandbox {
            config.sandbox = sandbox::sandbox(&text)?;
        }
        validate(&config)?;
        Ok(config)
    }
}

fn net(text: &str) -> Result<NetConfig, ConfigError> {
    const KEYS: [&str; 22] = [
        "id",
        "tap",
        "fd",
        "ip",
        "mask",
        "mac",
        "host_mac",
        "mtu",
        "num_queues",
        "queue_size",
        "vhost_user",
        "vhost_mode",
        "socket",
        "offload_csum",
        "offload_tso",
        "offload_ufo",
        "bw_size",
        "bw_one_time_burst",
        "bw_refill_time",
        "ops_size",
        "ops_one_time_burst",
        "ops_refill_time",
    ];
    let options = Options::parse("--net", text, &KEYS)?;
    let default = NetConfig::default();
    let fds: Vec<i32> =
        options.convert("fd", "descriptors such as [3,4]", options::integers)?.unwrap_or_default();
    // As many pairs as there are descriptors.
    let pairs = u16::try_from(fds.len().max(1)).unwrap_or(u16::MAX);
    let address = |key| options.convert(key, "an IPv4 address", |value| value.parse().ok());
    let number = |key| options.convert(key, "a number", |value| value.parse().ok());
    let text = |key| options.get(key).map(String::from);
    let vhost_mode = options.convert("vhost_mode", "client or server", |value| match value {
        "client" => Some(VhostMode::Client),
        "server" => Some(VhostMode::Server),
        _ => None,
    })?;
    Ok(NetConfig {
        id: text("id"),
        tap: text("tap"),
        fds,
        ip: address("ip")?,
        mask: address("mask")?,
        mac: text("mac"),
        host_mac: text("host_mac"),
        mtu: number("mtu")?,
        num_queues: number("num_queues")?.unwrap_or_else(|| pairs.saturating_mul(default.num_queues)),
        queue_size: number("queue_size")?.unwrap_or(default.queue_size),
        offload_csum: options.switch_on("offload_csum")?,
        offload_tso: options.switch_on("offload_tso")?,
        offload_ufo: options.switch_on("offload_ufo")?,
        rate_limiter_config: options.rate_limits()?,
        vhost_user: options.switch("vhost_user")?,
        vhost_socket: options.get("socket").map(Into::into),
        vhost_mode: vhost_mode.unwrap_or_default(),
        ..default
    })
}

fn console(flag: &'static str, text: &str) -> Result<ConsoleConfig, ConfigError> {
    let mode = match text {
        "off" => ConsoleMode::Off,
        "null" => ConsoleMode::Null,
        "tty" => ConsoleMode::Tty,
        "pty" => ConsoleMode::Pty,
        _ => {
            let options = Options::parse(flag, text, &["file", "socket"])?;
            if let Some(socket) = options.get("socket") {
                let socket = Some(socket.into());
                return Ok(ConsoleConfig { socket, ..ConsoleConfig::of(ConsoleMode::Socket) });
            }
            let file = options.require("file")?.into();
            return Ok(ConsoleConfig { file: Some(file), ..ConsoleConfig::of(ConsoleMode::File) });
        }
    };
    Ok(ConsoleConfig::of(mode))
}

fn vsock(text: &str) -> Result<VsockConfig, ConfigError> {
    let options = Options::parse("--vsock", text, &["cid", "socket"])?;
    options.require("cid")?;
    let cid = options.convert("cid", "a number from 3 on", |value| value.parse().ok())?;
    Ok(VsockConfig {
        id: None,
        cid: cid.unwrap_or_default(),
        socket: options.require("socket")?.into(),
        iommu: false,
        pci_segment: 0,
        pci_device_id: None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use api::config::{FaultName, HashName, RmmName};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        vm: VmFlags,
    }

    fn config(arguments: &[&str]) -> Result<VmConfig, ConfigError> {
        Cli::parse_from(["vmm"].iter().chain(arguments)).vm.into_config()
    }

    #[test]
    fn flags_describe_a_realm_with_devices() {
        let config = config(&[
            "--kernel=/k",
            "--cpus=boot=2",
            "--memory=size=1G",
            "--disk=path=/a,serial=one",
            "--disk=path=/b,readonly=on",
            "--vsock=cid=3,socket=/s",
            "--serial=file=/log",
            "--realm=soft,key=/pem,rmm=2.0,hash=sha512,fault=signature",
        ])
        .unwrap();
        assert_eq!(config.cpus.boot_vcpus, 2);
        assert_eq!(config.memory.size, 1 << 30);
        assert_eq!(config.disks.len(), 2);
        assert!(config.disks[1].readonly);
        assert_eq!(
            config.serial,
            ConsoleConfig { file: Some("/log".into()), ..ConsoleConfig::of(ConsoleMode::File) }
        );
        let realm = config.realm.unwrap();
        assert_eq!((realm.rmm, realm.measurement_algorithm), (Some(RmmName::V2_0), HashName::Sha512));
        assert_eq!(realm.fault, Some(FaultName::Signature));
        assert_eq!(realm.platform.unwrap().key, PathBuf::from("/pem"));
    }

    #[test]
    fn flags_replace_their_part_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let json =
            r#"{"payload":{"kernel":"/k","cmdline":"a"},"memory":{"size":2097152},"cpus":{"boot_vcpus":4}}"#;
        std::fs::write(file.path(), json).unwrap();
        let path = format!("--config={}", file.path().display());
        let config = config(&[&path, "--cmdline=b", "--memory=size=4M"]).unwrap();
        assert_eq!(
            (config.payload.cmdline.as_str(), config.memory.size, config.cpus.boot_vcpus),
            ("b", 4 << 20, 4)
        );
    }

    #[test]
    fn network_interfaces_are_described_in_full() {
        let config = config(&[
            "--kernel=/k",
            "--cpus=boot=2",
            "--net=id=a,tap=tap7,mac=52:54:00:12:34:56,mtu=1400,ip=10.0.0.1,mask=255.255.255.0",
            "--net=fd=[3,4],offload_ufo=off,bw_size=10M,bw_refill_time=100",
        ])
        .unwrap();
        let [named, passed] = &config.net[..] else { panic!("two interfaces") };
        assert_eq!((named.tap.as_deref(), named.mtu, named.num_queues), (Some("tap7"), Some(1400), 2));
        assert_eq!(named.ip, Some([10, 0, 0, 1].into()));
        assert_eq!((passed.fds.as_slice(), passed.num_queues), (&[3, 4][..], 4));
        assert!(passed.offload_tso && !passed.offload_ufo);
        let bandwidth = passed.rate_limiter_config.unwrap().bandwidth.unwrap();
        assert_eq!((bandwidth.size, bandwidth.refill_time), (10 << 20, 100));
    }

    #[test]
    fn mistakes_name_the_flag() {
        let message = |arguments: &[&str]| config(arguments).unwrap_err().to_string();
        assert!(message(&[]).contains("--kernel"));
        assert!(message(&["--kernel=/k", "--realm=tdx"]).contains("tdx"));
        assert!(message(&["--kernel=/k", "--realm=soft,instance_id=01"]).contains("key= is missing"));
        assert!(message(&["--kernel=/k", "--net=fd=[3],tap=a"]).contains("net.fds"));
        assert!(message(&["--kernel=/k", "--net=bw_size=1"]).contains("bw_refill_time= is missing"));
        assert!(message(&["--kernel=/k", "--cpus=boot=two"]).contains("boot=two"));
        assert!(message(&["--kernel=/k", "--vsock=cid=2,socket=/s"]).contains("cid"));
    }
}
