//! Any bytes as a kernel file: a clear refusal, or a kernel that can be placed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use machine::kernel::{Kernel, MAX_IMAGE_SIZE};
use machine::launch::LaunchPlan;
use machine::layout::{Layout, VmKind};

fuzz_target!(|file: &[u8]| {
    let Ok(kernel) = Kernel::load(file.to_vec()) else { return };
    let len = kernel.image().len() as u64;
    assert!(len <= MAX_IMAGE_SIZE as u64 && kernel.memory_size() >= len);
    let layout = Layout::new(VmKind::Realm, 1 << 29, 1, 40).expect("a board that exists");
    let Ok(plan) = LaunchPlan::direct_boot(&layout, kernel, None, "", None) else { return };
    let pages = plan.segments().iter().map(|segment| segment.region().size / 4096).sum::<u64>();
    assert_eq!(plan.pages().count() as u64, pages);
    assert!(plan.pages().is_sorted_by_key(|(gpa, _)| gpa));
    assert!(plan.pages().all(|(gpa, _)| gpa >= layout.ram.base && gpa + 4096 <= layout.ram.end()));
});
