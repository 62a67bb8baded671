//! The bounds of the VMM itself: the grammar of their flags, and what they must fulfil.

use api::VmConfig;
use api::config::{LandlockConfig, RlimitsConfig, SandboxConfig};

use super::ConfigError;
use super::options::{self, Options};
use super::validate::check;

/// The bounds of the VMM, which are set before there is a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessBounds {
    /// What keeps the VMM in bounds.
    pub sandbox: SandboxConfig,
    /// Whether the VMM may open only what is named.
    pub landlock_enable: bool,
    /// What the VMM may open besides.
    pub landlock_rules: Vec<LandlockConfig>,
}

impl ProcessBounds {
    /// The bounds that `config` asks for.
    #[must_use]
    pub fn of(config: &VmConfig) -> Self {
        Self {
            sandbox: config.sandbox.clone(),
            landlock_enable: config.landlock_enable,
            landlock_rules: config.landlock_rules.clone(),
        }
    }

    /// Checks that a VM which comes later asks for nothing, or for the bounds that are set already.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Field`].
    pub fn check(&self, config: &VmConfig) -> Result<(), ConfigError> {
        let asked = Self::of(config);
        let as_set = |field, same: bool| {
            check(same, field, "other bounds than those of the command line", || {
                "nothing, or the same: bounds are set when the VMM starts (--sandbox, --landlock)".into()
            })
        };
        let default = Self::default();
        as_set("sandbox", asked.sandbox == default.sandbox || asked.sandbox == self.sandbox)?;
        as_set("landlock_enable", !asked.landlock_enable || self.landlock_enable)?;
        as_set(
            "landlock_rules",
            asked.landlock_rules.is_empty() || asked.landlock_rules == self.landlock_rules,
        )
    }
}

/// Largest share of processor time, in percent of one processor. Beyond it the kernel would refuse the quota with an
/// error that tells nothing.
const MAX_CPU_PERCENT: u32 = 1_000_000;

/// `--sandbox`.
pub fn sandbox(text: &str) -> Result<SandboxConfig, ConfigError> {
    const KEYS: [&str; 10] = [
        "user_namespace",
        "mount_namespace",
        "network_namespace",
        "cgroup",
        "memory_max",
        "cpu_percent",
        "nofile",
        "fsize",
        "memlock",
        "unhardened",
    ];
    let options = Options::parse("--sandbox", text, &KEYS)?;
    let number = |key| options.convert(key, "a number", |value| value.parse().ok());
    let size = |key| options.convert(key, "a size such as 512M", options::size);
    Ok(SandboxConfig {
        unhardened: options.switch("unhardened")?,
        user_namespace: options.switch("user_namespace")?,
        mount_namespace: options.switch("mount_namespace")?,
        network_namespace: options.switch("network_namespace")?,
        cgroup: options.get("cgroup").map(Into::into),
        memory_max: size("memory_max")?,
        cpu_percent: options.convert("cpu_percent", "a number", |value| value.parse().ok())?,
        rlimits: RlimitsConfig {
            nofile: number("nofile")?,
            fsize: size("fsize")?,
            memlock: size("memlock")?,
        },
    })
}

/// `--landlock-rules`.
pub fn landlock_rule(text: &str) -> Result<LandlockConfig, ConfigError> {
    let options = Options::parse("--landlock-rules", text, &["path", "access"])?;
    Ok(LandlockConfig { path: options.require("path")?.into(), access: options.require("access")?.into() })
}

