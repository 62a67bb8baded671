//! What keeps this process in bounds, so that a guest which takes it over has gained little.
//!
//! All bounds but the system call filters are set once, before there is a second thread ([`Confinement::enter`]). Each
//! thread then binds itself to the filter of its kind before it does anything else.

mod paths;

use std::io;
use std::sync::Arc;

use api::VmConfig;
use devices::virtio::ThreadKind as DeviceThread;
use sandbox::{Bounds, Cgroup, Filters, LandlockReport, Limits, Namespaces, SeccompMode, ThreadKind};

use crate::config::ProcessBounds;
use crate::{Error, RunOptions};

/// The bounds of this process, once they are set.
#[derive(Debug)]
pub struct Confinement {
    filters: Filters,
    enforced: bool,
}

impl Confinement {
    /// Confines this process to `asked`, and to what `vm` needs if there is one already, for good. What takes a privilege
    /// must be open already, and the process must have one thread.
    ///
    /// # Errors
    ///
    /// [`Error::Sandbox`] or [`Error::Device`] that names what stands in the way. The process must then end.
    pub fn enter(
        asked: &ProcessBounds,
        vm: Option<&VmConfig>,
        options: &RunOptions,
    ) -> Result<Arc<Self>, Error> {
        let mode = seccomp_mode(asked, options);
        if asked.sandbox.unhardened {
            tracing::warn!("sandbox.unhardened: this process keeps the privileges of its caller");
        }
        if mode != SeccompMode::Enforce {
            tracing::warn!(
                ?mode,
                "system call filters are not enforced: a guest that takes over this process can go on"
            );
        }
        let report = bounds(asked, vm, options)?.enter()?;
        if let Some(LandlockReport { abi, not_enforced }) = report {
            tracing::info!(abi, "Landlock confines this process to the paths of its configuration");
            for what in not_enforced {
                tracing::warn!(abi, "Landlock of this kernel cannot forbid {what}");
            }
        }
        let confinement = Self { filters: Filters::new(mode)?, enforced: mode == SeccompMode::Enforce };
        confinement.bind(ThreadKind::Main)?;
        Ok(Arc::new(confinement))
    }

    /// Whether a system call that is not allowed ends the process.
    pub const fn is_enforced(&self) -> bool {
        self.enforced
    }

    /// Binds the calling thread to the filter of its kind, for good.
    ///
    /// # Errors
    ///
    /// [`Error::Sandbox`]. The thread must then end.
    pub fn bind(&self, kind: ThreadKind) -> Result<(), Error> {
        Ok(self.filters.apply(kind)?)
    }

    /// Binds the calling thread of a device.
    ///
    /// # Errors
    ///
    /// The thread must then end.
    pub fn bind_device_thread(&self, kind: DeviceThread) -> io::Result<()> {
        let kind = match kind {
            DeviceThread::Block => ThreadKind::Block,
            DeviceThread::Net => ThreadKind::Net,
            DeviceThread::Rng => ThreadKind::Rng,
            DeviceThread::Vsock => ThreadKind::Vsock,
            DeviceThread::Console => ThreadKind::Console,
            DeviceThread::Balloon => ThreadKind::Balloon,
            DeviceThread::Pmem => ThreadKind::Pmem,
            DeviceThread::Watchdog => ThreadKind::Watchdog,
            DeviceThread::VhostUser => ThreadKind::VhostUser,
        };
        self.bind(kind).map_err(io::Error::other)
    }
}

/// Filters are on unless somebody says otherwise, by either name.
fn seccomp_mode(asked: &ProcessBounds, options: &RunOptions) -> SeccompMode {
    let default = if asked.sandbox.unhardened { SeccompMode::Off } else { SeccompMode::Enforce };
    options.seccomp.unwrap_or(default)
}

fn bounds(asked: &ProcessBounds, vm: Option<&VmConfig>, options: &RunOptions) -> Result<Bounds, Error> {
    let sandbox = &asked.sandbox;
    let cgroup = sandbox.cgroup.as_ref().map(|name| Cgroup {
        name: name.clone(),
        memory_max: sandbox.memory_max,
        cpu_percent: sandbox.cpu_percent,
    });
    let landlock = asked.landlock_enable.then(|| paths::rules(asked, vm, options)).transpose()?;
    Ok(Bounds {
        unhardened: sandbox.unhardened,
        cgroup,
        limits: Limits {
            nofile: sandbox.rlimits.nofile,
            fsize: sandbox.rlimits.fsize,
            memlock: sandbox.rlimits.memlock,
        },
        namespaces: Namespaces {
            user: sandbox.user_namespace,
            mount: sandbox.mount_namespace,
            network: sandbox.network_namespace,
        },
        landlock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_enforced_unless_somebody_says_otherwise_by_name() {
        let hardened = ProcessBounds::default();
        let mut unhardened = hardened.clone();
        unhardened.sandbox.unhardened = true;
        let asked = |mode| RunOptions { seccomp: mode, ..RunOptions::default() };
        assert_eq!(seccomp_mode(&hardened, &asked(None)), SeccompMode::Enforce);
        assert_eq!(seccomp_mode(&unhardened, &asked(None)), SeccompMode::Off);
        assert_eq!(seccomp_mode(&hardened, &asked(Some(SeccompMode::Log))), SeccompMode::Log);
        assert_eq!(seccomp_mode(&unhardened, &asked(Some(SeccompMode::Enforce))), SeccompMode::Enforce);
    }

    #[test]
    fn what_the_configuration_asks_for_is_what_the_process_gets() {
        let json = r#"{"payload":{"kernel":"/k"},"sandbox":{"user_namespace":true,"network_namespace":true,
            "cgroup":"/vms/a","memory_max":4194304,"cpu_percent":50,"rlimits":{"nofile":64}}}"#;
        let config: VmConfig = serde_json::from_str(json).unwrap();
        let bounds = bounds(&ProcessBounds::of(&config), Some(&config), &RunOptions::default()).unwrap();
        assert!(!bounds.unhardened && bounds.landlock.is_none());
        assert_eq!(bounds.namespaces, Namespaces { user: true, mount: false, network: true });
        assert_eq!(bounds.limits, Limits { nofile: Some(64), ..Limits::default() });
        let cgroup = Cgroup { name: "/vms/a".into(), memory_max: Some(4 << 20), cpu_percent: Some(50) };
        assert_eq!(bounds.cgroup, Some(cgroup));
    }
}
