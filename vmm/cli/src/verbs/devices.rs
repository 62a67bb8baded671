//! Devices come and go.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::VmConfig;
use api::config::{DiskConfig, ImageType, NetConfig};
use clap::{Args, ValueEnum};
use client::Client;

use super::Context;
use super::change::Affect;
use crate::definition::read_text;
use crate::domain::{Domain, complete_net, disk_name, free_name};
use crate::output;
use crate::xml::{self, Device};

/// Adds a disk.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt attach-disk web /srv/data.img vdb --persistent")]
pub struct AttachDisk {
    /// Name or uuid of the domain.
    domain: String,
    /// Image or block device.
    source: PathBuf,
    /// Name of the disk, such as vdb.
    target: String,
    /// Format of the image.
    #[arg(long, value_enum, default_value_t = DiskFormat::Raw)]
    subdriver: DiskFormat,
    /// Pass by the host's page cache with none.
    #[arg(long, value_enum, default_value_t = Cache::Writeback)]
    cache: Cache,
    /// Readonly, if the guest may only read.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Serial number, at most 20 bytes.
    #[arg(long)]
    serial: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DiskFormat {
    Raw,
    Qcow2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cache {
    None,
    Writeback,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Readonly,
}

impl AttachDisk {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let source = std::path::absolute(&self.source)?;
        if !source.exists() {
            bail!("{} is not there", source.display());
        }
        let disk = DiskConfig {
            id: Some(self.target),
            path: Some(source),
            image_type: match self.subdriver {
                DiskFormat::Raw => ImageType::Raw,
                DiskFormat::Qcow2 => ImageType::Qcow2,
            },
            direct: self.cache == Cache::None,
            readonly: matches!(self.mode, Some(Mode::Readonly)),
            serial: self.serial,
            ..DiskConfig::default()
        };
        attach(context, &self.domain, self.affect, Device::Disk(disk), Vec::new())?;
        output::line("Disk attached successfully\n")
    }
}

/// Adds a network interface.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt attach-interface web --target tap1 --live")]
pub struct AttachInterface {
    /// Name or uuid of the domain.
    domain: String,
    /// Name of the tap device; it is created when there is none.
    #[arg(long, required_unless_present = "tap_device")]
    target: Option<String>,
    /// Open this macvtap device, such as /dev/tap7, and hand it over; may be repeated for more pairs of queues.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "config", "persistent"])]
    tap_device: Vec<PathBuf>,
    /// Hardware address of the guest; by default a random one.
    #[arg(long)]
    mac: Option<String>,
    /// Largest packet in bytes, from 1280 on.
    #[arg(long)]
    mtu: Option<u16>,
    /// Name of the interface; by default net and a number.
    #[arg(long)]
    alias: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

impl AttachInterface {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let taps = self.tap_device.iter().map(|path| {
            let file = File::options().read(true).write(true).open(path);
            file.map(OwnedFd::from).with_context(|| format!("cannot open {}", path.display()))
        });
        let taps: Vec<_> = taps.collect::<Result<_, _>>()?;
        let pairs = u16::try_from(taps.len().max(1)).unwrap_or(u16::MAX);
        let net = NetConfig {
            id: self.alias,
            tap: self.target,
            mac: self.mac,
            mtu: self.mtu,
            num_queues: pairs.saturating_mul(2),
            ..NetConfig::default()
        };
        attach(context, &self.domain, self.affect, Device::Net(net), taps)?;
        output::line("Interface attached successfully\n")
    }
}

/// Adds a device that an XML file describes.
#[derive(Args, Debug)]
pub struct AttachDevice {
    /// Name or uuid of the domain.
    domain: String,
    /// File with one disk, interface, filesystem, memory or vsock element; - is standard input.
    file: PathBuf,
    #[command(flatten)]
    affect: Affect,
}

impl AttachDevice {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        attach(context, &self.domain, self.affect, read_device(&self.file)?, Vec::new())?;
        output::line("Device attached successfully\n")
    }
}

/// Takes away a device that an XML file describes: its name, or what else tells it from others.
#[derive(Args, Debug)]
pub struct DetachDevice {
    /// Name or uuid of the domain.
    domain: String,
    /// File with one disk, interface, filesystem or memory element; - is standard input.
    file: PathBuf,
    #[command(flatten)]
    affect: Affect,
}

