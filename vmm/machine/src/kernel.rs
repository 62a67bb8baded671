//! Reads an arm64 Linux kernel in any form a distribution ships: plain `Image`, EFI zboot or gzip.
//!
//! Formats: `Documentation/arch/arm64/booting.rst` (Image header) and `drivers/firmware/efi/libstub/zboot-header.S`
//! of the Linux source.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

use crate::layout::PAGE_SIZE;

/// Largest kernel accepted after decompression, in bytes. Without it a file of some kilobytes can unpack to more
/// memory than the host has; distribution kernels are below 80 MiB.
pub const MAX_IMAGE_SIZE: usize = 256 << 20;

/// Largest memory the kernel may ask for beside its file (its BSS); the same bound, for the same reason.
const MAX_MEMORY_SIZE: u64 = MAX_IMAGE_SIZE as u64;

const IMAGE_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
const ZBOOT_MAGIC: (usize, &[u8]) = (4, b"zimg");
const GZIP_MAGIC: (usize, &[u8]) = (0, &[0x1f, 0x8b]);

/// Not a kernel that can be started; the message says what was found.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// None of the known magic numbers was found.
    #[error(
        "not an arm64 kernel: expected an Image (\"ARM\\x64\" at byte 56), an EFI zboot file (\"zimg\" at byte 4) or gzip"
    )]
    UnknownFormat,
    /// A compressed kernel held something other than an Image.
    #[error(
        "the {0} file does not hold an arm64 Image: expected \"ARM\\x64\" at byte 56 of the unpacked file"
    )]
    NotAnImageInside(Compression),
    /// The payload that the zboot header names lies outside the file.
    #[error("damaged EFI zboot file: payload at {offset:#x}, {size:#x} bytes, in a file of {file:#x} bytes")]
    ZbootPayload {
        /// Offset of the payload, from the header.
        offset: u32,
        /// Size of the payload, from the header.
        size: u32,
        /// Size of the file.
        file: usize,
    },
    /// The zboot payload uses a compression that is not supported.
    #[error(
        "EFI zboot file compressed with {0:?}; supported are \"gzip\" and \"zstd\": unpack the kernel first"
    )]
    UnknownCompression(String),
    /// The compressed data is damaged.
    #[error("cannot unpack the {compression} data of the kernel")]
    Unpack {
        /// How the kernel is compressed.
        compression: Compression,
        /// What the decompressor says.
        source: std::io::Error,
    },
    /// The kernel is larger than [`MAX_IMAGE_SIZE`].
    #[error("the kernel is larger than {MAX_IMAGE_SIZE:#x} bytes when unpacked")]
    TooLarge,
    /// The header's sizes cannot be true.
    #[error(
        "damaged Image header: text_offset {text_offset:#x}, image_size {image_size:#x} for a file of {file:#x} bytes"
    )]
    Header {
        /// Offset from a 2 MiB boundary at which the kernel wants to be.
        text_offset: u64,
        /// Memory that the kernel needs from its start.
        image_size: u64,
        /// Size of the Image file.
        file: usize,
    },
}

/// How a kernel file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// An unpacked arm64 kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct Kernel {
    image: Vec<u8>,
    text_offset: u64,
    memory_size: u64,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("image", &self.image.len())
            .field("text_offset", &self.text_offset)
            .field("memory_size", &self.memory_size)
            .finish()
    }
}

impl Kernel {
    /// Recognises and unpacks a kernel file; a plain Image is kept, not copied.
    ///
    /// # Errors
    /// [`KernelError`] when the file is no arm64 kernel, is damaged or is too large.
    pub fn load(file: Vec<u8>) -> Result<Self, KernelError> {
        if has(&file, IMAGE_MAGIC) {
            return Self::from_image(file);
        }
        let (compression, payload) = if has(&file, ZBOOT_MAGIC) {
            zboot_payload(&file)?
        } else if has(&file, GZIP_MAGIC) {
            (Compression::Gzip, file.as_slice())
        } else {
            return Err(KernelError::UnknownFormat);
        };
        let image = unpack(compression, payload)?;
        if !has(&image, IMAGE_MAGIC) {
            return Err(KernelError::NotAnImageInside(compression));
        }
        Self::from_image(image)
    }

