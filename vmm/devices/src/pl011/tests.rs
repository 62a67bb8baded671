use super::*;
use crate::testing::RecordingLine;
use crate::virtio::NoDeviceHost;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

#[derive(Clone, Default)]
struct Terminal {
    shown: Arc<Mutex<Vec<u8>>>,
    stalled: Arc<Mutex<bool>>,
}

impl Write for Terminal {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if *self.stalled.lock().unwrap() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.shown.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn uart() -> (Arc<Pl011>, Terminal, Arc<RecordingLine>) {
    let (terminal, line) = (Terminal::default(), Arc::new(RecordingLine::default()));
    (Pl011::new(line.clone(), Box::new(terminal.clone())).unwrap(), terminal, line)
}

fn read(uart: &Pl011, offset: u64) -> u32 {
    let mut data = [0; 4];
    uart.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(uart: &Pl011, offset: u64, value: u32) {
    uart.write(offset, &value.to_le_bytes());
}

#[test]
fn linux_finds_the_primecell_it_looks_for() {
    let (uart, ..) = uart();
    let register =
        |offset: u64| (0..4_u64).map(|index| read(&uart, offset + 4 * index) << (8 * index)).sum::<u32>();
    assert_eq!(register(0xfe0), 0x0034_1011);
    assert_eq!(register(0xff0), 0xb105_f00d);
}

#[test]
fn early_console_prints_without_set_up() {
    let (uart, terminal, line) = uart();
    for &character in b"hello" {
        assert_eq!(read(&uart, FLAGS) & (FLAG_TRANSMIT_FULL | 1 << 3), 0, "transmitter must be ready");
        uart.write(DATA, &[character]);
    }
    assert_eq!(*terminal.shown.lock().unwrap(), b"hello");
    assert!(line.take().is_empty());
}

#[test]
fn full_fifo_is_seen_once_and_its_driver_is_interrupted() {
    let (uart, terminal, line) = uart();
    write(&uart, INTERRUPT_MASK, INTERRUPT_TRANSMIT);
    for _ in 0..FIFO_DEPTH {
        assert_eq!(read(&uart, FLAGS) & FLAG_TRANSMIT_FULL, 0);
        write(&uart, DATA, 0x41);
    }
    assert_eq!(read(&uart, FLAGS) & (FLAG_TRANSMIT_FULL | FLAG_TRANSMIT_EMPTY), FLAG_TRANSMIT_FULL);
    assert_eq!(read(&uart, INTERRUPT_MASKED), INTERRUPT_TRANSMIT);
    assert_eq!(line.take(), [true]);
    assert_eq!(read(&uart, FLAGS) & (FLAG_TRANSMIT_FULL | FLAG_TRANSMIT_EMPTY), FLAG_TRANSMIT_EMPTY);
    assert_eq!(terminal.shown.lock().unwrap().len(), FIFO_DEPTH, "all was sent at once");
}

#[test]
fn transmit_interrupt_comes_after_a_character_and_goes_when_cleared() {
    let (uart, _, line) = uart();
    write(&uart, INTERRUPT_MASK, INTERRUPT_TRANSMIT);
    assert!(line.take().is_empty(), "nothing sent, nothing to report");
    write(&uart, DATA, 0x41);
    assert_eq!(read(&uart, INTERRUPT_MASKED), INTERRUPT_TRANSMIT);
    write(&uart, INTERRUPT_CLEAR, INTERRUPT_TRANSMIT);
    assert_eq!(line.take(), [true, false]);
}

#[test]
fn received_characters_interrupt_until_all_are_read() {
    let (uart, _, line) = uart();
    write(&uart, LINE_CONTROL, LINE_FIFO_ENABLE);
    write(&uart, INTERRUPT_MASK, INTERRUPT_RECEIVE);
    assert_eq!(uart.receive(b"ok"), 2);
    write(&uart, INTERRUPT_CLEAR, INTERRUPT_ALL);
    assert_eq!(read(&uart, INTERRUPT_RAW), INTERRUPT_RECEIVE, "data remains, the interrupt must");
    assert_eq!((read(&uart, DATA), read(&uart, DATA)), (0x6f, 0x6b));
    assert_eq!(read(&uart, FLAGS) & FLAG_RECEIVE_EMPTY, FLAG_RECEIVE_EMPTY);
    assert_eq!(line.take(), [true, false]);
    assert_eq!(read(&uart, DATA), 0);
}

#[test]
fn fifo_holds_thirty_two_characters_or_one() {
    let (uart, ..) = uart();
    assert_eq!(uart.receive(&[1; 40]), 1);
    write(&uart, LINE_CONTROL, LINE_FIFO_ENABLE);
    assert_eq!(uart.receive(&[1; 40]), 31);
    assert_eq!(read(&uart, FLAGS) & FLAG_RECEIVE_FULL, FLAG_RECEIVE_FULL);
    assert_eq!(uart.receive(&[1; 40]), 0);
}

#[test]
fn stalled_terminal_gets_its_output_later_and_memory_stays_bounded() {
    let (uart, terminal, _) = uart();
    *terminal.stalled.lock().unwrap() = true;
    for _ in 0..MAX_UNSENT + 1000 {
        uart.write(DATA, b"x");
    }
    *terminal.stalled.lock().unwrap() = false;
    read(&uart, FLAGS);
    assert_eq!(terminal.shown.lock().unwrap().len(), MAX_UNSENT);
}

#[test]
fn set_up_registers_read_back() {
    let (uart, ..) = uart();
    for (offset, value) in
        [(BAUD_INTEGER, 0x1234), (BAUD_FRACTION, 0x2a), (LINE_CONTROL, 0x70), (CONTROL, 0x301)]
    {
        write(&uart, offset, value);
        assert_eq!(read(&uart, offset), value);
    }
}

#[test]
fn odd_accesses_do_no_harm() {
    let (uart, ..) = uart();
    for offset in (0..0x1100).chain([u64::MAX]) {
        for len in [0, 1, 2, 3, 8, 9] {
            uart.write(offset, &vec![0xff; len]);
            uart.read(offset, &mut vec![0; len]);
        }
    }
}

#[test]
fn typed_text_arrives_whole_and_in_order() {
    let (uart, ..) = uart();
    let (mut keyboard, input) = UnixStream::pair().unwrap();
    let input = uart.connect_input(OwnedFd::from(input), Arc::new(NoDeviceHost)).unwrap();
    let typed: Vec<u8> = (0..1000).map(|index| u8::try_from(index % 251).unwrap()).collect();
    keyboard.write_all(&typed).unwrap();
    let mut seen = Vec::new();
    while seen.len() < typed.len() {
        if read(&uart, FLAGS) & FLAG_RECEIVE_EMPTY == 0 {
            seen.push(u8::try_from(read(&uart, DATA)).unwrap());
        } else {
            std::thread::yield_now();
        }
    }
    assert_eq!(seen, typed);
    drop(input);
}