impl DetachDevice {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let device = read_device(&self.file)?;
        detach(context, &self.domain, self.affect, |config| find(config, &device))?;
        output::line("Device detach request sent successfully\n")
    }
}

/// Takes away a disk.
#[derive(Args, Debug)]
pub struct DetachDisk {
    /// Name or uuid of the domain.
    domain: String,
    /// Name of the disk, such as vdb, or its image.
    target: String,
    #[command(flatten)]
    affect: Affect,
}

impl DetachDisk {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        detach(context, &self.domain, self.affect, |config| {
            let names = |disk: &&DiskConfig| {
                let path = disk.path.as_deref().or(disk.vhost_socket.as_deref());
                disk.id.as_deref() == Some(&self.target)
                    || path.is_some_and(|path| path.as_os_str() == self.target.as_str())
            };
            one(config.disks.iter().filter(names).map(|disk| &disk.id), "disk", &self.target, "domblklist")
        })?;
        output::line("Disk detached successfully\n")
    }
}

/// Takes away a network interface.
#[derive(Args, Debug)]
pub struct DetachInterface {
    /// Name or uuid of the domain.
    domain: String,
    /// Kind of the interface, as in virsh.
    #[arg(value_parser = ["ethernet", "vhostuser"])]
    kind: Option<String>,
    /// Hardware address of the guest; needed when there is more than one interface.
    #[arg(long)]
    mac: Option<String>,
    #[command(flatten)]
    affect: Affect,
}

impl DetachInterface {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        detach(context, &self.domain, self.affect, |config| {
            let matches = |net: &&NetConfig| {
                let kind = if net.vhost_user { "vhostuser" } else { "ethernet" };
                let mac = net.mac.as_deref().unwrap_or_default();
                self.kind.as_deref().is_none_or(|wanted| wanted == kind)
                    && self.mac.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(mac))
            };
            let wanted = self.mac.as_deref().or(self.kind.as_deref()).unwrap_or("any");
            one(config.net.iter().filter(matches).map(|net| &net.id), "interface", wanted, "domiflist")
        })?;
        output::line("Interface detached successfully\n")
    }
}

fn read_device(file: &std::path::Path) -> anyhow::Result<Device> {
    let text = read_text(file)?;
    xml::parse_device(&text).with_context(|| format!("{} is no device", file.display()))
}

fn attach(
    context: &Context,
    key: &str,
    affect: Affect,
    mut device: Device,
    taps: Vec<OwnedFd>,
) -> anyhow::Result<()> {
    // It gets the same name and address where it runs and where it is defined.
    let observation = context.observe(key)?;
    let mut taken = BTreeSet::new();
    let info = observation.info.as_ref().map(|info| &info.config);
    let defined = observation.domain.as_ref().map(|domain| &domain.config);
    for config in info.into_iter().chain(defined) {
        taken.extend(ids(config).map(str::to_owned));
    }
    name(&mut device, &mut taken);
    let mut alone = Domain::new("alone", VmConfig::booting("/".into()));
    put(&mut alone.config, device.clone())?;
    alone.check()?;
    context.change(
        key,
        affect,
        |client, _| add(client, &device, taps),
        |domain| put(&mut domain.config, device.clone()),
    )?;
    Ok(())
}

/// Gives a device a name, and an interface a hardware address, if it has none.
fn name(device: &mut Device, taken: &mut BTreeSet<String>) {
    let (id, prefix) = match device {
        Device::Disk(disk) if disk.id.is_none() => {
            disk.id = Some(free_name(taken, disk_name));
            return;
        }
        Device::Disk(_) | Device::Vsock(_) => return,
        Device::Net(net) => return complete_net(net, taken),
        Device::Fs(fs) => (&mut fs.id, "fs"),
        Device::Pmem(pmem) => (&mut pmem.id, "pmem"),
    };
    if id.is_none() {
        *id = Some(free_name(taken, |number| format!("{prefix}{number}")));
    }
}

