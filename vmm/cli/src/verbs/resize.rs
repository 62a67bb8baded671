//! Memory and processors of a domain are changed.

use anyhow::{Context as _, bail};
use api::config::CpuAffinity;
use api::message::VmResize;
use clap::Args;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::change::Affect;
use super::{Context, memory_of};
use crate::output::{self, Format};
use crate::state::Observation;
use crate::xml::units::{parse_set, print_set, unit};

/// Changes how much memory the guest has: the rest goes to the balloon.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt setmem web 512M --live")]
pub struct Setmem {
    /// Name or uuid of the domain.
    domain: String,
    /// Size in KiB, or with a unit such as M, GiB or MB.
    size: String,
    #[command(flatten)]
    affect: Affect,
}

impl Setmem {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let size = size(&self.size)?;
        context.change(
            &self.domain,
            self.affect,
            |client, found| {
                let config = &found.info.as_ref().context("no answer of the VMM")?.config;
                let given_up = given_up(config, size)?;
                Ok(client.resize(&VmResize { desired_balloon: Some(given_up), ..VmResize::default() })?)
            },
            |domain| {
                let given_up = given_up(&domain.config, size)?;
                if let Some(balloon) = &mut domain.config.balloon {
                    balloon.size = given_up;
                }
                Ok(())
            },
        )?;
        Ok(())
    }
}

/// Bytes that go to the balloon for the guest to have `size`.
fn given_up(config: &api::VmConfig, size: u64) -> anyhow::Result<u64> {
    let (max, _) = memory_of(config);
    if config.balloon.is_none() {
        bail!("the domain has no balloon: add <memballoon model='virtio'/> to its definition");
    }
    max.checked_sub(size).with_context(|| {
        format!("found {} KiB, expected at most the {} KiB of memory", size >> 10, max >> 10)
    })
}

/// A size such as `512M`; a number alone is KiB, as in virsh.
pub fn size(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let scale = if name.is_empty() { Some(1024) } else { unit(name) };
    number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale)).with_context(
        || format!("found the size {text:?}, expected KiB, or a number with a unit such as 512M"),
    )
}

/// Changes how many vCPUs the guest has.
#[derive(Args, Debug)]
pub struct Setvcpus {
    /// Name or uuid of the domain.
    domain: String,
    /// Number of vCPUs.
    count: u16,
    /// Change how many the domain can have, for the next start.
    #[arg(long, requires = "config")]
    maximum: bool,
    #[command(flatten)]
    affect: Affect,
}

impl Setvcpus {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let count = self.count;
        context.change(
            &self.domain,
            self.affect,
            |client, _| Ok(client.resize(&VmResize { desired_vcpus: Some(count), ..VmResize::default() })?),
            |domain| {
                let cpus = &mut domain.config.cpus;
                if self.maximum {
                    cpus.max_vcpus = Some(count);
                    cpus.boot_vcpus = cpus.boot_vcpus.min(count);
                    return Ok(());
                }
                let max = cpus.max_vcpus.unwrap_or(cpus.boot_vcpus);
                if count == 0 || count > max {
                    bail!("found {count} vCPUs, expected 1 to {max}: --maximum --config changes how many there can be");
                }
                cpus.max_vcpus = Some(max);
                cpus.boot_vcpus = count;
                Ok(())
            },
        )?;
        Ok(())
    }
}

/// Shows or changes on which processors of the host a domain's vCPUs run.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt vcpupin web 0 2-3 --persistent")]
pub struct Vcpupin {
    /// Name or uuid of the domain.
    domain: String,
    /// Number of the vCPU; without it all are shown.
    vcpu: Option<u16>,
    /// Processors such as 0-3,^2; without them they are shown.
    cpulist: Option<String>,
    #[command(flatten)]
    affect: Affect,
    /// Form of what is shown.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Pin {
    vcpu: u16,
    affinity: String,
}

