//! Devices and figures of domains.

use std::io::{self, Write};

use anyhow::Context as _;
use api::VmConfig;
use clap::Args;
use serde::Serialize;

use super::{Context, memory_of};
use crate::output::{self, Format};
use crate::state::Observation;

/// Lists the disks of a domain.
#[derive(Args, Debug)]
pub struct Domblklist {
    /// Name or uuid of the domain.
    domain: String,
    /// As defined, although the domain runs.
    #[arg(long)]
    inactive: bool,
    /// Form of the list.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Disk {
    target: String,
    source: String,
}

impl Domblklist {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = config_of(context, &self.domain, self.inactive)?;
        let disks: Vec<_> = config
            .disks
            .iter()
            .map(|disk| Disk {
                target: disk.id.clone().unwrap_or_else(|| "-".into()),
                source: disk
                    .path
                    .as_ref()
                    .or(disk.vhost_socket.as_ref())
                    .map_or_else(|| "-".into(), |path| path.display().to_string()),
            })
            .collect();
        output::list(self.format, &["Target", "Source"], &disks, |disk| {
            vec![disk.target.clone(), disk.source.clone()]
        })
    }
}

/// Lists the network interfaces of a domain.
#[derive(Args, Debug)]
pub struct Domiflist {
    /// Name or uuid of the domain.
    domain: String,
    /// As defined, although the domain runs.
    #[arg(long)]
    inactive: bool,
    /// Form of the list.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Interface {
    interface: String,
    r#type: &'static str,
    source: String,
    model: &'static str,
    mac: String,
}

impl Domiflist {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = config_of(context, &self.domain, self.inactive)?;
        let dash = || "-".to_owned();
        let interfaces: Vec<_> = config
            .net
            .iter()
            .map(|net| Interface {
                interface: net.id.clone().unwrap_or_else(dash),
                r#type: if net.vhost_user { "vhostuser" } else { "ethernet" },
                source: net
                    .vhost_socket
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .or_else(|| net.tap.clone())
                    .unwrap_or_else(dash),
                model: "virtio",
                mac: net.mac.clone().unwrap_or_else(dash),
            })
            .collect();
        output::list(self.format, &["Interface", "Type", "Source", "Model", "MAC"], &interfaces, |net| {
            vec![
                net.interface.clone(),
                net.r#type.into(),
                net.source.clone(),
                net.model.into(),
                net.mac.clone(),
            ]
        })
    }
}

/// What a domain is made of now, or by its definition.
pub fn config_of(context: &Context, key: &str, inactive: bool) -> anyhow::Result<VmConfig> {
    let Observation { name, info, domain, reason, .. } = context.observe(key)?;
    if let Some(info) = info.filter(|_| !inactive) {
        return Ok(info.config);
    }
    let domain = if inactive { context.state.definition(&name)? } else { domain };
    Ok(domain.with_context(|| format!("domain {name:?} has no definition: {reason}"))?.config)
}

/// Shows figures of domains that run, in virsh's form: state, processor time, memory, and counters of devices.
#[derive(Args, Debug)]
pub struct Domstats {
    /// Names or uuids of domains; by default all that run.
    domains: Vec<String>,
    /// Form of the figures.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Statistics {
    domain: String,
    #[serde(flatten)]
    figures: serde_json::Map<String, serde_json::Value>,
}

impl Domstats {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observations = if self.domains.is_empty() {
            let mut all = context.state.observe_all()?;
            all.retain(|found| found.state.is_active());
            all
        } else {
            self.domains.iter().map(|key| context.observe(key)).collect::<Result<_, _>>()?
        };
        let statistics: Vec<_> = observations.into_iter().map(|found| figures(context, found)).collect();
        if self.format == Format::Json {
            return output::json(&statistics);
        }
        let mut out = io::stdout().lock();
        for one in &statistics {
            writeln!(out, "Domain: '{}'", output::printable(&one.domain))?;
            for (name, value) in &one.figures {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                writeln!(out, "  {name}={}", output::printable(&value))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn figures(context: &Context, found: Observation) -> Statistics {
    let mut figures = serde_json::Map::new();
    let mut put = |name: String, value: serde_json::Value| drop(figures.insert(name, value));
    put("state.state".into(), found.state.to_string().into());
    put("state.reason".into(), found.reason.clone().into());
    if let Some(process) = &found.process {
        if let Ok(time) = process.cpu_time() {
            put("cpu.time".into(), u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).into());
        }
        if let Ok(bytes) = process.resident() {
            put("balloon.rss".into(), (bytes >> 10).into());
        }
    }
    if let Some(info) = &found.info {
        let config = &info.config;
        let (max, current) = memory_of(config);
        put("balloon.current".into(), (info.memory_actual_size.unwrap_or(current) >> 10).into());
        put("balloon.maximum".into(), (max >> 10).into());
        put("vcpu.current".into(), config.cpus.boot_vcpus.into());
        put("vcpu.maximum".into(), config.cpus.max_vcpus.unwrap_or(config.cpus.boot_vcpus).into());
        // A VMM that does not count has no counters to show.
        let mut counters = context.state.runtime(&found.name).client().counters().unwrap_or_default();
        let groups = [
            ("net", config.net.iter().map(|net| &net.id).collect::<Vec<_>>()),
            ("block", config.disks.iter().map(|disk| &disk.id).collect()),
        ];
        for (group, devices) in groups {
            put(format!("{group}.count"), devices.len().into());
            for (number, id) in devices.into_iter().enumerate() {
                let Some(id) = id else { continue };
                put(format!("{group}.{number}.name"), id.clone().into());
                for (name, value) in counters.remove(id).unwrap_or_default() {
                    put(format!("{group}.{number}.{name}"), value.into());
                }
            }
        }
        for (device, values) in counters {
            for (name, value) in values {
                put(format!("{device}.{name}"), value.into());
            }
        }
    }
    Statistics { domain: found.name, figures }
}
