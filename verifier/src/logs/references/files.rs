//! The files that are known: a set of paths with digests.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::hint::black_box;

use evidence::ima::FileDigest;
use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize, Serializer};

use super::file_reference::{DigestKind, FileReference};

/// Bytes that a processor fetches at once.
const CACHE_LINE: usize = 64;

/// Files that are looked up together.
const BATCH: usize = 64;

/// Paths with the digests that files may have there: there may be hundreds of thousands.
///
/// A step to memory that is not in the processor's cache costs the appraisal of a list more than the hash of an entry. So
/// each digest is one record in one piece of memory with its path, and what finds it is small enough to stay in the cache.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "BTreeMap<String, Vec<FileReference>>")]
pub struct KnownFiles {
    records: Vec<u8>,
    /// Where in `records` each begins, by the hash of what it says.
    index: HashTable<usize>,
    /// Keyed at random: whoever registers files does not see their hashes.
    hasher: DefaultHashBuilder,
}

impl KnownFiles {
    /// Adds `reference` to the digests that a file may have at `path`.
    pub fn insert(&mut self, path: &str, reference: &FileReference) {
        let Some(record) = Record::new(path.as_bytes(), &reference.digest()) else { return };
        let Self { records, index, hasher } = self;
        let hash = record.hash(hasher);
        if index.find(hash, |at| record.is_at(records, *at)).is_none() {
            let rehash = |at: &usize| Record::read(records, *at).map_or(0, |(known, _)| known.hash(hasher));
            index.insert_unique(hash, records.len(), rehash);
            record.write(records);
        }
    }

    /// Adds all that `other` knows.
    pub fn extend(&mut self, other: &Self) {
        let mut at = 0;
        while let Some((record, next)) = Record::read(&other.records, at) {
            at = next;
            if let (Ok(path), Some(reference)) =
                (str::from_utf8(record.path), FileReference::new(record.kind, record.value))
            {
                self.insert(path, &reference);
            }
        }
    }

    /// How many digests there are, of all files together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no file is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The positions of files that are not known: no file at this path may have this digest. `None` is not known, either.
    ///
    /// One step is done for many before the next for any, so that the processor waits for the memory of all together.
    pub(in crate::logs) fn unknown<'a>(
        &self,
        files: impl Iterator<Item = Option<(&'a [u8], FileDigest<'a>)>>,
    ) -> Vec<usize> {
        let mut sought = files.map(|file| {
            let (path, digest) = file?;
            let record = Record::new(path, &digest)?;
            Some((record.hash(&self.hasher), record))
        });
        let (mut unknown, mut first) = (Vec::new(), 0);
        let mut batch: Vec<Option<(u64, Record<'_>)>> = Vec::with_capacity(BATCH);
        let mut likely: Vec<Option<&usize>> = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            batch.extend(sought.by_ref().take(BATCH));
            if batch.is_empty() {
                return unknown;
            }
            likely.clear();
            // Whose hash is like it, is nearly always the same.
            likely.extend(batch.iter().map(|sought| self.index.find(sought.as_ref()?.0, |_| true)));
            let lines = likely.iter().flatten().flat_map(|at| [**at, **at + CACHE_LINE]);
            black_box(lines.filter_map(|at| self.records.get(at)).fold(0, |all, byte| all ^ byte));
            let is_known = |((hash, record), likely): (&(u64, Record<'_>), &usize)| {
                let is_at = |at: &usize| record.is_at(&self.records, *at);
                is_at(likely) || self.index.find(*hash, is_at).is_some()
            };
            for (position, (sought, likely)) in (first..).zip(batch.iter().zip(&likely)) {
                if !sought.as_ref().zip(*likely).is_some_and(is_known) {
                    unknown.push(position);
                }
            }
            first += batch.len();
        }
    }

    /// The digests by path, all in order.
    fn sorted(&self) -> BTreeMap<String, Vec<FileReference>> {
        let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut at = 0;
        while let Some((record, next)) = Record::read(&self.records, at) {
            at = next;
            let path = String::from_utf8_lossy(record.path).into_owned();
            sorted.entry(path).or_default().extend(FileReference::new(record.kind, record.value));
        }
        sorted.values_mut().for_each(|references| references.sort_unstable());
        sorted
    }
}

