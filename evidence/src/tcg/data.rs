//! What stands beside the digest of an event. Often only a description, which nothing proves: see [`super::Covers`].

use std::borrow::Cow;

use super::{Event, EventType};
use crate::reader::Reader;

const LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// The data of an event, as its type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventData<'a> {
    /// A UEFI variable (EV_EFI_VARIABLE_*).
    Variable(Variable<'a>),
    /// A program or driver (EV_EFI_BOOT_SERVICES_APPLICATION, _DRIVER, EV_EFI_RUNTIME_SERVICES_DRIVER).
    Image(Image<'a>),
    /// The end of a phase: 0 or 0xffff_ffff, and 1 for an error (EV_SEPARATOR).
    Separator(u32),
    /// Text (EV_EFI_ACTION, EV_ACTION, EV_POST_CODE and EV_POST_CODE2 with text).
    Text(&'a str),
    /// What GRUB measures of its commands and command lines (EV_IPL).
    Grub(GrubText<'a>),
    /// The name of a file that GRUB opened, of a variable of shim, or any other word of a boot loader (EV_IPL).
    Name(&'a [u8]),
    /// A tagged event, such as Linux's load options and initial RAM disk (EV_EVENT_TAG).
    Tagged {
        /// Who defines the content.
        id: u32,
        /// The content.
        content: &'a [u8],
    },
    /// The locality in which the TPM was started (EV_NO_ACTION).
    StartupLocality(u8),
    /// Anything else, and data that is not what the type promises.
    Other(&'a [u8]),
}

/// `UEFI_VARIABLE_DATA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// The vendor's GUID in the order of its bytes in memory.
    pub vendor: [u8; 16],
    /// The name.
    pub name: String,
    /// The value.
    pub value: &'a [u8],
}

impl Variable<'_> {
    /// `EFI_GLOBAL_VARIABLE`: vendor of SecureBoot, PK, KEK and the boot options.
    pub const GLOBAL: [u8; 16] =
        [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: vendor of db and dbx.
    pub const SECURITY_DATABASE: [u8; 16] =
        [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

    /// The data of an event about this variable.
    pub fn encode(&self) -> Vec<u8> {
        let name: Vec<u8> = self.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let size = |len: usize| u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes();
        [&self.vendor[..], &size(name.len() / 2), &size(self.value.len()), &name, self.value].concat()
    }
}

/// `UEFI_IMAGE_LOAD_EVENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Address in memory.
    pub location: u64,
    /// Bytes in memory.
    pub length: u64,
    /// Address for which it was linked.
    pub link_time_address: u64,
    /// UEFI device path.
    pub device_path: &'a [u8],
}

impl Image<'_> {
    /// The name of the file, from the last media file path of the device path.
    pub fn file(&self) -> Option<String> {
        let mut reader = Reader::new(self.device_path);
        let mut file = None;
        while let (Some(kind), Some(subtype), Some(length)) = (reader.u8(), reader.u8(), reader.u16()) {
            let content = reader.take(usize::from(length).checked_sub(4)?)?;
            match (kind, subtype) {
                (0x7f, _) => break,
                (0x04, 0x04) => file = Some(utf16(content)?.trim_end_matches('\0').to_owned()),
                _ => {}
            }
        }
        file
    }

    /// The data of an event about this image.
    pub fn encode(&self) -> Vec<u8> {
        let path = u64::try_from(self.device_path.len()).unwrap_or(u64::MAX);
        let words = [self.location, self.length, self.link_time_address, path];
        [&words.map(u64::to_le_bytes).concat()[..], self.device_path].concat()
    }
}

/// What GRUB measures as text: the part after the prefix, without the NUL at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrubText<'a> {
    /// A command of a configuration file, a menu entry or a shell.
    Command(&'a [u8]),
    /// The command line of the kernel.
    KernelCommandLine(&'a [u8]),
    /// The command line of a module, or of an initial RAM disk.
    ModuleCommandLine(&'a [u8]),
}

impl<'a> GrubText<'a> {
    /// Reads the data of an event of the type EV_IPL.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let text = data.strip_suffix(b"\0").unwrap_or(data);
        let after = |prefix: &[u8]| text.strip_prefix(prefix);
        None.or_else(|| after(b"grub_cmd: ").map(Self::Command))
            .or_else(|| after(b"kernel_cmdline: ").map(Self::KernelCommandLine))
            .or_else(|| after(b"module_cmdline: ").map(Self::ModuleCommandLine))
    }

    /// What is measured.
    pub fn measured(&self) -> &'a [u8] {
        match self {
            Self::Command(text) | Self::KernelCommandLine(text) | Self::ModuleCommandLine(text) => text,
        }
    }

    /// The data of the event.
    pub fn encode(&self) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::Command(_) => b"grub_cmd: ",
            Self::KernelCommandLine(_) => b"kernel_cmdline: ",
            Self::ModuleCommandLine(_) => b"module_cmdline: ",
        };
        [prefix, self.measured(), b"\0"].concat()
    }
}

impl Event<'_> {
    /// Reads the data as the type of the event says.
    pub fn decode_data(&self) -> EventData<'_> {
        let data = &*self.data;
        let decoded = match self.kind {
            EventType::EFI_VARIABLE_DRIVER_CONFIG
            | EventType::EFI_VARIABLE_BOOT
            | EventType::EFI_VARIABLE_BOOT2
            | EventType::EFI_VARIABLE_AUTHORITY => variable(data).map(EventData::Variable),
            EventType::EFI_BOOT_SERVICES_APPLICATION
            | EventType::EFI_BOOT_SERVICES_DRIVER
            | EventType::EFI_RUNTIME_SERVICES_DRIVER => image(data).map(EventData::Image),
            EventType::SEPARATOR => data.try_into().ok().map(u32::from_le_bytes).map(EventData::Separator),
            EventType::EFI_ACTION | EventType::ACTION | EventType::POST_CODE | EventType::POST_CODE2 => {
                printable(data).map(EventData::Text)
            }
            EventType::IPL => {
                Some(GrubText::decode(data).map_or_else(
                    || EventData::Name(data.strip_suffix(b"\0").unwrap_or(data)),
                    EventData::Grub,
                ))
            }
            EventType::EVENT_TAG => tagged(data),
            EventType::NO_ACTION => match data.strip_prefix(LOCALITY) {
                Some([locality]) => Some(EventData::StartupLocality(*locality)),
                _ => None,
            },
            _ => None,
        };
        decoded.unwrap_or(EventData::Other(data))
    }

    /// The data of a record about the locality in which the TPM was started.
    pub fn startup_locality(locality: u8) -> Cow<'static, [u8]> {
        Cow::Owned([&LOCALITY[..], &[locality]].concat())
    }
}