/// Checks the bounds of the bounds.
///
/// # Errors
///
/// [`ConfigError::Field`].
pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    let rules = config.landlock_rules.len();
    check(config.landlock_enable || rules == 0, "landlock_rules", rules, || {
        "none without landlock_enable: they would not hold".into()
    })?;
    for rule in &config.landlock_rules {
        let access = rule.access.as_str();
        let known = ["r", "w", "rw"].contains(&access);
        check(known, "landlock_rules.access", access, || "r, w or rw".into())?;
    }
    let sandbox = &config.sandbox;
    let grouped = sandbox.cgroup.is_some();
    for (field, limit) in [
        ("sandbox.memory_max", sandbox.memory_max),
        ("sandbox.cpu_percent", sandbox.cpu_percent.map(u64::from)),
    ] {
        let limit = limit.unwrap_or_default();
        check(grouped || limit == 0, field, limit, || "nothing without sandbox.cgroup, which has it".into())?;
    }
    if let Some(percent) = sandbox.cpu_percent {
        check((1..=MAX_CPU_PERCENT).contains(&percent), "sandbox.cpu_percent", percent, || {
            format!("1 to {MAX_CPU_PERCENT}")
        })?;
    }
    if let Some(most) = sandbox.memory_max {
        let size = config.memory.total_size();
        check(most > size, "sandbox.memory_max", most, || {
            format!("more than the guest's memory, {size}: the VMM needs some for itself")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_are_set_cannot_be_changed_by_a_vm_that_comes_later() {
        let plain = VmConfig::booting("/k".into());
        let mut asks = plain.clone();
        asks.sandbox.network_namespace = true;
        let set = ProcessBounds::of(&asks);
        assert!(set.check(&plain).is_ok() && set.check(&asks).is_ok());
        let error = ProcessBounds::default().check(&asks).unwrap_err().to_string();
        assert!(error.starts_with("sandbox") && error.contains("--sandbox"), "{error}");
        asks = VmConfig { landlock_enable: true, ..plain };
        let error = ProcessBounds::default().check(&asks).unwrap_err().to_string();
        assert!(error.starts_with("landlock_enable"), "{error}");
    }

    #[test]
    fn flags_say_all_that_the_configuration_can() {
        let text = "user_namespace=on,mount_namespace=on,network_namespace=on,cgroup=/vms/a,memory_max=1G,\
                    cpu_percent=150,nofile=256,fsize=4G,memlock=64K,unhardened=off";
        let expected = SandboxConfig {
            unhardened: false,
            user_namespace: true,
            mount_namespace: true,
            network_namespace: true,
            cgroup: Some("/vms/a".into()),
            memory_max: Some(1 << 30),
            cpu_percent: Some(150),
            rlimits: RlimitsConfig { nofile: Some(256), fsize: Some(4 << 30), memlock: Some(64 << 10) },
        };
        assert_eq!(sandbox(text).unwrap(), expected);
        assert!(sandbox("unhardened=on").unwrap().unhardened);
        let rule = landlock_rule("path=/srv,access=rw").unwrap();
        assert_eq!(rule, LandlockConfig { path: "/srv".into(), access: "rw".into() });
    }

    #[test]
    fn mistakes_name_the_flag() {
        assert!(sandbox("seccomp=off").unwrap_err().to_string().contains("unknown key \"seccomp\""));
        assert!(sandbox("nofile=many").unwrap_err().to_string().contains("--sandbox: nofile=many"));
        assert!(landlock_rule("path=/srv").unwrap_err().to_string().contains("access= is missing"));
    }

    #[test]
    fn bounds_that_would_not_hold_are_refused() {
        for (json, field) in [
            (r#""landlock_rules":[{"path":"/a","access":"r"}]"#, "landlock_rules: found 1"),
            (
                r#""landlock_enable":true,"landlock_rules":[{"path":"/a","access":"x"}]"#,
                "landlock_rules.access: found x",
            ),
            (r#""sandbox":{"memory_max":1073741824}"#, "sandbox.memory_max"),
            (r#""sandbox":{"cpu_percent":50}"#, "sandbox.cpu_percent"),
            (r#""sandbox":{"cgroup":"/a","cpu_percent":0}"#, "sandbox.cpu_percent: found 0"),
            (r#""sandbox":{"cgroup":"/a","memory_max":1048576}"#, "sandbox.memory_max: found 1048576"),
        ] {
            let config = serde_json::from_str(&format!(r#"{{"payload":{{"kernel":"/k"}},{json}}}"#)).unwrap();
            let error = validate(&config).unwrap_err().to_string();
            assert!(error.starts_with(field) && error.contains("expected"), "{error}");
        }
    }
}