fn put(config: &mut VmConfig, device: Device) -> anyhow::Result<()> {
    match device {
        Device::Disk(disk) => config.disks.push(disk),
        Device::Net(net) => config.net.push(net),
        Device::Fs(fs) => config.fs.push(fs),
        Device::Pmem(pmem) => config.pmem.push(pmem),
        Device::Vsock(_) if config.vsock.is_some() => bail!("the domain has a vsock already"),
        Device::Vsock(vsock) => config.vsock = Some(vsock),
    }
    Ok(())
}

fn add(client: &Client, device: &Device, taps: Vec<OwnedFd>) -> anyhow::Result<()> {
    match device {
        Device::Disk(disk) => client.add_disk(disk)?,
        Device::Net(net) => client.add_net(net, taps)?,
        Device::Fs(fs) => client.add_fs(fs)?,
        Device::Pmem(pmem) => client.add_pmem(pmem)?,
        Device::Vsock(vsock) => client.add_vsock(vsock)?,
    };
    Ok(())
}

/// Takes away the device that `find` names.
fn detach(
    context: &Context,
    key: &str,
    affect: Affect,
    find: impl Fn(&VmConfig) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    context.change(
        key,
        affect,
        |client, found| {
            let config = &found.info.as_ref().context("no answer of the VMM")?.config;
            Ok(client.remove_device(&find(config)?)?)
        },
        |domain| {
            let id = find(&domain.config)?;
            let config = &mut domain.config;
            config.disks.retain(|disk| disk.id.as_deref() != Some(&id));
            config.net.retain(|net| net.id.as_deref() != Some(&id));
            config.fs.retain(|fs| fs.id.as_deref() != Some(&id));
            config.pmem.retain(|pmem| pmem.id.as_deref() != Some(&id));
            Ok(())
        },
    )?;
    Ok(())
}

fn find(config: &VmConfig, device: &Device) -> anyhow::Result<String> {
    match device {
        Device::Disk(wanted) => {
            let found = config.disks.iter().filter(|disk| disk.id == wanted.id).map(|disk| &disk.id);
            one(found, "disk", wanted.id.as_deref().unwrap_or_default(), "domblklist")
        }
        Device::Net(wanted) => {
            let same = |net: &&NetConfig| match (&wanted.id, &wanted.mac) {
                (Some(_), _) => net.id == wanted.id,
                (None, Some(mac)) => net.mac.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(mac)),
                (None, None) => wanted.tap.is_some() && net.tap == wanted.tap,
            };
            let name = wanted.id.as_ref().or(wanted.mac.as_ref()).or(wanted.tap.as_ref());
            let found = config.net.iter().filter(same).map(|net| &net.id);
            one(found, "interface", name.map_or("without alias, mac and target", String::as_str), "domiflist")
        }
        Device::Fs(wanted) => {
            let found = config.fs.iter().filter(|fs| fs.tag == wanted.tag).map(|fs| &fs.id);
            one(found, "filesystem", &wanted.tag, "dumpxml")
        }
        Device::Pmem(wanted) => {
            let found = config.pmem.iter().filter(|pmem| pmem.file == wanted.file).map(|pmem| &pmem.id);
            one(found, "memory", &wanted.file.display().to_string(), "dumpxml")
        }
        Device::Vsock(_) => bail!("a vsock cannot be taken away"),
    }
}

/// The name of the one device that was found.
fn one<'a>(
    mut found: impl Iterator<Item = &'a Option<String>>,
    kind: &str,
    wanted: &str,
    verb: &str,
) -> anyhow::Result<String> {
    let Some(first) = found.next() else {
        bail!("there is no {kind} {wanted:?}: `redoubt {verb}` shows those there are");
    };
    if found.next().is_some() {
        bail!("more than one {kind} is {wanted:?}: `redoubt {verb}` shows what tells them apart");
    }
    first
        .clone()
        .with_context(|| format!("the {kind} {wanted:?} has no name by which it could be taken away"))
}

fn ids(config: &VmConfig) -> impl Iterator<Item = &str> {
    let disks = config.disks.iter().map(|disk| &disk.id);
    let nets = config.net.iter().map(|net| &net.id);
    let shares = config.fs.iter().map(|fs| &fs.id);
    let pmems = config.pmem.iter().map(|pmem| &pmem.id);
    disks.chain(nets).chain(shares).chain(pmems).filter_map(Option::as_deref)
}
