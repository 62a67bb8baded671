//! A guest that is measured while it boots and runs, the references of its operator, and a Realm's registers.

use std::collections::BTreeSet;

use evidence::bank::Bank;
use evidence::hash::{Digest, HashAlgorithm};
use evidence::ima::{FileDigest, LogWriter, Template};
use evidence::rmm;
use evidence::tcg::{EventLog, EventType, GrubText, Image, Variable};
use verifier::logs::{
    self, BootReferences, BootRules, ImaReferences, ImaRules, KernelReference, LogReferences, LogReport,
    LogRules, Role, Unchecked,
};
use verifier::{Code, Refusal, Step};

pub const HASH: HashAlgorithm = HashAlgorithm::Sha256;
pub const COMMAND_LINE: &str = "/vmlinuz-1 root=/dev/vda2 ro";

/// Something that is measured during boot.
#[derive(Clone)]
pub struct Measured {
    pub name: &'static str,
    pub register: u32,
    pub kind: EventType,
    pub content: Vec<u8>,
    pub data: Vec<u8>,
}

/// A guest: what it measures, in order.
#[derive(Clone)]
pub struct Guest {
    pub boot: Vec<Measured>,
    pub boot_log: bool,
    pub ima: Option<Vec<u8>>,
    /// What the IMA entries extend REM[3] with.
    pub ima_extensions: Vec<Vec<u8>>,
    pub hash: HashAlgorithm,
    pub banks: Vec<Bank>,
}

pub fn digest(content: &[u8]) -> Digest {
    HASH.digest(content)
}

pub fn set(content: &[u8]) -> BTreeSet<Digest> {
    [HASH.digest(content), HashAlgorithm::Sha512.digest(content)].into()
}

pub fn variable(name: &'static str, value: &[u8]) -> Measured {
    let vendor = if name.starts_with("db") { Variable::SECURITY_DATABASE } else { Variable::GLOBAL };
    let data = Variable { vendor, name: name.to_owned(), value }.encode();
    measured(name, 1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data, &data)
}

pub fn measured(name: &'static str, register: u32, kind: EventType, content: &[u8], data: &[u8]) -> Measured {
    Measured { name, register, kind, content: content.to_vec(), data: data.to_vec() }
}

pub fn application(name: &'static str, content: &[u8]) -> Measured {
    let data = Image { location: 1, length: 2, link_time_address: 0, device_path: &[] }.encode();
    measured(name, 2, EventType::EFI_BOOT_SERVICES_APPLICATION, content, &data)
}

pub fn file(name: &'static str, path: &str, content: &[u8]) -> Measured {
    measured(name, 3, EventType::IPL, content, format!("{path}\0").as_bytes())
}

pub fn grub(name: &'static str, text: GrubText<'_>) -> Measured {
    measured(name, 3, EventType::IPL, text.measured(), &text.encode())
}

pub fn action(text: &'static str) -> Measured {
    measured(text, 2, EventType::EFI_ACTION, text.as_bytes(), text.as_bytes())
}

pub fn separator(register: u32) -> Measured {
    measured("separator", register, EventType::SEPARATOR, &[0; 4], &[0; 4])
}

pub fn tag(name: &'static str, id: u32, content: &[u8]) -> Measured {
    let data = [&id.to_le_bytes()[..], &3u32.to_le_bytes(), b"tag"].concat();
    measured(name, 3, EventType::EVENT_TAG, content, &data)
}

