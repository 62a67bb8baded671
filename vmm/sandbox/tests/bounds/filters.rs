//! System call filters, as the kernel enforces them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use super::Case;
use sandbox::{Filters, SeccompMode, ThreadKind};

fn bind(mode: SeccompMode, kind: ThreadKind) {
    Filters::new(mode).unwrap().apply(kind).unwrap();
}

fn open_a_file() {
    drop(File::open("/dev/null"));
}

fn execute_a_program() {
    drop(Command::new("/proc/self/exe").arg("--list").env_clear().output());
}

fn use_the_network() {
    drop(TcpListener::bind("127.0.0.1:0"));
}

fn make_a_socket() {
    drop(UnixListener::bind("/nonexistent/socket"));
}

fn start_a_thread() {
    drop(thread::Builder::new().spawn(|| {}).map(thread::JoinHandle::join));
}

pub fn cases() -> Vec<Case> {
    let forbidden: [(ThreadKind, &str, fn()); 19] = [
        (ThreadKind::Main, "execute_a_program", execute_a_program),
        (ThreadKind::Main, "use_the_network", use_the_network),
        (ThreadKind::Vcpu, "execute_a_program", execute_a_program),
        (ThreadKind::Vcpu, "open_a_file", open_a_file),
        (ThreadKind::Vcpu, "use_the_network", use_the_network),
        (ThreadKind::Api, "open_a_file", open_a_file),
        (ThreadKind::Balloon, "open_a_file", open_a_file),
        (ThreadKind::Block, "open_a_file", open_a_file),
        (ThreadKind::Block, "make_a_socket", make_a_socket),
        (ThreadKind::Block, "start_a_thread", start_a_thread),
        (ThreadKind::Console, "open_a_file", open_a_file),
        (ThreadKind::Net, "open_a_file", open_a_file),
        (ThreadKind::Pmem, "open_a_file", open_a_file),
        (ThreadKind::Rng, "open_a_file", open_a_file),
        (ThreadKind::Signal, "open_a_file", open_a_file),
        (ThreadKind::VhostUser, "open_a_file", open_a_file),
        (ThreadKind::Vsock, "open_a_file", open_a_file),
        (ThreadKind::Vsock, "use_the_network", use_the_network),
        (ThreadKind::Watchdog, "open_a_file", open_a_file),
    ];
    let forbidden = forbidden.into_iter().map(|(kind, what, attempt)| {
        Case::is_killed(&format!("{kind:?}_thread_may_not_{what}").to_lowercase(), move |_| {
            bind(SeccompMode::Enforce, kind);
            attempt();
        })
    });
    // Otherwise the end of the process could be what ends those above.
    let harmless = ThreadKind::ALL.into_iter().map(|kind| {
        Case::holds(&format!("{kind:?}_thread_may_end").to_lowercase(), move |_| {
            bind(SeccompMode::Enforce, kind);
        })
    });
    let passes = [("without_filters", SeccompMode::Off), ("logged", SeccompMode::Log)].map(|(how, mode)| {
        Case::holds(&format!("{how}_every_system_call_passes"), move |_| {
            bind(mode, ThreadKind::Main);
            bind(mode, ThreadKind::Rng);
            for attempt in [open_a_file, execute_a_program, use_the_network, make_a_socket, start_a_thread] {
                attempt();
            }
        })
    });
    let others = [
        Case::holds("main_thread_has_the_filter_that_hides_clone3_too", |_| {
            bind(SeccompMode::Enforce, ThreadKind::Main);
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            assert!(status.contains("Seccomp_filters:\t2\n"), "{status}");
        }),
        Case::holds("threads_start_do_their_work_and_end", threads_start_do_their_work_and_end),
        Case::is_killed("thread_is_bound_by_its_own_filter_too", thread_is_bound_by_its_own_filter_too),
    ];
    forbidden.chain(harmless).chain(passes).chain(others).collect()
}

fn threads_start_do_their_work_and_end(directory: &Path) {
    let path = directory.join("image");
    let filters = Arc::new(Filters::new(SeccompMode::Enforce).unwrap());
    filters.apply(ThreadKind::Main).unwrap();

    let image = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    let listener = UnixListener::bind(directory.join("socket")).unwrap();
    let (mut client, mut served) = UnixStream::pair().unwrap();
    let start = |kind: ThreadKind, work: Box<dyn FnOnce() + Send>| {
        let filters = Arc::clone(&filters);
        let named = thread::Builder::new().name(format!("{kind:?}"));
        let thread = named.spawn(move || {
            filters.apply(kind).unwrap();
            work();
        });
        thread.unwrap()
    };
    let disk = move || {
        image.write_all_at(&[7; 4096], 8192).unwrap();
        image.sync_data().unwrap();
        assert_eq!(image.metadata().unwrap().len(), 12288);
    };
    let signal = move || assert_eq!(served.read(&mut [0; 8]).unwrap(), 1);
    let socket_path = directory.join("socket");
    let vsock = move || {
        let _peer = UnixStream::connect(&socket_path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"OK").unwrap();
    };
    client.write_all(b"x").unwrap();

    let device_filters = Arc::clone(&filters);
    let vcpu = move || {
        // The guest activates a disk.
        let thread = thread::spawn(move || {
            device_filters.apply(ThreadKind::Block).unwrap();
            disk();
        });
        thread.join().unwrap();
        // Memory of every size comes and goes.
        drop((0..8).map(|shift| vec![1_u8; 1 << (3 * shift)]).collect::<Vec<_>>());
        eprintln!("a message");
    };
    let threads = [
        start(ThreadKind::Vcpu, Box::new(vcpu)),
        start(ThreadKind::Signal, Box::new(signal)),
        start(ThreadKind::Vcpu, {
            let filters = Arc::clone(&filters);
            Box::new(move || {
                let vsock = thread::spawn(move || {
                    filters.apply(ThreadKind::Vsock).unwrap();
                    vsock();
                });
                vsock.join().unwrap();
            })
        }),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
}

fn thread_is_bound_by_its_own_filter_too(_: &Path) {
    let filters = Filters::new(SeccompMode::Enforce).unwrap();
    filters.apply(ThreadKind::Main).unwrap();
    open_a_file();
    let thread = thread::spawn(move || {
        filters.apply(ThreadKind::Rng).unwrap();
        open_a_file();
    });
    drop(thread.join());
}
