//! `redoubt-vmm`: runs one VM, or measures what a Realm would be launched with.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use vmm::config::VmFlags;
use vmm::launch::Measurement;
use vmm::{Endpoint, Outcome, PlatformIdentity, RunOptions, SeccompMode, Start};

const EXAMPLES: &str = "\
Examples:
  Boot a kernel with its console on this terminal:
    redoubt-vmm --kernel vmlinuz --initramfs initrd.img --cmdline 'console=ttyAMA0 quiet' --memory size=1G
  The same as a software Realm with a development platform key:
    redoubt-vmm --kernel vmlinuz --initramfs initrd.img --realm soft,key=platform.pem --vsock cid=3,socket=/run/vm.sock
  Nothing yet; a client creates and boots the VM (see docs/api.md):
    redoubt-vmm --api-socket /run/vm/api.sock --event-monitor path=/run/vm/events
  The measurement that a verifier should expect of it:
    redoubt-vmm measure --kernel vmlinuz --initramfs initrd.img --realm soft --format json

Exit status:
  0 the guest powered itself off      1 the VM could not be launched or could not go on
  2 the command line is wrong         3 the guest reported a crash
  4 the guest reset (--no-reboot)     128+N ended by signal N";

/// Version of Cloud Hypervisor whose v1 interface this program follows. Clients decide by it what they may ask for.
const COMPATIBLE_VERSION: &str = "53.0.0";

/// Runs one virtual machine; without a command, runs it.
#[derive(Parser)]
#[command(name = "redoubt-vmm", after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Print the version; called by the name cloud-hypervisor, the version of Cloud Hypervisor whose interface this is.
    #[arg(short = 'V', long, exclusive = true)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the Realm Initial Measurement and what it is made of, without launching anything.
    Measure {
        #[command(flatten)]
        vm: VmFlags,
        /// Whose Realm to measure, whatever the configuration says.
        #[arg(long, value_enum)]
        backend: Option<vmm::launch::Monitor>,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Prints the configuration that options mean, in JSON.
    Config {
        #[command(flatten)]
        vm: VmFlags,
    },
    /// Prints the identity of a software Realm's development platform, as a verifier must know it.
    Platform {
        /// Platform key: P-384 or P-521 private key in PKCS#8 PEM.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Prints the OpenAPI document of the REST interface.
    Openapi,
    /// Prints completions for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page.
    #[command(hide = true)]
    Man,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    vm: VmFlags,
    /// Serve the REST interface on a Unix socket: PATH, path=PATH, or fd=N for a socket that listens already. A client can
    /// then create the VM.
    #[arg(long, value_name = "SOCKET")]
    api_socket: Option<Endpoint>,
    /// Tell a file or FIFO of events: path=FILE or fd=N.
    #[arg(long, value_name = "FILE")]
    event_monitor: Option<Endpoint>,
    /// End instead of launching anew when the guest asks for a reset.
    #[arg(long)]
    no_reboot: bool,
    /// Stay when the guest has ended, so that a client can boot it again.
    #[arg(long, requires = "api_socket")]
    no_shutdown: bool,
    /// Write what a Realm was launched with, and its measurement, to a file in JSON.
    #[arg(long, value_name = "FILE")]
    launch_log: Option<PathBuf>,
    /// What becomes of system calls that a thread has no need of: they end the VMM (true), are told to the kernel's audit
    /// log (log), or nothing (false). By default true, unless --sandbox unhardened=on.
    #[arg(long, value_enum)]
    seccomp: Option<Seccomp>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args)]
struct LogArgs {
    /// Log to a file instead of standard error.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// Log more; repeat for still more.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Seccomp {
    True,
    Log,
    False,
}

impl From<Seccomp> for SeccompMode {
    fn from(argument: Seccomp) -> Self {
        match argument {
            Seccomp::True => Self::Enforce,
            Seccomp::Log => Self::Log,
            Seccomp::False => Self::Off,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// A VM that has lost one of its threads must end, whatever the profile it was built with says of panics.
fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        report(panicked);
        process::abort();
    }));
}

