//! Which vCPUs are on, where this program decides that and not KVM: in a VM whose number of vCPUs can change.
//!
//! All vCPUs that the VM can ever have are in the device tree from the start. The guest turns them on and off by PSCI
//! (Arm DEN 0022), and is denied those that it has not been given.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hypervisor::SmcccRange;
use machine::layout::mpidr;

use super::gate::Pass;

/// PSCI functions (DEN 0022F.b, 5.1), which the kernel leaves to this program.
pub const CALLS: [SmcccRange; 2] =
    [SmcccRange { base: CPU_OFF, count: 3 }, SmcccRange { base: CPU_ON_64, count: 2 }];
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON_32: u32 = 0x8400_0003;
const AFFINITY_INFO_32: u32 = 0x8400_0004;
const CPU_ON_64: u32 = 0xc400_0003;
const AFFINITY_INFO_64: u32 = 0xc400_0004;

/// Return codes (5.2.2), as a 64-bit register holds them.
const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = code(-1);
const INVALID_PARAMETERS: u64 = code(-2);
const DENIED: u64 = code(-3);
const ALREADY_ON: u64 = code(-4);
const ON_PENDING: u64 = code(-5);

/// Answers of `AFFINITY_INFO` (5.7).
const IS_ON: u64 = 0;
const IS_OFF: u64 = 1;
const IS_PENDING: u64 = 2;

const fn code(code: i64) -> u64 {
    code.cast_unsigned()
}

/// How a vCPU is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where.
    pub pc: u64,
    /// What the guest finds in its first register.
    pub context: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpu {
    Off,
    Starting(Start),
    On,
}

#[derive(Debug)]
struct State {
    /// The guest may have the first so many on.
    allowed: u16,
    cpus: Vec<Cpu>,
}

/// The power of every vCPU of a VM.
#[derive(Debug)]
pub struct Power {
    state: Mutex<State>,
    changed: Condvar,
}

/// What becomes of a vCPU that made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes on with this in its first register.
    GoOn(u64),
    /// It is off.
    Off,
}

/// vCPUs cannot be taken from a guest that uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The last vCPU that is on.
    pub vcpu: u16,
}

impl Power {
    /// The first vCPU is on; the guest may turn on `allowed` of `max`.
    #[must_use]
    pub fn new(allowed: u16, max: u16) -> Self {
        let mut cpus = vec![Cpu::Off; usize::from(max)];
        if let Some(first) = cpus.first_mut() {
            *first = Cpu::On;
        }
        Self { state: Mutex::new(State { allowed, cpus }), changed: Condvar::new() }
    }

    /// Lets the guest have the first `count` vCPUs, and no others.
    ///
    /// # Errors
    ///
    /// [`InUse`]: the guest has to turn that vCPU off first.
    pub fn allow(&self, count: u16) -> Result<(), InUse> {
        let mut state = self.state();
        let last = state.cpus.iter().rposition(|cpu| *cpu != Cpu::Off);
        if let Some(vcpu) = last.and_then(|last| u16::try_from(last).ok()).filter(|&last| last >= count) {
            return Err(InUse { vcpu });
        }
        state.allowed = count;
        Ok(())
    }

