//! A VM put together: memory, processors, interrupt controller, devices, and what lies in memory.

mod device_manager;
mod device_memory;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use devices::bus::Bus;
use devices::pci::{Ejected, PciBus};
use devices::pl011::{Pl011, Pl011Input};
use devices::pl031::Pl031;
use devices::pl061::Pl061;
use devices::virtio::DeviceHost;
use hypervisor::{Gic, Hypervisor, Vcpu, Vm, VmType};
use machine::fdt::Seeds;
use machine::launch::LaunchPlan;
use machine::layout::{Layout, Region};
use rand::Rng as _;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestMemoryRegion};

pub use self::device_manager::DeviceManager;
pub use self::device_memory::DeviceMemory;
use crate::attachments::Attachments;
use crate::confinement::Confinement;
use crate::console::Console;
use crate::control::BootEvents;
use crate::event::Event;
use crate::isolation::{Isolation, Kernel, Spi};
use crate::launch::{self, Measurement, Prepared};
use crate::vcpu::{self, Context, Power};
use crate::{Error, memory, realm_backend};
use api::VmConfig;

/// Shared peripheral interrupts: the wired devices need two, and KVM counts in steps of 32.
const SPIS: u32 = 32;

/// Root ports into which devices can be plugged while the guest runs. Each takes the guest some time to find.
const HOTPLUG_SLOTS: u8 = 8;

/// A VM that is ready to run, without its vCPUs, which belong to their threads.
pub struct Board {
    bus: Arc<Bus>,
    isolation: Isolation,
    devices: DeviceManager,
    gpio: Arc<Pl061>,
    power: Option<Arc<Power>>,
    _gic: Gic,
    _serial_input: Option<Pl011Input>,
}

impl Board {
    /// Builds the VM that `config` describes, with everything loaded; the vCPUs have their entry state.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the field or the part of the host that stands in the way.
    pub fn build(
        hypervisor: &Hypervisor,
        config: &VmConfig,
        attachments: &Attachments,
        host: Arc<dyn DeviceHost>,
        events: &BootEvents,
        launch_log: Option<&Path>,
    ) -> Result<(Self, Vec<Vcpu>), Error> {
        let Prepared { layout, plan } = launch::prepare(config, Some(seeds()))?;
        let realm = config
            .realm
            .as_ref()
            .map(|realm| realm_backend::backend(hypervisor, realm, &layout))
            .transpose()?;
        let isolation = Isolation::new(realm);

        let vm_type =
            isolation.realm().map_or_else(|| VmType::normal(layout.ipa_bits), |realm| realm.vm_type());
        let vm = Arc::new(hypervisor.create_vm(vm_type)?);
        if let Some(realm) = isolation.realm() {
            realm.configure(&vm)?;
        }
        let file = |size| Ok(isolation.realm().map_or(Ok(None), |realm| realm.ram_file(&vm, size))?);
        let firmware = plan.firmware();
        let memory = memory::map(&config.memory, &layout, firmware, file, |region| {
            match isolation.realm() {
                Some(realm) => realm.map_ram(&vm, region)?,
                None => vm.map_memory(region.start_addr().0, region)?,
            }
            Ok(())
        })?;
        let cpus = &config.cpus;
        let power = (cpus.max() > cpus.boot_vcpus).then(|| Power::new(cpus.boot_vcpus, cpus.max()));
        if power.is_some() {
            vcpu::CALLS.into_iter().try_for_each(|calls| vm.forward_smccc(calls))?;
        }
        let mut vcpus =
            (0..layout.vcpus).map(|index| vm.create_vcpu(index)).collect::<Result<Vec<_>, _>>()?;
        let gic = vm.create_gic(isolation.gic_addresses(&layout.gic), SPIS)?;

        let mut assembly = Assembly::new(&vm, &isolation, &layout, Arc::new(memory.clone()), host, events)?;
        let serial_input = assembly.serial(attachments)?;
        let gpio = assembly.gpio()?;
        let expired = events.clone();
        assembly.devices.assemble(config, attachments, move || expired.send(Event::Watchdog))?;

        load(config, &vm, &isolation, &memory, &layout, &plan, launch_log)?;
        let entry = plan.entry();
        for (index, vcpu) in vcpus.iter_mut().enumerate() {
            let boots = index == 0;
            vcpu.init(boots, isolation.realm().map_or(0, |realm| realm.vcpu_features()))?;
            if boots {
                vcpu.set_entry(entry.pc, &entry.gprs)?;
            }
            if let Some(realm) = isolation.realm() {
                realm.finalise_vcpu(vcpu)?;
            }
        }
        if let Some(realm) = isolation.realm() {
            realm.activate(&vm)?;
        }
        let Assembly { bus, devices, .. } = assembly;
        let board = Self {
            bus: Arc::new(bus),
            isolation,
            devices,
            gpio,
            power: power.map(Arc::new),
            _gic: gic,
            _serial_input: serial_input,
        };
        Ok((board, vcpus))
    }

    /// What the vCPU threads need of the board.
    pub fn context(&self, config: &VmConfig, events: BootEvents, confinement: Arc<Confinement>) -> Context {
        Context {
            bus: Arc::clone(&self.bus),
            isolation: self.isolation.clone(),
            events,
            confinement,
            affinity: config.cpus.affinity.clone().into(),
            power: self.power.clone(),
        }
    }

    /// The devices, and where more can be plugged in.
    pub const fn devices(&self) -> &DeviceManager {
        &self.devices
    }

    /// The devices, to be plugged in and out.
    pub const fn devices_mut(&mut self) -> &mut DeviceManager {
        &mut self.devices
    }

