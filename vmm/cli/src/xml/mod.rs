//! Domain XML: a documented subset of libvirt's, both ways and without loss.
//!
//! What the subset has no word for is said by `<redoubt:set>`, so that every configuration has an XML form and the
//! form means the same configuration. The subset is listed in `docs/domain-xml.md`.

mod error;
mod node;
mod overlay;
mod read;
mod tree;
pub(crate) mod units;
mod write;

#[cfg(test)]
mod tests;

use crate::domain::Domain;
use api::config::{DiskConfig, FsConfig, NetConfig, PmemConfig, VsockConfig};

pub use error::XmlError;

/// Namespace of what is ours.
const NAMESPACE: &str = "urn:redoubt:domain:1";

/// Realm back-ends: the type in XML, and the name in JSON. `cvm` is what openEuler's libvirt calls virtCCA.
const BACKENDS: [(&str, &str); 3] = [("cca", "cca"), ("cvm", "virtcca"), ("soft", "soft")];

/// What a document said, and what of it was passed over.
#[derive(Debug)]
pub struct Lenient<T> {
    /// What it said.
    pub value: T,
    /// Paths of elements and attributes that were passed over.
    pub ignored: Vec<String>,
}

/// A device that can be plugged in while the VM runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// `<disk>`.
    Disk(DiskConfig),
    /// `<interface>`.
    Net(NetConfig),
    /// `<filesystem>`.
    Fs(FsConfig),
    /// `<memory model='nvdimm'>`.
    Pmem(PmemConfig),
    /// `<vsock>`.
    Vsock(VsockConfig),
}

/// Reads a domain.
///
/// # Errors
///
/// [`XmlError`] that names the path: also for an element or attribute that the subset does not have.
pub fn parse(text: &str) -> Result<Domain, XmlError> {
    read::document(text, false, read::domain).map(|found| found.value)
}

/// Reads a domain, passing over elements and attributes that the subset does not have.
///
/// # Errors
///
/// [`XmlError`] that names the path.
pub fn parse_lenient(text: &str) -> Result<Lenient<Domain>, XmlError> {
    read::document(text, true, read::domain)
}

/// Reads a single device.
///
/// # Errors
///
/// [`XmlError`] that names the path.
pub fn parse_device(text: &str) -> Result<Device, XmlError> {
    read::document(text, false, read::device).map(|found| found.value)
}

/// Writes a domain.
///
/// # Errors
///
/// [`XmlError::Character`] for text that XML cannot hold.
pub fn print(domain: &Domain) -> Result<String, XmlError> {
    write::domain(domain)
}
