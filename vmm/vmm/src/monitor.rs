//! The event monitor: tells a file or FIFO what happens to the VM, in Cloud Hypervisor's format: one pretty-printed JSON
//! object for each event, followed by an empty line. Events that a guest causes at will are told ever more rarely, or it
//! could fill the host's disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use api::message::{EventMessage, Timestamp};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::endpoint::{Endpoint, inherited};

/// Longest value of a property. A FIFO takes at most 4096 bytes at once without tearing them apart.
const LONGEST_VALUE: usize = 256;

/// How often a guest can cause an event before only the 512th, the 1024th and so on are told.
const ALL_TOLD: u64 = 256;

/// Tells what happens; clones tell the same file. Without one it tells nobody.
#[derive(Clone, Debug)]
pub struct EventMonitor(Option<Arc<Outlet>>);

#[derive(Debug)]
struct Outlet {
    start: Instant,
    file: Mutex<File>,
    behind: AtomicBool,
    /// How often each event happened that a guest causes at will.
    caused: Mutex<BTreeMap<String, u64>>,
}

impl EventMonitor {
    /// Tells nobody.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Opens the file or FIFO, which is created when there is none; events count their time from now. Opening a FIFO
    /// waits for its reader.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open(target: &Endpoint) -> io::Result<Self> {
        let file = match target {
            Endpoint::Path(path) => OpenOptions::new().append(true).create(true).mode(0o600).open(path)?,
            Endpoint::Fd(fd) => inherited(*fd)?.into(),
        };
        Self::to(file)
    }

    /// Tells `file`, which is never waited for from now on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn to(file: File) -> io::Result<Self> {
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        let outlet = Outlet {
            start: Instant::now(),
            file: Mutex::new(file),
            behind: AtomicBool::new(false),
            caused: Mutex::default(),
        };
        Ok(Self(Some(Arc::new(outlet))))
    }

    /// Tells that `event` happened to `source`. An event that the reader has no room for is lost: the VM does not wait.
    pub fn event(&self, source: &str, event: &str, properties: &[(&str, &str)]) {
        if let Some(outlet) = &self.0
            && is_caused_at_will(source, event)
            && !outlet.has_time_for(source, event, properties)
        {
            return;
        }
        tracing::info!(source, event, ?properties, "event");
        let Some(outlet) = &self.0 else { return };
        let since = outlet.start.elapsed();
        let properties = (!properties.is_empty()).then(|| {
            let bounded = |value: &str| value.chars().take(LONGEST_VALUE).collect();
            properties.iter().map(|&(name, value)| (name.to_owned(), bounded(value))).collect()
        });
        let message = EventMessage {
            timestamp: Timestamp { secs: since.as_secs(), nanos: since.subsec_nanos() },
            source: source.into(),
            event: event.into(),
            properties,
        };
        outlet.tell(&message);
    }

    /// Tells of the VM.
    pub fn vm(&self, event: &str) {
        self.event("vm", event, &[]);
    }
}

/// Whether a guest can make it happen as often as it likes: by resetting its devices, or itself.
fn is_caused_at_will(source: &str, event: &str) -> bool {
    match source {
        "virtio-device" | "guest" => true,
        "vm" => ["rebooting", "rebooted"].contains(&event),
        _ => false,
    }
}

impl Outlet {
    /// Counts an event; whether it is to be told.
    fn has_time_for(&self, source: &str, event: &str, properties: &[(&str, &str)]) -> bool {
        let device = properties.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id);
        let mut caused = self.caused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = caused.entry(format!("{source} {event} {device}")).or_default();
        *count = count.saturating_add(1);
        *count <= ALL_TOLD || count.is_power_of_two()
    }

    fn tell(&self, message: &EventMessage) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let told = serde_json::to_vec_pretty(message).map_err(io::Error::other).and_then(|mut text| {
            text.extend_from_slice(b"\n\n");
            file.write_all(&text)
        });
        // Said once for each time that the reader falls behind, or an idle reader would fill the log.
        match told {
            Ok(()) => self.behind.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.behind.swap(true, Ordering::Relaxed) {
                    tracing::warn!(event = message.event, "the event monitor lost an event: {error}");
                }
            }
        }
    }
}

/// For tests: the events of a monitor's file.
#[cfg(test)]
pub fn read_events(text: &str) -> Vec<EventMessage> {
    let objects = text.split("\n\n").filter(|object| !object.is_empty());
    objects.map(|object| serde_json::from_str(object).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn events_are_json_objects_with_an_empty_line_behind_each() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let monitor = EventMonitor::open(&Endpoint::Path(file.path().into())).unwrap();
        monitor.event("vmm", "starting", &[]);
        monitor.event("virtio-device", "activated", &[("id", "_disk0")]);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.ends_with("}\n\n"), "{text}");
        let events = read_events(&text);
        assert_eq!((events[0].source.as_str(), events[0].event.as_str()), ("vmm", "starting"));
        assert_eq!(events[0].properties, None);
        assert!(text.contains("\"properties\": null"), "a reader may insist on the field: {text}");
        assert_eq!(events[1].properties.as_ref().unwrap()["id"], "_disk0");
        assert!(events[0].timestamp.secs < 60);
    }

    #[test]
    fn full_or_abandoned_fifo_is_never_waited_for() {
        let (reader, writer) = pipe().unwrap();
        let monitor = EventMonitor::to(writer.into()).unwrap();
        for _ in 0..10_000 {
            monitor.vm("paused");
        }
        let mut reader = File::from(reader);
        let mut bytes = vec![0; 1 << 20];
        let read = reader.read(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..read]).unwrap();
        assert!(read_events(text).iter().all(|event| event.event == "paused"), "no event is torn apart");
        monitor.vm("shutdown");
        drop(reader);
        monitor.vm("deleted");
    }

    #[test]
    fn what_a_guest_causes_at_will_is_told_ever_more_rarely() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let monitor = EventMonitor::to(file.reopen().unwrap()).unwrap();
        for count in 0..5000 {
            monitor.event("virtio-device", "reset", &[("id", "_disk0")]);
            monitor.vm("rebooted");
            monitor.event("guest", "watchdog", &[("event", "hungry")]);
            if count < 300 {
                monitor.vm("booted");
                monitor.vm("paused");
            }
        }
        monitor.event("virtio-device", "reset", &[("id", "_disk1")]);
        monitor.vm("shutdown");
        let events = read_events(&std::fs::read_to_string(file.path()).unwrap());
        let count = |event: &str, id: Option<&str>| {
            let has = |found: &EventMessage| {
                found.properties.as_ref().and_then(|all| all.get("id")).map(String::as_str) == id
            };
            events.iter().filter(|found| found.event == event && has(found)).count()
        };
        // 256, and of those behind the 512th, 1024th, 2048th and 4096th.
        assert_eq!(
            [count("reset", Some("_disk0")), count("rebooted", None), count("watchdog", None)],
            [260; 3]
        );
        assert_eq!([count("reset", Some("_disk1")), count("shutdown", None)], [1; 2]);
        assert_eq!(
            [count("paused", None), count("booted", None)],
            [300; 2],
            "what a client causes is always told"
        );
    }

    #[test]
    fn long_property_is_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let monitor = EventMonitor::to(file.reopen().unwrap()).unwrap();
        monitor.event("guest", "panic", &[("event", &"x".repeat(5000))]);
        let events = read_events(&std::fs::read_to_string(file.path()).unwrap());
        assert_eq!(events[0].properties.as_ref().unwrap()["event"].len(), LONGEST_VALUE);
    }
}
