//! The configuration of one boot, read from [`PATH`].

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where PID 1 looks for its configuration.
pub const PATH: &str = "/etc/guest-init.json";

/// One boot: what to prepare, then one job, then power off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kernel modules (uncompressed `.ko`), in load order.
    #[serde(default)]
    pub modules: Vec<PathBuf>,
    /// Environment of every command and of the job.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Commands that must succeed, one after the other, before the job starts.
    #[serde(default)]
    pub commands: Vec<Vec<String>>,
    /// Unix sockets whose connections are carried to TCP addresses while the job runs.
    #[serde(default)]
    pub relays: Vec<Relay>,
    /// What this boot is for.
    pub job: Job,
    /// What to do with the machine when the job has ended.
    #[serde(default)]
    pub finally: Finally,
}

/// A Unix socket bridged to TCP: every connection to `listen` becomes one to `connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Path of the Unix socket to create.
    pub listen: PathBuf,
    /// TCP address, `host:port`.
    pub connect: String,
}

/// The one thing a boot is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Run a program on the console and print its exit code as [`report::exit_line`](crate::report::exit_line).
    Run(Vec<String>),
    /// Run Rust test binaries and report every case.
    Tests(Tests),
    /// An interactive shell on the console.
    Shell,
}

/// Test binaries and how to run them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// The binaries, begun in this order.
    pub binaries: Vec<TestBinary>,
    /// How many binaries run side by side.
    #[serde(default = "one")]
    pub lanes: NonZeroUsize,
    /// Seconds that one case may take.
    pub timeout_s: u64,
    /// Only cases whose full name (`binary::test`) contains this text.
    #[serde(default)]
    pub filter: Option<String>,
    /// Name of the virtio-serial port that carries the reports; standard output when absent.
    #[serde(default)]
    pub report_port: Option<String>,
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// One test binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestBinary {
    /// Name that prefixes its cases.
    pub name: String,
    /// Path of the executable.
    pub path: PathBuf,
}

/// How a boot ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finally {
    /// Power the machine off.
    #[default]
    PowerOff,
    /// Reset the machine.
    Reboot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hand_written_configuration() {
        let config: Config = serde_json::from_str(
            r#"{"modules":["/m/a.ko"],"env":{"A":"b"},"commands":[["/bin/true"]],
                "relays":[{"listen":"/run/v_8443","connect":"10.0.2.2:8443"}],
                "job":{"run":["/bin/agent","fetch"]},"finally":"reboot"}"#,
        )
        .unwrap();
        assert_eq!(config.job, Job::Run(vec!["/bin/agent".into(), "fetch".into()]));
        assert_eq!(config.finally, Finally::Reboot);
        assert_eq!(config.relays[0].connect, "10.0.2.2:8443");
    }

    #[test]
    fn refuses_an_unknown_field() {
        assert!(serde_json::from_str::<Config>(r#"{"job":"shell","jbo":1}"#).is_err());
    }

    #[test]
    fn every_job_survives_a_round_trip() {
        let tests = Tests {
            binaries: vec![TestBinary { name: "t".into(), path: "/t".into() }],
            timeout_s: 1,
            lanes: NonZeroUsize::MIN,
            filter: None,
            report_port: Some("p".into()),
        };
        for job in [Job::Run(vec!["x".into()]), Job::Tests(tests), Job::Shell] {
            let text = serde_json::to_string(&job).unwrap();
            assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
        }
    }
}
