//! The kernel and what belongs to it: they must all be of one reference, or a known initial RAM disk of one release could be
//! combined with the kernel of another.

use evidence::hash::Digest;

use super::parts::{Part, Seen};
use crate::logs::references::{BootReferences, KernelReference};

/// Everything in a log that belongs to the kernel.
pub struct Loaded<'a> {
    parts: Vec<&'a Seen<'a>>,
    references: &'a BootReferences,
}

impl<'a> Loaded<'a> {
    /// Finds the parts. An application is a kernel if it is one of the kernels' images, and a file that was opened for nobody
    /// knows what belongs to a kernel if one of them knows it.
    pub fn find(seen: &'a [Seen<'a>], references: &'a BootReferences) -> Self {
        let belongs = |event: &&Seen<'_>| match event.part {
            Part::KernelFile(_)
            | Part::InitramfsFile(_)
            | Part::CommandLine(_)
            | Part::LoadOptions
            | Part::LoadedInitramfs => true,
            Part::Application(_) => is_image(references, &event.digest),
            Part::AnyFile(_) => references.kernels.iter().any(|kernel| knows(kernel, event)),
            _ => false,
        };
        Self { parts: seen.iter().filter(belongs).collect(), references }
    }

    /// The second kernel of either form, if there is one: only the last was started, but which was last in another register
    /// nothing proves.
    pub fn second(&self) -> Option<&'a Seen<'a>> {
        let files = self.parts.iter().filter(|event| match event.part {
            Part::KernelFile(_) => true,
            Part::AnyFile(_) => self.references.kernels.iter().any(|kernel| kernel.has_file(&event.digest)),
            _ => false,
        });
        let images = self.parts.iter().filter(|event| matches!(event.part, Part::Application(_)));
        files.skip(1).chain(images.skip(1)).next().copied()
    }

    /// The reference that knows most of the parts, and of equal ones the first. Each part is then held against it alone.
    pub fn reference(&self) -> Option<&'a KernelReference> {
        let known = |kernel: &KernelReference| self.parts.iter().filter(|event| knows(kernel, event)).count();
        self.references
            .kernels
            .iter()
            .rev()
            .max_by_key(|kernel| known(kernel))
            .filter(|kernel| known(kernel) > 0)
    }
}

/// Whether the digest is that of a kernel that the firmware starts.
pub fn is_image(references: &BootReferences, digest: &Digest) -> bool {
    references.kernels.iter().any(|kernel| kernel.image.contains(digest))
}

fn knows(kernel: &KernelReference, event: &Seen<'_>) -> bool {
    match event.part {
        Part::KernelFile(_) => kernel.has_file(&event.digest),
        Part::AnyFile(_) => kernel.has_file(&event.digest) || kernel.initramfs.contains(&event.digest),
        Part::Application(_) => kernel.image.contains(&event.digest),
        Part::InitramfsFile(_) | Part::LoadedInitramfs => kernel.initramfs.contains(&event.digest),
        Part::CommandLine(text) => {
            std::str::from_utf8(text).is_ok_and(|text| kernel.command_lines.contains(text))
        }
        Part::LoadOptions => kernel.load_options.contains(&event.digest),
        _ => false,
    }
}