impl Guest {
    /// Firmware with Secure Boot, shim, GRUB and a kernel; no IMA.
    pub fn usual() -> Self {
        let mut boot = vec![variable("SecureBoot", &[1])];
        boot.extend(["PK", "KEK", "db", "dbx"].map(|name| variable(name, name.as_bytes())));
        boot.extend([
            separator(1),
            measured("driver", 2, EventType::EFI_BOOT_SERVICES_DRIVER, b"driver", &[]),
            measured("acpi", 1, EventType::PLATFORM_CONFIG_FLAGS, b"tables", b"ACPI DATA"),
            Measured {
                kind: EventType::EFI_VARIABLE_BOOT,
                content: vec![0, 1],
                ..variable("BootOrder", &[0, 1])
            },
            action("Calling EFI Application from Boot Option"),
            separator(2),
            Measured { kind: EventType::EFI_VARIABLE_AUTHORITY, ..variable("authority", b"certificate") },
            measured("partitions", 2, EventType::EFI_GPT_EVENT, b"EFI PART", b"EFI PART"),
            application("shim", b"shim"),
            measured("MokList", 3, EventType::IPL, b"owner's keys", b"MokList\0"),
            application("grub", b"grub"),
            file("grub.cfg", "(hd0,gpt2)/grub.cfg", b"linux; initrd; boot"),
            grub("timeout", GrubText::Command(b"set timeout=0")),
            grub("linux", GrubText::Command(b"linux /vmlinuz-1 root=/dev/vda2 ro")),
            file("linux.mod", "(hd0,gpt1)/linux.mod", b"module"),
            file("kernel", "/vmlinuz-1", b"kernel"),
            grub("command line", GrubText::KernelCommandLine(COMMAND_LINE.as_bytes())),
            grub("initrd", GrubText::Command(b"initrd /initramfs-1.img")),
            file("initramfs", "/initramfs-1.img", b"initramfs"),
            action("Exit Boot Services Invocation"),
            action("Exit Boot Services Returned with Success"),
        ]);
        let banks = vec![Bank::Sha1, Bank::Sha256, Bank::Sha512];
        Self { boot, boot_log: true, ima: None, ima_extensions: Vec::new(), hash: HASH, banks }
    }

    /// The usual guest, which runs two files after it booted.
    pub fn with_ima() -> Self {
        let mut guest = Self::usual();
        let mut log = LogWriter::default();
        log.measure(10, Template::ImaNg, sha256(&[0; 32]), b"boot_aggregate", &[]);
        for path in ["/usr/bin/one", "/usr/bin/two"] {
            let value = digest(path.as_bytes());
            log.measure(4, Template::ImaNg, sha256(value.as_bytes()), path.as_bytes(), &[]);
        }
        guest.set_ima(log);
        guest
    }

    /// Runs what `log` says, under a kernel of today.
    pub fn set_ima(&mut self, log: LogWriter) {
        let bytes = log.finish();
        let read = evidence::ima::Log::new(&bytes).unwrap();
        let hash = |entry: &evidence::ima::Entry<'_>| match entry.is_violation() {
            true => vec![0xff; 32],
            false => entry.template_hash(Bank::Sha256).as_bytes().to_vec(),
        };
        let entries = read.entries().map(Result::unwrap).filter(|entry| entry.pcr == 4);
        self.ima_extensions = entries.map(|entry| hash(&entry)).collect();
        self.ima = Some(bytes);
    }

    /// The event named `name`, to be changed.
    pub fn at(&mut self, name: &str) -> &mut Measured {
        self.boot.iter_mut().find(|event| event.name == name).unwrap()
    }

    pub fn insert_before(&mut self, name: &str, event: Measured) {
        let at = self.boot.iter().position(|event| event.name == name).unwrap();
        self.boot.insert(at, event);
    }

    pub fn remove(&mut self, name: &str) {
        let before = self.boot.len();
        self.boot.retain(|event| event.name != name);
        assert!(self.boot.len() < before);
    }

    /// The log as the firmware wrote it.
    pub fn log(&self) -> EventLog<'static> {
        let mut log = EventLog::crypto_agile(1, &self.banks);
        for event in &self.boot {
            log.measure(event.register, event.kind, &event.content, event.data.clone());
        }
        log
    }

    /// The extensible measurements, extended by the arithmetic of the RMM.
    pub fn rems(&self) -> [Digest; 4] {
        let mut rems = [Digest::zero(self.hash); 4];
        let mut extend = |register: u32, value: &[u8]| {
            let Some(rem) = rems.get_mut(usize::try_from(register).unwrap().wrapping_sub(1)) else { return };
            *rem = rmm::extend(self.hash, rem, value).unwrap();
        };
        for event in &self.boot {
            extend(event.register, self.hash.digest(&event.content).as_bytes());
        }
        self.ima_extensions.iter().for_each(|value| extend(4, value));
        rems
    }

    pub fn appraise(&self, references: &LogReferences, rules: &LogRules) -> Result<LogReport, Refusal> {
        self.appraise_log(&self.log().encode_area(0x4000), references, rules)
    }

    /// Sends `log` instead of the one that was written.
    pub fn appraise_log(
        &self,
        log: &[u8],
        references: &LogReferences,
        rules: &LogRules,
    ) -> Result<LogReport, Refusal> {
        let boot = self.boot_log.then_some(log);
        let logs = logs::attest(boot, self.ima.as_deref(), self.hash, &self.rems())?;
        logs.judge(Some(references), [false; 4], rules)
    }

    /// The code with which the guest is refused by its own references and the strictest rules.
    #[track_caller]
    pub fn refused(&self) -> (Code, String) {
        code(self.appraise(&references(), &strict()))
    }
}

