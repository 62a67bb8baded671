//! Definitions as text: shown, edited, made of other forms.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode};
use clap::{Args, ValueEnum};

use super::Context;
use crate::definition::{self, read_text};
use crate::domain::Domain;
use crate::launch::find_vmm;
use crate::{output, xml};

/// Form of a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// libvirt's domain XML.
    #[default]
    Xml,
    /// JSON.
    Json,
}

impl Form {
    fn write(self, domain: &Domain) -> anyhow::Result<String> {
        Ok(match self {
            Self::Xml => xml::print(domain)?,
            Self::Json => serde_json::to_string_pretty(domain)? + "\n",
        })
    }
}

/// Prints a domain's definition, or what it is made of while it runs.
#[derive(Args, Debug)]
pub struct Dumpxml {
    /// Name or uuid of the domain.
    domain: String,
    /// As defined, although the domain runs.
    #[arg(long)]
    inactive: bool,
    /// Form of the definition.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

impl Dumpxml {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        let name = &observation.name;
        let domain = if self.inactive { context.state.definition(name)? } else { observation.domain };
        let mut domain =
            domain.with_context(|| format!("domain {name:?} has no definition: {}", observation.reason))?;
        if let Some(info) = observation.info.filter(|_| !self.inactive) {
            domain.config = info.config;
        }
        print(&self.format.write(&domain)?)
    }
}

/// Opens a domain's definition in an editor, and keeps what was changed.
#[derive(Args, Debug)]
#[command(after_help = "The editor is that of VISUAL or EDITOR, else vi.")]
pub struct Edit {
    /// Name or uuid of the domain.
    domain: String,
    /// Form of the text.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

impl Edit {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = context.state.resolve(&self.domain)?;
        let before = context.state.definition(&name)?;
        let before = before.with_context(|| format!("domain {name:?} is not defined"))?;
        let text = self.format.write(&before)?;
        let suffix = if self.format == Form::Xml { ".xml" } else { ".json" };
        let mut file = tempfile::Builder::new().prefix(&format!("{name}-")).suffix(suffix).tempfile()?;
        file.write_all(text.as_bytes())?;
        edit(file.path())?;
        if read_text(file.path())? == text {
            return output::line(&format!("Domain '{name}' XML configuration not changed.\n"));
        }
        let keep = |context: &Context| -> anyhow::Result<()> {
            let domain = definition::read(file.path(), false)?;
            if domain.name != name {
                bail!(
                    "the name cannot be changed: define a domain with the other name, and undefine this one"
                );
            }
            let lock = context.state.lock(&name)?;
            if context.state.definition(&name)?.as_ref() != Some(&before) {
                bail!("the definition was changed by somebody else meanwhile");
            }
            Ok(context.state.define(&lock, &domain)?)
        };
        if let Err(error) = keep(context) {
            let (_, path) = file.keep().context("the text is lost")?;
            return Err(error.context(format!("your text is in {}", path.display())));
        }
        output::line(&format!("Domain '{name}' XML configuration edited.\n"))
    }
}

/// Runs the user's editor, whose variable may hold options, too.
fn edit(path: &Path) -> anyhow::Result<()> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.unwrap_or_else(|| "vi".into());
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    let status = status.context("cannot run sh")?;
    if !status.success() {
        bail!("the editor {editor:?} failed ({status}): set EDITOR to another one");
    }
    Ok(())
}

/// Makes a definition of a VM's configuration in JSON, or of a command line of redoubt-vmm or Cloud Hypervisor.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redoubt import --name web --config vm.json > web.xml
  redoubt import --name web --define -- --kernel vmlinuz --memory size=1G --disk path=web.img")]
pub struct Import {
    /// Name of the domain.
    #[arg(long)]
    name: String,
    /// Configuration in JSON, as for redoubt-vmm --config and vm.create; - is standard input.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Define the domain instead of printing its definition.
    #[arg(long)]
    define: bool,
    /// Form of the definition.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Options of redoubt-vmm.
    #[arg(last = true, conflicts_with = "config")]
    command: Vec<OsString>,
}

impl Import {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = match &self.config {
            Some(path) => {
                let text = read_text(path)?;
                serde_json::from_str(&text)
                    .with_context(|| format!("{} is no configuration of a VM", path.display()))?
            }
            None if self.command.is_empty() => {
                bail!("nothing to import: give --config FILE, or options of redoubt-vmm after --")
            }
            None => self.parse_command(context)?,
        };
        let mut domain = Domain::new(self.name, config);
        let consoles = &mut domain.config;
        for (name, console) in [("serial", &mut consoles.serial), ("console", &mut consoles.console)] {
            if console.mode == ConsoleMode::Tty {
                eprintln!("note: {name} is a terminal; a domain has none, so it becomes a pty");
                *console = ConsoleConfig::of(ConsoleMode::Pty);
            }
        }
        domain.anchor(&std::env::current_dir().context("cannot tell where relative paths start")?);
        domain.complete();
        domain.check()?;
        if !self.define {
            return print(&self.format.write(&domain)?);
        }
        let lock = context.state.lock(&domain.name)?;
        context.state.define(&lock, &domain)?;
        output::line(&format!("Domain '{}' defined\n", domain.name))
    }

    /// The VMM reads its own command line.
    fn parse_command(&self, context: &Context) -> anyhow::Result<VmConfig> {
        let vmm = find_vmm(context.vmm.as_deref())?;
        let output = Command::new(&vmm).arg("config").args(&self.command).output();
        let output = output.with_context(|| format!("cannot run {}", vmm.display()))?;
        if !output.status.success() {
            bail!("the VMM refuses the options:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        serde_json::from_slice(&output.stdout).context("the VMM's answer is no configuration")
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
