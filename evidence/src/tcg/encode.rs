//! From an [`EventLog`] to bytes, and logs made event by event.

use std::borrow::Cow;

use super::decode::SPEC_ID;
use super::{Event, EventDigest, EventLog, EventType, Header};
use crate::bank::Bank;

impl<'a> EventLog<'a> {
    /// An empty crypto-agile log whose events carry a digest for each of `banks`. `register` is 0 for a TPM and 1 for a
    /// CCEL.
    pub fn crypto_agile(register: u32, banks: &[Bank]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
        let algorithms = banks.iter().map(|bank| (bank.tcg(), bank.len() as u16)).collect();
        let header = Header {
            register,
            platform_class: 0,
            version: [0, 2, 106],
            uintn_size: 2,
            algorithms,
            vendor_info: Cow::Borrowed(&[]),
        };
        Self { header: Some(header), events: Vec::new() }
    }

    /// An empty log of the older form, with SHA-1 only.
    pub fn sha1() -> Self {
        Self { header: None, events: Vec::new() }
    }

    /// Adds an event: `measured` was hashed, `data` is written beside the digests.
    pub fn measure(
        &mut self,
        register: u32,
        kind: EventType,
        measured: &[u8],
        data: impl Into<Cow<'a, [u8]>>,
    ) {
        let digests = self.digests(|bank| bank.hash([measured]).as_bytes().to_vec());
        self.events.push(Event { register, kind, digests, data: data.into() });
    }

    /// Adds a record that extends nothing (EV_NO_ACTION).
    pub fn remark(&mut self, register: u32, data: impl Into<Cow<'a, [u8]>>) {
        let digests = self.digests(|bank| vec![0; bank.len()]);
        self.events.push(Event { register, kind: EventType::NO_ACTION, digests, data: data.into() });
    }

    /// Writes the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(header) = &self.header {
            let data = header.encode();
            put(&mut bytes, &[&header.register.to_le_bytes(), &EventType::NO_ACTION.0.to_le_bytes()]);
            put(&mut bytes, &[&[0; 20], &length(&data), &data]);
        }
        for event in &self.events {
            put(&mut bytes, &[&event.register.to_le_bytes(), &event.kind.0.to_le_bytes()]);
            if self.header.is_some() {
                put(&mut bytes, &[&length(&event.digests)]);
            }
            for digest in &event.digests {
                if self.header.is_some() {
                    put(&mut bytes, &[&digest.algorithm.to_le_bytes()]);
                }
                put(&mut bytes, &[&digest.value]);
            }
            put(&mut bytes, &[&length(&event.data), &event.data]);
        }
        bytes
    }

    /// Writes the log as firmware leaves it in the area of a CCEL: `size` bytes, the rest 0xff.
    pub fn encode_area(&self, size: usize) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.resize(size.max(bytes.len()), 0xff);
        bytes
    }

    fn digests(&self, value: impl Fn(Bank) -> Vec<u8>) -> Vec<EventDigest<'a>> {
        let declared = self.header.as_ref().map_or(&[(0x04, 20)][..], |header| &header.algorithms);
        let banks = declared.iter().filter_map(|(algorithm, _)| Bank::from_tcg(*algorithm));
        banks.map(|bank| EventDigest { algorithm: bank.tcg(), value: Cow::Owned(value(bank)) }).collect()
    }
}

impl Header<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = SPEC_ID.to_vec();
        put(&mut bytes, &[&self.platform_class.to_le_bytes(), &self.version, &[self.uintn_size]]);
        put(&mut bytes, &[&length(&self.algorithms)]);
        for (algorithm, size) in &self.algorithms {
            put(&mut bytes, &[&algorithm.to_le_bytes(), &size.to_le_bytes()]);
        }
        // The length of the vendor's part is one byte.
        let vendor = self.vendor_info.get(..255).unwrap_or(&self.vendor_info);
        #[expect(clippy::cast_possible_truncation, reason = "at most 255")]
        put(&mut bytes, &[&[vendor.len() as u8], vendor]);
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

/// A length as logs write it; more than 4 GiB would not fit into a log anyway.
fn length<T>(items: &[T]) -> [u8; 4] {
    u32::try_from(items.len()).unwrap_or(u32::MAX).to_le_bytes()
}
