//! From bytes to an [`EventLog`].

use std::borrow::Cow;

use super::{
    Event, EventDigest, EventLog, EventType, Header, LogError, MAX_ALGORITHMS, MAX_EVENT_SIZE, MAX_LOG_SIZE,
    MAX_REGISTER,
};
use crate::bank::Bank;
use crate::reader::Reader;

pub(super) const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";

impl<'a> EventLog<'a> {
    /// Reads a log. It may be followed by 0xff or by zeros, which is how the area of a CCEL ends.
    ///
    /// # Errors
    /// Anything that is not a log, or is larger than logs are.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG_SIZE {
            return Err(LogError::TooLarge { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        if is_padding(reader.rest()) {
            return Err(LogError::Empty);
        }
        let first = sha1_record(&mut reader)?;
        let header = if first.kind == EventType::NO_ACTION && first.data.starts_with(SPEC_ID) {
            Some(header(&first)?)
        } else {
            reader = Reader::new(bytes);
            None
        };
        let mut events = Vec::new();
        while !is_padding(reader.rest()) {
            events.push(match &header {
                Some(header) => agile_record(&mut reader, &header.algorithms)?,
                None => sha1_record(&mut reader)?,
            });
        }
        Ok(Self { header, events })
    }
}

/// Whether nothing follows. Firmware fills the area of a CCEL with 0xff before the first event. All of the rest is looked
/// at, so that nothing can be hidden behind a few such bytes.
fn is_padding(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0xff) || rest.iter().all(|byte| *byte == 0)
}

/// `TCG_PCR_EVENT`: register, type, SHA-1 digest, data.
fn sha1_record<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, LogError> {
    let offset = reader.offset();
    let truncated = |part| LogError::Truncated { offset, part };
    let register = reader.u32().ok_or(truncated("register"))?;
    let kind = EventType(reader.u32().ok_or(truncated("type"))?);
    let digest = reader.take(Bank::Sha1.len()).ok_or(truncated("digest"))?;
    let digests = vec![EventDigest { algorithm: Bank::Sha1.tcg(), value: Cow::Borrowed(digest) }];
    finish(reader, offset, register, kind, digests)
}

/// `TCG_PCR_EVENT2` or `CC_EVENT`: register, type, digests, data.
fn agile_record<'a>(reader: &mut Reader<'a>, algorithms: &[(u16, u16)]) -> Result<Event<'a>, LogError> {
    let offset = reader.offset();
    let truncated = |part| LogError::Truncated { offset, part };
    let register = reader.u32().ok_or(truncated("register"))?;
    let kind = EventType(reader.u32().ok_or(truncated("type"))?);
    let found = reader.u32().ok_or(truncated("number of digests"))?;
    let count = usize::try_from(found).unwrap_or(usize::MAX);
    if !(1..=MAX_ALGORITHMS).contains(&count) {
        return Err(LogError::DigestCount { offset, found });
    }
    let mut digests: Vec<EventDigest<'a>> = Vec::with_capacity(count);
    for _ in 0..count {
        let algorithm = reader.u16().ok_or(truncated("digests"))?;
        if digests.iter().any(|digest| digest.algorithm == algorithm) {
            return Err(LogError::RepeatedAlgorithm { offset, algorithm });
        }
        let size = algorithms.iter().find(|(declared, _)| *declared == algorithm);
        let (_, size) = size.ok_or(LogError::UndeclaredAlgorithm { offset, algorithm })?;
        let value = reader.take(usize::from(*size)).ok_or(truncated("digests"))?;
        digests.push(EventDigest { algorithm, value: Cow::Borrowed(value) });
    }
    finish(reader, offset, register, kind, digests)
}

fn finish<'a>(
    reader: &mut Reader<'a>,
    offset: usize,
    register: u32,
    kind: EventType,
    digests: Vec<EventDigest<'a>>,
) -> Result<Event<'a>, LogError> {
    let truncated = LogError::Truncated { offset, part: "data" };
    let found = reader.u32().ok_or(truncated.clone())?;
    let size = usize::try_from(found).unwrap_or(usize::MAX);
    if size > MAX_EVENT_SIZE {
        return Err(LogError::EventTooLarge { offset, found });
    }
    let data = Cow::Borrowed(reader.take(size).ok_or(truncated)?);
    let event = Event { register, kind, digests, data };
    // The register of a record that extends none means nothing, and firmware writes 0xffffffff there, too.
    if event.extends() && register > MAX_REGISTER {
        return Err(LogError::Register { offset, found: register });
    }
    Ok(event)
}

/// `TCG_EfiSpecIDEvent`, the data of the first record.
fn header<'a>(record: &Event<'a>) -> Result<Header<'a>, LogError> {
    let bad = |reason| LogError::Header { reason };
    if record.digests.iter().any(|digest| digest.value.iter().any(|byte| *byte != 0)) {
        return Err(bad("its digest is not zero"));
    }
    let Cow::Borrowed(data) = record.data else { return Err(bad("it is not borrowed")) };
    let mut reader = Reader::new(data);
    let short = bad("it is cut short");
    reader.take(SPEC_ID.len()).ok_or(short.clone())?;
    let platform_class = reader.u32().ok_or(short.clone())?;
    let mut version = [0; 3];
    for part in &mut version {
        *part = reader.u8().ok_or(short.clone())?;
    }
    let uintn_size = reader.u8().ok_or(short.clone())?;
    let count = reader.u32().ok_or(short.clone())?;
    if !usize::try_from(count).is_ok_and(|count| (1..=MAX_ALGORITHMS).contains(&count)) {
        return Err(bad("the number of algorithms is not 1 to 8"));
    }
    let mut algorithms: Vec<(u16, u16)> = Vec::new();
    for _ in 0..count {
        let algorithm = reader.u16().ok_or(short.clone())?;
        let size = reader.u16().ok_or(short.clone())?;
        let known = Bank::from_tcg(algorithm);
        if known.map_or(size == 0, |bank| usize::from(size) != bank.len()) {
            return Err(bad("it declares a size that digests of the algorithm do not have"));
        }
        if algorithms.iter().any(|(declared, _)| *declared == algorithm) {
            return Err(bad("it declares an algorithm twice"));
        }
        algorithms.push((algorithm, size));
    }
    let vendor = usize::from(reader.u8().ok_or(short.clone())?);
    let vendor_info = Cow::Borrowed(reader.take(vendor).ok_or(short)?);
    if !reader.is_empty() {
        return Err(bad("something follows the vendor's part"));
    }
    Ok(Header { register: record.register, platform_class, version, uintn_size, algorithms, vendor_info })
}