impl Vcpupin {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let (Some(vcpu), Some(list)) = (self.vcpu, &self.cpulist) else {
            return self.show(context);
        };
        let host_cpus: Vec<u32> = parse_set(list)
            .filter(|cpus| !cpus.is_empty())
            .with_context(|| format!("found the processors {list:?}, expected such as 0-3,^2"))?;
        context.change(
            &self.domain,
            self.affect,
            |_, found| pin(found, vcpu, &host_cpus),
            |domain| {
                let cpus = &mut domain.config.cpus;
                let max = cpus.max_vcpus.unwrap_or(cpus.boot_vcpus);
                if vcpu >= max {
                    bail!("found vCPU {vcpu}, expected 0 to {}", max.saturating_sub(1));
                }
                cpus.affinity.retain(|pin| pin.vcpu != vcpu);
                cpus.affinity.push(CpuAffinity { vcpu, host_cpus: host_cpus.clone() });
                cpus.affinity.sort_by_key(|pin| pin.vcpu);
                Ok(())
            },
        )?;
        Ok(())
    }

    fn show(&self, context: &Context) -> anyhow::Result<()> {
        let found = context.observe(&self.domain)?;
        let (live, _) = self.affect.choose(&found)?;
        let mut pins = if live { live_pins(&found)? } else { defined_pins(context, &found)? };
        pins.retain(|pin| self.vcpu.is_none_or(|vcpu| vcpu == pin.vcpu));
        output::list(self.format, &["VCPU", "CPU Affinity"], &pins, |pin| {
            vec![pin.vcpu.to_string(), pin.affinity.clone()]
        })
    }
}

/// Threads of vCPUs, by number: their names say which they are.
fn vcpu_threads(found: &Observation) -> anyhow::Result<Vec<(u16, Pid)>> {
    let process = found.process.as_ref().context("the process of the VMM cannot be found")?;
    let threads = process.threads().context("cannot list the threads of the VMM")?;
    let mut vcpus: Vec<_> = threads
        .into_iter()
        .filter_map(|thread| {
            Some((thread.name.strip_prefix("vcpu")?.parse().ok()?, Pid::from_raw(thread.tid)?))
        })
        .collect();
    vcpus.sort_by_key(|(vcpu, _)| *vcpu);
    Ok(vcpus)
}

fn pin(found: &Observation, vcpu: u16, host_cpus: &[u32]) -> anyhow::Result<()> {
    let threads = vcpu_threads(found)?;
    let (_, thread) = threads
        .iter()
        .find(|(number, _)| *number == vcpu)
        .with_context(|| format!("domain {:?} has no thread vcpu{vcpu}", found.name))?;
    let mut set = CpuSet::new();
    for cpu in host_cpus {
        let cpu = usize::try_from(*cpu)?;
        if cpu >= CpuSet::MAX_CPU {
            bail!("found processor {cpu}, expected one below {}", CpuSet::MAX_CPU);
        }
        set.set(cpu);
    }
    sched_setaffinity(Some(*thread), &set).with_context(|| {
        format!("cannot pin vCPU {vcpu} to {}: does the host have these processors?", print_set(host_cpus))
    })
}

fn live_pins(found: &Observation) -> anyhow::Result<Vec<Pin>> {
    vcpu_threads(found)?
        .into_iter()
        .map(|(vcpu, thread)| {
            let set = sched_getaffinity(Some(thread)).context("cannot ask for the processors of a vCPU")?;
            let cpus: Vec<u32> = (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .filter_map(|cpu| cpu.try_into().ok())
                .collect();
            Ok(Pin { vcpu, affinity: print_set(&cpus) })
        })
        .collect()
}

fn defined_pins(context: &Context, found: &Observation) -> anyhow::Result<Vec<Pin>> {
    let domain = context.state.definition(&found.name)?.context("the domain is not defined")?;
    let cpus = domain.config.cpus;
    Ok((0..cpus.max_vcpus.unwrap_or(cpus.boot_vcpus))
        .map(|vcpu| {
            let pin = cpus.affinity.iter().find(|pin| pin.vcpu == vcpu);
            Pin { vcpu, affinity: pin.map_or_else(|| "any".into(), |pin| print_set(&pin.host_cpus)) }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_kib_unless_they_say_otherwise() {
        assert_eq!(size("512").unwrap(), 512 << 10);
        assert_eq!(size("2M").unwrap(), 2 << 20);
        assert_eq!(size("1MB").unwrap(), 1_000_000);
        for wrong in ["", "M", "1X", "-1", "99999999999999999999", "18446744073709551615T"] {
            size(wrong).unwrap_err();
        }
    }
}
