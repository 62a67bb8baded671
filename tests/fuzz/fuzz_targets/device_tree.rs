//! Any board and any command line: a clear refusal, or a device tree that an independent parser reads back.

#![no_main]

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use machine::fdt::{self, BootArgs, Seeds};
use machine::layout::{Layout, Region, VmKind, mpidr};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    realm: bool,
    ram_blocks: u32,
    vcpus: u8,
    ipa_bits: u8,
    cmdline: &'a str,
    initrd: Option<(u64, u64)>,
    seeds: Option<([u8; 32], u64)>,
}

fuzz_target!(|input: Input<'_>| {
    let kind = if input.realm { VmKind::Realm } else { VmKind::Plain };
    let ram_size = u64::from(input.ram_blocks) * 0x20_0000;
    let Ok(layout) = Layout::new(kind, ram_size, input.vcpus.into(), input.ipa_bits) else { return };
    let mut parts = layout.device_regions().to_vec();
    parts.push(layout.ram);
    parts.sort();
    assert!(parts.windows(2).all(|pair| !pair[0].overlaps(&pair[1])));
    assert!(parts.iter().all(|part| layout.shared_bit().is_none_or(|bit| part.end() <= bit)));

    let boot = BootArgs {
        cmdline: input.cmdline,
        initrd: input.initrd.map(|(base, size)| Region::new(base, size)),
        seeds: input.seeds.map(|(rng, kaslr)| Seeds { rng, kaslr }),
    };
    let Ok(blob) = fdt::build(&layout, &boot) else { return };
    let tree = Fdt::new(&blob).expect("a device tree");
    let chosen = tree.find_node("/chosen").expect("/chosen");
    let bootargs = chosen.property("bootargs").expect("bootargs");
    assert_eq!(bootargs.value_as::<&str>().expect("text"), input.cmdline);
    assert!(!input.realm || chosen.property("rng-seed").or(chosen.property("kaslr-seed")).is_none());
    for index in 0..input.vcpus.into() {
        let path = format!("/cpus/cpu@{:x}", mpidr(index));
        assert!(tree.find_node(&path).is_some(), "{path}");
    }
});