    fn from_image(image: Vec<u8>) -> Result<Self, KernelError> {
        let file = image.len();
        if file > MAX_IMAGE_SIZE {
            return Err(KernelError::TooLarge);
        }
        let (Some(text_offset), Some(image_size)) = (le_u64(&image, 8), le_u64(&image, 16)) else {
            return Err(KernelError::UnknownFormat);
        };
        let damaged = KernelError::Header { text_offset, image_size, file };
        // A zero image_size means Linux before 3.17, which knows nothing of what this VMM offers.
        if image_size == 0 || image_size > MAX_MEMORY_SIZE {
            return Err(damaged);
        }
        if text_offset > MAX_MEMORY_SIZE || !text_offset.is_multiple_of(PAGE_SIZE) {
            return Err(damaged);
        }
        // A signed Image carries its signature after the memory it asks for.
        let memory_size = image_size.max(file as u64);
        Ok(Self { image, text_offset, memory_size })
    }

    /// The unpacked Image.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// Gives the unpacked Image away without copying it.
    pub fn into_image(self) -> Vec<u8> {
        self.image
    }

    /// Offset in bytes from a 2 MiB boundary at which the kernel wants to be.
    pub fn text_offset(&self) -> u64 {
        self.text_offset
    }

    /// Bytes of memory that the kernel needs from its start: the Image and what follows it (BSS).
    pub fn memory_size(&self) -> u64 {
        self.memory_size
    }
}

