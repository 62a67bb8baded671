//! Disks on the command line.

use api::config::{DiskConfig, ImageType, QueueAffinity, RateLimitGroupConfig};

use super::ConfigError;
use super::options::{self, Options};

/// One `--disk`.
pub fn disk(text: &str) -> Result<DiskConfig, ConfigError> {
    const KEYS: [&str; 21] = [
        "id",
        "path",
        "image_type",
        "readonly",
        "direct",
        "num_queues",
        "queue_size",
        "queue_affinity",
        "serial",
        "vhost_user",
        "socket",
        "backing_files",
        "sparse",
        "rate_limit_group",
        "bw_size",
        "bw_one_time_burst",
        "bw_refill_time",
        "ops_size",
        "ops_one_time_burst",
        "ops_refill_time",
        "_disable_io_uring",
    ];
    let options = Options::parse("--disk", text, &KEYS)?;
    let default = DiskConfig::default();
    let number = |key| options.convert(key, "a number", |value| value.parse().ok());
    let image_type = options.convert("image_type", "raw or qcow2", |value| match value {
        "raw" => Some(ImageType::Raw),
        "qcow2" => Some(ImageType::Qcow2),
        _ => None,
    })?;
    let vhost_user = options.switch("vhost_user")?;
    let affinity =
        options.convert("queue_affinity", "queues and processors such as [0@[1,3]]", options::affinities)?;
    let affinity = affinity.unwrap_or_default().into_iter();
    Ok(DiskConfig {
        id: options.get("id").map(Into::into),
        path: if vhost_user { options.get("path") } else { Some(options.require("path")?) }.map(Into::into),
        vhost_user,
        vhost_socket: options.get("socket").map(Into::into),
        image_type: image_type.unwrap_or_default(),
        readonly: options.switch("readonly")?,
        direct: options.switch("direct")?,
        num_queues: number("num_queues")?.unwrap_or(default.num_queues),
        queue_size: number("queue_size")?.unwrap_or(default.queue_size),
        queue_affinity: affinity
            .map(|(queue_index, host_cpus)| QueueAffinity { queue_index, host_cpus })
            .collect(),
        serial: options.get("serial").map(Into::into),
        backing_files: options.switch("backing_files")?,
        sparse: options.switch_on("sparse")?,
        disable_io_uring: options.switch("_disable_io_uring")?,
        rate_limiter_config: options.rate_limits()?,
        rate_limit_group: options.get("rate_limit_group").map(Into::into),
        ..default
    })
}

/// One `--rate-limit-group`.
pub fn rate_limit_group(text: &str) -> Result<RateLimitGroupConfig, ConfigError> {
    const KEYS: [&str; 7] = [
        "id",
        "bw_size",
        "bw_one_time_burst",
        "bw_refill_time",
        "ops_size",
        "ops_one_time_burst",
        "ops_refill_time",
    ];
    let options = Options::parse("--rate-limit-group", text, &KEYS)?;
    Ok(RateLimitGroupConfig {
        id: options.require("id")?.into(),
        rate_limiter_config: options.rate_limits()?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_described_in_full() {
        let disk = disk(
            "id=root,path=/d,image_type=qcow2,direct=on,num_queues=2,queue_size=64,queue_affinity=[0@[1],1@[2-3]],\
             backing_files=on,sparse=off,serial=s,bw_size=1M,bw_refill_time=100,_disable_io_uring=on",
        )
        .unwrap();
        assert_eq!(
            (disk.id.as_deref(), disk.image_type, disk.direct),
            (Some("root"), ImageType::Qcow2, true)
        );
        assert_eq!((disk.num_queues, disk.queue_size), (2, 64));
        assert_eq!(disk.queue_affinity[1], QueueAffinity { queue_index: 1, host_cpus: vec![2, 3] });
        assert!(disk.backing_files && !disk.sparse && disk.disable_io_uring);
        assert_eq!(disk.rate_limiter_config.unwrap().bandwidth.unwrap().size, 1 << 20);
    }

    #[test]
    fn mistakes_name_the_key() {
        let message = |text| disk(text).unwrap_err().to_string();
        assert!(message("readonly=on").contains("path= is missing"));
        assert!(message("path=/d,image_type=vhd").contains("raw or qcow2"));
        assert!(message("path=/d,queue_affinity=[0]").contains("queue_affinity=[0]"));
    }

    #[test]
    fn group_has_a_name_and_limits() {
        let group = rate_limit_group("id=slow,ops_size=10,ops_refill_time=1000").unwrap();
        assert_eq!((group.id.as_str(), group.rate_limiter_config.ops.unwrap().size), ("slow", 10));
        assert!(rate_limit_group("ops_size=10,ops_refill_time=1").is_err());
    }
}
