use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::testing::Machine;

#[derive(Clone, Default)]
struct Pages(Arc<Mutex<Vec<(u64, u64)>>>);

impl Reclaim for Pages {
    fn reclaim(&self, gpa: u64, len: u64) -> io::Result<()> {
        if gpa >= 1 << 32 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.lock().unwrap().push((gpa, len));
        Ok(())
    }
}

impl Pages {
    fn taken(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn balloon(options: BalloonOptions) -> (Arc<Balloon>, Pages) {
    let pages = Pages::default();
    (Arc::new(Balloon::new(Box::new(pages.clone()), options).unwrap()), pages)
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn counter(balloon: &Balloon, name: &str) -> Option<u64> {
    balloon.counters().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

const STATISTICS: u64 = 1 << VIRTIO_BALLOON_F_STATS_VQ;
const REPORTING: u64 = 1 << VIRTIO_BALLOON_F_REPORTING;

#[test]
fn pages_that_the_guest_gives_up_are_taken_in_runs() {
    let (balloon, pages) = balloon(BalloonOptions::default());
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(Arc::clone(&balloon) as _);
    driver.start(STATISTICS);
    let given = driver.buffer(&numbers(&[16, 17, 18, 40, 39, 38, 7]));
    driver.request(0, &[given]);
    assert_eq!(pages.taken(), [(0x10000, 0x3000), (0x26000, 0x3000), (0x7000, 0x1000)]);
    let back = driver.buffer(&numbers(&[16, 17]));
    driver.request(1, &[back]);
    assert!(pages.taken().is_empty());
    assert_eq!(counter(&balloon, "inflated_bytes"), Some(0x7000));
    assert_eq!(counter(&balloon, "deflated_bytes"), Some(0x2000));
}

#[test]
fn pages_that_do_not_exist_and_torn_numbers_change_nothing() {
    let (balloon, pages) = balloon(BalloonOptions::default());
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(Arc::clone(&balloon) as _);
    driver.start(STATISTICS);
    let given = driver.buffer(&numbers(&[u32::MAX, 0x10_0000]));
    driver.request(0, &[given]);
    let torn = driver.buffer(&[1, 2, 3]);
    driver.request(0, &[torn]);
    let room = driver.room(16);
    driver.request(0, &[room]);
    assert!(pages.taken().is_empty());
    assert_eq!(counter(&balloon, "ignored_requests"), Some(2));
}

#[test]
fn more_numbers_than_fit_at_once_are_all_taken() {
    let (balloon, pages) = balloon(BalloonOptions::default());
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(balloon as _);
    driver.start(STATISTICS);
    let every_other: Vec<u32> = (0..3000).map(|number| number * 2).collect();
    let given = driver.buffer(&numbers(&every_other));
    driver.request(0, &[given]);
    assert_eq!(pages.taken().len(), 3000);
}

#[test]
fn request_of_more_numbers_than_any_driver_has_is_taken_in_part() {
    let (balloon, pages) = balloon(BalloonOptions::default());
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(balloon as _);
    driver.start(STATISTICS);
    let most = NUMBERS_AT_ONCE * PARTS_OF_A_REQUEST;
    let every_other: Vec<u32> = (0..20_000).map(|number| number * 2).collect();
    assert!(every_other.len() > most);
    let given = driver.buffer(&numbers(&every_other));
    driver.request(0, &[given]);
    assert_eq!(pages.taken().len(), most);
}

#[test]
fn driver_learns_the_target_and_tells_what_it_gave() {
    let (balloon, _) = balloon(BalloonOptions { target: 64 << 20, ..BalloonOptions::default() });
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(Arc::clone(&balloon) as _);
    driver.start(STATISTICS);
    assert_eq!(driver.device_config(0, 4), 64 << 20 >> 12);
    balloon.set_target(128 << 20);
    assert_eq!(driver.device_config(0, 4), 128 << 20 >> 12);
    assert_eq!(balloon.actual(), 0);
    balloon.write_config(ACTUAL, &1000_u32.to_le_bytes());
    assert_eq!((balloon.actual(), driver.device_config(4, 4)), (4_096_000, 1000));
    balloon.write_config(0, &[0xff; 4]);
    assert_eq!(driver.device_config(0, 4), 128 << 20 >> 12, "the driver does not set the target");
}

#[test]
fn reported_pages_are_taken_and_the_queue_follows_the_features() {
    // Without statistics the reporting queue is the third.
    for (features, queue) in [(REPORTING, 2), (REPORTING | STATISTICS, 3)] {
        let (balloon, pages) = balloon(BalloonOptions { reporting: true, ..BalloonOptions::default() });
        let machine = Machine::plain();
        let (mut driver, _function) = machine.plug_shared(Arc::clone(&balloon) as _);
        driver.start(features);
        let (first, second) = (driver.room(8192), driver.room(4096));
        driver.request(queue, &[first, second]);
        assert_eq!(pages.taken(), [(first.addr, 8192), (second.addr, 4096)]);
        assert_eq!(counter(&balloon, "reported_bytes"), Some(12288));
    }
}

#[test]
fn statistics_are_asked_for_and_their_buffer_is_kept_meanwhile() {
    let (balloon, _) = balloon(BalloonOptions::default());
    let machine = Machine::plain();
    let (mut driver, _function) = machine.plug_shared(Arc::clone(&balloon) as _);
    driver.start(STATISTICS);
    let entry = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let told = [entry(4, 1000), entry(5, 2000), entry(999, 1), vec![4, 0]].concat();
    let buffer = driver.buffer(&told);
    driver.submit(2, &[buffer]);
    let mut free = None;
    for _ in 0..500 {
        // Asks, too.
        free = counter(&balloon, "guest_free_bytes");
        if free.is_some() {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    assert_eq!(free, Some(1000));
    assert_eq!(counter(&balloon, "guest_total_bytes"), Some(2000));
    driver.wait_used(2);
}
