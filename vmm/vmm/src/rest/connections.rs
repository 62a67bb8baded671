//! The connections that are open: at most so many, and the one that was idle for longest makes room for a new one.
//!
//! Clients keep connections open for as long as the VM lives, so idle ones are not closed by a clock. One that never
//! finishes a request counts as idle.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Most connections. Each takes memory and a descriptor, so without the bound a client could use up both.
pub(super) const MOST: usize = 64;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Connections {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    idle_since: Option<Instant>,
    evicted: Rc<Notify>,
}

/// Shared by the connections.
pub(super) type Shared = Rc<RefCell<Connections>>;

impl Connections {
    /// Whether there is none.
    pub(super) fn is_empty(shared: &Shared) -> bool {
        shared.borrow().open.is_empty()
    }

    /// Takes a new connection in. None when all others are at work for their clients.
    pub(super) fn admit(shared: &Shared) -> Option<Connection> {
        let mut connections = shared.borrow_mut();
        if connections.open.len() >= MOST {
            let idle =
                connections.open.iter().filter_map(|(&number, entry)| Some((entry.idle_since?, number)));
            let (_, oldest) = idle.min()?;
            if let Some(entry) = connections.open.remove(&oldest) {
                entry.evicted.notify_one();
            }
        }
        let number = connections.next;
        connections.next += 1;
        let evicted = Rc::<Notify>::default();
        let entry = Entry { idle_since: Some(Instant::now()), evicted: Rc::clone(&evicted) };
        connections.open.insert(number, entry);
        Some(Connection { shared: Rc::clone(shared), number, evicted })
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Shared,
    number: u64,
    evicted: Rc<Notify>,
}

impl Connection {
    /// Waits until it has to make room for another.
    pub(super) fn evicted(&self) -> Rc<Notify> {
        Rc::clone(&self.evicted)
    }

    /// It works for its client until the result is dropped, and is not closed meanwhile.
    pub(super) fn work(self: &Rc<Self>) -> Work {
        self.mark(None);
        Work(Rc::clone(self))
    }

    fn mark(&self, idle_since: Option<Instant>) {
        if let Some(entry) = self.shared.borrow_mut().open.get_mut(&self.number) {
            entry.idle_since = idle_since;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.borrow_mut().open.remove(&self.number);
    }
}

/// A connection at work.
#[derive(Debug)]
pub(super) struct Work(Rc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.mark(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_makes_room_and_those_at_work_stay() {
        let shared = Shared::default();
        let connections: Vec<_> = (0..MOST).map(|_| Rc::new(Connections::admit(&shared).unwrap())).collect();
        let work = connections[0].work();
        let newcomer = Connections::admit(&shared).unwrap();
        let is_open = |number: u64| shared.borrow().open.contains_key(&number);
        assert!(is_open(connections[0].number), "at work");
        assert!(!is_open(connections[1].number), "idle for longest");
        assert!(is_open(newcomer.number));
        assert_eq!(shared.borrow().open.len(), MOST);
        drop(work);
        drop(connections);
        assert_eq!(shared.borrow().open.len(), 1);
    }

    #[test]
    fn nobody_is_admitted_while_all_are_at_work() {
        let shared = Shared::default();
        let connections: Vec<_> = (0..MOST).map(|_| Rc::new(Connections::admit(&shared).unwrap())).collect();
        let _work: Vec<_> = connections.iter().map(Connection::work).collect();
        assert!(Connections::admit(&shared).is_none());
    }
}
