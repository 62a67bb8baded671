//! What the compiled filters answer, by running them as the kernel would.

use libc::{
    CLONE_NEWNET, CLONE_NEWUSER, CLONE_THREAD, CLONE_VM, PROT_EXEC, PROT_READ, PROT_WRITE, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_LOG,
};
use seccompiler::sock_filter;

use super::*;

/// Instructions that seccompiler makes (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Audit number of this machine's architecture (`linux/audit.h`).
const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

/// A 32-bit word of `struct seccomp_data`.
fn word(call: i64, arguments: &[u64; 6], offset: u32) -> u32 {
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
    match offset {
        0 => u32::try_from(call).unwrap(),
        4 => ARCHITECTURE,
        16.. if offset.is_multiple_of(8) => low(arguments[(offset as usize - 16) / 8]),
        16.. => low(arguments[(offset as usize - 20) / 8] >> 32),
        _ => panic!("offset {offset}"),
    }
}

fn run(program: &[sock_filter], call: i64, arguments: [u64; 6]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = word(call, &arguments, k),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            JUMP_EQUAL => branch(accumulator == k),
            JUMP_GREATER => branch(accumulator > k),
            JUMP_NOT_LESS => branch(accumulator >= k),
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn allowed(kind: ThreadKind, call: i64, arguments: &[u64]) -> bool {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let filters = Filters::new(SeccompMode::Enforce).unwrap();
    match run(&filters.programs[&kind], call, all) {
        SECCOMP_RET_ALLOW => true,
        SECCOMP_RET_KILL_PROCESS => false,
        other => panic!("{other:#x}"),
    }
}

fn flags(flags: i32) -> u64 {
    u64::from(flags.cast_unsigned())
}

#[test]
fn no_thread_makes_memory_executable() {
    for kind in ThreadKind::ALL {
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let writable = flags(PROT_READ | PROT_WRITE);
            assert!(allowed(kind, call, &[0, 4096, writable]), "{kind:?}");
            for protection in [PROT_EXEC, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC] {
                assert!(!allowed(kind, call, &[0, 4096, flags(protection)]), "{kind:?}: {protection:#x}");
            }
        }
    }
}

#[test]
fn threads_can_be_started_but_neither_processes_nor_namespaces() {
    for kind in [ThreadKind::Main, ThreadKind::Vcpu] {
        assert!(allowed(kind, libc::SYS_clone, &[flags(CLONE_VM | CLONE_THREAD)]));
        assert!(!allowed(kind, libc::SYS_clone, &[flags(libc::SIGCHLD)]), "a process");
        for namespace in [CLONE_NEWUSER, CLONE_NEWNET] {
            assert!(!allowed(kind, libc::SYS_clone, &[flags(CLONE_VM | CLONE_THREAD | namespace)]));
        }
    }
}

#[test]
fn clone3_does_not_exist_for_the_c_library() {
    let filters = Filters::new(SeccompMode::Enforce).unwrap();
    let answer = run(&filters.no_clone3, libc::SYS_clone3, [0; 6]);
    assert_eq!(answer, SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    assert_eq!(run(&filters.no_clone3, libc::SYS_read, [0; 6]), SECCOMP_RET_ALLOW);
}

#[test]
fn vcpus_ask_kvm_for_nothing_that_builds_a_vm() {
    let create_vm = 0xae01;
    let create_vcpu = 0xae41;
    let (run, types_into_terminals) = (u64::from(ioctls::KVM_RUN), 0x5412);
    assert!(allowed(ThreadKind::Main, libc::SYS_ioctl, &[3, create_vm]));
    assert!(allowed(ThreadKind::Vcpu, libc::SYS_ioctl, &[3, run]));
    for request in [create_vm, create_vcpu, types_into_terminals] {
        assert!(!allowed(ThreadKind::Vcpu, libc::SYS_ioctl, &[3, request]), "{request:#x}");
    }
    assert!(!allowed(ThreadKind::Main, libc::SYS_ioctl, &[3, types_into_terminals]));
    assert!(!allowed(ThreadKind::Block, libc::SYS_ioctl, &[3, run]));
}

#[test]
fn open_tap_devices_are_adopted_and_served_but_not_made() {
    let adopts = [ioctls::TUNGETIFF, ioctls::TUNSETVNETHDRSZ];
    let serves = [ioctls::TUNSETOFFLOAD, ioctls::TUNSETQUEUE];
    // TUNSETIFF makes or opens one by its name; TUNSETPERSIST lets it outlive the VMM; TUNSETOWNER gives it away.
    let never = [0x4004_54ca, 0x4004_54cb, 0x4004_54cc];
    let may = |kind, request: u32| allowed(kind, libc::SYS_ioctl, &[3, request.into()]);
    for request in adopts.into_iter().chain(serves) {
        assert!(may(ThreadKind::Main, request), "{request:#x}");
    }
    for request in serves {
        assert!(may(ThreadKind::Net, request), "{request:#x}");
    }
    for request in adopts {
        assert!(!may(ThreadKind::Net, request) && !may(ThreadKind::Vcpu, request), "{request:#x}");
    }
    for request in never {
        assert!(ThreadKind::ALL.iter().all(|&kind| !may(kind, request)), "{request:#x}");
    }
}

/// musl passes the request as a negative `int`: the upper half of the argument is all ones.
#[test]
fn only_that_part_of_an_argument_counts_at_which_the_kernel_looks() {
    let sign_extended = 0xffff_ffff_0000_0000 | u64::from(ioctls::TCGETS2);
    assert!(allowed(ThreadKind::Main, libc::SYS_ioctl, &[3, sign_extended]));
    let sign_extended = 0xffff_ffff_0000_0000 | 0x8000_ae00;
    assert!(allowed(ThreadKind::Main, libc::SYS_ioctl, &[3, sign_extended]), "by its letter");
}

#[test]
fn sockets_are_unix_sockets() {
    for kind in ThreadKind::ALL {
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK] {
            assert!(!allowed(kind, libc::SYS_socket, &[flags(family)]), "{kind:?}: {family}");
        }
    }
    assert!(allowed(ThreadKind::Vsock, libc::SYS_socket, &[flags(libc::AF_UNIX)]));
    assert!(!allowed(ThreadKind::Rng, libc::SYS_socket, &[flags(libc::AF_UNIX)]));
    // A byte to a socket that is connected, and nothing to an address.
    assert!(allowed(ThreadKind::Block, libc::SYS_sendto, &[3, 1, 1, 0, 0]));
    assert!(!allowed(ThreadKind::Block, libc::SYS_sendto, &[3, 1, 1, 0, 0x7000]));
}

#[test]
fn signals_go_to_this_process_only() {
    let (own, init) = (u64::from(std::process::id()), 1);
    assert!(allowed(ThreadKind::Main, libc::SYS_tgkill, &[own, 5, 34]));
    assert!(!allowed(ThreadKind::Main, libc::SYS_tgkill, &[init, 1, 9]));
    assert!(!allowed(ThreadKind::Main, libc::SYS_tkill, &[1, 9]), "its process cannot be told: no SIGKILL");
}

#[test]
fn logging_lets_everything_pass_but_clone3() {
    let filters = Filters::new(SeccompMode::Log).unwrap();
    for kind in ThreadKind::ALL {
        assert_eq!(run(&filters.programs[&kind], libc::SYS_execve, [0; 6]), SECCOMP_RET_LOG);
    }
}