    /// Which vCPUs are on, where their number can change.
    pub const fn power(&self) -> Option<&Arc<Power>> {
        self.power.as_ref()
    }

    /// The controller of the power button.
    pub const fn gpio(&self) -> &Arc<Pl061> {
        &self.gpio
    }
}

/// Devices on their way to the board.
struct Assembly<'a> {
    vm: &'a Arc<Vm>,
    layout: &'a Layout,
    bus: Bus,
    devices: DeviceManager,
}

impl<'a> Assembly<'a> {
    fn new(
        vm: &'a Arc<Vm>,
        isolation: &Isolation,
        layout: &'a Layout,
        memory: Arc<GuestMemoryMmap>,
        host: Arc<dyn DeviceHost>,
        events: &BootEvents,
    ) -> Result<Self, Error> {
        let range = |region: Region| region.base..region.end();
        let kernel = Arc::new(Kernel { vm: Arc::clone(vm), isolation: isolation.clone() });
        let let_go = events.clone();
        let ejected: Ejected = Arc::new(move |id| let_go.send(Event::Ejected(id.to_owned())));
        let windows = vec![range(layout.pcie.mmio32), range(layout.pcie.mmio64)];
        let pci = PciBus::with_ports(windows, HOTPLUG_SLOTS, &(Arc::clone(&kernel) as _), &ejected);
        let mut bus = Bus::new();
        bus.insert(range(layout.pcie.ecam), pci.ecam()).map_err(assemble("PCI host bridge"))?;
        for (window, device) in pci.windows() {
            bus.insert(window, device).map_err(assemble("PCI host bridge"))?;
        }
        bus.insert(range(layout.rtc), Arc::new(Pl031::new(seconds_since_1970)))
            .map_err(assemble("real-time clock"))?;
        let devices = DeviceManager {
            isolation: isolation.clone(),
            memory,
            host,
            kernel,
            pci,
            functions: Vec::new(),
            disks: BTreeMap::new(),
            device_memory: DeviceMemory::new(layout.device_memory(), Arc::clone(vm)),
            balloon: None,
            watchdog: None,
        };
        Ok(Self { vm, layout, bus, devices })
    }

    /// The serial port is part of the board; without an end it is silent.
    fn serial(&mut self, attachments: &Attachments) -> Result<Option<Pl011Input>, Error> {
        const DEVICE: &str = "serial port";
        let ends = attachments.serial.as_deref().map(Console::ends).transpose()?;
        let line = Arc::new(Spi { vm: Arc::clone(self.vm), spi: self.layout.uart.spi });
        let (output, input): (Box<dyn std::io::Write + Send>, _) = match ends {
            Some(ends) => (Box::new(ends.output), ends.input),
            None => (Box::new(std::io::sink()), None),
        };
        let uart = Pl011::new(line, output).map_err(assemble(DEVICE))?;
        let connect = |input| uart.connect_input(input, Arc::clone(&self.devices.host));
        let input = input.map(connect).transpose().map_err(assemble(DEVICE))?;
        let region = self.layout.uart.region;
        self.bus.insert(region.base..region.end(), uart).map_err(assemble(DEVICE))?;
        Ok(input)
    }

    /// The power button is part of the board, too.
    fn gpio(&mut self) -> Result<Arc<Pl061>, Error> {
        let gpio = self.layout.gpio;
        let line = Arc::new(Spi { vm: Arc::clone(self.vm), spi: gpio.spi });
        let device = Arc::new(Pl061::new(line));
        let region = gpio.region;
        self.bus
            .insert(region.base..region.end(), Arc::clone(&device) as _)
            .map_err(assemble("power button"))?;
        Ok(device)
    }
}

/// Puts the plan into memory, and writes the launch log of a Realm.
fn load(
    config: &VmConfig,
    vm: &Vm,
    isolation: &Isolation,
    memory: &GuestMemoryMmap,
    layout: &Layout,
    plan: &LaunchPlan,
    log: Option<&Path>,
) -> Result<(), Error> {
    let (Some(realm), Some(realm_config)) = (isolation.realm(), &config.realm) else {
        for segment in plan.segments() {
            memory.write_slice(segment.bytes(), GuestAddress(segment.gpa())).map_err(|source| {
                realm::Error::Load { segment: segment.name(), gpa: segment.gpa(), source }
            })?;
        }
        return Ok(());
    };
    let rim = realm.load(vm, memory, plan)?;
    tracing::info!(%rim, backend = realm.name(), "the Realm is measured");
    if let Some(path) = log {
        let measurement = Measurement::of(realm_config, &realm.launch_parameters(), rim, layout, plan);
        let json = serde_json::to_vec_pretty(&measurement).map_err(std::io::Error::other);
        json.and_then(|json| std::fs::write(path, json))
            .map_err(|source| Error::LaunchLog { path: path.into(), source })?;
    }
    Ok(())
}

fn seeds() -> Seeds {
    let mut seeds = Seeds { rng: [0; 32], kaslr: 0 };
    let mut rng = rand::rng();
    rng.fill_bytes(&mut seeds.rng);
    seeds.kaslr = rng.next_u64();
    seeds
}

/// Seconds since 1970 in the 32 bits that a PL031 has.
fn seconds_since_1970() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "the clock wraps in 2106, as the device does")]
    let seconds = since.as_secs() as u32;
    seconds
}

fn assemble<E>(device: &str) -> impl FnOnce(E) -> Error + use<E>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let device = device.to_owned();
    move |source| Error::Assemble { device, source: source.into() }
}

fn unusable<E>(field: &'static str, path: &Path) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path.to_path_buf();
    move |source| Error::Device { field, path, source: source.into() }
}
