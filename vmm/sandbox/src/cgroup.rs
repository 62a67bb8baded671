//! Placement of the process in a control group (version 2).

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use crate::Error;

/// Period in which processor time is counted, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// A control group, and what the processes in it may use together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below the root of the control groups, such as `/vms/web`; created when missing.
    pub name: String,
    /// Most memory in bytes.
    pub memory_max: Option<u64>,
    /// Most processor time, in percent of one processor.
    pub cpu_percent: Option<u32>,
}

impl Cgroup {
    /// Creates the group where it is missing, sets its limits, and moves the process into it.
    ///
    /// The group stays when the process ends; whoever starts the process removes it.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupName`], [`Error::NoCgroups`], or [`Error::Cgroup`] that names the file.
    pub fn enter(&self) -> Result<(), Error> {
        let mounts = "/proc/self/mountinfo";
        let text = fs::read_to_string(mounts).map_err(failed(Path::new(mounts), "read it"))?;
        let root = root(&text).ok_or(Error::NoCgroups)?;
        self.enter_below(&root)
    }

    fn enter_below(&self, root: &Path) -> Result<(), Error> {
        let below = self.components()?;
        let mut directory = root.to_path_buf();
        for component in below {
            // Limits exist in a group whose parent has the controller turned on for its children.
            self.turn_controllers_on(&directory)?;
            directory.push(component);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(failed(&directory, "create it")(error));
                }
                _ => {}
            }
        }
        if let Some(memory) = self.memory_max {
            write(&directory.join("memory.max"), &memory.to_string(), "limit memory")?;
        }
        if let Some(percent) = self.cpu_percent {
            let quota = u64::from(percent) * PERIOD / 100;
            write(&directory.join("cpu.max"), &format!("{quota} {PERIOD}"), "limit processor time")?;
        }
        // 0 stands for the process that writes (cgroups(7)).
        write(&directory.join("cgroup.procs"), "0", "move this process into it")
    }

    fn components(&self) -> Result<Vec<&str>, Error> {
        let wrong = || Error::CgroupName { name: self.name.clone() };
        let components: Option<Vec<&str>> = Path::new(&self.name)
            .components()
            .filter(|component| *component != Component::RootDir)
            .map(|component| match component {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        components.filter(|components| !components.is_empty()).ok_or_else(wrong)
    }

    fn turn_controllers_on(&self, parent: &Path) -> Result<(), Error> {
        let wanted = [("memory", self.memory_max.is_some()), ("cpu", self.cpu_percent.is_some())];
        if !wanted.iter().any(|(_, wanted)| *wanted) {
            return Ok(());
        }
        let file = parent.join("cgroup.subtree_control");
        let on = fs::read_to_string(&file).map_err(failed(&file, "read it"))?;
        let missing: Vec<String> = wanted
            .into_iter()
            .filter(|(name, wanted)| *wanted && !on.split_whitespace().any(|on| on == *name))
            .map(|(name, _)| format!("+{name}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let action = "turn on the controllers that limits need: they must be available to this group, and the group \
                      must have no processes of its own";
        write(&file, &missing.join(" "), action)
    }
}

/// Where the control groups are mounted (proc(5), `/proc/pid/mountinfo`).
fn root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, types) = line.split_once(" - ")?;
        let is_cgroup2 = types.split(' ').next()? == "cgroup2";
        is_cgroup2.then(|| PathBuf::from(fields.split(' ').nth(4).unwrap_or_default()))
    })
}

fn write(path: &Path, text: &str, action: &'static str) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed(path, action))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Cgroup { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> Cgroup {
        Cgroup { name: name.into(), memory_max: None, cpu_percent: None }
    }

    /// Files of the kernel, for a group that exists.
    fn files(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        for name in ["cgroup.procs", "cgroup.subtree_control", "memory.max", "cpu.max"] {
            fs::write(directory.join(name), "").unwrap();
        }
    }

    #[test]
    fn root_is_found_among_the_mounts() {
        let hybrid = "\
            25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
            26 25 0:23 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
            27 25 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(root(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root("25 20 0:22 / /sys/fs/cgroup ro - tmpfs cgroup2 ro\n"), None);
    }

    #[test]
    fn limits_are_written_where_the_kernel_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let (root, leaf) = (directory.path(), directory.path().join("vms/web"));
        for directory in [root, &root.join("vms"), &leaf] {
            files(directory);
        }
        let group = Cgroup { memory_max: Some(1 << 30), cpu_percent: Some(150), ..group("/vms/web") };
        group.enter_below(root).unwrap();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(leaf.join("memory.max")), (1_u64 << 30).to_string());
        assert_eq!(read(leaf.join("cpu.max")), "150000 100000");
        assert_eq!(read(leaf.join("cgroup.procs")), "0");
        assert_eq!(read(root.join("vms/cgroup.subtree_control")), "+memory +cpu");
        assert_eq!(read(leaf.join("cgroup.subtree_control")), "", "a group with processes has no children");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "/", "..", "a/../../b"] {
            let error = group(name).enter_below(Path::new("/nowhere")).unwrap_err();
            assert!(matches!(error, Error::CgroupName { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn file_that_refuses_is_named() {
        let directory = tempfile::tempdir().unwrap();
        files(directory.path());
        let error = group("new").enter_below(directory.path()).unwrap_err();
        assert!(error.to_string().contains("new/cgroup.procs"), "{error}");
        assert!(directory.path().join("new").is_dir(), "it was created");
    }
}
