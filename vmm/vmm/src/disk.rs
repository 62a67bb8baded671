//! A disk of the VM: an image of the host, and how the guest sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::config::{DiskConfig, ImageType};
use devices::rate_limit::{LimitConfig, Limits};
use devices::virtio::blk::{
    Block, BlockBackend, BlockOptions, ImageFormat, ImageOptions, MAX_QUEUES, open_image,
};

use crate::Error;
use crate::rate_limit::limits;

/// The other end of a disk, which stays open and locked from one boot to the next.
pub struct Disk {
    id: String,
    config: DiskConfig,
    image: Arc<dyn BlockBackend>,
    options: BlockOptions,
}

impl Disk {
    /// Opens and locks the images of all disks, in the order of the configuration, unless they are among those of
    /// `open`. `groups` are the limits that disks share.
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn open_all(
        configs: &[DiskConfig],
        groups: &BTreeMap<String, Limits>,
        open: &[Arc<Self>],
    ) -> Result<Vec<Arc<Self>>, Error> {
        let disk = |(index, config): (usize, &DiskConfig)| {
            let known = open.iter().find(|disk| disk.config == *config);
            known.map_or_else(
                || Self::open(index, config, groups).map(Arc::new),
                |known| Ok(Arc::clone(known)),
            )
        };
        configs.iter().filter(|config| !config.vhost_user).enumerate().map(disk).collect()
    }

    fn open(index: usize, config: &DiskConfig, groups: &BTreeMap<String, Limits>) -> Result<Self, Error> {
        let path = config.path.as_deref().unwrap_or_else(|| Path::new(""));
        let format = match config.image_type {
            ImageType::Unknown => ImageFormat::Probe,
            ImageType::Raw => ImageFormat::Raw,
            ImageType::Qcow2 => ImageFormat::Qcow2,
        };
        let image = ImageOptions {
            format,
            read_only: config.readonly,
            direct: config.direct,
            backing_files: config.backing_files,
        };
        let unusable = |source| Error::Device { field: "disks.path", path: path.into(), source };
        let image = open_image(path, &image).map_err(|error| unusable(Box::new(error)))?;
        let shared = config.rate_limit_group.as_deref().and_then(|group| groups.get(group)).cloned();
        let own =
            || Limits::new(&config.rate_limiter_config.as_ref().map_or_else(LimitConfig::default, limits));
        let options = BlockOptions {
            serial: config.serial.clone().unwrap_or_default(),
            queue_size: config.queue_size,
            sparse: config.sparse,
            limits: shared.unwrap_or_else(own),
            queues: queues(config),
            io_uring: !config.disable_io_uring,
        };
        let id = config.id.clone().unwrap_or_else(|| format!("_disk{index}"));
        tracing::info!(id, path = %path.display(), bytes = image.size(), "disk");
        Ok(Self { id, config: config.clone(), image: image.into(), options })
    }

    /// Name of the disk.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A device for one boot of the VM.
    pub fn device(&self) -> Block {
        Block::with_options(Box::new(Arc::clone(&self.image)), self.options.clone())
    }
}

/// For each queue the host's processors of its thread; none for any.
fn queues(config: &DiskConfig) -> Vec<Vec<usize>> {
    let mut queues = vec![Vec::new(); usize::from(config.num_queues).clamp(1, MAX_QUEUES)];
    for affinity in &config.queue_affinity {
        if let Some(queue) = queues.get_mut(usize::from(affinity.queue_index)) {
            queue.extend(affinity.host_cpus.iter().filter_map(|&cpu| usize::try_from(cpu).ok()));
        }
    }
    queues
}

#[cfg(test)]
mod tests {
    use devices::virtio::VirtioDevice;

    use super::*;

    fn image(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    fn config(file: &tempfile::NamedTempFile, json: &str) -> DiskConfig {
        let config: DiskConfig = serde_json::from_str(json).unwrap();
        DiskConfig { path: Some(file.path().into()), ..config }
    }

    #[test]
    fn disk_has_the_queues_that_were_asked_for_and_their_processors() {
        let file = image(1 << 20);
        let json =
            r#"{"num_queues":2,"queue_size":64,"queue_affinity":[{"queue_index":1,"host_cpus":[0,3]}]}"#;
        let config = config(&file, json);
        assert_eq!(queues(&config), [vec![], vec![0, 3]]);
        let disks = Disk::open_all(&[config], &BTreeMap::new(), &[]).unwrap();
        assert_eq!(disks[0].device().queue_sizes(), [64, 64]);
        assert_eq!(disks[0].id(), "_disk0");
    }

    #[test]
    fn disk_stays_locked_between_boots() {
        let file = image(1 << 20);
        let config = config(&file, "{}");
        let disks = Disk::open_all(std::slice::from_ref(&config), &BTreeMap::new(), &[]).unwrap();
        drop(disks[0].device());
        let error = Disk::open_all(std::slice::from_ref(&config), &BTreeMap::new(), &[]).err().unwrap();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("in use"), "{error}");
        let again = Disk::open_all(std::slice::from_ref(&config), &BTreeMap::new(), &disks).unwrap();
        assert!(Arc::ptr_eq(&again[0], &disks[0]), "what is open stays open");
        drop((disks, again));
        assert_eq!(Disk::open_all(&[config], &BTreeMap::new(), &[]).unwrap().len(), 1);
    }

    #[test]
    fn image_that_is_no_qcow2_is_refused_when_the_format_is_given() {
        let file = image(1 << 20);
        assert!(
            Disk::open_all(&[config(&file, r#"{"image_type":"Qcow2"}"#)], &BTreeMap::new(), &[]).is_err()
        );
    }
}