fn main() -> ExitCode {
    abort_on_panic();
    let cli = Cli::parse();
    if cli.version {
        print!("{}", version_text(std::env::args_os().next().as_deref()));
        return ExitCode::SUCCESS;
    }
    match execute(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Perhaps nobody reads it; the exit status tells all the same.
            let _ = writeln!(io::stderr(), "redoubt-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        None => run(cli.run),
        Some(Command::Measure { vm, backend, format }) => {
            let mut config = vm.into_config()?;
            if let Some(monitor) = backend {
                monitor.choose(&mut config)?;
            }
            print_measurement(&vmm::launch::measure(&config)?, format)?;
            Ok(0)
        }
        Some(Command::Config { vm }) => {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &vm.into_config()?)?;
            writeln!(out)?;
            Ok(0)
        }
        Some(Command::Platform { key, format }) => {
            print_platform(&PlatformIdentity::of(&key)?, format)?;
            Ok(0)
        }
        Some(Command::Openapi) => {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &vmm::rest::document())?;
            writeln!(out)?;
            Ok(0)
        }
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "redoubt-vmm", &mut io::stdout());
            Ok(0)
        }
        Some(Command::Man) => {
            clap_mangen::Man::new(Cli::command())
                .render(&mut io::stdout())
                .context("the manual page is cut short")?;
            Ok(0)
        }
    }
}

fn run(arguments: RunArgs) -> anyhow::Result<u8> {
    log_to(&arguments.log)?;
    let start = match arguments.api_socket {
        Some(_) => arguments.vm.into_start()?,
        None => Start::Vm(Box::new(arguments.vm.into_config()?)),
    };
    let options = RunOptions {
        no_reboot: arguments.no_reboot,
        no_shutdown: arguments.no_shutdown,
        launch_log: arguments.launch_log,
        seccomp: arguments.seccomp.map(Into::into),
        api_socket: arguments.api_socket,
        event_monitor: arguments.event_monitor,
    };
    Ok(match vmm::run(start, &options)? {
        Outcome::PoweredOff | Outcome::Dismissed => 0,
        Outcome::Crashed => 3,
        Outcome::Reset => 4,
        Outcome::Stopped { signal } => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
    })
}

fn log_to(arguments: &LogArgs) -> anyhow::Result<()> {
    let level = match arguments.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let (writer, colours) = match &arguments.log_file {
        None => (BoxMakeWriter::new(io::stderr), io::stderr().is_terminal()),
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            let file = file.with_context(|| format!("--log-file {}: cannot be opened", path.display()))?;
            (BoxMakeWriter::new(file), false)
        }
    };
    // What cannot be logged is lost. To say so on standard error would end the VM where nobody reads that either.
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(colours)
        .log_internal_errors(false);
    match arguments.log_format {
        Format::Text => log.init(),
        Format::Json => log.json().init(),
    }
    Ok(())
}

/// The version as whoever called this program by `name` expects it: clients of Cloud Hypervisor look for its name.
fn version_text(name: Option<&OsStr>) -> String {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let file_name = name.map(Path::new).and_then(Path::file_name);
    if file_name == Some(OsStr::new("cloud-hypervisor")) {
        format!("cloud-hypervisor v{COMPATIBLE_VERSION}\n")
    } else {
        format!("redoubt-vmm {VERSION}\n")
    }
}

fn print_platform(platform: &PlatformIdentity, format: Format) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, platform)?;
            writeln!(out)?;
        }
        Format::Text => {
            writeln!(out, "implementation id  {}", platform.implementation_id)?;
            writeln!(out, "instance id        {}", platform.instance_id)?;
            writeln!(out, "lifecycle          {}", platform.lifecycle)?;
        }
    }
    Ok(())
}

fn print_measurement(measurement: &Measurement, format: Format) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, measurement)?;
            writeln!(out)?;
        }
        Format::Text => {
            writeln!(out, "RIM      {}:{}", measurement.hash_algorithm, measurement.rim)?;
            let bits = measurement.ipa_bits;
            writeln!(
                out,
                "Realm    {bits}-bit address space, measured by the rules of {}",
                if measurement.rmm == "tmm" {
                    "virtCCA's TMM".into()
                } else {
                    format!("RMM {}", measurement.rmm)
                }
            )?;
            for segment in &measurement.log.segments {
                writeln!(
                    out,
                    "{:<8} {:#012x} {:>10} bytes  sha-256:{}",
                    segment.name,
                    segment.gpa,
                    segment.size,
                    hex::encode(segment.sha256)
                )?;
            }
            let entry = &measurement.log.entry;
            writeln!(out, "vCPU 0   pc {:#x}, x0 {:#x}", entry.pc, entry.gprs[0])?;
            if measurement.measured_vcpus > 1 {
                writeln!(out, "vCPUs    1 to {}: all registers zero", measurement.measured_vcpus - 1)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn version_is_that_of_the_name_by_which_it_is_called() {
        let text = |name: &str| version_text(Some(OsStr::new(name)));
        assert_eq!(text("/usr/bin/cloud-hypervisor"), format!("cloud-hypervisor v{COMPATIBLE_VERSION}\n"));
        assert!(text("./redoubt-vmm").starts_with("redoubt-vmm "));
        assert!(version_text(None).starts_with("redoubt-vmm "));
    }
}
