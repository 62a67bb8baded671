//! Work in order, with preparations that need no order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// Fewer parts are not worth a thread.
const WORTH: usize = 16;

/// Hands each of `parts` to `work` in their order, with what `prepare` makes of it. A second thread, if there are many parts
/// and a second processor, prepares part after part. This one works through what is prepared; where that is not yet so, it
/// prepares what nobody has begun. So neither waits, and a machine that has no time for the second thread has the work done
/// all the same.
///
/// # Errors
/// The first of `work`, after which nothing more is done.
pub(super) fn in_order<T: Sync, P: Send, E>(
    parts: &[T],
    prepare: impl Fn(&T) -> P + Sync,
    mut work: impl FnMut(&T, P) -> Result<(), E>,
) -> Result<(), E> {
    if parts.len() < WORTH || processors() < 2 {
        return parts.iter().try_for_each(|part| work(part, prepare(part)));
    }
    let prepared: Vec<Mutex<Option<P>>> = parts.iter().map(|_| Mutex::default()).collect();
    // Parts that a thread has begun to prepare, or has prepared.
    let begun = AtomicUsize::new(0);
    // Prepares one of these, and gives its position.
    let prepare_next = || {
        let index = begun.fetch_add(1, Ordering::Relaxed);
        let (part, slot) = parts.get(index).zip(prepared.get(index))?;
        let made = prepare(part);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Some(index)
    };
    thread::scope(|scope| {
        // Without a thread everything is left to do.
        let second = || while prepare_next().is_some() {};
        let _ = thread::Builder::new().name("ima".to_owned()).spawn_scoped(scope, second);
        let mut all = || {
            for (part, slot) in parts.iter().zip(&prepared) {
                let made = loop {
                    if let Some(made) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        break made;
                    }
                    if prepare_next().is_none() {
                        // The other thread is still about it, and may have no processor.
                        break prepare(part);
                    }
                };
                work(part, made)?;
            }
            Ok(())
        };
        let result = all();
        begun.store(parts.len(), Ordering::Relaxed);
        result
    })
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
        let parts: Vec<usize> = (0..parts).collect();
        let mut seen = Vec::new();
        let result = in_order(
            &parts,
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
        for parts in [0, 1, WORTH - 1, WORTH, 1000] {
            assert_eq!(run(parts, None, |_| ()), ((0..parts).collect(), Ok(())));
            assert_eq!(run(parts, None, |_| thread::yield_now()), ((0..parts).collect(), Ok(())));
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        for parts in [WORTH - 1, 1000] {
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