fn has(file: &[u8], (offset, magic): (usize, &[u8])) -> bool {
    file.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

fn le_u64(file: &[u8], offset: usize) -> Option<u64> {
    file.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn le_u32(file: &[u8], offset: usize) -> Option<u32> {
    file.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn zboot_payload(file: &[u8]) -> Result<(Compression, &[u8]), KernelError> {
    let (Some(offset), Some(size), Some(name)) = (le_u32(file, 8), le_u32(file, 12), file.get(24..56)) else {
        return Err(KernelError::UnknownFormat);
    };
    let start = usize::try_from(offset).ok();
    let end = offset.checked_add(size).and_then(|end| usize::try_from(end).ok());
    let payload = start
        .zip(end)
        .and_then(|(start, end)| file.get(start..end))
        .ok_or(KernelError::ZbootPayload { offset, size, file: file.len() })?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    match name {
        b"gzip" => Ok((Compression::Gzip, payload)),
        b"zstd" => Ok((Compression::Zstd, payload)),
        other => Err(KernelError::UnknownCompression(String::from_utf8_lossy(other).into_owned())),
    }
}

fn unpack(compression: Compression, payload: &[u8]) -> Result<Vec<u8>, KernelError> {
    let failed = |source| KernelError::Unpack { compression, source };
    let mut image = Vec::new();
    let complete = match compression {
        Compression::Gzip => read_bounded(flate2::read::GzDecoder::new(payload), &mut image),
        Compression::Zstd => unpack_zstd(payload, &mut image),
    };
    complete.map_err(failed)?;
    if image.len() > MAX_IMAGE_SIZE {
        return Err(KernelError::TooLarge);
    }
    Ok(image)
}

fn unpack_zstd(payload: &[u8], image: &mut Vec<u8>) -> std::io::Result<()> {
    let mut decoder = StreamingDecoder::new_with_max_window_size(payload, MAX_IMAGE_SIZE as u64)
        .map_err(std::io::Error::other)?;
    read_bounded(&mut decoder, image)?;
    let stored = decoder.decoder.get_checksum_from_data();
    if stored.is_some() && stored != decoder.decoder.get_calculated_checksum() {
        return Err(std::io::Error::other("the checksum of the unpacked data does not match"));
    }
    Ok(())
}

/// Reads at most one byte more than allowed, so that the caller can tell a full image from a larger one.
fn read_bounded(reader: impl Read, image: &mut Vec<u8>) -> std::io::Result<()> {
    reader.take(MAX_IMAGE_SIZE as u64 + 1).read_to_end(image).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image(text_offset: u64, image_size: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0x5a; len];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zboot(compression: &str, payload: &[u8]) -> Vec<u8> {
        let mut file = b"MZ\0\0zimg".to_vec();
        file.extend(64u32.to_le_bytes());
        file.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        file.resize(24, 0);
        file.extend(compression.as_bytes());
        file.resize(64, 0);
        file.extend(payload);
        file.extend([0xee; 7]);
        file
    }

    #[test]
    fn every_packaging_yields_the_same_kernel() {
        let plain = image(0x8_0000, 0x30_0000, 0x1_0123);
        let kernel = Kernel::load(plain.clone()).unwrap();
        assert_eq!((kernel.text_offset(), kernel.memory_size()), (0x8_0000, 0x30_0000));
        assert_eq!(kernel.image(), plain);
        assert_eq!(Kernel::load(gzip(&plain)).unwrap(), kernel);
        assert_eq!(Kernel::load(zboot("gzip", &gzip(&plain))).unwrap(), kernel);
        let zstd = zstd::encode_all(plain.as_slice(), 19).unwrap();
        assert_eq!(Kernel::load(zboot("zstd", &zstd)).unwrap(), kernel);
    }

    #[test]
    fn keeps_the_memory_of_a_plain_image() {
        let plain = image(0, 0x10_0000, 0x1000);
        let address = plain.as_ptr();
        let kept = Kernel::load(plain).unwrap().into_image();
        assert_eq!(kept.as_ptr(), address);
    }

    #[test]
    fn reserves_room_for_a_signature_behind_the_image() {
        assert_eq!(Kernel::load(image(0, 0x1000, 0x1800)).unwrap().memory_size(), 0x1800);
    }

    #[test]
    fn refuses_what_is_no_kernel() {
        for file in [Vec::new(), vec![0; 64], b"MZ".to_vec(), b"\x7fELF".to_vec()] {
            assert!(matches!(Kernel::load(file), Err(KernelError::UnknownFormat)));
        }
        let inside = Kernel::load(gzip(b"not a kernel")).unwrap_err();
        assert!(matches!(inside, KernelError::NotAnImageInside(Compression::Gzip)));
        let twice = gzip(&gzip(&image(0, 0x1000, 0x1000)));
        assert!(matches!(Kernel::load(twice), Err(KernelError::NotAnImageInside(_))));
    }

    #[test]
    fn names_a_compression_it_cannot_unpack() {
        let error = Kernel::load(zboot("xzkern", b"x")).unwrap_err();
        assert!(matches!(&error, KernelError::UnknownCompression(name) if name == "xzkern"), "{error}");
    }

    #[test]
    fn refuses_a_zboot_payload_outside_the_file() {
        for (field, value) in [(8, u32::MAX), (12, u32::MAX), (12, 0x1000), (8, 0x1000)] {
            let mut file = zboot("gzip", &gzip(b"x"));
            file[field..field + 4].copy_from_slice(&value.to_le_bytes());
            assert!(matches!(Kernel::load(file), Err(KernelError::ZbootPayload { .. })));
        }
        let mut cut = zboot("gzip", b"");
        cut.truncate(40);
        assert!(matches!(Kernel::load(cut), Err(KernelError::UnknownFormat)));
    }

    #[test]
    fn refuses_damaged_or_cut_compressed_data() {
        let plain = image(0, 0x30_0000, 0x8000);
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&plain).unwrap();
        let zstd = encoder.finish().unwrap();
        for (name, mut payload) in [("gzip", gzip(&plain)), ("zstd", zstd)] {
            let cut = zboot(name, &payload[..payload.len() - 12]);
            assert!(matches!(Kernel::load(cut), Err(KernelError::Unpack { .. })), "{name} cut");
            // In both formats this byte belongs to the checksum of the unpacked data, or to what it covers.
            let near_end = payload.len() - if name == "gzip" { 5 } else { 1 };
            payload[near_end] ^= 0xff;
            assert!(matches!(Kernel::load(zboot(name, &payload)), Err(KernelError::Unpack { .. })), "{name}");
        }
    }

    #[test]
    fn refuses_a_kernel_that_unpacks_to_more_than_the_bound() {
        let zeros = vec![0; MAX_IMAGE_SIZE + 1];
        assert!(matches!(Kernel::load(gzip(&zeros)), Err(KernelError::TooLarge)));
        let zstd = zstd::encode_all(zeros.as_slice(), 1).unwrap();
        assert!(matches!(Kernel::load(zboot("zstd", &zstd)), Err(KernelError::TooLarge)));
        let plain = image(0, 0x1000, MAX_IMAGE_SIZE + 1);
        assert!(matches!(Kernel::load(plain), Err(KernelError::TooLarge)));
    }

    #[test]
    fn refuses_sizes_that_cannot_be_true() {
        for (text_offset, image_size) in
            [(0, 0), (0, u64::MAX), (0, MAX_MEMORY_SIZE + 1), (0x800, 0x1000), (!0xfff, 0x1000)]
        {
            let error = Kernel::load(image(text_offset, image_size, 0x1000)).unwrap_err();
            assert!(matches!(error, KernelError::Header { .. }), "{text_offset:#x} {image_size:#x}");
        }
    }
}