fn variable(data: &[u8]) -> Option<Variable<'_>> {
    let mut reader = Reader::new(data);
    let vendor = reader.take(16)?.try_into().ok()?;
    let name_length = usize::try_from(reader.u64()?).ok()?;
    let value_length = usize::try_from(reader.u64()?).ok()?;
    let name = utf16(reader.take(name_length.checked_mul(2)?)?)?;
    let value = reader.take(value_length)?;
    reader.is_empty().then_some(Variable { vendor, name, value })
}

fn image(data: &[u8]) -> Option<Image<'_>> {
    let mut reader = Reader::new(data);
    let (location, length, link_time_address) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let device_path = usize::try_from(reader.u64()?).ok()?;
    let device_path = reader.take(device_path)?;
    reader.is_empty().then_some(Image { location, length, link_time_address, device_path })
}

fn tagged(data: &[u8]) -> Option<EventData<'_>> {
    let mut reader = Reader::new(data);
    let id = reader.u32()?;
    let content = reader.sized()?;
    reader.is_empty().then_some(EventData::Tagged { id, content })
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    String::from_utf16(&units.iter().copied().map(u16::from_le_bytes).collect::<Vec<_>>()).ok()
}

fn printable(data: &[u8]) -> Option<&str> {
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')).then_some(text)
}