#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Code, String) {
    let refusal = result.expect_err("the logs were accepted");
    assert_eq!(refusal.step, Step::Logs);
    (refusal.code, refusal.detail)
}

pub fn sha256(value: &[u8]) -> FileDigest<'_> {
    FileDigest { verity: false, algorithm: "sha256", value }
}

/// What the operator of the usual guest expects.
pub fn references() -> LogReferences {
    let secure_boot =
        Guest::usual().boot.into_iter().filter(|event| event.kind == EventType::EFI_VARIABLE_DRIVER_CONFIG);
    let boot = BootReferences {
        drivers: set(b"driver"),
        shim: set(b"shim"),
        grub: set(b"grub"),
        grub_cfg: set(b"linux; initrd; boot"),
        grub_files: set(b"module"),
        commands: ["set timeout=0", "linux /vmlinuz-1 root=/dev/vda2 ro", "initrd /initramfs-1.img"]
            .map(str::to_owned)
            .into(),
        kernels: vec![kernel("1", b"kernel", b"initramfs"), kernel("2", b"kernel 2", b"initramfs 2")],
        secure_boot: secure_boot.map(|event| (event.name.to_owned(), set(&event.content))).collect(),
        authorities: set(&variable("authority", b"certificate").content),
        boot_variables: set(&[0, 1]),
        platform_config: set(b"tables"),
        partition_tables: set(b"EFI PART"),
        other: set(b"owner's keys"),
        ..BootReferences::default()
    };
    LogReferences { boot: Some(boot), ..LogReferences::default() }
}

pub fn kernel(name: &str, file: &[u8], initramfs: &[u8]) -> KernelReference {
    KernelReference {
        name: name.to_owned(),
        stored: set(file),
        unpacked: set(&[file, b", unpacked"].concat()),
        image: set(&[file, b", as an application"].concat()),
        initramfs: set(initramfs),
        command_lines: [COMMAND_LINE.to_owned()].into(),
        load_options: set(COMMAND_LINE.as_bytes()),
    }
}

/// The same, and the files of [`Guest::with_ima`].
pub fn references_with_ima() -> LogReferences {
    let mut ima = ImaReferences::default();
    for path in ["/usr/bin/one", "/usr/bin/two"] {
        ima.files.insert(path, &format!("sha256:{}", digest(path.as_bytes())).parse().unwrap());
    }
    LogReferences { ima: Some(ima), ..references() }
}

/// The boot log and everything in it is demanded.
pub fn strict() -> LogRules {
    let roles = [
        Role::Shim,
        Role::Grub,
        Role::GrubCfg,
        Role::Kernel,
        Role::Initramfs,
        Role::CommandLine,
        Role::SecureBootVariable,
    ];
    let boot = BootRules { required: true, roles: roles.into(), secure_boot: true, ..BootRules::default() };
    LogRules { boot, ..LogRules::default() }
}

/// The IMA log is demanded, too.
pub fn strict_ima() -> LogRules {
    LogRules { ima: ImaRules { required: true, ..ImaRules::default() }, ..strict() }
}

pub fn unchecked(kind: Unchecked) -> LogRules {
    let mut rules = strict();
    rules.boot.unchecked.insert(kind);
    rules
}
