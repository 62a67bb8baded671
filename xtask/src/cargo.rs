//! Runs cargo and takes what it built from its messages, wherever the target directory is.

use std::{
    env,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, MetadataCommand, TargetKind};

/// The target of everything that runs on the Arm host: static, so that it runs under any system.
pub const ARM: &str = "aarch64-unknown-linux-musl";

/// An executable that cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Name of the cargo target (binary, test file, or library under test).
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a test harness.
    pub is_test: bool,
}

/// The project's root directory and cargo's target directory.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Root of the project.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace in which this tool was started.
    pub fn find() -> Result<Self> {
        let metadata = MetadataCommand::new().no_deps().exec().context("cannot find the workspace")?;
        Ok(Self { root: metadata.workspace_root.into(), target: metadata.target_directory.into() })
    }

    /// Where the Arm host keeps its packages, images and logs.
    pub fn arm_host_cache(&self) -> PathBuf {
        self.target.join("arm-host")
    }

    /// `cargo` in the root of the project.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Builds (`build` or `test --no-run`) and gives the executables.
    pub fn build(&self, arguments: &[&str]) -> Result<Vec<Executable>> {
        let mut command = self.cargo();
        command.args(arguments);
        executables(command)
    }

    /// Builds what will be asked for later, and gives way to everything else meanwhile. A failure is told when it is asked for.
    pub fn build_ahead(&self, arguments: &[&str]) {
        let cargo = self.cargo();
        let mut command = Command::new("nice");
        command
            .current_dir(&self.root)
            .args(["-n", "19"])
            .arg(cargo.get_program())
            .args(arguments)
            .arg("--quiet");
        let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }

    /// Builds a package that is a workspace of its own, under this target directory.
    pub fn build_apart(
        &self,
        directory: &str,
        arguments: &[&str],
        rustflags: &str,
    ) -> Result<Vec<Executable>> {
        let mut command = self.cargo();
        command.current_dir(self.root.join(directory)).args(arguments);
        command
            .arg("--target-dir")
            .arg(self.target.join(Path::new(directory).file_name().unwrap_or_default()));
        if !rustflags.is_empty() {
            command.env("RUSTFLAGS", rustflags);
        }
        executables(command)
    }
}

fn executables(mut command: Command) -> Result<Vec<Executable>> {
    let line = words(&command);
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let mut found = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot understand cargo's messages")?
            && let Some(path) = artifact.executable
            && !artifact.target.kind.contains(&TargetKind::CustomBuild)
        {
            let (name, is_test) = (artifact.target.name, artifact.profile.test);
            found.push(Executable { name, path: path.into(), is_test });
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(found)
}

/// The command line, for messages.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The one executable with this name.
pub fn named(executables: &[Executable], name: &str) -> Result<PathBuf> {
    let found = executables.iter().find(|executable| executable.name == name && !executable.is_test);
    found
        .map(|executable| executable.path.clone())
        .with_context(|| format!("cargo built no program named {name}"))
}
