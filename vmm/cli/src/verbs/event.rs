//! What happens, as it happens.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use api::message::EventMessage;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::output::{self, Format};
use crate::state::EventReader;

/// Pause between two looks at the files of events.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for something to happen to domains, and prints it.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt event --domain web --loop --timeout 60")]
pub struct Event {
    /// Only of this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Only this kind: lifecycle, reboot, device-removed, or a source and an event of the VMM such as vm.booting.
    #[arg(long)]
    event: Option<String>,
    /// Go on after the first one.
    #[arg(long = "loop")]
    goes_on: bool,
    /// Stop after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Form of an event; JSON is one object in a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Line<'a> {
    domain: &'a str,
    kind: &'a str,
    detail: &'a str,
    #[serde(flatten)]
    message: &'a EventMessage,
}

impl Event {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let only = self.domain.as_deref().map(|key| context.state.resolve(key)).transpose()?;
        let deadline = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut readers = BTreeMap::new();
        let (mut first, mut count) = (true, 0_u64);
        loop {
            for (name, message) in poll(context, &mut readers, first, only.as_deref())? {
                let (kind, detail) = describe(&message);
                if self.event.as_ref().is_some_and(|wanted| *wanted != kind) {
                    continue;
                }
                count += 1;
                match self.format {
                    Format::Table => {
                        let colon = if detail.is_empty() { "" } else { ": " };
                        output::line(&format!("event '{kind}' for domain '{name}'{colon}{detail}"))?;
                    }
                    Format::Json => {
                        let line = Line { domain: &name, kind: &kind, detail: &detail, message: &message };
                        output::line(&serde_json::to_string(&line)?)?;
                    }
                }
                if !self.goes_on {
                    return self.finish(count);
                }
            }
            first = false;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if self.format == Format::Table {
                    output::line("event loop timed out")?;
                }
                return self.finish(count);
            }
            sleep(PAUSE);
        }
    }

    fn finish(&self, count: u64) -> anyhow::Result<()> {
        match self.format {
            Format::Table => output::line(&format!("events received: {count}\n")),
            Format::Json => Ok(()),
        }
    }
}

/// Readers by the file that they read: a domain that is started anew has a new one.
type Readers = BTreeMap<(String, u64), EventReader>;

fn poll(
    context: &Context,
    readers: &mut Readers,
    first: bool,
    only: Option<&str>,
) -> anyhow::Result<Vec<(String, EventMessage)>> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for name in context.state.runtime_names()? {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let path = context.state.runtime(&name).events();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let key = (name.clone(), metadata.ino());
        if !readers.contains_key(&key) {
            // What happened before is past; of a domain that has come since, all is news.
            let Ok(reader) = EventReader::open(&path, first) else { continue };
            readers.insert(key.clone(), reader);
        }
        seen.push(key);
    }
    // A reader whose file has gone still holds what was written last.
    for ((name, _), reader) in readers.iter_mut() {
        found.extend(reader.poll()?.into_iter().map(|message| (name.clone(), message)));
    }
    readers.retain(|key, _| seen.contains(key));
    Ok(found)
}

/// Kind and detail of an event in virsh's words, where it has some.
fn describe(message: &EventMessage) -> (String, String) {
    let lifecycle = |detail: &str| ("lifecycle".to_owned(), detail.to_owned());
    match (message.source.as_str(), message.event.as_str()) {
        ("vm", "booted") => lifecycle("Started Booted"),
        ("vm", "paused") => lifecycle("Suspended Paused"),
        ("vm", "resumed") => lifecycle("Resumed Unpaused"),
        ("vm", "shutdown") => lifecycle("Shutdown Finished"),
        ("vmm", "shutdown") => lifecycle("Stopped Shutdown"),
        ("guest", "panic") => lifecycle("Crashed Panicked"),
        ("vm", "rebooted") => ("reboot".into(), String::new()),
        (source, event) => {
            let kind = if event == "device-removed" { event.to_owned() } else { format!("{source}.{event}") };
            let properties = message.properties.iter().flatten();
            let detail: Vec<_> = properties.map(|(name, value)| format!("{name}={value}")).collect();
            (kind, detail.join(" "))
        }
    }
}
