//! Any file as a qcow2 image: an error that names it, or a disk that reads, writes, discards and grows without a panic.

#![no_main]

use std::fs;

use devices::virtio::blk::{ImageFormat, ImageOptions, open_image};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("image");
    fs::write(&path, data).expect("a file");
    for format in [ImageFormat::Qcow2, ImageFormat::Probe] {
        let options = ImageOptions { format, ..ImageOptions::default() };
        let Ok(disk) = open_image(&path, &options) else { continue };
        let size = disk.size();
        let mut sector = [0; 512];
        for offset in [0, 65536, (size / 2) & !511, size.saturating_sub(512)] {
            if offset.checked_add(512).is_some_and(|end| end <= size) {
                let _ = disk.read_at(offset, &mut sector);
                let _ = disk.write_at(offset, &[7; 512]);
                let _ = disk.discard(offset, 512);
                let _ = disk.write_zeroes(offset, 512, true);
            }
        }
        let _ = disk.flush();
    }
});
