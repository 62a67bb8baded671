//! Where vCPU threads stand still when they are told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What vCPU threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    StandStill,
    End,
}

#[derive(Debug)]
struct State {
    wish: Wish,
    /// Threads that run the guest, or may do so without asking again.
    moving: usize,
}

/// Passed by each vCPU thread before it enters the guest.
#[derive(Debug)]
pub struct Gate {
    /// Whether anything but running is wished, so that the way into the guest takes no lock.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub fn new() -> Self {
        let state = State { wish: Wish::Run, moving: 0 };
        Self { closed: AtomicBool::new(false), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Counts a thread in; it is counted out when the pass is dropped.
    pub fn enter(&self) -> Pass<'_> {
        self.state().moving += 1;
        Pass(self)
    }

    /// Tells the threads to stand still; they have to be brought out of the guest, too.
    pub fn close(&self) {
        self.wish(Wish::StandStill);
    }

    /// Waits until no thread moves.
    pub fn wait_until_still(&self) {
        let mut state = self.state();
        while state.moving > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the threads go on.
    pub fn open(&self) {
        self.wish(Wish::Run);
    }

    /// Tells the threads to end; they have to be brought out of the guest, too.
    pub fn end(&self) {
        self.wish(Wish::End);
    }

    fn wish(&self, wish: Wish) {
        let mut state = self.state();
        // Whoever was told to end ends.
        if state.wish != Wish::End {
            state.wish = wish;
        }
        self.closed.store(state.wish != Wish::Run, Ordering::Release);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that may run the guest.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

impl Pass<'_> {
    /// Whether the thread is to stand still or to end.
    pub fn is_wanted(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Stands still for as long as that is wished. False when the thread is to end.
    pub fn may_run(&self) -> bool {
        if !self.0.closed.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.0.state();
        if state.wish == Wish::StandStill {
            state.moving -= 1;
            self.0.changed.notify_all();
            while state.wish == Wish::StandStill {
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.moving += 1;
        }
        state.wish == Wish::Run
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.state().moving -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn closed_gate_stops_every_thread_until_it_opens() {
        let gate = Arc::new(Gate::new());
        let steps = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (gate, steps) = (Arc::clone(&gate), Arc::clone(&steps));
                thread::spawn(move || {
                    let pass = gate.enter();
                    while pass.may_run() {
                        steps.fetch_add(1, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            gate.close();
            gate.wait_until_still();
            let still = steps.load(Ordering::Acquire);
            thread::sleep(Duration::from_micros(200));
            assert_eq!(steps.load(Ordering::Acquire), still, "nobody moves");
            gate.open();
        }
        gate.close();
        gate.end();
        gate.open();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        gate.wait_until_still();
    }

    #[test]
    fn thread_that_has_ended_is_not_waited_for() {
        let gate = Gate::new();
        drop(gate.enter());
        gate.close();
        gate.wait_until_still();
    }
}
