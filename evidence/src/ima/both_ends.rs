//! Work in order, of which another thread prepares what is still far away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// Fewer parts are not worth a thread.
const WORTH: usize = 16;

/// Hands `parts` to `work` in their order. Meanwhile a second thread, if there are many parts and a second processor, makes
/// with `prepare` what it can of them from the last on, until the two meet. So neither waits, and a machine that has no
/// time for the second thread has the work done all the same.
///
/// # Errors
/// The first of `work`, after which nothing more is done.
pub(super) fn both_ends<T: Sync, P: Send, E>(
    parts: &[T],
    prepare: impl Fn(&T) -> P + Sync,
    mut work: impl FnMut(&T, Option<P>) -> Result<(), E>,
) -> Result<(), E> {
    if parts.len() < WORTH || processors() < 2 {
        return parts.iter().try_for_each(|part| work(part, None));
    }
    let prepared: Vec<Mutex<Option<P>>> = parts.iter().map(|_| Mutex::default()).collect();
    // Parts that `work` has taken.
    let taken = AtomicUsize::new(0);
    let from_the_end = || {
        for (index, (part, slot)) in parts.iter().zip(&prepared).enumerate().rev() {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if index < taken.load(Ordering::SeqCst) {
                return;
            }
            *slot = Some(prepare(part));
        }
    };
    thread::scope(|scope| {
        // Without a thread everything is left to do.
        let _ = thread::Builder::new().name("ima".to_owned()).spawn_scoped(scope, from_the_end);
        let mut all = || {
            for (index, (part, slot)) in parts.iter().zip(&prepared).enumerate() {
                taken.store(index + 1, Ordering::SeqCst);
                let prepared = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                work(part, prepared)?;
            }
            Ok(())
        };
        let result = all();
        taken.store(parts.len(), Ordering::SeqCst);
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
    use super::*;

    /// What `work` was given, and whether it was prepared.
    fn run(parts: usize, fails_at: Option<usize>) -> (Vec<usize>, Result<(), usize>) {
        let parts: Vec<usize> = (0..parts).collect();
        let mut seen = Vec::new();
        let result = both_ends(
            &parts,
            |part| part * 2,
            |part, prepared| {
                assert!(prepared.is_none_or(|prepared| prepared == part * 2));
                seen.push(*part);
                // So that the other thread has something to do.
                thread::yield_now();
                if fails_at == Some(*part) { Err(*part) } else { Ok(()) }
            },
        );
        (seen, result)
    }

    #[test]
    fn everything_is_worked_through_once_in_its_order() {
        for parts in [0, 1, WORTH - 1, WORTH, 1000] {
            assert_eq!(run(parts, None), ((0..parts).collect(), Ok(())));
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        for parts in [WORTH - 1, 1000] {
            assert_eq!(run(parts, Some(3)), ((0..=3).collect(), Err(3)));
        }
    }
}