/// A digest with its path. In memory: the length of the path, the kind of the digest, its value, the path.
struct Record<'a> {
    path: &'a [u8],
    kind: DigestKind,
    /// As long as its kind says.
    value: &'a [u8],
}

impl<'a> Record<'a> {
    fn new(path: &'a [u8], digest: &FileDigest<'a>) -> Option<Self> {
        Some(Self { path, kind: DigestKind::of(digest)?, value: digest.value })
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write(self.path);
        // The whole of it: who registers files chooses their digests, and many alike in a part would be compared one by one.
        hasher.write(self.value);
        hasher.finish()
    }

    /// Whether the record at `at` is this one.
    fn is_at(&self, records: &[u8], at: usize) -> bool {
        let rest = || {
            // Two records with the same lengths can only differ in what is compared.
            let rest = records.get(at..)?.strip_prefix(&self.path.len().to_le_bytes())?;
            rest.strip_prefix(&[self.kind.tag()])?.strip_prefix(self.value)?.strip_prefix(self.path)
        };
        rest().is_some()
    }

    fn write(&self, records: &mut Vec<u8>) {
        records.extend(self.path.len().to_le_bytes());
        records.push(self.kind.tag());
        records.extend(self.value);
        records.extend(self.path);
    }

    /// The record at `at`, and where it ends; `None` behind the last.
    fn read(records: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let (length, rest) = records.get(at..)?.split_first_chunk()?;
        let (tag, rest) = rest.split_first()?;
        let kind = DigestKind::from_tag(*tag)?;
        let (value, rest) = rest.split_at_checked(kind.len())?;
        let (path, rest) = rest.split_at_checked(usize::from_le_bytes(*length))?;
        Some((Self { path, kind, value }, records.len() - rest.len()))
    }
}

impl From<BTreeMap<String, Vec<FileReference>>> for KnownFiles {
    fn from(files: BTreeMap<String, Vec<FileReference>>) -> Self {
        let mut known = Self::default();
        for (path, references) in &files {
            references.iter().for_each(|reference| known.insert(path, reference));
        }
        known
    }
}

/// The same files are the same text, in whatever order they were added.
impl Serialize for KnownFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sorted().serialize(serializer)
    }
}

impl PartialEq for KnownFiles {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.sorted() == other.sorted()
    }
}

impl Eq for KnownFiles {}

