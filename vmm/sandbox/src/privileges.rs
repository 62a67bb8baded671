//! Privileges: capabilities, and what a program that is executed could gain.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::Error;

/// Gives up all capabilities of the calling thread, for good: it can gain none by executing a program.
///
/// # Errors
///
/// [`Error::Privileges`].
pub fn drop_privileges() -> Result<(), Error> {
    let failed = |action| move |source: Errno| Error::Privileges { action, source: io::Error::from(source) };
    set_no_new_privs(true).map_err(failed("forbid new ones"))?;
    let now = capabilities(None).map_err(failed("read the capabilities"))?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        clear_bounding_set().map_err(failed("clear the bounding set"))?;
    }
    let empty = CapabilitySet::empty();
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    // Ambient ones go with the permitted ones (capabilities(7)).
    set_capabilities(None, none).map_err(failed("drop the capabilities"))
}

/// Only a thread with CAP_SETPCAP can do it. For the others it changes nothing: they execute no program, and could
/// gain nothing by it.
fn clear_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
