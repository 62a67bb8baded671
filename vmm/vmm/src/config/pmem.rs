//! Persistent memory: on the command line, and its bounds.

use api::VmConfig;
use api::config::PmemConfig;
use machine::layout::BLOCK_SIZE;

use super::ConfigError;
use super::options::{self, Options};
use super::validate::check;

/// One `--pmem`.
pub fn pmem(text: &str) -> Result<PmemConfig, ConfigError> {
    let options = Options::parse("--pmem", text, &["id", "file", "size", "discard_writes"])?;
    Ok(PmemConfig {
        id: options.get("id").map(Into::into),
        file: options.require("file")?.into(),
        size: options.convert("size", "a size such as 512M", options::size)?,
        discard_writes: options.switch("discard_writes")?,
        iommu: false,
        pci_segment: 0,
        pci_device_id: None,
    })
}

/// Checks every bound that does not need the file.
///
/// # Errors
///
/// [`ConfigError::Field`].
pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    for pmem in &config.pmem {
        check(config.realm.is_none(), "pmem", "persistent memory in a Realm", || {
            "a disk (disks): a Realm would have to trust memory that the host can read and change under it"
                .into()
        })?;
        let size = pmem.size.unwrap_or(BLOCK_SIZE);
        check(size > 0 && size.is_multiple_of(BLOCK_SIZE), "pmem.size", size, || {
            "a multiple of 2 MiB".into()
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        crate::config::validate(&serde_json::from_str(json).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn memory_is_described_in_full() {
        let found = pmem("file=/f,size=4M,discard_writes=on,id=root").unwrap();
        assert_eq!(
            (found.id.as_deref(), found.size, found.discard_writes),
            (Some("root"), Some(4 << 20), true)
        );
        assert!(pmem("size=4M").unwrap_err().to_string().contains("file= is missing"));
        assert!(pmem("file=/f,size=much").unwrap_err().to_string().contains("512M"));
    }

    #[test]
    fn realm_has_no_memory_that_the_host_writes() {
        let message =
            refusal(r#"{"payload":{"kernel":"/k"},"realm":{"backend":"soft"},"pmem":[{"file":"/f"}]}"#);
        assert!(message.starts_with("pmem: ") && message.contains("Realm"), "{message}");
    }

    #[test]
    fn sizes_are_those_that_a_guest_can_map() {
        for size in ["0", "1048576", "2097153"] {
            let json = format!(r#"{{"payload":{{"kernel":"/k"}},"pmem":[{{"file":"/f","size":{size}}}]}}"#);
            assert!(refusal(&json).starts_with("pmem.size: "), "{size}");
        }
    }
}
