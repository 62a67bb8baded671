//! CCA tokens through the kernel's configfs-tsm interface (Documentation/ABI/testing/configfs-tsm).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::CollectError;

/// Where the kernel's report entries are when configfs is mounted at its usual place.
pub const DEFAULT_ROOT: &str = "/sys/kernel/config/tsm/report";

const PROVIDER: &str = "arm_cca_guest";
/// `ENXIO`: the errno with which the kernel refuses a report entry while no driver is registered.
const ENXIO: i32 = 6;
/// Longest report read: no decoder takes a longer token. Without the bound, whoever answers the Realm's token calls
/// decides how much memory the agent takes.
const MAX_REPORT_LEN: usize = evidence::cca::MAX_TOKEN_SIZE;
/// Longest text attribute read, in bytes: the kernel's attributes have at most a page.
const MAX_TEXT_LEN: usize = 4096;
/// How often a report is taken anew when its entry changed meanwhile. Without the bound, a process that keeps writing
/// into our entries keeps the agent busy for ever.
const TRIES: usize = 4;
/// Names tried for a new entry. Entries of a dead agent with our process number may be left; a few, not endlessly many.
const NAMES_TRIED: usize = 16;

/// The file operations that taking a report needs; entries are directories, attributes are files in them.
pub trait ReportEntries: Send + Sync {
    /// Makes a new entry.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name; whatever else the kernel says.
    fn create(&self, entry: &str) -> io::Result<()>;
    /// Writes an attribute as a whole.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()>;
    /// Reads at most `limit` bytes of an attribute.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn read(&self, entry: &str, attribute: &str, limit: usize) -> io::Result<Vec<u8>>;
    /// Removes an entry.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn remove(&self, entry: &str) -> io::Result<()>;
}

/// Report entries in a mounted configfs.
#[derive(Debug)]
pub struct Configfs {
    root: PathBuf,
}

impl ReportEntries for Configfs {
    fn create(&self, entry: &str) -> io::Result<()> {
        fs::create_dir(self.root.join(entry))
    }

    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()> {
        // The kernel takes a binary attribute over when the file is closed, and then cannot report an error any more;
        // the generation counter tells whether it did.
        OpenOptions::new().write(true).open(self.root.join(entry).join(attribute))?.write_all(value)
    }

    fn read(&self, entry: &str, attribute: &str, limit: usize) -> io::Result<Vec<u8>> {
        let mut value = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        File::open(self.root.join(entry).join(attribute))?.take(limit).read_to_end(&mut value)?;
        Ok(value)
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        fs::remove_dir(self.root.join(entry))
    }
}

impl Configfs {
    /// The entries in `root`, usually [`DEFAULT_ROOT`].
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl<T: ReportEntries + ?Sized> ReportEntries for Box<T> {
    fn create(&self, entry: &str) -> io::Result<()> {
        (**self).create(entry)
    }

    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()> {
        (**self).write(entry, attribute, value)
    }

    fn read(&self, entry: &str, attribute: &str, limit: usize) -> io::Result<Vec<u8>> {
        (**self).read(entry, attribute, limit)
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        (**self).remove(entry)
    }
}

/// CCA tokens from configfs-tsm.
#[derive(Debug)]
pub struct TsmReports<E = Configfs> {
    entries: E,
    root: PathBuf,
    next: AtomicU32,
}

impl TsmReports {
    /// Reports through the entries in `root`, usually [`DEFAULT_ROOT`].
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self::with_entries(Configfs::new(root), root)
    }
}

impl<E: ReportEntries> TsmReports<E> {
    /// Reports through other file operations; `root` serves messages only.
    #[must_use]
    pub fn with_entries(entries: E, root: &Path) -> Self {
        Self { entries, root: root.to_owned(), next: AtomicU32::new(0) }
    }

    /// The report that answers `challenge`. It is asked for in an entry of its own, so that users of the interface do
    /// not disturb each other, and again when someone wrote to that entry nevertheless.
    ///
    /// # Errors
    /// If there are no reports, they come from another provider, or the entry changes all the time.
    pub fn report(&self, challenge: &[u8; 64]) -> Result<Vec<u8>, CollectError> {
        let entry = self.open_entry()?;
        entry.check_provider()?;
        let mut tries = 1;
        loop {
            match entry.report(challenge) {
                Err(CollectError::Raced { .. }) if tries < TRIES => tries += 1,
                Err(CollectError::Raced { before, after, .. }) => {
                    return Err(CollectError::Raced { tries, before, after });
                }
                done => return done,
            }
        }
    }

    fn open_entry(&self) -> Result<Entry<'_, E>, CollectError> {
        let mut tries = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("attestation-agent.{}.{number}", std::process::id());
            tries += 1;
            match self.entries.create(&name) {
                Ok(()) => return Ok(Entry { reports: self, name }),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists && tries < NAMES_TRIED => {}
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(CollectError::NoReports { root: self.root.clone(), source });
                }
                Err(source) if source.raw_os_error() == Some(ENXIO) => {
                    return Err(CollectError::NoProvider(source));
                }
                Err(source) => return Err(self.failed("create", "the directory", source)),
            }
        }
    }

    fn failed(&self, action: &'static str, attribute: &'static str, source: io::Error) -> CollectError {
        CollectError::Attribute { action, attribute, root: self.root.clone(), source }
    }
}