impl fmt::Debug for KnownFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(value: &[u8]) -> FileDigest<'_> {
        FileDigest { verity: false, algorithm: "sha256", value }
    }

    fn has(files: &KnownFiles, path: &[u8], digest: &FileDigest<'_>) -> bool {
        files.unknown(std::iter::once(Some((path, *digest)))).is_empty()
    }

    fn reference(text: &str) -> FileReference {
        text.parse().unwrap()
    }

    /// Whoever registers files could otherwise choose digests that are all compared with each other.
    #[test]
    fn digests_that_are_alike_in_a_part_have_hashes_of_their_own() {
        let files = KnownFiles::default();
        let hashes: std::collections::BTreeSet<u64> = (0..1000_u32)
            .flat_map(|number| {
                let (mut end, mut start) = ([7; 32], [7; 32]);
                end[28..].copy_from_slice(&number.to_le_bytes());
                start[..4].copy_from_slice(&number.to_le_bytes());
                [end, start]
            })
            .map(|value| Record::new(b"/a", &digest(&value)).unwrap().hash(&files.hasher))
            .collect();
        assert_eq!(hashes.len(), 2000);
    }

    #[test]
    fn a_file_is_known_at_its_path_with_its_digest_and_nothing_else_is() {
        let one = format!("sha256:{}", "11".repeat(32));
        let mut files = KnownFiles::default();
        assert!(!has(&files, b"/a", &digest(&[0x11; 32])));
        files.insert("/a", &reference(&one));
        files.insert("/b", &reference(&format!("verity:sha256:{}", "22".repeat(32))));
        assert!(has(&files, b"/a", &digest(&[0x11; 32])));
        assert!(has(&files, b"/b", &FileDigest { verity: true, ..digest(&[0x22; 32]) }));
        for (path, other) in [
            (&b"/b"[..], digest(&[0x11; 32])),
            (b"/", digest(&[0x11; 32])),
            (b"/aa", digest(&[0x11; 32])),
            (b"", digest(&[0x11; 32])),
            (b"/a", digest(&[0x12; 32])),
            (b"/a", digest(&[0x11; 31])),
            (b"/a", digest(&[0x11; 33])),
            (b"/a", digest(&[])),
            (b"/a", FileDigest { verity: true, ..digest(&[0x11; 32]) }),
            (b"/a", FileDigest { algorithm: "sm3", ..digest(&[0x11; 32]) }),
            (b"/a", FileDigest { algorithm: "", ..digest(&[0x11; 32]) }),
            (b"/b", digest(&[0x22; 32])),
        ] {
            assert!(!has(&files, path, &other), "{path:?} {other}");
        }
    }

    /// A record's path and its digest are told apart wherever one ends and the other begins.
    #[test]
    fn bytes_cannot_move_from_the_digest_to_the_path() {
        let mut files = KnownFiles::default();
        let path = "3".repeat(16);
        files.insert(&path, &reference(&format!("sha512:{}", "33".repeat(64))));
        assert!(has(&files, path.as_bytes(), &FileDigest { algorithm: "sha512", ..digest(&[0x33; 64]) }));
        let longer = [0x33; 32];
        assert!(!has(&files, &longer, &FileDigest { algorithm: "sha384", ..digest(&[0x33; 48]) }));
        assert!(!has(&files, &[0x33; 48], &digest(&[0x33; 32])));
    }

    #[test]
    fn many_files_are_all_found_and_travel_through_json() {
        let mut files = KnownFiles::default();
        for number in 0..5000_u32 {
            for edition in 0..2_u8 {
                let mut value = [edition + 1; 32];
                value[..4].copy_from_slice(&number.to_le_bytes());
                let reference = reference(&digest(&value).to_string());
                files.insert(&format!("/{number}"), &reference);
                files.insert(&format!("/{number}"), &reference);
            }
        }
        assert_eq!(files.len(), 10_000);
        let json = serde_json::to_string(&files).unwrap();
        let read: KnownFiles = serde_json::from_str(&json).unwrap();
        assert_eq!(read, files);
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        for number in 0..5000_u32 {
            let mut value = [2; 32];
            value[..4].copy_from_slice(&number.to_le_bytes());
            let paths = [number, number + 5000].map(|number| format!("/{number}"));
            let sought = paths.iter().map(|path| Some((path.as_bytes(), digest(&value))));
            assert_eq!(read.unknown(sought), [1]);
        }
        files.insert("/another", &reference(&digest(&[3; 32]).to_string()));
        assert_ne!(read, files);
    }

    #[test]
    fn positions_are_counted_through_all_that_is_looked_up_together() {
        let mut files = KnownFiles::default();
        files.insert("/a", &reference(&digest(&[1; 32]).to_string()));
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH] {
            let strangers = [0, 1, BATCH - 1, BATCH, 3 * BATCH + 7, 5 * BATCH - 1];
            let sought = (0..count).map(|at| {
                let path: &[u8] = if strangers.contains(&at) { b"/b" } else { b"/a" };
                (at != 1).then_some((path, digest(&[1; 32])))
            });
            let expected: Vec<usize> = strangers.into_iter().filter(|at| *at < count).collect();
            assert_eq!(files.unknown(sought), expected, "{count}");
        }
    }

    #[test]
    fn the_same_files_are_the_same_text() {
        let [one, two] = ["11", "22"].map(|byte| reference(&format!("sha256:{}", byte.repeat(32))));
        let files = |order: &[(&str, FileReference)]| {
            let mut files = KnownFiles::default();
            order.iter().for_each(|(path, reference)| files.insert(path, reference));
            serde_json::to_string(&files).unwrap()
        };
        let text = files(&[("/b", two), ("/a", one), ("/b", one)]);
        assert_eq!(text, files(&[("/b", one), ("/b", two), ("/a", one)]));
        assert_eq!(text, format!(r#"{{"/a":["{one}"],"/b":["{one}","{two}"]}}"#));
    }
}
