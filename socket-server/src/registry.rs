//! Which sockets a server has, and which of them are ready.
//!
//! A poll names sockets by token. The token of a socket that is closed may be in a batch of events
//! that is being handled, and its slot may have been given to another by then; so a token carries a
//! generation besides the slot, and whoever comes with an old one finds nothing.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use mio::Token;
use slab::Slab;

use crate::udp::UdpCore;

/// Half of a token is the slot, half the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

/// Names a socket that is, or was, registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    slot: usize,
    generation: usize,
}

impl Key {
    pub(crate) fn token(self) -> Token {
        Token(self.generation << SLOT_BITS | self.slot)
    }

    pub(crate) fn from_token(token: Token) -> Self {
        Self {
            slot: token.0 & SLOT_MASK,
            generation: token.0 >> SLOT_BITS,
        }
    }
}

/// The sockets of a server.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    entries: Slab<(usize, Weak<UdpCore>)>,
    last_generation: usize,
    /// Those whose handlers are to be called, each at most once.
    ready: VecDeque<Key>,
}

impl Sockets {
    /// Gives out a key. The socket follows with [`put`](Self::put).
    pub(crate) fn reserve(&mut self) -> Key {
        // Skips the generation of the server's own tokens.
        self.last_generation = (self.last_generation + 1) % SLOT_MASK;
        let generation = self.last_generation;
        let slot = self.entries.insert((generation, Weak::new()));
        Key { slot, generation }
    }

    pub(crate) fn put(&mut self, key: Key, socket: &Rc<UdpCore>) {
        if let Some((generation, entry)) = self.entries.get_mut(key.slot)
            && *generation == key.generation
        {
            *entry = Rc::downgrade(socket);
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Rc<UdpCore>> {
        match self.entries.get(key.slot) {
            Some((generation, entry)) if *generation == key.generation => entry.upgrade(),
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

    pub(crate) fn pop_ready(&mut self) -> Option<Key> {
        self.ready.pop_front()
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }
}

/// The generation that no socket has.
pub(crate) const fn own_token(which: usize) -> Token {
    Token(SLOT_MASK << SLOT_BITS | which)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_has_another_token() {
        let mut sockets = Sockets::default();
        let old = sockets.reserve();
        sockets.remove(old);
        let new = sockets.reserve();
        assert_eq!(old.slot, new.slot);
        assert_ne!(old.token(), new.token());
        assert_eq!(new, Key::from_token(new.token()));
        sockets.remove(old);
        assert!(
            sockets.entries.contains(new.slot),
            "an old key must not remove a new socket"
        );
    }

    #[test]
    fn no_socket_has_a_token_of_the_servers_own() {
        let mut sockets = Sockets {
            last_generation: SLOT_MASK - 2,
            ..Sockets::default()
        };
        for _ in 0..4 {
            let key = sockets.reserve();
            assert_ne!(own_token(0).0 >> SLOT_BITS, key.generation);
            sockets.remove(key);
        }
    }
}
