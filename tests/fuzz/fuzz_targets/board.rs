//! Any guest against the registers of the board: serial port, clock, power button, watchdog, PCI bridges and their slots,
//! while devices are plugged in and out. Nothing panics, and what the guest let go is not kept.

#![no_main]

use std::io;
use std::sync::{Arc, Mutex};

use devices::bus::{Bus, MmioDevice};
use devices::dma::IdentityDma;
use devices::doorbell::NoIoEvents;
use devices::interrupt::{InterruptLine, MsiMessage, MsiSink};
use devices::pci::{Ejected, PciBus};
use devices::pl011::Pl011;
use devices::pl031::Pl031;
use devices::pl061::Pl061;
use devices::virtio::rng::Rng;
use devices::virtio::{NoDeviceHost, VirtioPci, VirtioPciConfig};
use devices::watchdog::Watchdog;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const UART: u64 = 0x900_0000;
const RTC: u64 = 0x901_0000;
const GPIO: u64 = 0x903_0000;
const ECAM: u64 = 0x3f00_0000;
/// Configuration space of the first slot.
const WATCHDOG: u64 = ECAM + (1 << 15);
const WINDOW: u64 = 0x1000_0000;

#[derive(Arbitrary, Debug)]
enum Step {
    Read {
        place: Place,
        len: u8,
    },
    Write {
        place: Place,
        len: u8,
        value: u64,
    },
    Plug,
    Unplug(u8),
    PressButton,
    /// Characters come to the serial port.
    Type(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Uart(u16),
    Rtc(u16),
    Gpio(u16),
    /// Bus, slot, register.
    Ecam(u8, u8, u16),
    Window(u32),
    /// Configuration space and registers of the watchdog.
    WatchdogConfig(u8),
    Watchdog(u8),
}

impl Place {
    fn address(self) -> u64 {
        match self {
            Self::Uart(at) => UART + u64::from(at % 4096),
            Self::Rtc(at) => RTC + u64::from(at % 4096),
            Self::Gpio(at) => GPIO + u64::from(at % 4096),
            Self::Ecam(bus, slot, at) => {
                ECAM + (u64::from(bus % 16) << 20) + (u64::from(slot % 32) << 15) + u64::from(at % 4096)
            }
            Self::Window(at) => WINDOW + u64::from(at % 0x10_0000),
            Self::WatchdogConfig(at) => WATCHDOG + u64::from(at),
            Self::Watchdog(at) => WINDOW + u64::from(at % 0x20),
        }
    }
}

struct Nowhere;

impl InterruptLine for Nowhere {
    fn set_level(&self, _level: bool) {}
}

impl MsiSink for Nowhere {
    fn signal(&self, _message: MsiMessage) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let ejected = Arc::<Mutex<Vec<String>>>::default();
    let list = Arc::clone(&ejected);
    let told: Ejected = Arc::new(move |id| list.lock().expect("a list").push(id.to_owned()));
    let window = WINDOW..WINDOW + 0x10_0000;
    let pci = PciBus::with_ports(vec![window], 2, &(Arc::new(Nowhere) as _), &told);
    let watchdog = Watchdog::new(Arc::new(NoDeviceHost), Arc::default(), || {}).expect("a thread");
    let address = pci.free_address().expect("a slot");
    pci.insert(address, watchdog as _).expect("a free slot");
    let gpio = Arc::new(Pl061::new(Arc::new(Nowhere)));
    let mut bus = Bus::new();
    let uart = Pl011::new(Arc::new(Nowhere), Box::new(io::sink())).expect("a serial port");
    let clock: Arc<dyn MmioDevice> = Arc::new(Pl031::new(|| 7));
    for (base, device) in [(UART, Arc::clone(&uart) as _), (RTC, clock), (GPIO, Arc::clone(&gpio) as _)] {
        bus.insert(base..base + 0x1000, device).expect("a place");
    }
    bus.insert(ECAM..ECAM + 0x100_0000, pci.ecam()).expect("a place");
    for (window, device) in pci.windows() {
        bus.insert(window, device).expect("a place");
    }
    let memory =
        Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0x4000_0000), 0x1_0000)]).expect("memory"));
    // Firmware puts the watchdog where its registers can be reached.
    bus.write(WATCHDOG + 0x10, &WINDOW.to_le_bytes());
    bus.write(WATCHDOG + 0x04, &[2, 0]);
    let mut plugged = 0_u32;
    for step in steps {
        match step {
            Step::Read { place, len } => {
                bus.read(place.address(), &mut vec![0; 1 << (len % 4)]);
            }
            Step::Write { place, len, value } => {
                bus.write(place.address(), &value.to_le_bytes()[..1 << (len % 4)]);
            }
            Step::Plug => {
                let Ok(requester) = pci.free_port() else { continue };
                let id = format!("d{plugged}");
                plugged += 1;
                let function = VirtioPci::new(VirtioPciConfig {
                    id: id.clone(),
                    device: Arc::new(Rng::new(std::fs::File::open("/dev/zero").expect("/dev/zero"))),
                    requester,
                    memory: Arc::clone(&memory),
                    dma: Arc::new(IdentityDma),
                    msi: Arc::new(Nowhere),
                    io_events: Arc::new(NoIoEvents),
                    access_platform: false,
                    host: Arc::new(NoDeviceHost),
                })
                .expect("a device");
                let weak = Arc::downgrade(&function);
                pci.plug(&id, function).expect("a free port");
                assert!(weak.upgrade().is_some());
            }
            Step::Unplug(number) => {
                let _ = pci.request_unplug(&format!("d{number}"));
            }
            Step::PressButton => {
                gpio.press_power_button();
            }
            Step::Type(count) => {
                let taken = uart.receive(&vec![b'x'; count.into()]);
                assert!(taken <= count.into(), "{taken} of {count} characters taken");
            }
        }
    }
    // Each was let go once at most.
    let mut ejected = ejected.lock().expect("a list").clone();
    let count = ejected.len();
    ejected.dedup();
    assert_eq!(ejected.len(), count);
});
