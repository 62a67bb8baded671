//! The calls, one method each.

use std::os::fd::OwnedFd;
use std::time::Duration;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, NetConfig, PmemConfig, VsockConfig};
use api::message::{
    Counters, PciDeviceInfo, VmInfo, VmRemoveDevice, VmResize, VmResizeDisk, VmmPingResponse,
};
use hyper::Method;
use serde::Serialize;

use crate::stream::MAX_FDS;
use crate::{Client, Error, Exchange, Failure};

impl Client {
    /// Whether the VMM is there, and which one it is.
    ///
    /// # Errors
    ///
    /// [`Error`], as with every call.
    pub fn ping(&self) -> Result<VmmPingResponse, Error> {
        self.get("vmm.ping")
    }

    /// Ends the VMM, and with it the VM.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn shutdown_vmm(&self) -> Result<(), Error> {
        self.act("vmm.shutdown")
    }

    /// What the VM is made of and what it does.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 404 there is no VM.
    pub fn info(&self) -> Result<VmInfo, Error> {
        self.get("vm.info")
    }

    /// Counters by device.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn counters(&self) -> Result<Counters, Error> {
        self.get("vm.counters")
    }

    /// Says what the VM is to be made of. Open descriptors are given to [`Client::add_net`].
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 400 it says which field.
    pub fn create(&self, config: &VmConfig) -> Result<(), Error> {
        self.put("vm.create", config, Vec::new(), self.timeouts.slow).map(drop)
    }

    /// Forgets the VM.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn delete(&self) -> Result<(), Error> {
        self.act("vm.delete")
    }

    /// Boots the VM. A Realm is measured first.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn boot(&self) -> Result<(), Error> {
        self.act("vm.boot")
    }

    /// Stops the vCPUs.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn pause(&self) -> Result<(), Error> {
        self.act("vm.pause")
    }

    /// Lets the vCPUs run again.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn resume(&self) -> Result<(), Error> {
        self.act("vm.resume")
    }

    /// Stops the VM without asking the guest; it can be booted again.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn shutdown(&self) -> Result<(), Error> {
        self.act("vm.shutdown")
    }

    /// Launches the VM anew without asking the guest.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn reboot(&self) -> Result<(), Error> {
        self.act("vm.reboot")
    }

    /// Presses the power button: the guest is asked to shut down.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn power_button(&self) -> Result<(), Error> {
        self.act("vm.power-button")
    }

    /// Changes the number of vCPUs or the size of the memory.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 429 the guest has yet to finish the last change.
    pub fn resize(&self, size: &VmResize) -> Result<(), Error> {
        self.put("vm.resize", size, Vec::new(), self.timeouts.quick).map(drop)
    }

    /// Tells the guest that a disk has another size.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 404 there is no such disk.
    pub fn resize_disk(&self, size: &VmResizeDisk) -> Result<(), Error> {
        self.put("vm.resize-disk", size, Vec::new(), self.timeouts.quick).map(drop)
    }

    /// Adds a disk. Like every addition it answers where the guest finds it, or nothing before the VM boots.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 409 the name is taken.
    pub fn add_disk(&self, disk: &DiskConfig) -> Result<Option<PciDeviceInfo>, Error> {
        self.add("vm.add-disk", disk, Vec::new())
    }

    /// Adds a network interface, with one open tap descriptor for each pair of queues, or none.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 409 the name is taken.
    pub fn add_net(&self, net: &NetConfig, taps: Vec<OwnedFd>) -> Result<Option<PciDeviceInfo>, Error> {
        if taps.len() > MAX_FDS {
            let reason = format!("found {} file descriptors, expected at most {MAX_FDS}", taps.len());
            return Err(self.error("vm.add-net", Failure::Descriptors { reason }));
        }
        self.add("vm.add-net", net, taps)
    }

    /// Adds a directory of the host.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 409 the name is taken.
    pub fn add_fs(&self, fs: &FsConfig) -> Result<Option<PciDeviceInfo>, Error> {
        self.add("vm.add-fs", fs, Vec::new())
    }

    /// Adds persistent memory.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 409 the name is taken.
    pub fn add_pmem(&self, pmem: &PmemConfig) -> Result<Option<PciDeviceInfo>, Error> {
        self.add("vm.add-pmem", pmem, Vec::new())
    }

    /// Adds the socket between guest and host.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 409 there is one.
    pub fn add_vsock(&self, vsock: &VsockConfig) -> Result<Option<PciDeviceInfo>, Error> {
        self.add("vm.add-vsock", vsock, Vec::new())
    }

    /// Asks the guest to let go of a device. It is gone once the event monitor says so.
    ///
    /// # Errors
    ///
    /// [`Error`]; with status 404 there is no such device.
    pub fn remove_device(&self, id: &str) -> Result<(), Error> {
        let body = VmRemoveDevice { id: id.to_owned() };
        self.put("vm.remove-device", &body, Vec::new(), self.timeouts.quick).map(drop)
    }

    /// A call without a body, which changes the VM's state.
    fn act(&self, endpoint: &'static str) -> Result<(), Error> {
        let exchange = Exchange { endpoint, method: Method::PUT, body: None, fds: Vec::new() };
        self.run(exchange, self.timeouts.slow).map(drop)
    }

    fn add<B: Serialize>(
        &self,
        endpoint: &'static str,
        device: &B,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<PciDeviceInfo>, Error> {
        let answer = self.put(endpoint, device, fds, self.timeouts.slow)?;
        if answer.is_empty() { Ok(None) } else { self.decode(endpoint, &answer).map(Some) }
    }

    fn put<B: Serialize>(
        &self,
        endpoint: &'static str,
        body: &B,
        fds: Vec<OwnedFd>,
        timeout: Duration,
    ) -> Result<hyper::body::Bytes, Error> {
        let body = Some(self.encode(endpoint, body)?);
        self.run(Exchange { endpoint, method: Method::PUT, body, fds }, timeout)
    }
}