/// A report entry that is removed when it goes out of scope.
struct Entry<'a, E: ReportEntries> {
    reports: &'a TsmReports<E>,
    name: String,
}

impl<E: ReportEntries> Entry<'_, E> {
    fn read(&self, attribute: &'static str, limit: usize) -> Result<Vec<u8>, CollectError> {
        self.reports
            .entries
            .read(&self.name, attribute, limit)
            .map_err(|source| self.reports.failed("read", attribute, source))
    }

    fn text(&self, attribute: &'static str) -> Result<String, CollectError> {
        Ok(String::from_utf8_lossy(&self.read(attribute, MAX_TEXT_LEN)?).trim_end().to_owned())
    }

    fn generation(&self) -> Result<u64, CollectError> {
        let found = self.text("generation")?;
        found.parse().map_err(|_| CollectError::Generation { found })
    }

    fn check_provider(&self) -> Result<(), CollectError> {
        let found = self.text("provider")?;
        if found != PROVIDER {
            return Err(CollectError::WrongProvider { found, expected: PROVIDER });
        }
        Ok(())
    }

    fn report(&self, challenge: &[u8; 64]) -> Result<Vec<u8>, CollectError> {
        let before = self.generation()?;
        self.reports
            .entries
            .write(&self.name, "inblob", challenge)
            .map_err(|source| self.reports.failed("write", "inblob", source))?;
        let report = self.read("outblob", MAX_REPORT_LEN + 1)?;
        let after = self.generation()?;
        if before.checked_add(1) != Some(after) {
            return Err(CollectError::Raced { tries: 1, before, after });
        }
        match report.len() {
            0 => Err(CollectError::Empty),
            len if len > MAX_REPORT_LEN => Err(CollectError::TooLong { limit: MAX_REPORT_LEN }),
            _ => Ok(report),
        }
    }
}

