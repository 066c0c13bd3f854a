//! Where a socket keeps its handler.

use std::cell::{Cell, RefCell};

/// The handler of a socket, which may do anything while it runs, even replace itself: it is taken
/// out for that long.
pub(crate) struct HandlerSlot<H: ?Sized> {
    handler: RefCell<Option<Box<H>>>,
    /// Counts the changes, so that one that replaced itself is not put back.
    changes: Cell<u64>,
}

impl<H: ?Sized> Default for HandlerSlot<H> {
    fn default() -> Self {
        Self {
            handler: RefCell::default(),
            changes: Cell::default(),
        }
    }
}

impl<H: ?Sized> HandlerSlot<H> {
    pub(crate) fn change(&self, handler: Option<Box<H>>) {
        self.changes.set(self.changes.get() + 1);
        let old = self.handler.replace(handler);
        // Its drop code may use the socket.
        drop(old);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.handler.borrow().is_some()
    }

    /// The handler, until what is returned is dropped; `None` if there is none.
    pub(crate) fn take(&self) -> Option<TakenHandler<'_, H>> {
        let handler = self.handler.borrow_mut().take()?;
        Some(TakenHandler {
            slot: self,
            changes: self.changes.get(),
            handler: Some(handler),
        })
    }
}

/// A handler that runs. It is put back afterwards, also if it panics; unless it has been replaced or
/// cleared meanwhile.
pub(crate) struct TakenHandler<'a, H: ?Sized> {
    slot: &'a HandlerSlot<H>,
    changes: u64,
    handler: Option<Box<H>>,
}

impl<H: ?Sized> TakenHandler<'_, H> {
    /// Calls it, unless it has been replaced or cleared since it was taken.
    pub(crate) fn call(&mut self, f: impl FnOnce(&mut H)) {
        if self.is_current()
            && let Some(handler) = &mut self.handler
        {
            f(handler);
        }
    }

    /// Whether it has not been replaced or cleared since it was taken.
    pub(crate) fn is_current(&self) -> bool {
        self.slot.changes.get() == self.changes
    }
}

impl<H: ?Sized> Drop for TakenHandler<'_, H> {
    fn drop(&mut self) {
        if self.is_current() {
            self.slot.handler.replace(self.handler.take());
        }
    }
}
