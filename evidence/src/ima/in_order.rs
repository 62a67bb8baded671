//! Work in order, with preparations that need no order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Hands each of `parts` to `work` in their order, with what `prepare` makes of it. If they are `many`, and there is a second
/// processor, a second thread prepares part after part. This one works through what is prepared; where that is not yet so, it
/// prepares what nobody has begun. So neither waits, and a machine that has no time for the second thread has the work done
/// all the same.
///
/// # Errors
/// The first of `work`, after which nothing more is done.
pub(super) fn in_order<T: Clone + Send, P: Send, E>(
    mut parts: impl Iterator<Item = T> + Send,
    many: bool,
    prepare: impl Fn(&T) -> P + Sync,
    mut work: impl FnMut(&T, P) -> Result<(), E>,
) -> Result<(), E> {
    if !many || processors() < 2 {
        return parts.try_for_each(|part| work(&part, prepare(&part)));
    }
    let queue = Mutex::new(Queue { parts: Some(parts), begun: VecDeque::new(), first: 0 });
    // Prepares what comes next, if anything does.
    let prepare_next = || {
        let (index, part) = lock(&queue).begin()?;
        let made = prepare(&part);
        lock(&queue).finish(index, made);
        Some(())
    };
    thread::scope(|scope| {
        // Without a thread everything is left to do.
        let second = || while prepare_next().is_some() {};
        let _ = thread::Builder::new().name("ima".to_owned()).spawn_scoped(scope, second);
        let mut all = || {
            loop {
                let first = lock(&queue).take();
                let (part, made) = match first {
                    Some(Begun { part, made: Some(made) }) => (part, made),
                    _ if prepare_next().is_some() => continue,
                    // The other thread is still about it, and may have no processor.
                    Some(Begun { part, made: None }) => {
                        let made = prepare(&part);
                        lock(&queue).leave();
                        (part, made)
                    }
                    None => return Ok(()),
                };
                work(&part, made)?;
            }
        };
        let result = all();
        lock(&queue).parts = None;
        result
    })
}

/// A part that a thread has begun to prepare.
struct Begun<T, P> {
    part: T,
    made: Option<P>,
}

struct Queue<I: Iterator, P> {
    /// What nobody has begun; nothing after an error.
    parts: Option<I>,
    begun: VecDeque<Begun<I::Item, P>>,
    /// The position of the first that is begun.
    first: usize,
}

impl<I: Iterator<Item: Clone>, P> Queue<I, P> {
    /// The next part, and its position.
    fn begin(&mut self) -> Option<(usize, I::Item)> {
        let part = self.parts.as_mut()?.next()?;
        self.begun.push_back(Begun { part: part.clone(), made: None });
        Some((self.first + self.begun.len() - 1, part))
    }

    fn finish(&mut self, index: usize, made: P) {
        let slot = index.checked_sub(self.first).and_then(|at| self.begun.get_mut(at));
        if let Some(slot) = slot {
            slot.made = Some(made);
        }
    }

    /// The first part; it stays until it is prepared.
    fn take(&mut self) -> Option<Begun<I::Item, P>> {
        let first = self.begun.front_mut()?;
        let taken = Begun { part: first.part.clone(), made: first.made.take() };
        if taken.made.is_some() {
            self.leave();
        }
        Some(taken)
    }

    /// The first part is needed no more.
    fn leave(&mut self) {
        self.first += usize::from(self.begun.pop_front().is_some());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    // It reads files.
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What `work` was given.
    fn run(
        parts: usize,
        fails_at: Option<usize>,
        before: impl Fn(usize) + Sync,
    ) -> (Vec<usize>, Result<(), usize>) {
        let mut seen = Vec::new();
        let result = in_order(
            0..parts,
            parts > 10,
            |part| {
                before(*part);
                part * 2
            },
            |part, prepared| {
                assert_eq!(prepared, part * 2);
                seen.push(*part);
                if fails_at == Some(*part) { Err(*part) } else { Ok(()) }
            },
        );
        (seen, result)
    }

    #[test]
    fn everything_is_worked_through_once_in_its_order() {
        for parts in [0, 1, 10, 11, 1000] {
            assert_eq!(run(parts, None, |_| ()), ((0..parts).collect(), Ok(())));
            assert_eq!(run(parts, None, |_| thread::yield_now()), ((0..parts).collect(), Ok(())));
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        for parts in [10, 1000] {
            assert_eq!(run(parts, Some(3), |_| ()), ((0..=3).collect(), Err(3)));
        }
    }

    /// It is waited for at the end only, for it cannot be stopped.
    #[test]
    fn a_thread_that_makes_no_progress_holds_up_nothing() {
        let slow = |_: usize| {
            if thread::current().name() == Some("ima") {
                thread::sleep(Duration::from_millis(50));
            }
        };
        assert_eq!(run(200, None, slow), ((0..200).collect(), Ok(())));
        assert_eq!(run(200, Some(150), slow), ((0..=150).collect(), Err(150)));
    }
}
