//! Processes of VMMs, told apart from whoever gets the same number later.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::dirs::read_bounded;

/// Longest file of `/proc` that is read.
const MAX_PROC: u64 = 1 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the host did.
    pub start_time: u64,
    /// Which start of the host that was.
    pub boot_id: String,
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub tid: i32,
    /// Its name.
    pub name: String,
}

impl Process {
    /// The process with this number.
    ///
    /// # Errors
    ///
    /// As the system says: there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self { pid, start_time: stat(pid)?.start_time, boot_id: boot_id()? })
    }

    /// The process of this user that was started with this argument, if it can be found: the command that started it
    /// may have ended before it could note the number.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn with_argument(argument: &str) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;

        let user = rustix::process::geteuid().as_raw();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(pid) = pid else { continue };
            if pid == std::process::id() || !entry.metadata().is_ok_and(|metadata| metadata.uid() == user) {
                continue;
            }
            // Processes come and go while the directory is read.
            let Ok(Some(command)) = read_bounded(&entry.path().join("cmdline"), MAX_PROC) else { continue };
            if command.split(|byte| *byte == 0).skip(1).any(|found| found == argument.as_bytes())
                && let Ok(process) = Self::of(pid)
            {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    /// Whether it is still there, and has not ended and left its number behind.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        stat(self.pid)
            .is_ok_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X'))
            && boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Whether it was started in this start of the host.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Sends it a signal, if it is still there: never to another process with the same number.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        // The descriptor is of one process for good; that it is the right one is seen after it is open.
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            descriptor => descriptor?,
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended; whether it has.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(10));
        }
        true
    }

    /// Its threads.
    ///
    /// # Errors
    ///
    /// As the system says: it has ended.
    pub fn threads(&self) -> io::Result<Vec<Thread>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let entry = entry?;
            let tid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(tid), Ok(name)) = (tid, fs::read_to_string(entry.path().join("comm"))) {
                threads.push(Thread { tid, name: name.trim_end().to_owned() });
            }
        }
        Ok(threads)
    }

    /// Processor time of all its threads.
    ///
    /// # Errors
    ///
    /// As the system says: it has ended.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let ticks = stat(self.pid)?.cpu_ticks;
        Ok(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
    }

    /// Bytes of the host's memory that it uses.
    ///
    /// # Errors
    ///
    /// As the system says: it has ended.
    pub fn resident(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid))?;
        let pages = text.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(0);
        Ok(pages.unwrap_or(0).saturating_mul(page))
    }
}

struct Stat {
    state: char,
    cpu_ticks: u64,
    start_time: u64,
}

/// Reads `/proc/<pid>/stat` (proc_pid_stat(5)); the name in it may hold anything, so fields count from its end.
fn stat(pid: i32) -> io::Result<Stat> {
    let bytes = read_bounded(Path::new(&format!("/proc/{pid}/stat")), MAX_PROC)?.unwrap_or_default();
    parse_stat(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(11)?.saturating_add(number(12)?),
        start_time: number(19)?,
    })
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        let other = Process { start_time: process.start_time + 1, ..process.clone() };
        assert!(!other.is_alive());
        other.signal(Signal::KILL).unwrap();
        let other = Process { boot_id: "before".into(), ..process.clone() };
        assert!(!other.is_alive() && !other.is_of_this_boot());
        other.signal(Signal::KILL).unwrap();
        assert!(!process.wait(Duration::from_millis(50)), "a stranger's signal reached it");
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait(Duration::from_secs(5)));
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_process_is_found_by_its_argument() {
        let argument = format!("60.{}1", std::process::id());
        let mut child = Command::new("sleep").arg(&argument).spawn().unwrap();
        let found = (0..100).find_map(|_| {
            sleep(Duration::from_millis(10));
            Process::with_argument(&argument).unwrap()
        });
        assert_eq!(found.unwrap().pid, i32::try_from(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Process::with_argument(&argument).unwrap(), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let rest = (0..19).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let stat = parse_stat(&format!("7 (a) R (b) S {rest} 4711 0")).unwrap();
        // The process's name ends at the last bracket.
        assert_eq!((stat.state, stat.cpu_ticks), ('S', 10 + 11));
        assert!(parse_stat("7 (a").is_none() && parse_stat("").is_none() && parse_stat("7 (a) S").is_none());
        assert!(!Process::of(std::process::id()).unwrap().threads().unwrap().is_empty());
    }
}
