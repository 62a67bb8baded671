//! One program in its own process group, with a time limit, and nothing of it left afterwards.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::FileExt, process::CommandExt},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, kill_process_group, pidfd_open},
};

/// How much of a program's output is kept: its end, where the failure is told.
/// Without a limit a test that prints in a loop would fill the report port.
const OUTPUT_KEPT: u64 = 64 * 1024;

/// How a program ended.
pub struct Ended {
    /// `None` when it ran out of time and was killed.
    pub status: Option<ExitStatus>,
    /// Standard output and standard error, interleaved as written.
    pub output: String,
}

/// Runs `command` to its end or to its time limit.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let output = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()?;
    let pid = Pid::from_child(&child);
    let in_time = wait_for_exit(pid, limit)?;
    // The leader is not reaped yet, so the group's number still means this group.
    match kill_process_group(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let status = child.wait()?;
    kill_orphans()?;
    Ok(Ended { status: in_time.then_some(status), output: tail(&output)? })
}

fn wait_for_exit(pid: Pid, limit: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends what the program left behind in other process groups: as subreaper we have inherited it.
fn kill_orphans() -> io::Result<()> {
    loop {
        let children = fs::read_to_string("/proc/thread-self/children")?;
        let mut any = false;
        for pid in children.split_whitespace().filter_map(|text| text.parse().ok()).filter_map(Pid::from_raw)
        {
            any = true;
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        if !any {
            return Ok(());
        }
    }
}

fn tail(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(OUTPUT_KEPT);
    let mut bytes = vec![0; usize::try_from(length - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if start > 0 { format!("[the first {start} bytes are left out]\n{text}") } else { text.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ended {
        run(Command::new("sh").args(["-c", script]), limit).unwrap()
    }

    #[test]
    fn keeps_output_and_status() {
        let ended = sh("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!(ended.output, "out\nerr\n");
    }

    #[test]
    fn kills_what_takes_too_long() {
        let ended = sh("echo begun; sleep 1000", Duration::from_millis(300));
        assert!(ended.status.is_none());
    }

    #[test]
    fn keeps_the_end_of_a_flood() {
        let ended = sh("head -c 200000 /dev/zero | tr '\\0' x; echo the end", Duration::from_secs(60));
        assert!(ended.output.ends_with("the end\n"));
        assert!(ended.output.len() < 70_000);
    }
}