    /// Waits until vCPU `index` is to begin: `None` as soon as its thread is wanted for something else.
    pub(super) fn wait(&self, index: u16, pass: &Pass<'_>) -> Option<Start> {
        let mut state = self.state();
        loop {
            match state.cpus.get_mut(usize::from(index))? {
                cpu @ &mut Cpu::Starting(start) => {
                    *cpu = Cpu::On;
                    return Some(start);
                }
                // Looked at under the lock under which threads are woken.
                _ if pass.is_wanted() => return None,
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Whether vCPU `index` runs the guest.
    pub fn is_on(&self, index: u16) -> bool {
        self.state().cpus.get(usize::from(index)) == Some(&Cpu::On)
    }

    /// Wakes the threads that wait, to look at what else is wanted.
    pub fn wake(&self) {
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Answers a call of vCPU `own`.
    pub fn call(&self, own: u16, function: u32, arguments: [u64; 3]) -> Answer {
        let arguments = match function {
            CPU_ON_32 | AFFINITY_INFO_32 => arguments.map(|value| value & 0xffff_ffff),
            _ => arguments,
        };
        let mut state = self.state();
        Answer::GoOn(match function {
            CPU_OFF => {
                if let Some(cpu) = state.cpus.get_mut(usize::from(own)) {
                    *cpu = Cpu::Off;
                }
                return Answer::Off;
            }
            CPU_ON_32 | CPU_ON_64 => {
                let [target, pc, context] = arguments;
                let answer = state.turn_on(target, Start { pc, context });
                self.changed.notify_all();
                answer
            }
            AFFINITY_INFO_32 | AFFINITY_INFO_64 => state.affinity_info(arguments[0], arguments[1]),
            _ => NOT_SUPPORTED,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn_on(&mut self, target: u64, start: Start) -> u64 {
        let allowed = self.allowed;
        let found = (0..).zip(&mut self.cpus).find(|(index, _)| mpidr(*index) == target);
        match found {
            None => INVALID_PARAMETERS,
            Some((_, Cpu::On)) => ALREADY_ON,
            Some((_, Cpu::Starting(_))) => ON_PENDING,
            Some((index, Cpu::Off)) if index >= allowed => DENIED,
            Some((_, cpu)) => {
                *cpu = Cpu::Starting(start);
                SUCCESS
            }
        }
    }

    /// The state of all vCPUs that have `target` in common from affinity level `level` on: on if one of them is.
    fn affinity_info(&self, target: u64, level: u64) -> u64 {
        let ignored = match level {
            0..=2 => level * 8,
            3 => 32,
            _ => return INVALID_PARAMETERS,
        };
        let alike = |index: u16| mpidr(index) >> ignored == target >> ignored;
        let states = (0..).zip(&self.cpus).filter(|(index, _)| alike(*index)).map(|(_, cpu)| match cpu {
            Cpu::On => IS_ON,
            Cpu::Starting(_) => IS_PENDING,
            Cpu::Off => IS_OFF,
        });
        let rank = |state: &u64| [IS_ON, IS_PENDING, IS_OFF].iter().position(|known| known == state);
        states.min_by_key(rank).unwrap_or(INVALID_PARAMETERS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::super::gate::Gate;
    use super::*;

    fn turn_on(power: &Power, index: u16) -> Answer {
        power.call(0, CPU_ON_64, [mpidr(index), 0x4000_0000, 7])
    }

    #[test]
    fn guest_turns_on_what_it_was_given_and_nothing_else() {
        let power = Power::new(2, 20);
        assert_eq!(turn_on(&power, 2), Answer::GoOn(DENIED));
        assert_eq!(turn_on(&power, 1), Answer::GoOn(SUCCESS));
        assert_eq!(turn_on(&power, 1), Answer::GoOn(ON_PENDING));
        let gate = Gate::new();
        let pass = gate.enter();
        assert_eq!(power.wait(1, &pass), Some(Start { pc: 0x4000_0000, context: 7 }));
        assert_eq!(turn_on(&power, 1), Answer::GoOn(ALREADY_ON));
        assert_eq!(turn_on(&power, 0), Answer::GoOn(ALREADY_ON));
        for nobody in [20, 16 << 8, u64::MAX, 1 << 31] {
            assert_eq!(power.call(0, CPU_ON_64, [nobody, 0, 0]), Answer::GoOn(INVALID_PARAMETERS));
        }
        power.allow(20).unwrap();
        // The seventeenth vCPU is the first of the second group of sixteen.
        assert_eq!(power.call(0, CPU_ON_32, [1 << 32 | 0x100, 1 << 32 | 5, 0]), Answer::GoOn(SUCCESS));
        assert_eq!(power.wait(16, &pass), Some(Start { pc: 5, context: 0 }), "the upper halves do not count");
    }

    #[test]
    fn vcpus_are_taken_back_only_when_the_guest_has_turned_them_off() {
        let power = Power::new(4, 4);
        let gate = Gate::new();
        turn_on(&power, 3);
        assert_eq!(power.allow(3), Err(InUse { vcpu: 3 }), "it is about to begin");
        power.wait(3, &gate.enter());
        assert_eq!(power.allow(1), Err(InUse { vcpu: 3 }));
        assert_eq!(power.call(3, CPU_OFF, [0; 3]), Answer::Off);
        power.allow(1).unwrap();
        assert_eq!(turn_on(&power, 3), Answer::GoOn(DENIED));
        assert_eq!(power.allow(0), Err(InUse { vcpu: 0 }), "a guest has one");
    }

    #[test]
    fn states_are_told_by_group() {
        let power = Power::new(20, 20);
        let info = |target, level| power.call(0, AFFINITY_INFO_64, [target, level, 0]);
        assert_eq!((info(0, 0), info(1, 0)), (Answer::GoOn(IS_ON), Answer::GoOn(IS_OFF)));
        turn_on(&power, 17);
        assert_eq!(info(0x101, 0), Answer::GoOn(IS_PENDING));
        assert_eq!((info(0x1ff, 1), info(0x2, 1)), (Answer::GoOn(IS_PENDING), Answer::GoOn(IS_ON)));
        assert_eq!(info(0, 3), Answer::GoOn(IS_ON));
        assert_eq!(
            (info(0, 4), info(0x500, 0)),
            (Answer::GoOn(INVALID_PARAMETERS), Answer::GoOn(INVALID_PARAMETERS))
        );
        assert_eq!(power.call(0, 0x8400_0008, [0; 3]), Answer::GoOn(NOT_SUPPORTED));
    }

    #[test]
    fn thread_of_a_vcpu_that_is_off_stands_still_and_ends_when_told_to() {
        let (power, gate) = (Arc::new(Power::new(2, 2)), Arc::new(Gate::new()));
        let thread = {
            let (power, gate) = (Arc::clone(&power), Arc::clone(&gate));
            thread::spawn(move || {
                let pass = gate.enter();
                while pass.may_run() {
                    if let Some(start) = power.wait(1, &pass) {
                        return Some(start);
                    }
                }
                None
            })
        };
        for _ in 0..50 {
            gate.close();
            power.wake();
            gate.wait_until_still();
            gate.open();
        }
        turn_on(&power, 1);
        assert!(thread.join().unwrap().is_some());
        gate.end();
        power.wake();
        assert_eq!(power.call(1, CPU_OFF, [0; 3]), Answer::Off);
        assert_eq!(power.wait(1, &gate.enter()), None);
    }
}
