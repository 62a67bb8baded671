//! Devices that servers in other processes have: directories, disks and network interfaces.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, NetConfig, VhostMode};
use devices::virtio::DeviceHost;
use devices::virtio::vhost_user::{Server, Service, VhostUser};
use vm_memory::GuestMemoryMmap;

use crate::Error;
use crate::interface::device_config;

/// The connection to a server, which stays from one boot to the next: many servers end with it.
pub struct Served {
    config: ServedConfig,
    server: Arc<Server>,
}

/// The part of the configuration that describes it.
#[derive(Clone, PartialEq)]
enum ServedConfig {
    Fs(FsConfig),
    Disk(DiskConfig),
    Net(NetConfig),
}

impl ServedConfig {
    fn id(&self) -> Option<&str> {
        match self {
            Self::Fs(fs) => fs.id.as_deref(),
            Self::Disk(disk) => disk.id.as_deref(),
            Self::Net(net) => net.id.as_deref(),
        }
    }

    /// Field and path of the socket.
    fn socket(&self) -> (&'static str, &Path) {
        match self {
            Self::Fs(fs) => ("fs.socket", &fs.socket),
            Self::Disk(disk) => ("disks.vhost_socket", or_none(disk.vhost_socket.as_ref())),
            Self::Net(net) => ("net.vhost_socket", or_none(net.vhost_socket.as_ref())),
        }
    }

    fn service(&self) -> Result<Service, Error> {
        Ok(match self {
            Self::Fs(FsConfig { tag, num_queues, queue_size, .. }) => {
                Service::Fs { tag: tag.clone(), queues: *num_queues, queue_size: *queue_size }
            }
            Self::Disk(DiskConfig { num_queues, queue_size, .. }) => {
                Service::Block { queues: *num_queues, queue_size: *queue_size }
            }
            Self::Net(net) => Service::Net(device_config(net)?),
        })
    }
}

/// A path that validation has made sure of.
fn or_none(path: Option<&PathBuf>) -> &Path {
    path.map_or_else(|| Path::new(""), PathBuf::as_path)
}

impl Served {
    /// Meets all servers that `config` names, unless they are among those of `open`. Threads that watch over them ask
    /// `host` first.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Device`].
    pub fn open_all(
        config: &VmConfig,
        open: &[Arc<Self>],
        host: &Arc<dyn DeviceHost>,
    ) -> Result<Vec<Arc<Self>>, Error> {
        let disks = config.disks.iter().filter(|disk| disk.vhost_user).cloned().map(ServedConfig::Disk);
        let nets = config.net.iter().filter(|net| net.vhost_user).cloned().map(ServedConfig::Net);
        let directories = config.fs.iter().cloned().map(ServedConfig::Fs);
        let served = |config: ServedConfig| {
            let known = open.iter().find(|served| served.config == config);
            known.map_or_else(|| Self::open(config, host).map(Arc::new), |known| Ok(Arc::clone(known)))
        };
        disks.chain(nets).chain(directories).map(served).collect()
    }

    fn open(config: ServedConfig, host: &Arc<dyn DeviceHost>) -> Result<Self, Error> {
        let (field, socket) = config.socket();
        let comes = matches!(&config, ServedConfig::Net(net) if net.vhost_mode == VhostMode::Server);
        let meet = if comes { Server::listen } else { Server::connect };
        let server = meet(socket, config.service()?, host).map_err(|source| Error::Device {
            field,
            path: socket.into(),
            source: source.into(),
        })?;
        tracing::info!(id = config.id(), socket = %socket.display(), "vhost-user server");
        Ok(Self { server: Arc::new(server), config })
    }

    /// Name of the device.
    pub fn id(&self) -> &str {
        self.config.id().unwrap_or_default()
    }

    /// A device for one boot of the VM, whose server gets to see `memory`.
    pub fn device(&self, memory: Arc<GuestMemoryMmap>) -> VhostUser {
        VhostUser::new(Arc::clone(&self.server), memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_is_not_there_is_named_with_its_field() {
        let config: VmConfig = serde_json::from_str(
            r#"{"payload":{"kernel":"/k"},"fs":[{"id":"home","tag":"home","socket":"/nonexistent/socket"}]}"#,
        )
        .unwrap();
        let error =
            Served::open_all(&config, &[], &(Arc::new(devices::virtio::NoDeviceHost) as _)).err().unwrap();
        assert!(error.to_string().contains("fs.socket: /nonexistent/socket"), "{error}");
    }
}
