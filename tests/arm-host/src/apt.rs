//! apt with sources and lists of our own, so that the machine's configuration stays as it is.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result};

const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// A Debian archive and one of its suites.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Base URI, without a trailing slash.
    pub uri: String,
    /// Suite, such as `trixie-backports`.
    pub suite: String,
}

/// The Debian sources with which this machine's own apt is configured.
///
/// apt itself is asked, so every way to write a source is understood.
pub fn configured_sources() -> Result<Vec<Source>> {
    let output = run(Command::new("apt-get").args(["update", "--print-uris"]))?;
    let sources = parse_uris(&output);
    if sources.is_empty() { Err(Error::NoMirror) } else { Ok(sources) }
}

/// Reads `apt-get update --print-uris`: lines of `'URI' file-name size`.
fn parse_uris(output: &str) -> Vec<Source> {
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    for line in output.lines() {
        let Some((uri, _)) = line.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else { continue };
        let Some((base, index)) = uri.rsplit_once("/dists/") else { continue };
        let Some((suite, _)) = index.split_once("/main/binary-") else { continue };
        // Third parties (Docker, PostgreSQL) also name their suites after Debian's releases.
        let is_debian = base
            .split('/')
            .any(|part| part == "debian" || part.starts_with("debian-") || part == "debian.list");
        let source = Source { uri: base.to_owned(), suite: suite.to_owned() };
        if is_debian && seen.insert(source.clone()) {
            sources.push(source);
        }
    }
    sources
}

/// A package that apt would install.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// apt with private sources and lists.
#[derive(Debug)]
pub struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    /// For packages of this machine: our sources and lists, the machine's own dpkg state.
    pub fn for_this_machine(directory: &Path, sources: &[Source]) -> Result<Self> {
        let mut apt = Self::with_sources(directory, sources, None)?;
        // A cache made from other lists would confuse the machine's own apt.
        apt.set("Dir::Cache::pkgcache", "");
        apt.set("Dir::Cache::srcpkgcache", "");
        Ok(apt)
    }

    /// For packages that are never installed here: everything private, nothing installed, another architecture.
    pub fn for_architecture(directory: &Path, architecture: &str, sources: &[Source]) -> Result<Self> {
        let mut apt = Self::with_sources(directory, sources, Some(architecture))?;
        let cache = directory.join("cache");
        create_dir(&cache.join("archives/partial"))?;
        let status = directory.join("status");
        fs::write(&status, "").map_err(Error::file("write", &status))?;
        apt.set("APT::Architecture", architecture);
        apt.set("Dir::State", directory);
        apt.set("Dir::State::status", &status);
        apt.set("Dir::Cache", &cache);
        Ok(apt)
    }

    fn with_sources(directory: &Path, sources: &[Source], architecture: Option<&str>) -> Result<Self> {
        let (parts, lists) = (directory.join("sources.list.d"), directory.join("lists"));
        create_dir(&parts)?;
        create_dir(&lists.join("partial"))?;
        let file = parts.join("arm-host.sources");
        fs::write(&file, stanzas(sources, architecture)).map_err(Error::file("write", &file))?;
        let mut apt = Self { options: Vec::new() };
        apt.set("Dir::Etc::sourcelist", "/dev/null");
        apt.set("Dir::Etc::sourceparts", &parts);
        apt.set("Dir::State::lists", &lists);
        // apt's own unprivileged user cannot reach a directory under somebody's home.
        apt.set("APT::Sandbox::User", "root");
        Ok(apt)
    }

    fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        let mut option = OsString::from(format!("{name}="));
        option.push(value.as_ref());
        self.options.extend(["-o".into(), option]);
    }

    /// The options that make an apt command use this state.
    #[must_use]
    pub fn options(&self) -> &[OsString] {
        &self.options
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Fetches the package lists; fails when a signature does not verify.
    pub fn update(&self) -> Result<()> {
        // Without this, apt-get only warns about a source that it could not fetch.
        run(self.apt_get().args(["-q", "-o", "APT::Update::Error-Mode=any", "update"])).map(drop)
    }

    /// What an installation of `packages` would install, dependencies included.
    pub fn plan(&self, packages: &[&str]) -> Result<Vec<Planned>> {
        let output = run(self.apt_get().args(["-s", "install", "--no-install-recommends"]).args(packages))?;
        Ok(output.lines().filter_map(parse_planned).collect())
    }

    /// Downloads packages, verified against the signed lists, into `directory`.
    pub fn download(&self, packages: &[Planned], directory: &Path) -> Result<()> {
        let specs = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        run(self.apt_get().current_dir(directory).args(["-q", "download"]).args(specs)).map(drop)
    }
}

