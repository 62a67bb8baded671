//! A network interface of the VM: a tap device of the host, and what the guest is told of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use api::config::NetConfig;
use devices::virtio::net::{GuestOffloads, Net, NetBackend, NetConfig as DeviceConfig};
use rand::RngExt;
use tap::{Address, Offloads, Tap};

use crate::Error;
use crate::config::hardware_address;
use crate::rate_limit::limits;

/// The other end of a network interface.
pub struct Interface {
    id: String,
    config: NetConfig,
    backend: Arc<TapBackend>,
    device: DeviceConfig,
}

impl Interface {
    /// The tap devices in the order of the configuration: those of `open` that have the same configuration, and new ones. To
    /// open a tap device by its name may take `CAP_NET_ADMIN`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Tap`].
    pub fn open_all(configs: &[NetConfig], open: &[Arc<Self>]) -> Result<Vec<Arc<Self>>, Error> {
        let interface = |(index, config): (usize, &NetConfig)| {
            let known = open.iter().find(|interface| interface.config == *config);
            known.map_or_else(|| Self::open(index, config).map(Arc::new), |known| Ok(Arc::clone(known)))
        };
        configs.iter().filter(|config| !config.vhost_user).enumerate().map(interface).collect()
    }

    /// Opens the tap device that `config` names, or takes the descriptors that came with it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Tap`].
    fn open(index: usize, config: &NetConfig) -> Result<Self, Error> {
        let id = config.id.clone().unwrap_or_else(|| format!("_net{index}"));
        let unusable = |source| Error::Tap { id: id.clone(), source };
        let pairs = usize::from(config.num_queues / 2);
        let tap = if config.fds.is_empty() {
            let tap = Tap::open(config.tap.as_deref().unwrap_or_default(), pairs).map_err(unusable)?;
            tap.configure(&Address {
                ip: config.ip.zip(config.mask),
                mac: config
                    .host_mac
                    .as_deref()
                    .map(|text| hardware_address("net.host_mac", text))
                    .transpose()?,
                mtu: config.mtu,
            })
            .map_err(unusable)?;
            tap
        } else {
            Tap::adopt(&config.fds).map_err(unusable)?
        };
        tracing::info!(id, tap = tap.name(), pairs, "network interface");
        let device = device_config(config)?;
        Ok(Self { id, config: config.clone(), backend: Arc::new(TapBackend(tap)), device })
    }

    /// Name of the interface.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A device for one boot of the VM.
    pub fn device(&self) -> Net {
        Net::new(Arc::clone(&self.backend) as _, &self.device)
    }
}

/// What the guest is told of the interface; without an address in `config`, it gets a random one.
///
/// # Errors
///
/// [`Error::Config`].
pub fn device_config(config: &NetConfig) -> Result<DeviceConfig, Error> {
    Ok(DeviceConfig {
        mac: match &config.mac {
            Some(text) => hardware_address("net.mac", text)?,
            None => random_address(),
        },
        mtu: config.mtu,
        pairs: usize::from(config.num_queues / 2),
        queue_size: config.queue_size,
        checksum: config.offload_csum,
        tso: config.offload_tso,
        ufo: config.offload_ufo,
        limits: config.rate_limiter_config.as_ref().map(limits).unwrap_or_default(),
    })
}

/// A hardware address that is locally administered and of one station (IEEE 802).
fn random_address() -> [u8; 6] {
    let mut address: [u8; 6] = rand::rng().random();
    address[0] = address[0] & 0xfc | 0x02;
    address
}

#[derive(Debug)]
struct TapBackend(Tap);

impl NetBackend for TapBackend {
    fn queue(&self, pair: usize) -> Option<BorrowedFd<'_>> {
        self.0.queue(pair)
    }

    fn set_offloads(&self, offloads: GuestOffloads) -> io::Result<()> {
        let GuestOffloads { checksum, tso4, tso6, ecn, ufo } = offloads;
        self.0.set_offloads(Offloads { checksum, tso4, tso6, ecn, ufo }).map_err(io::Error::other)
    }

    fn use_pairs(&self, count: usize) -> io::Result<()> {
        self.0.use_queues(count).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_address_is_locally_administered_and_not_a_group() {
        for _ in 0..64 {
            assert_eq!(random_address()[0] & 3, 2);
        }
    }
}
