//! Images of QEMU's making, written by us and judged by QEMU.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use devices::virtio::blk::{BlockBackend, ImageFormat, ImageOptions, open_image};

const SIZE: usize = 8 << 20;

fn qemu_img(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").current_dir(directory).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("qemu-img, of Debian's package qemu-utils: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn open(path: &Path) -> Box<dyn BlockBackend> {
    let options = ImageOptions { format: ImageFormat::Qcow2, backing_files: true, ..ImageOptions::default() };
    open_image(path, &options).unwrap()
}

/// Writes, and zeroes; the content that must be there then.
fn work(disk: &dyn BlockBackend, mut content: Vec<u8>) -> Vec<u8> {
    let mut write = |offset: usize, data: &[u8]| {
        disk.write_at(offset as u64, data).unwrap();
        content[offset..offset + data.len()].copy_from_slice(data);
    };
    for step in 0..64_u8 {
        write(usize::from(step) * 99_840, &vec![step + 1; 3 * 512]);
    }
    write(4 << 20, &vec![0xaa; 1 << 20]);
    disk.write_zeroes(4 << 20, 1 << 18, true).unwrap();
    content[4 << 20..(4 << 20) + (1 << 18)].fill(0);
    disk.flush().unwrap();
    content
}

fn judge(directory: &Path, name: &str, expected: &[u8]) {
    let report = qemu_img(directory, &["check", name]);
    assert!(report.contains("No errors were found"), "{report}");
    qemu_img(directory, &["convert", "-O", "raw", name, "flat"]);
    assert!(std::fs::read(directory.join("flat")).unwrap() == expected, "{name}: QEMU reads something else");
}

#[test]
fn qemu_reads_back_what_was_written_to_its_images() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let size = SIZE.to_string();
    for (name, options) in [
        ("v3", "compat=1.1"),
        ("v2", "compat=0.10"),
        ("small_clusters", "compat=1.1,cluster_size=4096"),
        ("lazy", "compat=1.1,lazy_refcounts=on"),
    ] {
        qemu_img(directory, &["create", "-q", "-f", "qcow2", "-o", options, name, &size]);
        let disk = open(&directory.join(name));
        let mut expected = work(&*disk, vec![0; SIZE]);
        let grown = disk.grow(SIZE as u64 + (1 << 20));
        // Nothing in version 2 says that what is new reads as zeroes.
        assert_eq!(grown.is_ok(), name != "v2", "{grown:?}");
        if grown.is_ok() {
            expected.resize(SIZE + (1 << 20), 0);
        }
        drop(disk);
        judge(directory, name, &expected);
    }
}

#[test]
fn qemu_reads_an_overlay_that_was_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let base = vec![0x5a; SIZE];
    std::fs::write(directory.join("base"), &base).unwrap();
    qemu_img(directory, &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "overlay"]);
    let disk = open(&directory.join("overlay"));
    let expected = work(&*disk, base.clone());
    drop(disk);
    judge(directory, "overlay", &expected);
    assert!(std::fs::read(directory.join("base")).unwrap() == base, "nothing is written to the base");
}

#[test]
fn compressed_and_preallocated_images_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let content: Vec<u8> = (0..=255).cycle().take(SIZE / 4096).flat_map(|byte| [byte; 4096]).collect();
    std::fs::write(directory.join("source"), &content).unwrap();
    for (name, options) in [("packed", &["-c"][..]), ("full", &["-o", "preallocation=full"])] {
        let arguments = [&["convert", "-O", "qcow2"], options, &["source", name]].concat();
        qemu_img(directory, &arguments);
        let mut read = vec![0; SIZE];
        open(&directory.join(name)).read_at(0, &mut read).unwrap();
        assert!(read == content, "{name}");
    }
}
