//! Signals of the operating system, as events of a thread's loop.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use crate::handler_slot::HandlerSlot;
use crate::registry::{Key, News, Registered, SharedRegistry};

/// A signal, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGHUP`: the terminal is gone, or the configuration has changed.
    pub const HANGUP: Self = Self(1);
    /// `SIGINT`: control-C.
    pub const INTERRUPT: Self = Self(2);
    /// `SIGTERM`: the polite request to end.
    pub const TERMINATE: Self = Self(15);

    /// The signal with this number, for those that have no name here.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// A handler of a signal, until it is dropped.
#[must_use = "dropping it removes the handler"]
pub struct SignalHandler {
    core: Rc<SignalCore>,
}

struct SignalCore {
    registry: SharedRegistry,
    key: Key,
    handler: HandlerSlot<dyn FnMut()>,
    source: Box<dyn SignalSource>,
    queued: Cell<bool>,
}

/// Where a server hears of a signal.
pub(crate) trait SignalSource {
    /// Forgets what was heard so far; true if there was something.
    fn take(&self) -> bool;
}

impl SignalHandler {
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are no signals"))]
    pub(crate) fn new(
        registry: SharedRegistry,
        handler: Box<dyn FnMut()>,
        open: impl FnOnce(Key) -> std::io::Result<Box<dyn SignalSource>>,
    ) -> std::io::Result<Self> {
        let key = registry.borrow_mut().reserve();
        let source = open(key).inspect_err(|_| registry.borrow_mut().remove(key))?;
        let core = Rc::new(SignalCore {
            registry,
            key,
            handler: HandlerSlot::default(),
            source,
            queued: Cell::default(),
        });
        core.handler.change(Some(handler));
        let registered: Weak<SignalCore> = Rc::downgrade(&core);
        core.registry.borrow_mut().put(key, registered);
        Ok(Self { core })
    }
}

impl Registered for SignalCore {
    fn note(&self, _news: News) {
        // One call is for all that was raised before it.
        if !self.queued.replace(true) {
            self.registry.borrow_mut().push_ready(self.key);
        }
    }

    fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        // Taken before the handler runs, so that what is raised from here on is heard again.
        if self.source.take()
            && let Some(mut handler) = self.handler.take()
        {
            handler.call(|handler| handler());
        }
    }
}

impl Drop for SignalCore {
    fn drop(&mut self) {
        self.registry.borrow_mut().remove(self.key);
    }
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalHandler")
            .field("key", &self.core.key)
            .finish_non_exhaustive()
    }
}