impl<E: ReportEntries> Drop for Entry<'_, E> {
    fn drop(&mut self) {
        if let Err(error) = self.reports.entries.remove(&self.name) {
            tracing::warn!(entry = self.name, %error, "cannot remove a TSM report entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// Behaves as `drivers/virt/coco/guest/report.c` does.
    #[derive(Default)]
    struct FakeKernel {
        provider: &'static str,
        create_errno: Option<i32>,
        taken_names: usize,
        report_len: usize,
        outblob_errno: Option<i32>,
        /// How often another process writes the entry between our write and our read.
        racing_writes: usize,
        /// The kernel drops the write at close, as it does for a bad length.
        drops_write: bool,
        state: Mutex<State>,
    }

    #[derive(Default)]
    struct State {
        entries: BTreeMap<String, (u64, Vec<u8>)>,
        created: usize,
        removed: usize,
        raced: usize,
    }

    impl FakeKernel {
        fn realm() -> Self {
            Self { provider: "arm_cca_guest", report_len: 1000, ..Self::default() }
        }
    }

    impl ReportEntries for FakeKernel {
        fn create(&self, entry: &str) -> io::Result<()> {
            if let Some(errno) = self.create_errno {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let mut state = self.state.lock().unwrap();
            state.created += 1;
            if state.created <= self.taken_names || state.entries.contains_key(entry) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.entries.insert(entry.to_owned(), (0, Vec::new()));
            Ok(())
        }

        fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()> {
            assert_eq!(attribute, "inblob");
            if !self.drops_write {
                let mut state = self.state.lock().unwrap();
                let raced = state.raced < self.racing_writes;
                state.raced += usize::from(raced);
                let (generation, inblob) = state.entries.get_mut(entry).unwrap();
                *generation += if raced { 2 } else { 1 };
                *inblob = if raced { vec![0xee; 64] } else { value.to_vec() };
            }
            Ok(())
        }

        fn read(&self, entry: &str, attribute: &str, limit: usize) -> io::Result<Vec<u8>> {
            let state = self.state.lock().unwrap();
            let (generation, inblob) = &state.entries[entry];
            let mut value = match attribute {
                "provider" => format!("{}\n", self.provider).into_bytes(),
                "generation" => format!("{generation}\n").into_bytes(),
                "outblob" => {
                    if let Some(errno) = self.outblob_errno {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    inblob.iter().copied().cycle().take(self.report_len).collect()
                }
                other => panic!("attribute {other}"),
            };
            value.truncate(limit);
            Ok(value)
        }

        fn remove(&self, entry: &str) -> io::Result<()> {
            let mut state = self.state.lock().unwrap();
            state.entries.remove(entry).unwrap();
            state.removed += 1;
            Ok(())
        }
    }

    fn challenge() -> [u8; 64] {
        std::array::from_fn(|index| u8::try_from(index).unwrap())
    }

    fn reports(kernel: FakeKernel) -> TsmReports<FakeKernel> {
        TsmReports::with_entries(kernel, Path::new(DEFAULT_ROOT))
    }

    fn refusal(kernel: FakeKernel) -> CollectError {
        let reports = reports(kernel);
        let error = reports.report(&challenge()).unwrap_err();
        assert!(reports.entries.state.lock().unwrap().entries.is_empty(), "the entry was left behind");
        error
    }

    #[test]
    fn takes_a_token_for_the_challenge_and_cleans_up() {
        let reports = reports(FakeKernel::realm());
        for _ in 0..2 {
            let expected: Vec<u8> = challenge().iter().copied().cycle().take(1000).collect();
            assert_eq!(reports.report(&challenge()).unwrap(), expected);
        }
        let state = reports.entries.state.lock().unwrap();
        assert!(state.entries.is_empty());
        assert_eq!((state.created, state.removed), (2, 2));
    }

    #[test]
    fn passes_over_entries_that_a_dead_agent_left() {
        assert!(reports(FakeKernel { taken_names: 3, ..FakeKernel::realm() }).report(&challenge()).is_ok());
        let full = FakeKernel { taken_names: usize::MAX, ..FakeKernel::realm() };
        assert!(matches!(refusal(full), CollectError::Attribute { action: "create", .. }));
    }

    #[test]
    fn names_the_module_when_there_is_no_provider() {
        let error = refusal(FakeKernel { create_errno: Some(ENXIO), ..FakeKernel::realm() });
        assert!(matches!(error, CollectError::NoProvider(_)));
        assert!(error.to_string().contains("arm-cca-guest"), "{error}");
    }

    #[test]
    fn names_the_mount_when_there_is_no_configfs() {
        let directory = tempfile::tempdir().unwrap();
        let error = TsmReports::new(&directory.path().join("tsm/report")).report(&challenge()).unwrap_err();
        assert!(matches!(error, CollectError::NoReports { .. }));
        assert!(error.to_string().contains("mount -t configfs"), "{error}");
    }

    #[test]
    fn leaves_no_entry_behind_in_a_directory_that_is_not_configfs() {
        let directory = tempfile::tempdir().unwrap();
        let error = TsmReports::new(directory.path()).report(&challenge()).unwrap_err();
        assert!(matches!(error, CollectError::Attribute { attribute: "provider", .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn reads_and_writes_attributes_as_files() {
        let directory = tempfile::tempdir().unwrap();
        let configfs = Configfs::new(directory.path());
        configfs.create("entry").unwrap();
        fs::write(directory.path().join("entry/inblob"), b"").unwrap();
        configfs.write("entry", "inblob", b"0123456789").unwrap();
        assert_eq!(configfs.read("entry", "inblob", 4).unwrap(), b"0123");
        // A missing attribute must not come into being as a plain file.
        assert!(configfs.write("entry", "outblob", b"x").is_err());
    }

    #[test]
    fn refuses_reports_of_another_technology() {
        for provider in ["sev_guest", "arm_cca_guest2", ""] {
            let error = refusal(FakeKernel { provider, ..FakeKernel::realm() });
            assert!(matches!(error, CollectError::WrongProvider { .. }), "{provider}: {error}");
        }
    }

    #[test]
    fn refuses_a_report_that_someone_else_may_have_asked_for() {
        let error = refusal(FakeKernel { racing_writes: usize::MAX, ..FakeKernel::realm() });
        assert!(matches!(error, CollectError::Raced { tries: TRIES, before: 6, after: 8 }), "{error}");
        let error = refusal(FakeKernel { drops_write: true, ..FakeKernel::realm() });
        assert!(matches!(error, CollectError::Raced { tries: TRIES, before: 0, after: 0 }), "{error}");
    }

    #[test]
    fn takes_the_report_again_when_someone_wrote_meanwhile() {
        let reports = reports(FakeKernel { racing_writes: 2, ..FakeKernel::realm() });
        assert_eq!(reports.report(&challenge()).unwrap()[..64], challenge());
    }

    #[test]
    fn users_at_the_same_time_do_not_disturb_each_other() {
        let reports = reports(FakeKernel::realm());
        std::thread::scope(|scope| {
            for user in 0..8 {
                let reports = &reports;
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert_eq!(reports.report(&[user; 64]).unwrap(), [user; 1000]);
                    }
                });
            }
        });
        assert_eq!(reports.entries.state.lock().unwrap().created, 400);
    }

    #[test]
    fn refuses_reports_that_are_empty_or_endless() {
        assert!(matches!(refusal(FakeKernel { report_len: 0, ..FakeKernel::realm() }), CollectError::Empty));
        let endless = FakeKernel { report_len: MAX_REPORT_LEN + 1, ..FakeKernel::realm() };
        assert!(matches!(refusal(endless), CollectError::TooLong { .. }));
    }

    #[test]
    fn tells_which_attribute_failed() {
        let error = refusal(FakeKernel { outblob_errno: Some(22), ..FakeKernel::realm() });
        assert!(error.to_string().contains("read outblob"), "{error}");
    }
}