/// Reads a line `Inst name [old] (version origin [architecture])`.
fn parse_planned(line: &str) -> Option<Planned> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    let (_, rest) = rest.split_once('(')?;
    let version = rest.split_whitespace().next()?;
    Some(Planned { name: name.to_owned(), version: version.to_owned() })
}

fn stanzas(sources: &[Source], architecture: Option<&str>) -> String {
    let mut text = String::new();
    for Source { uri, suite } in sources {
        let _ = write!(text, "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n");
        if let Some(architecture) = architecture {
            let _ = writeln!(text, "Architectures: {architecture}");
        }
        if let Some(keyring) = KEYRINGS.iter().find(|path| Path::new(path).exists()) {
            let _ = writeln!(text, "Signed-By: {keyring}");
        }
        text.push('\n');
    }
    text
}

fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("create", path))
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = PathBuf::from(command.get_program()).display().to_string();
    let output = command.output().map_err(|source| Error::Start { program, source })?;
    if !output.status.success() {
        return Err(Error::Command {
            command: format!("{command:?}").replace('"', ""),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_debian_mirrors_however_they_are_written() {
        let output = "\
'http://mirror.example/debian/dists/bookworm/InRelease' x 0 \n\
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
'http://mirror.example/debian/dists/bookworm/main/binary-all/Packages.xz' x 0 \n\
'http://mirror.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' x 0 \n\
'http://third.example/linux/debian/dists/bookworm/stable/binary-amd64/Packages.bz2' x 0 \n\
'http://third.example/apt/dists/cloud-sdk-bookworm/main/binary-amd64/Packages.gz' x 0 \n\
'mirror+file:/etc/apt/mirrors/debian.list/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
Reading package lists...\n";
        let source = |uri: &str, suite: &str| Source { uri: uri.into(), suite: suite.into() };
        assert_eq!(
            parse_uris(output),
            [
                source("http://mirror.example/debian", "bookworm"),
                source("http://mirror.example/debian-security", "bookworm-security"),
                source("mirror+file:/etc/apt/mirrors/debian.list", "bookworm"),
            ]
        );
    }

    #[test]
    fn reads_simulated_installations() {
        assert_eq!(
            parse_planned("Inst busybox-static [1:1.35] (1:1.37.0-6+b9 Debian:13.7/stable [arm64])"),
            Some(Planned { name: "busybox-static".into(), version: "1:1.37.0-6+b9".into() })
        );
        assert_eq!(parse_planned("Conf busybox-static (1:1.37.0-6+b9 Debian:13.7/stable [arm64])"), None);
    }

    #[test]
    fn private_state_never_names_the_machines_own_lists() {
        let directory = tempfile::tempdir().unwrap();
        let source = Source { uri: "http://mirror.example/debian".into(), suite: "trixie".into() };
        let apt = Apt::for_architecture(directory.path(), "arm64", &[source]).unwrap();
        let dump = run(Command::new("apt-config").args(apt.options()).args(["dump", "Dir::State"])).unwrap();
        assert!(dump.contains(&format!("Dir::State::lists \"{}", directory.path().display())), "{dump}");
    }
}
