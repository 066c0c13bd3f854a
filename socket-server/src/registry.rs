//! What a server serves, and which of it is ready.
//!
//! A poll names sockets by token. The token of a socket that is closed may be in a batch of events
//! that is being handled, and its slot may have been given to another by then; so a token carries a
//! generation besides the slot, and whoever comes with an old one finds nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use slab::Slab;

/// Half of a token is the slot, half the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

/// Something with a handler: a socket, a signal, a name that is being resolved.
pub(crate) trait Registered {
    /// The server says what can be done now.
    fn note(&self, news: News);

    /// Calls the handler for what can be done. [Queued](Registry::push_ready) before.
    fn dispatch(self: Rc<Self>);

    /// Queues up again if there is more to do. Called after each [`dispatch`](Self::dispatch), when
    /// the handler is back, also if it panicked: no news will come of what it has left.
    fn queue_if_ready(&self) {}
}

/// What can be done with a socket now, as far as a server has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct News {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl News {
    pub(crate) const READABLE: Self = Self {
        readable: true,
        writable: false,
    };
    pub(crate) const WRITABLE: Self = Self {
        readable: false,
        writable: true,
    };
}

/// Names what is, or was, registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    slot: usize,
    generation: usize,
}

impl Key {
    /// As a number, of which the server's own are [others](own_token).
    pub(crate) const fn token(self) -> usize {
        self.generation << SLOT_BITS | self.slot
    }

    pub(crate) const fn from_token(token: usize) -> Self {
        Self {
            slot: token & SLOT_MASK,
            generation: token >> SLOT_BITS,
        }
    }
}

/// The number of something of the server's own: it has the generation that no socket has.
pub(crate) const fn own_token(which: usize) -> usize {
    SLOT_MASK << SLOT_BITS | which
}

/// What a server and its sockets share.
pub(crate) type SharedRegistry = Rc<RefCell<Registry>>;

/// The sockets of a server, and what else has a handler.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Slab<(usize, Option<Weak<dyn Registered>>)>,
    last_generation: usize,
    /// Those whose handlers are to be called, each at most once.
    ready: VecDeque<Key>,
}

impl Registry {
    /// Gives out a key. What it is for follows with [`put`](Self::put).
    pub(crate) fn reserve(&mut self) -> Key {
        // Skips the generation of the server's own tokens.
        self.last_generation = (self.last_generation + 1) % SLOT_MASK;
        let generation = self.last_generation;
        let slot = self.entries.insert((generation, None));
        Key { slot, generation }
    }

    pub(crate) fn put(&mut self, key: Key, registered: Weak<dyn Registered>) {
        if let Some((generation, entry)) = self.entries.get_mut(key.slot)
            && *generation == key.generation
        {
            *entry = Some(registered);
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Rc<dyn Registered>> {
        match self.entries.get(key.slot) {
            Some((generation, Some(entry))) if *generation == key.generation => entry.upgrade(),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) {
        if self
            .entries
            .get(key.slot)
            .is_some_and(|(generation, _)| *generation == key.generation)
        {
            self.entries.remove(key.slot);
        }
    }

    pub(crate) fn push_ready(&mut self, key: Key) {
        self.ready.push_back(key);
    }

    /// Whether there is one to be dispatched. Forgets those in front that are gone.
    pub(crate) fn has_ready(&mut self) -> bool {
        while let Some(key) = self.ready.front() {
            if self.get(*key).is_some() {
                return true;
            }
            self.ready.pop_front();
        }
        false
    }
}

/// Calls the handlers of those that are ready now, each once, and not more than `limit`. Those that
/// are ready still, or again, have queued up behind the others.
pub(crate) fn dispatch_round(registry: &RefCell<Registry>, limit: usize) {
    let round = registry.borrow().ready.len().min(limit);
    for _ in 0..round {
        let next = {
            let mut registry = registry.borrow_mut();
            let key = registry.ready.pop_front();
            key.and_then(|key| registry.get(key))
        };
        if let Some(next) = next {
            let requeue = Requeue(next);
            requeue.0.clone().dispatch();
        }
    }
}

/// Queues up again what has been dispatched.
struct Requeue(Rc<dyn Registered>);

impl Drop for Requeue {
    fn drop(&mut self) {
        self.0.queue_if_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_has_another_token() {
        let mut registry = Registry::default();
        let old = registry.reserve();
        registry.remove(old);
        let new = registry.reserve();
        assert_eq!(old.slot, new.slot);
        assert_ne!(old.token(), new.token());
        assert_eq!(new, Key::from_token(new.token()));
        registry.remove(old);
        assert!(
            registry.entries.contains(new.slot),
            "an old key must not remove a new socket"
        );
    }

    #[test]
    fn no_socket_has_a_token_of_the_servers_own() {
        let mut registry = Registry {
            last_generation: SLOT_MASK - 2,
            ..Registry::default()
        };
        for _ in 0..4 {
            let key = registry.reserve();
            assert_ne!(own_token(0) >> SLOT_BITS, key.generation);
            registry.remove(key);
        }
    }
}
