//! Devices of a configuration: put in, found and taken out.

use std::os::fd::{AsRawFd, OwnedFd};

use api::VmConfig;

use super::{ControlError, NewDevice};
use crate::config::names;

/// `config` with `device` in it, every device named, and the name of the new one.
///
/// # Errors
///
/// [`ControlError::Unsupported`] where there can be but one.
pub fn with(config: &VmConfig, device: &NewDevice) -> Result<(VmConfig, String), ControlError> {
    let mut config = config.clone();
    match device {
        NewDevice::Disk(disk) => config.disks.push(disk.as_ref().clone()),
        NewDevice::Net(net, fds) => {
            let mut net = net.as_ref().clone();
            net.fds = fds.iter().map(OwnedFd::as_raw_fd).collect();
            config.net.push(net);
        }
        NewDevice::Fs(fs) => config.fs.push(fs.clone()),
        NewDevice::Pmem(pmem) => config.pmem.push(pmem.clone()),
        NewDevice::Vsock(vsock) => {
            if config.vsock.is_some() {
                let what = device.call().to_owned();
                return Err(ControlError::Unsupported {
                    what,
                    reason: "a VM has one vsock, and this one has it",
                });
            }
            config.vsock = Some(vsock.clone());
        }
    }
    names::assign(&mut config);
    let id = match device {
        NewDevice::Disk(_) => config.disks.last().and_then(|disk| disk.id.clone()),
        NewDevice::Net(..) => config.net.last().and_then(|net| net.id.clone()),
        NewDevice::Fs(_) => config.fs.last().and_then(|fs| fs.id.clone()),
        NewDevice::Pmem(_) => config.pmem.last().and_then(|pmem| pmem.id.clone()),
        NewDevice::Vsock(_) => config.vsock.as_ref().and_then(|vsock| vsock.id.clone()),
    };
    Ok((config, id.unwrap_or_default()))
}

/// Takes the device of that name out of `config`.
///
/// # Errors
///
/// [`ControlError::NoDevice`], or [`ControlError::Unsupported`] for one that every VM has.
pub fn remove(config: &mut VmConfig, id: &str) -> Result<(), ControlError> {
    let is = |name: &Option<String>| name.as_deref() == Some(id);
    if is(&config.rng.id) || [names::SERIAL, names::CONSOLE].contains(&id) {
        return Err(ControlError::Unsupported { what: id.into(), reason: "this device cannot be removed" });
    }
    let VmConfig { disks, net, fs, pmem, vsock, balloon, .. } = config;
    let before = count(disks.len(), net.len(), fs.len(), pmem.len(), vsock.is_some(), balloon.is_some());
    disks.retain(|disk| !is(&disk.id));
    net.retain(|net| !is(&net.id));
    fs.retain(|fs| !is(&fs.id));
    pmem.retain(|pmem| !is(&pmem.id));
    vsock.take_if(|vsock| is(&vsock.id));
    balloon.take_if(|balloon| is(&balloon.id));
    let after = count(disks.len(), net.len(), fs.len(), pmem.len(), vsock.is_some(), balloon.is_some());
    if after < before { Ok(()) } else { Err(ControlError::NoDevice { id: id.into() }) }
}

fn count(disks: usize, net: usize, fs: usize, pmem: usize, vsock: bool, balloon: bool) -> usize {
    disks + net + fs + pmem + usize::from(vsock) + usize::from(balloon)
}
