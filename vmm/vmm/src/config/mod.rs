//! From files and the command line to a configuration that can be run. Its types are in crate `api`.

mod disk;
mod flags;
mod memory;
pub(crate) mod names;
mod options;
mod pmem;
mod realm;
mod resources;
mod sandbox;
mod unsupported;
mod validate;
mod vhost_user;

pub use flags::VmFlags;
pub use options::OptionsError;
pub use sandbox::ProcessBounds;
pub use validate::{ConfigError, from_file, hardware_address, personalization_value, validate};
