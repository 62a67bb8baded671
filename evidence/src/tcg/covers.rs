//! Whether the digest of an event is a digest of the data beside it.
//!
//! Only then is the data true once the registers are. The rules are those of the PC Client Platform Firmware Profile
//! (table of events), of UEFI firmware where the profile lets it choose, and of GRUB. Every other event is an image, a
//! table or a file, of which the log has only a description by whoever wrote the log.

use super::{Event, EventData, EventType};
use crate::bank::Bank;

/// What the digest of an event covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// All of the data.
    Data,
    /// The value of the variable, but not its name.
    VariableValue,
    /// GRUB's text without its prefix, so that a command and a command line with one text are alike.
    GrubText,
    /// Something that is not in the log: the data only describes it.
    Other,
}

impl Event<'_> {
    /// What the digest of `bank` covers; `None` if the type of the event demands that it covers data of the event, and it does
    /// not, or if there is no such digest. Then the log was made up, or the type was.
    pub fn covers(&self, bank: Bank) -> Option<Covers> {
        let digest = self.digest(bank)?;
        let is_of = |measured: &[u8]| bank.hash([measured]).as_bytes() == digest;
        let whole = || is_of(&self.data).then_some(Covers::Data);
        match (self.kind, self.decode_data()) {
            (
                EventType::EFI_VARIABLE_DRIVER_CONFIG
                | EventType::EFI_VARIABLE_BOOT2
                | EventType::EFI_VARIABLE_AUTHORITY,
                EventData::Variable(_),
            )
            | (
                EventType::SEPARATOR
                | EventType::ACTION
                | EventType::EFI_ACTION
                | EventType::S_CRTM_VERSION
                | EventType::OMIT_BOOT_DEVICE_EVENTS
                | EventType::EFI_GPT_EVENT
                | EventType::EFI_GPT_EVENT2
                | EventType::EFI_SPDM_DEVICE_POLICY
                | EventType::EFI_SPDM_DEVICE_AUTHORITY,
                _,
            ) => whole(),
            // The profile says all of it; firmware made of EDK II measures the value.
            (EventType::EFI_VARIABLE_BOOT, EventData::Variable(variable)) => {
                is_of(variable.value).then_some(Covers::VariableValue).or_else(whole)
            }
            (EventType::IPL, EventData::Grub(text)) => is_of(text.measured()).then_some(Covers::GrubText),
            // A variable whose data is not one.
            (
                EventType::EFI_VARIABLE_DRIVER_CONFIG
                | EventType::EFI_VARIABLE_BOOT
                | EventType::EFI_VARIABLE_BOOT2
                | EventType::EFI_VARIABLE_AUTHORITY,
                _,
            ) => None,
            // Some boot loaders measure the tagged structure, Linux what is behind it.
            (EventType::EVENT_TAG, _) => Some(whole().unwrap_or(Covers::Other)),
            _ => Some(Covers::Other),
        }
    }
}
