//! A guest with a disk.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Block, BlockOptions, RawFile};
use crate::testing::{Buffer, Driver, Machine};
use crate::virtio::VirtioPci;

pub(super) const IN: u32 = 0;
pub(super) const OUT: u32 = 1;
pub(super) const FLUSH: u32 = 4;
pub(super) const GET_ID: u32 = 8;
pub(super) const DISCARD: u32 = 11;
pub(super) const WRITE_ZEROES: u32 = 13;
pub(super) const OK: u8 = 0;
pub(super) const IOERR: u8 = 1;
pub(super) const UNSUPP: u8 = 2;

pub(super) const ALL: u64 = u64::MAX;
pub(super) const SECTORS: usize = 64;

pub(super) struct Guest {
    pub(super) driver: Driver,
    pub(super) image: PathBuf,
    pub(super) transport: Arc<VirtioPci>,
    _machine: Machine,
    _directory: tempfile::TempDir,
}

impl Guest {
    /// A guest with a disk whose sectors are filled with their numbers.
    pub(super) fn with_disk(read_only: bool) -> Self {
        Self::on(Machine::plain(), read_only, |disk| Block::new(Box::new(disk), "redoubt-root-disk-0001"))
    }

    /// The same, with several requests under way at once.
    pub(super) fn asynchronous(machine: Machine, queue_size: u16) -> Self {
        Self::on(machine, false, |disk| {
            let options = BlockOptions { io_uring: true, queue_size, ..BlockOptions::default() };
            let block = Block::with_options(Box::new(disk), options);
            assert!(block.is_asynchronous(), "this machine has no io_uring");
            block
        })
    }

    pub(super) fn on(machine: Machine, read_only: bool, block: impl FnOnce(RawFile) -> Block) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.raw");
        let content: Vec<u8> = (0..SECTORS * 512).map(|at| u8::try_from(at / 512).unwrap()).collect();
        std::fs::write(&image, content).unwrap();
        let disk = RawFile::open(&image, read_only).unwrap();
        Self::with_image(machine, block(disk), image, directory)
    }

    pub(super) fn with_image(
        machine: Machine,
        block: Block,
        image: PathBuf,
        directory: tempfile::TempDir,
    ) -> Self {
        let (mut driver, transport) = machine.plug_and_keep(block);
        driver.start(ALL);
        Self { driver, transport, image, _machine: machine, _directory: directory }
    }

    pub(super) fn header(&mut self, kind: u32, sector: u64) -> Buffer {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.driver.buffer(&header)
    }

    /// One request; its status and the length that the device reports.
    pub(super) fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        let (header, status) = (self.header(kind, sector), self.driver.room(1));
        let chain: Vec<Buffer> = [&[header], data, &[status]].concat();
        let len = self.driver.request(0, &chain);
        (self.driver.content(status)[0], len)
    }

    pub(super) fn range(&mut self, sector: u64, sectors: u32, flags: u32) -> Buffer {
        let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        self.driver.buffer(&range)
    }

    pub(super) fn image(&self) -> Vec<u8> {
        std::fs::read(&self.image).unwrap()
    }
}
