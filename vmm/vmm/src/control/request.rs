//! What can be asked of the thread that owns the VM, and how it is asked.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, NetConfig, PmemConfig, VsockConfig};
use api::message::{
    Counters, PciDeviceInfo, VmInfo, VmRemoveDevice, VmResize, VmResizeDisk, VmState, VmmPingResponse,
};

use super::ControlError;
use crate::event::Event;

/// Most requests that wait. Each takes memory, and a client that sends more than it waits for would take all of it.
const MOST_WAITING: usize = 16;

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// Says that the VMM is there.
    Ping,
    /// Ends the VMM.
    ShutdownVmm,
    /// Says what the VM is made of and does.
    Info,
    /// Counts what devices and vCPUs have done.
    Counters,
    /// The same for a collector of metrics, who asks whether or not there is a VM.
    Metrics,
    /// Says what the VM is to be made of.
    Create(Box<VmConfig>),
    /// Forgets the VM.
    Delete,
    /// Launches it.
    Boot,
    /// Stops its vCPUs.
    Pause,
    /// Lets them run again.
    Resume,
    /// Stops the VM without asking the guest.
    Shutdown,
    /// Launches it anew without asking the guest.
    Reboot,
    /// Asks the guest to shut down.
    PowerButton,
    /// Changes the number of vCPUs, the size of the memory or of the balloon.
    Resize(VmResize),
    /// Changes the size of a disk.
    ResizeDisk(VmResizeDisk),
    /// Adds a device.
    AddDevice(NewDevice),
    /// Removes a device.
    RemoveDevice(VmRemoveDevice),
}

impl Action {
    /// Name of the call.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping => "vmm.ping",
            Self::ShutdownVmm => "vmm.shutdown",
            Self::Info => "vm.info",
            Self::Counters => "vm.counters",
            Self::Metrics => "metrics",
            Self::Create(_) => "vm.create",
            Self::Delete => "vm.delete",
            Self::Boot => "vm.boot",
            Self::Pause => "vm.pause",
            Self::Resume => "vm.resume",
            Self::Shutdown => "vm.shutdown",
            Self::Reboot => "vm.reboot",
            Self::PowerButton => "vm.power-button",
            Self::Resize(_) => "vm.resize",
            Self::ResizeDisk(_) => "vm.resize-disk",
            Self::AddDevice(device) => device.call(),
            Self::RemoveDevice(_) => "vm.remove-device",
        }
    }
}

/// A device to be added.
#[derive(Debug)]
pub enum NewDevice {
    /// A disk.
    Disk(Box<DiskConfig>),
    /// A network interface, with the open queues of its tap device if they came with the request.
    Net(Box<NetConfig>, Vec<OwnedFd>),
    /// A directory of the host.
    Fs(FsConfig),
    /// Persistent memory.
    Pmem(PmemConfig),
    /// The socket between guest and host.
    Vsock(VsockConfig),
}

impl NewDevice {
    /// Name of the call that adds it.
    #[must_use]
    pub const fn call(&self) -> &'static str {
        match self {
            Self::Disk(_) => "vm.add-disk",
            Self::Net(..) => "vm.add-net",
            Self::Fs(_) => "vm.add-fs",
            Self::Pmem(_) => "vm.add-pmem",
            Self::Vsock(_) => "vm.add-vsock",
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The VMM is there.
    Ping(VmmPingResponse),
    /// What the VM is.
    Info(Box<VmInfo>),
    /// Counters by device.
    Counters(Counters),
    /// Where the guest finds the device.
    Device(PciDeviceInfo),
    /// Numbers for a collector of metrics.
    Metrics(Metrics),
}

/// Numbers for a collector of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// State of the VM, if there is one.
    pub state: Option<VmState>,
    /// How often it has been launched since the VMM started.
    pub launches: u64,
    /// Counters by device.
    pub devices: Counters,
    /// Counters by vCPU: why it came back from the guest.
    pub vcpus: Counters,
}

/// Takes the answer, on the thread that owns the VM.
pub type Reply = Box<dyn FnOnce(Result<Answer, ControlError>) + Send>;

/// What the thread that owns the VM waits for.
pub enum Input {
    /// Somebody asks for something.
    Request {
        /// What.
        action: Action,
        /// Who takes the answer.
        reply: Reply,
    },
    /// Something happened in a boot of the VM.
    Event {
        /// Number of the boot.
        boot: u64,
        /// What happened.
        event: Event,
    },
    /// A signal that asks the process to end.
    Signal(i32),
    /// The process cannot go on.
    Failed(crate::Error),
}

/// Sends requests to the thread that owns the VM.
#[derive(Clone, Debug)]
pub struct Handle {
    inputs: Sender<Input>,
    waiting: Arc<AtomicUsize>,
}

impl Handle {
    pub(super) fn new(inputs: Sender<Input>) -> Self {
        Self { inputs, waiting: Arc::default() }
    }

    /// Asks for `action`; `reply` is called with the answer, once, or dropped when the VMM ends first.
    ///
    /// # Errors
    ///
    /// [`ControlError::Busy`] when too many requests wait, [`ControlError::Ending`] when nobody answers any more.
    pub fn ask(&self, action: Action, reply: Reply) -> Result<(), ControlError> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let ticket = Ticket(Arc::clone(&self.waiting));
        if waiting >= MOST_WAITING {
            return Err(ControlError::Busy { waiting });
        }
        let reply: Reply = Box::new(move |answer| {
            drop(ticket);
            reply(answer);
        });
        self.inputs.send(Input::Request { action, reply }).map_err(|_| ControlError::Ending)
    }

    /// The channel itself, for signals and events.
    #[must_use]
    pub fn inputs(&self) -> &Sender<Input> {
        &self.inputs
    }
}

/// A place among those that wait; given back when dropped.
struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
