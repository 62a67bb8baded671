//! The commands of `docs/api/curl.md`, which say what they say there.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;

use system_tests::{TestVm, asset};

const DOCUMENT: &str = include_str!("../../../docs/api/curl.md");

/// Where the document has its files, and what stands for any text.
const DIRECTORY: &str = "/srv/vm";
const ANYTHING: char = '…';

/// A command, and what it is to say.
struct Step {
    command: &'static str,
    expected: String,
}

/// The steps in the document's blocks, in its order.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = DOCUMENT.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command, expected: String::new() }),
            (None, Some(step)) => writeln!(step.expected, "{line}").unwrap(),
            (None, None) => {}
        }
    }
    steps
}

/// Whether `text` is `pattern`, with anything at each [`ANYTHING`].
fn is(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn anything_stands_for_anything_and_nothing_else_does() {
    assert!(is("abc", "abc") && is("abc", "a…c") && is("abbbc", "…bb…") && is("ac", "a…c"));
    assert!(!is("abc", "ab") && !is("abc", "bc") && !is("abc", "a…d") && !is("a", "a…a"));
}

#[test]
fn transcript_of_the_documentation_is_what_happens() {
    let steps = steps();
    let (start, calls) = steps.split_first().unwrap();
    assert!(start.command.starts_with("redoubt-vmm --api-socket "), "{}", start.command);
    let vm = TestVm::plain("hang");
    symlink(asset("REDOUBT_MINI_GUEST"), vm.path("Image")).unwrap();
    File::create(vm.path("data.img")).unwrap().set_len(4 << 20).unwrap();
    let directory = vm.directory.path().to_str().unwrap().to_owned();
    let mut running = vm.serve();
    drop(running.connect("api.sock"));

    let (mut definitions, mut transcript, mut wrong) = (String::new(), String::new(), false);
    for Step { command, expected } in calls {
        let script = command.replace(DIRECTORY, &directory);
        if command.contains("() {") {
            definitions = script;
            continue;
        }
        let output = Command::new("sh").arg("-c").arg(format!("{definitions}\n{script}")).output().unwrap();
        let mut said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        said = said.trim_start().replace(&directory, DIRECTORY);
        let right = is(&said, expected);
        wrong |= !right;
        writeln!(transcript, "{}$ {command}\n{said}", if right { "" } else { "NOT AS WRITTEN: " }).unwrap();
    }
    assert!(!wrong, "{transcript}");
    running.wait_until_ended(0);
    let events = fs::read_to_string(running.path("events")).unwrap();
    assert!(events.contains("\"paused\"") && events.contains("\"deleted\""), "{events}");
}
