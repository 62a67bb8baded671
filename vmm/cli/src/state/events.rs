//! What a VMM tells through its event monitor: JSON objects, each followed by an empty line.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use api::message::EventMessage;

/// Most bytes of the end of the file that are looked at, whatever is in it. What a guest can cause the VMM tells ever more
/// rarely, so the first event is among them.
const MAX_TAIL: u64 = 16 << 20;

/// Longest event; what is longer is skipped. Without the bound a file without empty lines would be read whole.
const MAX_EVENT: usize = 64 << 10;

/// Reads events as they come.
#[derive(Debug)]
pub struct EventReader {
    file: File,
    pending: Vec<u8>,
}

impl EventReader {
    /// Reads from the first event, or from those that are yet to come.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn open(path: &Path, from_now: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if from_now {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { file, pending: Vec::new() })
    }

    /// Reads the last events of the file.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn tail(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL)))?;
        Ok(Self { file, pending: Vec::new() })
    }

    /// The events that have come since the last time.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn poll(&mut self) -> io::Result<Vec<EventMessage>> {
        let mut events = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let count = self.file.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            self.pending.extend_from_slice(bytes);
            while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.pending.split_off(end + 2);
                // What was cut off at the front, or is no event of ours, is passed over.
                events.extend(serde_json::from_slice::<EventMessage>(&self.pending).ok());
                self.pending = rest;
            }
            if self.pending.len() > MAX_EVENT {
                self.pending.clear();
            }
        }
        Ok(events)
    }
}

/// The last events of a file, of which there need be none.
pub fn last_events(path: &Path) -> io::Result<Vec<EventMessage>> {
    match EventReader::tail(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        reader => reader?.poll(),
    }
}

/// Whether something happened.
#[must_use]
pub fn find(events: &[EventMessage], source: &str, event: &str) -> bool {
    events.iter().any(|found| found.source == source && found.event == event)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn event(name: &str) -> String {
        format!(
            "{{\n  \"timestamp\": {{ \"secs\": 1, \"nanos\": 2 }},\n  \"source\": \"vm\",\n  \
             \"event\": \"{name}\",\n  \"properties\": null\n}}\n\n"
        )
    }

    #[test]
    fn events_come_whole_however_they_are_written() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = EventReader::open(file.path(), false).unwrap();
        let text = event("booting") + &event("booted");
        let (first, second) = text.split_at(30);
        file.write_all(first.as_bytes()).unwrap();
        assert!(reader.poll().unwrap().is_empty());
        file.write_all(second.as_bytes()).unwrap();
        let events = reader.poll().unwrap();
        assert!(events.len() == 2 && find(&events, "vm", "booted") && !find(&events, "vmm", "booted"));
        file.write_all(event("shutdown").as_bytes()).unwrap();
        assert_eq!(reader.poll().unwrap().len(), 1);
        assert_eq!(EventReader::open(file.path(), true).unwrap().poll().unwrap().len(), 0);
    }

    #[test]
    fn the_end_of_a_long_file_and_what_is_no_event() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![b'x'; 18 << 20]).unwrap();
        file.write_all(b"\n\nnot JSON\n\n").unwrap();
        file.write_all(event("shutdown").as_bytes()).unwrap();
        let events = last_events(file.path()).unwrap();
        assert_eq!(events.len(), 1);
        assert!(last_events(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
